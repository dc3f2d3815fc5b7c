"""Positivity of marginals: against the estimand on the joint distribution, and where no joint can be laid down."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from test_identification import NAPKIN, Query, World, random_query
from undelude.causal._expressions.expression import Fraction, Probability, Product, Sum
from undelude.causal._identifying.positivity import undefined
from undelude.causal._names import Parents


def tables_of(world: World, graph: Parents) -> list[np.ndarray]:
    """Return the tables of a world, with an axis for each parent and a last one for the variable."""
    found = []
    for name, parents in graph.items():
        axes = [world.names.index(x) for x in (*parents, name)]
        table = world.tables[name].reshape([world.sizes[world.names[axis]] for axis in sorted(axes)])
        found.append(table.transpose([sorted(axes).index(axis) for axis in axes]))
    return found


def front_door(num_mediators: int, *, copied: tuple[int, ...] = ()) -> ud.CausalModel:
    """Return a front door through a chain of mediators; those `copied` are copies of the one before."""
    rng = np.random.default_rng(0)
    variables = [
        ud.Variable("U", (0, 1), table=[0.5, 0.5]),
        ud.Variable("X", (0, 1), "U", table=[[0.8, 0.2], [0.3, 0.7]]),
    ]
    last = "X"
    for i in range(num_mediators):
        table = [[1, 0], [0, 1]] if i in copied else rng.dirichlet([1, 1], 2)
        variables.append(ud.Variable(f"M{i}", (0, 1), last, table=table))
        last = f"M{i}"
    return ud.CausalModel([*variables, ud.Variable("Y", (0, 1), (last, "U"), table=rng.dirichlet([1, 1], (2, 2)))])


def but_u(model: ud.CausalModel) -> ud.CausalModel:
    return model.marginal([name for name in model.names if name != "U"])


def test_undefined_equals_estimand_of_the_joint():
    """On random graphs with hidden variables and zeros, at all values at once and at single ones."""
    rng = np.random.default_rng(12)
    counts = Counter()
    for i in range(200):
        query = Query(NAPKIN, ("U", "V"), ("O",), ("A",), ()) if i % 8 == 0 else random_query(rng, most_seen=2)
        answer = query.ask()
        if isinstance(answer, ud.NotIdentifiable):
            continue
        world = World(query.graph, rng, zeros=rng.choice([0.2, 0.4, 0.6]))
        tables, over = tables_of(world, query.graph), (*answer.see, *answer.do)
        value = answer.evaluate(*world.observed(query))
        expected = np.isnan(value).any(tuple(range(len(answer.asked))))
        found = undefined(query.graph, tables, answer, {}, over)
        np.testing.assert_array_equal(np.broadcast_to(found, expected.shape), expected, err_msg=f"{query} {answer}")
        at = tuple(int(rng.integers(n)) for n in expected.shape)
        assert undefined(query.graph, tables, answer, dict(zip(over, at, strict=True))) == np.asarray(expected)[at]
        counts[bool(answer.free), bool(expected.any())] += 1
    assert min(counts.values()) > 5
    assert len(counts) == 4


@pytest.mark.parametrize(
    "expression",
    [
        Fraction(Probability(frozenset("O")), Probability(frozenset("A"), frozenset("B"))),
        Fraction(Fraction(Probability(frozenset("O")), Probability(frozenset("B"))), Probability(frozenset("A"))),
        Fraction(Probability(frozenset("O")), Fraction(Probability(frozenset("A")), Probability(frozenset("B")))),
        Product((Probability(frozenset("A")), Fraction(Probability(frozenset("O")), Probability(frozenset("B"))))),
        Fraction(Probability(frozenset("O")), Sum(frozenset("A"), Probability(frozenset("A"), frozenset("B")))),
        Sum(frozenset("O"), Fraction(Probability(frozenset("O")), Probability(frozenset("A")))),
    ],
)
def test_undefined_parts_of_fractions(expression):
    """Expressions that ID does not return, where A and B each have a value without probability."""
    graph: Parents = {"A": (), "B": (), "O": ()}
    tables = [np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([0.5, 0.5])]
    estimand = ud.Estimand(("O",), ("A", "B"), (), expression, ("A", "B", "O"))
    value = estimand.evaluate(np.einsum("a,b,o->abo", *tables), ("A", "B", "O"))
    expected = np.isnan(value).any(0)
    found = undefined(graph, tables, estimand, {}, ("A", "B"))
    np.testing.assert_array_equal(np.broadcast_to(found, (2, 2)), expected)
    assert expected.any()


def test_front_door_through_40_mediators():
    """The joint has 2^42 entries; the truth is a product of matrices."""
    model = front_door(40)
    mediated = np.eye(2)
    for i in range(40):
        mediated = mediated @ np.asarray(model[f"M{i}"].table, float)
    expected = mediated[1] @ np.asarray(model["Y"].table, float).mean(1)
    np.testing.assert_allclose(but_u(model).query("Y", do={"X": 1}), expected, rtol=1e-5)


def test_front_door_through_40_mediators_without_positivity():
    """If every mediator is a copy of X, nobody has seen X = 0 with the last mediator of X = 1."""
    with pytest.raises(ValueError, match="positivity"):
        but_u(front_door(40, copied=tuple(range(40)))).query("Y", do={"X": 1})
    # Copies alone are harmless if one mediator is not a copy.
    model = front_door(40, copied=tuple(range(1, 40)))
    np.testing.assert_allclose(but_u(model).query("Y", do={"X": 1}), model.query("Y", do={"X": 1}), rtol=1e-5)


@pytest.fixture
def unseen() -> ud.CausalModel:
    """A is never 1, and U is alone."""
    table = [[0.2, 0.8], [0.3, 0.7]]
    return ud.CausalModel(
        [
            ud.Variable("A", (0, 1), table=[1, 0]),
            ud.Variable("O", (0, 1), "A", table=table),
            ud.Variable("U", (0, 1), table=[0.5, 0.5]),
        ]
    )


@pytest.mark.parametrize("names", [("A", "O"), ("A", "O", "U")])
def test_marginal_knows_only_what_was_seen(unseen, names):
    """An observer never saw A = 1, whether or not something is hidden; the model itself knows the mechanism."""
    marginal = unseen.marginal(names)
    np.testing.assert_allclose(marginal.query("O", do={"A": 0}), [0.2, 0.8])
    with pytest.raises(ValueError, match="positivity"):
        marginal.query("O", do={"A": 1})
    with pytest.raises(ValueError, match="positivity"):
        marginal.log_prob(see={"O": 1}, do={"A": 1})
    np.testing.assert_allclose(unseen.query("O", do={"A": 1}), [0.3, 0.7])
    assert "latent: U" in repr(unseen.marginal(("A", "O")))
    assert "latent: nothing" in repr(unseen.marginal(("A", "O", "U")))


def test_compiled_marginal_is_nan_where_unseen(unseen):
    f = unseen.marginal(("A", "O")).compile("O", do="A")
    expected = [[0.2, 0.8], [np.nan, np.nan]]
    np.testing.assert_allclose(f(do_values=[[0], [1]]), expected)
    np.testing.assert_allclose(jax.jit(lambda values: f(do_values=values))(jnp.array([[0], [1]])), expected)


def test_compiled_marginal_with_too_many_values_raises():
    """The evidence has 2^26 values, and some of them have no probability; a single query needs no table of them."""
    stay, length = [[0.9, 0.1], [0.2, 0.8]], 25
    variables = [ud.Variable("A", (0, 1), table=[1, 0]), ud.Variable("S0", (0, 1), "A", table=stay)]
    for i in range(length):
        variables += [ud.Variable(f"X{i}", (0, 1), f"S{i}", table=stay)]
        variables += [ud.Variable(f"S{i + 1}", (0, 1), f"S{i}", table=stay)]
    model, seen = ud.CausalModel(variables), [f"X{i}" for i in range(length)]
    marginal = model.marginal(["A", *seen, f"S{length}"])
    with pytest.raises(ValueError, match=r"26 in all\) have 6\.7e.07 combinations"):
        marginal.compile(f"S{length}", see=seen, do="A")([0] * length, [0])
    see = dict.fromkeys(seen, 1)
    answer = marginal.query(f"S{length}", see=see, do={"A": 0})
    np.testing.assert_allclose(answer, model.query(f"S{length}", see=see, do={"A": 0}))
    with pytest.raises(ValueError, match="positivity"):
        marginal.query(f"S{length}", see=see, do={"A": 1})
