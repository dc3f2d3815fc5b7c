"""Paths between two variables of a causal graph, and the nodes that block them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

# Paths that are shown; there can be exponentially many.
MAX_PATHS = 12


@dataclass(frozen=True)
class Path:
    """A path between two variables, along arrows in either direction.

    Attributes:
        nodes: from one end of the path to the other.
        arrows: `"->"` or `"<-"` between each node and the next.
        blocked_by: the nodes that block the path: a chain or fork in the conditioning set, or a collider that
            is not in it and has no descendant in it.
    """

    nodes: tuple[str, ...]
    arrows: tuple[str, ...]
    blocked_by: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether no node blocks the path, so that it carries information."""
        return not self.blocked_by

    @property
    def state(self) -> str:
        """`"open"`, or `"blocked by"` and the nodes that block the path."""
        return "open" if self.is_open else f"blocked by {', '.join(self.blocked_by)}"

    def __str__(self) -> str:
        return self.nodes[0] + "".join(f" {edge} {node}" for edge, node in self.steps())

    def steps(self) -> list[tuple[str, str]]:
        """Return the edges of the path, each with the node that it leads to; a bidirected edge is one, `"<->"`."""
        found: list[tuple[str, str]] = []
        for arrow, node in zip(self.arrows, self.nodes[1:], strict=True):
            before = found[-2][1] if len(found) > 1 else self.nodes[0]
            edges = [("<-", f"{x} <-> {y}") for x, y in ((before, node), (node, before))]
            if found and arrow == "->" and found[-1] in edges:  # The latent cause of a bidirected edge is the edge.
                found[-1] = ("<->", node)
            else:
                found.append((arrow, node))
        return found

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_paths  # In a notebook alone: it needs matplotlib.

        return of_paths([self], is_more=False)


class Paths(Iterator[Path]):
    """The paths between two variables, an iterator; `print` and a notebook show the first ones, without taking any.

    Args:
        walk: starts to enumerate the paths.
    """

    def __init__(self, walk: Callable[[], Iterator[Path]]):
        self._walk, self._rest = walk, walk()

    def __next__(self) -> Path:
        return next(self._rest)

    def first(self) -> tuple[list[Path], bool]:
        """Return the paths that are shown, and whether there are more; take none."""
        found = list(islice(self._walk(), MAX_PATHS + 1))
        return found[:MAX_PATHS], len(found) > MAX_PATHS

    def __str__(self) -> str:
        found, is_more = self.first()
        lines = [f"{path}: {path.state}" for path in found] + [f"More than {MAX_PATHS} paths."] * is_more
        return "\n".join(lines) or "No path."

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_paths  # In a notebook alone: it needs matplotlib.

        found, is_more = self.first()
        return of_paths(found, is_more=is_more)
