"""Fit a latent-variable model to demonstrations, and choose its latent by held-out data."""

import dataclasses
import math
import os
import re
from pathlib import Path
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from undelude._checks import check_between, check_count, check_key
from undelude._process.process import InteractionProcess
from undelude._types import OnProgress
from undelude.offline._data.columns import Level
from undelude.offline._data.demos import Demos
from undelude.offline._fitting import gradient
from undelude.offline._fitting.checkpoint import Checkpoint
from undelude.offline._fitting.gradient import Training
from undelude.offline._fitting.parameters import Parameters
from undelude.offline._fitting.runs import Init, Runs, as_tables, log_likelihoods, posterior, run_em
from undelude.offline._fitting.selection import (
    Candidate,
    Select,
    Tried,
    as_table,
    choose,
    compared,
    count_reached,
    fewest_near,
)
from undelude.offline._fitting.sharing import Sharing, check_alone, writes
from undelude.offline._model import statistics as stats
from undelude.offline._model.contexts import column
from undelude.offline._model.evidence import log_evidence
from undelude.offline._model.hypotheses import Hypotheses, learn_weights, mixed_process
from undelude.offline._model.latent import Episode, Latent, Markov
from undelude.offline._model.mechanisms import Gaussian
from undelude.offline._model.network import Heads, Known
from undelude.offline._model.process import induced_process
from undelude.offline._model.spec import LatentSpec, Layout, layout

# Nats by which a model may be less likely than one that it contains, because of its priors.
CONTAINED = 1.0
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


def fit(
    demos: Demos,
    spec: LatentSpec | None = None,
    *,
    key: Key[Array, ""],
    starts: int | None = None,
    imitate: Level | None = None,
    init: Init = "actions_first",
    select: Select = "held_out",
    held_out: float = 0.25,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    training: Training | None = None,
    on_progress: OnProgress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Fit:
    """Fit a causal model with a hidden theta to demonstrations, by expectation maximisation from many starts.

    Several processes of one `jax.distributed` run share the E-step. All read the same demonstrations, and get the same
    fit. `diagnose` is for a program of one process.

    Networks get gradient steps on the same exact likelihood in place of the M-step (Adam, minibatches, early stopping).

        Q(demonstration) = sum_k pi_k prod_t Q(a_t | theta_k, e_t) Q(o_t | theta_k, w_t)

    The factor `Q(a_t | ...)` is left out in rounds that are marked `intervened`.

    The number of values of theta, and its time scale if the spec names several, are those with the greatest mean
    log-likelihood of held-out demonstrations; of numbers that predict alike, within .001 nats, the least. The chosen
    latent is then fitted to all demonstrations.

    Args:
        demos: the demonstrations.
        spec: what is assumed about them; by default a theta that lasts the episode, and expert and Nature that
            remember nothing.
        key: of the held-out share and of the starts.
        starts: starts of each number of values; by default 20, and 3 if a mechanism is a network.
        imitate: the demonstrator whose policy the expert of the process shall have, if the expert is given
            "demonstrator".
        init: `"actions_first"` fits the actions alone first, which finds the best optimum more often.
        select: `"held_out"`, or `"bic"`, which fits all demonstrations at once.
        held_out: the share of demonstrations that is held out.
        max_iterations: of a start.
        tolerance: nats per demonstration; a start ends when its log-posterior rises by less.
        training: the settings of the gradient steps, if a mechanism is a network. The held-out share then also says
            when to stop, and is not fitted in the end.
        on_progress: called with the runs that have ended, all runs, and the latent.
        checkpoint: a folder that keeps the runs, every ten seconds and when the fit is interrupted. The same call goes
            on from there, and ends in the same numbers. Networks, known functions and `Hypotheses` begin again.

    Returns:
        The fit. It says nothing yet about identification: see `diagnose`.

    Raises:
        ValueError: the data do not fit the spec, K is greater than the data bear, or an argument is out of range.
    """
    check_key(key)
    spec = LatentSpec() if spec is None else spec
    training = Training() if training is None else training
    plan = layout(spec, demos)
    demonstrator = _demonstrator(plan, demos, imitate)
    _check_demonstrated(spec, demos)
    _check_varies(plan, demos)
    starts = (3 if plan.networks else 20) if starts is None else check_count("starts", starts)
    max_iterations = check_count("max_iterations", max_iterations)
    tolerance = check_between("tolerance", tolerance, 0, 1)
    for name, value, allowed in (("init", init, Init), ("select", select, Select)):
        if value not in get_args(allowed):
            raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, not {value!r:.99}.")
    settings: dict[str, Any] = {"starts": starts, "init": init, "max_iterations": max_iterations}
    settings |= {"tolerance": tolerance, "on_progress": on_progress}
    if isinstance(spec.latent[0], Hypotheses):
        rest = settings | {"select": select, "held_out": held_out, "training": training, "imitate": imitate}
        return _fit_hypotheses(spec, plan, demos, spec.latent[0], key, rest)
    latents = [latent for latent in spec.latent if isinstance(latent, Episode | Markov)] or [Episode(1)]
    _check_size(latents, demos)
    keys = jax.random.split(key, len(latents) + 2)
    if plan.networks:
        latent = latents[0]
        if select == "bic" or len(latents) > 1 or not isinstance(latent, Episode):
            raise ValueError(
                'A spec with a Network is fitted to a latent of the scale Episode, with select="held_out", and not to '
                f"{', '.join(type(x).__name__ for x in latents)} with select={select!r}."
            )
        if jax.process_count() > 1:
            raise ValueError("A Network is not fitted by several processes: fit it in one.")
        parts = demos.split(held_out, key=keys[-1])
        return _fit_networks(spec, plan, demos, parts, latent, starts, training, keys[0], demonstrator, on_progress)
    train, test = (demos, None) if select == "bic" else demos.split(held_out, key=keys[-1])
    about = repr(
        (
            *(demos.digest(), spec, jax.random.key_data(key).tolist(), select, held_out),
            *(starts, init, max_iterations, tolerance),
        )
    )
    Sharing().check_same(
        re.sub(r" at 0x[0-9a-f]+", "", f"{about} {imitate!r}")
    )  # A function has another address in each process.
    kept = None
    # A function cannot be told from another one of the same name.
    has_functions = any(isinstance(factor.mechanism, Known) for factor in plan.factors)
    if checkpoint is not None and writes() and not has_functions:
        kept = Checkpoint(Path(checkpoint), about)
    tried: list[Tried] = []
    for i, (latent, own) in enumerate(zip(latents, keys, strict=False)):
        runs = run_em(plan, train, latent, key=own, kept=kept and kept.of(f"latent-{i}"), **settings)
        tried += _candidates(plan, latent, runs, train, test)
    candidates = compared(tried)
    best = candidates[Sharing().choice_of_first(candidates.index(choose(candidates, select)))]
    latent = type(next(x for x in latents if type(x).__name__ == best.latent))(best.K)
    final = run_em(plan, demos, latent, key=keys[-2], kept=kept and kept.of("chosen"), **settings)
    parameters = final.pick([final.best(best.K)])
    return _as_fit(spec, plan, demos, best, parameters, (), final.objective, candidates, demonstrator)


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


def refit(
    demos: Demos,
    spec: LatentSpec,
    latent: Latent,
    *,
    key: Key[Array, ""],
    starts: int = 8,
    max_iterations: int = 500,
    tolerance: float = 1e-5,
    demonstrator: int = 0,
    contains: Fit | None = None,
) -> Fit:
    """Fit one latent to all demonstrations; of several numbers of values, the one of the least BIC is chosen.

    Args:
        demos: the demonstrations.
        spec: what is assumed about them.
        latent: the time scale and the numbers of values.
        key: of the starts.
        starts: of each number of values.
        max_iterations: of a start.
        tolerance: nats per demonstration.
        demonstrator: whose policy the expert of the process has.
        contains: a fit of the same demonstrations, of which the model is a special case of this one; `latent` then has
            one number of values. If all starts end where the demonstrations are less likely, one more goes on from its
            posterior. There is none from that of a theta that changes.

    Raises:
        ValueError: there are several processes.
    """
    check_alone("refit")
    plan = layout(spec, demos)
    settings: dict[str, Any] = {"max_iterations": max_iterations, "tolerance": tolerance}
    settings |= {"starts": starts, "key": key, "init": "actions_first"}

    def of(**start: Any) -> Fit:
        runs = run_em(plan, demos, latent, **settings, **start)
        candidates = compared(_candidates(plan, latent, runs, demos, None))
        best = choose(candidates, "bic")
        parameters = runs.pick([runs.best(best.K)])
        return _as_fit(spec, plan, demos, best, parameters, (), runs.objective, candidates, demonstrator)

    found = of()
    if contains is None or contains.latent != "Episode" or found.log_likelihood >= contains.log_likelihood - CONTAINED:
        return found
    again = of(posterior=posterior(contains.layout, contains.fitted, demos))
    return max(found, again, key=lambda x: x.log_likelihood)


def _demonstrator(plan: Layout, demos: Demos, imitate: Level | None) -> int:
    """Return the index of the demonstrator to imitate."""
    depends = any(context.given == "demonstrator" for context in plan.factors[0].contexts)
    if not depends:
        if imitate is not None:
            raise ValueError(
                f"imitate={imitate!r:.99}, but the expert is the same for all demonstrators: declare "
                'expert=Table(given=["demonstrator"]), or leave imitate out.'
            )
        return 0
    levels = demos.demonstrator.levels or () if demos.demonstrator is not None else ()
    if imitate not in levels:
        problem = "is not one of them" if imitate is not None else "is missing"
        raise ValueError(
            f"The expert depends on the demonstrator, so say whom to imitate: imitate= {problem}. The demonstrators "
            f"are {', '.join(map(repr, levels[:20]))}{', ...' if len(levels) > 20 else ''}."
        )
    return levels.index(imitate)


def _fit_hypotheses(
    spec: LatentSpec, plan: Layout, demos: Demos, latent: Hypotheses, key: Key[Array, ""], settings: dict[str, Any]
) -> Fit:
    """Return the user's hypotheses with weights from the demonstrations; a learned one competes on held-out data."""
    if latent.beside is None and (demos.labels >= 0).any():
        raise ValueError(
            "Hypotheses: the demonstrations have labels, which name values of a theta that is learned, and none is: "
            "leave the labels out of the data, or give beside=Episode(...)."
        )
    processes, compared_on, learned = list(latent.processes), demos, None
    log_likelihoods = [log_evidence(process, demos) for process in processes]
    if latent.beside is not None:
        own = LatentSpec(latent.beside, spec.expert, spec.task, reward=spec.reward)
        keys = jax.random.split(key, 3)
        train, compared_on = demos.split(settings["held_out"], key=keys[0])
        partial = fit(train, own, key=keys[1], **settings)
        learned = fit(demos, own, key=keys[2], **settings)
        log_likelihoods = [log_evidence(process, compared_on) for process in (*processes, partial.process)]
        processes.append(learned.process)
    found = np.stack(log_likelihoods, -1)
    weights = learn_weights(latent.weights, found, latent.holds)
    process = mixed_process(processes, weights, demos.num_rounds)
    return Fit(
        process,
        spec,
        "Hypotheses",
        process.num_thetas,
        {} if learned is None else learned.tables,
        float(log_evidence(process, demos).sum()),
        () if learned is None else learned.candidates,
        () if learned is None else learned.starts,
        plan,
        None if learned is None else learned.parameters,
        demos.subset(np.zeros(0, int)),
        demos.digest(),
        0 if learned is None else learned.demonstrator,
        dict(zip(latent.names, weights.tolist(), strict=True)),
    )


def _fit_networks(
    spec: LatentSpec,
    plan: Layout,
    demos: Demos,
    parts: tuple[Demos, Demos],
    latent: Episode,
    starts: int,
    training: Training,
    key: Key[Array, ""],
    demonstrator: int,
    on_progress: OnProgress | None,
) -> Fit:
    """Return a fit by gradients, each start as it was when the held-out demonstrations were likeliest."""
    K = np.repeat(latent.K, starts)
    on_epoch = on_progress and (lambda done: on_progress(done, training.epochs, type(latent).__name__))
    trained = gradient.train(plan, parts[0], parts[1], K, training, key=key, on_epoch=on_epoch)
    fitted = gradient.log_likelihoods(plan, trained.parameters, trained.networks, parts[0]).sum(-1)
    tried: list[Tried] = []
    for k in latent.K:
        totals = np.where(k == K, trained.held_out.sum(-1), -np.inf)
        own, run = np.sort(totals[k == K])[::-1], int(totals.argmax())
        scores = trained.held_out[run]
        candidate = Candidate(
            latent=type(latent).__name__,
            K=k,
            log_likelihood=float(fitted[run]),
            held_out=float(scores.mean()),
            behind=None,
            bic=float("nan"),
            starts=tuple(own.tolist()),
            reached_best=count_reached(own, parts[1].num_episodes),
            num_unconverged=int((trained.since[k == K] < training.patience).sum()),
        )
        tried.append((candidate, scores))
    candidates = compared(tried)
    best = choose(candidates, "held_out")
    totals = np.where(best.K == K, trained.held_out.sum(-1), -np.inf)
    run = int(totals.argmax())
    parameters, networks = gradient.pick((trained.parameters, trained.networks), run, best.K)
    return _as_fit(spec, plan, demos, best, parameters, networks, totals[best.K == K], candidates, demonstrator)


def _candidates(plan: Layout, latent: Latent, runs: Runs, train: Demos, test: Demos | None) -> list[Tried]:
    """Return a candidate for each number of values."""
    counts = sorted(set(runs.K.tolist()))
    parameters = runs.pick([runs.best(k) for k in counts])
    totals = log_likelihoods(plan, parameters, train).sum(0)
    held_out = [None] * len(counts) if test is None else log_likelihoods(plan, parameters, test).T
    tried = []
    for k, total, scores in zip(counts, totals.tolist(), held_out, strict=True):
        own = k == runs.K
        objectives = np.sort(runs.objective[own])[::-1]
        size = plan.num_parameters(k, markov=isinstance(latent, Markov))
        candidate = Candidate(
            latent=type(latent).__name__,
            K=k,
            log_likelihood=total,
            held_out=None if scores is None else float(scores.mean()),
            behind=None,
            bic=size * np.log(train.num_episodes) - 2 * total,
            starts=tuple(objectives.tolist()),
            reached_best=count_reached(objectives, train.num_episodes),
            num_unconverged=int((~runs.converged[own]).sum()),
        )
        tried.append((candidate, scores))
    return tried


def _check_demonstrated(spec: LatentSpec, demos: Demos) -> None:
    """Raise `ValueError` if the spec's own expert is to be learned, and no action is a demonstrator's."""
    only = isinstance(spec.latent[0], Hypotheses) and spec.latent[0].beside is None
    if not only and not demos.demonstrated.any():
        raise ValueError(
            f"fit: every action of {demos!r} is an intervention, so that there is no demonstrator to learn from. Join "
            "the logs to them with Demos.concat; or, if the agent of a rollout is the demonstrator, read it with "
            "Demos.from_episodes(..., intervened=False)."
        )


def _check_varies(plan: Layout, demos: Demos) -> None:
    """Raise `ValueError` if a mechanism has nothing to learn: none depends on theta, or a real field is constant."""
    if not plan.free and not plan.networks:
        raise ValueError(
            "LatentSpec: no mechanism depends on theta, because all are tied: without tied=True of the expert's, at "
            "least, there is nothing to fit."
        )
    for factor in plan.factors:
        if not isinstance(factor.mechanism, Gaussian) or factor.field.startswith("opening "):
            continue
        values = column(demos, factor.field).values[demos.mask]
        if constant := np.flatnonzero(values.min(0) == values.max(0)).tolist():
            what = f"dimension {constant[0]} of {factor.field!r}" if factor.width > 1 else f"{factor.field!r}"
            raise ValueError(
                f"LatentSpec: {what} is {values[0, constant[0]].item():.6g} in all rounds, and a Gaussian needs values "
                "that differ: leave it out of the data."
            )


def _check_size(latents: list[Any], demos: Demos) -> None:
    K = max(k for latent in latents for k in latent.K)
    if demos.num_episodes < 2 * K:
        raise ValueError(
            f"K = {K} is greater than {demos.num_episodes} demonstrations bear, with less than two for each value of "
            f"theta: declare at most {max(demos.num_episodes // 2, 1)}, and better {max(demos.num_episodes // 10, 1)} "
            f"(Episode(K=range(1, {max(demos.num_episodes // 10, 1) + 1})), --K 1:{max(demos.num_episodes // 10, 1)})."
        )
    if demos.labels.max(initial=-1) >= min(k for latent in latents for k in latent.K):
        raise ValueError(
            f"The labels name theta {demos.labels.max()}, counted from 0, so that K must be at least "
            f"{demos.labels.max() + 1}: declare Episode(K=range({demos.labels.max() + 1}, ...))."
        )


def _as_fit(
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
