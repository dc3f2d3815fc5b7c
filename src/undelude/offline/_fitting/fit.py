"""Fit a latent-variable model to demonstrations, and choose its latent by held-out data."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude._checks import check_between, check_count, check_key
from undelude._process.process import InteractionProcess
from undelude.offline._data.demos import Demos
from undelude.offline._fitting import em
from undelude.offline._fitting.checkpoint import Checkpoint, Kept
from undelude.offline._fitting.parameters import Parameters
from undelude.offline._model import statistics as stats
from undelude.offline._model.latent import Episode, Latent, Markov, PerStep
from undelude.offline._model.process import induced_process
from undelude.offline._model.spec import LatentSpec, Layout, layout
from undelude.offline._model.statistics import Statistics

Init = Literal["actions_first", "random"]
Select = Literal["held_out", "bic"]
# Iterations between two reports of progress, and those on the actions alone.
ITERATIONS, FIRST_ITERATIONS = 25, 30
# Demonstrations, or steps, of which starts are drawn.
SAMPLE = 1000


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One latent that was tried.

    Attributes:
        latent: its time scale: "Episode" or "Markov".
        K: its number of values.
        log_likelihood: of the data that it was fitted to, the best start's, nats.
        held_out: mean log-likelihood of a held-out demonstration, nats; None if none were held out.
        behind: how far its mean is behind the best candidate's, and the standard error of this paired difference.
        bic: `num_parameters log N - 2 log_likelihood`.
        starts: the log-posteriors of all starts, sorted, up to a constant.
        reached_best: how many starts came within .1 nats of the best one.
        num_unconverged: how many starts were still rising at the last iteration.
    """

    latent: str
    K: int
    log_likelihood: float
    held_out: float | None
    behind: tuple[float, float] | None
    bic: float
    starts: tuple[float, ...]
    reached_best: int
    num_unconverged: int


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes:
        process: the induced process; exact agents, teaching, certificates and the causal model apply to it.
        spec: what was declared.
        latent: the time scale that was chosen, "Episode" or "Markov".
        K: the number of values of theta that was chosen.
        tables: of each field: the log-table `[K, *contexts, n]`, or mean and scale; K is 1 for a tied mechanism.
        log_likelihood: of all demonstrations, nats.
        candidates: all latents that were tried.
        starts: the log-posteriors of all starts of the chosen latent on all data, sorted. Their spread says how hard
            the optimisation is, and nothing about uncertainty (docs/offline.md).
        layout: the spec resolved against the data.
        parameters: of the chosen run.
        columns: of the data, without its episodes.
        digest: of the data.
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
    parameters: Parameters = dataclasses.field(repr=False)
    columns: Demos = dataclasses.field(repr=False)
    digest: str


# Called with the number of finished runs and of all runs, and the latent that is being fitted.
OnProgress = Callable[[int, int, str], None]


def fit(
    demos: Demos,
    spec: LatentSpec | None = None,
    *,
    key: Key[Array, ""],
    starts: int = 20,
    init: Init = "actions_first",
    select: Select = "held_out",
    held_out: float = 0.25,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    on_progress: OnProgress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Fit:
    """Fit a causal model with a hidden theta to demonstrations, by expectation maximisation from many starts.

        Q(demonstration) = sum_k pi_k prod_t Q(a_t | theta_k, e_t) Q(o_t | theta_k, w_t)

    The number of values of theta, and its time scale if the spec names several, are chosen by the log-likelihood of
    held-out demonstrations: the largest K whose mean is within one standard error of the best (a value of theta too
    many costs little, one too few much). The chosen latent is then fitted to all demonstrations.

    Args:
        demos: the demonstrations.
        spec: what is assumed about them; by default a theta that lasts the episode, and expert and Nature that
            remember nothing.
        key: of the held-out share and of the starts.
        starts: starts of each number of values.
        init: `"actions_first"` fits the actions alone first, which finds the best optimum more often.
        select: `"held_out"`, or `"bic"`, which fits all demonstrations at once.
        held_out: the share of demonstrations that is held out.
        max_iterations: of a start.
        tolerance: nats per demonstration; a start ends when its log-posterior rises by less.
        on_progress: called with the runs that have ended, all runs, and the latent.
        checkpoint: a folder that keeps the runs, every ten seconds and when the fit is interrupted. The same call goes
            on from there, and ends in the same numbers.

    Returns:
        The fit. It says nothing yet about identification: see `diagnose`.

    Raises:
        ValueError: the data do not fit the spec, K is greater than the data bear, or an argument is out of range.
    """
    check_key(key)
    spec = LatentSpec() if spec is None else spec
    starts, max_iterations = check_count("starts", starts), check_count("max_iterations", max_iterations)
    tolerance = check_between("tolerance", tolerance, 0, 1)
    for name, value, allowed in (("init", init, Init), ("select", select, Select)):
        if value not in get_args(allowed):
            raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, not {value!r:.99}.")
    plan = layout(spec, demos)
    latents = [latent for latent in spec.latent if not isinstance(latent, PerStep)] or [Episode(1)]
    _check_size(latents, demos)
    keys = jax.random.split(key, len(latents) + 2)
    train, test = (demos, None) if select == "bic" else demos.split(held_out, key=keys[-1])
    settings = {"starts": starts, "init": init, "max_iterations": max_iterations, "tolerance": tolerance}
    kept = None
    if checkpoint is not None:
        about = (demos.digest(), spec, jax.random.key_data(key).tolist(), select, held_out, settings)
        kept = Checkpoint(Path(checkpoint), repr(about))
    tried: list[Tried] = []
    for i, (latent, own) in enumerate(zip(latents, keys, strict=False)):
        runs = run_em(
            plan, train, latent, key=own, on_progress=on_progress, kept=kept and kept.of(f"latent-{i}"), **settings
        )
        tried += _candidates(plan, latent, runs, train, test)
    candidates = _compared(tried)
    best = _choose(candidates, select)
    latent = type(next(x for x in latents if type(x).__name__ == best.latent))(best.K)
    final = run_em(
        plan, demos, latent, key=keys[-2], on_progress=on_progress, kept=kept and kept.of("chosen"), **settings
    )
    return _as_fit(spec, plan, demos, best, final, candidates)


def refit(
    demos: Demos,
    spec: LatentSpec,
    latent: Latent,
    *,
    key: Key[Array, ""],
    starts: int = 8,
    max_iterations: int = 500,
    tolerance: float = 1e-5,
) -> Fit:
    """Fit one latent to all demonstrations; of several numbers of values, the one of the least BIC is chosen."""
    plan = layout(spec, demos)
    settings = {"starts": starts, "max_iterations": max_iterations, "tolerance": tolerance}
    runs = run_em(plan, demos, latent, key=key, init="actions_first", **settings)
    candidates = _compared(_candidates(plan, latent, runs, demos, None))
    return _as_fit(spec, plan, demos, _choose(candidates, "bic"), runs, candidates)


@dataclasses.dataclass(frozen=True)
class Runs:
    """All starts of one latent.

    Attributes:
        parameters: of all runs.
        K: `[R]`, of each run.
        objective: `[R]`, the log-posterior, up to a constant.
        converged: `[R]`.
    """

    parameters: Parameters
    K: Int[np.ndarray, " R"]
    objective: Float[np.ndarray, " R"]
    converged: Any

    def best(self, K: int) -> int:
        """Return the index of the best run with so many values."""
        return int(np.argmax(np.where(self.K == K, self.objective, -np.inf)))

    def pick(self, runs: list[int]) -> Parameters:
        """Return the parameters of some runs."""
        chosen = np.asarray(runs)
        return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[chosen]), self.parameters)


def run_em(
    plan: Layout,
    demos: Demos,
    latent: Latent,
    *,
    key: Key[Array, ""],
    starts: int,
    init: Init,
    max_iterations: int,
    tolerance: float,
    on_progress: OnProgress | None = None,
    kept: Kept | None = None,
) -> Runs:
    """Return all starts of one latent, for all its numbers of values; go on with those that were kept."""
    is_markov = isinstance(latent, Markov)
    counts = latent.K if isinstance(latent, Episode | Markov) else (1,)
    K = np.repeat(counts, [1 if k == 1 else starts for k in counts])
    rows = stats.of_steps(plan, demos) if is_markov else stats.of_demos(plan, demos)
    blocks = em.in_blocks(rows, len(K), max(counts))
    parameters = _start(plan, rows, K, key, is_markov)
    before = None if kept is None else kept.read(_progress(parameters))
    sizes = jnp.asarray(K, jnp.int32)
    width = tolerance * demos.num_episodes

    def climb(progress: em.Progress, blocks: em.Blocks, iterations: int, kept: Kept | None = None) -> em.Progress:
        try:
            for done in range(int(progress.num_iterations.max()), iterations, ITERATIONS):
                if bool(progress.done.all()):
                    break
                steps = min(ITERATIONS, iterations - done)
                progress = em.iterate(progress, blocks, plan.free, sizes, jnp.asarray(width), jnp.asarray(steps))
                if kept is not None:
                    kept.write_if_due(progress)
                if on_progress is not None:
                    on_progress(int(progress.done.sum()), len(K), type(latent).__name__)
        finally:
            if kept is not None:
                kept.write(progress)
        return progress

    action = plan.factors[0]
    if before is None and init == "actions_first" and action in plan.free and max(counts) > 1:
        columns = np.zeros((1, 1, plan.num_columns), np.float32)
        columns[..., plan.columns(action)] = 1
        # The actions alone: the other statistics are 0, and their parameters keep the prior's mode.
        only = blocks._replace(rows=blocks.rows * columns.reshape(*[1] * (blocks.rows.ndim - 1), -1))
        first = climb(_progress(parameters), only, FIRST_ITERATIONS)
        only_actions = dataclasses.replace(first.parameters, eta=first.parameters.eta * columns)
        parameters = em.update(only_actions, blocks, plan.free, sizes)
    progress = climb(before or _progress(parameters), blocks, max_iterations, kept)
    return Runs(progress.parameters, K, np.asarray(progress.objective, np.float64), np.asarray(progress.done))


def _progress(parameters: Parameters) -> em.Progress:
    """Return the state of runs that begin with these parameters."""
    runs = len(parameters.log_prior)
    return em.Progress(parameters, jnp.full(runs, -jnp.inf), jnp.zeros(runs, bool), jnp.zeros(runs, jnp.int32))


def _start(
    plan: Layout, rows: Statistics, K: Int[np.ndarray, " R"], key: Key[Array, ""], is_markov: bool
) -> Parameters:
    """Return parameters that are each the M-step of one demonstration, or step, drawn at random, and of the mean."""
    flat = rows.rows.reshape(-1, rows.rows.shape[-1])
    weights = np.repeat(rows.weights, len(flat) // len(rows.weights)) * (np.abs(flat).sum(-1) > 0)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    sample = flat[rng.choice(len(flat), min(len(flat), SAMPLE), p=weights / weights.sum())]
    most, runs = int(K.max()), len(K)
    mean = (weights @ flat) / weights.sum()
    transitions = None
    if is_markov:
        transitions = jnp.broadcast_to(jnp.ones((most, most)) + 9 * most * jnp.eye(most), (runs, most, most))
    statistics = sample[_spread_seeds(sample, runs, most, rng)] + mean
    expected = em.Expected(jnp.zeros(runs), jnp.ones((runs, most)), jnp.asarray(statistics), transitions)
    return em.maximise(expected, plan.free, jnp.asarray(K, jnp.int32))


def _spread_seeds(
    rows: Float[np.ndarray, "n M"], runs: int, K: int, rng: np.random.Generator
) -> Int[np.ndarray, "R K"]:
    """Draw K rows for each run, each with a probability proportional to its squared distance from those before.

    This is the seeding of k-means++ (Arthur and Vassilvitskii 2007). Seeds that are alike would start two values of
    theta at the same place, which the M-steps of a nearly deterministic expert never leave.
    """
    squares = (rows**2).sum(-1)
    seeds = np.empty((runs, K), np.int64)
    seeds[:, 0] = rng.integers(len(rows), size=runs)
    distance = np.full((runs, len(rows)), np.inf)
    for k in range(1, K):
        last = rows[seeds[:, k - 1]]
        distance = np.minimum(distance, squares + (last**2).sum(-1)[:, None] - 2 * last @ rows.T)
        cumulative = np.cumsum(np.maximum(distance, 1e-9), -1)
        draws = rng.random(runs)[:, None] * cumulative[:, -1:]
        seeds[:, k] = (cumulative < draws).sum(-1)
    return seeds


def log_likelihoods(plan: Layout, parameters: Parameters, demos: Demos) -> Float[np.ndarray, "N R"]:
    """Return the log-likelihood of each demonstration under the free factors of each run, `[N, R]`, in nats.

    Real fields have the density of their own units, not of the standardised ones of the fit.
    """
    rows = (
        stats.of_demos(plan, demos, merge=False) if parameters.log_transition is None else stats.of_steps(plan, demos)
    )
    blocks = em.in_blocks(rows, *parameters.log_prior.shape)
    found = np.asarray(em.log_likelihoods(parameters, blocks), np.float64)
    found = found.reshape(-1, found.shape[-1])[: demos.num_episodes]
    return found + stats.log_units(plan, plan.free, demos)[:, None]


# A candidate with the log-likelihood of each held-out demonstration.
Tried = tuple[Candidate, Float[np.ndarray, " N"] | None]


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
            reached_best=int((objectives > objectives[0] - 0.1).sum()),
            num_unconverged=int((~runs.converged[own]).sum()),
        )
        tried.append((candidate, scores))
    return tried


def _compared(tried: list[Tried]) -> tuple[Candidate, ...]:
    """Return the candidates with their distance from the best one on held-out demonstrations."""
    best = max(tried, key=lambda x: -np.inf if x[0].held_out is None else x[0].held_out)[1]
    if best is None:
        return tuple(candidate for candidate, _ in tried)
    compared = []
    for candidate, scores in tried:
        difference = best - scores
        error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else np.inf
        compared.append(dataclasses.replace(candidate, behind=(float(difference.mean()), error)))
    return tuple(compared)


def _choose(candidates: tuple[Candidate, ...], select: Select) -> Candidate:
    """Return the largest K within one standard error of the best, in the time scale of the best; or the least BIC."""
    if select == "bic":
        return min(candidates, key=lambda c: c.bic)
    best = max(candidates, key=lambda c: -np.inf if c.held_out is None else c.held_out)
    near = [c for c in candidates if c.latent == best.latent and c.behind and c.behind[0] <= c.behind[1]]
    return max([best, *near], key=lambda c: c.K)


def _check_size(latents: list[Any], demos: Demos) -> None:
    K = max(k for latent in latents for k in latent.K)
    if demos.num_episodes < 2 * K:
        raise ValueError(
            f"K = {K} is greater than {demos.num_episodes} demonstrations bear, with less than two for each value of "
            f"theta: declare a smaller K, such as Episode(K=range(1, {max(demos.num_episodes // 10, 2)}))."
        )
    if demos.labels.max(initial=-1) >= min(k for latent in latents for k in latent.K):
        raise ValueError(
            f"The labels name theta {demos.labels.max()}, counted from 0, so that K must be at least "
            f"{demos.labels.max() + 1}: declare Episode(K=range({demos.labels.max() + 1}, ...))."
        )


def _as_fit(
    spec: LatentSpec, plan: Layout, demos: Demos, best: Candidate, runs: Runs, candidates: tuple[Candidate, ...]
) -> Fit:
    parameters = runs.pick([runs.best(best.K)])
    total = float(log_likelihoods(plan, parameters, demos).sum())
    tables = as_tables(plan, parameters, demos)
    for factor in plan.tied:
        eta = np.asarray(factor.eta(jnp.asarray(stats.of_tied(plan, factor, demos))))
        total += float(stats.tied_log_likelihoods(plan, factor, eta, demos).sum())
    total += float(stats.log_units(plan, plan.tied, demos).sum())
    log_prior = parameters.log_prior[0]
    transition = None if parameters.log_transition is None else parameters.log_transition[0]
    return Fit(
        induced_process(plan, demos, log_prior, tables, transition),
        spec,
        best.latent,
        best.K,
        tables,
        total,
        candidates,
        tuple(np.sort(runs.objective)[::-1].tolist()),
        plan,
        parameters,
        demos.subset(np.zeros(0, int)),
        demos.digest(),
    )


def as_tables(plan: Layout, parameters: Parameters, demos: Demos) -> dict[str, Any]:
    """Return the parameters of one run as the tables of each field, in the units of the data."""
    tables = {}
    for factor in plan.factors:
        if factor in plan.free:
            eta = parameters.eta[0, :, plan.columns(factor)]
        else:
            eta = factor.eta(jnp.asarray(stats.of_tied(plan, factor, demos)))[None]
        value = factor.parameters(eta)
        name = factor.field.removeprefix("opening ")
        if name in plan.centre:
            mean, scale = (np.asarray(x) for x in value)
            value = (
                jnp.asarray(mean * plan.spread[name] + plan.centre[name]),
                jnp.asarray(scale * plan.spread[name]),
            )
        tables[factor.field] = value
    return tables
