"""Several demonstrations as one: old logs, and episodes in which somebody else acted."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from undelude.offline._data.columns import Column


def join(parts: Sequence[Any]) -> dict[str, Any]:
    """Return the fields of `Demos` with the episodes of all parts; the arguments are those of `Demos.concat`."""
    if not parts:
        raise ValueError("concat needs at least one Demos.")
    for part in parts[1:]:
        for group in ("observations", "hidden", "opening"):
            one, other = ([*getattr(x, group)] for x in (parts[0], part))
            if set(one) != set(other):
                raise ValueError(
                    f"concat: {parts[0]!r} has the {group} {one}, but {part!r} has {other}. Give all parts the same "
                    "columns, or read them again without those that one lacks."
                )
    T = max(part.num_rounds for part in parts)

    def of(group: str, axis: int) -> dict[str, Column]:
        names = getattr(parts[0], group)
        return {name: _join([getattr(part, group)[name] for part in parts], T if axis else None) for name in names}

    columns = of("observations", 1), of("hidden", 1), of("opening", 0)
    observations, opening = columns[0], columns[2]
    for name in opening:  # An opening has the levels of its observation.
        levels = observations[name].levels
        opening[name] = _recoded(opening[name], levels)
    sources = dict.fromkeys(part.source for part in parts)
    return {
        "action": _join([part.action for part in parts], T),
        "observations": observations,
        "hidden": columns[1],
        "opening": opening,
        "lengths": np.concatenate([part.lengths for part in parts]),
        "labels": np.concatenate([part.labels for part in parts]),
        "demonstrator": _demonstrators(parts),
        "source": " and ".join(sources),
        "intervened": np.concatenate([_padded(part.intervened, T) for part in parts]),
        "notes": tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    }


def _join(columns: list[Column], T: int | None) -> Column:
    """Return one column with the rows of several, padded to `T` rounds."""
    name = columns[0].name
    if len({column.finite for column in columns}) > 1:
        raise ValueError(f"concat: column {name!r} is finite in one part and real in another: see reals= and levels=.")
    if not columns[0].finite and len({column.values.shape[-1] for column in columns}) > 1:
        raise ValueError(f"concat: column {name!r} has vectors of different lengths.")
    levels = None
    if columns[0].finite:
        kinds = {isinstance(level, str): level for column in columns for level in column.levels or ()}
        if len(kinds) > 1:
            raise ValueError(
                f"concat: column {name!r} has strings in one part, such as {kinds[True]!r:.50}, and numbers in "
                f"another, such as {kinds[False]!r:.50}, which would be "
                "different levels. Read the column alike in all parts."
            )
        levels = tuple(dict.fromkeys(level for column in columns for level in column.levels or ()))
    values = [_recoded(column, levels).values for column in columns]
    if T is not None:
        values = [_padded(x, T) for x in values]
    return Column(name, np.concatenate(values), levels)


def _recoded(column: Column, levels: tuple[Any, ...] | None) -> Column:
    """Return a column as codes of other levels, of which its own are some."""
    if levels is None or column.levels == levels:
        return column
    code = np.asarray([levels.index(x) for x in column.levels or ()], np.int32)
    return dataclasses.replace(column, values=code[column.values], levels=levels)


def _padded(values: np.ndarray, T: int) -> np.ndarray:
    return np.pad(values, [(0, 0), (0, T - values.shape[1]), *[(0, 0)] * (values.ndim - 2)])


def _demonstrators(parts: Sequence[Any]) -> Column | None:
    """Return who acted. Where nobody's policy is in question, because all actions were done, it is the first level."""
    known = [part.demonstrator for part in parts if part.demonstrator is not None]
    if not known:
        return None
    lacking = [part for part in parts if part.demonstrator is None and part.demonstrated.any()]
    if lacking:
        raise ValueError(
            f"concat: {lacking[0]!r} does not say who acted, and another part does: name its demonstrator."
        )
    whole = _join(known, None)
    pieces = [
        np.zeros(part.num_episodes, np.int32)
        if part.demonstrator is None
        else _recoded(part.demonstrator, whole.levels).values
        for part in parts
    ]
    return dataclasses.replace(whole, values=np.concatenate(pieces))
