"""Expectation maximisation for all numbers of values and all starts at once.

    E-step    r_nk = Q(theta_n = k | demonstration n), proportional to pi_k exp(statistics_n . eta_k)
    M-step    pi_k, eta_k maximise  sum_n r_nk (log pi_k + statistics_n . eta_k) + log-prior

A run is one start with one `K`. All have `max K` values of theta, and those beyond a run's own `K` have probability 0,
so that one program serves all. The observed-data log-posterior never decreases.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from undelude._compiled import compiled
from undelude.offline._fitting.forward_backward import excluded, expect_steps, forward, log_transitions, values_of
from undelude.offline._fitting.parameters import Blocks, Expected, Parameters
from undelude.offline._model.mechanisms import Factor
from undelude.offline._model.statistics import Statistics

# A Dirichlet prior on theta's distribution, so that no value of theta vanishes by rounding.
THETA_COUNT = 1e-2
# Numbers in the largest array of a block of the E-step: it then stays in the caches.
BLOCK_SIZE = 2**20


def in_blocks(statistics: Statistics, num_runs: int, K: int) -> Blocks:
    """Return the statistics in blocks."""
    num_rows, *inner = statistics.rows.shape
    steps = inner[0] if len(inner) > 1 else 1
    size = int(np.clip(BLOCK_SIZE // (num_runs * K * steps), 64, max(num_rows, 64)))
    num_blocks = -(-num_rows // size)
    pad = num_blocks * size - num_rows
    rows = np.pad(statistics.rows, ((0, pad), *[(0, 0)] * len(inner)))
    labels = np.pad(statistics.labels, (0, pad), constant_values=-1)
    weights = np.pad(statistics.weights, (0, pad))
    return Blocks(
        jnp.asarray(rows.reshape(num_blocks, size, *inner)),
        jnp.asarray(labels.reshape(num_blocks, size), dtype=jnp.int32),
        jnp.asarray(weights.reshape(num_blocks, size)),
    )


def log_joint(parameters: Parameters, rows: Float[Array, "n M"], labels: Int[Array, " n"]) -> Float[Array, "n R K"]:
    """Return `log Q(theta = k, demonstration)`; `-inf` where a label says that theta is another."""
    R, K, M = parameters.eta.shape
    joint = (rows @ parameters.eta.reshape(R * K, M).T).reshape(-1, R, K) + parameters.log_prior[None]
    return jnp.where(excluded(labels, K)[:, None], -jnp.inf, joint)


def expect(parameters: Parameters, blocks: Blocks) -> Expected:
    """Return the log-likelihood and the expected statistics: the E-step."""
    R, K, M = parameters.eta.shape

    def add(sums: Expected, block: tuple[Array, Array, Array]) -> tuple[Expected, None]:
        rows, labels, weights = block
        joint = log_joint(parameters, rows, labels)
        evidence = jax.nn.logsumexp(joint, -1, keepdims=True)
        r = jnp.exp(joint - evidence) * weights[:, None, None]
        statistics = r.reshape(-1, R * K).T @ rows
        return Expected(
            sums.log_likelihood + weights @ evidence[..., 0],
            sums.theta + r.sum(0),
            sums.statistics + statistics.reshape(R, K, M),
        ), None

    zero = Expected(jnp.zeros(R), jnp.zeros((R, K)), jnp.zeros((R, K, M)))
    return jax.lax.scan(add, zero, (blocks.rows, blocks.labels, blocks.weights))[0]


def maximise(expected: Expected, factors: tuple[Factor, ...], K: Int[Array, " R"]) -> Parameters:
    """Return the parameters of the M-step."""
    transition = None
    if expected.transitions is not None:
        transition = log_transitions(expected.transitions, K, THETA_COUNT)
    return Parameters(_log_prior(expected.theta, K), _eta(expected.statistics, factors), transition)


def _log_prior(theta: Float[Array, "R K"], K: Int[Array, " R"]) -> Float[Array, "R K"]:
    exists = values_of(K, theta.shape[-1])
    counts = jnp.where(exists, theta + THETA_COUNT, 0.0)
    return jnp.where(exists, jnp.log(counts / counts.sum(-1, keepdims=True)), -jnp.inf)


def _eta(statistics: Float[Array, "R K M"], factors: tuple[Factor, ...]) -> Float[Array, "R K M"]:
    parts, start = [statistics[..., :0]], 0
    for factor in factors:
        parts.append(factor.eta(statistics[..., start : start + factor.num_columns]))
        start += factor.num_columns
    return jnp.concatenate(parts, -1)


def log_prior_density(parameters: Parameters, factors: tuple[Factor, ...], K: Int[Array, " R"]) -> Float[Array, " R"]:
    """Return the log-density of the prior at the parameters, up to a constant."""
    exists = values_of(K, parameters.log_prior.shape[-1])
    total = THETA_COUNT * jnp.where(exists, parameters.log_prior, 0.0).sum(-1)
    start = 0
    for factor in factors:
        density = factor.log_prior(parameters.eta[..., start : start + factor.num_columns])
        total += jnp.where(exists, density, 0.0).sum(-1)
        start += factor.num_columns
    if parameters.log_transition is not None:
        both = exists[:, None] & exists[..., None]
        total += THETA_COUNT * jnp.where(both, parameters.log_transition, 0.0).sum((-2, -1))
    return total


@compiled
def maximise_compiled(expected: Expected, factors: tuple[Factor, ...], K: Int[Array, " R"]) -> Parameters:
    """Return the M-step as one program, for a caller that is not part of one."""
    return maximise(expected, factors, K)


@compiled
def expectation(parameters: Parameters, blocks: Blocks) -> Expected:
    """Return the E-step: the log-likelihood and the expected statistics."""
    return (expect if blocks.rows.ndim == 3 else expect_steps)(parameters, blocks)


@compiled
def update(parameters: Parameters, blocks: Blocks, factors: tuple[Factor, ...], K: Int[Array, " R"]) -> Parameters:
    """Return the parameters after one iteration."""
    return maximise((expect if blocks.rows.ndim == 3 else expect_steps)(parameters, blocks), factors, K)


@compiled
def log_likelihoods(parameters: Parameters, blocks: Blocks) -> Float[Array, "B n R"]:
    """Return the log-likelihood of each row under each run."""

    def of_block(block: tuple[Array, Array, Array]) -> Float[Array, "n R"]:
        rows, labels, _ = block
        if blocks.rows.ndim == 3:
            return jax.nn.logsumexp(log_joint(parameters, rows, labels), -1)
        return forward(parameters, rows, labels)[0]

    return jax.lax.map(of_block, tuple(blocks))


class Progress(NamedTuple):
    """The state of all runs.

    Attributes:
        parameters: of all runs.
        objective: `[R]`, the log-posterior, up to a constant, of the parameters before the last M-step.
        done: `[R]`, whether the objective has converged; such runs stay as they are.
        num_iterations: `[R]`.
    """

    parameters: Parameters
    objective: Float[Array, " R"]
    done: Bool[Array, " R"]
    num_iterations: Int[Array, " R"]


@compiled
def iterate(
    progress: Progress,
    blocks: Blocks,
    factors: tuple[Factor, ...],
    K: Int[Array, " R"],
    tolerance: Float[Array, ""],
    num_iterations: Int[Array, ""],
) -> Progress:
    """Return the runs after at most so many iterations; a run ends when its objective rises less than `tolerance`."""

    def step(carry: tuple[Int[Array, ""], Progress]) -> tuple[Int[Array, ""], Progress]:
        i, progress = carry
        expected = (expect if blocks.rows.ndim == 3 else expect_steps)(progress.parameters, blocks)
        objective = expected.log_likelihood + log_prior_density(progress.parameters, factors, K)
        done = progress.done | (objective - progress.objective < tolerance)
        later = maximise(expected, factors, K)
        parameters = jax.tree.map(
            lambda old, new: jnp.where(done.reshape(-1, *[1] * (old.ndim - 1)), old, new), progress.parameters, later
        )
        objective = jnp.where(progress.done, progress.objective, objective)
        return i + 1, Progress(parameters, objective, done, progress.num_iterations + ~done)

    def unfinished(carry: tuple[Int[Array, ""], Progress]) -> Bool[Array, ""]:
        i, progress = carry
        return (i < num_iterations) & ~progress.done.all()

    return jax.lax.while_loop(unfinished, step, (jnp.zeros((), jnp.int32), progress))[1]
