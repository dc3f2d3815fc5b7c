"""PyTrees: their outlines, signatures and programs, entries along the leading axis, and which values are concrete."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Bool

from undelude._compiled import Outside, read_outside

T = TypeVar("T")
R = TypeVar("R")
# Raised by JAX when Python asks for the value of a traced array.
TRACED_VALUE_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
)


@runtime_checkable
class Structure(Protocol):
    """The methods of JAX's `PyTreeDef`, a class that type checkers do not know."""

    def unflatten(self, leaves: Iterable[Any], /) -> Any:
        """Return the PyTree with these leaves."""
        ...

    def flatten_up_to(self, xs: Any, /) -> list[Any]:
        """Return the subtrees of `xs` in the places of the leaves."""
        ...


class Outline(NamedTuple):
    """A PyTree with shapes in place of its arrays, hashable: a cache key for results that depend on shapes alone.

    The key includes what the user's code in the PyTree reads from outside.
    """

    shapes: tuple[jax.ShapeDtypeStruct, ...]
    structure: Structure
    static_leaves: tuple[Any, ...]
    static_structure: Structure
    # Part of the key, as 1 == 1.0.
    static_types: tuple[type, ...]
    outside: Outside


def outline(tree: Any) -> Outline:
    """Return the outline of a PyTree."""
    arrays, static = eqx.partition(tree, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    static_leaves, static_structure = jax.tree.flatten(static)
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
    return Outline(
        shapes, structure, tuple(static_leaves), static_structure, tuple(map(type, static_leaves)), read_outside(tree)
    )


def filled(outline: Outline, leaves: Sequence[Any]) -> Any:
    """Return the PyTree of an outline, with `leaves` in place of its arrays."""
    arrays = outline.structure.unflatten(leaves)
    return eqx.combine(arrays, outline.static_structure.unflatten(outline.static_leaves))


def signature(tree: Any) -> str:
    """Return the shapes and types of a PyTree's arrays, for messages."""
    leaves, structure = jax.tree.flatten(tree)
    shapes = [f"{jnp.result_type(x)}{list(jnp.shape(x))}" for x in leaves]
    return str(jax.tree.unflatten(structure, shapes)) if leaves else "nothing"


def is_concrete(*arrays: Any) -> bool:
    """Return whether the values are known now, and not traced by `jit` or `vmap`: only then can they be checked."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays))


def append(rest: T, last: T) -> T:
    """Return `rest` followed by `last` along the leading axis."""
    return jax.tree.map(lambda xs, x: jnp.concatenate([xs, x[None]]), rest, last)


def prepend(first: T | None, rest: T) -> T:
    """Return `first` followed by `rest` along the leading axis; `rest` if there is no first."""
    if first is None:
        return rest
    return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, rest)


def index(batch: T, i: int | Array) -> T:
    """Return entry `i` of every array of a PyTree along the leading axis."""
    return jax.tree.map(lambda x: x[i], batch)


def where(condition: Bool[Array, ""], yes: T, no: T) -> T:
    """Return `yes` if `condition` holds and `no` otherwise, array by array; other leaves come from `yes`."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y) if eqx.is_array_like(x) else x, yes, no)


class Bound(Generic[R]):
    """`f(tree, ...)`, compiled once for all PyTrees of one outline; only arrays may be the other arguments.

    For a loop in Python whose calls are short: a call takes microseconds more than the program. It can be pickled.
    """

    def __init__(self, f: Callable[..., R], tree: Any):
        key = outline(tree)
        self._arguments = f, tree
        self._leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
        self.program = _compile(f, key)

    def __call__(self, *args: Any) -> R:
        """Return `f(tree, *args)`."""
        return self.program(self._leaves, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        """Compile again where it is unpickled."""
        return Bound, self._arguments


@functools.lru_cache(maxsize=256)
def _compile(f: Callable[..., R], key: Outline) -> Any:
    return jax.jit(lambda leaves, *args: f(filled(key, leaves), *args))
