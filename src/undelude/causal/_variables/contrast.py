"""One value of a cause in place of another, and the numbers of an outcome, as callers write them."""

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from undelude.causal._names import listed
from undelude.causal._variables.variable import index


def one_entry(role: str, values: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the one name and value of an argument; raise `ValueError` if it is not one."""
    if not isinstance(values, Mapping) or len(values) != 1:
        raise ValueError(f"{role} must be a dict of one name and its value, such as {role}={{'A': 1}}, not {values!r}.")
    ((name, value),) = values.items()
    return name, value


def other_value(name: str, values: Sequence[Hashable], value: Any) -> Hashable:
    """Return the other value of a binary variable.

    Raises:
        ValueError: the value is not one of them; there are more than two.
    """
    place = index(name, tuple(values), value)
    others = [x for i, x in enumerate(values) if i != place]
    if len(others) != 1:
        raise ValueError(
            f"{name} has the values {listed(values)}: say which one stands instead, such as "
            f"instead={others[0] if others else values[0]!r}."
        )
    return others[0]


def numbers_of(
    names: Sequence[str], values: Sequence[Sequence[Hashable]], function: Callable[..., Any] | None
) -> np.ndarray:
    """Return `function` at all values of variables, `[*names]`.

    Args:
        names: of the variables.
        values: of each variable.
        function: of a value of each; by default the value itself, of one variable.

    Raises:
        ValueError: no function of several variables; it fails, or does not return numbers.
    """
    if function is None:
        if len(names) != 1:
            raise ValueError(f"say which function of {listed(names)} is expected: expectation(names, function).")
        function = _itself
    try:
        numbers = [float(function(*x)) for x in itertools.product(*values)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"the function of {listed(names)} must return numbers: {error}") from error
    return np.array(numbers).reshape([len(x) for x in values])


def _itself(x: Any) -> Any:
    if isinstance(x, str):
        raise TypeError(f"the value {x!r} is a string")
    return x
