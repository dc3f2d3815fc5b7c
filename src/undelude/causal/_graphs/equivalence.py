"""Markov equivalence: what observations alone tell about the direction of arrows."""

from itertools import combinations
from typing import NamedTuple

from undelude.causal._graphs.graph import latent_projection
from undelude.causal._names import AnyGraph, Parents, as_graph, as_latent, listed

Arrow = tuple[str, str]


class EssentialGraph(NamedTuple):
    """The arrows that all Markov equivalent graphs share, and the edges that point either way.

    Attributes:
        directed: the parents of each variable by arrows that all equivalent graphs have.
        undirected: pairs joined by an arrow whose direction differs between equivalent graphs, in alphabetical order.
    """

    directed: dict[str, tuple[str, ...]]
    undirected: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        names = list(self.directed)
        pairs = sorted(sorted(map(names.index, pair)) for pair in self.undirected)
        edges = [(parent, "->", name) for name, above in self.directed.items() for parent in above]
        edges += [(names[i], "-", names[j]) for i, j in pairs]
        joined = {name for x, _, y in edges for name in (x, y)}
        return ", ".join([*map(" ".join, edges), *(name for name in names if name not in joined)])

    def __repr__(self) -> str:
        return f"EssentialGraph({self})"

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_essential_graph  # In a notebook alone: it needs matplotlib.

        return of_essential_graph(self)


def cpdag(graph: AnyGraph) -> EssentialGraph:
    """Return the essential graph, or CPDAG, of the graphs that are Markov equivalent to this one.

    These have the same d-separations, so that no observation tells them apart. The colliders whose causes are not
    adjacent keep their arrows, and Meek's rules (1995) direct further edges.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.

    Raises:
        ValueError: a cycle; a latent common cause.

    >>> print(cpdag({"Z": (), "A": ("Z",), "B": (), "O": ("A", "B"), "D": ("O",)}))
    A -> O, B -> O, O -> D, Z - A
    """
    parents = _observed(graph, "cpdag")
    near = _neighbours(parents)
    directed = {(x, o) for *causes, o in _colliders(parents, near) for x in causes}
    open_ = {frozenset((x, y)) for x in near for y in near[x]} - {frozenset(arrow) for arrow in directed}
    todo = list(directed)
    while todo:  # A rule that did not apply before applies to an edge at an end of a new arrow.
        for x in todo.pop():
            for y in near[x]:
                if (pair := frozenset((x, y))) not in open_:
                    continue
                for arrow in ((x, y), (y, x)):
                    if _follows(*arrow, directed, near):
                        directed.add(arrow)
                        open_.remove(pair)
                        todo.append(arrow)
                        break
    arrows = {name: tuple(p for p in above if (p, name) in directed) for name, above in parents.items()}
    return EssentialGraph(arrows, tuple(sorted((min(pair), max(pair)) for pair in open_)))


def equivalent(graph: AnyGraph, other: AnyGraph) -> bool:
    """Return whether two graphs have the same d-separations (Verma & Pearl 1990).

    They have if they join the same pairs, and if the same pairs of causes that are not adjacent meet in a collider.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        other: likewise.

    Raises:
        ValueError: a cycle; a latent common cause; the graphs have different variables.

    >>> equivalent({"A": (), "O": ("A",)}, {"O": (), "A": ("O",)})
    True
    """
    one, two = _observed(graph, "equivalent"), _observed(other, "equivalent")
    if differ := sorted(set(one) ^ set(two)):
        raise ValueError(f"the graphs must have the same variables, and {listed(differ)} is in one of them alone.")
    near, there = _neighbours(one), _neighbours(two)
    return near == there and _colliders(one, near) == _colliders(two, there)


def _observed(graph: AnyGraph, question: str) -> Parents:
    """Return the parents of each observed variable; raise `ValueError` if two have a latent common cause."""
    directed, bidirected = latent_projection(graph)  # Raises on a cycle.
    if bidirected:
        raise ValueError(
            f"{question} is for graphs without latent common causes, and {listed(as_latent(graph))} is latent. "
            "Equivalence with latent common causes is not computed here; pass dict(graph) to take all variables as "
            "observed."
        )
    return directed if as_latent(graph) else as_graph(graph)


def _neighbours(parents: Parents) -> dict[str, frozenset[str]]:
    near: dict[str, set[str]] = {name: set(above) for name, above in parents.items()}
    for name, above in parents.items():
        for parent in above:
            near[parent].add(name)
    return {name: frozenset(found) for name, found in near.items()}


def _colliders(parents: Parents, near: dict[str, frozenset[str]]) -> set[tuple[str, str, str]]:
    """Return the colliders, each after its two causes, which are not adjacent and in order of their names."""
    return {
        (x, y, name)
        for name, above in parents.items()
        for x, y in combinations(sorted(set(above)), 2)
        if y not in near[x]
    }


def _follows(x: str, y: str, directed: set[Arrow], near: dict[str, frozenset[str]]) -> bool:
    """Return whether one of Meek's rules directs `x - y` as `x -> y`."""
    between = near[x] & near[y]
    if any((z, x) in directed for z in near[x] - near[y] - {y}):  # 1: otherwise a new collider at x
        return True
    if any((x, z) in directed and (z, y) in directed for z in between):  # 2: otherwise a cycle
        return True
    into = [z for z in between if (z, y) in directed and (x, z) not in directed and (z, x) not in directed]
    return any(w not in near[z] for z, w in combinations(into, 2))  # 3: otherwise one of both
