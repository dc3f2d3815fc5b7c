"""Reads and writes outside an array, which JAX answers without an error: `x[3]` of three entries is the last one."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun
from jax.extend.core import Literal as Constant
from jaxtyping import Array, Bool, Int, PyTree

from undelude._programs import inner_programs, subprograms

# Operations that call one program with their own operands.
CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}
# Operations that run programs under a condition or repeatedly.
CONTROL = {"cond", "scan", "while"}
# Operations with indices that may be outside, and loops that may not end.
ACCESSES = {"dynamic_slice", "dynamic_update_slice", "gather", "cond", "while"}
# Values in place of what an access outside gives: if none changes the result, the result does not depend on it. The
# differences between their whole parts have no common divisor, so that they are not all equal modulo any number.
POISONS = (-101.3, 96.0, 103.7)
# Rounds after which a loop is stopped that runs with such a value, with which it may never end.
MAX_ROUNDS = 10_000

Kind = Literal["read", "write", "branch", "loop"]


class Access(eqx.Module):
    """One indexing operation, along one axis; or one loop, whose index is the number of its rounds.

    Attributes:
        is_outside: whether it is outside the array; of a loop, whether it is stopped before it ends.
        index: the largest index, or the least if that one is outside; of a slice, where it begins.
        length: of the axis; of a loop, `MAX_ROUNDS`.
        size: of the slice; 1 for an entry.
        kind: what is done at the index; a `branch` is chosen by `jax.lax.switch`.
    """

    is_outside: Bool[Array, "..."]
    index: Int[Array, "..."]
    length: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    kind: Kind = eqx.field(static=True)


def watch(f: Callable[..., PyTree], *arguments: PyTree) -> list[Access]:
    """Return the accesses of `f(*arguments)` by traced indices, in an order that does not depend on the arguments.

    Its `while` loops are listed too; they run to their end.

    An index with a rule of its own, as in `jnp.take(x, i, mode="clip")`, does not count. Nor does `x[i]` inside a
    `jax.vmap` in `f`, of which JAX makes such an index.
    """
    watcher = _Watcher()
    watcher.run(jax.make_jaxpr(lambda *arguments: f(*arguments))(*arguments), jax.tree.leaves(arguments))
    return watcher.accesses


def matters(f: Callable[..., PyTree], *arguments: PyTree, number: int) -> Bool[Array, ""]:
    """Return whether `f(*arguments)` changes if access `number` of `watch`, which is outside, gives something else.

    It does not if `f` discards the value, as in `jnp.where(i < n, x[i], 0)`. It does if another value keeps a loop
    going for more than `MAX_ROUNDS` rounds that otherwise ends before.
    """
    program, leaves = jax.make_jaxpr(lambda *arguments: f(*arguments))(*arguments), jax.tree.leaves(arguments)

    def results(watcher: _Watcher) -> list[Any]:
        return [*watcher.run(program, leaves), _is_stopped(watcher.accesses)]

    own = results(_Watcher(most_rounds=MAX_ROUNDS))
    poisoned = [results(_Watcher(number, poison, most_rounds=MAX_ROUNDS)) for poison in POISONS]
    return jnp.stack([_differ(x, y) for others in poisoned for x, y in zip(own, others, strict=True)]).any()


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
        most_rounds: after which a `while` loop is stopped; None if none is.
    """

    def __init__(self, number: int | None = None, poison: float = 0.0, *, most_rounds: int | None = None):
        self.accesses: list[Access] = []
        self.number, self.poison, self.most_rounds = number, poison, most_rounds

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
        name = equation.primitive.name
        if name == "while" or any(map(_has_accesses, inner_programs(equation))):
            if name in CONTROL:
                return getattr(self, f"_{name}")(equation, operands)
            called = next(subprograms(tuple(equation.params.values())))
            called = called if isinstance(called, ClosedJaxpr) else ClosedJaxpr(called, [])
            if name in CALLS and len(called.jaxpr.invars) == len(operands):
                return self.run(called, operands)
        pairs = zip(equation.invars, operands, strict=True)
        inputs = {variable: value for variable, value in pairs if not isinstance(variable, Constant)}
        single = jaxpr.replace(constvars=[], invars=[*inputs], outvars=equation.outvars, eqns=[equation])
        return jaxpr_as_fun(ClosedJaxpr(single, []))(*inputs.values())

    def _inside(
        self, program: ClosedJaxpr, arguments: list[Any], after: Sequence[Access] = ()
    ) -> tuple[list[Any], list[Access]]:
        """Return the results of a program and its accesses, which keep their numbers if appended `after` these."""
        before = self.accesses
        self.accesses = [*before, *after]
        start = len(self.accesses)
        results = self.run(program, arguments)
        accesses, self.accesses = self.accesses[start:], before
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

        def condition(values: list[Any]) -> tuple[Array, list[Access]]:
            (goes_on,), accesses = self._inside(given["cond_jaxpr"], [*cond_consts, *values])
            return jnp.asarray(goes_on), accesses

        goes_on, of_condition = condition(init)

        def body(values: list[Any]) -> tuple[list[Any], list[Access]]:
            return self._inside(given["body_jaxpr"], [*consts, *values], after=of_condition)

        def round(carry: _Loop) -> _Loop:
            values, of_body = body(carry.values)
            goes_on, of_condition = condition(values)
            pairs = zip(carry.accesses, [*of_condition, *of_body], strict=True)
            return _Loop(values, goes_on, [_first_outside(old, new) for old, new in pairs], carry.num_rounds + 1)

        def may_go_on(carry: _Loop) -> Array:
            if self.most_rounds is None:
                return carry.goes_on
            return carry.goes_on & (carry.num_rounds < self.most_rounds) & ~_is_stopped(carry.accesses)

        _, shapes = jax.eval_shape(lambda: body(init))
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        start = _Loop(init, goes_on, [*of_condition, *none], jnp.zeros((), int))
        end = jax.lax.while_loop(may_go_on, round, start)
        self.accesses += [*end.accesses, Access(end.goes_on, end.num_rounds, MAX_ROUNDS, 1, "loop")]
        return end.values


class _Loop(NamedTuple):
    """What a `while` loop carries from round to round."""

    values: list[Any]
    goes_on: Array
    accesses: list[Access]
    num_rounds: Array


def _first_outside(old: Access, new: Access) -> Access:
    return jax.tree.map(lambda x, y: jnp.where(old.is_outside, x, y), old, new)


def _is_stopped(accesses: list[Access]) -> Array:
    loops = [access.is_outside for access in accesses if access.kind == "loop"]
    return jnp.stack(loops).any() if loops else jnp.zeros((), bool)


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


def _access(index: Array, length: int, size: int, kind: Kind) -> Access:
    # An empty list of indices is inside.
    low, high = (jnp.asarray(f(index, initial=0), int) for f in (jnp.min, jnp.max))
    too_low = low < 0
    is_outside = (too_low | (high > length - size)) & (math.prod(jnp.shape(index)) > 0)
    return Access(is_outside, jnp.where(too_low, low, high), length, size, kind)


def _poisoned(x: Array, poison: float) -> Array:
    whole = math.trunc(poison)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(x)
        return jax.random.wrap_key_data(jnp.full_like(data, abs(whole)), impl=str(jax.random.key_impl(x)))
    if x.dtype == bool:
        return jnp.full_like(x, poison > 0)
    return jnp.full_like(x, poison if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.asarray(whole).astype(x.dtype))


def _has_accesses(program: Jaxpr) -> bool:
    return any(
        x.primitive.name in ACCESSES
        or x.primitive.name.startswith("scatter")
        or any(map(_has_accesses, inner_programs(x)))
        for x in program.eqns
    )
