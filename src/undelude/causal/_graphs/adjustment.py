"""Sets of variables to adjust for, so that observations determine an effect (Section 3)."""

from collections.abc import Collection, Iterable
from itertools import islice

from undelude.causal._graphs.graph import ancestors, children_of, reach, topological_order, without_arrows_from
from undelude.causal._graphs.moral import boundary, minimal_separators
from undelude.causal._names import AnyGraph, Names, Parents, as_graph, as_latent, check_limit, check_names


def back_door(
    graph: AnyGraph, cause: str, outcome: str, *, latent: Names = (), limit: int | None = None
) -> tuple[frozenset[str], ...]:
    """Return all inclusion-minimal back-door sets of `cause` and `outcome` (Pearl 2009, Definition 3.3.1).

    A back-door set Z contains no descendant of the cause and blocks every path between the two with an arrow into the
    cause. Then

        P(o | do(a)) = sum_z P(o | a, z) P(z).

    Remove the arrows out of the cause and moralise the subgraph of the ancestors of both. The back-door sets are the
    minimal vertex separators of the two in it, enumerated from the cause outwards (Shen & Liang 1997). The delay
    between two sets is polynomial.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        cause: the variable intervened on.
        outcome: the outcome.
        latent: the variables that cannot be observed, and so not be adjusted for, besides those of a `ud.Graph`.
        limit: the largest number of sets, nearest to `cause` first; there can be exponentially many.

    Returns:
        The smallest sets first, then in the order of the graph; `()` if there is none, `(frozenset(),)` if the empty
        set is one.

    Raises:
        ValueError: an unknown name, a name in two roles, a cycle, a limit below 1.

    >>> back_door({"Z": (), "A": ("Z",), "O": ("Z", "A")}, "A", "O")
    (frozenset({'Z'}),)
    >>> back_door({"Z": (), "A": ("Z",), "O": ("Z", "A")}, "A", "O", latent="Z")
    ()
    """
    latent, graph = as_latent(graph, latent), as_graph(graph)
    starts, ends, hidden = check_names(graph, {"the cause": cause, "the outcome": outcome, "latent": latent})
    if len(starts) != 1 or len(ends) != 1:
        raise ValueError(
            f"back_door takes one cause and one outcome, not {starts} and {ends}: adjustment_sets takes several."
        )
    topological_order(graph)  # Raises on a cycle.
    cut = without_arrows_from(graph, starts)
    forbidden = {*reach(children_of(graph), starts), *hidden}
    return _minimal(graph, cut, starts, ends, forbidden, limit)


def adjustment_sets(
    graph: AnyGraph, cause: Names, outcome: Names, *, latent: Names = (), limit: int | None = None
) -> tuple[frozenset[str], ...]:
    """Return all inclusion-minimal adjustment sets, by the complete criterion (Shpitser, VanderWeele & Robins 2010).

    Z serves if, and only if, it contains no descendant of a variable on a causal path, and blocks every other path:

        P(o | do(a)) = sum_z P(o | a, z) P(z)    for each model with this graph.

    The causal paths are those from `cause` to `outcome` along the arrows that leave `cause` for good. Back-door sets
    are among these sets; further ones contain descendants of `cause`, and some serve where no back-door set does. They
    are enumerated from `cause` outwards with a polynomial delay (van der Zander, Liskiewicz & Textor 2019).

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        cause: the variables intervened on.
        outcome: the outcomes.
        latent: the variables that cannot be observed, besides those of a `ud.Graph`.
        limit: the largest number of sets, nearest to `cause` first; there can be exponentially many.

    Returns:
        As for `back_door`.

    Raises:
        ValueError: no cause or no outcome, an unknown name, a name in two roles, a cycle, a limit below 1.

    >>> graph = {"Z": (), "A": ("Z",), "D": ("A",), "C": ("A", "Z"), "O": ("C", "D")}
    >>> adjustment_sets(graph, ("A", "C"), "O"), adjustment_sets(graph, "A", "O")
    ((frozenset(),), (frozenset({'Z'}),))
    """
    graph, starts, ends, hidden = checked(graph, cause, outcome, latent)
    causal = on_causal_paths(graph, starts, ends)
    forbidden = {*reach(children_of(graph), causal), *hidden}
    return _minimal(graph, without_causal_arrows(graph, starts, causal), starts, ends, forbidden, limit)


def efficient_adjustment(graph: AnyGraph, cause: Names, outcome: Names, *, latent: Names = ()) -> frozenset[str] | None:
    """Return the adjustment set of the least asymptotic variance, for every model with this graph.

    If all variables are observed, it is the parents of the variables on causal paths, without these and their
    descendants: the set O of Henckel, Perkovic & Maathuis (2022) for linear models and of Rotnitzky & Smucler (2020)
    for others. It still is if those parents alone are observed. Otherwise, if all observed variables are ancestors of
    the one cause and the one outcome, it is the set of those nearest to the outcome (Smucler, Sapienza & Rotnitzky
    2022).

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        cause: the variables intervened on.
        outcome: the outcomes.
        latent: the variables that cannot be observed, besides those of a `ud.Graph`.

    Returns:
        The set; None if there is no adjustment set, if an outcome is not an effect of `cause`, or if these two
        conditions do not show that one set is the best. The best set may then depend on the numbers: choose from
        `adjustment_sets`.

    Raises:
        ValueError: as for `adjustment_sets`.

    >>> graph = {"Z": (), "A": ("Z",), "C": (), "O": ("A", "Z", "C")}
    >>> sorted(efficient_adjustment(graph, "A", "O"))  # C explains some of the variance of O
    ['C', 'Z']
    """
    graph, starts, ends, hidden = checked(graph, cause, outcome, latent)
    graph, hidden = without_private_causes(graph, hidden)
    causal = on_causal_paths(graph, starts, ends)
    if not causal.issuperset(ends) or not adjustment_sets(graph, starts, ends, latent=hidden, limit=1):
        return None
    forbidden = reach(children_of(graph), causal) | set(starts)
    best = frozenset(parent for name in causal for parent in graph[name]) - forbidden
    if not best & set(hidden):
        return best
    observed = set(graph) - set(hidden)
    if len(starts) == len(ends) == 1 and observed <= ancestors(graph, (*starts, *ends)):
        cut = without_causal_arrows(graph, starts, causal)
        return boundary(cut, ends[0], (*starts, *ends), eliminated=(forbidden - set(starts)) | set(hidden))
    return None


# --------------------------------------------------------------------------------------------------------- parts


def without_private_causes(graph: Parents, hidden: Collection[str]) -> tuple[Parents, tuple[str, ...]]:
    """Return the graph and its latent variables without those that are part of the mechanism of one variable.

    They have no parents and one child. To observe them identifies no further effect: a hedge stays one.
    """
    children = children_of(graph)
    noise = {name for name in hidden if not graph[name] and len(children[name]) < 2}
    kept = {name: tuple(p for p in parents if p not in noise) for name, parents in graph.items() if name not in noise}
    return kept, tuple(name for name in hidden if name not in noise)


def checked(
    graph: AnyGraph, cause: Names, outcome: Names, latent: Names
) -> tuple[Parents, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the parents of each variable, and the names in the roles of cause, outcome and latent variable.

    Raises:
        ValueError: no cause or no outcome, an unknown name, a name in two roles, a cycle.
    """
    latent, graph = as_latent(graph, latent), as_graph(graph)
    starts, ends, hidden = check_names(graph, {"the cause": cause, "the outcome": outcome, "latent": latent})
    for role, names in (("cause", starts), ("outcome", ends)):
        if not names:
            raise ValueError(f"no {role} is named; name at least one variable.")
    topological_order(graph)  # Raises on a cycle.
    return graph, starts, ends, hidden


def on_causal_paths(graph: Parents, a: Collection[str], o: Collection[str]) -> frozenset[str]:
    """Return the variables, outside `a`, of the directed paths from `a` to `o` that meet `a` at the start alone."""
    return (reach(children_of(graph), a) & reach(without_arrows_from(graph, a), o)) - set(a)


def without_causal_arrows(graph: Parents, a: Collection[str], causal: Collection[str]) -> Parents:
    """Return the graph without the arrows from `a` to variables on causal paths (the proper back-door graph)."""
    return {
        name: tuple(parent for parent in parents if parent not in a) if name in causal else parents
        for name, parents in graph.items()
    }


def _minimal(
    graph: Parents,
    cut: Parents,
    a: Collection[str],
    o: Collection[str],
    forbidden: Iterable[str],
    limit: int | None,
) -> tuple[frozenset[str], ...]:
    """Return the minimal separators of `a` and `o` in the `cut` graph, the smallest first."""
    check_limit(limit)
    found = islice(minimal_separators(cut, a, o, forbidden=set(forbidden)), limit)
    return in_order(graph, found)


def in_order(graph: Parents, sets: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Return the sets, the smallest first, then in the order of the graph."""
    place = {name: i for i, name in enumerate(graph)}
    return tuple(sorted(sets, key=lambda z: (len(z), sorted(map(place.__getitem__, z)))))
