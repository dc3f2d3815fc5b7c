"""Operations of JAX that jax2onnx or ONNX Runtime gets wrong, or does not know, by others that they know.

A gather that keeps the axes it indexes, as `vmap` makes it of `table[theta, a]`, becomes a model of another shape:
`matrix[rows]` takes its place. `stack` has no conversion: a concatenation takes its place. ONNX Runtime has no choice
between truth values: `and` and `or` take its place.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.lax import GatherScatterMode
from jaxtyping import Array, Int

# Operations that run a program once; their derivatives are of no use here.
CALLS = "jit", "pjit", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"
# Of a gather: where an index lies beyond an axis, the nearest entry is taken, or none does.
CLIPPED = GatherScatterMode.CLIP, GatherScatterMode.PROMISE_IN_BOUNDS


def convertible(traced: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """Return the program with such operations replaced, in loops too; the program itself if it has none."""
    if not any(_replacement(eqn) for eqn in _equations(traced.jaxpr)):
        return traced
    return jax.make_jaxpr(_interpreted(traced))(*traced.in_avals)


def _interpreted(traced: core.ClosedJaxpr) -> Callable[..., list]:
    """Return a function that runs the program, and those that it calls, operation by operation."""

    def run(*arguments: Any) -> list:
        jaxpr = traced.jaxpr
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*traced.consts, *arguments], strict=True))

        def value(x: Any) -> Any:
            return x.val if isinstance(x, core.Literal) else known[x]

        for eqn in jaxpr.eqns:
            inputs = [value(x) for x in eqn.invars]
            if (replacement := _replacement(eqn)) is not None:
                outputs = [replacement(*inputs, **eqn.params)]
            elif (called := _called(eqn)) is not None:
                outputs = _interpreted(called)(*inputs)
            else:
                outputs = eqn.primitive.bind(*inputs, **_with_programs(eqn, convertible))
                outputs = outputs if eqn.primitive.multiple_results else [outputs]
            known.update(zip(eqn.outvars, outputs, strict=True))
        return [value(x) for x in jaxpr.outvars]

    return run


def _equations(jaxpr: Any) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        yield eqn
        programs: list[core.ClosedJaxpr] = []
        _with_programs(eqn, programs.append)
        for program in programs:
            yield from _equations(program.jaxpr)


def _called(eqn: Any) -> core.ClosedJaxpr | None:
    """Return the program that a call runs; None for another operation."""
    if eqn.primitive.name not in CALLS:
        return None
    return next(x for x in eqn.params.values() if isinstance(x, core.ClosedJaxpr))


def _with_programs(eqn: Any, f: Callable[[core.ClosedJaxpr], Any]) -> dict[str, Any]:
    """Return the parameters of an operation with `f` of each program among them, as loops and branches have them."""

    def of(x: Any) -> Any:
        if isinstance(x, core.ClosedJaxpr):
            return f(x)
        return tuple(map(of, x)) if type(x) is tuple else x

    return {name: of(x) for name, x in eqn.params.items()}


def _replacement(eqn: Any) -> Callable[..., Array] | None:
    """Return the function that takes the place of an operation; None if jax2onnx converts it."""
    match eqn.primitive.name:
        case "stack":
            return _stack
        case "gather":
            shape, sizes = eqn.invars[0].aval.shape, eqn.params["slice_sizes"]
            takes_one_or_all = all(size in (1, n) for size, n in zip(sizes, shape, strict=True))
            keeps_axes = not eqn.params["dimension_numbers"].collapsed_slice_dims
            return _rows if takes_one_or_all and keeps_axes and eqn.params["mode"] in CLIPPED else None
        case "select_n":
            which, *cases = (x.aval for x in eqn.invars)
            is_of_truth = which.dtype == bool and all(x.dtype == bool for x in cases)
            return _choice if is_of_truth and len(cases) == 2 else None
    return None


def _stack(*arrays: Array, axis: int) -> Array:
    return jax.lax.concatenate([jax.lax.expand_dims(x, (axis,)) for x in arrays], axis)


def _choice(which: Array, if_false: Array, if_true: Array) -> Array:
    return (which & if_true) | (~which & if_false)


def _rows(x: Array, starts: Int[Array, "*B n"], *, dimension_numbers: Any, slice_sizes: Any, **_: Any) -> Array:
    """Return what a gather returns that takes one entry or all of each axis, and keeps it; indices are clipped."""
    how, batch = dimension_numbers, starts.shape[:-1]
    # The index along each axis of which one entry is taken.
    index = {int(k): starts[..., i] for i, k in enumerate(how.start_index_map) if slice_sizes[k] < x.shape[k]}
    for axis, along in zip(how.operand_batching_dims, how.start_indices_batching_dims, strict=True):
        index[int(axis)] = jax.lax.broadcasted_iota(starts.dtype, batch, int(along))
    whole = [k for k in range(x.ndim) if k not in index]
    matrix = jnp.transpose(x, (*index, *whole)).reshape(math.prod(x.shape[k] for k in index), -1)
    row = jnp.zeros(batch, starts.dtype)
    for k, i in index.items():
        row = row * x.shape[k] + jnp.clip(i, 0, x.shape[k] - 1)
    kept = [size for k, size in enumerate(slice_sizes) if k not in how.operand_batching_dims]
    found = matrix.at[row.reshape(-1)].get(mode="promise_in_bounds").reshape(*batch, *kept)
    return jnp.moveaxis(found, range(len(batch), found.ndim), [int(k) for k in how.offset_dims])
