"""Mechanisms: the distribution of a field given theta and its declared contexts, as exponential families.

The log-likelihood of a demonstration is linear in its sufficient statistics:

    log Q(demonstration | theta = k) = statistics . eta_k,

so that one matrix product gives it for all demonstrations, all values of theta and all starts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from undelude._checks import check_between
from undelude.offline._model.contexts import Context, Given, as_given
from undelude.offline._model.network import Known, Network

# The prior of a normal mechanism, for data of mean 0 and variance 1: so many observations at 0, and one with this
# squared deviation.
MEAN_PRIOR, VARIANCE_PRIOR = 1e-3, 1e-2


@dataclass(frozen=True, init=False)
class Table:
    """A finite field with one free distribution for each theta and each combination of its contexts.

    Attributes:
        field: the field; None for the action.
        given: its contexts: names of values of the same round, `Last(name)`, `Round(edge)`.
        tied: the distribution does not depend on theta. Say it where it is so, for example of the transitions of a
            known environment: "theta k was never seen in this state" then does not count as evidence.
        pseudo_count: of each value in each cell, a Dirichlet prior of `1 + pseudo_count`.
    """

    field: str | None
    given: tuple[Given, ...]
    tied: bool
    pseudo_count: float

    def __init__(
        self,
        field: str | None = None,
        given: Given | Sequence[Given] = (),
        *,
        tied: bool = False,
        pseudo_count: float = 0.5,
    ):
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "given", as_given(f"Table({field or ''})", given))
        object.__setattr__(self, "tied", tied)
        object.__setattr__(self, "pseudo_count", check_between("Table: pseudo_count", pseudo_count, 0, math.inf))


@dataclass(frozen=True, init=False)
class Gaussian:
    """A real field, normal with a free mean and scale for each theta, each combination of contexts and each dimension.

    Attributes:
        field, given, tied: as in `Table`.
        least_scale: the scale is never less, so that no density grows without bound.
    """

    field: str | None
    given: tuple[Given, ...]
    tied: bool
    least_scale: float

    def __init__(
        self,
        field: str | None = None,
        given: Given | Sequence[Given] = (),
        *,
        tied: bool = False,
        least_scale: float = 1e-2,
    ):
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "given", as_given(f"Gaussian({field or ''})", given))
        object.__setattr__(self, "tied", tied)
        object.__setattr__(self, "least_scale", check_between("Gaussian: least_scale", least_scale, 1e-9, math.inf))


Mechanism = Table | Gaussian | Network | Known


@dataclass(frozen=True)
class Factor:
    """A mechanism of one data set: its contexts resolved, and its place among the statistics.

    Attributes:
        mechanism: as it was declared.
        field: the field; `"action"` for the action.
        contexts: resolved.
        width: the number of levels of a finite field; of dimensions of a real one.
    """

    mechanism: Mechanism
    field: str
    contexts: tuple[Context, ...]
    width: int

    @property
    def has_statistics(self) -> bool:
        """Whether the mechanism is an exponential family, unlike a network or a known function."""
        return isinstance(self.mechanism, Table | Gaussian)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of levels of each context."""
        return tuple(context.size or 0 for context in self.contexts)

    @property
    def num_cells(self) -> int:
        """The number of combinations of contexts."""
        return math.prod(self.sizes)

    @property
    def num_columns(self) -> int:
        """The number of statistics: counts of each value, or count, sum and sum of squares of each dimension."""
        if not self.has_statistics:
            return 0
        return self.num_cells * self.width * (1 if isinstance(self.mechanism, Table) else 3)

    @property
    def num_parameters(self) -> int:
        """The number of free parameters for one theta."""
        return self.num_cells * (self.width - 1 if isinstance(self.mechanism, Table) else 2 * self.width)

    def cells(self, codes: Sequence[np.ndarray]) -> np.ndarray:
        """Return the number of the combination of contexts, from their levels."""
        if not codes:
            return np.zeros((), np.int64)
        return np.ravel_multi_index(tuple(codes), self.sizes)

    def eta(self, statistics: Float[Array, "... columns"]) -> Float[Array, "... columns"]:
        """Return the parameters that maximise `statistics . eta` plus the log-prior: the M-step."""
        lead = statistics.shape[:-1]
        if isinstance(self.mechanism, Table):
            counts = statistics.reshape(*lead, self.num_cells, self.width) + self.mechanism.pseudo_count
            total = counts.sum(-1, keepdims=True)
            # A cell without any data, and without a prior, is uniform; a value that never occurs keeps a finite
            # parameter, so that 0 * eta is 0.
            probs = jnp.where(total > 0, counts / jnp.where(total > 0, total, 1.0), 1 / self.width)
            return jnp.log(jnp.maximum(probs, 1e-30)).reshape(*lead, self.num_columns)
        count, total, squares = jnp.moveaxis(statistics.reshape(*lead, self.num_cells, self.width, 3), -1, 0)
        mean = total / (count + MEAN_PRIOR)
        deviations = squares - 2 * mean * total + (count + MEAN_PRIOR) * mean**2
        variance = (deviations + VARIANCE_PRIOR) / (count + 1.0)
        return self.normal(mean, variance).reshape(*lead, self.num_columns)

    def normal(self, mean: Array, variance: Array) -> Array:
        """Return the coefficients of count, sum and sum of squares in the log-density of a normal distribution."""
        variance = jnp.maximum(variance, self.mechanism.least_scale**2)  # type: ignore[union-attr]
        constant = -0.5 * (mean**2 / variance + jnp.log(2 * jnp.pi * variance))
        return jnp.stack([constant, mean / variance, -0.5 / variance], -1)

    def log_prior(self, eta: Float[Array, "... columns"]) -> Float[Array, "..."]:
        """Return the logarithm of the prior density that `eta` maximises with, up to a constant."""
        if isinstance(self.mechanism, Table):
            return self.mechanism.pseudo_count * eta.sum(-1)
        constant, linear, quadratic = jnp.moveaxis(eta.reshape(*eta.shape[:-1], -1, 3), -1, 0)
        del constant
        variance, mean = -0.5 / quadratic, linear * (-0.5 / quadratic)
        return (-0.5 * ((MEAN_PRIOR * mean**2 + VARIANCE_PRIOR) / variance + jnp.log(variance))).sum(-1)

    def parameters(self, eta: Float[Array, "... columns"]) -> Array | tuple[Array, Array]:
        """Return the log-table `[..., *sizes, n]`, or the means and scales `[..., *sizes, d]`."""
        shape = (*eta.shape[:-1], *self.sizes, self.width)
        if isinstance(self.mechanism, Table):
            table = eta.reshape(shape)
            return table - jnp.log(jnp.exp(table).sum(-1, keepdims=True))
        _, linear, quadratic = jnp.moveaxis(eta.reshape(*shape, 3), -1, 0)
        variance = -0.5 / quadratic
        return linear * variance, jnp.sqrt(variance)
