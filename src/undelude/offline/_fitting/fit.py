"""Fit a latent-variable model to demonstrations, and choose its latent by held-out data."""

import os
import re
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
from jaxtyping import Array, Key

from undelude._checks import check_between, check_count, check_key
from undelude._types import OnProgress
from undelude.offline._data.columns import Level
from undelude.offline._data.demos import Demos
from undelude.offline._fitting.checkpoint import Checkpoint
from undelude.offline._fitting.checks import check_demonstrated, check_size, check_varies, demonstrator_to_imitate
from undelude.offline._fitting.fit_networks import fit_networks
from undelude.offline._fitting.gradient import Training
from undelude.offline._fitting.result import Fit, as_fit
from undelude.offline._fitting.runs import Init, candidates_of, posterior, run_em
from undelude.offline._fitting.selection import (
    Select,
    Tried,
    choose,
    compared,
)
from undelude.offline._fitting.sharing import Sharing, check_alone, writes
from undelude.offline._model.evidence import log_evidence
from undelude.offline._model.hypotheses import Hypotheses, learn_weights, mixed_process
from undelude.offline._model.latent import Episode, Latent, Markov
from undelude.offline._model.network import Known
from undelude.offline._model.spec import LatentSpec, Layout, layout

# Nats by which a model may be less likely than one that it contains, because of its priors.
CONTAINED = 1.0


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
    demonstrator = demonstrator_to_imitate(plan, demos, imitate)
    check_demonstrated(spec, demos)
    check_varies(plan, demos)
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
    check_size(latents, demos)
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
        return fit_networks(spec, plan, demos, parts, latent, starts, training, keys[0], demonstrator, on_progress)
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
        tried += candidates_of(plan, latent, runs, train, test)
    candidates = compared(tried)
    best = candidates[Sharing().choice_of_first(candidates.index(choose(candidates, select)))]
    latent = type(next(x for x in latents if type(x).__name__ == best.latent))(best.K)
    final = run_em(plan, demos, latent, key=keys[-2], kept=kept and kept.of("chosen"), **settings)
    parameters = final.pick([final.best(best.K)])
    return as_fit(spec, plan, demos, best, parameters, (), final.objective, candidates, demonstrator)


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
        candidates = compared(candidates_of(plan, latent, runs, demos, None))
        best = choose(candidates, "bic")
        parameters = runs.pick([runs.best(best.K)])
        return as_fit(spec, plan, demos, best, parameters, (), runs.objective, candidates, demonstrator)

    found = of()
    if contains is None or contains.latent != "Episode" or found.log_likelihood >= contains.log_likelihood - CONTAINED:
        return found
    again = of(posterior=posterior(contains.layout, contains.fitted, demos))
    return max(found, again, key=lambda x: x.log_likelihood)


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
