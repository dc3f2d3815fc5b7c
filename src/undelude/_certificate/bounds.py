"""Reads outside an array, which JAX answers with the nearest entry: `x[3]` of three entries is the last one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
from jaxtyping import Array, Bool, Int, PyTree

# Operations that call one program with their own operands, so that the reads in it can be watched.
CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}


class Read(NamedTuple):
    """One indexing operation.

    Attributes:
        is_outside: whether it reads outside the array.
        index: the largest index, or the least if that one is outside.
        length: of the axis; a number, or an array of it if `vmap` was applied.
    """

    is_outside: Bool[Array, "..."]
    index: Int[Array, "..."]
    length: Int[Array, "..."]


def watch(f: Callable[..., PyTree], *arguments: PyTree) -> tuple[PyTree, list[Read]]:
    """Return `f(*arguments)` and its reads by traced indices, except those in branches and loops of `jax.lax`.

    An index with a rule of its own, as in `jnp.take(x, i, mode="clip")`, does not count.
    """
    program, shape = jax.make_jaxpr(lambda *arguments: f(*arguments), return_shape=True)(*arguments)
    reads: list[Read] = []
    leaves = _run(program, jax.tree.leaves(arguments), reads)
    return jax.tree.unflatten(jax.tree.structure(shape), leaves), reads


def _run(program: ClosedJaxpr, arguments: list[Any], reads: list[Read]) -> list[Any]:
    jaxpr = program.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, program.consts, strict=True))
    values |= dict(zip(jaxpr.invars, arguments, strict=True))
    unclamped: dict[Any, Any] = {}

    def value_of(x: Any) -> Any:
        return x.val if isinstance(x, Literal) else values[x]

    for equation in jaxpr.eqns:
        operands = [value_of(x) for x in equation.invars]
        if equation.primitive.name == "clamp":
            unclamped[equation.outvars[0]] = operands[1]
        reads += _reads(equation, operands, unclamped)
        inner = [x for x in equation.params.values() if isinstance(x, ClosedJaxpr | Jaxpr)]
        if equation.primitive.name in CALLS and inner and len(_open(inner[0]).invars) == len(operands):
            results = _run(_closed(inner[0]), operands, reads)
        else:
            results = _apply(equation, jaxpr, operands)
        values.update(zip(equation.outvars, results, strict=True))
    return [value_of(x) for x in jaxpr.outvars]


def _apply(equation: JaxprEqn, jaxpr: Jaxpr, operands: list[Any]) -> list[Any]:
    """Return the results of one operation, as a program of its own."""
    pairs = zip(equation.invars, operands, strict=True)
    inputs = {variable: value for variable, value in pairs if not isinstance(variable, Literal)}
    single = jaxpr.replace(constvars=[], invars=[*inputs], outvars=equation.outvars, eqns=[equation])
    return jaxpr_as_fun(ClosedJaxpr(single, []))(*inputs.values())


def _reads(equation: JaxprEqn, operands: list[Any], unclamped: dict[Any, Any]) -> list[Read]:
    match equation.primitive.name:
        case "dynamic_slice":
            array, *starts = operands
            sizes = equation.params["slice_sizes"]
            return [_read(i, n, size) for i, n, size in zip(starts, array.shape, sizes, strict=False)]
        case "gather" if equation.params["mode"] == jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS:
            array, indices = operands
            sizes, axes = equation.params["slice_sizes"], equation.params["dimension_numbers"].start_index_map
            return [_read(indices[..., i], array.shape[axis], sizes[axis]) for i, axis in enumerate(axes)]
        case "cond" if equation.invars[0] in unclamped:  # `lax.switch` clamps its index.
            return [_read(unclamped[equation.invars[0]], len(equation.params["branches"]), 1)]
    return []


def _read(index: Array, length: int, size: int) -> Read:
    low, high = jnp.min(index).astype(int), jnp.max(index).astype(int)
    too_low = low < 0
    return Read(too_low | (high > length - size), jnp.where(too_low, low, high), jnp.asarray(length))


def _open(program: ClosedJaxpr | Jaxpr) -> Jaxpr:
    return program.jaxpr if isinstance(program, ClosedJaxpr) else program


def _closed(program: ClosedJaxpr | Jaxpr) -> ClosedJaxpr:
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, [])
