"""The parameters of many runs, and what an E-step makes of them."""

from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, Int


class Parameters(eqx.Module):
    """The parameters of many runs, leading axis R.

    Attributes:
        log_prior: `[R, K]`, `log Q(theta)`; `-inf` beyond a run's own K.
        eta: `[R, K, M]`, of the factors that depend on theta.
        log_transition: `[R, K, K]`, of theta to its next value; None if theta lasts the episode.
    """

    log_prior: Float[Array, "R K"]
    eta: Float[Array, "R K M"]
    log_transition: Float[Array, "R K K"] | None = None


class Expected(NamedTuple):
    """What an E-step returns.

    Attributes:
        log_likelihood: `[R]`, of all data, in nats.
        theta: `[R, K]`, the expected number of demonstrations that start with each theta.
        statistics: `[R, K, M]`, expected.
        transitions: `[R, K, K]`, the expected number of transitions; None if theta lasts the episode.
    """

    log_likelihood: Float[Array, " R"]
    theta: Float[Array, "R K"]
    statistics: Float[Array, "R K M"]
    transitions: Float[Array, "R K K"] | None = None


class Blocks(NamedTuple):
    """The statistics in blocks of equal size; rows of weight 0 fill the last.

    Attributes:
        rows: `[B, n, M]`, of demonstrations; `[B, n, S, M]`, of steps, if theta changes.
        labels: `[B, n]`, the index of theta, or -1.
        weights: `[B, n]`.
    """

    rows: Float[Array, "B n *S M"]
    labels: Int[Array, "B n"]
    weights: Float[Array, "B n"]
