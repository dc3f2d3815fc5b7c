"""Bounds on an effect that the observed distribution does not determine (Balke & Pearl 1997; not in the paper).

A variable of finitely many values is one of finitely many functions of its observed parents, whatever its hidden causes
are: its response. So all that hidden causes can do is a joint distribution of the responses of the variables that share
them. The observed distribution is a set of linear equations in it, and an effect a linear function of it: its least and
its greatest value are linear programs.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike

from undelude.causal._expressions.tables import read_tables
from undelude.causal._identifying.identification import NotIdentifiable, identify
from undelude.causal._identifying.responses import state_problem
from undelude.causal._names import AnyGraph, Names, as_graph, as_latent, as_names, check_names, listed
from undelude.causal._summing.contraction import in_jax
from undelude.causal._variables.answer import Answer, in_columns
from undelude.causal._variables.contrast import numbers_of, one_entry, other_value
from undelude.causal._variables.soft import Values, as_assignment
from undelude.causal._variables.variable import Value, index

# The line below bounds that a tighter one may replace.
NOT_SHARP = "not sharp: tighter bounds may hold"


class Bounds(NamedTuple):
    """The least and the greatest value of each probability, or of an effect.

    It prints as a table, and unpacks to its three attributes.

    Attributes:
        low: `[*asked]`, with names and values; the probabilities of several values cannot all be this low at once.
            One number, without names, if these are bounds of an effect.
        high: likewise.
        is_sharp: whether each bound is reached by a model with this graph and this distribution. If not, a tighter one
            may hold: variables share hidden causes in pairs, and the bounds allow one cause of all of them.
    """

    low: Answer
    high: Answer
    is_sharp: bool

    def __str__(self) -> str:
        text = in_columns(*self.table(), has_titles=bool(self.low.names))
        return text if self.is_sharp else f"{text}\n{NOT_SHARP}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_bounds  # In a notebook alone: it needs matplotlib.

        return of_bounds(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the head and the rows of the printed table, which has a row for each value.

        Of a large table it has the first rows, and says how many are missing.
        """
        both = np.stack([np.asarray(self.low), np.asarray(self.high)], -1)
        names, values = (*self.low.names, "bound"), (*self.low.values, ("low", "high"))
        _, rows = Answer(in_jax(both), names, values).table()
        return [""] * bool(self.low.names) + ["low", "high"], rows


class Observed(NamedTuple):
    """The distribution of the observed variables of a graph.

    Attributes:
        graph: the parents of each variable.
        latent: the variables without an axis.
        P: probabilities with an axis for each other variable.
        values: the values of each axis, by name.
    """

    graph: dict[str, tuple[str, ...]]
    latent: tuple[str, ...]
    P: np.ndarray
    values: dict[str, tuple[Hashable, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """The variables of the axes."""
        return tuple(self.values)

    def size(self, names: Names) -> int:
        """Return the number of values that variables have together."""
        return math.prod(len(self.values[name]) for name in names)

    def place(self, name: str, value: object) -> int:
        """Return the position of a value on the axis of a variable; raise `ValueError` if it has no such value."""
        return index(name, self.values[name], value)


def bounds(
    graph: AnyGraph,
    asked: Names,
    *,
    do: Values,
    joint: ArrayLike | Answer | Sequence,
    names: Names | None = None,
    latent: Names = (),
) -> Bounds:
    """Return bounds on `P(asked | do)` from the graph and the distribution of the observed variables.

    If `identify` finds an estimand, and it is defined, both bounds are its value. They are those of Manski (1990) if
    nothing but `do` and `asked` is observed, and those of Balke and Pearl (1997) with an instrument.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        asked: a name or several, in order.
        do: values set by intervention, by name.
        joint: probabilities or counts, with an axis for each name. An answer, of a query or of
            `ud.causal.frequencies`, knows its names and their values; the values of an axis of another array are
            0, 1, ..., n - 1.
        names: the observed variables, in the order of the axes; an answer needs none.
        latent: the variables that cannot be observed, besides those of a `ud.Graph`.

    Raises:
        ValueError: an unknown name or value, a variable in two roles, an axis too many or too few; names other than
            those of an answer; more than one group of variables with hidden causes in common leaves the effect open;
            too many responses; a distribution that no model with this graph has.

    >>> instrument = {"Z": (), "U": (), "A": ("Z", "U"), "O": ("A", "U")}
    >>> joint = [[[.32, .08], [.02, .08]], [[.09, .01], [.08, .32]]]  # of Z, A and O
    >>> found = bounds(instrument, "O", do={"A": 1}, joint=joint, names=("Z", "A", "O"), latent="U")
    >>> print(found)
          low  high
    O=0  0.16  0.36
    O=1  0.64  0.84
    """
    asked = as_names(asked, order="the axes of a table follow the order of the names")
    do = as_assignment("do", do)
    if len(set(asked)) < len(asked):
        raise ValueError(f"a name is asked twice in {asked}.")
    observed = _observed(graph, {"asked": asked, "done": tuple(do)}, joint, names, latent)
    places = {name: observed.place(name, x) for name, x in do.items()}
    low, high, is_sharp = _extremes(observed, asked, [(1, places)], np.eye(observed.size(asked)))
    shape = [len(observed.values[name]) for name in asked]
    labels = asked, tuple(observed.values[name] for name in asked)
    return Bounds(*(Answer(in_jax(x.clip(0, 1).reshape(shape)), *labels) for x in (low, high)), is_sharp=is_sharp)


def ate_bounds(
    graph: AnyGraph,
    cause: Values,
    outcome: str,
    *,
    joint: ArrayLike | Answer | Sequence,
    names: Names | None = None,
    latent: Names = (),
    instead: Value | None = None,
    do: Values | None = None,
    function: Callable[[Any], Any] | None = None,
) -> Bounds:
    """Return bounds on `E[O | do(A = a)] - E[O | do(A = instead)]` from the graph and the distribution of the observed.

    One world must have both expectations, so that these bounds can be tighter than differences of those of `bounds`.
    With a binary instrument, cause and outcome they are those of Balke and Pearl (1997).

    Args:
        graph: as in `bounds`.
        cause: the name and value of the cause, such as `{"A": 1}`.
        outcome: the name of the outcome.
        joint: as in `bounds`.
        names: likewise.
        latent: likewise.
        instead: the value of the cause in its absence; by default the other one, if there are two.
        do: values that are set in both cases, by name.
        function: of a value of the outcome; by default the value itself.

    Returns:
        Two numbers in the units of the outcome, or of `function`: answers without names, which `float` takes.

    Raises:
        ValueError: as for `bounds`; a cause of several values without `instead`, values that are not numbers.

    >>> trial = {"Z": (), "U": (), "A": ("Z", "U"), "O": ("A", "U")}
    >>> joint = [[[.919, .081], [0, 0]], [[.315, .073], [.139, .473]]]  # of Z, A and O (Balke & Pearl 1997)
    >>> print(ate_bounds(trial, {"A": 1}, "O", joint=joint, names=("Z", "A", "O"), latent="U"))
      low  high
    0.392  0.78
    """
    (name, x), do = one_entry("cause", cause), as_assignment("do", do)
    roles = {"the cause": (name,), "the outcome": (outcome,), "done": tuple(do)}
    observed = _observed(graph, roles, joint, names, latent)
    other = other_value(name, observed.values[name], x) if instead is None else instead
    done = {key: observed.place(key, value) for key, value in do.items()}
    cases = [(sign, {**done, name: observed.place(name, value)}) for sign, value in ((1, x), (-1, other))]
    numbers = numbers_of((outcome,), [observed.values[outcome]], function)
    low, high, is_sharp = _extremes(observed, (outcome,), cases, numbers[None])
    return Bounds(*(Answer(in_jax(y[0]), (), ()) for y in (low, high)), is_sharp=is_sharp)


def _extremes(
    observed: Observed, asked: tuple[str, ...], cases: Sequence[tuple[int, dict[str, int]]], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the least and the greatest value of sums of interventional probabilities, and whether they are sharp.

        sum_case sign(case) sum_x weights[., x] P(asked = x | do(case))

    Args:
        observed: the graph and the observed distribution.
        asked: the variables of the probabilities.
        cases: the sign and the places of the values done, of the same variables.
        weights: `[N, values of asked]`.
    """
    do = tuple(cases[0][1])
    if (P := _identified(observed, asked, do)) is not None:
        value = weights @ sum(sign * P[(..., *places.values())].ravel() for sign, places in cases)
        if not np.isnan(value).any():
            return value, value, True
    problem, is_sharp = state_problem(observed.graph, observed.latent, observed.P, observed.names, asked, do)
    effect = sum(sign * problem.effect(places).reshape(weights.shape[-1], -1) for sign, places in cases)
    return *problem.extremes(weights @ effect), is_sharp


def _observed(
    graph: AnyGraph,
    roles: Mapping[str, Names],
    joint: ArrayLike | Answer | Sequence,
    names: Names | None,
    latent: Names,
) -> Observed:
    """Return the graph and the observed distribution, after checking them and the names in each role."""
    latent, graph = as_latent(graph, latent), as_graph(graph)
    check_names(graph, {"latent": latent, **roles})
    if isinstance(joint, Mapping):
        raise ValueError("joint must be one table, of what was observed: bounds do not combine experiments.")
    table = read_tables(joint, names, {})[frozenset()]
    check_names(graph, {"observed": table.names, "latent": latent})
    if left := [name for name in graph if name not in table.names and name not in latent]:
        raise ValueError(f"{listed(left)} is neither observed nor latent: name it by latent=, or give it an axis.")
    values = table.labels or tuple(tuple(range(n)) for n in table.values.shape)
    return Observed(graph, latent, table.values, dict(zip(table.names, values, strict=True)))


def _identified(observed: Observed, asked: tuple[str, ...], do: tuple[str, ...]) -> np.ndarray | None:
    """Return `P(asked | do)`, `[*asked, *do]`, nan where it is not defined; None if it is not identifiable."""
    try:
        estimand = identify(observed.graph, asked, do=do, latent=observed.latent)
    except NotIdentifiable:
        return None
    return np.asarray(estimand.evaluate(observed.P, observed.names))
