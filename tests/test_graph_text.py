"""Graphs from and to DOT, dagitty, GML, networkx and TikZ; pgmpy and networkx read them too."""

import re
import sys
import warnings
from itertools import combinations

import networkx as nx
import numpy as np
import pytest

import undelude as ud
from graph_oracle import random_graph

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # pgmpy deprecates parts of itself as it is imported
    from pgmpy.base import DAG

FRONT_DOOR = ud.Graph({"A": (), "M": "A", "O": "M"}, bidirected=[("A", "O")])
HIDDEN = ud.Graph({"U": (), "A": "U", "O": ("U", "A")}, latent="U")
NAMES = ["A", "b_1", "two words", 'a "quote"', "back\\slash", "3", "x.y", "node", "Größe", "a->b", "-1"]


def random_named(rng: np.random.Generator) -> ud.Graph:
    """Return a random graph whose names need quotes."""
    plain = random_graph(rng, 6, 0.4)
    new = dict(zip(plain, rng.permutation(NAMES)[:6].tolist(), strict=True))
    parents = {new[x]: tuple(new[p] for p in found) for x, found in plain.items()}
    pairs = [pair for pair in combinations(parents, 2) if rng.random() < 0.15]
    return ud.Graph(parents, bidirected=pairs, latent=[x for x in parents if rng.random() < 0.2])


def test_texts_round_trip():
    rng = np.random.default_rng(0)
    for _ in range(60):
        graph = random_named(rng)
        assert ud.Graph.from_dot(graph.to_dot()) == graph
        assert ud.Graph.from_dagitty(graph.to_dagitty()) == graph
        assert ud.Graph.from_networkx(graph.to_networkx()) == graph
        assert ud.Graph.from_gml(graph.to_gml()) == graph
    assert list(ud.Graph.from_dot(HIDDEN.to_dot())) == list(HIDDEN)


def test_dot_of_others():
    """As in dowhy's documentation, and with what Graphviz allows around it."""
    text = """
    strict digraph "a model" { // the instrument
      rankdir=LR; graph [label="x -> y"] node [shape=circle]; edge [color=gray]
      U [label="Unobserved Confounders", observed="no"];
      Z -> T -> {Y W} [penwidth=2]  # two effects
      U -> T; U -> Y /* hidden */
      "v 1"; T -> Z2 [dir=both]; Z2 -> T2; Z2 -> T2
    }
    """
    graph = ud.Graph.from_dot(text)
    directed = {"U": (), "Z": (), "T": ("Z", "U"), "Y": ("T", "U"), "W": "T", "v 1": (), "Z2": (), "T2": "Z2"}
    assert graph == ud.Graph(directed, bidirected=[("T", "Z2")], latent="U")
    assert ud.Graph(ud.Graph.from_dot("digraph {U -> A; U -> O; A -> O}"), latent="U") == HIDDEN


def test_dagitty_of_others():
    """With the roles and places that dagitty.net writes, and its abbreviations."""
    text = """dag {
    bb="-1,-1,1,1"
    "carry matches" [latent,pos="0.2,-0.2"]
    cancer [outcome,pos="0.7,0.3"]
    smoking [exposure,pos="-0.6,0.3"]
    V [u]
    "carry matches" -> cancer
    smoking -> "carry matches" [beta=0.5]
    cancer <- V -> smoking <-> tar
    tar <- smoking
    }"""
    graph = ud.Graph.from_dagitty(text)
    parents = {"carry matches": "smoking", "cancer": ("carry matches", "V"), "smoking": "V", "V": (), "tar": "smoking"}
    assert graph == ud.Graph(parents, bidirected=[("smoking", "tar")], latent=("carry matches", "V"))
    with pytest.warns(UserWarning, match="marks S as selected"):
        assert ud.Graph.from_dagitty("dag { A -> S S [selected] }") == ud.Graph({"A": (), "S": "A"})
    with pytest.warns(UserWarning, match="marks A as adjusted.*name it by see="):
        ud.Graph.from_dagitty("dag { A [adjusted] }")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graph { A -- B }", "line 1 of the graph, at 'graph { A -- B }': the text must begin with digraph"),
        ("digraph {\n A -- B }", "line 2 of the graph, at '-- B }': an undirected edge"),
        ("digraph { subgraph c { A } }", "subgraphs are not read"),
        ("digraph { A -> subgraph { B C } }", "subgraphs are not read"),
        ("digraph { A -> node }", "node is a word of the language"),
        ("digraph { A:n -> B }", "ports are not read"),
        ("digraph { A -> B [dir=none] }", "dir=none is not read"),
        ("digraph { A -> B [dir=back] }", "dir=back is not read"),
        ('digraph { node [observed="no"] A }', "observed as the default of each node"),
        ("digraph { edge [dir=both] A -> B }", "dir as the default of each edge"),
        ('digraph { A -> B [observed="no"] }', "at '[observed=\"no\"] }': observed is a mark of a node"),
        ("digraph { A -> B -> C [latent=maybe] }", "latent is a mark of a node"),
        ('digraph { A [observed="maybe"] }', 'observed=maybe must be "yes" or "no"'),
        ("digraph { A [label=<b>] }", "not a name, an arrow or a bracket"),
        ("digraph { A -> }", "expected a name"),
        ("digraph { A -> B", "ends early"),
        ("digraph { A [observed=", "ends early"),
        ("digraph { A } digraph { B }", "goes on after the end"),
        ("digraph { A -> B -> A }", "cycle: A -> B -> A"),
        ("digraph { A <-> A }", "a bidirected edge is a pair of two names"),
        ("digraph { A @-> B }", "at '@-> B }'"),
        ("", "begin with digraph"),
    ],
)
def test_what_a_text_has_besides_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ud.Graph.from_dot(text)


def test_other_kinds_of_dagitty_graph_are_refused():
    for kind in ("pdag", "mag", "digraph"):
        with pytest.raises(ValueError, match="must begin with dag"):
            ud.Graph.from_dagitty(f"{kind} {{ A -> B }}")
    with pytest.raises(ValueError, match="an undirected edge"):
        ud.Graph.from_dagitty("dag { A -- B }")


def test_mark_of_a_node_at_an_edge_of_dagitty_is_refused():
    for mark in ("latent", "unobserved", "u"):
        with pytest.raises(ValueError, match=f"{mark} is a mark of a node, and not of an edge"):
            ud.Graph.from_dagitty(f"dag {{ A -> B [{mark}] }}")
    assert ud.Graph.from_dagitty("dag { A -> B [beta=0.3] }") == {"A": (), "B": "A"}


def test_pgmpy_reads_our_dagitty():
    rng = np.random.default_rng(1)
    for _ in range(10):
        plain = random_graph(rng, 6, 0.4)
        graph = ud.Graph(plain, latent=[x for x in plain if rng.random() < 0.2])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of its parser
            peer = DAG.from_dagitty(graph.to_dagitty())
        assert set(peer.edges) == {(p, x) for x in plain for p in plain[x]}
        assert set(peer.latents) == set(graph.latent)
        assert ud.Graph.from_networkx(peer) == ud.Graph(
            {x: found for x, found in plain.items() if x in peer}, latent=[x for x in graph.latent if x in peer]
        )


def test_gml_of_dowhy():
    text = """graph[directed 1 node[id "Z0" label "Z0"] node[id "v0" label "v0"] node[id "U" label "U" observed "no"]
    node[id "y" label "y"] edge[source "Z0" target "v0"] edge[source "v0" target "y"] edge[source "U" target "v0"]
    edge[source "U" target "y"]]"""
    assert ud.Graph.from_gml(text) == ud.Graph({"Z0": (), "U": (), "v0": ("Z0", "U"), "y": ("v0", "U")}, latent="U")
    with pytest.raises(TypeError, match="no direction"):
        ud.Graph.from_gml(text.replace("directed 1", "directed 0"))
    with pytest.raises(ValueError, match="not GML as networkx reads it"):
        ud.Graph.from_gml("digraph { A }")


def test_latent_marks_of_networkx_are_kept_or_refused():
    """Functions of graphs refuse a marked DiGraph, which `from_networkx` reads."""
    network = HIDDEN.to_networkx()
    assert network.nodes["U"] == {"observed": "no"}
    for ask in (lambda: ud.identify(network, "O", do="A"), lambda: ud.Graph(network)):
        with pytest.raises(TypeError, match=r"marks U as latent.*ud\.Graph\.from_networkx"):
            ask()
    assert ud.Graph.from_networkx(network) == HIDDEN
    peer = DAG([("U", "A"), ("U", "O"), ("A", "O")], latents={"U"})
    assert ud.Graph.from_networkx(peer) == HIDDEN
    network.nodes["A"]["observed"] = "sometimes"
    with pytest.raises(ValueError, match="A has the mark observed='sometimes'"):
        ud.Graph.from_networkx(network)
    with pytest.raises(TypeError, match="several edges"):
        ud.Graph.from_networkx(nx.MultiDiGraph([("A", "O")]))


def test_missing_networkx_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    for ask in (HIDDEN.to_networkx, HIDDEN.to_gml, lambda: ud.Graph.from_gml("graph []")):
        with pytest.raises(ModuleNotFoundError, match=r"networkx is not installed: .*\[causal\]"):
            ask()


def test_tikz():
    lines = FRONT_DOOR.to_tikz(do="M").splitlines()
    assert lines[0].startswith(r"\begin{tikzpicture}[")
    assert lines[1:] == [
        r"  \node (n0) at (0, -1.6) {$A$};",
        r"  \node [rectangle, double] (n1) at (2, -1.6) {$\mathrm{do}(M)$};",
        r"  \node (n2) at (4, -1.6) {$O$};",
        r"  \draw[->] (n1) to (n2);",
        r"  \draw[<->, dashed] (n0) to [bend left=45] (n2);",
        r"\end{tikzpicture}",
    ]
    assert r"\node [dashed] (n2) at (1, 0) {$U$};" in HIDDEN.to_tikz()
    assert r"\draw[<->" not in FRONT_DOOR.to_tikz(do="O")
    odd = ud.Graph({"50% of_a & {b}": (), "Theta_1": ()}).to_tikz()
    assert r"{50\% of\_a \& \{b\}}" in odd
    assert r"{$\Theta_{1}$}" in odd
    for text in (FRONT_DOOR.to_tikz(), HIDDEN.to_tikz(), odd):
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
        assert all(line.endswith(";") for line in text.splitlines()[1:-1])
    with pytest.raises(ValueError, match="'X' is not in the graph"):
        FRONT_DOOR.to_tikz(do="X")
