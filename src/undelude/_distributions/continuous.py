"""Distributions over real numbers and arrays of them."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from undelude._distributions.base import AbstractDistribution, check_is_distribution
from undelude._tree import is_concrete


class Normal(AbstractDistribution[Float[Array, "..."]]):
    """Independent normal components, one for each entry of `loc`.

    Args:
        loc: means.
        scale: standard deviations, of a shape that broadcasts to that of `loc`.

    Raises:
        ValueError: `loc` is not finite; `scale` is not positive and finite, or does not broadcast to `loc`.
    """

    loc: Float[Array, "..."]
    scale: Float[Array, "..."]

    def __init__(self, loc: ArrayLike | Sequence[float], scale: ArrayLike | Sequence[float]):
        self.loc, scale = jnp.asarray(loc, dtype=float), jnp.asarray(scale, dtype=float)
        try:
            self.scale = jnp.broadcast_to(scale, self.loc.shape)
        except ValueError as error:
            raise ValueError(
                f"Normal: scale has shape {list(scale.shape)}, which does not broadcast to that of loc, "
                f"{list(self.loc.shape)}; give one scale, or one for each mean."
            ) from error
        if is_concrete(self.loc) and not np.isfinite(self.loc).all():
            raise ValueError("Normal(loc=) must be finite everywhere.")
        if is_concrete(self.scale) and not (np.isfinite(self.scale) & (np.asarray(self.scale) > 0)).all():
            raise ValueError("Normal(scale=) must be positive and finite everywhere.")

    def sample(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        """Draw `loc + scale * epsilon`: reparameterised, so that tests notice a missing stop-gradient."""
        return self.loc + self.scale * jax.random.normal(key, self.loc.shape, self.loc.dtype)

    def log_prob(self, x: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """Return `sum_i log N(x_i; loc_i, scale_i)`."""
        z = (x - self.loc) / self.scale
        return jnp.sum(-0.5 * z**2 - jnp.log(self.scale) - 0.5 * math.log(2 * math.pi))

    def entropy(self) -> Float[Array, ""]:
        """Return `sum_i log(scale_i sqrt(2 pi e))`."""
        return jnp.sum(jnp.log(self.scale) + 0.5 * math.log(2 * math.pi * math.e))


class Squashed(AbstractDistribution[Float[Array, "..."]]):
    """A tanh-transformed distribution: `x = low + (high - low) (1 + tanh z) / 2`, with `z` from the base distribution.

    Attributes:
        base: the distribution of `z`, on the real line.
        low, high: the bounds of each component of `x`.

    Raises:
        TypeError: `base` is not a distribution.
        ValueError: the bounds are not finite, or `low` is not less than `high`.
    """

    base: AbstractDistribution[Float[Array, "..."]]
    low: float = eqx.field(static=True, default=-1.0)
    high: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        check_is_distribution(self.base, "Squashed: base")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"Squashed needs finite bounds low < high, not {self.low} and {self.high}.")

    def sample(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        """Draw from the base distribution and squash."""
        return self.squash(self.base.sample(key))

    def squash(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return `low + (high - low) (1 + tanh z) / 2`."""
        return self.low + 0.5 * (self.high - self.low) * (1 + jnp.tanh(z))

    def log_prob(self, x: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """Return `log P(z) - sum_i log(dx_i / dz_i)`; a value at a bound counts as slightly inside."""
        y = (2 * jnp.asarray(x) - (self.low + self.high)) / (self.high - self.low)
        z = jnp.arctanh(jnp.clip(y, -1 + 1e-6, 1 - 1e-6))
        # log(1 - tanh(z)^2) in a stable form: 1 - y^2 loses its digits near the bounds.
        slope = 2 * (math.log(2) - z - jax.nn.softplus(-2 * z)) + math.log(0.5 * (self.high - self.low))
        return self.base.log_prob(z) - jnp.sum(slope)

    def entropy(self, key: Key[Array, ""] | None = None, num_samples: int = 256) -> Float[Array, ""]:
        """Return an unbiased estimate: the mean of `-log P(x)` over `num_samples` draws.

        The draws are always the same if `key` is None.
        """
        keys = jax.random.split(jax.random.key(0) if key is None else key, num_samples)
        return jax.vmap(lambda key: -self.log_prob(self.sample(key)))(keys).mean()
