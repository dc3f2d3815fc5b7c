"""Demonstrations from arrays and lists."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from undelude._checks import one_line
from undelude.offline._data.assemble import check_action, check_labels, check_names, pad
from undelude.offline._data.columns import Column, encode
from undelude.offline._data.lists import has_length, is_plain_array, plain_array


def read_arrays(
    actions: Any,
    observations: Any,
    *,
    hidden: Mapping[str, Any] | None = None,
    opening: Any = None,
    lengths: Any = None,
    mask: Any = None,
    labels: Any = None,
    demonstrator: Any = None,
    intervened: Any = False,
    reals: Sequence[str] = (),
    levels: Mapping[str, Any] | None = None,
    source: str = "arrays",
) -> dict[str, Any]:
    """Return the fields of `Demos`; the arguments are those of `Demos.from_arrays`."""
    is_named = isinstance(observations, Mapping)
    seen = dict(observations) if is_named else {"observation": observations}
    unseen = dict(hidden or {})
    if is_named and not (opening is None or isinstance(opening, Mapping)):
        raise ValueError("opening must be a mapping from names of observations to values [N], as observations is one.")
    before = dict(opening) if isinstance(opening, Mapping) else {} if opening is None else {"observation": opening}
    check_names(seen, unseen, before)
    columns = ["action", *seen, *unseen, *([] if demonstrator is None else ["demonstrator"])]
    for option, names in (("reals", reals), ("levels", levels or {})):
        for name in names:
            if name not in columns:
                raise ValueError(f"{option} has {name!r:.50}, which is not a column; there are {', '.join(columns)}.")
    episodes = _Episodes(
        num_rounds(actions, lengths, mask), lengths is not None or mask is not None, tuple(reals), dict(levels or {})
    )
    _, action = episodes.column("action", "actions", actions)
    done = episodes.marks(intervened)
    check_action(action, done)
    where = {name: f"observations[{name!r}]" if is_named else "observations" for name in seen}
    found = {name: episodes.column(name, where[name], x, before.get(name)) for name, x in seen.items()}
    hidden_columns = {name: episodes.column(name, f"hidden[{name!r}]", x)[1] for name, x in unseen.items()}
    rounds = episodes.lengths
    return {
        "action": pad(action, rounds),
        "observations": {name: pad(column, rounds) for name, (_, column) in found.items()},
        "hidden": {name: pad(column, rounds) for name, column in hidden_columns.items()},
        "opening": {name: first for name, (first, _) in found.items() if first is not None},
        "lengths": rounds,
        "labels": check_labels(labels, len(rounds)),
        "demonstrator": None if demonstrator is None else episodes.one_each("demonstrator", demonstrator),
        "source": source,
        "intervened": pad(Column("intervened", done), rounds).values,
    }


def num_rounds(actions: Any, lengths: Any, mask: Any) -> Int[np.ndarray, " N"]:
    """Return the rounds of each episode; the arguments are those of `Demos.from_arrays`."""
    if not has_length(actions):
        raise ValueError(f"actions must be an array [N, T] or a list of episodes, not {one_line(repr(actions))}.")
    if len(actions) == 0:
        raise ValueError("actions is empty; give at least one episode.")
    if isinstance(actions, np.ndarray) and actions.dtype.kind == "O":
        actions = list(actions)
    if actions.ndim < 2 if hasattr(actions, "ndim") else not all(map(has_length, actions)):
        raise ValueError("actions must be [N, T], a row for each episode; put a single episode in brackets: [actions].")
    N = len(actions)
    found = np.full(N, actions.shape[1]) if hasattr(actions, "ndim") else np.array([len(x) for x in actions])
    if lengths is not None and mask is not None:
        raise ValueError("give lengths= or mask=, not both.")
    if mask is not None:
        found = _lengths_of_mask(np.asarray(mask), N, int(found.max()))
    elif lengths is not None:
        given = np.asarray(lengths)
        if given.shape != (N,) or given.dtype.kind not in "iu":
            raise ValueError(f"lengths must be {N} whole numbers, one an episode, not {given.dtype} {given.shape}.")
        wrong = (given > found) | (given < 0)
        if wrong.any():
            n = int(np.argmax(wrong))
            raise ValueError(f"lengths[{n}] is {given[n]}, but actions[{n}] has {found[n]} rounds.")
        found = given
    if (found == 0).any():
        raise ValueError(f"episode {int(np.argmin(found))} is empty: it has no rounds. Leave it out.")
    return found.astype(np.int32)


def _lengths_of_mask(mask: np.ndarray, N: int, T: int) -> Int[np.ndarray, " N"]:
    if mask.dtype != bool or mask.shape != (N, T):
        raise ValueError(f"mask must be truth values of the shape {(N, T)}, not {mask.dtype} {mask.shape}.")
    gap = (mask[:, 1:] > mask[:, :-1]).any(-1)
    if gap.any():
        n = int(np.argmax(gap))
        raise ValueError(f"mask[{n}] is false before a round that exists; only the last rounds may be missing.")
    return mask.sum(-1)


@dataclasses.dataclass(frozen=True)
class _Episodes:
    """The lengths of the episodes, and the choices for their columns.

    Attributes:
        lengths: rounds of each episode.
        is_padded: whether the arrays have values after the end of an episode.
        reals, levels: as in `Demos.from_arrays`.
    """

    lengths: Int[np.ndarray, " N"]
    is_padded: bool
    reals: tuple[str, ...]
    levels: dict[str, Any]

    def column(self, name: str, where: str, values: Any, first: Any = None) -> tuple[Column | None, Column]:
        """Return the opening of a column, if it has one, and its values, one a row, with the same levels.

        Args:
            name: of the column.
            where: the argument that has it, for messages.
            values: one for each round.
            first: one for each episode, or None.
        """
        rows = self._rows(where, values)
        if first is None:
            return None, self._encode(name, rows, lambda row: self._place(where, row))
        before, N = self._one_each(f"opening[{name!r}]", first), len(self.lengths)
        if before.shape[1:] != rows.shape[1:] or (before.dtype.kind == "U") != (rows.dtype.kind == "U"):
            raise ValueError(
                f"opening[{name!r}] has {before.dtype} {before.shape[1:]} values, but {where} has {rows.dtype} "
                f"{rows.shape[1:]}; an opening needs values of the same type as its observation."
            )

        def at(row: int) -> str:
            return f"opening[{name!r}][{row}]" if row < N else self._place(where, row - N)

        whole = self._encode(name, np.concatenate([before, rows]), at)
        return whole.subset(slice(N)), whole.subset(slice(N, None))

    def marks(self, values: Any) -> Bool[np.ndarray, " R"]:
        """Return whether the action of each row was an intervention."""
        if isinstance(values, bool | np.bool_):
            return np.full(int(self.lengths.sum()), bool(values))
        rows = self._rows("intervened", values)
        if rows.dtype != bool or rows.ndim != 1:
            raise ValueError(
                f"intervened must be truth values, [N, T] or one for all rounds, not {rows.dtype} {rows.shape[1:]}: "
                "true where the action was an intervention."
            )
        return rows

    def one_each(self, name: str, values: Any) -> Column:
        """Return a column with one value an episode."""
        return self._encode(name, self._one_each(name, values), lambda row: f"{name}[{row}]")

    def _encode(self, name: str, rows: np.ndarray, at: Any) -> Column:
        return encode(name, rows, at, levels=self.levels.get(name), real=name in self.reals)

    def _place(self, where: str, row: int) -> str:
        """Return the episode and round of a row in words."""
        ends = np.cumsum(self.lengths)
        n = int(np.searchsorted(ends, row, side="right"))
        return f"{where}[{n}, {row - int(ends[n] - self.lengths[n])}]"

    def _rows(self, where: str, values: Any) -> Shaped[np.ndarray, "R ..."]:
        """Return one value a row, episode by episode."""
        N = len(self.lengths)
        if not has_length(values) or len(values) != N:
            has = f"{len(values)} episodes" if has_length(values) else one_line(repr(values))
            raise ValueError(f"{where} has {has}, but actions has {N} episodes.")
        if is_plain_array(values):
            array = np.asarray(values)
            if array.ndim not in (2, 3) or (array.ndim == 3 and array.dtype.kind not in "fiu"):
                raise ValueError(f"{where} must be [N, T], or numbers [N, T, d], not {array.dtype} {array.shape}.")
            self._check_lengths(where, np.full(N, array.shape[1]))
            exists = np.arange(array.shape[1]) < self.lengths[:, None]
            return array[exists] if self.is_padded else array.reshape(-1, *array.shape[2:])
        for n, episode in enumerate(values):
            if not has_length(episode):
                raise ValueError(f"{where}[{n}] is {one_line(repr(episode))}, not the list of an episode.")
        self._check_lengths(where, np.array([len(x) for x in values]))
        rows = [x[:length] for x, length in zip(values, self.lengths.tolist(), strict=True)]
        if all(map(is_plain_array, rows)) and len({(x.dtype.kind, x.shape[1:]) for x in rows}) == 1:
            return np.concatenate(rows)
        return plain_array(list(itertools.chain.from_iterable(rows)), lambda row: self._place(where, row))

    def _check_lengths(self, where: str, found: Int[np.ndarray, " N"]) -> None:
        wrong = found < self.lengths if self.is_padded else found != self.lengths
        if wrong.any():
            n = int(np.argmax(wrong))
            raise ValueError(f"{where}[{n}] has {found[n]} rounds, but actions[{n}] has {self.lengths[n]}.")

    def _one_each(self, where: str, values: Any) -> Shaped[np.ndarray, "N ..."]:
        N = len(self.lengths)
        if not has_length(values) or len(values) != N:
            has = f"{len(values)} values" if has_length(values) else one_line(repr(values))
            raise ValueError(f"{where} has {has}, but actions has {N} episodes.")
        return np.asarray(values) if is_plain_array(values) else plain_array(list(values), lambda n: f"{where}[{n}]")
