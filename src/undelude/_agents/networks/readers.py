"""Readers: how a network reads a symbol, from a value of any spec to a vector (Section 4.1)."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from undelude._distributions import Block, GivenArray, Parts, Reals, Spec, Symbols
from undelude._types import Value


class AbstractReader(eqx.Module):
    """A linear map from a value to a vector, which is the input of a network."""

    @abc.abstractmethod
    def __call__(self, x: Value) -> Float[Array, " D"]:
        """Return the vector of one value."""


class TableReader(AbstractReader):
    """An embedding table with one row for each symbol."""

    table: Float[Array, "n D"]

    def __call__(self, x: Int[Array, ""]) -> Float[Array, " D"]:
        """Return the row of symbol `x`."""
        # Not `table[x]`, of which jax2onnx makes a wrong model under vmap.
        return jnp.take(self.table, x, axis=0, mode="clip")


class BlockReader(AbstractReader):
    """An embedding table for each place of a block."""

    tables: Float[Array, "L n D"]

    def __call__(self, x: Int[Array, " L"]) -> Float[Array, " D"]:
        """Return the sum over the symbols of the block, each from the table of its place."""
        return self.tables[jnp.arange(len(self.tables)), x].sum(0)


class LinearReader(AbstractReader):
    """A linear map of the flattened and standardised value.

    Attributes:
        weight: learned.
        mean, scale: of the values, as set by `normalise`; not learned.
    """

    weight: Float[Array, "size D"]
    mean: Float[Array, " size"]
    scale: Float[Array, " size"]

    def __call__(self, x: Array) -> Float[Array, " D"]:
        """Return `(x - mean) / scale @ weight`."""
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        return (jnp.ravel(x) - mean) / scale @ self.weight


class JointReader(AbstractReader):
    """A reader for each part of a dictionary."""

    parts: dict[str, AbstractReader]

    def __call__(self, x: dict[str, Value]) -> Float[Array, " D"]:
        """Return the sum of the parts' vectors."""
        return sum((read(x[name]) for name, read in self.parts.items()), jnp.zeros(()))


def make_reader(spec: Spec, width: int, *, scale: float, key: Key[Array, ""]) -> AbstractReader:
    """Return a reader for values of `spec`, with weights uniform in `[-scale, scale]`.

    Raises:
        TypeError: networks cannot read such values.
    """

    def uniform(*shape: int) -> Array:
        return jax.random.uniform(key, shape, minval=-scale, maxval=scale)

    match spec:
        case Symbols(n=int(n)):
            return TableReader(uniform(n, width))
        case Block():
            return BlockReader(uniform(spec.length, spec.n, width))
        case Reals() | GivenArray():
            size = math.prod(spec.shape)
            return LinearReader(uniform(size, width), jnp.zeros(size), jnp.ones(size))
        case Parts(named=dict() as parts):
            keys = jax.random.split(key, len(parts))
            named = zip(parts.items(), keys, strict=True)
            return JointReader({name: make_reader(part, width, scale=scale, key=k) for (name, part), k in named})
    raise unsupported(spec)


def unsupported(spec: Spec) -> TypeError:
    """Return the error for values that networks can neither read nor predict."""
    return TypeError(
        f"networks have no head for {spec}; use symbols, blocks, numbers, given arrays, or a dictionary of them."
    )
