"""Sums of products of tables by tensor contraction.

A product of many probabilities underflows. One scale for a whole table is not enough: two messages about one variable
may contradict each other, each with nearly all of its mass on another value. So every entry has a scale of its own,

    x exp(e),    x zero or about one,    e without gradient,

and derivatives are exact, also at zeros of a table. A first attempt uses plain floats with one scale for each table, in
double precision in NumPy and in single precision in compiled batches. It is discarded if an entry comes near the limit
of its type.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from undelude._tree import is_concrete
from undelude.causal._graphs.graph import ancestors, mutilate
from undelude.causal._names import Parents
from undelude.causal._summing.order import Axes, Step, plan

# Smallest trusted entry of a table whose largest is 1, in double and in single precision: a product of two such entries
# does not underflow.
TINY, TINY_SINGLE = 1e-140, 1e-17
# Nats by which the scale of a zero may exceed that of the nonzero entries for its derivative to be exact.
MAX_ABOVE = 60.0
# Entries of the products that NumPy holds at once while it sums with a scale for each entry.
BLOCK = 2**20

Table = np.ndarray | Array
# All tables of a model, in the order of its variables.
AllTables = tuple[Float[Array | np.ndarray, "..."], ...]
# Those, or the ones that a query needs, by position.
Tables = Sequence[Table] | Mapping[int, Table]
Numbers = Table | np.floating
# The index of the value of each variable seen or done.
Fixed = Mapping[str, int | Array]


class Scaled(NamedTuple):
    """Numbers `x exp(e)`, entry by entry."""

    x: Numbers
    e: Numbers


class Taped(NamedTuple):
    """A step of a contraction: its operands, the scale by which it divides its result, and the quotient."""

    operands: list[Numbers]
    scale: Numbers
    result: Numbers


class Group(NamedTuple):
    """Factors that are multiplied as one array: tables of one shape, indexed on the same axes.

    Attributes:
        tables: the positions of the tables.
        names: for each axis, the fixed variable of each factor, or None for an axis that is not fixed.
        left: the axes of the product.
    """

    tables: tuple[int, ...]
    names: tuple[tuple[str, ...] | None, ...]
    left: Axes


class Terms:
    """The sum of products `P(asked, see | do)`, planned from names and sizes alone.

    Args:
        graph: the parents of each variable, in the order of the tables of `__call__`.
        sizes: the number of values of each variable.
        asked, see, do: names.
        keep_all: whether variables without effect on the sum are part of it, for derivatives in their tables.
    """

    def __init__(
        self,
        graph: Parents,
        sizes: Mapping[str, int],
        asked: tuple[str, ...],
        see: tuple[str, ...],
        do: tuple[str, ...],
        *,
        keep_all: bool = False,
    ):
        fixed = {*see, *do}
        number = {name: i for i, name in enumerate(graph)}
        # Variables that are not ancestors of an asked or seen variable sum to one.
        relevant = frozenset(graph) if keep_all else ancestors(mutilate(graph, do), (*asked, *see))
        found: dict[tuple[Axes, tuple[tuple[int, bool], ...]], list[str]] = {}
        for name in graph:
            if name in relevant and name not in do:
                axes = (*graph[name], name)
                left = tuple(number[axis] for axis in axes if axis not in fixed)
                found.setdefault((left, tuple((sizes[axis], axis in fixed) for axis in axes)), []).append(name)
        self.groups: list[Group] = []
        for (left, _), names in found.items():
            columns = zip(*((*graph[name], name) for name in names), strict=True)
            fixed_names = tuple(column if column[0] in fixed else None for column in columns)
            self.groups.append(Group(tuple(number[name] for name in names), fixed_names, left))
        self.groups.sort(key=lambda group: not group.left)  # Scalars last.
        operands = tuple(group.left for group in self.groups if group.left)
        self.num_operands = len(operands)
        # The positions of the tables that the sum needs.
        self.used = tuple(i for group in self.groups for i in group.tables)
        out = tuple(number[name] for name in asked)
        self.shape = tuple(sizes[name] for name in asked)
        self.plan = plan(operands, out, tuple(sizes[name] for name in graph))

    def __call__(self, xp: ModuleType, tables: Tables, fixed: Fixed) -> tuple[Numbers, Numbers]:
        """Return `x`, `[*asked]`, and `log_scale`, `[]`: the sum of products is `x exp(log_scale)`."""
        if xp is np:
            x, log_scale, safe = self.in_one_scale(xp, tables, fixed)
            if safe and x.max() > 0:
                return x, log_scale
        scaled = [_scaled(xp, factors(xp, group, tables, fixed), 0.0) for group in self.groups]
        products = [Scaled(x.prod(0), e.sum(0)) for x, e in scaled]
        operands = products[: self.num_operands]
        x, log_scale = _entry_by_entry(xp, self.plan.steps, operands) if operands else (xp.ones(()), xp.zeros(()))
        for number in products[self.num_operands :]:
            x, log_scale = x * number.x, log_scale + number.e
        return x, log_scale

    def in_one_scale(
        self, xp: ModuleType, tables: Tables, fixed: Fixed, *, tape: list[Taped] | None = None
    ) -> tuple[Numbers, Numbers, bool | np.bool_ | Array]:
        """Compute `x` and `log_scale` by `einsum`, with one scale for each table, and whether they can be trusted.

        They can if no entry came near the limit of its type. Quicker than `__call__`, and without a derivative.

        Args:
            xp: NumPy or `jax.numpy`.
            tables: the tables of the model.
            fixed: the index of the value of each variable seen or done.
            tape: a list to which the operands and the scale of each step are appended.
        """
        tiny = TINY if xp is np else TINY_SINGLE
        remaining, log_scale, safe = [], xp.zeros(()), True
        for group in self.groups:
            x = factors(xp, group, tables, fixed)
            if len(group.tables) == 1:
                x = x[0]
                safe = safe & ~_is_near_limit(xp, x, tiny)
            else:
                possible = (x > 0).all(0)
                logs = xp.where(possible, xp.log(xp.where(x > 0, x, 1.0)).sum(0), -xp.inf)
                largest = logs.max()
                largest = xp.where(largest > -xp.inf, largest, 0.0)
                x, log_scale = xp.exp(logs - largest), log_scale + largest
                safe = safe & ~(possible & (x < tiny)).any()
            remaining.append(x)
        numbers = remaining[self.num_operands :]
        del remaining[self.num_operands :]
        for step in self.plan.steps:
            taken = [remaining.pop(position) for position in step.positions]
            if len(taken) > 2:  # The product of more than two trusted entries may underflow.
                for x in taken:
                    safe = safe & ~_is_near_limit(xp, x, tiny ** (2 / len(taken)))
            x = xp.einsum(*arguments(taken, step.axes, step.out))
            largest = x.max()
            largest = (largest or np.float64(1)) if xp is np else jnp.where(largest > 0, largest, 1.0)
            if len(taken) > 1:
                x /= largest  # In place, if NumPy; the einsum of one table may be a view of it.
            else:
                x = x / largest
            if tape is not None:
                tape.append(Taped(taken, largest, x))
            safe = safe & ~_is_near_limit(xp, x, tiny)
            remaining.append(x)
            log_scale = log_scale + xp.log(largest)
        x = remaining[0] if remaining else xp.ones(())
        for number in numbers:
            x, log_scale = xp.where(number > 0, x, 0.0), log_scale + xp.log(xp.where(number > 0, number, 1.0))
        return x, log_scale, safe


def _is_near_limit(xp: ModuleType, x: Numbers, tiny: float) -> np.bool_ | Array:
    """Return whether an entry is positive, and below `tiny`."""
    if xp is np and not x.min() < tiny:  # Most tables have no such entry, and no zero.
        return np.False_
    return ((x > 0) & (x < tiny)).any()


def arguments(operands: Sequence[Any], axes: Sequence[Axes], out: Axes) -> list[Any]:
    """Return the arguments of `einsum` for the sum of products over all axes that are not in `out`."""
    return [*chain.from_iterable(zip(operands, map(list, axes), strict=True)), list(out)]


def factors(xp: ModuleType, group: Group, tables: Tables, fixed: Fixed) -> Table:
    """Index a group's tables at the fixed values; return its factors, `[n, *left]`."""
    if len(group.tables) == 1:
        at = tuple(slice(None) if names is None else fixed[names[0]] for names in group.names)
        return tables[group.tables[0]][at][None]
    stacked = xp.stack([tables[i] for i in group.tables])
    num_left = sum(names is None for names in group.names)

    def along(position: int, index: Numbers) -> Numbers:
        shape = [1] * (num_left + 1)
        shape[position] = -1
        return index.reshape(shape)

    indices, position = [along(0, xp.arange(len(group.tables)))], 0
    for axis, names in enumerate(group.names):
        if names is None:
            position += 1
            indices.append(along(position, xp.arange(stacked.shape[axis + 1])))
        else:
            indices.append(along(0, xp.stack([xp.asarray(fixed[name]) for name in names])))
    return stacked[tuple(indices)]


def _scaled(xp: ModuleType, x: Numbers, e: Numbers | float) -> Scaled:
    """Return `x exp(e)` with the magnitude of `x` moved to `e`."""
    positive = x > 0
    scale = xp.log(xp.where(positive, x, 1.0))
    if xp is jnp:
        scale = jax.lax.stop_gradient(scale)  # Its gradient cancels.
    return Scaled(x * xp.exp(-scale), e + scale)


def _spread(xp: ModuleType, x: Numbers, axes: Axes, num_axes: int) -> Numbers:
    """Return `x` with its `axes` in ascending order, and axes of length one for the others of `num_axes`."""
    order = sorted(range(len(axes)), key=axes.__getitem__)
    return xp.expand_dims(xp.transpose(x, order), tuple(i for i in range(num_axes) if i not in axes))


def _entry_by_entry(xp: ModuleType, steps: Sequence[Step], operands: Sequence[Scaled]) -> tuple[Numbers, Numbers]:
    """Contract `operands`, with a scale for each entry; return `x` and `log_scale`."""
    remaining = list(operands)
    for step in steps:
        taken = [remaining.pop(position) for position in step.positions]
        remaining.append(_in_blocks(step, taken) if xp is np else _contract(xp, step, taken))
    x, e = remaining.pop()
    largest = xp.max(e, where=x > 0, initial=-xp.inf)
    largest = xp.where(largest > -xp.inf, largest, e.max())
    if xp is np:  # In place, as an answer may be large.
        e -= largest
        x *= np.exp(np.minimum(e, MAX_ABOVE, out=e), out=e)
        return x, largest
    return x * xp.exp(xp.minimum(e - largest, MAX_ABOVE)), largest


def _in_blocks(step: Step, operands: Sequence[Scaled]) -> Scaled:
    """Contract by NumPy, one block of the result after the other, so that the products need little memory."""
    entries, split = math.prod(step.sizes), []
    for axis in sorted(step.out, key=step.sizes.__getitem__, reverse=True):
        if entries > BLOCK:
            split.append(axis)
            entries //= step.sizes[axis]
    x, e = (np.empty([step.sizes[axis] for axis in step.out]) for _ in range(2))
    for indices in np.ndindex(*(step.sizes[axis] for axis in split)):
        block = {axis: slice(i, i + 1) for axis, i in zip(split, indices, strict=True)}
        # With an ellipsis, it is an array even if it has no axes.
        at = [(*(block.get(axis, slice(None)) for axis in axes), ...) for axes in (*step.axes, step.out)]
        parts = [Scaled(*(np.asarray(y)[i] for y in operand)) for operand, i in zip(operands, at, strict=False)]
        x[at[-1]], e[at[-1]] = _contract(np, step, parts)
    return Scaled(x, e)


def _contract(xp: ModuleType, step: Step, operands: Sequence[Scaled]) -> Scaled:
    """Contract with a scale for each entry."""
    num_axes = len(step.sizes)
    x, e = xp.ones(()), xp.zeros(())
    for operand, axes in zip(operands, step.axes, strict=True):
        x = x * _spread(xp, operand.x, axes, num_axes)
        e = e + _spread(xp, operand.e, axes, num_axes)
    gone = tuple(i for i in range(num_axes) if i not in step.out)
    if gone:
        # Relative to the largest scale of a nonzero entry, or of all entries if all are zero.
        largest = xp.where(x > 0, e, -xp.inf).max(gone, keepdims=True)
        largest = xp.where(largest > -xp.inf, largest, e.max(gone, keepdims=True))
        x = (x * xp.exp(xp.minimum(e - largest, MAX_ABOVE))).sum(gone)
        e = largest.squeeze(gone)
    kept = sorted(step.out)
    order = [kept.index(axis) for axis in step.out]
    return _scaled(xp, xp.transpose(x, order), xp.transpose(xp.broadcast_to(e, x.shape), order))


def backend(*arrays: Numbers | tuple[Table, ...]) -> ModuleType:
    """Return `jax.numpy` if an array is traced, else `numpy` (double precision without compilation)."""
    return np if is_concrete(*arrays) else jnp


def in_jax(x: Numbers) -> Array:
    """Return numbers as a JAX array, without the program that `jax.numpy.asarray` would compile for each shape."""
    return x if isinstance(x, Array) else jax.device_put(np.asarray(x, jnp.result_type(float)))
