"""The question of an interventional distribution, read and checked."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from undelude.causal._expressions.derivation import Record
from undelude.causal._graphs.graph import topological_order
from undelude.causal._names import AnyGraph, Names, Parents, as_graph, as_latent, as_names, check_names

# Clause of a message.
_ORDER = "the axes of `Estimand.evaluate` follow the order of asked, see and do"


@dataclass(frozen=True, eq=False)
class Question:
    """The question `P(asked | do, see)` in a graph.

    Attributes:
        graph: the parents of each variable.
        asked: the variables asked.
        do: the variables intervened on.
        see: the variables conditioned on, after the intervention.
        latent: the variables that cannot be observed.
    """

    graph: Parents
    asked: tuple[str, ...]
    do: tuple[str, ...]
    see: tuple[str, ...]
    latent: tuple[str, ...]

    @classmethod
    def read(cls, graph: AnyGraph, asked: Names, *, do: Names = (), see: Names = (), latent: Names = ()) -> "Question":
        """Return the question as callers write it.

        Args:
            graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
            asked: a name or several; not a set, as their order is that of the axes of an evaluation.
            do: likewise.
            see: likewise.
            latent: the variables that cannot be observed, besides those of a `ud.Graph`.

        Raises:
            ValueError: an unknown name, a name in two roles, a set where order matters, nothing asked.
            TypeError: not a graph.
        """
        hidden, parents = as_latent(graph, latent), as_graph(graph)
        roles = {"asked": asked, "do": do, "see": see}
        asked, do, see = (as_names(names, order=_ORDER, role=role) for role, names in roles.items())
        found = check_names(parents, {"asked": asked, "done": do, "seen": see, "latent": hidden})
        if len(set(asked)) < len(asked):
            raise ValueError(f"a name is asked twice in {asked}.")
        if not asked:
            raise ValueError("nothing is asked; name at least one variable.")
        return cls(parents, *found)

    @property
    def order(self) -> tuple[str, ...]:
        """The observed variables from causes to effects; raises `ValueError` if the graph has a cycle."""
        return tuple(name for name in topological_order(self.graph) if name not in self.latent)

    def record(self) -> Record:
        """Return the record of a derivation, without a step."""
        return Record(self.order)

    def observing(self, names: Iterable[str]) -> "Question":
        """Return the question of an observer who sees `names` too."""
        seen = set(names)
        return replace(self, latent=tuple(name for name in self.latent if name not in seen))
