"""Instruments: variables that move a cause, and its effect through it alone."""

from typing import NamedTuple

from undelude.causal._graphs.adjustment import checked, on_causal_paths, without_causal_arrows
from undelude.causal._graphs.graph import children_of, d_separated, reach
from undelude.causal._graphs.moral import minimal_separators
from undelude.causal._names import AnyGraph, Names


class Instrument(NamedTuple):
    """An instrument, and the variables to condition on.

    Attributes:
        name: the instrument.
        see: the conditioning set; empty for an instrument as it stands.
    """

    name: str
    see: frozenset[str]


def instruments(graph: AnyGraph, cause: str, outcome: str, *, latent: Names = ()) -> tuple[Instrument, ...]:
    """Return the instruments for the total effect of `cause` on `outcome`, each with a set to condition on.

    Remove the arrows from the cause on its directed paths to the outcome. Then Z is an instrument given W if W
    separates Z from the outcome there and not from the cause, and neither Z nor a member of W is on a directed path
    from the cause to the outcome or descends from it (Brito & Pearl 2002). In a linear model

        effect of the cause a on the outcome o = cov(z, o | w) / cov(z, a | w).

    In others an instrument that is an ancestor of the cause bounds the effect: see `ud.causal.bounds`.

    For each Z the set nearest to the outcome is tried, and no other (van der Zander, Textor & Liskiewicz 2015). It
    finds every Z that has a set W of ancestors of Z and the outcome. A further Z may have a set with other variables,
    which takes time exponential in the graph to find; such a Z is missing here, but if there is any instrument, some
    are found.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        cause: the variable intervened on.
        outcome: the outcome.
        latent: the variables that cannot be observed, besides those of a `ud.Graph`.

    Returns:
        In the order of the graph, with an inclusion-minimal W for each Z; `()` if `cause` does not cause `outcome`.

    Raises:
        ValueError: an unknown name, a name in two roles, several names on a side, a cycle.

    >>> graph = {"U": (), "W": (), "Z": ("W",), "A": ("Z", "U"), "O": ("A", "U", "W")}
    >>> instruments(graph, "A", "O", latent="U")
    (Instrument(name='Z', see=frozenset({'W'})),)
    """
    parents, starts, ends, hidden = checked(graph, cause, outcome, latent)
    if len(starts) != 1 or len(ends) != 1:
        raise ValueError(f"instruments takes one cause and one outcome, not {starts} and {ends}.")
    causal = on_causal_paths(parents, starts, ends)
    if not causal:
        return ()
    cut = without_causal_arrows(parents, starts, causal)
    forbidden = {*reach(children_of(parents), causal), *starts, *hidden}
    found = []
    for z in parents:
        if z not in forbidden:
            given = next(minimal_separators(cut, ends, (z,), forbidden=forbidden - {*ends}), None)
            if given is not None and not d_separated(cut, z, starts, see=given):
                found.append(Instrument(z, given))
    return tuple(found)
