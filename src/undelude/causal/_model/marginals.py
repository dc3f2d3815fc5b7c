"""The marginals of all variables at once."""

from collections.abc import Mapping

import numpy as np

from undelude.causal._model.structure import Structure
from undelude.causal._summing.contraction import AllTables, Terms
from undelude.causal._summing.derivative import TooMuchMemoryError, with_jacobian


def marginals(
    structure: Structure, tables: AllTables, see: Mapping[str, int], do: Mapping[str, int]
) -> dict[str, np.ndarray] | None:
    """Compute `P(v | see, do)` of each variable that is neither seen nor done, by one contraction and its derivatives.

        P(v, parents, see | do)  =  table * d P(see | do) / d table    (Darwiche 2003)

    Args:
        structure: the model's.
        tables: the model's, known and not traced.
        see: the index of each value observed.
        do: the index of each value set by intervention.

    Returns:
        The distributions by name; None if precision or memory does not suffice, or if the evidence is impossible.
    """
    terms = Terms(structure.graph, structure.sizes, (), tuple(see), tuple(do), keep_all=True)
    try:
        with np.errstate(over="ignore"):
            known = with_jacobian(terms, tables, {**see, **do})
    except TooMuchMemoryError:
        return None
    if known is None or not (known[0] > 0 and np.isfinite(known[2]).all()):
        return None
    _, _, jacobian = known
    found, start = {}, 0
    for i in terms.used:
        table = np.asarray(tables[i], float)
        stop = start + table.size
        joint = table * jacobian[0, start:stop].reshape(table.shape)
        start = stop
        x = joint.sum(tuple(range(table.ndim - 1)))
        found[structure.parents[i][0]] = x / x.sum()
    return found
