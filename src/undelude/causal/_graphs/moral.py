"""Moral graphs, and in them Markov blankets and the minimal sets that d-separate variables."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from undelude.causal._graphs.graph import reach, topological_order
from undelude.causal._names import AnyGraph, Parents, as_graph, as_latent, check_names


def moral(graph: AnyGraph) -> dict[str, tuple[str, ...]]:
    """Return the neighbours of each variable in the moral graph: parents, children, and other parents of children.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.

    Raises:
        ValueError: a cycle.

    >>> moral({"A": (), "B": (), "O": ("A", "B")})
    {'A': ('B', 'O'), 'B': ('A', 'O'), 'O': ('A', 'B')}
    """
    parents = as_graph(graph)
    topological_order(parents)  # Raises on a cycle.
    names = list(parents)
    near = _married(parents, {name: i for i, name in enumerate(names)})
    return {name: tuple(names[i] for i in _bits(found)) for name, found in zip(names, near, strict=True)}


def markov_blanket(graph: AnyGraph, name: str) -> frozenset[str]:
    """Return the Markov blanket: the smallest set of observed variables, given which the others tell nothing more.

    It holds the neighbours in the moral graph of the observed variables and their ancestors, directly or by way of
    latent variables.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        name: an observed variable.

    Raises:
        ValueError: an unknown or a latent name, a cycle.

    >>> sorted(markov_blanket({"A": (), "B": (), "O": ("A", "B"), "D": ("O",)}, "A"))
    ['B', 'O']
    """
    latent, parents = as_latent(graph), as_graph(graph)
    (start,), hidden = check_names(parents, {"asked": (name,), "latent": latent})
    topological_order(parents)  # Raises on a cycle.
    return boundary(parents, start, [x for x in parents if x not in hidden], eliminated=hidden)


def boundary(graph: Parents, name: str, among: Collection[str], *, eliminated: Collection[str]) -> frozenset[str]:
    """Return the neighbours of a variable in the moral graph of `among` and their ancestors, after elimination.

    Args:
        graph: the parents of each variable.
        name: the variable, which is in `among`.
        among: names.
        eliminated: names, whose neighbours are joined to each other; the variable itself stays.
    """
    relevant = reach(graph, among)
    names = [x for x in graph if x in relevant]
    number = {x: i for i, x in enumerate(names)}
    near = _married({x: graph[x] for x in names}, number)
    _eliminate(near, _ones(number[x] for x in eliminated if x in number and x != name))
    return frozenset(names[i] for i in _bits(near[number[name]]))


def minimal_separators(
    graph: Parents, a: Collection[str], b: Collection[str], *, forbidden: Collection[str] = ()
) -> Iterator[frozenset[str]]:
    """Yield the inclusion-minimal sets that d-separate `a` and `b`, from `a` outwards.

    They are the minimal vertex separators of `a` and `b` in the moral graph of their ancestors (Shen & Liang 1997;
    van der Zander, Liskiewicz & Textor 2019), after elimination of the `forbidden` variables. The first one is the
    nearest to `a`. The delay is polynomial: between two sets, one search of the graph for each member of a set.

    Args:
        graph: the parents of each variable.
        a: names.
        b: names, none of them in `a`.
        forbidden: the names that no set may contain.
    """
    relevant = reach(graph, (*a, *b))
    names = [name for name in graph if name in relevant]
    near, start, end = _moral(graph, names, a, b, set(forbidden))
    for z in _separators(near, start, end):
        yield frozenset(names[i] for i in _bits(z))


def _moral(
    graph: Parents, names: list[str], a: Collection[str], b: Collection[str], forbidden: set[str]
) -> tuple[list[int], int, int]:
    """Return the neighbours, as bits, of each of `names` in the moral graph without the `forbidden`.

    The members of `a` become one vertex, as do those of `b`; their numbers are returned too. Eliminating variables that
    no separator may contain joins the neighbours of each connected group of them.
    """
    number = {name: i for i, name in enumerate(names)}
    start, end = (min(number[name] for name in group) for group in (a, b))
    number |= dict.fromkeys(a, start) | dict.fromkeys(b, end)
    near = _married({name: graph[name] for name in names}, number)
    _eliminate(near, _ones(number[name] for name in names if name in forbidden) & ~(1 << start | 1 << end))
    return near, start, end


def _married(graph: Parents, number: Mapping[str, int]) -> list[int]:
    """Return the neighbours, as bits, of each number in the moral graph."""
    near = [0] * len(number)
    for name, parents in graph.items():
        _connect(near, _ones(number[member] for member in (name, *parents)))
    return near


def _eliminate(near: list[int], vertices: int) -> None:
    """Remove vertices, and join the neighbours of each connected group of them."""
    while vertices:
        group = _component(near, vertices & -vertices, within=vertices)
        vertices &= ~group
        beside = _around(near, group)
        for i in _bits(beside):
            near[i] &= ~group
        for i in _bits(group):
            near[i] = 0
        _connect(near, beside)


def _connect(near: list[int], clique: int) -> None:
    """Join all of the vertices to each other."""
    for i in _bits(clique):
        near[i] |= clique & ~(1 << i)


def _separators(near: list[int], a: int, b: int) -> Iterator[int]:
    """Yield the minimal vertex separators, as bits, of `a` and `b`."""
    if near[a] >> b & 1:
        return

    def separator(vertices: int) -> int:
        """Return the part of `vertices` next to the component of `b` without them."""
        return _around(near, _component(near, 1 << b, within=~vertices))

    # Vertices around a set that contains `a` separate it from `b`; those next to the component of `b` do so minimally.
    found = {separator(near[a])}
    todo = list(found)
    for z in todo:
        yield z
        side = _component(near, 1 << a, within=~z)
        for x in _bits(z & ~near[b]):
            further = separator(_around(near, side | 1 << x))
            if further not in found:
                found.add(further)
                todo.append(further)


def _around(near: list[int], vertices: int) -> int:
    """Return the neighbours of `vertices` outside these."""
    found = 0
    for i in _bits(vertices):
        found |= near[i]
    return found & ~vertices


def _component(near: list[int], start: int, *, within: int) -> int:
    """Return the vertices that paths through vertices in `within` connect to `start`."""
    found = front = start
    while front:
        front = _around(near, front) & ~found & within
        found |= front
    return found


def _ones(positions: Iterable[int]) -> int:
    """Return the integer with ones at these positions."""
    found = 0
    for i in positions:
        found |= 1 << i
    return found


def _bits(x: int) -> Iterator[int]:
    """Yield the positions of the ones of `x`, the lowest first."""
    while x:
        low = x & -x
        yield low.bit_length() - 1
        x ^= low
