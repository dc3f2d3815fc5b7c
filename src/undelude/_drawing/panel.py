"""The content of a drawing of a causal graph: the graph, the roles of its variables, and both in words."""

import dataclasses
from collections.abc import Iterable, Sequence

from undelude._drawing.svg import symbol
from undelude.causal._graphs.equivalence import EssentialGraph
from undelude.causal._graphs.graph import mutilate, topological_order
from undelude.causal._graphs.path import Path
from undelude.causal._mixed.graph import Graph
from undelude.causal._names import Parents


@dataclasses.dataclass(frozen=True)
class Panel:
    """A graph with the roles of its variables.

    Attributes:
        graph: the parents of each variable, before surgery.
        title: text above the graph.
        latent: names of the latent variables.
        bidirected: pairs of names with a latent common cause that is not drawn.
        seen: names of the variables that are conditioned on.
        done: names of the variables that are intervened on; surgery removes the arrows into them.
        paths: paths along which information flows or is blocked.
        above: names of the variables in the top row; by default those without parents.
        undirected: pairs `(parent, child)` of the graph that are drawn as lines, without a head.
    """

    graph: Parents
    title: str = ""
    latent: Sequence[str] = ()
    seen: Sequence[str] = ()
    done: Sequence[str] = ()
    paths: Sequence[Path] = ()
    above: Sequence[str] | None = None
    bidirected: Sequence[tuple[str, str]] = ()
    undirected: Sequence[tuple[str, str]] = ()

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Pairs `(parent, child)` of the arrows that remain after surgery."""
        return tuple(edge for edge in _edges(mutilate(self.graph, self.done)) if edge not in self.undirected)

    @property
    def removed(self) -> tuple[tuple[str, str], ...]:
        """Pairs `(parent, child)` of the arrows that surgery removes."""
        return tuple(edge for edge in self.all_edges if edge[1] in self.done)

    @property
    def arcs(self) -> tuple[tuple[str, str], ...]:
        """The bidirected edges that remain after surgery."""
        return tuple(pair for pair in self.bidirected if not set(pair) & set(self.done))

    @property
    def removed_arcs(self) -> tuple[tuple[str, str], ...]:
        """The bidirected edges that surgery removes, as they have an end in a done variable."""
        return tuple(pair for pair in self.bidirected if set(pair) & set(self.done))

    @property
    def all_edges(self) -> tuple[tuple[str, str], ...]:
        """Pairs `(parent, child)` before surgery."""
        return _edges(self.graph)


def panel_of(graph: Graph, *, done: Sequence[str] = (), seen: Sequence[str] = ()) -> Panel:
    """Return the panel of a graph, in which bidirected edges are edges and not variables."""
    own = graph.directed
    latent = [name for name in graph.latent if name in own]
    above = [name for name in latent if not own[name]] if graph.bidirected else None
    return Panel(own, latent=latent, seen=seen, done=done, above=above, bidirected=graph.bidirected)


def panel_of_class(essential: EssentialGraph) -> Panel:
    """Return the panel of an essential graph, laid out as one of its acyclic orientations."""
    place = {name: i for i, name in enumerate(topological_order(essential.directed))}
    first_to_last = (sorted(pair, key=place.__getitem__) for pair in essential.undirected)
    pairs = sorted((x, y) for x, y in first_to_last)
    own = {name: (*above, *(x for x, y in pairs if y == name)) for name, above in essential.directed.items()}
    return Panel(own, undirected=pairs)


def _edges(graph: Parents) -> tuple[tuple[str, str], ...]:
    return tuple((parent, name) for name, parents in graph.items() for parent in parents)


def describe(panel: Panel) -> str:
    """Describe a panel in words: its arrows, the roles of its variables, the flow of information."""
    sentences = [f"Causal Bayesian network of {_and(panel.graph)}."]
    children = {a: [child for parent, child in panel.edges if parent == a] for a in panel.graph}
    arrows = [f"from {symbol(a)} to {_and(found)}" for a, found in children.items() if found]
    sentences += [f"Arrows: {'; '.join(arrows)}."] if arrows else []
    if panel.undirected:
        pairs = _and(f"{symbol(a)} - {symbol(b)}" for a, b in panel.undirected)
        sentences.append(f"Edges of either direction: {pairs}.")
    if panel.arcs:
        pairs = _and(f"{symbol(a)} ↔ {symbol(b)}" for a, b in panel.arcs)
        sentences.append(f"Latent common causes: {pairs}.")
    for role in ("latent", "seen", "done"):
        if names := getattr(panel, role):
            sentences.append(f"{role.capitalize()}: {_and(names)}.")
    cut = [f"{symbol(a)} → {symbol(b)}" for a, b in panel.removed]
    cut += [f"{symbol(a)} ↔ {symbol(b)}" for a, b in panel.removed_arcs]
    sentences += [f"Surgery removed {_and(cut)}."] if cut else []
    for path in panel.paths:
        steps = zip(path.arrows, path.nodes[1:], strict=True)
        way = symbol(path.nodes[0]) + "".join(f" {'→' if to == '->' else '←'} {symbol(name)}" for to, name in steps)
        sentences.append(
            f"Information flows along {way}." if path.is_open else f"{way} is blocked at {_and(path.blocked_by)}."
        )
    return " ".join(sentences)


def _and(names: Iterable[str]) -> str:
    *most, last = map(symbol, names)
    return f"{', '.join(most)} and {last}" if most else last
