"""How a network reads a symbol and predicts one, for every kind of law that a process may have."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from undelude.distributions import AbstractDistribution, Categorical, Given, Joint, Mixture, Normal

# A teacher may be almost deterministic; a floor under the scale keeps the loss finite.
MIN_SCALE = 1e-3


def describe(law: AbstractDistribution) -> dict[str, Any]:
    """The kind of a law, in JSON: all that a reader or a predictor of its values has to know.

    Raises:
        TypeError: networks have no head for such a law.
    """
    match law:
        case Categorical():
            return {"kind": "categorical", "num_categories": law.num_categories}
        case Normal():
            return {"kind": "normal", "shape": list(law.loc.shape)}
        case Given():
            if not hasattr(law.value, "shape"):
                raise TypeError("a given part must be one array; make it several parts of the Joint.")
            return {"kind": "given", "shape": list(law.value.shape)}
        case Joint(parts=dict()):
            return {"kind": "joint", "parts": {name: describe(part) for name, part in sorted(law.parts.items())}}
        case Mixture():
            return describe(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), law.components))
    raise TypeError(
        f"networks have no head for {type(law).__name__}; "
        "use Categorical, Normal, Given, or a Joint of a dictionary of them."
    )


class AbstractReader(eqx.Module):
    """From a value to a vector of a given width, linearly: what a symbol adds to the input of a cell."""

    @abc.abstractmethod
    def __call__(self, x: PyTree) -> Float[Array, " D"]:
        """Read one value."""


class TableReader(AbstractReader):
    """A symbol's row of a table: an embedding and its linear layer in one."""

    table: Float[Array, "n D"]

    def __call__(self, x: PyTree) -> Float[Array, " D"]:
        """The row of symbol `x`."""
        return self.table[x]


class LinearReader(AbstractReader):
    """A linear map of the flattened value."""

    weight: Float[Array, "size D"]

    def __call__(self, x: PyTree) -> Float[Array, " D"]:
        """`x @ weight`."""
        return jnp.ravel(x) @ self.weight


class JointReader(AbstractReader):
    """The sum over the parts of a PyTree."""

    parts: dict[str, AbstractReader]

    def __call__(self, x: PyTree) -> Float[Array, " D"]:
        """The sum of the parts' vectors."""
        return sum((read(x[name]) for name, read in self.parts.items()), jnp.zeros(()))


def make_reader(spec: dict[str, Any], width: int, *, scale: float, key: Key[Array, ""]) -> AbstractReader:
    """A reader for values described by `spec`, its weights uniform within `scale`."""

    def uniform(shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, minval=-scale, maxval=scale)

    match spec["kind"]:
        case "categorical":
            return TableReader(uniform((spec["num_categories"], width)))
        case "normal" | "given":
            return LinearReader(uniform((math.prod(spec["shape"]), width)))
        case "joint":
            keys = jax.random.split(key, len(spec["parts"]))
            parts = zip(spec["parts"].items(), keys, strict=True)
            return JointReader({name: make_reader(part, width, scale=scale, key=k) for (name, part), k in parts})
    raise ValueError(f"unknown kind of symbol {spec['kind']!r}.")


class Head(eqx.Module):
    """From features to a law: one linear layer onto the parameters of the law described by `spec`."""

    weight: Float[Array, "D size"]
    bias: Float[Array, " size"]
    spec: tuple[Any, ...] = eqx.field(static=True)

    def __init__(self, spec: dict[str, Any], width: int, *, key: Key[Array, ""]):
        limit = math.sqrt(1 / width)
        size = _num_parameters(spec)
        self.weight = jax.random.uniform(key, (width, size), minval=-limit, maxval=limit)
        self.bias = jnp.zeros(size)
        self.spec = freeze(spec)

    def __call__(self, features: Float[Array, " D"]) -> AbstractDistribution:
        """The law of the next value."""
        return _law(thaw(self.spec), features @ self.weight + self.bias)


def _num_parameters(spec: dict[str, Any]) -> int:
    match spec["kind"]:
        case "categorical":
            return spec["num_categories"]
        case "normal":
            return 2 * math.prod(spec["shape"])
        case "joint":
            return sum(_num_parameters(part) for part in spec["parts"].values())
    return 0


def _law(spec: dict[str, Any], x: Float[Array, " size"]) -> AbstractDistribution:
    match spec["kind"]:
        case "categorical":
            return Categorical(logits=x)
        case "normal":
            loc, raw = jnp.reshape(x, (2, *spec["shape"]))
            return Normal(loc, jax.nn.softplus(raw) + MIN_SCALE)
        case "joint":
            parts, start = {}, 0
            for name, part in spec["parts"].items():
                size = _num_parameters(part)
                parts[name] = _law(part, x[start : start + size])
                start += size
            return Joint(parts)
    return Given(jnp.zeros(spec["shape"]))


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
