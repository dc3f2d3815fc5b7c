"""From the rows of a table, in the order of its files, to episodes."""

from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from undelude.offline._data.assemble import check_action, pad
from undelude.offline._data.columns import At, Column
from undelude.offline._data.gather import Gatherer, Raw
from undelude.offline._data.roles import Roles

Rows = Int[np.ndarray, " M"]


def episodes_of_rows(gatherer: Gatherer, roles: Roles, source: str) -> dict[str, Any]:
    """Return the fields of `Demos` from the rows of a table.

    Args:
        gatherer: has read the table.
        roles: of its columns.
        source: of the data, for messages.

    Raises:
        ValueError: rows are missing, doubled or out of order, or values cannot be used; the message names the row.
    """
    if not gatherer.num_rows:
        raise ValueError(f"{source} has no rows.")
    raw = gatherer.columns()
    order, lengths = _order(raw, gatherer, roles)
    starts = np.cumsum(lengths) - lengths
    firsts = order[starts]

    def at(name: str, rows: Rows) -> At:
        def place(row: int) -> str:
            which = raw[roles.episode][int(rows[row])]
            return f"column {name!r} in {gatherer.place(int(rows[row]))} (episode {which!r:.50})"

        return place

    def encode(name: str, rows: Rows, as_name: str | None = None) -> Column:
        column = raw[name].take(rows)
        options = {"levels": roles.levels.get(name), "real": name in roles.reals}
        return column.encode(at(name, rows), name=as_name or name, **options)

    # The rows that are rounds: all, or all but the last of each episode, which has no values after its action.
    rounds = lengths - 1 if roles.before else lengths
    is_last = np.zeros(len(order), bool)
    is_last[starts + lengths - 1] = bool(roles.before)
    is_first = np.zeros(len(order), bool)
    is_first[starts] = True
    if (rounds == 0).any():
        row = int(firsts[np.argmin(rounds)])
        raise ValueError(
            f"episode {raw[roles.episode][row]!r:.50} has only one row, {gatherer.place(row)}, but with opening= the row "
            "after an action has what came back. Drop the episode."
        )
    kept = order[~is_last] if roles.before else order
    action = encode(roles.action, kept, "action")
    check_action(action)
    observations, opening = {}, {}
    for name in roles.observation:
        if name in roles.before:
            whole = encode(name, order)
            first = whole.values[is_first]
            rest = whole.values[~is_first]
        elif name in roles.opening:
            apart = roles.opening[name]
            _check_constant(raw[apart], order, lengths, gatherer, roles, raw)
            before = raw[apart].take(firsts)
            before.check_present(at(apart, firsts))
            column = raw[name].take(kept)
            column.check_present(at(name, kept))
            rows = np.concatenate([firsts, kept])
            options = {"levels": roles.levels.get(name), "real": name in roles.reals}
            whole = column.after(before).encode(at(name, rows), name=name, **options)
            first, rest = whole.values[: len(firsts)], whole.values[len(firsts) :]
        else:
            observations[name] = pad(encode(name, kept), rounds)
            continue
        opening[name] = Column(name, first, whole.levels)
        observations[name] = pad(Column(name, rest, whole.levels), rounds)
    who = None
    if roles.demonstrator is not None:
        _check_constant(raw[roles.demonstrator], order, lengths, gatherer, roles, raw)
        who = encode(roles.demonstrator, firsts, "demonstrator")
    return {
        "action": pad(action, rounds),
        "observations": observations,
        "hidden": {name: pad(encode(name, kept), rounds) for name in roles.hidden},
        "opening": opening,
        "lengths": rounds.astype(np.int32),
        "labels": _labels(raw, order, lengths, gatherer, roles, at),
        "demonstrator": who,
        "source": source,
    }


def _order(raw: dict[str, Raw], gatherer: Gatherer, roles: Roles) -> tuple[Rows, Int[np.ndarray, " N"]]:
    """Return the rows episode by episode, each in order, and the number of rows of each episode."""
    episode = raw[roles.episode]
    episode.check_present(lambda row: f"column {roles.episode!r} in {gatherer.place(row)}")
    if episode.values.ndim == 2 or episode.values.dtype.kind == "f" and np.isnan(episode.values).any():
        raise ValueError(f"column {roles.episode!r} has vectors or NaN; it must name the episode of each row.")
    # Runs of rows with the same episode; episodes count in the order in which they begin.
    values = episode.values
    bounds = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    _, begun, index = np.unique(values[bounds], return_index=True, return_inverse=True)
    rank = np.empty(len(begun), np.int32)
    rank[np.argsort(begun)] = np.arange(len(begun), dtype=np.int32)
    sizes = np.diff(np.append(bounds, len(values)))
    of_run = rank[index.reshape(-1)]
    lengths = np.bincount(of_run, weights=sizes, minlength=len(begun)).astype(np.int64)
    is_together = len(bounds) == len(begun)
    codes = np.repeat(of_run, sizes)
    if roles.time is None:
        order = np.arange(len(values)) if is_together else np.argsort(codes, kind="stable")
        _check_one_part(order, lengths, gatherer, episode)
        return order, lengths
    time = raw[roles.time]
    where = f"column {roles.time!r} in "
    time.check_present(lambda row: where + gatherer.place(row))
    if time.values.ndim == 2 or time.strings is not None:
        raise ValueError(f"column {roles.time!r} has {time[0]!r:.50}; time needs one number or time stamp a row.")
    if time.values.dtype.kind == "f" and np.isnan(time.values).any():
        raise ValueError(f"{where}{gatherer.place(int(np.argmax(np.isnan(time.values))))} is missing (NaN).")
    same = codes[1:] == codes[:-1]
    if is_together and (time.values[1:] > time.values[:-1])[same].all():
        return np.arange(len(values)), lengths
    order = np.lexsort((time.values, codes))
    doubled = (codes[order][1:] == codes[order][:-1]) & (time.values[order][1:] == time.values[order][:-1])
    if doubled.any():
        one, two = (int(x) for x in order[int(np.argmax(doubled)) :][:2])
        raise ValueError(
            f"episode {episode[one]!r:.50} has {roles.time} {time[one]!r} twice: in {gatherer.place(one)} and "
            f"{gatherer.place(two)}. Drop one, or make the times distinct."
        )
    return order, lengths


def _check_one_part(order: Rows, lengths: Int[np.ndarray, " N"], gatherer: Gatherer, episode: Raw) -> None:
    """Raise `ValueError` if an episode is in two files, whose order is not known without time."""
    ends = np.cumsum(lengths) - 1
    first, last = order[ends - lengths + 1], order[ends]
    apart = gatherer.part(first) != gatherer.part(last)
    if apart.any():
        one, two = int(first[np.argmax(apart)]), int(last[np.argmax(apart)])
        raise ValueError(
            f"episode {episode[one]!r:.50} is in {gatherer.place(one)} and in {gatherer.place(two)}. If it is one episode, "
            "give time=, the column that orders its rows; if not, make the names of the episodes distinct."
        )


def _check_constant(
    column: Raw, order: Rows, lengths: Int[np.ndarray, " N"], gatherer: Gatherer, roles: Roles, raw: dict[str, Raw]
) -> None:
    """Raise `ValueError` if a column that has one value an episode has two."""
    values = column.values[order]
    starts = np.cumsum(lengths) - lengths
    differs = values != np.repeat(values[starts], lengths, axis=0)
    if column.missing is not None:
        absent = column.missing[order]
        differs = (differs & ~absent) | (absent != np.repeat(absent[starts], lengths))
    if differs.any():
        at = int(np.argmax(differs.reshape(len(values), -1).any(-1)))
        start = starts[np.searchsorted(starts, at, side="right") - 1]
        one, two = int(order[start]), int(order[at])
        raise ValueError(
            f"column {column.name!r} has one value an episode, but in episode {raw[roles.episode][one]!r:.50} it is "
            f"{column[one]!r:.50} in {gatherer.place(one)} and {column[two]!r:.50} in {gatherer.place(two)}."
        )


def _labels(
    raw: dict[str, Raw], order: Rows, lengths: Int[np.ndarray, " N"], gatherer: Gatherer, roles: Roles, at: Any
) -> Int[np.ndarray, " N"]:
    """Return the index of theta of each episode, -1 where the label is missing."""
    N = len(lengths)
    if roles.label is None:
        return np.full(N, -1, np.int32)
    column = raw[roles.label]
    _check_constant(column, order, lengths, gatherer, roles, raw)
    firsts = order[np.cumsum(lengths) - lengths]
    known = np.ones(N, bool) if column.missing is None else ~column.missing[firsts]
    if column.values.dtype.kind == "f":  # Whole numbers become decimal ones in a column with missing values.
        known &= ~np.isnan(column.values[firsts])
    labels = np.full(N, -1, np.int32)
    if not known.any():
        return labels
    rows = firsts[known]
    found = column.take(rows)
    place = at(roles.label, rows)
    if roles.label in roles.levels:
        labels[known] = found.encode(place, name=roles.label, levels=roles.levels[roles.label], real=False).values
        return labels
    bad = np.ones(len(rows), bool)
    if found.strings is None and found.values.ndim == 1:
        bad = (found.values < -1) | (found.values != np.floor(found.values)) | (found.values > 4095)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"{place(row)} is {found[row]!r:.50}, not an index of theta, 0, 1, ... (-1 or null if it is not known). "
            f"Give levels={{{roles.label!r}: [...]}}, the values of theta in their order."
        )
    labels[known] = found.values.astype(np.int32)
    return labels
