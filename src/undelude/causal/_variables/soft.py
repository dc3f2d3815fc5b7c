"""Interventions and evidence that are not a single value: a distribution, a policy, a likelihood."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from undelude.causal._names import as_names, listed
from undelude.causal._variables.variable import Value, Variable, index

# The value of a variable that is seen, or the likelihood of each of its values.
Seen = Value | Mapping[Hashable, float]
# The value of a variable that is done, the probability of each of its values, or another mechanism.
Done = Value | Mapping[Hashable, float] | Variable
Values = Mapping[str, Value]
SoftValues = Mapping[str, Seen]
Interventions = Mapping[str, Done]


def as_assignment(role: str, values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return values by name as a dict; raise `ValueError` if they are not given so."""
    if not isinstance(values, Mapping | None):
        raise ValueError(f"{role} must be a dict of values by name, such as {role}={{'A': 1}}, not {values!r:.99}.")
    return dict(zip(as_names(tuple(values or ())), (values or {}).values(), strict=True))


def other_mechanism(variable: Variable, done: Any) -> Variable | None:
    """Return the mechanism that an intervention gives a variable; None if it holds the variable at one value.

    Args:
        variable: as it was.
        done: a value; a probability for each value; a `ud.Variable` of the same name and values, with its own parents.

    Raises:
        ValueError: the mechanism is of another variable, or its values are others; a probability is missing.
    """
    name, values = variable.name, variable.values
    if isinstance(done, Mapping):
        row = _row(f"the probabilities of {name}", name, values, done)
        return Variable(name, values, table=row, is_noise=variable.is_noise)
    if not isinstance(done, Variable):
        return None
    if done.name != name:
        raise ValueError(f"the mechanism for {name} is one of {done.name}: give the ud.Variable the name {name}.")
    if done.values != values:
        raise ValueError(
            f"the mechanism for {name} has the values {listed(done.values)}, and {name} has {listed(values)}: the "
            "values, and their order, must be the same."
        )
    return dataclasses.replace(done, is_noise=variable.is_noise)


def likelihood_of(variable: Variable, seen: Mapping[Hashable, float], taken: Sequence[str]) -> tuple[Variable, float]:
    """Return a child of a variable whose value 1 is evidence of a likelihood, and the log of the factor left out.

        P(child = 1 | variable = x) = likelihood(x) / largest likelihood

    Args:
        variable: that the evidence is about.
        seen: the likelihood of each of its values, 0 or more; only their ratios matter to an answer.
        taken: the names of a model, of which the child gets none.

    Raises:
        ValueError: a likelihood is missing, negative or not finite; all are 0.
    """
    row = _row(f"the likelihood of {variable.name}", variable.name, variable.values, seen)
    if not (row.max() > 0 and row.min() >= 0 and np.isfinite(row).all()):
        raise ValueError(
            f"the likelihood of {variable.name} must be finite numbers of 0 or more, not all 0: {dict(seen)!r:.99}."
        )
    if ((row > 0) & (row / row.max() < np.finfo(np.float32).tiny)).any():
        raise ValueError(
            f"the likelihoods of {variable.name} differ by more than a factor of 1e38, which a table cannot hold: say "
            "0 for the least of them, or see the variable itself."
        )
    name = f"evidence on {variable.name}"
    while name in taken:
        name += "'"
    x = row / row.max()
    table = np.stack([1 - x, x], -1)
    return Variable(name, (0, 1), (variable.name,), table=table), float(np.log(row.max()))


def _row(what: str, name: str, values: tuple[Hashable, ...], given: Mapping[Hashable, float]) -> Float[np.ndarray, "N"]:
    """Return the numbers that `given` has for all values, in their order."""
    places = [index(name, values, value) for value in given]
    if missing := [value for i, value in enumerate(values) if i not in places]:
        raise ValueError(f"{what} must say a number for each value; {listed(missing)} is missing. Say 0 for never.")
    row = np.zeros(len(values))
    try:
        row[places] = [float(x) for x in given.values()]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be numbers, not {dict(given)!r:.99}.") from error
    return row


def done_as_text(name: str, value: Any) -> str:
    """Return an intervention as text: a value, a distribution, or a mechanism."""
    if isinstance(value, Variable):
        return f"do({name} by another mechanism)"
    return f"do({name} ~ {value})" if isinstance(value, Mapping) else f"do({name}={value})"


def seen_as_text(name: str, value: Any) -> str:
    """Return evidence as text: a value, or likelihoods."""
    return f"{name} with likelihoods {value}" if isinstance(value, Mapping) else f"{name}={value}"
