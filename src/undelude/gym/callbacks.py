"""`callback`: a simulator in Python inside a compiled task, one call at a time."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from undelude._checks import one_line

# Simulators keep global state, and JAX calls from a thread for each device: one call at a time in this process.
_LOCK = threading.RLock()


def callback(function: Callable[..., Any], result: PyTree) -> Callable[..., PyTree]:
    """Return `function` as a function that can be traced: a simulator in Python as a part of a compiled task.

    It is called by `jax.pure_callback`, for one episode at a time, with NumPy arrays. A lock lets in one call at a
    time: JAX calls from a thread for each device, and a simulator with one state for all calls would be spoiled.

    A task asks the same step more than once, and in any order: for each value of theta, and again for the exact
    answers. So the result must depend on the arguments alone. Keep the state of the simulator in the memory of the
    task, and set it before each step. Gradients do not pass; teaching needs none.

    Args:
        function: of arrays, such as `(state, action) -> next state`.
        result: an example of what it returns, an array or a PyTree of arrays: shapes and dtypes count.

    Raises:
        TypeError: `function` is not callable.
        ValueError: when it is called, it returned other shapes, or numbers that are not finite.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> add = callback(lambda x, y: x + y, np.zeros(2))
    >>> jax.jit(jax.vmap(add))(jnp.ones((3, 2)), jnp.arange(6.0).reshape(3, 2)).tolist()
    [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    """
    if not callable(function):
        raise TypeError(f"callback: function must be a function of arrays, not {one_line(repr(function))}.")
    shapes = jax.tree.map(_shape, result)

    def traced(*arguments: PyTree) -> PyTree:
        ranks = jax.tree.map(np.ndim, arguments)
        host = functools.partial(_call_each, function, shapes, ranks)
        return jax.pure_callback(host, shapes, *arguments, vmap_method="broadcast_all")

    return functools.wraps(function)(traced) if hasattr(function, "__name__") else traced


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    x = np.asarray(x)
    return jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype))


def _call_each(function: Callable[..., Any], shapes: PyTree, ranks: tuple, *arguments: PyTree) -> PyTree:
    """Return the results of a call for each entry of the leading axes, beyond the ranks of one call."""
    leaves, structure = jax.tree.flatten(arguments)
    leaves = [np.asarray(x) for x in leaves]
    rank = jax.tree.leaves(ranks)
    axes = leaves[0].shape[: leaves[0].ndim - rank[0]] if leaves else ()
    flat = [x.reshape(-1, *x.shape[len(axes) :]) for x in leaves]
    with _LOCK:
        rows = [
            _checked(function(*structure.unflatten([x[i].copy() for x in flat])), shapes)
            for i in range(int(np.prod(axes, dtype=int)))
        ]
    return jax.tree.map(lambda shape, *xs: np.stack(xs).reshape(*axes, *shape.shape), shapes, *rows)


def _checked(found: Any, shapes: PyTree) -> PyTree:
    """Return one result in the promised dtypes; raise if it has other shapes, or is not finite."""
    if jax.tree.structure(found) != jax.tree.structure(shapes):
        raise ValueError(f"callback: the function returned {one_line(repr(found))}, not the form of result={shapes}.")

    def check(shape: jax.ShapeDtypeStruct, x: Any) -> np.ndarray:
        x = np.asarray(x)
        if x.shape != shape.shape:
            raise ValueError(f"callback: the function returned shape {list(x.shape)}, not {list(shape.shape)}.")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise ValueError("callback: the function returned numbers that are not finite.")
        return x.astype(shape.dtype)

    return jax.tree.map(check, shapes, found)
