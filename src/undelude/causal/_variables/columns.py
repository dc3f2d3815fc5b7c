"""Columns of data as positions in the values of variables."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from undelude._checks import check_ordered
from undelude.causal._names import Parents, listed

# Values by name: a data frame, or a dict of columns.
Columns = Mapping[str, Any]
Domains = Mapping[str, tuple[Hashable, ...]]


def domains_of(graph: Parents, data: Columns, values: Mapping[str, Sequence[Hashable]] | None) -> Domains:
    """Return the values of each variable: those that are given, or those of its column, sorted.

    Args:
        graph: the parents of each variable.
        data: a column for each variable.
        values: the values of a variable in order, where they are not those that its column has, sorted.

    Raises:
        ValueError: a column is missing, or holds nothing; values that cannot be sorted, or belong to no variable.
    """
    values = values or {}
    if unknown := [name for name in values if name not in graph]:
        raise ValueError(f"values={{{unknown[0]!r}: ...}}: there is no such variable.")
    for name, given in values.items():
        check_ordered(given, f"the values of {name}", "answers follow their order")
        if isinstance(given, str):
            raise ValueError(f"the values of {name} must be a sequence such as (0, 1), not {given!r:.99}.")
        if any(map(is_missing, given)):
            raise ValueError(f"the values of {name} hold a missing one, None or nan: it is not a value.")
    for name in graph:
        if all(map(is_missing, column(name, data))):
            raise ValueError(f"the column {name} holds no value: {name} is latent, and not missing now and then.")
    return {name: tuple(values.get(name, ())) or _in_order(name, data) for name in graph}


def positions(domains: Domains, data: Columns) -> Int[np.ndarray, "N V"]:
    """Return the position of each value in the values of its variable, or -1 where the value is missing.

    Args:
        domains: the values of each variable.
        data: a column for each variable, of the same length.

    Raises:
        ValueError: a column is missing or of another length; an unknown value.
    """
    columns = {name: column(name, data) for name in domains}
    lengths = {name: len(x) for name, x in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have different lengths: {lengths}.")
    found = np.empty((next(iter(lengths.values())), len(domains)), int)
    for i, (name, values) in enumerate(domains.items()):
        known = {value: k for k, value in enumerate(values)}
        try:
            found[:, i] = [-1 if is_missing(x) else known[x] for x in columns[name]]
        except KeyError as error:
            raise ValueError(f"the column {name} has the value {error}, which is not in {values}.") from None
    return found


def check_complete(domains: Domains, rows: Int[np.ndarray, "N V"], remedy: str) -> None:
    """Raise `ValueError` that names the first column with a missing value, and its row; the message ends as given."""
    gaps = rows < 0
    if gaps.any():
        i = int(gaps.any(0).argmax())
        raise ValueError(
            f"the column {tuple(domains)[i]} has {gaps[:, i].sum()} missing values, the first in row "
            f"{gaps[:, i].argmax()}: {remedy}"
        )


def column(name: str, data: Columns) -> list[Any]:
    """Return the values of a column as Python objects."""
    try:
        found = data[name]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"the data have no column {name!r}.") from error
    if isinstance(found, str) or not isinstance(found, Iterable) or getattr(found, "ndim", 1) != 1:
        raise ValueError(f"the column {name!r} must be one sequence of values, not {type(found).__name__}.")
    to_list = getattr(found, "tolist", None)
    return list(found) if to_list is None else to_list()


def is_missing(x: Any) -> bool:
    """Return whether an entry of a column is missing: None, nan, or pandas' NA."""
    return x is None or type(x).__name__ in ("NAType", "NaTType") or x != x


def _in_order(name: str, data: Columns) -> tuple[Hashable, ...]:
    """Return the values in the order of a categorical column, or sorted; raise `ValueError` if that is not possible."""
    found = {x for x in column(name, data) if not is_missing(x)}
    if "nan" in found:
        raise ValueError(
            f"the column {name} holds the text 'nan': NumPy writes a missing value so in an array of text. Give None "
            f"in a list or an array of dtype=object, or name 'nan' as a value by values={{{name!r}: ...}}."
        )
    given = data[name]
    categories = getattr(getattr(given, "cat", given), "categories", None)  # Of a series, or of its values.
    if categories is not None:
        return tuple(categories.tolist())
    try:
        return tuple(sorted(found))
    except TypeError as error:
        raise ValueError(
            f"the values of {name} cannot be sorted ({listed(tuple(found))}): say their order by values."
        ) from error
