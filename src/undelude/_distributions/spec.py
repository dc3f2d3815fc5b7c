"""The values that a distribution ranges over: symbols, blocks of them, reals, given arrays, and parts.

A process computes one `Spec` for its actions and one for its observations. Heads, readers, checks and agent files read
it, so that no other module needs to ask for the class of a distribution.
"""

import abc
import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from undelude._checks import MAX_COUNT
from undelude._distributions.base import AbstractDistribution, is_distribution
from undelude._distributions.compound import Given, Joint, Mixture
from undelude._distributions.continuous import Squashed
from undelude._distributions.discrete import Autoregressive, Categorical
from undelude._tree import Structure, index, is_concrete
from undelude._types import Value

# How far outside a box a value may be, in units of the box, and still count as rounding.
ROUNDING = 1e-5


class Spec(abc.ABC):
    """The set of values of an action, an observation, or a part of one; hashable, so that it can be a static field."""

    @property
    @abc.abstractmethod
    def value(self) -> Value:
        """Shape and dtype of one value."""

    @property
    def num_parts(self) -> int:
        """The number of parts, counted through all levels; 1 if the value has none."""
        return 1

    @abc.abstractmethod
    def agrees(self, other: "Spec") -> bool:
        """Return whether a distribution over `other` can predict values of this spec."""

    def check(self, name: str, values: Value) -> None:
        """Raise `ValueError` if any of the `values`, with any leading axes, is outside the set.

        Traced values are not checked.
        """
        del name, values


@dataclasses.dataclass(frozen=True)
class Symbols(Spec):
    """The integers `0 .. n-1`.

    Attributes:
        n: the number of symbols; None if a distribution of the user's own class does not tell it.
    """

    n: int | None

    @property
    def value(self) -> jax.ShapeDtypeStruct:
        """One integer."""
        return jax.ShapeDtypeStruct((), jnp.int32)

    def agrees(self, other: Spec) -> bool:
        """Return whether both have equally many symbols; an unknown number agrees with any."""
        return isinstance(other, Symbols) and (self.n == other.n or self.n is None or other.n is None)

    def check(self, name: str, values: Value) -> None:
        """Raise `ValueError` if `values` are not integers from 0 to n - 1."""
        if self.n is None or not is_concrete(values):
            return
        values = np.asarray(values)
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} must be integers from 0 to {self.n - 1}, not {values.dtype}.")
        if values.size and (values.min() < 0 or values.max() >= self.n):
            raise ValueError(f"{name} must be integers from 0 to {self.n - 1}, not {_span(values)}.")

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

    def check(self, name: str, values: Value) -> None:
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
    def box(self) -> tuple[float, float] | None:
        """The bounds, if there are any."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def value(self) -> jax.ShapeDtypeStruct:
        """An array of `shape`."""
        return jax.ShapeDtypeStruct(self.shape, jnp.zeros((), self.dtype or float).dtype)

    def agrees(self, other: Spec) -> bool:
        """Return whether shapes and boxes are equal; a density on the line may predict values in a box."""
        return isinstance(other, Reals) and self.shape == other.shape and other.box in (None, self.box)

    def check(self, name: str, values: Value) -> None:
        """Raise `ValueError` if `values` are not finite, or outside the box by more than rounding."""
        if not is_concrete(values):
            return
        values = np.asarray(values)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite numbers.")
        if self.box is None or not values.size:
            return
        (low, high), least, most = self.box, values.min(), values.max()
        if least < low - ROUNDING * (high - low) or most > high + ROUNDING * (high - low):
            raise ValueError(f"{name} must be from {low} to {high}, not from {least} to {most}.")

    def __str__(self) -> str:
        box = "" if self.box is None else f" from {self.low} to {self.high}"
        return (f"numbers {list(self.shape)}" if self.shape else "a number") + box


@dataclasses.dataclass(frozen=True)
class GivenArray(Spec):
    """An array that is read and not predicted; see the distribution `Given`."""

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
    structure: Structure

    @staticmethod
    def of(tree: Any) -> Spec:
        """Return the spec of a PyTree of specs; a single spec is returned unchanged."""
        leaves, structure = jtu.tree_flatten(tree)
        return tree if isinstance(tree, Spec) else Parts(tuple(leaves), structure)

    @property
    def tree(self) -> Any:
        """The PyTree of specs."""
        return self.structure.unflatten(self.leaves)

    @property
    def names(self) -> list[str]:
        """What messages call the leaves: their keys or numbers."""
        paths = [path for path, _ in jtu.tree_leaves_with_path(self.tree)]
        return [jtu.keystr(path, simple=True, separator=".") for path in paths]

    @property
    def named(self) -> dict[str, Spec] | None:
        """The parts by name, sorted; None if the PyTree is not a flat dictionary whose keys are strings."""
        tree = self.tree
        if isinstance(tree, dict) and all(isinstance(x, str) and isinstance(tree[x], Spec) for x in tree):
            return dict(sorted(tree.items()))
        return None

    @property
    def value(self) -> Value:
        """A PyTree of the parts' values."""
        return self.structure.unflatten(leaf.value for leaf in self.leaves)

    @property
    def num_parts(self) -> int:
        """The sum over the parts."""
        return sum(leaf.num_parts for leaf in self.leaves)

    def agrees(self, other: Spec) -> bool:
        """Return whether the structures are equal and each part agrees."""
        return (
            isinstance(other, Parts)
            and self.structure == other.structure
            and all(a.agrees(b) for a, b in zip(self.leaves, other.leaves, strict=True))
        )

    def check(self, name: str, values: Value) -> None:
        """Check each part."""
        for part, leaf, value in zip(self.names, self.leaves, self.structure.flatten_up_to(values), strict=True):
            leaf.check(f"{name}, part {part},", value)

    def __str__(self) -> str:
        return str(jtu.tree_map(str, self.tree))


def spec_of(distribution: AbstractDistribution[Value]) -> Spec:
    """Return the values that `distribution` ranges over; its arrays may be shapes alone (`jax.eval_shape`).

    Raises:
        ValueError: a Categorical has a batch of rows; `jax.vmap` adds batches, not the distribution.
    """
    match distribution:
        case Categorical():
            if len(shape := distribution.log_probs.shape) != 1:
                raise ValueError(
                    f"a Categorical needs one row of probabilities, not an array of shape {list(shape)}: index the "
                    "row, as in probs[0], or remove axes of length one."
                )
            return Symbols(distribution.num_categories)
        case Autoregressive():
            return Block(distribution.conditionals.length, distribution.conditionals.num_categories)
        case Mixture():
            return spec_of(eqx.filter_eval_shape(index, distribution.components, 0))
        case Given():
            return Parts.of(
                jtu.tree_map(lambda x: GivenArray(jnp.shape(x), str(jnp.result_type(x))), distribution.value)
            )
        case Joint():
            return Parts.of(jtu.tree_map(spec_of, distribution.parts, is_leaf=is_distribution))
        case Squashed():
            shape = _shape_of_a_sample(distribution).shape
            return Reals(shape, distribution.low, distribution.high)
    return Parts.of(jtu.tree_map(_spec_of_array, _shape_of_a_sample(distribution)))


def _span(values: np.ndarray) -> str:
    """Return one integer, or the range of several, for messages."""
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"from {low} to {high}"


def num_symbols(spec: Spec) -> int:
    """Return the number of symbols.

    Raises:
        TypeError: the values are not symbols, or their number is not known.
    """
    if not isinstance(spec, Symbols) or spec.n is None:
        raise TypeError(f"this needs finitely many symbols, not {spec}.")
    return spec.n


def _shape_of_a_sample(distribution: AbstractDistribution[Value]) -> Any:
    return eqx.filter_eval_shape(lambda distribution: distribution.sample(jax.random.key(0)), distribution)


def _spec_of_array(x: jax.ShapeDtypeStruct) -> Spec:
    if jnp.issubdtype(x.dtype, jnp.integer) and not x.shape:
        return Symbols(None)
    is_default = x.dtype == jnp.zeros((), float).dtype
    return Reals(x.shape, dtype=None if is_default else str(x.dtype))


# JSON -----------------------------------------------------------------------------------------------------------------

# Dtypes that a file may name.
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64"),
)


def to_json(spec: Spec) -> dict[str, object]:
    """Return a spec as JSON, such as `{"kind": "symbols", "n": 5}`.

    Raises:
        TypeError: the spec has no JSON form: an unknown number of symbols, or parts without names.
    """
    match spec:
        case Symbols(n=int()):
            return {"kind": "symbols", "n": spec.n}
        case Block():
            return {"kind": "block", "length": spec.length, "n": spec.n}
        case Reals():
            bounds = {"low": spec.low, "high": spec.high}
            return {"kind": "reals", "shape": list(spec.shape), **bounds, "dtype": spec.dtype}
        case GivenArray():
            return {"kind": "given", "shape": list(spec.shape), "dtype": spec.dtype}
        case Parts(named=dict() as parts):
            return {"kind": "parts", "parts": {name: to_json(part) for name, part in parts.items()}}
    raise TypeError(f"{spec} cannot be written to a file; name the parts of a Joint: ud.Joint({{...}}).")


def from_json(data: object, name: str) -> Spec:
    """Return the spec that `to_json` wrote, checked strictly, without allocating arrays of the sizes that it states.

    Args:
        data: parsed JSON.
        name: of the entry, for messages.

    Raises:
        ValueError: `data` is not a spec; the message names the entry.
    """
    match data:
        case {"kind": "symbols", "n": n, **rest} if not rest:
            return Symbols(_size(n, f"{name}: n"))
        case {"kind": "block", "length": length, "n": n, **rest} if not rest:
            return Block(_size(length, f"{name}: length"), _size(n, f"{name}: n"))
        case {"kind": "reals", "shape": shape, "low": low, "high": high, "dtype": dtype, **rest} if not rest:
            return Reals(_shape(shape, name), *_bounds(low, high, name), None if dtype is None else _dtype(dtype, name))
        case {"kind": "given", "shape": shape, "dtype": dtype, **rest} if not rest:
            return GivenArray(_shape(shape, name), _dtype(dtype, name))
        case {"kind": "parts", "parts": dict() as parts, **rest} if parts and not rest:
            return Parts.of({part: from_json(x, f"{name:.99}: {part:.99}") for part, x in parts.items()})
    raise ValueError(
        f"{name} must have a kind and its entries: symbols (n), block (length, n), reals (shape, low, high, dtype), "
        f"given (shape, dtype) or parts (parts, at least one); not {data!r:.99}"
    )


def is_size(x: object) -> bool:
    """Return whether `x` is a whole number that can be the length of an axis."""
    return isinstance(x, int) and not isinstance(x, bool) and 1 <= x <= MAX_COUNT


def _size(x: object, name: str) -> int:
    if not (isinstance(x, int) and is_size(x)):
        raise ValueError(f"{name} must be a whole number from 1 to {MAX_COUNT}, not {x!r:.99}")
    return x


def _shape(x: object, name: str) -> tuple[int, ...]:
    if not (isinstance(x, list) and all(map(is_size, x)) and math.prod(x) <= MAX_COUNT):
        raise ValueError(f"{name}: shape must be a list of sizes with a product of at most {MAX_COUNT}, not {x!r:.99}")
    return tuple(x)


def _bounds(low: object, high: object, name: str) -> tuple[float, float] | tuple[None, None]:
    if low is None and high is None:
        return None, None
    low, high = _number(low, f"{name}: low"), _number(high, f"{name}: high")
    if not -1e30 <= low < high <= 1e30:
        raise ValueError(f"{name}: low must be less than high, both finite, not {low!r:.99} and {high!r:.99}")
    return low, high


def _number(x: object, name: str) -> float:
    if isinstance(x, bool) or not isinstance(x, int | float):
        raise ValueError(f"{name} must be a number, not {x!r:.99}")
    return x


def _dtype(x: object, name: str) -> str:
    if not (isinstance(x, str) and x in DTYPES):
        raise ValueError(f"{name}: dtype must be one of {', '.join(DTYPES)}, not {x!r:.99}")
    return x
