"""Heads: how a network predicts a symbol, from features to a distribution over any spec (Section 4.1)."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from undelude._agents.networks.readers import unsupported
from undelude._checks import check_count
from undelude._distributions import (
    AbstractConditionals,
    AbstractDistribution,
    Autoregressive,
    Block,
    Categorical,
    Given,
    GivenArray,
    Joint,
    Mixture,
    Normal,
    Parts,
    Reals,
    Spec,
    Squashed,
    Symbols,
)
from undelude._types import Value

# Least scale of a predicted normal, in units of the value's scale: the loss stays finite if the expert is almost
# deterministic.
MIN_SCALE = 1e-3
# Components of a predicted mixture, at least and at most, if the number is not given. The posterior predictive of a
# continuous action is a mixture over theta, even if the expert's distribution is normal for each theta.
MIN_COMPONENTS, MAX_COMPONENTS = 4, 16


class AbstractHead(eqx.Module):
    """A map from features to the distribution of the next value."""

    @abc.abstractmethod
    def __call__(self, features: Float[Array, " D"]) -> AbstractDistribution[Value]:
        """Return the distribution of the next value."""


class CategoricalHead(AbstractHead):
    """Logits that are linear in the features."""

    weight: Float[Array, "D n"]
    bias: Float[Array, " n"]

    def __call__(self, features: Float[Array, " D"]) -> Categorical:
        """Return the distribution of the next symbol."""
        return Categorical(logits=features @ self.weight + self.bias)


class NormalHead(AbstractHead):
    """A mixture of normals, squashed if the spec is a box; with one component a single normal.

    Attributes:
        weight, bias: from features to the logits, locations and scales of the components.
        mean, scale: of the values, as set by `normalise`; not learned.
        spec: the values to predict.
        num_components: of the mixture.
    """

    weight: Float[Array, "D size"]
    bias: Float[Array, " size"]
    mean: Float[Array, "..."]
    scale: Float[Array, "..."]
    spec: Reals = eqx.field(static=True)
    num_components: int = eqx.field(static=True)

    def __call__(self, features: Float[Array, " D"]) -> AbstractDistribution[Float[Array, "..."]]:
        """Return the distribution of the next value."""
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        k = self.num_components
        x = features @ self.weight + self.bias
        loc, raw = jnp.reshape(x[k:], (2, k, *self.spec.shape))
        loc, raw = mean[None] + scale[None] * loc, scale[None] * (jax.nn.softplus(raw) + MIN_SCALE)
        if k == 1:
            return self._squash(Normal(loc[0], raw[0]))
        return Mixture(self._squash(Normal(loc, raw)), log_weights=jax.nn.log_softmax(x[:k]))

    def _squash(self, distribution: Normal) -> AbstractDistribution[Float[Array, "..."]]:
        return distribution if self.spec.box is None else Squashed(distribution, *self.spec.box)


class GivenHead(AbstractHead):
    """A placeholder for a given array, which is not predicted."""

    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, features: Float[Array, " D"]) -> Given:
        """Return zeros of the right shape; `Given` never scores them."""
        del features
        return Given(jnp.zeros(self.shape))


class NeuralConditionals(AbstractConditionals):
    """A neural autoregressive distribution estimator: one hidden layer that reads the block symbol by symbol.

    P(x_i | x_1, ..., x_(i-1)) = softmax(b_i + V_i silu(h + sum_(j<i) W_j[x_j]))

    Attributes:
        hidden: h.
        tables: W.
        weight: V.
        bias: b.
    """

    hidden: Float[Array, "... D"]
    tables: Float[Array, "... L n D"]
    weight: Float[Array, "... L D n"]
    bias: Float[Array, "... L n"]

    @property
    def length(self) -> int:
        """The number L of symbols in a block."""
        return self.bias.shape[-2]

    @property
    def num_categories(self) -> int:
        """The number n of values of each symbol."""
        return self.bias.shape[-1]

    def next(self, prefix: Int[Array, " i"]) -> Float[Array, " n"]:
        """Return the logits of the symbol after `prefix`."""
        i = len(prefix)
        hidden = self.hidden + self.tables[jnp.arange(i), prefix].sum(0)
        return jax.nn.silu(hidden) @ self.weight[i] + self.bias[i]


class AutoregressiveHead(AbstractHead):
    """A joint distribution of a block, whose hidden layer starts as a linear map of the features."""

    hidden: Float[Array, "D D"]
    tables: Float[Array, "L n D"]
    weight: Float[Array, "L D n"]
    bias: Float[Array, "L n"]

    def __call__(self, features: Float[Array, " D"]) -> Autoregressive:
        """Return the distribution of the next block."""
        return Autoregressive(NeuralConditionals(features @ self.hidden, self.tables, self.weight, self.bias))


class JointHead(AbstractHead):
    """A head for each part of a dictionary."""

    parts: dict[str, AbstractHead]

    def __call__(self, features: Float[Array, " D"]) -> Joint:
        """Return the parts' distributions, independent given the features."""
        return Joint({name: head(features) for name, head in self.parts.items()})


def check_supported(spec: Spec) -> None:
    """Raise `TypeError` if networks have no head for values of `spec`."""
    match spec:
        case Reals() if not jnp.issubdtype(spec.value.dtype, jnp.floating):
            # A density would be compared with probabilities.
            raise unsupported(spec)
        case Symbols(n=int()) | Block() | Reals() | GivenArray():
            return
        case Parts(named=dict() as parts):
            for part in parts.values():
                check_supported(part)
        case _:
            raise unsupported(spec)


def make_head(
    spec: Spec, width: int, *, num_components: int | None = MIN_COMPONENTS, key: Key[Array, ""]
) -> AbstractHead:
    """Return a head for values of `spec`.

    Args:
        spec: the values to predict.
        width: the number of features.
        num_components: of mixtures, for real values; None if no values are real.
        key: of the initial weights.

    Raises:
        TypeError: networks have no head for such values.
    """
    limit = math.sqrt(1 / width)
    match spec:
        case Symbols(n=int(n)):
            return CategoricalHead(_uniform(key, (width, n), limit), jnp.zeros(n))
        case Reals():
            k, numbers = check_count("num_components", num_components), math.prod(spec.shape)
            size = k * numbers
            # The components start apart, or gradients would keep them equal.
            loc = jnp.repeat(jnp.linspace(-1.0, 1.0, k) if k > 1 else jnp.zeros(1), numbers)
            bias = jnp.concatenate([jnp.zeros(k), loc, jnp.zeros(size)])
            weight = _uniform(key, (width, k + 2 * size), limit)
            return NormalHead(weight, bias, jnp.zeros(spec.shape), jnp.ones(spec.shape), spec, k)
        case Block():
            length, n = spec.length, spec.n
            key_hidden, key_tables, key_weight = jax.random.split(key, 3)
            return AutoregressiveHead(
                _uniform(key_hidden, (width, width), limit),
                _uniform(key_tables, (length, n, width), 1.0),
                _uniform(key_weight, (length, width, n), limit),
                jnp.zeros((length, n)),
            )
        case GivenArray():
            return GivenHead(spec.shape)
        case Parts(named=dict() as parts):
            keys = jax.random.split(key, len(parts))
            named = zip(parts.items(), keys, strict=True)
            return JointHead(
                {name: make_head(part, width, num_components=num_components, key=k) for (name, part), k in named}
            )
    raise unsupported(spec)


def _uniform(key: Key[Array, ""], shape: tuple[int, ...], limit: float) -> Array:
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
