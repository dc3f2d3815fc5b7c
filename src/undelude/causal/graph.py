"""Causal graphs of names: surgery, d-separation, paths and latent projection (Sections 2 and 3)."""

import difflib
import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

Graph = Mapping[str, tuple[str, ...]]
Names = str | Iterable[str]


@dataclass(frozen=True)
class Path:
    """A path between two variables, whichever way its arrows point.

    Attributes:
        nodes: from one end to the other.
        arrows: `"->"` or `"<-"` between each node and the next.
        blocked_by: the nodes that block it: chains and forks that are given or held fixed, colliders none of whose
            descendants is.
    """

    nodes: tuple[str, ...]
    arrows: tuple[str, ...]
    blocked_by: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether nothing blocks it: it carries information."""
        return not self.blocked_by

    def __str__(self) -> str:
        steps = zip(self.arrows, self.nodes[1:], strict=True)
        return self.nodes[0] + "".join(f" {arrow} {node}" for arrow, node in steps)


# ---------------------------------------------------------------------------------------------------------- names


def check_names(graph: Graph, roles: Mapping[str, Names]) -> list[tuple[str, ...]]:
    """The names in each role, each once; one role for each name.

    Args:
        graph: the parents of each variable.
        roles: names by the role that they play, in words that complete "Z is both ... and ...".

    Raises:
        ValueError: a name, or a parent, that the graph does not have; a name in two roles.
    """
    if not isinstance(graph, Mapping):
        raise TypeError(f"a graph is a dict of parents by name; of a CausalModel, take model.graph, not {graph!r}.")
    for name, parents in graph.items():
        if not isinstance(name, str) or not isinstance(parents, Iterable):
            raise TypeError(
                f"a graph is a dict of parents by name, such as {{'A': ('Z',)}}; not {name!r:.99}: {parents!r:.99}."
            )
    for name, parents in graph.items():
        for parent in parents:
            if not isinstance(parent, str) or parent not in graph:
                raise ValueError(f"{name}: its parent {_unknown(parent, graph)}")
    taken: dict[str, str] = {}
    checked = []
    for role, names in roles.items():
        if not isinstance(names, Iterable):
            raise TypeError(f"what is {role} must be a name or several, not {names!r:.99}.")
        names = (names,) if isinstance(names, str) else tuple(names)
        for name in names:
            if not isinstance(name, str) or name not in graph:
                raise ValueError(_unknown(name, graph))
        unique = tuple(dict.fromkeys(names))
        for name in unique:
            if name in taken:
                raise ValueError(f"{name} is both {taken[name]} and {role}; give it one role.")
            taken[name] = role
        checked.append(unique)
    return checked


def listed(values: Sequence[object]) -> str:
    """For a message: all of a few, the first of many and how many there are."""
    shown = ", ".join(map(str, values[:8]))
    return f"{shown}, ... ({len(values)} in all)" if len(values) > 8 else shown


def _unknown(name: object, names: Collection[str]) -> str:
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {listed(tuple(names))}."
    return f"{name!r:.99} is not in the graph; {hint}"


# ------------------------------------------------------------------------------------------------ order and kin


def topological_order(graph: Graph) -> tuple[str, ...]:
    """Parents before children, otherwise in the order of the mapping.

    Args:
        graph: the parents of each variable.

    Raises:
        ValueError: a cycle, spelt out; a parent that the graph does not have.

    >>> topological_order({"O": ("Theta", "A"), "A": ("Theta",), "Theta": ()})
    ('Theta', 'A', 'O')
    """
    check_names(graph, {})
    place = {name: i for i, name in enumerate(graph)}
    names, children = list(graph), children_of(graph)
    missing = {name: len(set(parents)) for name, parents in graph.items()}
    ready = [place[name] for name, count in missing.items() if count == 0]
    order = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for child in children[name]:
            missing[child] -= 1
            if missing[child] == 0:
                heapq.heappush(ready, place[child])
    if len(order) < len(names):
        raise ValueError(
            f"the graph has a cycle: {' -> '.join(_cycle(graph, set(names) - set(order)))}. Take an arrow out."
        )
    return tuple(order)


def _cycle(graph: Graph, left: set[str]) -> list[str]:
    """A cycle among `left`, each of which has a parent there; it begins and ends with its first name in the graph."""
    name = next(name for name in graph if name in left)
    trail: dict[str, None] = {}
    while name not in trail:
        trail[name] = None
        name = next(parent for parent in graph[name] if parent in left)
    upstream = list(trail)[list(trail).index(name) :]
    members = set(upstream)
    first = upstream.index(next(name for name in graph if name in members))
    upstream = upstream[first:] + upstream[: first + 1]
    return upstream[::-1]


def ancestors(graph: Graph, names: Names) -> frozenset[str]:
    """The names, and whatever has a directed path to one of them.

    Args:
        graph: the parents of each variable.
        names: a name or several.

    Raises:
        ValueError: an unknown name.
    """
    (start,) = check_names(graph, {"asked": names})
    return reach(graph, start)


def descendants(graph: Graph, names: Names) -> frozenset[str]:
    """The names, and whatever one of them has a directed path to.

    Args:
        graph: the parents of each variable.
        names: a name or several.

    Raises:
        ValueError: an unknown name.
    """
    (start,) = check_names(graph, {"asked": names})
    return reach(children_of(graph), start)


def mutilate(graph: Graph, do: Names) -> dict[str, tuple[str, ...]]:
    """The graph after surgery: no arrows into what is done (Pearl 2009, Section 3.2.3).

    Args:
        graph: the parents of each variable.
        do: a name or several.

    Raises:
        ValueError: an unknown name.

    >>> mutilate({"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}, "A")
    {'Theta': (), 'A': (), 'O': ('Theta', 'A')}
    """
    (done,) = check_names(graph, {"done": do})
    return {name: () if name in done else tuple(parents) for name, parents in graph.items()}


def children_of(graph: Graph) -> dict[str, tuple[str, ...]]:
    """The arrows of `graph`, from the other end."""
    children: dict[str, list[str]] = {name: [] for name in graph}
    for name, parents in graph.items():
        for parent in dict.fromkeys(parents):
            children[parent].append(name)
    return {name: tuple(found) for name, found in children.items()}


def reach(next_to: Mapping[str, Iterable[str]], start: Iterable[str]) -> frozenset[str]:
    """`start`, and what is next to it, and to that."""
    found, todo = set(start), list(start)
    while todo:
        for name in next_to[todo.pop()]:
            if name not in found:
                found.add(name)
                todo.append(name)
    return frozenset(found)


# -------------------------------------------------------------------------------------------------- separation


def d_separated(graph: Graph, a: Names, b: Names, *, given: Names = (), do: Names = ()) -> bool:
    """Whether every path between `a` and `b` is blocked, after surgery: then `a` and `b` are independent given `given`.

    What is done is held fixed, so it is given too, unless it is one of `a` or `b`. One pass over the graph.

    Args:
        graph: the parents of each variable.
        a: a name or several.
        b: a name or several.
        given: what is seen.
        do: what is done.

    Raises:
        ValueError: an unknown name; a name in two of `a`, `b` and `given`.

    >>> frog = {"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}
    >>> d_separated(frog, "Theta", "A"), d_separated(frog, "Theta", "A", do="A")
    (False, True)
    """
    start, end, fixed, cut = _separation(graph, a, b, given, do)
    children, above = children_of(cut), reach(cut, fixed)
    # A trail enters a node either against an arrow, from a child (up), or along one, from a parent (down).
    todo = [(name, True) for name in start]
    seen = set(todo)
    targets = set(end)
    while todo:
        name, up = todo.pop()
        if name in targets:
            return False
        steps: list[tuple[str, bool]] = []
        if name not in fixed:
            steps += [(child, False) for child in children[name]]
        if name not in fixed if up else name in above:
            steps += [(parent, True) for parent in cut[name]]
        for step in steps:
            if step not in seen:
                seen.add(step)
                todo.append(step)
    return True


def paths(graph: Graph, a: str, b: str, *, given: Names = (), do: Names = ()) -> Iterator[Path]:
    """Every path between `a` and `b` after surgery, and where it is blocked.

    There can be exponentially many, so they come one at a time: take some with `itertools.islice`.

    Args:
        graph: the parents of each variable.
        a: a name.
        b: a name.
        given: what is seen.
        do: what is done; held fixed, so given too, unless it is `a` or `b`.

    Raises:
        ValueError: an unknown name; a name in two of `a`, `b` and `given`.

    >>> frog = {"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}
    >>> [str(path) for path in paths(frog, "A", "O") if path.is_open]
    ['A <- Theta -> O', 'A -> O']
    """
    starts, ends, fixed, cut = _separation(graph, a, b, given, do)
    if len(starts) != 1 or len(ends) != 1:
        raise ValueError(f"paths takes one name on either side, not {starts} and {ends}; ask for each pair.")
    (start,), (end,) = starts, ends
    children, above = children_of(cut), reach(cut, fixed)

    def walk() -> Iterator[Path]:
        place = {name: i for i, name in enumerate(graph)}
        near = {name: sorted({*cut[name], *children[name]}, key=place.__getitem__) for name in graph}
        nodes, options = [start], [iter(near[start])]
        while nodes:
            step = next(options[-1], None)
            if step is None:
                nodes.pop()
                options.pop()
            elif step == end:
                yield path((*nodes, end))
            elif step not in nodes and leads_on(near, step, nodes):
                nodes.append(step)
                options.append(iter(near[step]))

    def leads_on(near: Mapping[str, list[str]], step: str, nodes: list[str]) -> bool:
        found, todo = {step, *nodes}, [step]
        while todo:
            for name in near[todo.pop()]:
                if name == end:
                    return True
                if name not in found:
                    found.add(name)
                    todo.append(name)
        return False

    def path(nodes: tuple[str, ...]) -> Path:
        arrows = tuple("->" if x in cut[y] else "<-" for x, y in pairwise(nodes))
        blocked = (
            node not in above if (into, out) == ("->", "<-") else node in fixed
            for node, (into, out) in zip(nodes[1:-1], pairwise(arrows), strict=True)
        )
        return Path(nodes, arrows, tuple(node for node, is_so in zip(nodes[1:-1], blocked, strict=True) if is_so))

    return walk()


def _separation(
    graph: Graph, a: Names, b: Names, given: Names, do: Names
) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[str], Graph]:
    """`a`, `b`, whatever is given or held fixed, and the mutilated graph."""
    start, end, seen = check_names(graph, {"on the one side": a, "on the other side": b, "given": given})
    cut = mutilate(graph, do)
    (done,) = check_names(graph, {"done": do})
    return start, end, frozenset((*seen, *done)) - {*start, *end}, cut


# -------------------------------------------------------------------------------------------- hidden variables


def latent_projection(graph: Graph, latent: Names) -> tuple[dict[str, tuple[str, ...]], frozenset[frozenset[str]]]:
    """The graph over the observed variables alone (Verma & Pearl 1990).

    `u -> v` where a directed path through latent variables only leads from `u` to `v`; `u <-> v` where a latent
    variable has such paths to both.

    Args:
        graph: the parents of each variable.
        latent: what cannot be observed.

    Returns:
        The observed parents of each observed variable, and the pairs joined by `<->`.

    Raises:
        ValueError: an unknown name, a cycle.

    >>> directed, bidirected = latent_projection({"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}, "Theta")
    >>> directed, [sorted(pair) for pair in bidirected]
    ({'A': (), 'O': ('A',)}, [['A', 'O']])
    """
    (hidden,) = check_names(graph, {"latent": latent})
    unseen = set(hidden)
    # What reaches each variable through latent variables only; every latent variable reaches itself.
    sources: dict[str, set[str]] = {}
    for name in topological_order(graph):
        sources[name] = set()
        for parent in graph[name]:
            sources[name] |= sources[parent] | {parent} if parent in unseen else {parent}
    observed = [name for name in graph if name not in unseen]
    directed = {name: tuple(x for x in observed if x in sources[name]) for name in observed}
    reached: dict[str, list[str]] = {name: [] for name in hidden}
    for name in observed:
        for source in sources[name] & unseen:
            reached[source].append(name)
    return directed, frozenset(frozenset(pair) for names in reached.values() for pair in combinations(names, 2))


def districts(names: Iterable[str], bidirected: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """The sets of `names` that are connected by `<->` among themselves: c-components (Tian & Pearl 2002).

    Args:
        names: variables; pairs with any other variable are left aside.
        bidirected: the pairs joined by `<->`.

    Returns:
        A partition of `names`, in their order.

    >>> [sorted(district) for district in districts("AMO", [frozenset("AO")])]
    [['A', 'O'], ['M']]
    """
    near: dict[str, list[str]] = {name: [] for name in names}
    for u, v in map(tuple, bidirected):
        if u in near and v in near:
            near[u].append(v)
            near[v].append(u)
    found: list[frozenset[str]] = []
    done: set[str] = set()
    for name in near:
        if name not in done:
            found.append(reach(near, (name,)))
            done |= found[-1]
    return tuple(found)
