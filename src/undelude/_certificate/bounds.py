"""Reads and writes outside an array, which JAX answers without an error: `x[3]` of three entries is the last one."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun
from jax.extend.core import Literal as Constant
from jaxtyping import Array, Bool, Int, PyTree

# Operations that call one program with their own operands.
CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}
# Operations that run programs under a condition or repeatedly.
CONTROL = {"cond", "scan", "while"}
# Operations with indices that may be outside.
ACCESSES = {"dynamic_slice", "dynamic_update_slice", "gather", "cond"}
# Values in place of what an access outside gives: if neither changes the result, the result does not depend on it.
POISONS = (-100, 100)


class Access(eqx.Module):
    """One indexing operation, along one axis.

    Attributes:
        is_outside: whether it is outside the array.
        index: the largest index, or the least if that one is outside; of a slice, where it begins.
        length: of the axis.
        size: of the slice; 1 for an entry.
        kind: what is done at the index; a `branch` is chosen by `jax.lax.switch`.
    """

    is_outside: Bool[Array, "..."]
    index: Int[Array, "..."]
    length: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    kind: Literal["read", "write", "branch"] = eqx.field(static=True)


def watch(f: Callable[..., PyTree], *arguments: PyTree) -> list[Access]:
    """Return the accesses of `f(*arguments)` by traced indices, in an order that does not depend on the arguments.

    An index with a rule of its own, as in `jnp.take(x, i, mode="clip")`, does not count. Nor does `x[i]` inside a
    `jax.vmap` in `f`, of which JAX makes such an index.
    """
    watcher = _Watcher()
    watcher.run(jax.make_jaxpr(lambda *arguments: f(*arguments))(*arguments), jax.tree.leaves(arguments))
    return watcher.accesses


def matters(f: Callable[..., PyTree], *arguments: PyTree, number: int) -> Bool[Array, ""]:
    """Return whether `f(*arguments)` changes if access `number` of `watch`, which is outside, gives something else.

    It does not if `f` discards the value, as in `jnp.where(i < n, x[i], 0)`.
    """
    program, leaves = jax.make_jaxpr(lambda *arguments: f(*arguments))(*arguments), jax.tree.leaves(arguments)
    own = jaxpr_as_fun(program)(*leaves)
    poisoned = [_Watcher(number, poison).run(program, leaves) for poison in POISONS]
    changes = [_differ(x, y) for others in poisoned for x, y in zip(own, others, strict=True)]
    return jnp.stack(changes).any() if changes else jnp.zeros((), bool)


def _differ(x: Array, y: Array) -> Bool[Array, ""]:
    x, y = _plain(x), _plain(y)
    both_nan = (x != x) & (y != y)
    return ((x != y) & ~both_nan).any()


def _plain(x: Array) -> Array:
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


class _Watcher:
    """Runs a program and notes its accesses.

    Attributes:
        accesses: in the order in which they stand in the program; of a loop, the first round that is outside.
        number: of the access whose result is replaced by `poison` if it is outside; None if none is.
    """

    def __init__(self, number: int | None = None, poison: int = 0):
        self.accesses: list[Access] = []
        self.number, self.poison = number, poison

    def run(self, program: ClosedJaxpr, arguments: list[Any]) -> list[Any]:
        """Return the results of a program."""
        jaxpr = program.jaxpr
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, program.consts, strict=True))
        values |= dict(zip(jaxpr.invars, arguments, strict=True))
        unclamped: dict[Any, Any] = {}

        def value_of(x: Any) -> Any:
            return x.val if isinstance(x, Constant) else values[x]

        for equation in jaxpr.eqns:
            operands = [value_of(x) for x in equation.invars]
            if equation.primitive.name == "clamp":
                unclamped[equation.outvars[0]] = operands[1]
            results = self._apply(equation, jaxpr, operands)
            for access in _accesses(equation, operands, unclamped):
                results = self._note(access, results)
            values.update(zip(equation.outvars, results, strict=True))
        return [value_of(x) for x in jaxpr.outvars]

    def _note(self, access: Access, results: list[Any]) -> list[Any]:
        number = len(self.accesses)
        self.accesses.append(access)
        if number != self.number:
            return results
        return [jnp.where(access.is_outside, _poisoned(x, self.poison), x) for x in results]

    def _apply(self, equation: JaxprEqn, jaxpr: Jaxpr, operands: list[Any]) -> list[Any]:
        """Return the results of one operation."""
        name, inner = equation.primitive.name, [*_programs(equation)]
        if any(map(_has_accesses, inner)):
            if name in CONTROL:
                return getattr(self, f"_{name}")(equation, operands)
            if name in CALLS and len(inner[0].jaxpr.invars) == len(operands):
                return self.run(inner[0], operands)
        pairs = zip(equation.invars, operands, strict=True)
        inputs = {variable: value for variable, value in pairs if not isinstance(variable, Constant)}
        single = jaxpr.replace(constvars=[], invars=[*inputs], outvars=equation.outvars, eqns=[equation])
        return jaxpr_as_fun(ClosedJaxpr(single, []))(*inputs.values())

    def _inside(self, program: ClosedJaxpr, arguments: list[Any]) -> tuple[list[Any], list[Access]]:
        """Return the results of a program and its accesses, which keep their numbers if they are appended next."""
        before = len(self.accesses)
        results = self.run(program, arguments)
        accesses = self.accesses[before:]
        del self.accesses[before:]
        return results, accesses

    def _cond(self, equation: JaxprEqn, operands: list[Any]) -> list[Any]:
        chosen, *operands = operands
        branches = []
        for i, branch in enumerate(equation.params["branches"]):
            results, accesses = self._inside(branch, operands)
            self.accesses += [
                dataclasses.replace(x, is_outside=x.is_outside & (jnp.asarray(chosen, int) == i)) for x in accesses
            ]
            branches.append(results)
        return [jax.lax.select_n(jnp.asarray(chosen), *results) for results in zip(*branches, strict=True)]

    def _scan(self, equation: JaxprEqn, operands: list[Any]) -> list[Any]:
        given = equation.params
        num_consts, num_carry = given["num_consts"], given["num_carry"]
        consts, init = operands[:num_consts], operands[num_consts : num_consts + num_carry]

        def body(carry: list[Any], x: list[Any]) -> tuple[list[Any], tuple[list[Any], list[Access]]]:
            results, accesses = self._inside(given["jaxpr"], [*consts, *carry, *x])
            return results[:num_carry], (results[num_carry:], accesses)

        xs = operands[num_consts + num_carry :]
        carry, (ys, rounds) = jax.lax.scan(body, init, xs, length=given["length"], reverse=given["reverse"])
        if given["length"]:
            firsts = [jnp.argmax(x.is_outside) for x in rounds]
            self.accesses += [jax.tree.map(lambda x, i=i: x[i], x) for x, i in zip(rounds, firsts, strict=True)]
        return [*carry, *ys]

    def _while(self, equation: JaxprEqn, operands: list[Any]) -> list[Any]:
        given = equation.params
        num_cond, num_body = given["cond_nconsts"], given["body_nconsts"]
        cond_consts, consts = operands[:num_cond], operands[num_cond : num_cond + num_body]
        init = operands[num_cond + num_body :]

        def goes_on(carry: tuple[list[Any], list[Access]]) -> Array:
            return jaxpr_as_fun(given["cond_jaxpr"])(*cond_consts, *carry[0])[0]

        def body(carry: tuple[list[Any], list[Access]]) -> tuple[list[Any], list[Access]]:
            results, accesses = self._inside(given["body_jaxpr"], [*consts, *carry[0]])
            pairs = zip(carry[1], accesses, strict=True)
            kept = [jax.tree.map(lambda x, y, old=old: jnp.where(old.is_outside, x, y), old, new) for old, new in pairs]
            return results, kept

        _, shapes = jax.eval_shape(lambda: self._inside(given["body_jaxpr"], [*consts, *init]))
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        results, accesses = jax.lax.while_loop(goes_on, body, (init, none))
        self.accesses += accesses
        return results


def _accesses(equation: JaxprEqn, operands: list[Any], unclamped: dict[Any, Any]) -> Iterator[Access]:
    """Yield the accesses of one operation, one for each axis that is indexed."""
    name, given = equation.primitive.name, equation.params
    if name == "dynamic_slice":
        array, *starts = operands
        for i, n, size in zip(starts, array.shape, given["slice_sizes"], strict=False):
            yield _access(i, n, size, "read")
    elif name == "dynamic_update_slice":
        array, update, *starts = operands
        for i, n, size in zip(starts, array.shape, update.shape, strict=True):
            yield _access(i, n, size, "write")
    elif name == "gather" and given["mode"] == jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS:
        array, indices = operands
        for i, axis in enumerate(given["dimension_numbers"].start_index_map):
            yield _access(indices[..., i], array.shape[axis], given["slice_sizes"][axis], "read")
    elif name.startswith("scatter") and given["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP:
        array, indices, updates = operands
        numbers = given["dimension_numbers"]
        single = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
        windows = [axis for axis in range(array.ndim) if axis not in single]
        sizes = {axis: updates.shape[i] for axis, i in zip(windows, numbers.update_window_dims, strict=True)}
        for i, axis in enumerate(numbers.scatter_dims_to_operand_dims):
            yield _access(indices[..., i], array.shape[axis], sizes.get(axis, 1), "write")
    elif name == "cond" and equation.invars[0] in unclamped:  # `jax.lax.switch` clamps its index.
        yield _access(unclamped[equation.invars[0]], len(given["branches"]), 1, "branch")


def _access(index: Array, length: int, size: int, kind: Literal["read", "write", "branch"]) -> Access:
    # An empty list of indices is inside.
    low, high = (jnp.asarray(f(index, initial=0), int) for f in (jnp.min, jnp.max))
    too_low = low < 0
    is_outside = (too_low | (high > length - size)) & (math.prod(jnp.shape(index)) > 0)
    return Access(is_outside, jnp.where(too_low, low, high), length, size, kind)


def _poisoned(x: Array, poison: int) -> Array:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(x)
        return jax.random.wrap_key_data(jnp.full_like(data, abs(poison)), impl=str(jax.random.key_impl(x)))
    return jnp.full_like(x, poison > 0 if x.dtype == bool else jnp.asarray(poison).astype(x.dtype))


def _programs(equation: JaxprEqn) -> Iterator[ClosedJaxpr]:
    for x in equation.params.values():
        for inner in x if isinstance(x, tuple) else (x,):
            if isinstance(inner, ClosedJaxpr | Jaxpr):
                yield inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, [])


def _has_accesses(program: ClosedJaxpr) -> bool:
    return any(
        x.primitive.name in ACCESSES or x.primitive.name.startswith("scatter") or any(map(_has_accesses, _programs(x)))
        for x in program.jaxpr.eqns
    )
