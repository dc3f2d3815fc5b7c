"""Sums of products of tables, by tensor contraction; opt_einsum finds the elimination order.

Products of many probabilities underflow, and not only in their scale: two messages about one variable may each rule
out, almost, what the other holds for certain. So every entry has a scale of its own,

    x exp(e),    x zero or about one,    e without gradient,

and derivatives are those of the sum of products itself, also where a table holds a zero. In NumPy, plain double
precision serves first, and is left where an entry comes near its limit; so does single precision in compiled batches.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import opt_einsum

from undelude._tree import is_concrete
from undelude.causal.graph import Graph, ancestors, mutilate

# Entries of the largest table on the way.
MAX_ENTRIES = 2**27
# Of so many tables, the best order is searched for; of more, a good one is built step by step.
MAX_OPTIMAL = 6
# Next to 1, an entry of double (single) precision that still has a product with another such.
TINY, TINY_SINGLE = 1e-140, 1e-17
# Nats that a zero may stand above what is next to it, for the sake of its derivative.
MAX_ABOVE = 60.0

Axes = tuple[int, ...]


class Scaled(NamedTuple):
    """`x exp(e)`, entry by entry."""

    x: Any
    e: Any


class Step(NamedTuple):
    """Take the operands at `positions` (largest first) away, and append their contraction.

    Attributes:
        positions: in the list of operands.
        axes: of each of them, numbered from 0 in this step.
        num_axes: how many there are in this step.
        out: the axes that are left.
    """

    positions: tuple[int, ...]
    axes: tuple[Axes, ...]
    num_axes: int
    out: Axes


@functools.lru_cache(maxsize=1024)
def plan(operands: tuple[Axes, ...], out: Axes, sizes: tuple[int, ...]) -> tuple[Step, ...]:
    """Find an order in which to contract.

    Args:
        operands: the axes of each table, numbers from 0.
        out: the axes that are kept, in order; all others are summed over.
        sizes: of each axis.

    Returns:
        Pairwise steps, the last of which leaves one table with the axes `out`.

    Raises:
        ValueError: a table on the way would be too large.
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
                f"the sum would pass over {entries:.1e} combinations of values at once, more than {MAX_ENTRIES:.1e}: "
                "this graph is too densely connected for an exact answer. Observe or intervene on more of it, or "
                "simplify it."
            )
        kept = set(out).union(*remaining)
        # In the order of `out` where nothing is left to come.
        result = tuple(axis for axis in every if axis in kept) if remaining else out
        remaining.append(result)
        local = {axis: i for i, axis in enumerate(every)}
        axes = tuple(tuple(local[i] for i in axes) for axes in taken)
        steps.append(Step(positions, axes, len(every), tuple(local[i] for i in result)))
    return tuple(steps)


class Group(NamedTuple):
    """Factors of one shape, taken at values on the same axes, whose product has the axes `left`.

    Attributes:
        tables: which tables they are.
        names: of each axis, the variable of each factor that is fixed there, or None where the axis is left.
        left: the axes of the product.
    """

    tables: tuple[int, ...]
    names: tuple[tuple[str, ...] | None, ...]
    left: Axes


class Terms:
    """The sum of products `P(asked, see | do)`, its shape worked out before any number is known.

    Args:
        graph: the parents of each variable; the tables of `__call__` come in its order.
        sizes: of each variable.
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
        # What has no effect on anything asked or seen sums to one.
        relevant = ancestors(mutilate(graph, do), (*asked, *see))
        found: dict[Any, list[str]] = {}
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
        self.groups.sort(key=lambda group: not group.left)  # Numbers last.
        operands = tuple(group.left for group in self.groups if group.left)
        self.num_operands = len(operands)
        out = tuple(number[name] for name in asked)
        self.steps = plan(operands, out, tuple(sizes[name] for name in graph)) if operands else ()

    def __call__(self, xp: ModuleType, tables: Sequence[Any], fixed: Mapping[str, Any]) -> tuple[Any, Any]:
        """`(x, log_scale)` for `x exp(log_scale)`, `[*asked]`, at the indices `fixed` of what is seen and done."""
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

    def in_one_scale(self, xp: ModuleType, tables: Sequence[Any], fixed: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """The same by `einsum`, with one scale for each table, and whether no entry came near the limit of its type.

        Quick, and without a derivative.
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


def _factors(xp: ModuleType, group: Group, tables: Sequence[Any], fixed: Mapping[str, Any]) -> Any:
    """A group's factors at the values of what is fixed, `[n, *left]`."""
    if len(group.tables) == 1:
        at = tuple(slice(None) if names is None else fixed[names[0]] for names in group.names)
        return tables[group.tables[0]][at][None]
    stacked = xp.stack([tables[i] for i in group.tables])
    num_left = sum(names is None for names in group.names)

    def along(position: int, index: Any) -> Any:
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


def _scaled(xp: ModuleType, x: Any, e: Any) -> Scaled:
    """`x exp(e)`, with the scale of `x` moved to `e`."""
    positive = x > 0
    scale = xp.log(xp.where(positive, x, 1.0))
    if xp is jnp:
        scale = jax.lax.stop_gradient(scale)  # It cancels.
    return Scaled(x * xp.exp(-scale), e + scale)


def _spread(xp: ModuleType, x: Any, axes: Axes, num_axes: int) -> Any:
    """`x` with its axes in order, and of length one where it has none."""
    order = sorted(range(len(axes)), key=axes.__getitem__)
    return xp.expand_dims(xp.transpose(x, order), tuple(i for i in range(num_axes) if i not in axes))


def _entry_by_entry(xp: ModuleType, steps: Sequence[Step], operands: Sequence[Scaled]) -> tuple[Any, Any]:
    """The sum of the product of `operands`, in numbers of any scale."""
    remaining = list(operands)
    for step in steps:
        x, e = xp.ones(()), xp.zeros(())
        for position, axes in zip(step.positions, step.axes, strict=True):
            operand = remaining.pop(position)
            x = x * _spread(xp, operand.x, axes, step.num_axes)
            e = e + _spread(xp, operand.e, axes, step.num_axes)
        gone = tuple(i for i in range(step.num_axes) if i not in step.out)
        if gone:
            # Relative to the largest that is not zero; where all are zero, to the largest.
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


def backend(*arrays: Any) -> ModuleType:
    """`numpy` where all numbers are known (no compilation, double precision), `jax.numpy` where some are traced."""
    return np if is_concrete(*arrays) else jnp
