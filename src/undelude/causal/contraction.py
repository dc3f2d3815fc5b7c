"""Sums of products of tables by tensor contraction, in an elimination order that opt_einsum finds.

A product of many probabilities underflows. One scale for a whole table is not enough: two messages about one variable
may contradict each other, each with nearly all of its mass on another value. So every entry has a scale of its own,

    x exp(e),    x zero or about one,    e without gradient,

and derivatives are exact, also at zeros of a table. A first attempt uses plain floats with one scale for each table, in
double precision in NumPy and in single precision in compiled batches. It is discarded if an entry comes near the limit
of its type.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import opt_einsum
from jaxtyping import Array

from undelude._tree import is_concrete
from undelude.causal.graph import Graph, ancestors, mutilate

# Entries of the largest intermediate table.
MAX_ENTRIES = 2**27
# Number of tables up to which the optimal elimination order is searched for; beyond it a greedy search serves.
MAX_OPTIMAL = 6
# Smallest trusted entry of a table whose largest is 1, in double and in single precision: a product of two such entries
# does not underflow.
TINY, TINY_SINGLE = 1e-140, 1e-17
# Nats by which the scale of a zero may exceed that of the nonzero entries for its derivative to be exact.
MAX_ABOVE = 60.0

Axes = tuple[int, ...]
Table = np.ndarray | Array
Numbers = Table | np.floating
# The index of the value of each variable seen or done.
Fixed = Mapping[str, int | Array]


class Scaled(NamedTuple):
    """Numbers `x exp(e)`, entry by entry."""

    x: Numbers
    e: Numbers


class Step(NamedTuple):
    """One contraction: pop the operands at `positions` and append their contraction.

    Attributes:
        positions: positions in the list of operands, largest first.
        axes: the axes of each operand, numbered from 0 within the step.
        num_axes: the number of axes within the step.
        out: the axes of the result.
    """

    positions: tuple[int, ...]
    axes: tuple[Axes, ...]
    num_axes: int
    out: Axes


@functools.lru_cache(maxsize=1024)
def plan(operands: tuple[Axes, ...], out: Axes, sizes: tuple[int, ...]) -> tuple[Step, ...]:
    """Find an elimination order.

    Args:
        operands: the axes of each table, numbered from 0.
        out: the axes of the result, in order; all others are summed over.
        sizes: the size of each axis.

    Returns:
        Pairwise contractions, the last of which leaves one table with the axes `out`.

    Raises:
        ValueError: an intermediate table would be too large.
    """
    symbols = [opt_einsum.get_symbol(i) for i in range(len(sizes))]
    written = ["".join(symbols[i] for i in axes) for axes in operands]
    equation = f"{','.join(written)}->{''.join(symbols[i] for i in out)}"
    shapes = [tuple(sizes[i] for i in axes) for axes in operands]
    method = "optimal" if len(operands) <= MAX_OPTIMAL else "greedy"
    path, _ = opt_einsum.contract_path(equation, *shapes, shapes=True, optimize=method)
    remaining, steps = list(operands), []
    for positions in path:
        positions = tuple(sorted(positions, reverse=True))
        taken = [remaining.pop(i) for i in positions]
        every = sorted(set().union(*taken))
        if (entries := math.prod(sizes[axis] for axis in every)) > MAX_ENTRIES:
            raise ValueError(
                f"an intermediate table would have {entries:.1e} entries, more than {MAX_ENTRIES:.1e}: the graph is "
                "too densely connected for an exact answer. Observe or intervene on more variables, or simplify it."
            )
        kept = set(out).union(*remaining)
        # The last result has its axes in the order of `out`.
        result = tuple(axis for axis in every if axis in kept) if remaining else out
        remaining.append(result)
        local = {axis: i for i, axis in enumerate(every)}
        axes = tuple(tuple(local[i] for i in axes) for axes in taken)
        steps.append(Step(positions, axes, len(every), tuple(local[i] for i in result)))
    return tuple(steps)


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
    """

    def __init__(
        self,
        graph: Graph,
        sizes: Mapping[str, int],
        asked: tuple[str, ...],
        see: tuple[str, ...],
        do: tuple[str, ...],
    ):
        fixed = {*see, *do}
        number = {name: i for i, name in enumerate(graph)}
        # Variables that are not ancestors of an asked or seen variable sum to one.
        relevant = ancestors(mutilate(graph, do), (*asked, *see))
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
        out = tuple(number[name] for name in asked)
        self.steps = plan(operands, out, tuple(sizes[name] for name in graph)) if operands else ()

    def __call__(self, xp: ModuleType, tables: Sequence[Table], fixed: Fixed) -> tuple[Numbers, Numbers]:
        """Return `x`, `[*asked]`, and `log_scale`, `[]`: the sum of products is `x exp(log_scale)`."""
        if xp is np:
            x, log_scale, safe = self.in_one_scale(xp, tables, fixed)
            if safe and x.max() > 0:
                return x, log_scale
        scaled = [_scaled(xp, _factors(xp, group, tables, fixed), 0.0) for group in self.groups]
        products = [Scaled(x.prod(0), e.sum(0)) for x, e in scaled]
        operands = products[: self.num_operands]
        x, log_scale = _entry_by_entry(xp, self.steps, operands) if operands else (xp.ones(()), xp.zeros(()))
        for number in products[self.num_operands :]:
            x, log_scale = x * number.x, log_scale + number.e
        return x, log_scale

    def in_one_scale(
        self, xp: ModuleType, tables: Sequence[Table], fixed: Fixed
    ) -> tuple[Numbers, Numbers, bool | np.bool_ | Array]:
        """Compute `x` and `log_scale` by `einsum`, with one scale for each table, and whether they can be trusted.

        They can if no entry came near the limit of its type. Quicker than `__call__`, and without a derivative.
        """
        tiny = TINY if xp is np else TINY_SINGLE
        remaining, log_scale, safe = [], xp.zeros(()), True
        for group in self.groups:
            x = _factors(xp, group, tables, fixed)
            if len(group.tables) == 1:
                x = x[0]
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
        for step in self.steps:
            arguments = []
            for position, axes in zip(step.positions, step.axes, strict=True):
                arguments += [remaining.pop(position), list(axes)]
            x = xp.einsum(*arguments, list(step.out))
            largest = x.max()
            largest = xp.where(largest > 0, largest, 1.0)
            x = x / largest
            if xp is jnp or x.min() < tiny:
                safe = safe & ~((x > 0) & (x < tiny)).any()
            remaining.append(x)
            log_scale = log_scale + xp.log(largest)
        x = remaining[0] if remaining else xp.ones(())
        for number in numbers:
            x, log_scale = xp.where(number > 0, x, 0.0), log_scale + xp.log(xp.where(number > 0, number, 1.0))
        return x, log_scale, safe


def _factors(xp: ModuleType, group: Group, tables: Sequence[Table], fixed: Fixed) -> Table:
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
        x, e = xp.ones(()), xp.zeros(())
        for position, axes in zip(step.positions, step.axes, strict=True):
            operand = remaining.pop(position)
            x = x * _spread(xp, operand.x, axes, step.num_axes)
            e = e + _spread(xp, operand.e, axes, step.num_axes)
        gone = tuple(i for i in range(step.num_axes) if i not in step.out)
        if gone:
            # Relative to the largest scale of a nonzero entry, or of all entries if all are zero.
            largest = xp.where(x > 0, e, -xp.inf).max(gone, keepdims=True)
            largest = xp.where(largest > -xp.inf, largest, e.max(gone, keepdims=True))
            x = (x * xp.exp(xp.minimum(e - largest, MAX_ABOVE))).sum(gone)
            e = largest.squeeze(gone)
        kept = sorted(step.out)
        order = [kept.index(axis) for axis in step.out]
        remaining.append(_scaled(xp, xp.transpose(x, order), xp.transpose(xp.broadcast_to(e, x.shape), order)))
    x, e = remaining[0]
    largest = xp.where(x > 0, e, -xp.inf).max()
    largest = xp.where(largest > -xp.inf, largest, e.max())
    return x * xp.exp(xp.minimum(e - largest, MAX_ABOVE)), largest


def backend(*arrays: Numbers | tuple[Table, ...]) -> ModuleType:
    """Return `jax.numpy` if an array is traced, else `numpy` (double precision without compilation)."""
    return np if is_concrete(*arrays) else jnp
