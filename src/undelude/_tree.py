"""PyTrees: entries and axes, shapes and types, and which values are known while JAX traces."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree


def outline(tree: Any) -> tuple:
    """A PyTree with shapes in place of its arrays, as what can be hashed: a key for what depends on nothing else.

    Types of what is no array belong to it, for 1 == 1.0.
    """
    arrays, static = eqx.partition(tree, eqx.is_array)
    leaves, treedef = jax.tree.flatten(arrays)
    static_leaves, static_treedef = jax.tree.flatten(static)
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
    return shapes, treedef, tuple(static_leaves), static_treedef, tuple(map(type, static_leaves))


def filled(outline: tuple, leaves: Sequence[Any]) -> Any:
    """The PyTree of an outline, with `leaves` for its arrays."""
    _, treedef, static_leaves, static_treedef, _ = outline
    return eqx.combine(treedef.unflatten(leaves), static_treedef.unflatten(static_leaves))


def signature(tree: Any) -> str:
    """The shapes and types of a PyTree's arrays."""
    leaves, structure = jax.tree.flatten(tree)
    shapes = [f"{jnp.result_type(x)}{list(jnp.shape(x))}" for x in leaves]
    return str(jax.tree.unflatten(structure, shapes)) if leaves else "nothing"


def is_concrete(*arrays: Any) -> bool:
    """Whether the values can be looked at now: nothing can be checked under `jit` and `vmap`."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays))


def append(rest: PyTree, last: PyTree) -> PyTree:
    """`rest` with `last` after it on the leading axis."""
    return jax.tree.map(lambda xs, x: jax.numpy.concatenate([xs, x[None]]), rest, last)


def prepend(first: PyTree | None, rest: PyTree) -> PyTree:
    """`rest` with `first` before it on the leading axis; `rest` itself where there is no first."""
    if first is None:
        return rest
    return jax.tree.map(lambda x, xs: jax.numpy.concatenate([x[None], xs]), first, rest)


def index(batch: PyTree, i: Any) -> Any:
    """Entry `i` of the leading axis of every array of a PyTree."""
    return jax.tree.map(lambda x: x[i], batch)


def where(condition: Bool[Array, ""], yes: PyTree, no: PyTree) -> PyTree:
    """Return `yes` if `condition` holds and `no` otherwise, array by array; other leaves come from `yes`."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y) if eqx.is_array_like(x) else x, yes, no)
