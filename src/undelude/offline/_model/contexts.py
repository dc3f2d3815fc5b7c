"""Declared memory: the past values on which a mechanism may depend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from undelude._checks import check_count
from undelude.offline._data.columns import Column
from undelude.offline._data.demos import Demos

# What a process remembers of a field: its last values, the most recent first.
Recent = dict[str, Array]


@dataclass(frozen=True)
class Last:
    """The value of a field some rounds ago.

    The opening counts as the round before the first. Where there is no such round, a finite field has one level more,
    "before the start".

    Attributes:
        name: of the field; `"action"` is the action.
        lag: how many rounds ago.
    """

    name: str
    lag: int = 1

    def __post_init__(self) -> None:
        check_count("Last: lag", self.lag)


@dataclass(frozen=True, init=False)
class Round:
    """The part of an episode that a round lies in: part i ends before round `edges[i]`, counted from 0.

    Attributes:
        edges: increasing.
    """

    edges: tuple[int, ...]

    def __init__(self, *edges: int):
        counts = tuple(check_count("Round: an edge", edge) for edge in edges)
        if not counts or list(counts) != sorted(set(counts)):
            raise ValueError(f"Round: the edges must increase, as in Round(5, 10), not {list(edges)}.")
        object.__setattr__(self, "edges", counts)


Given = str | Last | Round


def as_given(kind: str, given: Given | Sequence[Given]) -> tuple[Given, ...]:
    """Return `given=` as a tuple, whose entries are names, `Last` or `Round`."""
    entries = (given,) if isinstance(given, str | Last | Round) else tuple(given)
    for entry in entries:
        if not isinstance(entry, str | Last | Round):
            raise TypeError(f'{kind}: given= takes names, Last("name") and Round(10), not {entry!r:.99}.')
    if len(set(entries)) < len(entries):
        raise ValueError(f"{kind}: given= names a context twice: {list(entries)}.")
    return entries


@dataclass(frozen=True)
class Context:
    """One entry of `given=`, resolved against the fields of the data.

    Attributes:
        given: as it was declared; `"action"` for the action.
        size: the number of its levels; None if the field is real.
        levels: names of the levels, for pages.
        starts: whether the last level is "before the start".
        first: of a real past value, the first round in which there is one; it is 0 before.
        start: of a real past value that is known, its value before the first round.
        width: of a real field, the number of its dimensions.
    """

    given: Given
    size: int | None
    levels: tuple[str, ...]
    starts: bool = False
    first: int = 0
    start: tuple[float, ...] | None = None
    width: int = 0

    @property
    def label(self) -> str:
        """Return the name of the context, for pages."""
        match self.given:
            case Last(name, 1):
                return f"last {name}"
            case Last(name, lag):
                return f"{name} {lag} rounds ago"
            case Round():
                return "part of the episode"
            case name:
                return name

    def codes(self, demos: Demos) -> np.ndarray:
        """Return the level of the context in each round, `[N, T]`; the values `[N, T, d]` of a real field."""
        shape = (demos.num_episodes, demos.num_rounds)
        match self.given:
            case Round(edges):
                return np.broadcast_to(np.searchsorted(edges, np.arange(shape[1]), side="right"), shape)
            case Last(name, lag):
                values = column(demos, name).values
                past = np.zeros_like(values)
                if self.size is not None:
                    past = np.full(shape, self.size - 1 if self.starts else 0, np.int32)
                elif self.start is not None:
                    past[:] = np.asarray(self.start, past.dtype)
                past[:, lag:] = values[:, : max(shape[1] - lag, 0)]
                if name in demos.opening and lag <= shape[1]:
                    past[:, lag - 1] = demos.opening[name].values
                return past
            case "demonstrator":
                return np.broadcast_to(demos.demonstrator.values[:, None], shape)  # type: ignore[union-attr]
            case name:
                return column(demos, name).values

    def read(self, recent: Recent, round: Int[Array, ""], now: dict[str, Any]) -> Any:
        """Return the level of the context while an episode is played.

        Args:
            recent: the last values of each field that a mechanism remembers.
            round: the number of this round, from 0.
            now: the values of this round that are known.
        """
        match self.given:
            case Round(edges):
                return (round >= jnp.asarray(edges)).sum()
            case Last(name, lag):
                return recent[name][lag - 1]
            case name:
                return now[name]


def column(demos: Demos, name: str) -> Column:
    """Return the column of a field; `"action"` is the action."""
    if name == "action":
        return demos.action
    return (demos.observations | demos.hidden)[name]
