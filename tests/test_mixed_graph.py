"""Graphs with directed and bidirected edges: their parts, projections, equivalence classes, drawings."""

import pickle
import re
from itertools import combinations, islice, permutations, product

import networkx as nx
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

import graph_oracle as oracle
import undelude as ud
from graph_oracle import random_graph
from undelude._drawing.colours import ON_WHITE
from undelude._drawing.panel import describe, panel_of
from undelude.causal._graphs.adjustment import back_door
from undelude.causal._graphs.graph import d_separated, latent_projection
from undelude.causal._graphs.moral import moral
from undelude.causal._identifying.bounds import bounds

FROG = {"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}
HIDDEN = ud.Graph(FROG, latent="Theta")
FRONT_DOOR = ud.Graph({"A": (), "M": "A", "O": "M"}, bidirected=[("O", "A")])

MODEL = ud.CausalModel(
    [
        ud.Variable("Theta", (0, 1), table=[0.5, 0.5]),
        ud.Variable("A_1", (0, 1), ("Theta",), table=np.eye(2)),
        ud.Variable("O", (0, 1), ("Theta", "A_1"), table=np.full((2, 2, 2), 0.5)),
    ]
)


def random_mixed(rng: np.random.Generator, n: int) -> ud.Graph:
    """Return a random graph with bidirected edges and latent variables."""
    parents = random_graph(rng, n, 0.35)
    pairs = [pair for pair in combinations(parents, 2) if rng.random() < 0.2]
    return ud.Graph(parents, bidirected=pairs, latent=[x for x in parents if rng.random() < 0.2])


# ---------------------------------------------------------------------------------------------- a mapping, with latents


def test_graph_is_a_mapping_to_parents():
    graph = ud.Graph(FROG)
    assert dict(graph) == FROG
    assert (graph["O"], list(graph), len(graph), "A" in graph) == (("Theta", "A"), ["Theta", "A", "O"], 3, True)
    assert graph == FROG
    assert graph == {"O": ["A", "Theta"], "A": "Theta", "Theta": ()}
    assert graph not in (HIDDEN, {"A": ()}, {"A": ("B",)}, 3)
    assert len({graph, ud.Graph(dict(reversed(FROG.items()))), HIDDEN}) == 2
    assert pickle.loads(pickle.dumps(HIDDEN)) == HIDDEN
    with pytest.raises(AttributeError):
        graph.latent = ("A",)
    with pytest.raises(TypeError, match="does not support item assignment"):
        graph["O"] = ()  # pyright: ignore[reportIndexIssue]


def test_bidirected_edge_is_a_latent_cause():
    assert FRONT_DOOR.latent == ("A <-> O",)
    assert FRONT_DOOR["O"] == ("M", "A <-> O")
    assert FRONT_DOOR.bidirected == (("A", "O"),)
    assert FRONT_DOOR.observed == ("A", "M", "O")
    assert FRONT_DOOR.directed == {"A": (), "M": ("A",), "O": ("M",)}
    assert FRONT_DOOR.arrows == (("A", "M"), ("M", "O"))
    written_out = {"A": "A <-> O", "M": "A", "O": ("M", "A <-> O"), "A <-> O": ()}
    assert ud.Graph(written_out, latent="A <-> O") == FRONT_DOOR
    assert ud.Graph(FRONT_DOOR, bidirected=[("A", "O")]) == FRONT_DOOR
    assert repr(FRONT_DOOR) == "Graph(A, M | A, O | M; A <-> O)"
    assert repr(HIDDEN) == "Graph(Theta, A | Theta, O | Theta A; latent: Theta)"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ud.Graph({"A": "O", "O": "A"}), ValueError, "cycle: A -> O -> A"),
        (lambda: ud.Graph({"O": "A"}), ValueError, "O: its parent 'A' is not in the graph"),
        (lambda: ud.Graph({"A": ()}, latent="B"), ValueError, "'B' is not in the graph"),
        (lambda: ud.Graph({"A": ()}, bidirected=[("A", "B")]), ValueError, "'B' is not in the graph"),
        (lambda: ud.Graph({"A": ()}, bidirected=[("A", "A")]), ValueError, "pair of two names"),
        (lambda: ud.Graph({"A": (), "O": ()}, bidirected=["AO"]), ValueError, "'AO' is not in the graph"),
        (lambda: ud.Graph({"A": (), "O": (), "A <-> O": "A"}, bidirected=[("A", "O")]), ValueError, "of its own"),
        (lambda: ud.Graph(nx.Graph([("A", "O")])), TypeError, "no direction"),
        (lambda: ud.Graph({"A": {"O": {}}}), TypeError, "hold children"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_wrong_graphs_say_why(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_functions_keep_the_latent_variables():
    """A function that took the mapping and lost its latent variables would identify the effect by adjustment."""
    for refused in (
        lambda: ud.identify(HIDDEN, "O", do="A"),
        lambda: ud.identify(ud.Graph(HIDDEN), "O", do="A"),
        lambda: HIDDEN.identify("O", do="A"),
        lambda: ud.Graph(FROG).identify("O", do="A", latent="Theta"),
    ):
        with pytest.raises(ud.NotIdentifiable, match="Theta, hidden"):
            refused()
    assert back_door(HIDDEN, "A", "O") == HIDDEN.back_door("A", "O") == ()
    assert latent_projection(HIDDEN) == ({"A": (), "O": ("A",)}, {frozenset("AO")})
    joint = np.array([[0.0, 0.5], [0.0, 0.5]])  # of A and O, of the expert who always wins
    found = bounds(HIDDEN, "O", do={"A": 0}, joint=joint, names=("A", "O"))
    np.testing.assert_allclose([found.low, found.high], [[0, 0.5], [0.5, 1]], atol=1e-9)
    with pytest.raises(ValueError, match="Theta is latent in the graph, and cannot be counted"):
        ud.causal.fit(HIDDEN, {"Theta": [0, 1], "A": [0, 1], "O": [0, 1]})
    with pytest.raises(ValueError, match="Theta is both asked and latent"):
        HIDDEN.identify("Theta", do="A")


def test_graph_of_a_model():
    assert isinstance(MODEL.graph, ud.Graph)
    assert MODEL.graph.latent == ()
    assert MODEL.marginal(("A_1", "O")).graph == ud.Graph(MODEL.graph, latent="Theta")
    assert MODEL.graph.back_door("A_1", "O") == MODEL.graph.back_door("A_1", "O", limit=1) == ({"Theta"},)
    assert MODEL.marginal(("A_1", "O")).graph.back_door("A_1", "O") == ()


def test_methods_are_the_functions():
    graph = ud.Graph({"Z": (), "A": "Z", "M": "A", "O": ("M", "Z")})
    assert graph.topological_order() == ("Z", "A", "M", "O")
    assert (graph.ancestors("M"), graph.descendants("A")) == ({"M", "A", "Z"}, {"A", "M", "O"})
    assert graph.d_separated("A", "O", see=("M", "Z"))
    assert not graph.d_separated("A", "O", see="M")
    assert graph.d_separated("Z", "A", do="A")
    assert [str(path) for path in graph.paths("A", "O", do="A")] == ["A -> M -> O"]
    assert str(graph.identify("O", do="A")) == "sum_Z P(O | A, Z) P(Z)"
    assert sorted(map(str, FRONT_DOOR.paths("A", "O"))) == ["A -> M -> O", "A <-> O"]
    assert sorted(map(str, FRONT_DOOR.paths("O", "A"))) == ["O <- M <- A", "O <-> A"]


# ------------------------------------------------------------------------------------------------------ other graphs


def test_surgery_cuts_bidirected_edges():
    assert FRONT_DOOR.mutilated("O") == ud.Graph({"A": (), "M": "A", "O": ()})
    assert FRONT_DOOR.mutilated("M") == ud.Graph({"A": (), "M": (), "O": "M"}, bidirected=[("A", "O")])
    assert HIDDEN.mutilated("A") == ud.Graph(FROG | {"A": ()}, latent="Theta")
    rng = np.random.default_rng(0)
    for _ in range(50):
        graph = random_mixed(rng, 5)
        a, b, done, *rest = (str(x) for x in rng.permutation(list(graph.directed)))
        given = (*rest[:1], done)
        assert graph.mutilated(done).d_separated(a, b, see=given) == graph.d_separated(a, b, see=given, do=done)


def test_ancestral_graph():
    assert FRONT_DOOR.ancestral("M") == ud.Graph({"A": (), "M": "A"})
    assert FRONT_DOOR.ancestral(("O",)) == FRONT_DOOR
    assert HIDDEN.ancestral("A") == ud.Graph({"Theta": (), "A": "Theta"}, latent="Theta")


def test_projection_keeps_separations_and_identification():
    """Also in two steps, and of bidirected edges."""
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(80):
        graph = random_mixed(rng, 6)
        kept = [x for x in graph.observed if rng.random() < 0.8]
        if len(kept) < 3:
            continue
        found = graph.projected(kept)
        assert found.observed == tuple(kept)
        assert graph.projected().projected(kept) == found
        assert found.projected() == found
        a, b, *rest = (str(x) for x in rng.permutation(kept))
        for given in oracle.subsets(rest):
            assert found.d_separated(a, b, see=given) == graph.d_separated(a, b, see=given)
        answers = []
        for each, latent in ((graph, [x for x in graph.observed if x not in kept]), (found, ())):
            try:
                each.identify(b, do=a, latent=latent)
                answers.append(True)
            except ud.NotIdentifiable:
                answers.append(False)
        assert answers[0] == answers[1]
        refused += not answers[0]
    assert refused > 3


def test_c_components_are_joined_by_bidirected_edges():
    assert FRONT_DOOR.c_components() == ({"A", "O"}, {"M"})
    assert HIDDEN.c_components() == ({"A", "O"},)
    napkin = ud.Graph({"W": (), "R": "W", "A": "R", "O": "A"}, bidirected=[("W", "A"), ("W", "O")])
    assert napkin.c_components() == ({"W", "A", "O"}, {"R"})
    assert str(napkin.identify("O", do="A")) == str(
        ud.identify(
            {"U": (), "V": (), "W": ("U", "V"), "R": "W", "A": ("R", "U"), "O": ("A", "V")},
            "O",
            do="A",
            latent=("U", "V"),
        )
    )


def test_moral_graph_equals_networkx():
    rng = np.random.default_rng(2)
    for _ in range(100):
        graph = random_graph(rng, 7, 0.4)
        peer = nx.moral_graph(ud.Graph(graph).to_networkx())
        assert {x: set(near) for x, near in moral(graph).items()} == {x: set(peer[x]) for x in peer}
    assert FRONT_DOOR.moral()["A <-> O"] == ("A", "M", "O")


def test_markov_blanket_is_the_smallest_screen():
    rng = np.random.default_rng(3)
    sizes = set()
    for _ in range(40):
        graph = random_mixed(rng, 5)
        for x in graph.observed:
            rest = frozenset(graph.observed) - {x}
            screens = [z for z in oracle.subsets(rest) if z == rest or d_separated(graph, x, rest - z, see=z)]
            assert graph.markov_blanket(x) == min(screens, key=len), (graph, x)
            sizes.add(len(min(screens, key=len)))
    assert len(sizes) > 3
    with pytest.raises(ValueError, match="Theta is both asked and latent"):
        HIDDEN.markov_blanket("Theta")


# ----------------------------------------------------------------------------------------------- Markov equivalence


def all_graphs(n: int):
    """Yield all acyclic graphs of `n` variables."""
    names = [f"X{i}" for i in range(n)]
    for ways in product((0, 1, 2), repeat=n * (n - 1) // 2):
        parents: dict[str, list[str]] = {x: [] for x in names}
        for (x, y), way in zip(combinations(names, 2), ways, strict=True):
            if way:
                parents[(y, x)[way - 1]].append((x, y)[way - 1])
        if nx.is_directed_acyclic_graph(nx.DiGraph([(p, x) for x in names for p in parents[x]])):
            yield {x: tuple(found) for x, found in parents.items()}


def independences(graph: oracle.Parents) -> frozenset:
    """Return all separations between two variables, by enumerating paths."""
    found = set()
    for a, b in combinations(graph, 2):
        blocks = oracle.Blocks(graph, oracle.paths(graph, a, b))
        found |= {(a, b, z) for z in oracle.subsets(x for x in graph if x not in (a, b)) if blocks.all(z)}
    return frozenset(found)


def compare_equivalence(n: int) -> tuple[int, int]:
    """Compare the essential graphs of all graphs with the classes of equal separations; return their numbers."""
    classes: dict[frozenset, list[dict]] = {}
    for graph in all_graphs(n):
        classes.setdefault(independences(graph), []).append(graph)
    for members in classes.values():
        arrows = [{(p, x) for x in graph for p in graph[x]} for graph in members]
        shared, either = set.intersection(*arrows), set.union(*arrows)
        for graph in members:
            found = ud.Graph(graph).cpdag()
            assert {(p, x) for x, parents in found.directed.items() for p in parents} == shared, graph
            assert found.undirected == tuple(sorted({(min(x), max(x)) for x in either - shared})), graph
    firsts = [members[0] for members in classes.values()]
    for one, two in islice(permutations(firsts, 2), 1000):
        assert not ud.Graph(one).equivalent(two)
    for members in classes.values():
        for two in members:
            assert ud.Graph(members[0]).equivalent(two)
    return sum(map(len, classes.values())), len(classes)


def test_essential_graphs_of_all_graphs_of_four_variables():
    assert compare_equivalence(4) == (543, 185)  # as counted by Gillispie & Perlman (2001)


@pytest.mark.slow
def test_essential_graphs_of_all_graphs_of_five_variables():
    assert compare_equivalence(5) == (29281, 8782)


def test_meek_rules():
    kite = ud.Graph({"X": (), "Z": "X", "W": "X", "Y": ("Z", "W", "X")})
    assert str(kite.cpdag()) == "Z -> Y, W -> Y, X -> Y, X - Z, X - W"  # rule 3
    assert str(ud.Graph(FROG).cpdag()) == "Theta - A, Theta - O, A - O"
    assert str(ud.Graph({"A": (), "B": (), "O": ("A", "B"), "D": "O", "E": ()}).cpdag()) == "A -> O, B -> O, O -> D, E"
    chain = {f"X{i}": (f"X{i - 1}",) if i else () for i in range(3000)} | {"Y": (), "X1": ("X0", "Y")}
    assert not ud.Graph(chain).cpdag().undirected


def test_equivalence_needs_observed_variables():
    for ask in (HIDDEN.cpdag, lambda: HIDDEN.equivalent(FROG), lambda: ud.Graph(FROG).equivalent(HIDDEN)):
        with pytest.raises(ValueError, match="Theta is latent"):
            ask()
    with pytest.raises(ValueError, match="same variables, and D is in one of them alone"):
        ud.Graph(FROG).equivalent(FROG | {"D": ()})


# ------------------------------------------------------------------------------------------------------- drawings


def test_notebook_draws_latents_and_bidirected_edges():
    html = FRONT_DOOR._repr_html_()
    assert "Latent common causes: A ↔ O." in html
    assert "prefers-color-scheme: dark" in html
    assert ">A &lt;-&gt; O<" not in html
    assert (
        len(re.findall(r"fill: var\(--ink\)", html)) == 2 + 2 + 2 + 3
    )  # heads: arrows, the edge, the legend's; letters
    assert "Latent: Θ." in HIDDEN._repr_html_()
    assert (
        "100 variables and 99 arrows: too many"
        in ud.Graph({f"X{i}": (f"X{i - 1}",) if i else () for i in range(100)})._repr_html_()
    )
    assert "No variables" in ud.Graph()._repr_html_()
    assert "Latent: Θ." in MODEL.marginal(("A_1", "O"))._repr_html_()


@pytest.mark.usefixtures("no_type_checks")
def test_plot_of_a_graph():
    from matplotlib import pyplot as plt

    _, axes = plt.subplots()
    assert ud.plot.graph(FRONT_DOOR, do="M", see="A", axes=axes) is axes
    assert {"do(M)", "A", "O", "seen", "done", "latent common cause"} == {text.get_text() for text in axes.texts}
    own = ud.plot.graph(MODEL)
    assert {text.get_text() for text in own.texts} == {"Θ", "A₁", "O"}
    with pytest.raises(ValueError, match="M is both done and seen"):
        ud.plot.graph(FRONT_DOOR, do="M", see="M")
    with pytest.raises(ValueError, match="has no variables"):
        ud.plot.graph({})
    with pytest.raises(TypeError, match="axes of matplotlib"):
        ud.plot.graph(FRONT_DOOR, axes=3)
    plt.close("all")


@pytest.mark.usefixtures("no_type_checks")
def test_surgery_crosses_out_both_kinds_of_edges():
    """Each edge that is cut is faded and has two bars; more than four are left out."""

    def drawn(graph, done):
        axes = ud.plot.graph(graph, do=done, axes=Figure().subplots())
        looks = [(to_hex(line.get_color()), line.get_linestyle()) for line in axes.lines]
        return [looks.count((ON_WHITE[colour], style)) for colour in ("rule", "muted") for style in ("-", "--")]

    arrow = ud.Graph({"A": (), "O": "A"})
    arc = ud.Graph({"A": (), "O": ()}, bidirected=[("A", "O")])
    assert drawn(arrow, "O") == [1, 0, 2, 0]
    assert drawn(arc, "O") == drawn(arc, "A") == [0, 2, 2, 0]  # Either half of a bidirected edge is a line.
    assert drawn(ud.Graph(arrow, bidirected=[("A", "O")]), "O") == [1, 2, 4, 0]
    many = {f"Z{i}": () for i in range(4)}
    assert drawn(ud.Graph({**many, "O": tuple(many), "X": ()}, bidirected=[("O", "X")]), "O") == [0, 0, 0, 0]
    both = describe(panel_of(ud.Graph(arrow, bidirected=[("A", "O")]), done=("O",)))
    assert "Surgery removed A → O and A ↔ O." in both
    assert "Latent common causes" not in both


@pytest.mark.usefixtures("no_type_checks")
def test_latent_variables_are_dashed_wherever_they_are_drawn():
    axes = ud.plot.graph(HIDDEN, axes=Figure().subplots())
    looks = [patch.get_linestyle() for patch in axes.patches if isinstance(patch, Circle)]
    assert looks.count("solid") == 2
    ((_, pattern),) = set(looks) - {"solid"}  # Of the variable, and of the sign of the legend.
    assert min(pattern) > 1  # Dashes, not dots.
    assert "[dashed]" in HIDDEN.to_tikz()
    assert f"stroke-dasharray: {1.1 * pattern[0]:g}" in HIDDEN._repr_html_()


def test_long_names_are_drawn_inside_their_nodes():
    """No two nodes overlap, and no arrow crosses a node: the one from Season to Rain passes by Sprinkler."""
    garden = ud.Graph({"Season": (), "Sprinkler": "Season", "Rain": "Season", "Grass": ("Rain", "Sprinkler")})
    axes = ud.plot.graph(garden, axes=Figure().subplots())
    axes.figure.canvas.draw()
    nodes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    words = [text.get_window_extent() for text in axes.texts]
    assert len(nodes) == len(words) == 4
    assert all(any(node.x0 < word.x0 and word.x1 < node.x1 for node in nodes) for word in words)
    assert not any(a.overlaps(b) for a, b in combinations(nodes, 2))
    ways = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    assert not any(node.contains(*point) for node, way in product(nodes, ways) for point in way)


def test_the_cause_of_a_bidirected_edge_is_an_edge_in_latex():
    confounded = ud.Graph({"A": (), "O": "A"}, bidirected=[("A", "O")])
    estimand = ud.causal.remedies(confounded, "O", do="A").observe["A <-> O",]
    edge = r"(A \leftrightarrow O)"
    assert estimand.latex() == rf"\sum_{{{edge}}} P(O \mid A, {edge}) \, P({edge})"
