"""Elimination orders: in which order a sum of products is contracted, and how much memory that takes.

opt_einsum finds the order of nearly all queries. Its greedy search looks one contraction ahead, which is far from the
best in grids and in large networks of which many leaves are observed. If its order is expensive, other orders are tried
too, and the cheapest is taken. With all leaves observed, the published networks munin and link take 2^25 and 2^26
multiplications by minimum fill, and 2^41 and 2^54 by the greedy search. A binary grid of 18 x 18 takes 2^25 by a front,
2^30 by minimum fill, and 2^33 by the greedy search.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import opt_einsum

# Bytes that a contraction may take, in addition to the tables of the model.
MAX_BYTES = 2**32
# Bytes of an entry: a double and, if evidence would underflow, its scale.
ENTRY_BYTES = 16
# Bytes of an entry of an answer while it is normalised.
ANSWER_BYTES = 24
# Number of tables up to which the optimal elimination order is searched for; beyond it a greedy search serves.
MAX_OPTIMAL = 6
# Multiplications up to which the greedy order is taken as it is: they take less time than other orders take to find.
CHEAP = 2**24

Axes = tuple[int, ...]
Path = Sequence[tuple[int, ...]]


class Step(NamedTuple):
    """One contraction: pop the operands at `positions` and append their contraction.

    Attributes:
        positions: positions in the list of operands, largest first.
        axes: the axes of each operand, numbered from 0 within the step.
        sizes: the size of each axis within the step.
        out: the axes of the result.
    """

    positions: tuple[int, ...]
    axes: tuple[Axes, ...]
    sizes: tuple[int, ...]
    out: Axes


class Plan(NamedTuple):
    """Contractions that leave one table.

    Attributes:
        steps: the contractions.
        multiplications: the number of products that they sum.
        num_bytes: the most memory that the tables take at once.
    """

    steps: tuple[Step, ...]
    multiplications: int
    num_bytes: int


@functools.lru_cache(maxsize=1024)
def plan(operands: tuple[Axes, ...], out: Axes, sizes: tuple[int, ...]) -> Plan:
    """Find an elimination order.

    Args:
        operands: the axes of each table, numbered from 0.
        out: the axes of the result, in order; all others are summed over.
        sizes: the size of each axis.

    Raises:
        ValueError: the answer, or the contraction in any of the orders, would take more than `MAX_BYTES`.
    """
    entries = math.prod(sizes[axis] for axis in out)
    if (num_bytes := entries * ANSWER_BYTES) > MAX_BYTES:
        raise ValueError(
            f"the answer itself would have {entries:.1e} entries and take {in_gib(num_bytes)} of memory, more than "
            f"{in_gib(MAX_BYTES)}; ask for fewer variables at once."
        )
    if not operands:
        return Plan((), 0, 0)
    first = found = _follow(_searched(operands, out, sizes), operands, out, sizes)
    if first.multiplications > CHEAP or first.num_bytes > MAX_BYTES:
        neighbours = _neighbours(operands, out)
        front = _from_front_to_front(neighbours)
        orders = front, front[::-1], _by_minimum_fill(neighbours, out, front)
        others = (_follow(_pairwise(operands, out, order), operands, out, sizes) for order in orders)
        # Multiplications count among the plans that fit into memory, otherwise bytes.
        found = min(first, *others, key=lambda p: (max(p.num_bytes, MAX_BYTES), p.multiplications))
    if found.num_bytes > MAX_BYTES:
        raise ValueError(
            f"the query would take up to {in_gib(found.num_bytes)} of memory, more than {in_gib(MAX_BYTES)}, in "
            "the best elimination order found: the graph is too densely connected for an exact answer. Observe or "
            "intervene on more variables, or simplify it."
        )
    return found


def in_gib(num_bytes: int) -> str:
    """Return an amount of memory as text."""
    return f"{num_bytes / 2**30:.3g} GiB" if num_bytes < 2**50 else f"{float(num_bytes):.0e} bytes"


def _follow(path: Path, operands: Sequence[Axes], out: Axes, sizes: Sequence[int]) -> Plan:
    """Return the plan that contracts the operands along a path, each position in the list that is left."""

    def entries(axes: Iterable[int]) -> int:
        return math.prod(sizes[axis] for axis in axes)

    remaining, steps, multiplications = list(operands), [], 0
    uses = [0] * len(sizes)  # The operands left that have an axis, and the result.
    for axes in (*operands, out):
        for axis in axes:
            uses[axis] += 1
    # The tables of the model itself are not counted.
    held = [0] * len(operands)
    most = total = 0
    for positions in path:
        positions = tuple(sorted(positions, reverse=True))
        taken = [remaining.pop(i) for i in positions]
        freed = sum(held.pop(i) for i in positions)
        for axes in taken:
            for axis in axes:
                uses[axis] -= 1
        every = sorted(set().union(*taken))
        # The last result has its axes in the order of `out`.
        result = tuple(axis for axis in every if uses[axis]) if remaining else out
        for axis in result:
            uses[axis] += 1
        remaining.append(result)
        held.append(entries(result))
        most = max(most, total + held[-1])
        total += held[-1] - freed
        multiplications += entries(every)
        local = {axis: i for i, axis in enumerate(every)}
        of_operands = tuple(tuple(local[i] for i in axes) for axes in taken)
        steps.append(
            Step(positions, of_operands, tuple(sizes[i] for i in every), tuple(local[axis] for axis in result))
        )
    return Plan(tuple(steps), multiplications, max(most * ENTRY_BYTES, entries(out) * ANSWER_BYTES))


def _searched(operands: Sequence[Axes], out: Axes, sizes: Sequence[int]) -> Path:
    """Return the path that opt_einsum finds."""
    symbols = [opt_einsum.get_symbol(i) for i in range(len(sizes))]
    written = ["".join(symbols[i] for i in axes) for axes in operands]
    equation = f"{','.join(written)}->{''.join(symbols[i] for i in out)}"
    shapes = [tuple(sizes[i] for i in axes) for axes in operands]
    method = "optimal" if len(operands) <= MAX_OPTIMAL else "greedy"
    return list(opt_einsum.contract_path(equation, *shapes, shapes=True, optimize=method)[0])


def _pairwise(operands: Sequence[Axes], out: Axes, order: Sequence[int]) -> Path:
    """Return the path that eliminates the axes in an order: it joins all tables with an axis, the smallest first."""
    remaining, path = [set(axes) for axes in operands], []

    def join(which: list[int]) -> None:
        while len(which) > 1:
            i, j = sorted(sorted(which, key=lambda k: len(remaining[k]))[:2])
            path.append((i, j))
            second, first = remaining.pop(j), remaining.pop(i)
            remaining.append(first | second)
            which = [k - (k > i) - (k > j) for k in which if k not in (i, j)] + [len(remaining) - 1]

    for axis in order:
        if axis not in out:
            join([k for k, axes in enumerate(remaining) if axis in axes])
            for axes in remaining:
                axes.discard(axis)
    join(list(range(len(remaining))))
    return path or [(0,)]


def _neighbours(operands: Sequence[Axes], out: Axes) -> dict[int, set[int]]:
    """Return the axes that share a table with each axis."""
    found: dict[int, set[int]] = {}
    for axes in (*operands, out):
        for axis in axes:
            found.setdefault(axis, set()).update(axes)
    return {axis: others - {axis} for axis, others in found.items()}


def _from_front_to_front(neighbours: dict[int, set[int]]) -> list[int]:
    """Return the reverse Cuthill-McKee order, breadth first from the rim: a front passes through a grid."""
    # They take a quarter of a second to import.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    axes = sorted(neighbours)
    place = {axis: i for i, axis in enumerate(axes)}
    pairs = np.array([(place[a], place[b]) for a in axes for b in neighbours[a]], int).reshape(-1, 2)
    matrix = csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(axes), len(axes)))
    return [axes[i] for i in reverse_cuthill_mckee(matrix, symmetric_mode=True)]


def _by_minimum_fill(neighbours: dict[int, set[int]], out: Axes, ties: Sequence[int]) -> list[int]:
    """Return the order that always eliminates the axis whose neighbours need the fewest new edges to be a clique.

    Args:
        neighbours: the neighbours of each axis.
        out: axes that are not eliminated.
        ties: an order of the axes, by which ties are broken.
    """
    near = {axis: set(others) for axis, others in neighbours.items()}
    rank = {axis: i for i, axis in enumerate(ties)}

    def fill(axis: int) -> tuple[int, int]:
        return sum(len(near[axis] - near[other]) - 1 for other in near[axis]), rank[axis]

    left, order = {axis: fill(axis) for axis in near if axis not in out}, []
    while left:
        axis = min(left, key=left.__getitem__)
        order.append(axis)
        del left[axis]
        clique = near.pop(axis)
        for other in clique:
            near[other] = (near[other] | clique) - {axis, other}
        for other in clique.union(*(near[other] for other in clique)) & left.keys():
            left[other] = fill(other)
    return order
