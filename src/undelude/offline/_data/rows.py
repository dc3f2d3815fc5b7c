"""From the rows of a table to episodes."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from undelude.offline._data.assemble import check_action, pad
from undelude.offline._data.columns import MAX_LEVELS, At, Column
from undelude.offline._data.gather import Gatherer, Raw
from undelude.offline._data.ordering import order_rows, scattered
from undelude.offline._data.roles import Roles


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
    order, lengths = order_rows(raw[roles.episode], raw.get(roles.time or ""), gatherer)
    note = scattered(order, lengths, raw[roles.episode], gatherer) if roles.time is None else None
    fields = _Episodes(gatherer, roles, raw, order, lengths).fields()
    return fields | {"source": source, "notes": () if note is None else (note,)}


@dataclasses.dataclass(frozen=True)
class _Episodes:
    """The rows of a table, episode by episode.

    Attributes:
        gatherer: has read the table.
        roles: of the columns.
        raw: the columns, in the order of the files.
        order: the rows in the order of episodes and time.
        lengths: rows of each episode.
    """

    gatherer: Gatherer
    roles: Roles
    raw: dict[str, Raw]
    order: Int[np.ndarray, " R"]
    lengths: Int[np.ndarray, " N"]

    def fields(self) -> dict[str, Any]:
        """Return the fields of `Demos` except the source."""
        roles, rounds, rows = self.roles, self.num_rounds, self.rows_of_rounds
        action = self.encode(roles.action, rows)
        done = self.marks(rows)
        check_action(action, done)
        observations, opening = {}, {}
        for name in roles.observation:
            first, column = self.observation(name, rows)
            observations[name] = pad(column, rounds)
            if first is not None:
                opening[name] = first
        who = None
        if roles.demonstrator is not None:
            self.check_constant(roles.demonstrator)
            who = dataclasses.replace(self.encode(roles.demonstrator, self.first_rows), name="demonstrator")
        return {
            "action": pad(action, rounds),
            "observations": observations,
            "hidden": {name: pad(self.encode(name, rows), rounds) for name in roles.hidden},
            "opening": opening,
            "lengths": rounds.astype(np.int32),
            "labels": self.labels(),
            "demonstrator": who,
            "intervened": pad(Column("intervened", done), rounds).values,
        }

    @property
    def starts(self) -> Int[np.ndarray, " N"]:
        """The place of each episode's first row in `order`."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def first_rows(self) -> Int[np.ndarray, " N"]:
        """The first row of each episode."""
        return self.order[self.starts]

    @property
    def is_first(self) -> Bool[np.ndarray, " R"]:
        """Whether a row is the first of its episode, in the order of `order`."""
        found = np.zeros(len(self.order), bool)
        found[self.starts] = True
        return found

    @property
    def num_rounds(self) -> Int[np.ndarray, " N"]:
        """The rounds of each episode: its rows, without the last if observations precede the action of their row."""
        if not self.roles.before:
            return self.lengths
        if (self.lengths == 1).any():
            row = int(self.first_rows[np.argmin(self.lengths)])
            raise ValueError(
                f"episode {self.raw[self.roles.episode][row]!r:.50} has only one row, {self.gatherer.place(row)}, but "
                "with opening= what came back after an action is in the next row. Drop the episode."
            )
        return self.lengths - 1

    @property
    def rows_of_rounds(self) -> Int[np.ndarray, " S"]:
        """The rows whose action is part of a round."""
        if not self.roles.before:
            return self.order
        return self.order[~np.roll(self.is_first, -1)]

    def at(self, name: str, rows: Int[np.ndarray, " M"]) -> At:
        """Return the function that names the place of the i-th of `rows`."""

        def place(i: int) -> str:
            episode = self.raw[self.roles.episode][int(rows[i])]
            return f"column {name!r} in {self.gatherer.place(int(rows[i]))} (episode {episode!r:.50})"

        return place

    def encode(self, name: str, rows: Int[np.ndarray, " M"], raw: Raw | None = None) -> Column:
        """Return these rows of a column, or `raw`, its values there, as codes or real numbers."""
        raw = self.raw[name].take(rows) if raw is None else raw
        return raw.encode(self.at(name, rows), levels=self.roles.levels.get(name), real=name in self.roles.reals)

    def observation(self, name: str, rows: Int[np.ndarray, " S"]) -> tuple[Column | None, Column]:
        """Return the opening of an observation, if it has one, and its values in the rounds, with the same levels."""
        if name in self.roles.before:
            whole, is_first = self.encode(name, self.order), self.is_first
            return whole.subset(is_first), whole.subset(~is_first)
        if name not in self.roles.opening:
            return None, self.encode(name, rows)
        apart = self.roles.opening[name]
        self.check_constant(apart)
        firsts = self.first_rows
        before, after = self.raw[apart].take(firsts), self.raw[name].take(rows)
        before.check_present(self.at(apart, firsts))
        after.check_present(self.at(name, rows))
        whole = self.encode(name, np.concatenate([firsts, rows]), after.following(before))
        return whole.subset(slice(len(firsts))), whole.subset(slice(len(firsts), None))

    def check_constant(self, name: str) -> None:
        """Raise `ValueError` if a column with one value an episode has two in one."""
        column = self.raw[name]
        values, first = column.values[self.order], np.repeat(self.starts, self.lengths)
        differs = (values != values[first]).reshape(len(values), -1).any(-1)
        if column.missing is not None:
            missing = column.missing[self.order]
            differs = np.where(missing & missing[first], False, differs | (missing != missing[first]))
        elif values.dtype.kind == "f":
            differs &= ~(np.isnan(values) & np.isnan(values[first])).reshape(len(values), -1).all(-1)
        if differs.any():
            i = int(np.argmax(differs))
            one, two = int(self.order[first[i]]), int(self.order[i])
            raise ValueError(
                f"column {name!r} has one value an episode, but in episode {self.raw[self.roles.episode][one]!r:.50} "
                f"it is {column.shown(one)} in {self.gatherer.place(one)} and {column.shown(two)} in "
                f"{self.gatherer.place(two)}."
            )

    def marks(self, rows: Int[np.ndarray, " S"]) -> Bool[np.ndarray, " S"]:
        """Return whether the action of each of `rows` was an intervention."""
        name = self.roles.intervened
        if name is None:
            return np.zeros(len(rows), bool)
        raw = self.raw[name].take(rows)
        raw.check_present(self.at(name, rows))
        bad = np.ones(len(rows), bool)
        if raw.strings is None and raw.values.ndim == 1:
            bad = (raw.values != 0) & (raw.values != 1)
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(
                f"{self.at(name, rows)(i)} is {raw.shown(i)}; intervened= needs truth values, or 0 and 1: true if the "
                "action was an intervention, and not the demonstrator's own."
            )
        return raw.values.astype(bool)

    def labels(self) -> Int[np.ndarray, " N"]:
        """Return the index of theta of each episode, -1 if the label is missing."""
        labels = np.full(len(self.lengths), -1, np.int32)
        name = self.roles.label
        if name is None:
            return labels
        self.check_constant(name)
        firsts = self.first_rows
        found = self.raw[name].take(firsts)
        known = np.ones(len(firsts), bool) if found.missing is None else ~found.missing
        if found.values.dtype.kind == "f":  # Whole numbers become decimal ones in a column with missing values.
            known &= ~np.isnan(found.values)
        if not known.any():
            return labels
        rows = firsts[known]
        found = self.raw[name].take(rows)
        if name in self.roles.levels:
            labels[known] = self.encode(name, rows).values
            return labels
        values, bad = found.values, np.ones(len(rows), bool)
        if found.strings is None and values.ndim == 1:
            bad = (values < -1) | (values != np.floor(values)) | (values >= MAX_LEVELS)
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(
                f"{self.at(name, rows)(i)} is {found.shown(i)}, not an index of theta, 0, 1, ... (-1 or null if it is "
                f"not known). Give levels={{{name!r}: [...]}}, the values of theta in their order."
            )
        labels[known] = values.astype(np.int32)
        return labels
