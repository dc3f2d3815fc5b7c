"""Back-door sets: the variables to adjust for, so that observations determine an effect (Section 3)."""

from collections.abc import Collection, Iterator

from undelude.causal.graph import children_of, reach, topological_order, without_arrows_from
from undelude.causal.names import AnyGraph, Graph, Names, as_graph, check_names


def back_door(
    graph: AnyGraph, a: str, o: str, *, latent: Names = (), limit: int | None = None
) -> tuple[frozenset[str], ...]:
    """Return all inclusion-minimal back-door sets of `a` and `o` (Pearl 2009, Definition 3.3.1).

    A back-door set Z contains no descendant of `a` and blocks every path between `a` and `o` with an arrow into `a`.
    Then

        P(o | do(a)) = sum_z P(o | a, z) P(z).

    Remove the arrows out of `a` and moralise the subgraph of the ancestors of `a` and `o`. The back-door sets are the
    minimal vertex separators of `a` and `o` in it, enumerated from `a` outwards (Shen & Liang 1997).

    Args:
        graph: a dict that maps each name to its parents, or a `networkx.DiGraph`.
        a: the variable intervened on.
        o: the outcome.
        latent: the variables that cannot be observed, and so not be adjusted for.
        limit: the largest number of sets, nearest to `a` first; there can be exponentially many.

    Returns:
        The smallest sets first, then in the order of the graph; `()` if there is none, `(frozenset(),)` if the empty
        set is one.

    Raises:
        ValueError: an unknown name, a name in two roles, a cycle, a limit below 1.

    >>> back_door({"Z": (), "A": ("Z",), "O": ("Z", "A")}, "A", "O")
    (frozenset({'Z'}),)
    >>> back_door({"Z": (), "A": ("Z",), "O": ("Z", "A")}, "A", "O", latent="Z")
    ()
    """
    graph = as_graph(graph)
    starts, ends, hidden = check_names(graph, {"done": a, "asked": o, "latent": latent})
    if len(starts) != 1 or len(ends) != 1:
        raise ValueError(f"back_door takes one name on either side, not {starts} and {ends}; call it for each pair.")
    (start,), (end,) = starts, ends
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, or None for all sets, not {limit}.")
    topological_order(graph)  # Raises on a cycle.
    cut = without_arrows_from(graph, (start,))
    relevant = reach(cut, (start, end))
    names = [name for name in graph if name in relevant]
    forbidden = (reach(children_of(graph), (start,)) | set(hidden)) - {start, end}
    near = _moral(cut, names, forbidden)
    number = {name: i for i, name in enumerate(names)}
    found = [tuple(_bits(z)) for z in _separators(near, number[start], number[end], limit)]
    found.sort(key=lambda z: (len(z), z))
    return tuple(frozenset(names[i] for i in z) for z in found)


def _moral(graph: Graph, names: list[str], forbidden: Collection[str]) -> list[int]:
    """Return the neighbours, as bits, of each of `names` in the moral graph after eliminating the `forbidden`.

    Eliminating a variable that no separator may contain joins its neighbours to each other.
    """
    number = {name: i for i, name in enumerate(names)}
    near = [0] * len(names)

    def connect(clique: int) -> None:
        for i in _bits(clique):
            near[i] |= clique & ~(1 << i)

    for name in names:
        connect(sum(1 << number[member] for member in {name, *graph[name]}))
    for i in [number[name] for name in names if name in forbidden]:
        connect(near[i])
        for j in _bits(near[i]):
            near[j] &= ~(1 << i)
        near[i] = 0
    return near


def _separators(near: list[int], a: int, b: int, limit: int | None) -> list[int]:
    """Return the minimal vertex separators, as bits, of `a` and `b`."""
    if near[a] >> b & 1:
        return []

    def around(vertices: int) -> int:
        found = 0
        for i in _bits(vertices):
            found |= near[i]
        return found & ~vertices

    def component(start: int, without: int) -> int:
        found = front = 1 << start
        while front:
            front = around(front) & ~found & ~without
            found |= front
        return found

    # Vertices around a set that contains `a` separate it from `b`; those next to the component of `b` do so minimally.
    found = {around(component(b, near[a])): None}
    todo = list(found)
    while todo and (limit is None or len(found) < limit):
        z = todo.pop(0)
        side = component(a, z)
        for x in _bits(z & ~near[b]):
            further = around(component(b, around(side | 1 << x)))
            if further not in found:
                found[further] = None
                todo.append(further)
    return list(found)[:limit]


def _bits(x: int) -> Iterator[int]:
    """Yield the positions of the ones of `x`, the lowest first."""
    while x:
        low = x & -x
        yield low.bit_length() - 1
        x ^= low
