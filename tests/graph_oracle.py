"""Questions of small graphs, answered from their definitions by enumerating paths and subsets; shares no code."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, combinations, pairwise

import numpy as np

Parents = Mapping[str, tuple[str, ...]]


def random_graph(rng: np.random.Generator, n: int, density: float) -> dict[str, tuple[str, ...]]:
    """Return a random acyclic graph; its mapping has a random order."""
    names = [f"X{i}" for i in rng.permutation(n)]
    graph = {x: tuple(p for p in names[:i] if rng.random() < density) for i, x in enumerate(names)}
    return {x: graph[x] for x in sorted(names, key=lambda _: rng.random())}


def subsets(names: Iterable[str]) -> Iterator[frozenset[str]]:
    names = list(names)
    return map(frozenset, chain.from_iterable(combinations(names, k) for k in range(len(names) + 1)))


def minimal(sets: Iterable[frozenset[str]]) -> set[frozenset[str]]:
    sets = list(sets)
    return {z for z in sets if not any(other < z for other in sets)}


def below(graph: Parents, names: Iterable[str]) -> set[str]:
    """Return the descendants of `names`, and `names`."""
    found = set(names)
    while more := {x for x in graph if x not in found and found & set(graph[x])}:
        found |= more
    return found


def above(graph: Parents, names: Iterable[str]) -> set[str]:
    """Return the ancestors of `names`, and `names`."""
    found = set(names)
    while more := {p for x in found for p in graph[x]} - found:
        found |= more
    return found


def paths(graph: Parents, a: str, b: str, walked: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the simple paths from `a` to `b`."""
    walked = (*walked, a)
    if a == b:
        yield walked
        return
    for x in graph:
        if x not in walked and (x in graph[a] or a in graph[x]):
            yield from paths(graph, x, b, walked)


class Blocks:
    """The paths between two sets, and which sets block them (Pearl 2009, Definition 1.2.3)."""

    def __init__(self, graph: Parents, found: Iterable[tuple[str, ...]]):
        self.conditions = []
        for path in found:
            chains, colliders = set(), []
            for before, node, after in zip(path, path[1:], path[2:], strict=False):
                if before in graph[node] and after in graph[node]:
                    colliders.append(below(graph, (node,)))
                else:
                    chains.add(node)
            self.conditions.append((chains, colliders))

    def all(self, z: frozenset[str]) -> bool:
        return all(chains & z or any(not c & z for c in colliders) for chains, colliders in self.conditions)


def between(graph: Parents, a: Iterable[str], b: Iterable[str]) -> list[tuple[str, ...]]:
    b = list(b)
    return [path for x in a for y in b for path in paths(graph, x, y)]


def is_directed(graph: Parents, path: tuple[str, ...]) -> bool:
    return all(x in graph[y] for x, y in pairwise(path))


def without_out(graph: Parents, names: Iterable[str]) -> Parents:
    names = set(names)
    return {x: tuple(p for p in found if p not in names) for x, found in graph.items()}


def adjustment_sets(graph: Parents, a: list[str], o: list[str], latent: Iterable[str]) -> set[frozenset[str]]:
    """Return all sets that meet the criterion of Shpitser et al. (2010), from its definition by proper paths."""
    proper = [path for path in between(graph, a, o) if not set(path[1:]) & set(a)]
    causal = [path for path in proper if is_directed(graph, path)]
    forbidden = below(graph, {x for path in causal for x in path[1:]}) | {*a, *o, *latent}
    others = Blocks(graph, [path for path in proper if path not in causal])
    return {z for z in subsets(x for x in graph if x not in forbidden) if others.all(z)}


def front_door_sets(graph: Parents, a: list[str], o: list[str], latent: Iterable[str]) -> set[frozenset[str]]:
    """Return all sets that meet the front-door criterion (Pearl 2009, Definition 3.3.3)."""
    free = [x for x in graph if x not in {*a, *o, *latent}]
    directed = [path for path in between(graph, a, o) if is_directed(graph, path)]
    cut = without_out(graph, a)
    clear = {z for z in free if Blocks(cut, between(cut, a, [z])).all(frozenset())}
    found = set()
    for z in subsets(free):
        if z <= clear and all(z & set(path) for path in directed):
            rest = without_out(graph, z)
            if Blocks(rest, between(rest, z, o)).all(frozenset(a)):
                found.add(z)
    return found


def instruments(graph: Parents, a: str, o: str, latent: Iterable[str]) -> set[tuple[str, frozenset[str]]]:
    """Return all pairs of an instrument and a set to condition on (Brito & Pearl 2002, for the total effect)."""
    causal = {x for path in paths(graph, a, o) if is_directed(graph, path) for x in path[1:]}
    if not causal:
        return set()
    cut = {x: tuple(p for p in found if p != a or x not in causal) for x, found in graph.items()}
    free = [x for x in graph if x not in below(graph, causal) | {a, *latent}]
    found = set()
    for z in free:
        to_o, to_a = (Blocks(cut, between(cut, [z], [end])) for end in (o, a))
        found |= {(z, w) for w in subsets(x for x in free if x != z) if to_o.all(w) and not to_a.all(w)}
    return found


# ------------------------------------------------------------------------------------------------------- numbers


class Linear:
    """A linear model with random coefficients and independent noises."""

    def __init__(self, graph: Parents, rng: np.random.Generator):
        self.place = {x: i for i, x in enumerate(graph)}
        self.B = np.zeros((len(graph), len(graph)))
        for x, found in graph.items():
            for p in found:
                self.B[self.place[x], self.place[p]] = rng.choice((-1, 1)) * rng.uniform(0.3, 1.5)
        self.total = np.linalg.inv(np.eye(len(graph)) - self.B)
        self.cov = self.total @ np.diag(rng.uniform(0.3, 2, len(graph))) @ self.total.T

    def effect(self, a: str, o: str) -> float:
        return self.total[self.place[o], self.place[a]]

    def partial(self, x: str, y: str, given: Iterable[str]) -> float:
        """Return the covariance of `x` and `y` given others."""
        i, j, z = self.place[x], self.place[y], [self.place[name] for name in given]
        cov = self.cov
        return cov[i, j] - (cov[i, z] @ np.linalg.solve(cov[np.ix_(z, z)], cov[z, j]) if z else 0.0)

    def variance(self, a: str, o: str, z: Iterable[str]) -> float:
        """Return the asymptotic variance of the coefficient of `a` in the regression of `o` on `a` and `z`."""
        return self.partial(o, o, [a, *z]) / self.partial(a, a, z)


class Binary:
    """A model of binary variables with random tables."""

    def __init__(self, graph: Parents, rng: np.random.Generator):
        self.names = list(graph)
        self.tables = {x: rng.dirichlet((1, 1), [2] * len(graph[x])) for x in graph}
        self.graph = graph

    def joint(self, names: list[str], do: Mapping[str, int] | None = None) -> np.ndarray:
        """Return the distribution of `names` under an intervention."""
        do, letter = do or {}, {x: i for i, x in enumerate(self.names)}
        parts = []
        for x in self.names:
            if x in do:
                parts += [np.eye(2)[do[x]], [letter[x]]]
            else:
                parts += [self.tables[x], [letter[p] for p in (*self.graph[x], x)]]
        return np.einsum(*parts, [letter[x] for x in names])
