"""Causal graphs as mappings from names to parents: surgery, d-separation, paths and latent projection."""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations, pairwise

from undelude.causal._graphs.path import Path, Paths
from undelude.causal._names import AnyGraph, Names, Parents, as_graph, as_latent, check_names

# -------------------------------------------------------------------------------------------- order and ancestry


def topological_order(graph: AnyGraph) -> tuple[str, ...]:
    """Return the names with parents before children, otherwise in the order of the mapping.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.

    Raises:
        ValueError: a cycle, which the message spells out; an unknown parent.

    >>> topological_order({"O": ("Theta", "A"), "A": ("Theta",), "Theta": ()})
    ('Theta', 'A', 'O')
    """
    graph = as_graph(graph)
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
        cycle = _cycle(graph, set(names) - set(order))
        raise ValueError(f"the graph has a cycle: {' -> '.join(cycle)}. Remove one of its arrows.")
    return tuple(order)


def _cycle(graph: Parents, left: set[str]) -> list[str]:
    """Return a cycle within `left`, in which every node has a parent.

    It begins and ends with the node that comes first in the graph.
    """
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


def ancestors(graph: AnyGraph, names: Names) -> frozenset[str]:
    """Return the ancestors of `names`, and `names` themselves.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        names: a name or several.

    Raises:
        ValueError: an unknown name.
    """
    graph = as_graph(graph)
    (start,) = check_names(graph, {"asked": names})
    return reach(graph, start)


def descendants(graph: AnyGraph, names: Names) -> frozenset[str]:
    """Return the descendants of `names`, and `names` themselves.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        names: a name or several.

    Raises:
        ValueError: an unknown name.
    """
    graph = as_graph(graph)
    (start,) = check_names(graph, {"asked": names})
    return reach(children_of(graph), start)


def mutilate(graph: AnyGraph, do: Names) -> dict[str, tuple[str, ...]]:
    """Return the mutilated graph: surgery removes the arrows into `do` (Pearl 2009, Section 3.2.3).

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        do: the variables intervened on.

    Raises:
        ValueError: an unknown name.

    >>> mutilate({"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}, "A")
    {'Theta': (), 'A': (), 'O': ('Theta', 'A')}
    """
    graph = as_graph(graph)
    (done,) = check_names(graph, {"done": do})
    return {name: () if name in done else parents for name, parents in graph.items()}


def without_arrows_from(graph: Parents, names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the graph without the arrows out of `names`."""
    return {child: tuple(parent for parent in parents if parent not in names) for child, parents in graph.items()}


def children_of(graph: Parents) -> dict[str, tuple[str, ...]]:
    """Return the children of each variable."""
    children: dict[str, list[str]] = {name: [] for name in graph}
    for name, parents in graph.items():
        for parent in dict.fromkeys(parents):
            children[parent].append(name)
    return {name: tuple(found) for name, found in children.items()}


def reach(neighbours: Mapping[str, Iterable[str]], start: Iterable[str]) -> frozenset[str]:
    """Return `start` and every node that a walk along `neighbours` reaches from it."""
    found, todo = set(start), list(start)
    while todo:
        for name in neighbours[todo.pop()]:
            if name not in found:
                found.add(name)
                todo.append(name)
    return frozenset(found)


# -------------------------------------------------------------------------------------------------- separation


def d_separated(graph: AnyGraph, a: Names, b: Names, *, see: Names = (), do: Names = ()) -> bool:
    """Return whether `see` blocks every path between `a` and `b` in the graph mutilated by `do`.

    Then `a` and `b` are independent given `see` under `do`. The conditioning set includes `do`, which is held fixed,
    except variables in `a` or `b`. Linear in the size of the graph.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        a: a name or several.
        b: a name or several.
        see: the variables conditioned on.
        do: the variables intervened on.

    Raises:
        ValueError: an unknown name; a name in two of `a`, `b` and `see`; a cycle.

    >>> frog = {"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}
    >>> d_separated(frog, "Theta", "A"), d_separated(frog, "Theta", "A", do="A")
    (False, True)
    """
    start, end, fixed, cut = _separation(as_graph(graph), a, b, see, do)
    targets = set(end)
    connected = d_connected(cut, children_of(cut), start, given=fixed, above=reach(cut, fixed))
    return not any(name in targets for name in connected)


def d_connected(
    graph: Parents,
    children: Parents,
    start: Iterable[str],
    *,
    given: Collection[str],
    above: Collection[str],
    closed: Collection[str] = (),
) -> Iterator[str]:
    """Yield the variables to which a path from `start` is open; some of them twice.

    Args:
        graph: the parents of each variable.
        children: the children of each variable.
        start: where paths begin.
        given: the variables conditioned on.
        above: these and their ancestors, at which colliders are open.
        closed: variables whose outgoing arrows are left out.
    """
    # A walk enters a node either against an arrow, from a child (up), or along one, from a parent (down).
    todo = [(name, True) for name in start]
    seen = set(todo)
    while todo:
        name, up = todo.pop()
        yield name
        steps: list[tuple[str, bool]] = []
        if name not in given and name not in closed:
            steps += [(child, False) for child in children[name]]
        if name not in given if up else name in above:
            steps += [(parent, True) for parent in graph[name] if parent not in closed]
        for step in steps:
            if step not in seen:
                seen.add(step)
                todo.append(step)


def paths(graph: AnyGraph, a: str, b: str, *, see: Names = (), do: Names = ()) -> Paths:
    """Yield every path between `a` and `b` in the graph mutilated by `do`, and the nodes that block it.

    The number of paths can be exponential; take some of them with `itertools.islice`.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        a: a name.
        b: a name.
        see: the variables conditioned on.
        do: the variables intervened on; they are conditioned on too, except `a` and `b`.

    Raises:
        ValueError: an unknown name; a name in two of `a`, `b` and `see`; a cycle.

    >>> frog = {"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}
    >>> [str(path) for path in paths(frog, "A", "O") if path.is_open]
    ['A <- Theta -> O', 'A -> O']
    """
    graph = as_graph(graph)
    starts, ends, fixed, cut = _separation(graph, a, b, see, do)
    if len(starts) != 1 or len(ends) != 1:
        raise ValueError(f"paths takes one name on either side, not {starts} and {ends}; call it for each pair.")
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

    # Without this check the walk would enumerate the paths of parts of the graph from which `end` is out of reach.
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
        blocked_by = tuple(
            node
            for node, (into, out) in zip(nodes[1:-1], pairwise(arrows), strict=True)
            if (node not in above if (into, out) == ("->", "<-") else node in fixed)
        )
        return Path(nodes, arrows, blocked_by)

    return Paths(walk)


def _separation(
    graph: Parents, a: Names, b: Names, see: Names, do: Names
) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[str], Parents]:
    """Return `a` and `b` as tuples, the conditioning set, and the mutilated graph."""
    topological_order(graph)  # Raises on a cycle.
    start, end, seen = check_names(graph, {"on the one side": a, "on the other side": b, "seen": see})
    (done,) = check_names(graph, {"done": do})
    return start, end, frozenset((*seen, *done)) - {*start, *end}, mutilate(graph, done)


# -------------------------------------------------------------------------------------------- hidden variables


def latent_projection(
    graph: AnyGraph, latent: Names = ()
) -> tuple[dict[str, tuple[str, ...]], frozenset[frozenset[str]]]:
    """Return the projection of the graph on its observed variables (Verma & Pearl 1990).

    It has `u -> v` if a directed path from `u` to `v` passes through latent variables only, and `u <-> v` if a latent
    variable has such paths to both.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        latent: the variables that cannot be observed, besides those of a `ud.Graph`.

    Returns:
        The observed parents of each observed variable, and the pairs joined by `<->`.

    Raises:
        ValueError: an unknown name, a cycle.

    >>> directed, bidirected = latent_projection({"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}, "Theta")
    >>> directed, [sorted(pair) for pair in bidirected]
    ({'A': (), 'O': ('A',)}, [['A', 'O']])
    """
    latent, graph = as_latent(graph, latent), as_graph(graph)
    (latent,) = check_names(graph, {"latent": latent})
    hidden = set(latent)
    # The variables from which a path through latent variables only leads to a variable.
    sources: dict[str, set[str]] = {}
    for name in topological_order(graph):
        sources[name] = set()
        for parent in graph[name]:
            sources[name] |= sources[parent] | {parent} if parent in hidden else {parent}
    observed = [name for name in graph if name not in hidden]
    directed = {name: tuple(x for x in observed if x in sources[name]) for name in observed}
    reached: dict[str, list[str]] = {name: [] for name in latent}
    for name in observed:
        for source in sources[name] & hidden:
            reached[source].append(name)
    return directed, frozenset(frozenset(pair) for names in reached.values() for pair in combinations(names, 2))


def districts(names: Iterable[str], bidirected: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Return the c-components of `names`: the sets connected by `<->` within `names` (Tian & Pearl 2002).

    Args:
        names: variables.
        bidirected: the pairs joined by `<->`; pairs with a variable outside `names` are ignored.

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
