"""Names and graphs as callers write them: where order gives the meaning, and which graphs are read as what."""

import numpy as np
import pytest

import undelude as ud
from undelude.causal._graphs.adjustment import back_door
from undelude.causal._graphs.graph import ancestors, d_separated, descendants, latent_projection, mutilate, paths

nx = pytest.importorskip("networkx")

GRAPH = {"Z": (), "A": ("Z",), "M": ("A",), "O": ("M", "Z")}


@pytest.fixture(scope="module")
def model() -> ud.CausalModel:
    rng = np.random.default_rng(0)
    sizes = {"Z": 2, "A": 3, "M": 2, "O": 2}
    return ud.CausalModel(
        ud.Variable(x, range(sizes[x]), parents, table=rng.dirichlet(np.ones(sizes[x]), [sizes[p] for p in parents]))
        for x, parents in GRAPH.items()
    )


@pytest.mark.parametrize("several", [set, frozenset])
@pytest.mark.parametrize(
    "ask",
    [
        lambda model, pair: ud.Variable("X", pair, table=[0.5, 0.5]),
        lambda model, pair: ud.Variable("X", (0, 1), pair, table=np.full((2, 2, 2), 0.5)),
        lambda model, pair: model.query(pair),
        lambda model, pair: model.compile(pair),
        lambda model, pair: model.compile("O", see=pair),
        lambda model, pair: model.compile("O", do=pair),
        lambda model, pair: model.identify(pair),
        lambda model, pair: model.identify("O", do=pair),
        lambda model, pair: ud.identify(GRAPH, pair, do="Z"),
        lambda model, pair: ud.identify(GRAPH, "O", do=pair),
        lambda model, pair: ud.identify(GRAPH, "O", see=pair),
        lambda model, pair: ud.identify(GRAPH, "A").evaluate(np.ones((3, 2)), pair),
    ],
)
def test_set_is_refused_where_order_matters(model, ask, several):
    with pytest.raises(ValueError, match=r"must be a tuple, such as \('A', 'M'\), not a set"):
        ask(model, several(("A", "M")))


@pytest.mark.parametrize(
    ("role", "ask"),
    [
        ("asked", lambda model, names: model.query(names)),
        ("asked", lambda model, names: model.expectation(names, lambda *x: 0)),
        ("asked", lambda model, names: ud.identify(GRAPH, names)),
        ("do", lambda model, names: model.identify("O", do=names)),
        ("see", lambda model, names: ud.identify(GRAPH, "O", see=names)),
        ("do", lambda model, names: ud.causal.remedies(GRAPH, "O", do=names)),
        ("see", lambda model, names: model.compile("O", see=names)),
        (
            "X: parents",
            lambda model, names: ud.Variable("X", (0, 1), names, table=np.full([2] * len(names) + [2], 0.5)),
        ),
    ],
)
def test_refusal_of_a_set_names_the_argument(model, role, ask):
    """A set of one name has one order, and is taken."""
    with pytest.raises(ValueError, match=rf"^{role} must be a tuple, such as \('A', 'M'\), not a set"):
        ask(model, {"A", "M"})
    ask(model, {"A"})


@pytest.mark.usefixtures("no_type_checks")
def test_text_in_place_of_a_graph_is_told_who_reads_it():
    for call in (ud.Graph, lambda text: ud.identify(text, "B", do="A")):
        with pytest.raises(TypeError, match=r"not the text 'digraph \{ A -> B \}'. ud.Graph.from_dot .*from_dagitty"):
            call("digraph { A -> B }")


@pytest.mark.usefixtures("no_type_checks")
def test_set_of_environments_is_refused():
    """Theta is the number of an environment, so their order decides what it means."""
    with pytest.raises(ValueError, match="envs must be a tuple"):
        ud.tasks.tabular_from_gymnasium({object(), object()})


def test_set_is_taken_where_order_does_not_matter(model):
    answer = model.marginal({"A", "M", "O"}).query("O", do={"A": 1})
    np.testing.assert_array_equal(answer, model.marginal(("A", "M", "O")).query("O", do={"A": 1}))
    hidden = ud.CausalModel(model.variables, latent={"M", "Z"})
    assert hidden.structure == ud.CausalModel(model.variables, latent=("Z", "M")).structure
    assert model.graph.d_separated({"A"}, {"O"}, see={"M", "Z"}, do={"Z"})
    assert model.graph.back_door("A", "O", latent={"M", "Z"}) == ()
    assert str(model.identify("O", do="A", latent={"Z"})) == str(model.identify("O", do="A", latent="Z"))
    graph = {name: frozenset(parents) for name, parents in GRAPH.items()}
    assert mutilate(graph, {"A"}) == {"Z": (), "A": (), "M": ("A",), "O": ("Z", "M")}


def test_keys_of_a_dict_have_an_order(model):
    values = {"M": 1, "A": 2}
    np.testing.assert_array_equal(model.query(values.keys()), model.query(("M", "A")))


def test_one_string_is_one_name():
    assert ancestors({"A": (), "Z": (), "AZ": (), "O": "AZ"}, "O") == {"AZ", "O"}


def test_iterators_of_parents_are_read_once():
    graph = {"Z": (), "A": iter(["Z"]), "O": (name for name in ("A", "Z"))}
    assert str(ud.identify(graph, "O", do="A")) == "sum_Z P(O | A, Z) P(Z)"


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("names", [0, (0,), ("A", None)])
def test_name_must_be_a_string(model, names):
    with pytest.raises(TypeError, match="a name"):
        model.query(names)


@pytest.mark.usefixtures("no_type_checks")
def test_values_must_not_be_a_dict():
    with pytest.raises(ValueError, match="X: values must be a sequence"):
        ud.Variable("X", {"dry": 0, "wet": 1}, table=[0.5, 0.5])


# ---------------------------------------------------------------------------------------------------------- networkx


@pytest.mark.parametrize(
    "ask",
    [
        lambda graph: str(ud.identify(graph, "O", do="A")),
        lambda graph: str(ud.identify(graph, "O", do="A", latent="Z")),
        lambda graph: back_door(graph, "A", "O"),
        lambda graph: ancestors(graph, "M"),
        lambda graph: descendants(graph, "M"),
        lambda graph: d_separated(graph, "A", "O", see=("M", "Z")),
        lambda graph: sorted(map(str, paths(graph, "A", "O"))),
        lambda graph: latent_projection(graph, "Z")[1],
    ],
)
def test_digraph_equals_dict_of_parents(ask):
    arrows = nx.DiGraph([(parent, name) for name, parents in GRAPH.items() for parent in parents])
    assert ask(arrows) == ask(GRAPH)
    assert ask(nx.subgraph_view(arrows)) == ask(GRAPH)


def test_reversed_digraph_is_reversed():
    assert ancestors(nx.DiGraph([("A", "O")]).reverse(copy=False), "A") == {"A", "O"}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (lambda g: g.adj, "AdjacencyView may hold children"),
        (lambda g: g.succ, "AdjacencyView may hold children"),
        (lambda g: dict(g.adj), "Dicts of dicts"),
        (nx.to_dict_of_dicts, "Dicts of dicts"),
        (nx.Graph, "its edges have no direction"),
        (nx.MultiDiGraph, "two nodes may have several edges"),
        (lambda g: list(g.edges), r"networkx\.DiGraph"),
        (lambda g: nx.relabel_nodes(g, {"A": 0}), "must be strings, not 0"),
    ],
)
def test_other_graphs_are_refused_by_name(kind, message):
    graph = nx.DiGraph([("Z", "A"), ("Z", "O"), ("A", "O")])
    with pytest.raises(TypeError, match=message):
        ud.identify(kind(graph), "O", do="A")
    with pytest.raises(TypeError, match=message):
        d_separated(kind(graph), "O", "Z")


def test_latent_nodes_of_a_peer_are_not_ignored():
    """pgmpy's DAG is a `DiGraph` that marks nodes as latent; read as observed, they would identify the effect."""

    class DAG(nx.DiGraph):
        latents = frozenset({"U"})

    with pytest.raises(TypeError, match="marks U as latent"):
        ud.identify(DAG([("U", "A"), ("U", "O"), ("A", "O")]), "O", do="A")


@pytest.mark.parametrize("ask", [lambda g: d_separated(g, "A", "B"), lambda g: next(paths(g, "A", "B"))])
def test_separation_needs_an_acyclic_graph(ask):
    with pytest.raises(ValueError, match="A -> B -> A"):
        ask({"A": ("B",), "B": ("A",)})
