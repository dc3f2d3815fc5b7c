"""Adjustment, front-door and instrument sets: against their definitions, and against the effects in random models."""

from itertools import islice, permutations, product

import numpy as np
import pytest

import graph_oracle as oracle
import undelude as ud
from graph_oracle import Binary, Linear, random_graph
from undelude.causal._graphs.adjustment import adjustment_sets, back_door, efficient_adjustment
from undelude.causal._graphs.front_door import front_door
from undelude.causal._graphs.instruments import instruments

FRONT_DOOR = ud.Graph({"A": (), "M": "A", "O": "M"}, bidirected=[("A", "O")])


def random_queries(seed: int, num: int, *, several: bool = False, confounded: bool = False, largest: int = 6):
    """Yield random graphs with causes, outcomes and latent variables; a cause and an outcome may share a latent one."""
    rng = np.random.default_rng(seed)
    for _ in range(num):
        graph = random_graph(rng, int(rng.integers(3, largest + 1)), rng.uniform(0.3, 0.7))
        names = [str(x) for x in rng.permutation(list(graph))]
        i, j = rng.integers(1, 3, 2) if several and rng.random() < 0.4 else (1, 1)
        a, o, rest = names[:i], names[i : i + j], names[i + j :]
        if rng.random() < 0.7 and len(a) == len(o) and not oracle.below(graph, a) & set(o):
            a, o = o, a
        latent = rest[: rng.integers(0, min(3, len(rest)) + 1)] if o else []
        if confounded and len(graph) < largest:
            graph = {"U": ()} | {x: (*found, "U") if x in (a[0], o[0]) else found for x, found in graph.items()}
            latent = [*latent, "U"]
        yield graph, a, o or rest, latent


def all_queries(n: int):
    """Yield all graphs of `n` variables in a fixed order, with all pairs of cause and outcome, and latent variables."""
    names = [f"X{i}" for i in range(n)]
    pairs = [(x, y) for y in range(n) for x in range(y)]
    for chosen in product((False, True), repeat=len(pairs)):
        arrows = {pair for pair, used in zip(pairs, chosen, strict=True) if used}
        graph = {names[y]: tuple(names[x] for x in range(y) if (x, y) in arrows) for y in range(n)}
        for a, o in permutations(names, 2):
            for latent in oracle.subsets(x for x in names if x not in (a, o)):
                yield graph, [a], [o], sorted(latent)


def compare_adjustment(queries) -> int:
    """Compare the minimal sets with the definition; return how often there are some."""
    hits = 0
    for graph, a, o, latent in queries:
        expected = oracle.minimal(oracle.adjustment_sets(graph, a, o, latent))
        found = adjustment_sets(graph, a, o, latent=latent)
        assert set(found) == expected, (graph, a, o, latent)
        assert len(found) == len(expected)
        hits += bool(found)
    return hits


def compare_front_door(queries) -> int:
    """Compare the minimal sets with the definition; return how often there are some besides the empty one."""
    hits = 0
    for graph, a, o, latent in queries:
        expected = oracle.minimal(oracle.front_door_sets(graph, a, o, latent))
        found = front_door(graph, a, o, latent=latent)
        assert set(found) == expected, (graph, a, o, latent)
        assert len(found) == len(expected)
        hits += bool(found) and found != (frozenset(),)
    return hits


def compare_instruments(queries) -> int:
    """Compare with the definition: the instruments with a set of ancestors, and some if there are any."""
    hits = 0
    for graph, (a,), (o,), latent in queries:
        every = oracle.instruments(graph, a, o, latent)
        found = instruments(graph, a, o, latent=latent)
        assert set(found) <= every, (graph, a, o, latent)
        ancestral = {z for z, w in every if w <= oracle.above(graph, (z, o))}
        assert {z for z, _ in found} == ancestral, (graph, a, o, latent)
        assert bool(found) == bool(every)
        hits += bool(found)
    return hits


def compare_efficient(queries, *, num_models: int = 3) -> tuple[int, int]:
    """Compare the variance with those of all adjustment sets, in random linear models.

    Returns how often there were several sets, and how often with latent variables.
    """
    rng = np.random.default_rng(0)
    hits = hidden = 0
    for graph, (a,), (o,), latent in queries:
        best = efficient_adjustment(graph, a, o, latent=latent)
        valid = oracle.adjustment_sets(graph, [a], [o], latent)
        if best is None:
            assert not valid or latent or o not in oracle.below(graph, (a,)), (graph, a, o)
            continue
        assert best in valid, (graph, a, o, latent)
        for _ in range(num_models):
            model = Linear(graph, rng)
            least = min(model.variance(a, o, z) for z in valid)
            assert model.variance(a, o, best) <= least * (1 + 1e-9), (graph, a, o, latent)
        hits += len(valid) > 1
        hidden += bool(latent) and len(valid) > 1
    return hits, hidden


def test_adjustment_sets_equal_their_definition():
    assert compare_adjustment(random_queries(0, 400, several=True)) > 200


def test_front_door_sets_equal_their_definition():
    assert compare_front_door(random_queries(1, 600, several=True, confounded=True)) > 8


def test_instruments_equal_their_definition():
    assert compare_instruments(random_queries(2, 500, confounded=True)) > 20


def test_efficient_adjustment_has_the_least_variance():
    hits, hidden = compare_efficient(random_queries(3, 200))
    assert hits > 30
    assert hidden > 10


@pytest.mark.parametrize("compare", [compare_adjustment, compare_front_door, compare_instruments])
def test_sets_in_all_graphs_of_four_variables(compare):
    assert compare(all_queries(4)) > 30


@pytest.mark.slow
@pytest.mark.parametrize("compare", [compare_adjustment, compare_front_door, compare_instruments, compare_efficient])
def test_sets_in_every_tenth_graph_of_five_variables(compare):
    print(compare.__name__, compare(islice(all_queries(5), 0, None, 10)))


@pytest.mark.slow
@pytest.mark.parametrize("compare", [compare_adjustment, compare_front_door, compare_instruments, compare_efficient])
def test_sets_in_ten_thousand_graphs(compare):
    several = compare in (compare_adjustment, compare_front_door)
    print(compare.__name__, compare(random_queries(100, 10_000, several=several, confounded=True, largest=7)))


# --------------------------------------------------------------------------------------------- effects in models


def test_adjustment_gives_the_effect():
    """Sets that meet the criterion give it in random models, and sets that do not give another number."""
    rng = np.random.default_rng(4)
    counts = {True: 0, False: 0}
    for graph, (a,), (o,), latent in random_queries(4, 60, largest=5):
        model, valid = Binary(graph, rng), oracle.adjustment_sets(graph, [a], [o], latent)
        assert set(adjustment_sets(graph, a, o, latent=latent)) <= valid
        truth = [model.joint([o], {a: x}) for x in range(2)]
        for z in oracle.subsets(x for x in graph if x not in (a, o, *latent)):
            joint = model.joint([*z, a, o])
            adjusted = (joint / joint.sum(-1, keepdims=True) * joint.sum((-2, -1), keepdims=True)).reshape(-1, 2, 2)
            assert np.allclose(adjusted.sum(0), truth) == (z in valid), (graph, a, o, z)
            counts[z in valid] += 1
    assert min(counts.values()) > 30


def test_front_door_gives_the_effect():
    rng = np.random.default_rng(5)
    count = 0
    for graph, (a,), (o,), latent in random_queries(5, 300, confounded=True):
        for z in front_door(graph, a, o, latent=latent):
            joint = Binary(graph, rng)
            p = joint.joint([*z, a, o]).reshape(-1, 2, 2)  # [z, a, o]
            given_a = p.sum(2) / p.sum((0, 2))
            inner = np.einsum("zao,a->zo", p / p.sum(2, keepdims=True), p.sum((0, 2)))
            truth = [joint.joint([o], {a: x}) for x in range(2)]
            np.testing.assert_allclose(np.einsum("za,zo->ao", given_a, inner), truth, atol=1e-12)
            count += bool(z)
    assert count > 5


def test_instruments_give_the_effect_of_linear_models():
    rng = np.random.default_rng(6)
    count = 0
    for graph, (a,), (o,), latent in random_queries(6, 400, confounded=True):
        model = Linear(graph, rng)
        for z, w in instruments(graph, a, o, latent=latent):
            ratio = model.partial(z, o, w) / model.partial(z, a, w)
            np.testing.assert_allclose(ratio, model.effect(a, o), rtol=1e-6)
            count += 1
    assert count > 20


# -------------------------------------------------------------------------------------------------- by their names


def test_descendants_of_the_cause_may_serve():
    """D descends from A, not on the causal path: no back-door set has it, and no other set serves (Figure 5 there)."""
    graph = ud.Graph({"A": (), "D": ("A",), "E": (), "O": ("A", "D")}, bidirected=[("A", "E")])
    assert graph.adjustment_sets("A", "O") == (frozenset(),)
    chain = ud.Graph({"X": (), "A": "X", "D": "A", "B": ("D", "X"), "O": ("B", "A")})
    assert chain.adjustment_sets(("A", "B"), "O") == (frozenset(),)
    assert chain.back_door("A", "O") == ({"X"},)


def test_joint_interventions_have_causal_paths_of_their_own():
    """Paths through another cause are not causal paths of the first: W and V, on one, serve."""
    graph = {"A": (), "W": "A", "C": (), "V": ("W", "C"), "B": "V", "O": ("A", "B", "C")}
    assert ud.Graph(graph, latent="C").adjustment_sets(("A", "B"), "O") == ({"W", "V"},)
    below = ud.Graph({"A": (), "M": "A", "D": "M", "B": "D", "O": ("M", "B")})
    assert below.adjustment_sets(("A", "B"), "O") == ()  # D would block B <- D <- M -> O, and descends from M


def test_frog_has_neither_set():
    frog = ud.Graph({"Theta": (), "A": "Theta", "O": ("Theta", "A")}, latent="Theta")
    for ask in (frog.back_door, frog.adjustment_sets, frog.front_door, frog.instruments):
        assert ask("A", "O") == ()
    assert frog.efficient_adjustment("A", "O") is None


def test_front_door_of_the_textbook():
    assert FRONT_DOOR.front_door("A", "O") == ({"M"},)
    assert FRONT_DOOR.back_door("A", "O") == ()
    two = ud.Graph({"A": (), "M": "A", "N": "M", "O": "N"}, bidirected=[("A", "O")])
    assert two.front_door("A", "O") == ({"M"}, {"N"})
    assert two.front_door("A", "O", limit=1) in [({"M"},), ({"N"},)]


def test_front_door_set_may_need_a_variable_that_screens_off():
    """The back-door path M <- C -> O is cut by taking C, a descendant of A, into the set."""
    graph = ud.Graph({"A": (), "C": "A", "M": ("A", "C"), "O": ("M", "C")}, bidirected=[("A", "O")])
    assert graph.front_door("A", "O") == ({"C", "M"},)


def test_candidate_falls_with_the_one_that_screened_it_off():
    """N <- M <- L -> O: M has a back-door path, so that it is not in the set that would block this one."""
    parents = {"L": (), "A": (), "M": ("L", "A"), "N": ("A", "M"), "O": ("L", "N")}
    assert ud.Graph(parents, bidirected=[("A", "O")], latent="L").front_door("A", "O") == ()


def test_conditional_instrument_of_the_literature():
    """Z is one given W, its cause (van der Zander, Textor & Liskiewicz 2015)."""
    graph = ud.Graph({"W": (), "Z": "W", "A": "Z", "O": ("A", "W")}, bidirected=[("A", "O")])
    assert graph.instruments("A", "O") == (("Z", {"W"}),)
    assert graph.instruments("A", "O", latent="W") == ()
    simple = ud.Graph({"Z": (), "A": "Z", "O": "A"}, bidirected=[("A", "O")])
    assert simple.instruments("A", "O") == (("Z", frozenset()),)
    assert simple.instruments("O", "A") == ()


def test_efficient_adjustment_takes_causes_of_the_outcome():
    graph = ud.Graph({"Z": (), "A": "Z", "C": (), "O": ("A", "Z", "C")})
    assert graph.efficient_adjustment("A", "O") == {"Z", "C"}
    assert graph.adjustment_sets("A", "O") == ({"Z"},)
    assert graph.efficient_adjustment("O", "A") is None
    assert graph.efficient_adjustment("A", "O", latent="Z") is None
    proxy = ud.Graph({"A": (), "C": (), "D": "C", "O": ("A", "C")}, latent="C")  # D is better than no set
    assert proxy.efficient_adjustment("A", "O") is None
    hidden = ud.Graph({"Z": (), "H": "Z", "A": "Z", "O": ("A", "H")}, latent="H")
    assert hidden.efficient_adjustment("A", "O") == {"Z"}


# ---------------------------------------------------------------------------------------------------- large graphs


def ladder(n: int) -> dict[str, tuple[str, ...]]:
    """Return two chains with rungs; the causes of the first rung are one variable."""
    graph: dict[str, tuple[str, ...]] = {"S": ()}
    for i in range(n // 2):
        before = (f"X{i - 1}", f"Y{i - 1}") if i else ("S", "S")
        graph |= {f"X{i}": (before[0],), f"Y{i}": (before[1], f"X{i}")}
    return graph


def test_ten_thousand_variables():
    chain = {f"X{i}": (f"X{i - 1}",) if i else () for i in range(10_000)}
    assert back_door(chain, "X5000", "X9999") == (frozenset(),)
    assert back_door(chain, "X9000", "X100", limit=2) == ({"X8998"}, {"X8999"})
    assert adjustment_sets(chain, ("X10", "X5000"), "X9999") == (frozenset(),)
    assert front_door(chain, "X9900", "X9999", limit=2) == ({"X9901"}, {"X9902"})
    wide = ladder(10_000)
    assert back_door(wide, "X4000", "Y4999", limit=3) == ({"X3999"}, {"Y3999"})


def test_exponentially_many_sets_stop_at_the_limit():
    """Twenty forks, each of which can be cut at two nodes."""
    graph: dict[str, tuple[str, ...]] = {}
    for i in range(20):
        graph |= {f"P{i}": (), f"Q{i}": (f"P{i}",)}
    graph |= {"A": tuple(f"P{i}" for i in range(20)), "O": ("A", *(f"Q{i}" for i in range(20)))}
    assert len(set(adjustment_sets(graph, "A", "O", limit=9))) == 9
    through: dict[str, tuple[str, ...]] = {"A": ()}
    for i in range(20):
        through |= {f"P{i}": ("A",), f"Q{i}": (f"P{i}",)}
    through["O"] = tuple(f"Q{i}" for i in range(20))
    assert len(set(front_door(through, "A", "O", limit=9))) == 9


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda g: g.adjustment_sets("A", ()), "no outcome is named"),
        (lambda g: g.front_door((), "O"), "no cause is named"),
        (lambda g: g.adjustment_sets("A", "A"), "A is both the cause and the outcome"),
        (lambda g: g.front_door("A", "O", latent="O"), "O is both the outcome and latent"),
        (lambda g: g.instruments("A", "X"), "'X' is not in the graph"),
        (lambda g: g.instruments(("A", "M"), "O"), "one cause and one outcome"),
        (lambda g: g.back_door(("A", "M"), "O"), "adjustment_sets takes several"),
        (lambda g: g.back_door("A", "O", limit=0), "limit must be at least 1"),
        (lambda g: g.front_door("A", "O", limit=0), "limit must be at least 1"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_wrong_questions_say_why(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(FRONT_DOOR)
