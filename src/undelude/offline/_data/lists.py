"""Lists of Python values as arrays of one type."""

from typing import Any

import numpy as np
from jaxtyping import Shaped

from undelude._checks import one_line
from undelude.offline._data.columns import At


def has_length(x: Any) -> bool:
    """Return whether `x` is an array or a list of values."""
    is_list = hasattr(x, "__len__") and not isinstance(x, str | bytes | dict)
    return is_list and getattr(x, "ndim", 1) > 0


def is_plain_array(x: Any) -> bool:
    """Return whether `x` is an array whose values have one type: not a list, and not an array of Python objects."""
    return hasattr(x, "ndim") and np.asarray(x).dtype.kind != "O"


def plain_array(values: list[Any], at: At) -> Shaped[np.ndarray, "R ..."]:
    """Return a list of Python values as an array of one type.

    Args:
        values: one a row.
        at: the place of a row, for messages.

    Raises:
        ValueError: a value is missing, or of another type than the others; the message names its place.
    """
    kinds = [_kind(x) for x in values]
    for row, kind in enumerate(kinds):
        if kind == kinds[0] and kind not in ("missing", "other"):
            continue
        if kind == "missing":
            raise ValueError(
                f"{at(row)} is missing (None). Fill in a value of its own, such as 'unknown', or drop the episode."
            )
        if kind == "other":
            raise ValueError(f"{at(row)} is {one_line(repr(values[row]))}, not a number, string or truth value.")
        raise ValueError(
            f"{at(row)} is {one_line(repr(values[row]))}, but {at(0)} is {one_line(repr(values[0]))}: a column needs "
            f"values of one type, not {kinds[0]} and {kind}."
        )
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{at(0)} and later values do not form an array: {one_line(error)}.") from error
    if array.dtype.kind == "O":
        raise ValueError(f"{at(0)} or a later value is a whole number of more than 64 bits.")
    return array


def _kind(x: Any) -> str:
    """Return the type of a value in words."""
    if isinstance(x, str):
        return "strings"
    if isinstance(x, bool | np.bool_):
        return "truth values"
    if isinstance(x, int | float | np.integer | np.floating):
        return "numbers"
    if x is None:
        return "missing"
    if isinstance(x, list | tuple | np.ndarray) and np.asarray(x).dtype.kind in "fiu":
        return "vectors of numbers"
    return "other"
