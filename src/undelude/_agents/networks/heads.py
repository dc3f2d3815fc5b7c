"""How a network predicts a symbol, for every kind of distribution that a process may have (Section 4.1)."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from undelude._checks import MAX_COUNT
from undelude._distributions.distributions import (
    AbstractConditionals,
    AbstractDistribution,
    Autoregressive,
    Categorical,
    Given,
    Joint,
    Mixture,
    Normal,
    Squashed,
)
from undelude._distributions.spec import Block, GivenArray, Parts, Reals, Spec, Symbols

# A teacher may be almost deterministic; a floor under the scale keeps the loss finite. In units of a part's scale.
MIN_SCALE = 1e-3
# The posterior predictive of a continuous action is a mixture over theta, whatever the expert's own distribution is.
NUM_COMPONENTS = 4
# What `describe` says of each kind.
ENTRIES: dict[str, tuple[str, ...]] = {
    "categorical": ("num_categories",),
    "autoregressive": ("length", "num_categories"),
    "normal": ("shape", "num_components"),
    "squashed": ("shape", "num_components", "low", "high"),
    "given": ("shape",),
    "joint": ("parts",),
}


def describe(spec: Spec) -> dict[str, Any]:
    """Return a spec as JSON.

    Raises:
        TypeError: networks have no head for such values.
    """
    match spec:
        case Symbols(n=int()):
            return {"kind": "categorical", "num_categories": spec.n}
        case Block():
            return {"kind": "autoregressive", "length": spec.length, "num_categories": spec.n}
        case Reals(low=None):
            return {"kind": "normal", "shape": list(spec.shape), "num_components": NUM_COMPONENTS}
        case Reals():
            shape = {"shape": list(spec.shape), "num_components": NUM_COMPONENTS}
            return {"kind": "squashed", **shape, "low": spec.low, "high": spec.high}
        case GivenArray():
            return {"kind": "given", "shape": list(spec.shape)}
        case Parts() if isinstance(parts := spec.tree, dict):
            return {"kind": "joint", "parts": {name: describe(part) for name, part in sorted(parts.items())}}
    raise TypeError(
        f"networks have no head for {spec}; use symbols, blocks, numbers, given arrays, or a dictionary of them."
    )


def check_spec(spec: Any, name: str) -> int:
    """Check a description that `describe` may have made: how many parts it has.

    Args:
        spec: as from JSON.
        name: of what it describes.

    Raises:
        ValueError: it describes nothing; the message says where.
    """
    kind = spec.get("kind") if isinstance(spec, dict) else None
    entries = ENTRIES.get(kind) if isinstance(kind, str) else None
    if entries is None or spec.keys() != {"kind", *entries}:
        known = ", ".join(f"{kind} ({', '.join(entries)})" for kind, entries in ENTRIES.items())
        raise ValueError(f"{name} must have a kind and its entries, of {known}; not {spec!r:.99}")
    for entry in entries:
        value = spec[entry]
        if entry in ("num_categories", "length", "num_components") and not is_size(value):
            raise ValueError(f"{name}: {entry} must be a whole number from 1 to {MAX_COUNT}, not {value!r:.99}")
        if entry == "shape" and not (
            isinstance(value, list) and all(map(is_size, value)) and math.prod(value) <= MAX_COUNT
        ):
            raise ValueError(f"{name}: shape must be a list of sizes, {MAX_COUNT} in all at most, not {value!r:.99}")
        if entry in ("low", "high") and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{name}: {entry} must be a number, not {value!r:.99}")
    if kind == "squashed" and not -1e30 <= spec["low"] < spec["high"] <= 1e30:
        raise ValueError(f"{name}: low must be less than high, both finite")
    if kind != "joint":
        return 1
    if not (isinstance(spec["parts"], dict) and spec["parts"]):
        raise ValueError(f"{name}: parts must be an object of at least one part, not {spec['parts']!r:.99}")
    return sum(check_spec(part, f"{name:.99}: {part_name:.99}") for part_name, part in spec["parts"].items())


def is_size(x: Any) -> bool:
    """Whether it is a whole number that an array's axis may have."""
    return isinstance(x, int) and not isinstance(x, bool) and 1 <= x <= MAX_COUNT


class AbstractHead(eqx.Module):
    """From features to the distribution of the next value."""

    @abc.abstractmethod
    def __call__(self, features: Float[Array, " D"]) -> AbstractDistribution:
        """The distribution of the next value."""


class CategoricalHead(AbstractHead):
    """Logits, linear in the features."""

    weight: Float[Array, "D n"]
    bias: Float[Array, " n"]

    def __call__(self, features: Float[Array, " D"]) -> Categorical:
        """The distribution of the next symbol."""
        return Categorical(logits=features @ self.weight + self.bias)


class NormalHead(AbstractHead):
    """A mixture of normals, one alone where there is one component, squashed into a box where there are bounds.

    Attributes:
        weight, bias: onto the weights of the components, their locations and their scales.
        mean, scale: of the values, as `normalise` found them; they are not learned.
        spec: what it predicts.
    """

    weight: Float[Array, "D size"]
    bias: Float[Array, " size"]
    mean: Float[Array, "..."]
    scale: Float[Array, "..."]
    spec: tuple[Any, ...] = eqx.field(static=True)

    def __call__(self, features: Float[Array, " D"]) -> AbstractDistribution:
        """The distribution of the next value."""
        spec = thaw(self.spec)
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        k = spec["num_components"]
        x = features @ self.weight + self.bias
        loc, raw = jnp.reshape(x[k:], (2, k, *spec["shape"]))
        loc, raw = mean[None] + scale[None] * loc, scale[None] * (jax.nn.softplus(raw) + MIN_SCALE)
        if k == 1:
            return self._in_its_box(Normal(loc[0], raw[0]))
        return Mixture(jax.nn.log_softmax(x[:k]), self._in_its_box(Normal(loc, raw)))

    def _in_its_box(self, distribution: Normal) -> AbstractDistribution:
        spec = thaw(self.spec)
        return Squashed(distribution, spec["low"], spec["high"]) if spec["kind"] == "squashed" else distribution


class GivenHead(AbstractHead):
    """Of what is handed over nothing is predicted."""

    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, features: Float[Array, " D"]) -> Given:
        """A value in its place, worth nothing."""
        del features
        return Given(jnp.zeros(self.shape))


class NeuralConditionals(AbstractConditionals):
    """One hidden layer that takes in symbol after symbol: a neural autoregressive distribution estimator.

    P(x_i | x_1, ..., x_(i-1)) = softmax(b_i + V_i silu(h + sum_(j<i) W_j[x_j]))
    """

    hidden: Float[Array, "... D"]
    tables: Float[Array, "... L n D"]
    weight: Float[Array, "... L D n"]
    bias: Float[Array, "... L n"]

    @property
    def length(self) -> int:
        """L."""
        return self.bias.shape[-2]

    @property
    def num_categories(self) -> int:
        """N."""
        return self.bias.shape[-1]

    def next(self, prefix: Int[Array, " i"]) -> Float[Array, " n"]:
        """Logits of the symbol after `prefix`."""
        i = len(prefix)
        hidden = self.hidden + self.tables[jnp.arange(i), prefix].sum(0)
        return jax.nn.silu(hidden) @ self.weight[i] + self.bias[i]


class AutoregressiveHead(AbstractHead):
    """The joint distribution of a block, symbol by symbol; the features are where its hidden layer begins."""

    hidden: Float[Array, "D D"]
    tables: Float[Array, "L n D"]
    weight: Float[Array, "L D n"]
    bias: Float[Array, "L n"]

    def __call__(self, features: Float[Array, " D"]) -> Autoregressive:
        """The distribution of the next block."""
        return Autoregressive(NeuralConditionals(features @ self.hidden, self.tables, self.weight, self.bias))


class JointHead(AbstractHead):
    """A head for each part of a PyTree."""

    parts: dict[str, AbstractHead]

    def __call__(self, features: Float[Array, " D"]) -> Joint:
        """The parts' distributions, independent given the features."""
        return Joint({name: head(features) for name, head in self.parts.items()})


def make_head(spec: dict[str, Any], width: int, *, key: Key[Array, ""]) -> AbstractHead:
    """A head for values described by `spec`, from `width` features."""

    def uniform(*shape: int) -> Array:
        limit = math.sqrt(1 / width)
        return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

    match spec["kind"]:
        case "categorical":
            n = spec["num_categories"]
            return CategoricalHead(uniform(width, n), jnp.zeros(n))
        case "normal" | "squashed":
            shape, k = tuple(spec["shape"]), spec["num_components"]
            size = k * math.prod(shape)
            # The components begin side by side.
            loc = jnp.repeat(jnp.linspace(-1.0, 1.0, k) if k > 1 else jnp.zeros(1), math.prod(shape))
            bias = jnp.concatenate([jnp.zeros(k), loc, jnp.zeros(size)])
            return NormalHead(uniform(width, k + 2 * size), bias, jnp.zeros(shape), jnp.ones(shape), freeze(spec))
        case "autoregressive":
            length, n = spec["length"], spec["num_categories"]
            key_hidden, key_tables, key_weight = jax.random.split(key, 3)
            limit = math.sqrt(1 / width)
            return AutoregressiveHead(
                jax.random.uniform(key_hidden, (width, width), minval=-limit, maxval=limit),
                jax.random.uniform(key_tables, (length, n, width), minval=-1.0),
                jax.random.uniform(key_weight, (length, width, n), minval=-limit, maxval=limit),
                jnp.zeros((length, n)),
            )
        case "given":
            return GivenHead(tuple(spec["shape"]))
        case "joint":
            keys = jax.random.split(key, len(spec["parts"]))
            parts = zip(spec["parts"].items(), keys, strict=True)
            return JointHead({name: make_head(part, width, key=k) for (name, part), k in parts})
    raise ValueError(f"unknown kind of distribution {spec['kind']!r}.")


def freeze(spec: Any) -> Any:
    """A description as nested tuples, so that it can be a static field."""
    if isinstance(spec, dict):
        return ("dict", *((name, freeze(value)) for name, value in spec.items()))
    return ("list", *map(freeze, spec)) if isinstance(spec, list) else spec


def thaw(spec: Any) -> Any:
    """What `freeze` froze."""
    if not isinstance(spec, tuple):
        return spec
    kind, *rest = spec
    return {name: thaw(value) for name, value in rest} if kind == "dict" else [thaw(value) for value in rest]
