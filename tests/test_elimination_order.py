"""Elimination orders: every order gives the answer, the cheapest within memory is taken, and memory is as announced."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

import undelude as ud
from undelude.causal._summing import contraction, order
from undelude.causal._summing.order import Axes


def random_problem(rng: np.random.Generator) -> tuple[tuple[Axes, ...], Axes, tuple[int, ...]]:
    """Return the axes of random tables, those of the answer, and sizes."""
    sizes = tuple(int(n) for n in rng.integers(1, 4, size=8))
    operands = [tuple(rng.permutation(8)[: rng.integers(1, 4)].tolist()) for _ in range(rng.integers(1, 10))]
    used = sorted(set().union(*operands))
    return tuple(operands), tuple(rng.permutation(used)[: rng.integers(3)].tolist()), sizes


def contracted(steps: tuple[order.Step, ...], tables: list[np.ndarray]) -> np.ndarray:
    for step in steps:
        taken = [tables.pop(position) for position in step.positions]
        arguments = [part for pair in zip(taken, map(list, step.axes), strict=True) for part in pair]
        tables.append(np.einsum(*arguments, list(step.out)))
    (answer,) = tables
    return answer


def test_every_order_gives_the_answer():
    rng = np.random.default_rng(0)
    for _ in range(40):
        operands, out, sizes = random_problem(rng)
        tables = [rng.random([sizes[axis] for axis in axes]) for axes in operands]
        expected = np.einsum(*(x for pair in zip(tables, map(list, operands), strict=True) for x in pair), list(out))
        neighbours = order._neighbours(operands, out)
        front = order._from_front_to_front(neighbours)
        fill = order._by_minimum_fill(neighbours, out, front)
        assert sorted(front) == sorted(neighbours)
        assert sorted(fill) == sorted(set(neighbours) - set(out))
        for path in (
            order._searched(operands, out, sizes),
            *(order._pairwise(operands, out, x) for x in (front, front[::-1], fill, rng.permutation(front).tolist())),
        ):
            found = order._follow(path, operands, out, sizes)
            np.testing.assert_allclose(contracted(found.steps, list(tables)), expected, rtol=1e-12)


def test_minimum_fill_of_a_tree_fills_nothing():
    """In a tree of 60 edges, no table has more than two axes."""
    rng = np.random.default_rng(1)
    edges = tuple((int(rng.integers(i)), i) for i in range(1, 61))
    neighbours = order._neighbours(edges, (0,))
    path = order._pairwise(edges, (0,), order._by_minimum_fill(neighbours, (0,), sorted(neighbours)))
    # Each axis is joined to one neighbour and to the axis that is asked.
    assert max(len(step.out) for step in order._follow(path, edges, (0,), (2,) * 61).steps) <= 2


def grid(n: int, rng: np.random.Generator) -> ud.CausalModel:
    """Return a grid of binary variables, each with the one above and the one to the left as parents."""
    variables = []
    for i in range(n):
        for j in range(n):
            parents = tuple(f"X{a}_{b}" for a, b in ((i - 1, j), (i, j - 1)) if min(a, b) >= 0)
            variables.append(ud.Variable(f"X{i}_{j}", (0, 1), parents, table=rng.dirichlet([1, 1], [2] * len(parents))))
    return ud.CausalModel([variables[i] for i in rng.permutation(len(variables))])


def last_of_grid(model: ud.CausalModel, n: int) -> np.ndarray:
    """Return the distribution of the last variable, by a front of n variables that passes through the rows."""
    front, columns = np.ones(()), []
    for i in range(n):
        for j in range(n):
            variable = model[f"X{i}_{j}"]
            parents = [int(name.partition("_")[2]) for name in variable.parents]
            # The variable takes the place of the one above it.
            kept = [k for k in columns if k != j]
            front = np.einsum(front, columns, np.asarray(variable.table, float), [*parents, n], [*kept, n])
            columns = [*kept, j]
    return front.reshape(-1, 2).sum(0)


def test_grid_of_18_by_18(monkeypatch: pytest.MonkeyPatch):
    """The greedy order takes 2^33 multiplications and 2^29 bytes, a front 2^25 and 2^23; a smaller grid is answered."""
    plan = grid(18, np.random.default_rng(2)).structure.terms(("X17_17",), (), ()).plan
    assert plan.multiplications < 2**26
    assert plan.num_bytes < 2**24
    monkeypatch.setattr(order, "CHEAP", 0)
    model = grid(12, np.random.default_rng(2))
    np.testing.assert_allclose(model.query("X11_11"), last_of_grid(model, 12), rtol=1e-5)


def test_cheapest_order_within_memory_is_taken(monkeypatch: pytest.MonkeyPatch):
    """Of a grid of 8 x 8; with less memory, an order that takes less; with too little, an error that says how much."""
    model = grid(8, np.random.default_rng(3))
    terms = model.structure.terms(("X7_7",), (), ())
    operands, sizes = tuple(group.left for group in terms.groups), (2,) * 64
    monkeypatch.setattr(order, "CHEAP", 0)
    plan = order.plan.__wrapped__
    cheapest = plan(operands, (63,), sizes)
    front = order._from_front_to_front(order._neighbours(operands, (63,)))
    orders = order._searched(operands, (63,), sizes), order._pairwise(operands, (63,), front)
    assert all(cheapest.multiplications <= order._follow(x, operands, (63,), sizes).multiplications for x in orders)
    monkeypatch.setattr(order, "MAX_BYTES", cheapest.num_bytes - 1)
    assert plan(operands, (63,), sizes).num_bytes < cheapest.num_bytes
    monkeypatch.setattr(order, "MAX_BYTES", 2**10)
    with pytest.raises(ValueError, match=r"would take up to .* GiB of memory, .* too densely connected"):
        plan(operands, (63,), sizes)


@pytest.mark.parametrize("underflow", [False, True])
def test_memory_is_as_announced(monkeypatch: pytest.MonkeyPatch, underflow: bool):
    """A joint of 2^17 entries, with one scale for each table, and with one for each entry, block after block."""
    rng = np.random.default_rng(4)
    names = [f"X{i}" for i in range(17)]
    prior = ud.Variable("X0", (0, 1), table=[0.3, 0.7])
    rest = (ud.Variable(x, (0, 1), parent, table=rng.dirichlet([1, 1], 2)) for parent, x in pairwise(names))
    model = ud.CausalModel([prior, *rest])
    if underflow:
        monkeypatch.setattr(contraction, "TINY", 1.0)
        monkeypatch.setattr(contraction, "BLOCK", 2**12)
    announced = model.structure.terms(tuple(names), (), ()).plan.num_bytes
    expected = np.asarray(model["X0"].table, float)
    for name in names[1:]:
        expected = expected[..., None] * np.asarray(model[name].table, float)
    tracemalloc.start()
    found = model.query(names)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert 0.4 * announced < peak < announced + 12 * 2**12 * 8  # And some blocks.
