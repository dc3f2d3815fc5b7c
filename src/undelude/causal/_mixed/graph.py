"""Graphs with directed and bidirected edges."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from undelude._versions import explaining
from undelude.causal._graphs import graph
from undelude.causal._mixed.questions import AbstractGraph
from undelude.causal._mixed.text import GraphText, dagitty, dot, read, tikz
from undelude.causal._names import (
    AnyGraph,
    Names,
    Parents,
    as_graph,
    as_latent,
    check_names,
    listed,
    marked_latent,
    networkx_parents,
)


class Graph(AbstractGraph):
    """A causal graph without numbers: arrows `A -> O`, bidirected edges `A <-> O`, and latent variables.

    It is a mapping from each name to its parents, which cannot be changed: every function of a graph takes it, and
    leaves its latent variables unobserved. A bidirected edge is a latent common cause of its own, with the name
    `"A <-> O"`.

    Args:
        parents: the parents of each name, a name or several; or another graph, such as a `networkx.DiGraph`.
        bidirected: pairs of names that have a latent common cause.
        latent: the names of the variables that cannot be observed.

    Raises:
        ValueError: an unknown name, a cycle, a pair that does not have two names.
        TypeError: not a graph; a dict of dicts, as networkx makes it, which holds children.

    >>> import undelude as ud
    >>> graph = ud.Graph({"A": (), "M": "A", "O": "M"}, bidirected=[("A", "O")])
    >>> graph
    Graph(A, M | A, O | M; A <-> O)
    >>> graph.front_door("A", "O"), graph.back_door("A", "O")
    ((frozenset({'M'}),), ())
    >>> print(graph.identify("O", do="A"))
    sum_M P(M | A) sum_A' P(O | A', M) P(A')
    """

    __slots__ = ("_bidirected", "_latent", "_parents")

    def __init__(
        self, parents: AnyGraph | None = None, *, bidirected: Iterable[tuple[str, str]] = (), latent: Names = ()
    ):
        given = {} if parents is None else parents
        found = as_graph(given)
        pairs = [_pair(pair, found) for pair in bidirected]
        for x, y in pairs:
            cause = f"{x} <-> {y}"
            if cause not in found:
                found |= {cause: (), x: (*found[x], cause), y: (*found[y], cause)}
        graph.topological_order(found)  # Raises on a cycle.
        causes = [f"{x} <-> {y}" for x, y in pairs]
        (hidden,) = check_names(found, {"latent": (*as_latent(given, latent), *causes)})
        marked = set(hidden)
        self._parents, self._latent = found, tuple(name for name in found if name in marked)
        self._bidirected = _latent_edges(found, self._latent)
        for cause in causes:
            if cause not in self._bidirected:
                raise ValueError(f"{cause!r} is a variable of its own in the graph: rename it, or drop the edge.")

    def __getitem__(self, name: str) -> tuple[str, ...]:
        return self._parents[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parents)

    def __len__(self) -> int:
        return len(self._parents)

    def __contains__(self, name: object) -> bool:
        return name in self._parents

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same names, arrows and latent variables, in any order."""
        if not isinstance(other, Mapping):
            return NotImplemented
        try:
            other = other if isinstance(other, Graph) else Graph(other)
        except (TypeError, ValueError):
            return False
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[frozenset, frozenset]:
        return frozenset((name, frozenset(found)) for name, found in self._parents.items()), frozenset(self._latent)

    def __repr__(self) -> str:
        own = self.directed
        parts = [", ".join(f"{name} | {' '.join(found)}" if found else name for name, found in own.items())]
        latent = [name for name in self._latent if name in own]
        parts += [listed(tuple(self._bidirected))] if self._bidirected else []
        parts += [f"latent: {listed(latent)}"] if latent else []
        return f"Graph({'; '.join(parts)})"

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_graph  # In a notebook alone: it needs matplotlib.

        return of_graph(self)

    # ----------------------------------------------------------------------------------------------------- its parts

    @property
    def latent(self) -> tuple[str, ...]:
        """The variables that cannot be observed, including those of bidirected edges."""
        return self._latent

    @property
    def observed(self) -> tuple[str, ...]:
        """The other variables."""
        hidden = set(self._latent)
        return tuple(name for name in self._parents if name not in hidden)

    @property
    def bidirected(self) -> tuple[tuple[str, str], ...]:
        """The pairs that a bidirected edge joins."""
        return tuple(self._bidirected.values())

    @property
    def directed(self) -> dict[str, tuple[str, ...]]:
        """The parents of each variable, without the latent variables of bidirected edges."""
        arcs = self._bidirected
        return {name: tuple(p for p in found if p not in arcs) for name, found in self.items() if name not in arcs}

    @property
    def arrows(self) -> tuple[tuple[str, str], ...]:
        """The pairs of a cause and its effect, without the latent variables of bidirected edges."""
        return tuple((parent, name) for name, found in self.directed.items() for parent in found)

    # -------------------------------------------------------------------------------------------------- other graphs

    def mutilated(self, do: Names) -> "Graph":
        """Return the graph after surgery, without the arrows and bidirected edges into `do`.

        Raises:
            ValueError: an unknown name.
        """
        (done,) = check_names(self, {"done": do})
        own = self.directed
        pairs = [pair for pair in self.bidirected if not set(pair) & set(done)]
        return self._part({name: () if name in done else found for name, found in own.items()}, pairs)

    def ancestral(self, names: Names) -> "Graph":
        """Return the graph of `names` and their ancestors.

        Raises:
            ValueError: an unknown name.
        """
        kept = graph.ancestors(self, names)
        pairs = [pair for pair in self.bidirected if kept.issuperset(pair)]
        return self._part({name: found for name, found in self.directed.items() if name in kept}, pairs)

    def _part(self, parents: Parents, pairs: Iterable[tuple[str, str]]) -> "Graph":
        return Graph(parents, bidirected=pairs, latent=[name for name in self._latent if name in parents])

    def projected(self, names: Names | None = None) -> "Graph":
        """Return the latent projection on `names`, in which all others are latent (Verma & Pearl 1990).

        It has the same d-separations between `names`, and identifies the same effects. A latent cause of three
        variables becomes three bidirected edges.

        Args:
            names: the observed variables that are kept; by default all of them.

        Raises:
            ValueError: an unknown or a latent name.

        >>> Graph({"U": (), "A": "U", "M": "A", "O": ("M", "U")}, latent="U").projected(("A", "O"))
        Graph(A, O | A; A <-> O)
        """
        kept, _ = check_names(self, {"kept": self.observed if names is None else names, "latent": self._latent})
        directed, bidirected = graph.latent_projection(self, [name for name in self if name not in kept])
        return Graph(directed, bidirected=sorted((min(pair), max(pair)) for pair in bidirected))

    # ------------------------------------------------------------------------------------------- from and to others

    @classmethod
    def from_dot(cls, text: str) -> "Graph":
        """Return the graph of a text in Graphviz's language, as dowhy and pgmpy take it.

        Nodes, arrows, `observed="no"` at a node, and `dir=both` at an arrow, a bidirected edge, are read; what concerns
        the drawing is skipped. `A <- O` and `A <-> O`, which are dagitty's, are read too.

        Args:
            text: `digraph { ... }`.

        Raises:
            ValueError: an undirected edge, a subgraph, a port or another kind of graph, with its place; a cycle.

        >>> Graph.from_dot('digraph { U [observed="no"]; U -> {A O}; A -> O [label="effect"] }')
        Graph(U, A | U, O | U A; latent: U)
        """
        return cls._of(read(text, "digraph"))

    def to_dot(self) -> str:
        """Return the graph in Graphviz's language, in which latent variables have `observed="no"`, as in dowhy.

        The latent variable of a bidirected edge is a node: in DOT, `dir=both` is a matter of drawing, which others read
        as an arrow.
        """
        return dot(self, self.latent)

    @classmethod
    def from_dagitty(cls, text: str) -> "Graph":
        """Return the graph of a text of dagitty.

        Nodes, `latent` (or `unobserved`) at a node, and the edges `->`, `<-` and `<->` are read. Roles (`exposure`,
        `outcome`) and places are skipped; a warning names nodes that are `adjusted` or `selected`.

        Args:
            text: `dag { ... }`.

        Raises:
            ValueError: an undirected edge or another kind of graph, with its place; a cycle.

        >>> Graph.from_dagitty("dag { A -> M -> O; A <-> O }")
        Graph(A, M | A, O | M; A <-> O)
        """
        return cls._of(read(text, "dag"))

    def to_dagitty(self) -> str:
        """Return the graph in the language of dagitty."""
        return dagitty(self._text())

    @classmethod
    def from_networkx(cls, network: Any) -> "Graph":
        """Return the graph of a `networkx.DiGraph`, or of a class of pgmpy that derives from it.

        Args:
            network: whose latent variables are in `network.latents`, or have the mark `observed="no"`.

        Raises:
            ValueError: a cycle, another mark.
            TypeError: edges without direction, several edges between two nodes, nodes that are not strings.
        """
        return cls(networkx_parents(network), latent=marked_latent(network))

    def to_networkx(self) -> Any:
        """Return a `networkx.DiGraph`, in which latent variables have the mark `observed="no"`.

        Raises:
            ModuleNotFoundError: networkx is not installed.
        """
        with explaining("networkx", "causal"):
            import networkx

        network = networkx.DiGraph()
        for name in self:
            network.add_node(name, **({"observed": "no"} if name in self._latent else {}))
        network.add_edges_from((parent, name) for name, parents in self.items() for parent in parents)
        return network

    @classmethod
    def from_gml(cls, text: str) -> "Graph":
        """Return the graph of a text in GML, as dowhy takes it; networkx reads it, and `from_networkx` its nodes.

        Args:
            text: `graph [ directed 1 ... ]`, whose nodes have labels.

        Raises:
            ValueError: not GML; otherwise as for `from_networkx`.
            ModuleNotFoundError: networkx is not installed.
        """
        with explaining("networkx", "causal"):
            import networkx

        try:
            return cls.from_networkx(networkx.parse_gml(text))
        except networkx.NetworkXError as error:
            raise ValueError(f"not GML as networkx reads it: {error}.") from error

    def to_gml(self) -> str:
        """Return the graph in GML, in which latent variables have `observed "no"`.

        Raises:
            ModuleNotFoundError: networkx is not installed.
        """
        network = self.to_networkx()
        import networkx

        return "\n".join(networkx.generate_gml(network))

    def to_tikz(self, *, do: Names = ()) -> str:
        """Return a `tikzpicture` for LaTeX: latent variables and bidirected edges are dashed, done variables boxed.

        Args:
            do: the variables intervened on, whose arrows are left out.

        Raises:
            ValueError: an unknown name.
        """
        (done,) = check_names(self, {"done": do})
        return tikz(self._text(), done)

    @classmethod
    def _of(cls, text: GraphText) -> "Graph":
        return cls(text.parents, bidirected=text.bidirected, latent=text.latent)

    def _text(self) -> GraphText:
        own = self.directed
        return GraphText(own, self.bidirected, tuple(name for name in self._latent if name in own))


def _pair(pair: tuple[str, str], parents: Parents) -> tuple[str, str]:
    """Return the two names of a bidirected edge, sorted."""
    (names,) = check_names(parents, {"joined": pair})
    if len(names) != 2 or isinstance(pair, str):
        raise ValueError(f"a bidirected edge is a pair of two names, such as ('A', 'O'), not {pair!r:.99}.")
    x, y = sorted(names)
    return x, y


def _latent_edges(parents: Parents, latent: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the pairs joined by a bidirected edge, by the name of their latent cause."""
    children = graph.children_of(parents)
    edges = {}
    for name in latent:
        pair = tuple(sorted(children[name]))
        if len(pair) == 2 and name == " <-> ".join(pair) and not parents[name]:
            edges[name] = pair
    return edges
