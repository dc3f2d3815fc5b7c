"""The values that a distribution ranges over: symbols, blocks of them, reals, given arrays, and parts.

A `Spec` is computed once for the actions and once for the observations of a process. Heads, readers, checks and agent
files read it, so that no other place asks which class a distribution is of.
"""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from undelude._distributions.distributions import (
    AbstractDistribution,
    Autoregressive,
    Categorical,
    Given,
    Joint,
    Mixture,
    Squashed,
    finite_support,
    is_distribution,
    log_probs_of,
)
from undelude._tree import index, is_concrete


class Spec(abc.ABC):
    """The set of values of an action, an observation, or a part of one; hashable, so that it can be a static field."""

    @property
    @abc.abstractmethod
    def value(self) -> PyTree:
        """Shape and dtype of one value."""

    @abc.abstractmethod
    def agrees(self, other: "Spec") -> bool:
        """Return whether a distribution over `other` can predict values of this spec."""

    def check(self, name: str, values: PyTree) -> None:
        """Raise `ValueError` if any of the `values`, with any leading axes, is outside the set.

        Values that JAX is tracing are not looked at.
        """
        del name, values


@dataclasses.dataclass(frozen=True)
class Symbols(Spec):
    """The integers `0 .. n-1`; `n` is None if a distribution of the user's own does not say how many there are."""

    n: int | None

    @property
    def value(self) -> jax.ShapeDtypeStruct:
        """One integer."""
        return jax.ShapeDtypeStruct((), jnp.int32)

    def agrees(self, other: Spec) -> bool:
        """Return whether both have equally many symbols, as far as that is known."""
        return isinstance(other, Symbols) and (self.n == other.n or self.n is None or other.n is None)

    def check(self, name: str, values: PyTree) -> None:
        """Raise `ValueError` if `values` are not integers from 0 to n - 1."""
        if self.n is None or not is_concrete(values):
            return
        values = np.asarray(values)
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} must be integers from 0 to {self.n - 1}, not {values.dtype}.")
        if values.size and (values.min() < 0 or values.max() >= self.n):
            raise ValueError(
                f"{name} must be integers from 0 to {self.n - 1}, not from {values.min()} to {values.max()}."
            )

    def __str__(self) -> str:
        return "symbols" if self.n is None else f"{self.n} symbols"


@dataclasses.dataclass(frozen=True)
class Block(Spec):
    """Sequences of `length` symbols, each one of `n`: an action or observation that is several symbols at once."""

    length: int
    n: int

    @property
    def value(self) -> jax.ShapeDtypeStruct:
        """`[length]` integers."""
        return jax.ShapeDtypeStruct((self.length,), jnp.int32)

    def agrees(self, other: Spec) -> bool:
        """Return whether both have the same length and alphabet."""
        return self == other

    def check(self, name: str, values: PyTree) -> None:
        """Raise `ValueError` if the symbols are not integers from 0 to n - 1."""
        Symbols(self.n).check(name, values)

    def __str__(self) -> str:
        return f"blocks of {self.length}, each symbol one of {self.n}"


@dataclasses.dataclass(frozen=True)
class Reals(Spec):
    """Arrays of real numbers, inside a box if `low` and `high` are given.

    Attributes:
        shape: of the array; () for one number.
        low, high: bounds of every component, or None.
        dtype: of the numbers; None for JAX's default float.
    """

    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    dtype: str | None = None

    @property
    def value(self) -> jax.ShapeDtypeStruct:
        """An array of `shape`."""
        return jax.ShapeDtypeStruct(self.shape, jnp.zeros((), self.dtype or float).dtype)

    def agrees(self, other: Spec) -> bool:
        """Return whether the shapes are equal: a density on the line may predict values in a box."""
        return isinstance(other, Reals) and self.shape == other.shape

    def __str__(self) -> str:
        return f"numbers {list(self.shape)}" if self.shape else "a number"


@dataclasses.dataclass(frozen=True)
class GivenArray(Spec):
    """An array that is handed over and not predicted; see the distribution `Given`."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def value(self) -> jax.ShapeDtypeStruct:
        """An array of `shape`."""
        return jax.ShapeDtypeStruct(self.shape, jnp.dtype(self.dtype))

    def agrees(self, other: Spec) -> bool:
        """Return whether the other is given too and has the same shape."""
        return isinstance(other, GivenArray) and self.shape == other.shape

    def __str__(self) -> str:
        return f"given numbers {list(self.shape)}" if self.shape else "a given number"


@dataclasses.dataclass(frozen=True)
class Parts(Spec):
    """A PyTree of values, each with a spec of its own.

    Attributes:
        leaves: the specs of the parts, in the order of the PyTree.
        structure: of the PyTree.
    """

    leaves: tuple[Spec, ...]
    structure: Any  # a PyTreeDef

    @property
    def tree(self) -> PyTree:
        """The PyTree of specs."""
        return self.structure.unflatten(self.leaves)

    @property
    def value(self) -> PyTree:
        """A PyTree of the parts' values."""
        return self.structure.unflatten(leaf.value for leaf in self.leaves)

    def agrees(self, other: Spec) -> bool:
        """Return whether the structures are equal and each part agrees."""
        return (
            isinstance(other, Parts)
            and self.structure == other.structure
            and all(a.agrees(b) for a, b in zip(self.leaves, other.leaves, strict=True))
        )

    def check(self, name: str, values: PyTree) -> None:
        """Check each part."""
        for i, (leaf, value) in enumerate(zip(self.leaves, self.structure.flatten_up_to(values), strict=True)):
            leaf.check(f"{name}, part {i},", value)

    def __str__(self) -> str:
        return str(jtu.tree_map(str, self.tree))


def spec_of(distribution: AbstractDistribution) -> Spec:
    """Return the values that `distribution` ranges over; its arrays may be shapes alone (`jax.eval_shape`)."""
    match distribution:
        case Categorical():
            return Symbols(distribution.num_categories)
        case Autoregressive():
            return Block(distribution.conditionals.length, distribution.conditionals.num_categories)
        case Mixture():
            return spec_of(eqx.filter_eval_shape(index, distribution.components, 0))
        case Given():
            return _parts(jtu.tree_map(lambda x: GivenArray(jnp.shape(x), str(jnp.result_type(x))), distribution.value))
        case Joint():
            return _parts(jtu.tree_map(spec_of, distribution.parts, is_leaf=is_distribution))
        case Squashed():
            shape = _shape_of_a_sample(distribution).shape
            return Reals(shape, distribution.low, distribution.high)
    return _parts(jtu.tree_map(_spec_of_array, _shape_of_a_sample(distribution)))


def num_symbols(spec: Spec) -> int:
    """Return how many symbols there are.

    Raises:
        TypeError: the values are not symbols, or their number is not known.
    """
    if not isinstance(spec, Symbols) or spec.n is None:
        raise TypeError(f"this needs finitely many symbols, not {spec}.")
    return spec.n


def _parts(tree: Any) -> Spec:
    leaves, structure = jtu.tree_flatten(tree)
    return tree if isinstance(tree, Spec) else Parts(tuple(leaves), structure)


def _shape_of_a_sample(distribution: AbstractDistribution) -> Any:
    return eqx.filter_eval_shape(lambda distribution: distribution.sample(jax.random.key(0)), distribution)


def _spec_of_array(x: jax.ShapeDtypeStruct) -> Spec:
    if jnp.issubdtype(x.dtype, jnp.integer) and not x.shape:
        return Symbols(None)
    is_default = x.dtype == jnp.zeros((), float).dtype
    return Reals(x.shape, dtype=None if is_default else str(x.dtype))


def excess_mass(distribution: AbstractDistribution) -> Float[Array, ""]:
    """Return by how much the probabilities of all symbols miss a sum of one; zero for densities."""
    match distribution:
        case Categorical():
            return jnp.abs(distribution.probs.sum(-1) - 1)
        case Joint():
            return jnp.stack([jnp.zeros(()), *(excess_mass(part) for part in distribution.distributions)]).max()
        case Mixture():
            each = jax.vmap(excess_mass)(distribution.components)
            return jnp.maximum(jnp.abs(jnp.exp(distribution.log_weights).sum() - 1), each.max())
        case Autoregressive() if (blocks := finite_support(distribution)) is not None:
            return jnp.abs(jnp.exp(log_probs_of(distribution, blocks)).sum() - 1)
    return jnp.zeros(())
