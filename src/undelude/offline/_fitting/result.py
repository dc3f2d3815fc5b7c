"""A fitted model, and what a reader should know of the search for it."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from undelude._process.process import InteractionProcess
from undelude.offline._data.demos import Demos
from undelude.offline._fitting import gradient
from undelude.offline._fitting.parameters import Parameters
from undelude.offline._fitting.runs import as_tables, log_likelihoods
from undelude.offline._fitting.selection import (
    Candidate,
    as_table,
    fewest_near,
)
from undelude.offline._model import statistics as stats
from undelude.offline._model.network import Heads
from undelude.offline._model.process import induced_process
from undelude.offline._model.spec import LatentSpec, Layout

# Episodes for each value of theta, and rounds for each parameter, below which a note is given.
FEW = 10


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes:
        process: the induced process; exact agents, teaching, certificates and the causal model apply to it.
        spec: what was declared.
        latent: the time scale that was chosen, "Episode" or "Markov"; or "Hypotheses".
        K: the number of values of theta that was chosen.
        tables: of each field: the log-table `[K, *contexts, n]`, mean and scale, a network, or None for a known
            function; K is 1 for a tied mechanism.
        log_likelihood: of all demonstrations, nats.
        candidates: all latents that were tried.
        starts: the log-posteriors of all starts of the chosen latent on all data, sorted. Their spread says how hard
            the optimisation is, and nothing about uncertainty (docs/offline.md).
        layout: the spec resolved against the data.
        parameters: of the chosen run; None if all hypotheses are the user's.
        columns: of the data, without its episodes.
        digest: of the data.
        demonstrator: the index of the demonstrator whose policy the expert of the process has.
        weights: of the user's hypotheses and of the learned one, by their names; None without `Hypotheses`.
    """

    process: InteractionProcess
    spec: LatentSpec
    latent: str
    K: int
    tables: dict[str, Any] = dataclasses.field(repr=False)
    log_likelihood: float
    candidates: tuple[Candidate, ...] = dataclasses.field(repr=False)
    starts: tuple[float, ...] = dataclasses.field(repr=False)
    layout: Layout = dataclasses.field(repr=False)
    parameters: Parameters | None = dataclasses.field(repr=False)
    columns: Demos = dataclasses.field(repr=False)
    digest: str
    demonstrator: int = dataclasses.field(default=0, repr=False)
    weights: dict[str, float] | None = None

    def __str__(self) -> str:
        """Return the weights of the user's hypotheses, the latents that were tried, and notes on the search."""
        lines = [] if self.weights is None else ["Weights of the hypotheses:"]
        lines += [f"  {name}  {weight:.4f}" for name, weight in (self.weights or {}).items()]
        if self.candidates:
            lines.append(as_table(self.candidates, (self.latent, self.K)))
        return "\n".join([*lines, *(f"Note: {note}." for note in search_notes(self))])

    @property
    def fitted(self) -> Parameters:
        """The parameters; `TypeError` if all hypotheses are the user's, so that none were fitted."""
        if self.parameters is None:
            raise TypeError("This fit has the user's hypotheses alone, and no parameters of its own.")
        return self.parameters


def as_fit(
    spec: LatentSpec,
    plan: Layout,
    demos: Demos,
    best: Candidate,
    parameters: Parameters,
    networks: tuple[Heads, ...],
    starts: Float[np.ndarray, " R"],
    candidates: tuple[Candidate, ...],
    demonstrator: int,
) -> Fit:
    """Return the fit of one candidate's parameters."""
    if networks:
        total = float(gradient.log_likelihoods(plan, parameters, networks, demos).sum())
    else:
        total = float(log_likelihoods(plan, parameters, demos).sum())
    tables: dict[str, Any] = {factor.field: None for factor in plan.factors} | as_tables(plan, parameters, demos)
    for factor, network in zip(plan.networks, networks, strict=True):
        tables[factor.field] = jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, network)
    for factor in plan.tied:
        eta = np.asarray(factor.eta(jnp.asarray(stats.of_tied(plan, factor, demos))))
        total += float(stats.tied_log_likelihoods(plan, factor, eta, demos).sum())
    total += float(stats.log_units(plan, plan.tied, demos).sum())
    transition = None if parameters.log_transition is None else parameters.log_transition[0]
    return Fit(
        induced_process(plan, demos, parameters.log_prior[0], tables, transition, demonstrator=demonstrator),
        spec,
        best.latent,
        best.K,
        tables,
        total,
        candidates,
        tuple(np.sort(starts)[::-1].tolist()),
        plan,
        parameters,
        demos.subset(np.zeros(0, int)),
        demos.digest(),
        demonstrator,
    )


def search_notes(fit: Fit) -> list[str]:
    """Return what a reader should know of the search for a fit, one sentence each."""
    own = [c for c in fit.candidates if c.latent == fit.latent]
    chosen = next((c for c in own if fit.K == c.K), None)
    if chosen is None:
        return []
    found, scanned = [], [c.K for c in own]
    if len(scanned) > 1 and max(scanned) == fit.K:
        found.append(
            f"the greatest K that was tried, {fit.K}, was chosen: try more values of theta, or declare more memory"
        )
    if len(scanned) > 1 and fit.K == 1:
        found.append(
            "no theta was found, so that effects are those that the logs show; few or short logs may hide a theta"
        )
    fewer = fewest_near(own, chosen)
    if fewer is not None and fewer.behind is not None and math.isfinite(fewer.behind[1]):
        behind = f"{fewer.behind[0]:.4f} behind, with a standard error of {fewer.behind[1]:.4f}"
        if fewer.K == 1:
            found.append(
                f"a model in which nothing is hidden, K = 1, predicts as well ({behind}): cloning may be right"
            )
        else:
            found.append(f"K = {fewer.K} predicts as well ({behind}): fit it too, and compare the verdicts")
    if len(fit.candidates) > 1 and chosen.behind is not None and not math.isfinite(chosen.behind[1]):
        found.append("a single held-out demonstration chose K: give more logs, or hold out a greater share")
    if len(chosen.starts) > 1 and chosen.reached_best < 2:
        found.append(
            f"only one of {len(chosen.starts)} starts reached the best likelihood: fit again with more starts before "
            "you believe it"
        )
    if chosen.num_unconverged:
        found.append(
            f"{chosen.num_unconverged} of {len(chosen.starts)} starts were still rising at the last iteration: raise "
            "max_iterations if the best may be among them"
        )
    return found


def size_notes(fit: Fit, demos: Demos) -> list[str]:
    """Return notes on a K that the demonstrations hardly bear, and on one that was compared with no other."""
    found = []
    size = fit.layout.num_parameters(fit.K, markov=fit.latent == "Markov")
    if fit.K > 1 and (demos.num_episodes < FEW * fit.K or demos.num_steps < FEW * size):
        found.append(
            f"K = {fit.K} has {size} parameters, for {demos.num_steps:,} rounds of {demos.num_episodes:,} episodes: "
            f"with less than {FEW} episodes for each value of theta, or {FEW} rounds for each parameter, a fit learns "
            "chance. Try fewer values"
        )
    if len(fit.candidates) == 1 and fit.K > 1:
        found.append(
            f"K = {fit.K} alone was tried, so that nothing says whether fewer values predict as well: try a range, "
            f"such as 1:{fit.K}"
        )
    return found
