"""Front-door sets: mediators that determine an effect whose causes are hidden."""

from collections.abc import Callable, Iterator
from itertools import islice

from undelude.causal._graphs.adjustment import checked, in_order
from undelude.causal._graphs.graph import children_of, d_connected, reach, without_arrows_from
from undelude.causal._names import AnyGraph, Names, Parents, check_limit


def front_door(
    graph: AnyGraph, cause: Names, outcome: Names, *, latent: Names = (), limit: int | None = None
) -> tuple[frozenset[str], ...]:
    """Return all inclusion-minimal front-door sets (Pearl 2009, Definition 3.3.3).

    A front-door set Z intercepts all directed paths from `cause` to `outcome`. No back-door path from `cause` to Z is
    open, and `cause` blocks all back-door paths from Z to `outcome`. Then

        P(o | do(a)) = sum_z P(z | a) sum_a' P(o | a', z) P(a').

    The largest front-door set is found by removing candidates with a back-door path that `cause` and the other
    candidates leave open, until there are none (Jeong, Tian & Bareinboim 2022). Each round takes linear time. A minimal
    set takes a number of such searches that is proportional to its size, times a logarithm (QuickXplain: Junker 2004).

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        cause: the variables intervened on.
        outcome: the outcomes.
        latent: the variables that cannot be observed, besides those of a `ud.Graph`.
        limit: the largest number of sets; there can be exponentially many, and finding that there is no other one can
            take as long.

    Returns:
        The smallest sets first, then in the order of the graph; `()` if there is none, `(frozenset(),)` if no directed
        path leads from `cause` to `outcome`.

    Raises:
        ValueError: no cause or no outcome, an unknown name, a name in two roles, a cycle, a limit below 1.

    >>> front_door({"U": (), "A": ("U",), "M": ("A",), "O": ("M", "U")}, "A", "O", latent="U")
    (frozenset({'M'}),)
    """
    check_limit(limit)
    graph, starts, ends, hidden = checked(graph, cause, outcome, latent)
    search = _Search(graph, frozenset(starts), frozenset(ends))
    candidates = search.without_back_door() - {*starts, *ends, *hidden}
    ordered = tuple(name for name in graph if name in candidates)
    return in_order(graph, islice(_minimal_sets(ordered, search.serves), limit))


class _Search:
    """The front-door criterion for one effect in one graph."""

    def __init__(self, graph: Parents, a: frozenset[str], o: frozenset[str]):
        self.graph, self.children, self.a, self.o = graph, children_of(graph), a, o
        self.above_a = reach(graph, a)

    def serves(self, names: tuple[str, ...]) -> bool:
        """Return whether a subset of `names` is a front-door set: if so, the largest one that `a` screens off is."""
        return self.intercepts(self.screened(frozenset(names)))

    def without_back_door(self) -> frozenset[str]:
        """Return the variables to which no back-door path from `a` is open."""
        return frozenset(self.graph) - self.reached(self.a, given=frozenset(), closed=self.a)

    def screened(self, z: frozenset[str]) -> frozenset[str]:
        """Return the largest part of `z` of which `a` blocks all back-door paths to `o`."""
        while bad := z & self.reached(self.o, given=self.a, closed=z):
            z -= bad
        return z

    def intercepts(self, z: frozenset[str]) -> bool:
        """Return whether `z` meets each directed path from `a` to `o`."""
        onward = {name: () if name in z else children for name, children in self.children.items()}
        return not self.o & reach(onward, self.a)

    def reached(self, start: frozenset[str], *, given: frozenset[str], closed: frozenset[str]) -> frozenset[str]:
        """Return the variables to which a path from `start` is open given `given`, without the arrows from `closed`."""
        above = reach(without_arrows_from(self.graph, closed), given) if closed else self.above_a
        return frozenset(d_connected(self.graph, self.children, start, given=given, above=above, closed=closed))


def _minimal_sets(names: tuple[str, ...], serves: Callable[[tuple[str, ...]], bool]) -> Iterator[frozenset[str]]:
    """Yield the minimal sets that serve, where each set that contains one of them serves too (Reiter 1987)."""
    todo, seen, found = [frozenset[str]()], {frozenset[str]()}, set()
    for without in todo:
        left = tuple(name for name in names if name not in without)
        if not serves(left):
            continue
        z = next((z for z in found if not z & without), None)
        if z is None:
            z = frozenset(_minimal((), left, serves))
            found.add(z)
            yield z
        # Every other minimal set lacks a member of this one.
        for name in names:
            if name in z and (further := without | {name}) not in seen:
                seen.add(further)
                todo.append(further)


def _minimal(
    kept: tuple[str, ...], names: tuple[str, ...], serves: Callable[[tuple[str, ...]], bool]
) -> tuple[str, ...]:
    """Return a minimal part of `names` that serves together with `kept`, by halving."""
    if serves(kept):
        return ()
    if len(names) == 1:
        return names
    half = len(names) // 2
    second = _minimal((*kept, *names[:half]), names[half:], serves)
    return (*_minimal((*kept, *second), names[:half], serves), *second)
