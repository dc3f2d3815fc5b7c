"""Counterfactuals: what would have been, in the case that was observed (Pearl 2009, chapter 7; not in the paper).

Worlds that differ in their interventions share all that the interventions do not reach. What they reach has a copy in
each world: for two worlds this is the twin network (Balke & Pearl 1994). Conditioning on what was seen in one world is
the abduction, the surgery in the other one the action, and the query there the prediction.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from undelude._tree import is_concrete
from undelude.causal._graphs.graph import ancestors, descendants, mutilate
from undelude.causal._variables.variable import Variable


class Worlds(NamedTuple):
    """The variables of several worlds, of which the first is the actual one.

    Attributes:
        variables: the shared ones and those of the actual world under their names, then a copy of each variable that
            an intervention reaches, for each other world.
        names: for each world, the name there of each variable.
    """

    variables: tuple[Variable, ...]
    names: tuple[Mapping[str, str], ...]


def worlds(variables: Sequence[Variable], done: Sequence[Collection[str]]) -> Worlds:
    """Return the variables of several worlds that share their exogenous causes.

    Args:
        variables: of the model, in any order.
        done: for each world, the first of which is the actual one, the names of the variables intervened on.
    """
    graph = {v.name: v.parents for v in variables}
    reached = descendants(graph, [name for names in done for name in names])
    copies: list[Variable] = []
    names: list[dict[str, str]] = [{name: name for name in graph}]
    star = "*"
    while any(name.endswith(star) for name in graph):
        star += "'"
    for world in range(1, len(done)):
        there = {name: name + star * world if name in reached else name for name in graph}
        names.append(there)
        for v in variables:
            if v.name in reached:
                copies.append(Variable(there[v.name], v.values, [there[x] for x in v.parents], table=v.table))
    return Worlds((*variables, *copies), tuple(names))


def check_determined(found: Worlds, done: Sequence[Collection[str]], asked: Collection[str]) -> None:
    """Raise `ValueError` if the answer depends on how a random mechanism's noise is shared between worlds.

    A table of probabilities does not say that. It does not matter if the mechanism is certain, if an intervention
    replaces it, or if the answer depends on its variable in one world alone.

    Args:
        found: the worlds.
        done: for each world, the names of the variables intervened on there.
        asked: all names, of any world, that are asked or seen.
    """
    graph = {v.name: v.parents for v in found.variables}
    fixed = {there[name] for there, names in zip(found.names, done, strict=True) for name in names}
    relevant = ancestors(mutilate(graph, fixed), asked)
    for v in found.variables:
        if v.name not in found.names[0]:
            continue
        copies = {there[v.name] for there in found.names}
        if len([x for x in copies if x in relevant and x not in fixed]) < 2:
            continue
        if not is_concrete(v.table):
            raise TypeError(f"the table of {v.name} is traced: a counterfactual needs to know that it is certain.")
        if ((np.asarray(v.table) > 0).sum(-1) > 1).any():
            raise ValueError(
                f"the mechanism of {v.name} is random, and its table does not say which of its outcomes goes with "
                f"which in the other world. Write {v.name} as a ud.Equation, a function of its parents and a noise."
            )


class Causation(NamedTuple):
    """How an effect depends on a cause (Pearl 2009, Definitions 9.2.1 to 9.2.3), probabilities.

    Attributes:
        necessity: PN = P(the outcome fails under do(instead) | cause, outcome), where both were seen. nan if they
            are impossible together.
        sufficiency: PS = P(outcome under do(cause) | instead, no outcome). nan if that cannot be seen.
        both: PNS = P(outcome under do(cause), and it fails under do(instead)).
    """

    necessity: Float[Array, ""]
    sufficiency: Float[Array, ""]
    both: Float[Array, ""]

    def __repr__(self) -> str:
        return f"Causation({', '.join(f'{name}={x}' for name, x in self.shown().items())})"

    def shown(self) -> dict[str, str]:
        """Return the numbers by name, as they are printed."""
        texts = (f"{x:.4g}" if is_concrete(x) and np.ndim(x) == 0 else str(x) for x in self)
        return dict(zip(self._fields, texts, strict=True))

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_causation  # In a notebook alone: it needs matplotlib.

        return of_causation(self)
