"""The E-step of a theta that changes: forward-backward recursions for all runs at once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from undelude.offline._fitting.parameters import Blocks, Expected, Parameters


def values_of(K: Int[Array, " R"], width: int) -> Bool[Array, "R K"]:
    """Return which of `width` values of theta each run has."""
    return jnp.arange(width)[None] < K[:, None]


def excluded(labels: Int[Array, " n"], K: int) -> Bool[Array, "n K"]:
    """Return which values of theta the labels rule out."""
    return (labels[:, None] >= 0) & (labels[:, None] != jnp.arange(K)[None])


def log_emissions(parameters: Parameters, rows: Float[Array, "n S M"]) -> Float[Array, "S n R K"]:
    """Return `log Q(step | theta = k)` for each step of each demonstration."""
    R, K, M = parameters.eta.shape
    steps = jnp.moveaxis(rows, 1, 0)
    return (steps @ parameters.eta.reshape(R * K, M).T).reshape(*steps.shape[:2], R, K)


class Forward(NamedTuple):
    """The forward pass.

    Attributes:
        filtered: `[S, n, R, K]`, `Q(theta_s | steps up to s)`.
        b: `[S, n, R, K]`, the emissions, at most 1.
        scale: `[S, n, R, 1]`, `Q(step s | steps before)`, divided like `b`.
    """

    filtered: Float[Array, "S n R K"]
    b: Float[Array, "S n R K"]
    scale: Float[Array, "S n R 1"]


def forward(
    parameters: Parameters, rows: Float[Array, "n S M"], labels: Int[Array, " n"]
) -> tuple[Float[Array, "n R"], Forward]:
    """Return the log-likelihood of each demonstration, and the forward pass."""
    K = parameters.log_prior.shape[-1]
    assert parameters.log_transition is not None
    transition = jnp.exp(parameters.log_transition)
    log_b = log_emissions(parameters, rows)
    log_b = log_b.at[0].add(jnp.where(excluded(labels, K)[:, None], -jnp.inf, 0.0))
    # Values of theta beyond a run's own K have no probability; their emissions must not set the scale.
    top = jnp.where(jnp.isfinite(parameters.log_prior)[None, None], log_b, -jnp.inf).max(-1, keepdims=True)
    b = jnp.exp(jnp.minimum(log_b - top, 0.0))

    def step(predicted: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
        joint = predicted * b
        scale = joint.sum(-1, keepdims=True)
        filtered = joint / scale
        return jnp.einsum("nrk,rkl->nrl", filtered, transition), (filtered, scale)

    start = jnp.broadcast_to(jnp.exp(parameters.log_prior), b.shape[1:])
    _, (filtered, scale) = jax.lax.scan(step, start, b)
    return (jnp.log(scale) + top)[..., 0].sum(0), Forward(filtered, b, scale)


def expect_steps(parameters: Parameters, blocks: Blocks) -> Expected:
    """Return the log-likelihood and the expected statistics: the E-step of a hidden Markov model."""
    R, K, M = parameters.eta.shape
    assert parameters.log_transition is not None
    transition = jnp.exp(parameters.log_transition)

    def add(sums: Expected, block: tuple[Array, Array, Array]) -> tuple[Expected, None]:
        rows, labels, weights = block
        log_likelihood, (filtered, b, scale) = forward(parameters, rows, labels)
        # A step without statistics counts if one follows: theta changes after an intervention too.
        exists = jax.lax.cummax((jnp.abs(jnp.moveaxis(rows, 1, 0)).sum(-1) > 0).astype(int), reverse=True) > 0

        def backward(
            carry: tuple[Array, Array], x: tuple[Array, Array, Array, Array]
        ) -> tuple[tuple[Array, Array], Array]:
            later, transitions = carry
            filtered, b_next, scale_next, exists_next = x
            ahead = b_next * later / scale_next
            seen = (exists_next * weights)[:, None, None]
            transitions += jnp.einsum("nrk,nrl->rkl", filtered * seen, ahead) * transition
            smoothing = jnp.einsum("nrl,rkl->nrk", ahead, transition)
            return (smoothing, transitions), smoothing

        shape = b.shape[1:]
        steps = filtered[:-1], b[1:], scale[1:], exists[1:]
        (_, transitions), smoothing = jax.lax.scan(
            backward, (jnp.ones(shape), jnp.zeros((R, K, K))), steps, reverse=True
        )
        smoothed = filtered * jnp.concatenate([smoothing, jnp.ones((1, *shape))]) * weights[None, :, None, None]
        statistics = smoothed.reshape(-1, R * K).T @ jnp.moveaxis(rows, 1, 0).reshape(-1, M)
        assert sums.transitions is not None
        return Expected(
            sums.log_likelihood + weights @ log_likelihood,
            sums.theta + smoothed[0].sum(0),
            sums.statistics + statistics.reshape(R, K, M),
            sums.transitions + transitions,
        ), None

    zero = Expected(jnp.zeros(R), jnp.zeros((R, K)), jnp.zeros((R, K, M)), jnp.zeros((R, K, K)))
    return jax.lax.scan(add, zero, (blocks.rows, blocks.labels, blocks.weights))[0]


def log_transitions(transitions: Float[Array, "R K K"], K: Int[Array, " R"], count: float) -> Float[Array, "R K K"]:
    """Return the M-step of the transition, with a Dirichlet prior of `1 + count`."""
    exists = values_of(K, transitions.shape[-1])
    counts = jnp.where(exists[:, None], transitions + count, 0.0)
    return jnp.log(jnp.maximum(counts / counts.sum(-1, keepdims=True), 1e-30))
