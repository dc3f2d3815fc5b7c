"""All starts of one latent by expectation maximisation, and what they say of data."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude._types import OnProgress
from undelude.offline._data.demos import Demos
from undelude.offline._fitting import em
from undelude.offline._fitting.checkpoint import Kept
from undelude.offline._fitting.parameters import Parameters
from undelude.offline._fitting.selection import Candidate, Tried, count_reached
from undelude.offline._fitting.sharing import Sharing
from undelude.offline._fitting.start import spread_seeds
from undelude.offline._model import statistics as stats
from undelude.offline._model.latent import Episode, Latent, Markov
from undelude.offline._model.spec import Layout
from undelude.offline._model.statistics import Statistics

Init = Literal["actions_first", "random"]
# Iterations between two reports of progress, and those on the actions alone.
ITERATIONS, FIRST_ITERATIONS = 25, 30
# Demonstrations, or steps, of which starts are drawn.
SAMPLE = 1000


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
    posterior: Float[np.ndarray, "N _"] | None = None,
) -> Runs:
    """Return all starts of one latent, for all its numbers of values; go on with those that were kept.

    With `posterior`, of each demonstration over theta under another model, there is one start, which is its M-step.
    """
    is_markov = isinstance(latent, Markov)
    counts = latent.K if isinstance(latent, Episode | Markov) else (1,)
    K = np.repeat(counts, [1 if k == 1 or posterior is not None else starts for k in counts])
    rows = stats.of_steps(plan, demos) if is_markov else stats.of_demos(plan, demos)
    sharing = Sharing()
    blocks = sharing.blocks(em.in_blocks(rows, len(K), max(counts)))
    action = plan.factors[0]
    actions_first = init == "actions_first" and action in plan.free and max(counts) > 1 and posterior is None
    if posterior is None:
        parameters = _start(plan, rows, K, key, is_markov, plan.columns(action) if actions_first else slice(None))
    else:
        parameters = _start_from(plan, demos, posterior, max(counts), is_markov)
    before = sharing.of_first(None if kept is None else kept.read(_progress(parameters)), _progress(parameters))
    sizes = jnp.asarray(K.astype(np.int32))
    width = tolerance * demos.num_episodes

    def climb(progress: em.Progress, blocks: em.Blocks, iterations: int, kept: Kept | None = None) -> em.Progress:
        try:
            for done in range(int(np.asarray(progress.num_iterations).max()), iterations, ITERATIONS):
                if np.asarray(progress.done).all():
                    break
                steps = min(ITERATIONS, iterations - done)
                limits = jnp.asarray(width), jnp.asarray(steps)
                progress = sharing.call(em.iterate, progress, blocks, plan.free, sizes, *limits)
                if kept is not None:
                    kept.write_if_due(progress)
                if on_progress is not None:
                    on_progress(int(np.asarray(progress.done).sum()), len(K), type(latent).__name__)
        finally:
            if kept is not None:
                kept.write(progress)
        return progress

    if before is None and actions_first:
        columns = np.zeros((1, 1, plan.num_columns), np.float32)
        columns[..., plan.columns(action)] = 1
        # The actions alone: the other statistics are 0, and their parameters keep the prior's mode.
        only = blocks._replace(rows=blocks.rows * columns.reshape(*[1] * (blocks.rows.ndim - 1), -1))
        first = climb(_progress(parameters), only, FIRST_ITERATIONS)
        only_actions = dataclasses.replace(first.parameters, eta=first.parameters.eta * columns)
        parameters = sharing.call(em.update, only_actions, blocks, plan.free, sizes)
    progress = climb(before or _progress(parameters), blocks, max_iterations, kept)
    return Runs(progress.parameters, K, np.asarray(progress.objective, np.float64), np.asarray(progress.done))


def _progress(parameters: Parameters) -> em.Progress:
    """Return the state of runs that begin with these parameters."""
    # Arrays of NumPy, here and below, whose making compiles nothing.
    runs = len(parameters.log_prior)
    objective, done, num_iterations = np.full(runs, -np.inf), np.zeros(runs, bool), np.zeros(runs, np.int32)
    return em.Progress(parameters, *map(jnp.asarray, (objective, done, num_iterations)))


def _start(
    plan: Layout, rows: Statistics, K: Int[np.ndarray, " R"], key: Key[Array, ""], is_markov: bool, columns: slice
) -> Parameters:
    """Return parameters that are each the M-step of one demonstration, or step, drawn at random, and of the mean.

    Drawn are those with some statistics in `columns`: if the actions are fitted first, seeds that are interventions
    alone would all start at one place. A theta with labels starts from the demonstrations that have it.
    """
    flat = rows.rows.reshape(-1, rows.rows.shape[-1])
    weights = np.repeat(rows.weights, len(flat) // len(rows.weights)) * (np.abs(flat).sum(-1) > 0)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    may = weights * (np.abs(flat[:, columns]).sum(-1) > 0)
    sample = flat[rng.choice(len(flat), min(len(flat), SAMPLE), p=may / may.sum())]
    most, runs = int(K.max()), len(K)
    mean = (weights @ flat) / weights.sum()
    transitions = None
    if is_markov:
        transitions = jnp.asarray(np.broadcast_to(np.ones((most, most)) + 9 * most * np.eye(most), (runs, most, most)))
    statistics = sample[spread_seeds(sample, runs, most, rng)] + mean
    if not is_markov:
        for k in np.unique(rows.labels[rows.labels >= 0]):
            known = rows.labels == k
            statistics[:, k] = (rows.weights[known] @ flat[known]) / rows.weights[known].sum() + mean
    likelihoods, theta = jnp.asarray(np.zeros(runs)), jnp.asarray(np.ones((runs, most)))
    expected = em.Expected(likelihoods, theta, jnp.asarray(statistics), transitions)
    return em.maximise_compiled(expected, plan.free, jnp.asarray(K.astype(np.int32)))


def _start_from(plan: Layout, demos: Demos, posterior: Float[np.ndarray, "N _"], K: int, is_markov: bool) -> Parameters:
    """Return the M-step of a posterior over theta; the likeliest value is split if there are more values than in it."""
    rng, r = np.random.default_rng(0), np.asarray(posterior)
    while r.shape[1] < K:
        half = rng.random(len(r)) * r[:, [most := int(r.sum(0).argmax())]].T[0]
        r = np.concatenate([r, half[:, None]], 1)
        r[:, most] -= half
    rows = stats.of_steps(plan, demos).rows.sum(1) if is_markov else stats.of_demos(plan, demos, merge=False).rows
    transitions = jnp.asarray(np.eye(K) * demos.lengths.sum() / K + 1.0)[None] if is_markov else None
    theta, statistics = jnp.asarray(r.sum(0)[None]), jnp.asarray((r.T @ rows)[None])
    expected = em.Expected(jnp.asarray(np.zeros(1)), theta, statistics, transitions)
    return em.maximise_compiled(expected, plan.free, jnp.asarray(np.asarray([K], np.int32)))


def posterior(plan: Layout, parameters: Parameters, demos: Demos) -> Float[np.ndarray, "N K"]:
    """Return the posterior over a theta that lasts the episode, of each demonstration, under the first run."""
    rows = jnp.asarray(stats.of_demos(plan, demos, merge=False).rows)
    joint = em.log_joint(parameters, rows, jnp.asarray(demos.labels, jnp.int32))[:, 0]
    return np.asarray(jax.nn.softmax(joint), np.float64)


def log_likelihoods(plan: Layout, parameters: Parameters, demos: Demos) -> Float[np.ndarray, "N R"]:
    """Return the log-likelihood of each demonstration under the free factors of each run, `[N, R]`, in nats.

    Real fields have the density of their own units, not of the standardised ones of the fit.
    """
    if plan.networks:
        raise ValueError("The spec has a Network, whose likelihood is not that of its tables: ask fit.process for it.")
    rows = (
        stats.of_demos(plan, demos, merge=False) if parameters.log_transition is None else stats.of_steps(plan, demos)
    )
    blocks = em.in_blocks(rows, *parameters.log_prior.shape)
    found = np.asarray(em.log_likelihoods(parameters, blocks), np.float64)
    found = found.reshape(-1, found.shape[-1])[: demos.num_episodes]
    return found + stats.log_units(plan, plan.free, demos)[:, None]


def as_tables(plan: Layout, parameters: Parameters, demos: Demos) -> dict[str, Any]:
    """Return the tables of each field of the first run, in the units of the data; none for networks."""
    tables = {}
    for factor in (*plan.free, *plan.tied):
        if factor in plan.free:
            eta = jnp.asarray(np.asarray(parameters.eta)[0, :, plan.columns(factor)])
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


def candidates_of(plan: Layout, latent: Latent, runs: Runs, train: Demos, test: Demos | None) -> list[Tried]:
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
