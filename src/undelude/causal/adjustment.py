"""Back-door sets: what to adjust for, so that seeing tells what doing would (Section 3)."""

from collections.abc import Collection, Iterator

from undelude.causal.graph import Graph, Names, check_names, children_of, reach, topological_order


def back_door(
    graph: Graph, a: str, o: str, *, latent: Names = (), limit: int | None = None
) -> tuple[frozenset[str], ...]:
    """All inclusion-minimal back-door sets of `a` and `o` (Pearl 2009, Definition 3.3.1).

    Such a set Z holds no descendant of `a` and blocks every path between `a` and `o` with an arrow into `a`. Then

        P(o | do(a)) = sum_z P(o | a, z) P(z).

    They are the minimal vertex separators of `a` and `o` in the moral graph of their ancestors without the arrows out
    of `a`, enumerated from `a` outwards (Shen & Liang 1997).

    Args:
        graph: the parents of each variable.
        a: what is done.
        o: what it has an effect on.
        latent: what cannot be observed, and so not be adjusted for.
        limit: stop after this many sets, those that lie nearest to `a`; there can be exponentially many.

    Returns:
        The smallest sets first, then in the order of the graph; `()` if there is none, `(frozenset(),)` if the empty
        set serves.

    Raises:
        ValueError: an unknown name, a name in two roles, a cycle, a limit below 1.

    >>> back_door({"Z": (), "A": ("Z",), "O": ("Z", "A")}, "A", "O")
    (frozenset({'Z'}),)
    >>> back_door({"Z": (), "A": ("Z",), "O": ("Z", "A")}, "A", "O", latent="Z")
    ()
    """
    starts, ends, hidden = check_names(graph, {"done": a, "asked": o, "latent": latent})
    if len(starts) != 1 or len(ends) != 1:
        raise ValueError(f"back_door takes one name on either side, not {starts} and {ends}; ask for each pair.")
    (start,), (end,) = starts, ends
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, or None for all sets, not {limit}.")
    topological_order(graph)  # Raises at a cycle.
    cut = {name: tuple(parent for parent in parents if parent != start) for name, parents in graph.items()}
    kin = reach(cut, (start, end))
    names = [name for name in graph if name in kin]
    forbidden = (reach(children_of(graph), (start,)) | set(hidden)) - {start, end}
    near = _moral(cut, names, forbidden)
    number = {name: i for i, name in enumerate(names)}
    found = sorted(
        (tuple(_bits(z)) for z in _separators(near, number[start], number[end], limit)), key=lambda z: (len(z), z)
    )
    return tuple(frozenset(names[i] for i in z) for z in found)


def _moral(graph: Graph, names: list[str], forbidden: Collection[str]) -> list[int]:
    """The neighbours, as bits, of each of the ancestral `names` in the moral graph without those `forbidden`.

    A variable that no set may hold is eliminated: its neighbours become neighbours of each other.
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
    """All minimal sets of vertices, as bits, without which no path leads from `a` to `b`."""
    if near[a] >> b & 1:
        return []

    def component(start: int, without: int) -> int:
        found = front = 1 << start
        while front:
            around = 0
            for i in _bits(front):
                around |= near[i]
            front = around & ~found & ~without
            found |= front
        return found

    def around(vertices: int) -> int:
        found = 0
        for i in _bits(vertices):
            found |= near[i]
        return found & ~vertices

    # Of everything that isolates a set of vertices around `a`, the minimal separator is what touches the side of `b`.
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
    while x:
        low = x & -x
        yield low.bit_length() - 1
        x ^= low
