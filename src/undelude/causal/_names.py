"""Names of variables and graphs, as callers write them."""

import difflib
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from undelude._checks import check_ordered

# The parents of each variable.
Parents = Mapping[str, tuple[str, ...]]
Names = str | Iterable[str]


@runtime_checkable
class DirectedGraph(Protocol):
    """The methods of `networkx.DiGraph` that are called; networkx has no types, and is not imported."""

    def is_directed(self) -> bool:
        """Return whether edges have a direction."""
        ...

    def is_multigraph(self) -> bool:
        """Return whether two nodes may have several edges."""
        ...

    def predecessors(self, n: Any, /) -> Iterable[Any]:
        """Return the parents of a node."""
        ...


@runtime_checkable
class WithLatent(Protocol):
    """The attribute of a `ud.Graph` by which it names its latent variables."""

    @property
    def latent(self) -> tuple[str, ...]:
        """The names of the latent variables."""
        ...


# The graphs that functions take.
AnyGraph = Mapping[str, Names] | DirectedGraph
# Beginning of messages.
_PARENTS = "a graph is a dict that maps each name to its parents"


def as_names(names: Names, *, order: str = "", role: str = "names") -> tuple[str, ...]:
    """Return one name or several as a tuple.

    Args:
        names: a name or several.
        order: the effect of the order of the names, as a clause; if given, a set of several is refused.
        role: the name of the argument, for messages.

    Raises:
        ValueError: `names` is a dict, or a set where order matters.
        TypeError: `names` is neither a string nor an iterable of strings.
    """
    if isinstance(names, str):
        return (str(names),)
    if isinstance(names, Mapping):
        raise ValueError(
            f"{role} must be a name or several, such as {listed(tuple(names))}, not a dict; query takes values."
        )
    if not isinstance(names, Iterable):
        raise TypeError(f"{role} must be a name or several, not {names!r:.99}.")
    found = tuple(names)
    if order and len(found) > 1:
        check_ordered(names, role, order)
    names = found
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a name must be a string, not {name!r:.99}.")
    return tuple(map(str, names))  # Python strings instead of NumPy's.


def as_graph(graph: AnyGraph) -> dict[str, tuple[str, ...]]:
    """Return the parents of each variable as tuples, including latent variables: `as_latent` returns these.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.

    Raises:
        TypeError: another kind of graph, or a name that is not a string.
        ValueError: an unknown parent.

    >>> as_graph({"Theta": (), "A": "Theta", "O": ["Theta", "A"]})
    {'Theta': (), 'A': ('Theta',), 'O': ('Theta', 'A')}
    """
    networkx = sys.modules.get("networkx")  # Imported already if it made the graph.
    if networkx is not None and isinstance(graph, networkx.Graph):
        graph = _parents_in(graph)
    if type(graph).__module__.partition(".")[0] == "networkx":
        raise TypeError(f"{_PARENTS}; a networkx {type(graph).__name__} may hold children. Pass the DiGraph itself.")
    if isinstance(graph, str):
        raise TypeError(
            f"{_PARENTS}, not the text {graph!r:.99}. ud.Graph.from_dot reads a text of Graphviz (digraph), "
            "ud.Graph.from_dagitty one of dagitty (dag), ud.Graph.from_gml one in GML."
        )
    if not isinstance(graph, Mapping):
        raise TypeError(f"{_PARENTS}, or a networkx.DiGraph; model.graph is that of a CausalModel. Not {graph!r:.99}.")
    found = {}
    for name, parents in graph.items():
        if not isinstance(name, str) or not isinstance(parents, Iterable):
            raise TypeError(f"{_PARENTS}, such as {{'A': ('Z',)}}; not {name!r:.99}: {parents!r:.99}.")
        if isinstance(parents, Mapping):
            raise TypeError(
                f"{_PARENTS}, but that of {name!r:.99} is the dict {parents!r:.99}. Dicts of dicts, as networkx makes "
                "them, hold children: pass the networkx.DiGraph itself, or a tuple of the parents of each variable."
            )
        found[str(name)] = (parents,) if isinstance(parents, str) else tuple(parents)
    place = {name: i for i, name in enumerate(found)}
    for name, parents in found.items():
        for parent in parents:
            if not isinstance(parent, str) or parent not in place:
                raise ValueError(f"{name}: its parent {_unknown(parent, found)}")
        if isinstance(graph[name], set | frozenset):
            found[name] = tuple(sorted(parents, key=place.__getitem__))
    return found


def as_latent(graph: AnyGraph, latent: Names = ()) -> tuple[str, ...]:
    """Return the latent variables of a `ud.Graph`, if `graph` is one, and the names in `latent`."""
    own = graph.latent if isinstance(graph, WithLatent) else ()
    return tuple(dict.fromkeys((*own, *as_names(latent))))


def check_limit(limit: int | None) -> None:
    """Raise `ValueError` unless the number of sets to stop at is 1 or more, or None."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, or None for all sets, not {limit}.")


def marked_latent(graph: Any) -> tuple[str, ...]:
    """Return the nodes that a networkx graph marks as latent: by `graph.latents`, or by `observed="no"` at the node.

    Raises:
        ValueError: a mark that is neither yes nor no.
    """
    found = dict.fromkeys(map(str, sorted(getattr(graph, "latents", None) or (), key=str)))
    for name, mark in graph.nodes(data="observed"):
        if str(mark).lower() in ("no", "false"):
            found[str(name)] = None
        elif mark is not None and str(mark).lower() not in ("yes", "true"):
            raise ValueError(f'{name} has the mark observed={mark!r}; it must be "yes" or "no".')
    return tuple(found)


def _parents_in(graph: Any) -> dict[Any, tuple[Any, ...]]:
    """Return the parents of each node of a networkx graph that marks no node as latent."""
    found = networkx_parents(graph)
    if latents := marked_latent(graph):
        raise TypeError(
            f"the {type(graph).__name__} marks {listed(sorted(latents))} as latent, which this function does not read. "
            "Pass ud.Graph.from_networkx(graph), which keeps them latent."
        )
    return found


def networkx_parents(graph: Any) -> dict[Any, tuple[Any, ...]]:
    """Return the parents of each node of a networkx graph, whether latent or not."""
    kind = f"a networkx graph must be a DiGraph, with one arrow between a cause and its effect, not a {type(graph)!r}"
    if not graph.is_directed():
        raise TypeError(f"{kind}: its edges have no direction.")
    if graph.is_multigraph():
        raise TypeError(f"{kind}: two nodes may have several edges. Name hidden common causes as nodes of their own.")
    for name in graph:
        if not isinstance(name, str):
            raise TypeError(
                f"the nodes of a graph must be strings, not {name!r:.99}; networkx.relabel_nodes(graph, str) does it."
            )
    return {name: tuple(graph.predecessors(name)) for name in graph}


def check_names(graph: Parents, roles: Mapping[str, Names]) -> list[tuple[str, ...]]:
    """Check the names in each role; return the names in each role without repetition.

    Args:
        graph: the parents of each variable, as `as_graph` returns them.
        roles: names by role, where the role completes "Z is both ... and ...".

    Raises:
        TypeError: a role holds neither a name nor several.
        ValueError: an unknown name; a name in two roles.
    """
    taken: dict[str, str] = {}
    checked = []
    for role, names in roles.items():
        unique = tuple(dict.fromkeys(as_names(names)))
        for name in unique:
            if name not in graph:
                raise ValueError(_unknown(name, graph))
        for name in unique:
            if name in taken:
                raise ValueError(f"{name} is both {taken[name]} and {role}; give it one role.")
            taken[name] = role
        checked.append(unique)
    return checked


def listed(values: Sequence[object]) -> str:
    """Return the values as a message shows them: the first eight, and their number if there are more."""
    shown = ", ".join(map(str, values[:8]))
    return f"{shown}, ... ({len(values)} in all)" if len(values) > 8 else shown


def _unknown(name: object, names: Collection[str]) -> str:
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {listed(tuple(names))}."
    return f"{name!r:.99} is not in the graph; {hint}"
