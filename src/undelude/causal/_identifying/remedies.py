"""Remedies for an effect that is not identifiable: the smallest further sets to observe, or to set in an experiment."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from undelude.causal._graphs.adjustment import without_private_causes
from undelude.causal._graphs.graph import ancestors, topological_order
from undelude.causal._identifying.estimand import Estimand
from undelude.causal._identifying.experiments import OBSERVATION
from undelude.causal._identifying.identification import attempt
from undelude.causal._identifying.question import Question
from undelude.causal._names import AnyGraph, Names

# Remark on a search that ended early.
LIMITED = "Not all sets were tried: a larger limit may find more."


@dataclass(frozen=True, repr=False)
class Remedies:
    """Further sets of variables that would make an effect identifiable.

    Attributes:
        observe: the inclusion-minimal sets of hidden variables that would suffice if they were observed, the smallest
            first, and the estimand for each.
        experiment: the inclusion-minimal sets of observed variables such that observation and one experiment, which
            sets all of them, would suffice; the smallest first, and the estimand for each.
        is_complete: whether all sets were tried; if not, larger minimal sets may exist.
    """

    observe: dict[tuple[str, ...], Estimand]
    experiment: dict[tuple[str, ...], Estimand]
    is_complete: bool

    def __str__(self) -> str:
        lines = [f"{what} {names}: {estimand}" for what, names, estimand in self.table()]
        return "\n".join([*lines, *[LIMITED] * (not self.is_complete)]) or "Nothing helps."

    def table(self) -> list[tuple[str, str, str]]:
        """Return a row for each set: what to do, with which variables, and the estimand."""
        sets = (("observe", self.observe), ("set", self.experiment))
        return [
            (what, ", ".join(names) or "nothing more", str(estimand))
            for what, found in sets
            for names, estimand in found.items()
        ]

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_remedies  # In a notebook alone: it needs matplotlib.

        return of_remedies(self)


def remedies(
    graph: AnyGraph, asked: Names, *, do: Names = (), see: Names = (), latent: Names = (), limit: int = 1000
) -> Remedies:
    """Return the smallest further sets to observe, or to set in an experiment, that would identify an effect.

    Sets are tried by size, and those that contain a set that suffices are left out.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        asked: the variables asked, as in `identify`.
        do: the variables intervened on, likewise.
        see: the variables conditioned on, likewise.
        latent: the variables that cannot be observed so far, besides those of a `ud.Graph`.
        limit: the most sets to try, of those to observe, and again of those to set. The smallest are tried first: the
            sets that a limit cuts off are at least as large, and those that are returned are minimal all the same.
            `Remedies.is_complete` is then False, and the printed result says so.

    Raises:
        ValueError: as for `identify`; a limit below 1.

    >>> print(remedies({"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}, "O", do="A", latent="Theta"))
    observe Theta: sum_Theta P(O | A, Theta) P(Theta)
    set A: P(O | do(A))
    """
    question = Question.read(graph, asked, do=do, see=see, latent=latent)
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}.")
    causes = ancestors(question.graph, (*question.asked, *question.see))
    relevant = [name for name in topological_order(question.graph) if name in causes]
    _, shared = without_private_causes(question.graph, question.latent)

    def if_observed(names: tuple[str, ...]) -> Estimand | None:
        return attempt(question.observing(names))

    def if_set(names: tuple[str, ...]) -> Estimand | None:
        return attempt(question, tuple(dict.fromkeys((OBSERVATION, frozenset(names)))))

    observe, all_observed = _minimal([name for name in relevant if name in shared], if_observed, limit)
    experiment, all_set = _minimal([name for name in relevant if name not in question.latent], if_set, limit)
    return Remedies(observe, experiment, all_observed and all_set)


def _minimal(
    names: Sequence[str], attempt: Callable[[tuple[str, ...]], Estimand | None], limit: int
) -> tuple[dict[tuple[str, ...], Estimand], bool]:
    """Return the minimal sets of `names` for which an attempt succeeds, and whether all sets were tried."""
    found: dict[tuple[str, ...], Estimand] = {}
    tried = 0
    for chosen in _subsets(names):
        if any(set(smaller) <= set(chosen) for smaller in found):
            continue
        if tried == limit:
            return found, False
        tried += 1
        if (estimand := attempt(chosen)) is not None:
            found[chosen] = estimand
    return found, True


def _subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the sets of `names`, the smallest first."""
    return chain.from_iterable(combinations(names, size) for size in range(len(names) + 1))
