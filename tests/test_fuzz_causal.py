"""Random causal models: a query equals brute force, or raises an error that names what is wrong."""

from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import undelude as ud
from causal_oracle import brute_force, random_model
from fuzzing import examples, outcome
from undelude.causal._graphs import graph
from undelude.causal._graphs.adjustment import back_door

REFUSED = (ValueError, TypeError)
JUNK: list[Any] = [
    None, "", "x", 0, 1, -1, 1.5, 10**400, True, float("nan"), b"X0", object, [], {}, (), [[]], [None], {"X0": 0},
    {"X9": 0}, {0: 0}, ("X0", "X0"), ("X0", None), [["X0"]], range(3), "X0", "X1", "X", ("X0", "X1"), np.zeros(2),
    np.array(["X0"]), frozenset({"X2"}),
]  # fmt: skip
VALUES: list[Any] = [
    0, 1, 2, 3, -1, True, 0.5, 1.0, "0", None, [], [0], {}, np.int64(1), np.array(1), np.array([0, 1]), 10**400,
    float("nan"),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def as_users_run_it() -> Iterator[None]:
    """Disable the run-time type checks, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def models(draw: st.DrawFn, most: int = 5) -> ud.CausalModel:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    zeros = draw(st.sampled_from([0.0, 0.5]))
    return random_model(rng, draw(st.integers(1, most)), density=0.6, sizes=(1, 2, 3), zeros=zeros)


@given(data=st.data())
@examples(50)
def test_query_equals_brute_force(data: st.DataObject) -> None:
    """Any split into asked, seen, done and summed out; impossible evidence raises, and its logarithm is -inf."""
    model = models(data.draw)
    roles = {name: data.draw(st.sampled_from(["asked", "seen", "done", "summed"])) for name in model.names}
    asked = [name for name, role in roles.items() if role == "asked"]
    values = {v.name: data.draw(st.sampled_from(v.values)) for v in model.variables}
    see, do = ({x: values[x] for x, role in roles.items() if role == r} for r in ("seen", "done"))
    answer, evidence = brute_force(model, asked, see, do)
    log_prob = float(model.log_prob(see=see, do=do))
    if evidence == 0:
        assert log_prob == -np.inf
        assert isinstance(
            outcome(lambda: model.query(asked, see=see, do=do), raises=REFUSED, names=("evidence",)), ValueError
        )
        return
    np.testing.assert_allclose(log_prob, np.log(evidence), rtol=1e-4, atol=1e-5)
    found = outcome(lambda: model.query(asked, see=see, do=do), raises=REFUSED)
    np.testing.assert_allclose(found, answer / evidence, rtol=1e-4, atol=1e-6)


@given(data=st.data())
@examples(20)
def test_marginal_equals_brute_force(data: st.DataObject) -> None:
    """A query of a marginal raises, or equals the same query of the whole model."""
    model = models(data.draw)
    kept = data.draw(st.lists(st.sampled_from(model.names), min_size=1, unique=True))
    marginal = model.marginal(kept)
    roles = {name: data.draw(st.sampled_from(["asked", "seen", "done"])) for name in kept}
    asked = [name for name, role in roles.items() if role == "asked"]
    values = {v.name: data.draw(st.sampled_from(v.values)) for v in model.variables}
    see, do = ({x: values[x] for x, role in roles.items() if role == r} for r in ("seen", "done"))
    found = outcome(lambda: marginal.query(asked, see=see, do=do), raises=REFUSED, names=(*kept, "evidence"))
    answer, evidence = brute_force(model, asked, see, do)
    if not isinstance(found, Exception):
        np.testing.assert_allclose(found, answer / evidence, rtol=1e-4, atol=1e-5)


@given(data=st.data())
@examples(40)
def test_any_query(data: st.DataObject) -> None:
    """Every method, with arguments that may be neither names nor values."""
    model = models(data.draw, 3)
    names = [*model.names, *model.names, ("X0",), "X1", *JUNK]
    name = lambda: data.draw(st.sampled_from(names))  # noqa: E731

    def assignment() -> Any:
        if data.draw(st.integers(0, 4)) == 0:
            return data.draw(st.sampled_from(JUNK))
        keys = data.draw(st.lists(st.sampled_from(["X0", "X1", "X2", "X9", 0]), max_size=2, unique=True))
        return {key: data.draw(st.sampled_from(VALUES)) for key in keys}

    a, b, c, d, see, do = name(), name(), name(), name(), assignment(), assignment()
    calls = {
        "query": lambda: model.query(a, see=see, do=do),
        "log_prob": lambda: model.log_prob(see=see, do=do),
        "compile": lambda: model.compile(a, see=b, do=c),
        "values": lambda: model.compile("X0", see=("X1",))._indices("see_values", ("X1",), see),
        "marginal": lambda: model.marginal(a),
        "d_separated": lambda: model.graph.d_separated(a, b, see=c, do=d),
        "paths": lambda: [str(path) for path in model.graph.paths(a, b, see=c, do=d)],
        "back_door": lambda: model.graph.back_door(a, b, latent=c),
        "identify": lambda: str(model.identify(a, do=b, see=c, latent=d)),
        "experiments": lambda: str(model.identify(a, do=b, latent=d, experiments=[c, ()])),
        "remedies": lambda: str(ud.causal.remedies(model.graph, a, do=b, see=c, latent=d, limit=9)),
        "identify_counterfactual": lambda: str(
            ud.causal.identify_counterfactual(model.graph, see, do=do, given=assignment(), latent=d)
        ),
        "getitem": lambda: model[a],
        "table": lambda: model.table(a),
    }
    call = calls[data.draw(st.sampled_from(sorted(calls)))]
    found = outcome(call, raises=REFUSED)
    if isinstance(found, np.ndarray) or hasattr(found, "dtype"):
        assert not np.isnan(np.asarray(found)).any()


@given(data=st.data())
@examples(20)
def test_any_model(data: st.DataObject) -> None:
    """Variables and models from arguments of any type."""
    draw = data.draw
    junk = st.sampled_from([*JUNK, *VALUES])
    tables = [[0.5, 0.5], [1.0], [[0.5, 0.5]] * 2, [0.5, np.nan], [], [[]], [-1, 2], [0, 0], np.full((2, 2, 2), 0.5)]
    variables = []
    for i in range(draw(st.integers(1, 3))):
        parts: list[Any] = [f"X{i}", (0, 1), tuple(f"X{j}" for j in range(i)), np.full((2,) * (i + 1), 0.5)]
        if draw(st.integers(0, 2)) == 0:
            at = draw(st.integers(0, 3))
            parts[at] = draw(junk if at < 3 else st.one_of(st.sampled_from(tables), junk))
        made = outcome(lambda parts=parts: ud.Variable(*parts[:3], table=parts[3]), raises=REFUSED)
        if not isinstance(made, Exception):
            variables.append(made)
            assert np.isfinite(made.table).all()
    if draw(st.integers(0, 9)) == 0:
        variables.append(draw(junk))
    hidden = draw(st.one_of(st.just(()), junk))
    model = outcome(lambda: ud.CausalModel(variables, latent=hidden), raises=REFUSED)
    if not isinstance(model, Exception) and model.names:
        answer = model.query(model.names[0])
        np.testing.assert_allclose(answer.sum(), 1, atol=1e-5)


@given(data=st.data())
@examples(20)
def test_any_graph(data: st.DataObject) -> None:
    """Functions of a graph, with cycles, loops, unknown parents and arguments that are not graphs."""
    draw = data.draw
    names = ["A", "B", "C", "D"]
    dag = {x: tuple(draw(st.lists(st.sampled_from(names), max_size=2))) for x in names[: draw(st.integers(0, 4))]}
    if draw(st.integers(0, 3)) == 0:
        dag[draw(st.sampled_from(["A", "E", 0, None]))] = draw(st.sampled_from(JUNK))
    if draw(st.integers(0, 9)) == 0:
        dag = draw(st.sampled_from(JUNK))
    choice = st.one_of(st.sampled_from([*names, ("A", "B"), ("C",), ()]), st.sampled_from(JUNK))
    a, b, c, d = (draw(choice) for _ in range(4))
    calls = {
        "order": lambda: graph.topological_order(dag),
        "ancestors": lambda: graph.ancestors(dag, a),
        "descendants": lambda: graph.descendants(dag, a),
        "mutilate": lambda: graph.mutilate(dag, a),
        "d_separated": lambda: graph.d_separated(dag, a, b, see=c, do=d),
        "paths": lambda: [str(path) for path in graph.paths(dag, a, b, see=c, do=d)],
        "back_door": lambda: back_door(dag, a, b, latent=c),
        "projection": lambda: graph.latent_projection(dag, a),
        "identify": lambda: str(ud.identify(dag, a, do=b, see=c, latent=d)),
        "experiments": lambda: str(ud.identify(dag, a, do=b, latent=c, experiments=d)),
        "remedies": lambda: str(ud.causal.remedies(dag, a, do=b, see=c, latent=d)),
        "identify_counterfactual": lambda: str(
            ud.causal.identify_counterfactual(dag, {"A": 1}, do={"B": 0}, given={"C": 0}, latent=d)
        ),
    }
    outcome(calls[draw(st.sampled_from(sorted(calls)))], raises=REFUSED)
