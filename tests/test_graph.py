"""Causal graphs: against random tables, brute force over paths and subsets, and networkx."""

from collections.abc import Iterator
from itertools import chain, combinations, islice, pairwise

import numpy as np
import pytest

from undelude.causal._graphs.adjustment import back_door
from undelude.causal._graphs.graph import (
    Path,
    ancestors,
    d_separated,
    descendants,
    districts,
    latent_projection,
    mutilate,
    paths,
    topological_order,
)
from undelude.causal._names import Parents

FROG = {"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}
M_BIAS = {"U": (), "V": (), "M": ("U", "V"), "A": ("U",), "O": ("V", "A")}


def random_graph(rng: np.random.Generator, n: int, density: float) -> Parents:
    """Return a random acyclic graph; its mapping has a random order."""
    names = [f"X{i}" for i in rng.permutation(n)]
    graph = {x: tuple(p for p in names[:i] if rng.random() < density) for i, x in enumerate(names)}
    return {x: graph[x] for x in sorted(names, key=lambda _: rng.random())}


def subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(names, k) for k in range(len(names) + 1))


def simple_paths(graph: Parents, a: str, b: str, walked: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the simple paths from `a` to `b`, by recursion."""
    walked = (*walked, a)
    if a == b:
        yield walked
        return
    for x in graph:
        if x not in walked and (x in graph[a] or a in graph[x]):
            yield from simple_paths(graph, x, b, walked)


def below(graph: Parents, name: str) -> set[str]:
    """Return the descendants of `name`, including `name`."""
    found = {name}
    while more := {x for x in graph if x not in found and found & set(graph[x])}:
        found |= more
    return found


def is_blocked(graph: Parents, path: tuple[str, ...], z: set[str]) -> bool:
    """Return whether `z` blocks the path (Pearl 2009, Definition 1.2.3)."""
    for before, node, after in zip(path, path[1:], path[2:], strict=False):
        if before in graph[node] and after in graph[node]:
            if not below(graph, node) & z:
                return True
        elif node in z:
            return True
    return False


def joint_of(graph: Parents, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Return the joint distribution of binary variables with random tables."""
    names = list(graph)
    joint = np.ones((2,) * len(names))
    for x, parents in graph.items():
        table = rng.dirichlet(np.ones(2), size=(2,) * len(parents))
        axes = [names.index(y) for y in (*parents, x)]
        order = np.argsort(axes)
        shape = [2 if i in axes else 1 for i in range(len(names))]
        joint = joint * table.transpose(order).reshape(shape)
    return names, joint


def dependence(names: list[str], joint: np.ndarray, a: str, b: str, z: set[str]) -> float:
    """Return the largest |P(a, b, z) P(z) - P(a, z) P(b, z)|."""

    def marginal(kept: set[str]) -> np.ndarray:
        return joint.sum(tuple(i for i, x in enumerate(names) if x not in kept), keepdims=True)

    return np.abs(marginal({a, b} | z) * marginal(z) - marginal({a} | z) * marginal({b} | z)).max()


# ---------------------------------------------------------------------------------------------- order and surgery


def test_order_puts_parents_first():
    rng = np.random.default_rng(0)
    for _ in range(50):
        graph = random_graph(rng, 8, 0.3)
        order = topological_order(graph)
        assert sorted(order) == sorted(graph)
        assert all(order.index(p) < order.index(x) for x in graph for p in graph[x])


def test_order_keeps_valid_order():
    assert topological_order({"B": (), "A": (), "D": ("A",), "C": ("B",)}) == ("B", "A", "D", "C")


def test_cycle_is_spelt_out():
    with pytest.raises(ValueError, match="A -> C -> B -> A"):
        topological_order({"Z": (), "A": ("Z", "B"), "B": ("C",), "C": ("A",), "D": ("A",)})


def test_loop_is_a_cycle():
    with pytest.raises(ValueError, match="A -> A"):
        topological_order({"A": ("A",)})


def test_ancestry_include_the_names():
    assert ancestors(FROG, "A") == {"Theta", "A"}
    assert descendants(FROG, ("A",)) == {"A", "O"}


def test_ancestry_equal_brute_force():
    rng = np.random.default_rng(1)
    graph = random_graph(rng, 9, 0.25)
    for x in graph:
        assert descendants(graph, x) == below(graph, x)
        assert ancestors(graph, x) == {y for y in graph if x in below(graph, y)}


def test_mutilate_removes_incoming_arrows():
    assert mutilate(FROG, ("A",)) == {"Theta": (), "A": (), "O": ("Theta", "A")}


# ---------------------------------------------------------------------------------------------------- d-separation


def test_separation_is_independence():
    """Separated variables are independent; connected variables are dependent for almost all tables."""
    rng = np.random.default_rng(2)
    verdicts = []
    for _ in range(30):
        graph = random_graph(rng, 5, 0.45)
        for do in ((), tuple(rng.choice(list(graph), 1 + rng.integers(2), replace=False).tolist())):
            names, joint = joint_of(mutilate(graph, do), rng)
            for a, b in combinations(graph, 2):
                for given in subsets([x for x in graph if x not in (a, b)]):
                    fixed = {*given, *do} - {a, b}
                    gap = dependence(names, joint, a, b, fixed)
                    separated = d_separated(graph, a, b, see=given, do=do)
                    assert gap < 1e-14 if separated else gap > 1e-12, (graph, a, b, given, do)
                    verdicts.append(separated)
    assert 0.2 < np.mean(verdicts) < 0.8


def test_separation_agrees_with_networkx():
    nx = pytest.importorskip("networkx")
    rng = np.random.default_rng(3)
    verdicts = []
    for _ in range(600):
        graph = random_graph(rng, int(rng.integers(4, 13)), 0.25)
        peer = nx.DiGraph([(p, x) for x in graph for p in graph[x]])
        peer.add_nodes_from(graph)
        shuffled = rng.permutation(list(graph)).tolist()
        cuts = np.sort(rng.integers(1, len(graph), size=3))
        a, b, given = shuffled[: cuts[0]][:2], shuffled[cuts[0] : cuts[1]][:2], shuffled[cuts[1] : cuts[2]]
        verdicts.append(d_separated(graph, a, b, see=given))
        assert verdicts[-1] == (not a or not b or nx.is_d_separator(peer, set(a), set(b), set(given)))
    assert 0.2 < np.mean(verdicts) < 0.8


def test_do_on_collider_opens_no_path():
    collider = {"A": (), "O": (), "C": ("A", "O")}
    assert not d_separated(collider, "A", "O", see="C")
    assert d_separated(collider, "A", "O", do="C")


def test_do_separates_theta_and_action():
    assert not d_separated(FROG, "Theta", "A")
    assert d_separated(FROG, "Theta", "A", do="A")


def test_separation_in_a_long_chain():
    chain_ = {f"X{i}": (f"X{i - 1}",) if i else () for i in range(5000)}
    assert not d_separated(chain_, "X0", "X4999")
    assert d_separated(chain_, "X0", "X4999", see="X2000")


# ----------------------------------------------------------------------------------------------------------- paths


def test_paths_print_their_arrows():
    assert [str(path) for path in paths(FROG, "A", "O")] == ["A <- Theta -> O", "A -> O"]


def test_paths_name_blockers():
    (bias, effect) = sorted(paths(M_BIAS, "A", "O", see="U"), key=lambda path: -len(path.nodes))
    assert bias == Path(("A", "U", "M", "V", "O"), ("<-", "->", "<-", "->"), blocked_by=("U", "M"))
    assert effect == Path(("A", "O"), ("->",), blocked_by=())
    assert effect.is_open
    assert not bias.is_open


def test_descendant_opens_collider():
    graph = {"A": (), "O": (), "C": ("A", "O"), "D": ("C",)}
    assert [path.is_open for path in paths(graph, "A", "O", see="D")] == [True]
    assert [path.blocked_by for path in paths(graph, "A", "O")] == [("C",)]


def test_paths_after_surgery():
    assert [str(path) for path in paths(FROG, "A", "O", do="A")] == ["A -> O"]


def test_paths_equal_brute_force():
    rng = np.random.default_rng(4)
    for _ in range(40):
        graph = random_graph(rng, 6, 0.45)
        a, b, *rest = rng.permutation(list(graph)).tolist()
        given, do = rest[:2], rest[2:3]
        found = list(paths(graph, a, b, see=given, do=do))
        cut = mutilate(graph, do)
        assert sorted(path.nodes for path in found) == sorted(simple_paths(cut, a, b))
        for path in found:
            assert path.is_open != is_blocked(cut, path.nodes, {*given, *do})
            for x, arrow, y in zip(path.nodes, path.arrows, path.nodes[1:], strict=False):
                assert (x in cut[y]) == (arrow == "->")
        assert any(path.is_open for path in found) != d_separated(graph, a, b, see=given, do=do)


def test_paths_are_lazy():
    """A complete graph of 60 variables has more paths than can be listed."""
    names = [f"X{i}" for i in range(60)]
    graph = {x: tuple(names[:i]) for i, x in enumerate(names)}
    assert len(list(islice(paths(graph, "X0", "X59"), 100))) == 100


def test_paths_skip_dead_ends():
    """A complete graph of 40 variables hangs from the only path."""
    names = [f"X{i}" for i in range(40)]
    graph = {x: tuple(names[:i]) for i, x in enumerate(names)} | {"A": ("X0",), "O": ("X0",)}
    assert [str(path) for path in paths(graph, "A", "O")] == ["A <- X0 -> O"]


# ------------------------------------------------------------------------------------------------------- back door


def back_door_by_definition(graph: Parents, a: str, o: str, latent: list[str]) -> list[set[str]]:
    """Return the minimal back-door sets by trying every observed subset (Pearl 2009, Definition 3.3.1)."""
    back_doors = [path for path in simple_paths(graph, a, o) if path[1] in graph[a]]
    forbidden = below(graph, a) | {o} | set(latent)
    free = [x for x in graph if x not in forbidden]
    sets = [set(z) for z in subsets(free) if all(is_blocked(graph, path, set(z)) for path in back_doors)]
    return [z for z in sets if not any(other < z for other in sets)]


def test_back_door_equals_brute_force():
    rng = np.random.default_rng(5)
    counts = []
    for _ in range(400):
        graph = random_graph(rng, int(rng.integers(4, 10)), 0.35)
        order = topological_order(graph)
        i, j = sorted(rng.choice(len(order), 2, replace=False))
        a, o = (order[i], order[j]) if rng.random() < 0.8 else (order[j], order[i])
        rest = [x for x in order if x not in (a, o)]
        latent = rng.permutation(rest)[: rng.integers(3)].tolist()
        found = back_door(graph, a, o, latent=latent)
        expected = back_door_by_definition(graph, a, o, latent)
        assert sorted(map(sorted, found)) == sorted(map(sorted, expected)), (graph, a, o, latent)
        counts.append(len(found))
    assert {0, 1, 2, 3} <= set(counts)


def test_back_door_excludes_descendants():
    """D blocks the back-door path, but mediates the effect of A."""
    graph = {"Z": (), "A": ("Z",), "D": ("A", "Z"), "O": ("D",)}
    assert back_door(graph, "A", "O") == ({"Z"},)
    assert back_door(graph, "A", "O", latent="Z") == ()


def test_back_door_order():
    graph = {"X": (), "P": ("X",), "Q": ("X",), "R": ("P", "Q"), "A": ("X",), "S": ("R",), "O": ("A", "S")}
    assert back_door(graph, "A", "O") == ({"X"}, {"R"}, {"S"}, {"P", "Q"})


def test_back_door_without_confounding():
    assert back_door({"A": (), "O": ("A",)}, "A", "O") == (frozenset(),)
    assert back_door(M_BIAS, "A", "O", latent=("U", "V")) == (frozenset(),)


def test_back_door_with_hidden_common_cause():
    assert back_door(FROG, "A", "O", latent="Theta") == ()
    assert back_door(FROG, "A", "O") == ({"Theta"},)


def test_back_door_of_a_cause():
    assert back_door({"O": (), "A": ("O",)}, "A", "O") == ()


def test_back_door_in_long_chain():
    graph = {f"X{i}": (f"X{i - 1}",) if i else () for i in range(200)}
    assert back_door(graph, "X199", "X0") == tuple({f"X{i}"} for i in range(1, 199))


def test_back_door_in_a_hidden_markov_model():
    graph = {}
    for t in range(100):
        graph |= {f"S{t}": (f"S{t - 1}",) if t else (), f"Y{t}": (f"S{t}",)}
    assert back_door(graph, "Y10", "Y90", latent=[f"S{t}" for t in range(100)]) == ()
    assert back_door(graph, "Y10", "Y90", latent=[f"S{t}" for t in range(20, 80)]) == tuple(
        {f"S{t}"} for t in (*range(10, 20), *range(80, 91))
    )


def test_back_door_limit():
    """Thirty forks, each of which can be cut at two nodes, have 2**30 minimal sets."""
    graph: dict[str, tuple[str, ...]] = {}
    for i in range(30):
        graph |= {f"P{i}": (), f"Q{i}": (f"P{i}",)}
    graph |= {"A": tuple(f"P{i}" for i in range(30)), "O": ("A", *(f"Q{i}" for i in range(30)))}
    assert back_door(graph, "A", "O", limit=1) == ({f"P{i}" for i in range(30)},)  # The set nearest to A.
    found = back_door(graph, "A", "O", limit=7)
    assert len(set(found)) == 7
    cut = {x: tuple(p for p in parents if p != "A") for x, parents in graph.items()}
    for z in found:
        assert d_separated(cut, "A", "O", see=z)
        assert not any(d_separated(cut, "A", "O", see=z - {x}) for x in z)


# --------------------------------------------------------------------------------------------------- hidden variables


def test_projection_equals_brute_force():
    rng = np.random.default_rng(6)
    pairs = 0
    for _ in range(80):
        graph = random_graph(rng, 7, 0.35)
        latent = set(rng.choice(list(graph), 3, replace=False).tolist())
        directed, bidirected = latent_projection(graph, latent)
        observed = [x for x in graph if x not in latent]
        assert list(directed) == observed
        for u, v in combinations(observed, 2):
            inside = [path for path in simple_paths(graph, u, v) if set(path[1:-1]) <= latent]
            assert (u in directed[v]) == any(all(x in graph[y] for x, y in pairwise(path)) for path in inside)
            assert (v in directed[u]) == any(all(y in graph[x] for x, y in pairwise(path)) for path in inside)
            joined = any(
                path[1] in graph[u] and path[-2] in graph[v] and not is_blocked(graph, path, set())
                for path in inside
                if len(path) > 2
            )
            assert (frozenset((u, v)) in bidirected) == joined
            pairs += joined
    assert pairs > 50


def test_districts_partition_the_names():
    bidirected = frozenset({frozenset("AB"), frozenset("BC"), frozenset("DE")})
    assert districts("FABCDE", bidirected) == ({"F"}, {"A", "B", "C"}, {"D", "E"})
    assert districts("ACD", bidirected) == ({"A"}, {"C"}, {"D"})


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "ask",
    [
        lambda graph: ancestors(graph, "theta"),
        lambda graph: descendants(graph, "theta"),
        lambda graph: mutilate(graph, "theta"),
        lambda graph: d_separated(graph, "theta", "O"),
        lambda graph: d_separated(graph, "A", "O", see="theta"),
        lambda graph: d_separated(graph, "A", "O", do=("theta",)),
        lambda graph: paths(graph, "A", "theta"),
        lambda graph: back_door(graph, "A", "O", latent="theta"),
        lambda graph: latent_projection(graph, "theta"),
    ],
)
def test_unknown_name_raises_with_hint(ask):
    with pytest.raises(ValueError, match=r"'theta' is not in the graph; did you mean Theta\?"):
        ask(FROG)


def test_unknown_name_raises_with_names():
    with pytest.raises(ValueError, match="'Reward' is not in the graph; it has Theta, A, O"):
        ancestors(FROG, "Reward")


def test_unknown_parent_raises():
    with pytest.raises(ValueError, match="O: its parent 'B' is not in the graph"):
        topological_order({"A": (), "O": ("A", "B")})


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: d_separated(FROG, "A", ("O", "A")), "A is both on the one side and on the other side"),
        (lambda: d_separated(FROG, "A", "O", see="O"), "O is both on the other side and seen"),
        (lambda: paths(FROG, "A", "A"), "A is both on the one side and on the other side"),
        (lambda: paths(FROG, "A", "O", see=("A",)), "A is both on the one side and seen"),
        (lambda: back_door(FROG, "A", "A"), "A is both the cause and the outcome"),
        (lambda: back_door(FROG, "A", "O", latent=("A",)), "A is both the cause and latent"),
        (lambda: back_door(FROG, "A", "O", limit=0), "limit"),
    ],
)
def test_invalid_roles_raise(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
