"""Sums of products of tables, by tensor contraction: opt_einsum finds the elimination order, a log-scale is carried.

One plan serves NumPy, where all numbers are known, and JAX, where they are traced.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import opt_einsum

from undelude.graph import Graph, ancestors, mutilate

# Entries of the largest table on the way: a gigabyte.
MAX_ENTRIES = 2**27
# Of so many tables, the best order is searched for; of more, a good one is built step by step.
MAX_OPTIMAL = 6
# Tables of double precision whose entries are all smaller are scaled up.
MIN_SCALE = 1e-100

Axes = tuple[int, ...]
Factor = tuple[int, tuple[str | None, ...]]


class Step(NamedTuple):
    """Take the tables at `positions` (largest first) away, and append their contraction.

    Attributes:
        positions: in the list of tables.
        axes: of each of them, numbered from 0 in this step, as `einsum` wants them.
        out: the axes that are left.
    """

    positions: tuple[int, ...]
    axes: tuple[list[int], ...]
    out: list[int]


class Plan(NamedTuple):
    """An elimination order for operands of given axes."""

    steps: tuple[Step, ...]
    entries: int


@functools.lru_cache(maxsize=1024)
def plan(operands: tuple[Axes, ...], out: Axes, sizes: tuple[int, ...]) -> Plan:
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
    remaining, steps, entries = list(operands), [], 0
    for positions in path:
        positions = tuple(sorted(positions, reverse=True))
        taken = [remaining.pop(i) for i in positions]
        every = sorted(set().union(*taken))
        kept = set(out).union(*remaining)
        # In the order of `out` where nothing is left to come.
        result = tuple(axis for axis in every if axis in kept) if remaining else out
        remaining.append(result)
        entries = max(entries, math.prod(sizes[axis] for axis in every))
        local = {axis: i for i, axis in enumerate(every)}
        steps.append(Step(positions, tuple([local[i] for i in axes] for axes in taken), [local[i] for i in result]))
    if entries > MAX_ENTRIES:
        raise ValueError(
            f"the sum would pass over {entries:.1e} combinations of values at once, more than {MAX_ENTRIES:.1e}: this "
            "graph is too densely connected for an exact answer. Observe or intervene on more of it, or simplify it."
        )
    return Plan(tuple(steps), entries)


def contract(xp: ModuleType, plan: Plan, tables: Sequence[Any]) -> tuple[Any, Any]:
    """The sum of the product of `tables`, as `(x, log_scale)` for `x exp(log_scale)`, where `x` does not underflow.

    Args:
        xp: `numpy` or `jax.numpy`.
        plan: for the axes of `tables`.
        tables: not negative.
    """
    tables, log_scales = list(tables), []
    for step in plan.steps:
        arguments = []
        for position, axes in zip(step.positions, step.axes, strict=True):
            arguments += [tables.pop(position), axes]
        x = xp.einsum(*arguments, step.out)
        largest = x.max()
        if xp is jnp:
            largest = jax.lax.stop_gradient(largest)  # The scale cancels.
        elif not 0 < largest < MIN_SCALE:
            tables.append(x)
            continue
        tables.append(x / xp.where(largest > 0, largest, 1))
        log_scales.append(largest)
    with np.errstate(divide="ignore"):
        return tables[0], xp.log(xp.stack(log_scales)).sum() if log_scales else xp.zeros(())


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
        # Of each factor: which table, and the name that it is taken at on each axis, or None.
        self.scalars: list[Factor] = []
        self.tensors: list[Factor] = []
        operands = []
        for name in graph:
            if name not in relevant or name in do:
                continue
            axes = (*graph[name], name)
            factor = number[name], tuple(axis if axis in fixed else None for axis in axes)
            left = tuple(number[axis] for axis in axes if axis not in fixed)
            if left:
                self.tensors.append(factor)
                operands.append(left)
            else:
                self.scalars.append(factor)
        out = tuple(number[name] for name in asked)
        self.plan = plan(tuple(operands), out, tuple(sizes[name] for name in graph)) if operands else None

    def __call__(self, xp: ModuleType, tables: Sequence[Any], fixed: Mapping[str, Any]) -> tuple[Any, Any]:
        """`(x, log_scale)` for `x exp(log_scale)`, `[*asked]`, at the indices `fixed` of what is seen and done."""

        def at(factor: Factor) -> Any:
            i, names = factor
            return tables[i][tuple(slice(None) if name is None else fixed[name] for name in names)]

        x, log_scale = xp.ones(()), xp.zeros(())
        if self.plan is not None:
            x, log_scale = contract(xp, self.plan, [at(factor) for factor in self.tensors])
        if self.scalars:
            p = xp.stack([at(factor) for factor in self.scalars])
            with np.errstate(divide="ignore"):
                x, log_scale = xp.where((p > 0).all(), x, 0 * x), log_scale + xp.log(p).sum()
        return x, log_scale


def backend(*arrays: Any) -> ModuleType:
    """`numpy` where all numbers are known (no compilation, double precision), `jax.numpy` where some are traced."""
    return jnp if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(arrays)) else np
