"""How a network reads a symbol: from a value of any kind to a vector (Section 4.1)."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree


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


class BlockReader(AbstractReader):
    """The sum over a block of symbols, of the row that each has in its place's table."""

    tables: Float[Array, "L n D"]

    def __call__(self, x: PyTree) -> Float[Array, " D"]:
        """The sum of the rows."""
        return self.tables[jnp.arange(len(self.tables)), x].sum(0)


class LinearReader(AbstractReader):
    """A linear map of the flattened value, in units of its usual size.

    Attributes:
        weight: what is learned.
        mean, scale: of the values, as `normalise` found them; they are not learned.
    """

    weight: Float[Array, "size D"]
    mean: Float[Array, " size"]
    scale: Float[Array, " size"]

    def __call__(self, x: PyTree) -> Float[Array, " D"]:
        """`(x - mean) / scale @ weight`."""
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        return (jnp.ravel(x) - mean) / scale @ self.weight


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
        case "autoregressive":
            return BlockReader(uniform((spec["length"], spec["num_categories"], width)))
        case "normal" | "squashed" | "given":
            size = math.prod(spec["shape"])
            return LinearReader(uniform((size, width)), jnp.zeros(size), jnp.ones(size))
        case "joint":
            keys = jax.random.split(key, len(spec["parts"]))
            parts = zip(spec["parts"].items(), keys, strict=True)
            return JointReader({name: make_reader(part, width, scale=scale, key=k) for (name, part), k in parts})
    raise ValueError(f"unknown kind of symbol {spec['kind']!r}.")
