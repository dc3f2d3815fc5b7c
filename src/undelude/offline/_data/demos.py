"""Demonstrations: what the logs have of each episode, as arrays."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int, Key

from undelude._checks import check_between
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._versions import installing
from undelude.offline._data.arrays import read_arrays
from undelude.offline._data.columns import Column, Level
from undelude.offline._data.joining import join
from undelude.offline._data.roles import Roles
from undelude.offline._data.rollouts import read_episodes
from undelude.offline._data.summary import summarise


@dataclasses.dataclass(frozen=True, eq=False)
class Demos:
    """Logs of demonstrators: N episodes of at most T rounds, one action and what came back in each.

    The constructors `from_arrays`, `from_frame`, `from_parquet`, `from_csv`, `from_minari` and `from_episodes` make the
    same checks.

    Attributes:
        action: `[N, T]`, as executed; its name is "action".
        observations: `[N, T]` each, what came back in the round, and the agent will see it too; in order.
        hidden: `[N, T]` each, in the logs, but the agent will not see it, such as a reward that it is not told.
        opening: `[N]` each, the values of some of the observations before the first action.
        lengths: `[N]`, rounds of each episode.
        labels: `[N]`, the index of theta, or -1 if it is not known.
        demonstrator: `[N]`, who acted; None if it is not known, or one.
        source: of the data, for messages.
        intervened: `[N, T]`, whether the action was an intervention, do(a), by the agent or another who does not know
            theta; false for the demonstrators' own actions. None, which becomes an array, for no intervention.
        notes: what the reader of the data could not know, one sentence each; `summary` has them too.
    """

    action: Column
    observations: dict[str, Column]
    hidden: dict[str, Column]
    opening: dict[str, Column]
    lengths: Int[np.ndarray, " N"]
    labels: Int[np.ndarray, " N"]
    demonstrator: Column | None
    source: str
    intervened: Bool[np.ndarray, "N T"] = None  # type: ignore[assignment]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        N, T = self.action.values.shape[:2]
        long = {"action": self.action, **self.observations, **self.hidden}
        per_episode = {f"opening {name}": column for name, column in self.opening.items()}
        if self.demonstrator is not None:
            per_episode["demonstrator"] = self.demonstrator
        for columns, lead in ((long, (N, T)), (per_episode, (N,))):
            for name, column in columns.items():
                shape = column.values.shape if column.finite else column.values.shape[:-1]
                if shape != lead:
                    raise ValueError(f"column {name!r} has the shape {shape}, not {lead}, that of its neighbours.")
        for name, x in (("lengths", self.lengths), ("labels", self.labels)):
            if x.shape != (N,):
                raise ValueError(f"{name} has the shape {x.shape}, not {(N,)}: one number for each episode.")
        marks = np.zeros((N, T), bool) if self.intervened is None else np.asarray(self.intervened)
        if marks.dtype != bool or marks.shape != (N, T):
            raise ValueError(f"intervened must be truth values of the shape {(N, T)}, not {marks.dtype} {marks.shape}.")
        object.__setattr__(self, "intervened", marks)

    @classmethod
    def from_arrays(
        cls,
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
        levels: Mapping[str, Iterable[Level]] | None = None,
    ) -> "Demos":
        """Return demonstrations from arrays `[N, T]`, or from lists of episodes of different lengths.

        Integers, truth values and strings are codes of levels. So are decimal numbers with at most 64 distinct values
        that are whole or that occur twice on average; other decimal numbers are real.

        Args:
            actions: `[N, T]`, or `[N, T, d]` real vectors, or a list with one list of actions for each episode.
            observations: likewise; a mapping from names if there are several. One array gets the name "observation".
            hidden: names and values that the agent will not see.
            opening: values `[N]` before the first action, by the names of observations; one array for one observation.
            lengths: `[N]`, rounds of each episode in padded arrays.
            mask: `[N, T]`, in place of `lengths`: whether a round exists.
            labels: `[N]`, the index of theta, or -1 if it is not known.
            demonstrator: `[N]`, who acted.
            intervened: whether an action was an intervention, do(a), of somebody who does not know theta: `[N, T]`
                truth values or a list for each episode, or one for all rounds.
            reals: names of columns of numbers that are real in any case.
            levels: all levels of a column, by its name, in order; the actions have the name "action".

        Raises:
            ValueError: data are missing, empty or do not fit together; the message names the place.

        >>> demos = Demos.from_arrays([["left", "right"], ["right"]], [[0, 1], [1]])
        >>> demos
        Demos(2 episodes, 3 rounds, from arrays)
        >>> demos.action.levels
        ('left', 'right')
        """
        return cls(
            **read_arrays(
                actions,
                observations,
                hidden=hidden,
                opening=opening,
                lengths=lengths,
                mask=mask,
                labels=labels,
                demonstrator=demonstrator,
                intervened=intervened,
                reals=reals,
                levels=levels,
            )
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        episode: str,
        action: str,
        observation: str | Sequence[str],
        hidden: str | Sequence[str] = (),
        opening: str | Sequence[str] | Mapping[str, str] = (),
        time: str | None = None,
        label: str | None = None,
        demonstrator: str | None = None,
        intervened: str | None = None,
        reals: str | Sequence[str] = (),
        levels: Mapping[str, Iterable[Level]] | None = None,
    ) -> "Demos":
        """Return demonstrations from a data frame with one row for each round.

        Whole numbers, truth values and strings are codes of levels; decimal numbers as in `from_arrays`. Messages count
        rows from 0.

        Args:
            frame: of pandas, Polars or PyArrow, or a dictionary of columns.
            episode: the column that tells episodes apart.
            action: the column of actions.
            observation: columns with what came back after the action of the row, and the agent will see it too.
            hidden: columns that the agent will not see.
            opening: names of observations that are recorded *before* the action of their row, such as the state of a
                Markov decision process. The first row has the opening, and the row after an action has what came back.
                The last row of an episode then only ends the round before it; the rest of it is not used, and may be
                missing. For an opening in a column of its own, with one value an episode, a mapping from the name of
                the observation to that column.
            time: the column that orders the rows of an episode; by default they are in order, in one file. A note of
                the summary names an episode with rows of others in between.
            label: the column with the index of theta, one value an episode; null or -1 if it is not known.
            demonstrator: the column with who acted, one value an episode.
            intervened: the column that says whether the action of the row was an intervention, do(a), of somebody who
                does not know theta: truth values, or 0 and 1.
            reals: columns of numbers that are real in any case.
            levels: all levels of a column, by its name, in order; by default those that occur, in ascending order.

        Raises:
            ModuleNotFoundError: PyArrow is not installed.
            TypeError: `frame` is not a table.
            ValueError: columns or values are missing, or do not fit together; the message names the row.

        >>> frame = {"user": [7, 7, 8, 8], "shown": ["a", "b", "b", "b"], "clicked": [True, False, False, True]}
        >>> demos = Demos.from_frame(frame, episode="user", action="shown", observation="clicked")
        >>> print(demos.summary())
        2 episodes of 2 rounds from a data frame: 4 rounds
          action: 2 levels, 'b' 75 %, 'a' 25 %
          clicked: 2 levels, False 50 %, True 50 %
        """
        roles = Roles.of(
            episode=episode,
            action=action,
            observation=observation,
            hidden=hidden,
            opening=opening,
            time=time,
            label=label,
            demonstrator=demonstrator,
            intervened=intervened,
            reals=reals,
            levels=levels,
        )
        return cls(**_frames("from_frame").read_frame(frame, roles))

    @classmethod
    def from_parquet(cls, files: str | Path | Sequence[str | Path], **columns: Any) -> "Demos":
        """Return demonstrations from Parquet files with one row for each round, read in pieces.

        Args:
            files: a file, a pattern such as "logs/*.parquet", a folder, or a list of them. Files of a pattern or a
                folder are read in the order of their names.
            **columns: the arguments of `from_frame`. Rows of one episode may be in several files only with `time`.

        Raises:
            ModuleNotFoundError: PyArrow is not installed.
            FileNotFoundError: there is no such file.
            ValueError: a file is damaged, or as in `from_frame`; the message names the file and the row.
        """
        return cls(**_frames("from_parquet").read_files(files, Roles.named("from_parquet", columns), "parquet"))

    @classmethod
    def from_csv(cls, files: str | Path | Sequence[str | Path], **columns: Any) -> "Demos":
        """Return demonstrations from CSV files with a header and one row for each round; empty fields are missing.

        Columns are separated by commas, or by tabs if the header has tabs and no comma. Messages name the line of the
        file, counted from 1.

        Args:
            files: as in `from_parquet`; they may be compressed.
            **columns: the arguments of `from_frame`.

        Raises:
            ModuleNotFoundError: PyArrow is not installed.
            FileNotFoundError: there is no such file.
            ValueError: a file cannot be read as CSV, or as in `from_frame`; the message names the file and the line.
        """
        return cls(**_frames("from_csv").read_files(files, Roles.named("from_csv", columns), "csv"))

    @classmethod
    def from_minari(
        cls,
        dataset: Any,
        *,
        reward_observed: bool,
        encode: Callable[[Any], Mapping[str, Any]] | None = None,
        labels: Any = None,
        demonstrator: Any = None,
        reals: Sequence[str] = (),
        levels: Mapping[str, Iterable[Level]] | None = None,
    ) -> "Demos":
        """Return demonstrations from a data set of Minari.

        The first observation of an episode is the opening; what comes back in a round is the next observation and the
        reward. The parts of a dictionary have its names, those of a tuple "observation_0" and so on.

        Args:
            dataset: of Minari, or the name of one.
            reward_observed: whether the agent will see the reward. If not, it is in `hidden`, and no evidence.
            encode: the columns of the observations of one episode, a dictionary of arrays `[T + 1, ...]`; by default
                symbols for a Discrete space, real vectors for a Box.
            labels: `[N]`, the index of theta, or -1 if it is not known.
            demonstrator: `[N]`, who acted.
            reals: names of columns of numbers that are real in any case.
            levels: all levels of a column, by its name, in order; by default those of a Discrete space, or those that
                occur.

        Raises:
            ModuleNotFoundError: Minari is not installed.
            TypeError: `dataset` is not a data set of Minari, or `reward_observed` is not a truth value.
            ValueError: actions are neither Discrete nor Box, or as in `from_arrays`.
        """
        try:
            from undelude.offline._data.from_minari import read_minari
        except ModuleNotFoundError as error:
            raise _needs("from_minari", error, "pip install minari") from error
        options = {"encode": encode, "labels": labels, "demonstrator": demonstrator, "reals": reals, "levels": levels}
        return cls(**read_minari(dataset, reward_observed=reward_observed, **options))

    @classmethod
    def from_episodes(
        cls,
        episodes: Episodes,
        process: InteractionProcess | None = None,
        *,
        keep_theta: bool = False,
        intervened: bool | None = None,
    ) -> "Demos":
        """Return demonstrations from rollouts of a process, without theta.

        Args:
            episodes: as `ud.rollout` returns them.
            process: their process, whose symbols are the levels; by default those that occur.
            keep_theta: whether the index of theta becomes the label.
            intervened: whether the actions were interventions; by default those that the agent executed, whatever it
                read them as. False makes the executor, expert or agent, the demonstrator.

        Raises:
            ValueError: theta is to be kept, but is not one index an episode.
        """
        return cls(**read_episodes(episodes, process, keep_theta=keep_theta, intervened=intervened))

    @classmethod
    def concat(cls, *parts: "Demos") -> "Demos":
        """Return the episodes of several demonstrations, one after the other, such as old logs and own experiments.

        Levels are those of the first part, then the new ones of the others, in order.

        Args:
            *parts: with the same columns. A part in which every action was an intervention needs no demonstrator.

        Raises:
            ValueError: the parts have different columns, or one is finite in one part and real in another.

        >>> logs = Demos.from_arrays([[0, 1], [1, 1]], [[0, 1], [1, 1]])
        >>> own = Demos.from_arrays([[0], [0]], [[1], [0]], intervened=True)
        >>> Demos.concat(logs, own)
        Demos(4 episodes, 6 rounds, 2 of them interventions, from arrays)
        """
        return cls(**join(parts))

    @property
    def num_episodes(self) -> int:
        """N."""
        return len(self.lengths)

    @property
    def num_rounds(self) -> int:
        """T, the rounds of the longest episode; a `subset` keeps the T of the whole."""
        return self.action.values.shape[1]

    @property
    def num_steps(self) -> int:
        """The number of rounds of all episodes together."""
        return int(self.lengths.sum())

    @property
    def mask(self) -> Bool[np.ndarray, "N T"]:
        """Whether a round exists, `[N, T]`."""
        return np.arange(self.num_rounds) < self.lengths[:, None]

    @property
    def demonstrated(self) -> Bool[np.ndarray, "N T"]:
        """Whether a round exists and its action is the demonstrator's, `[N, T]`."""
        return self.mask & ~self.intervened

    @property
    def has_interventions(self) -> bool:
        """Whether the action of some round was an intervention."""
        return bool((self.intervened & self.mask).any())

    def without_interventions(self) -> "Demos":
        """Return the episodes in which the demonstrators took every action."""
        return self.subset((self.demonstrated == self.mask).all(-1))

    def subset(self, indices: Any) -> "Demos":
        """Return the episodes `indices`, whole numbers or a mask `[N]`, with the same T and the same levels.

        Raises:
            IndexError: there is no such episode.
        """
        indices = np.arange(self.num_episodes)[np.asarray(indices)].reshape(-1)

        def take(columns: dict[str, Column]) -> dict[str, Column]:
            return {name: column.subset(indices) for name, column in columns.items()}

        return Demos(
            action=self.action.subset(indices),
            observations=take(self.observations),
            hidden=take(self.hidden),
            opening=take(self.opening),
            lengths=self.lengths[indices],
            labels=self.labels[indices],
            demonstrator=None if self.demonstrator is None else self.demonstrator.subset(indices),
            source=self.source,
            intervened=self.intervened[indices],
            notes=self.notes,
        )

    def split(
        self, held_out: float, *, key: Key[jax.Array, ""] | None = None, seed: int = 0
    ) -> tuple["Demos", "Demos"]:
        """Return two parts of the episodes, drawn at random: the rest, and a share to hold out.

        Args:
            held_out: share of the episodes in the second part, at least one in each part.
            key: of the draw.
            seed: of the draw, in place of a key.

        Raises:
            ValueError: there are fewer than two episodes, or the share is not between 0 and 1.
        """
        share = check_between("held_out", held_out, 0, 1, ends=False)
        if self.num_episodes < 2:
            raise ValueError(f"{self.source}: one episode cannot be split; at least two are needed.")
        entropy = [seed] if key is None else np.asarray(jax.random.key_data(key)).ravel().tolist()
        order = np.random.default_rng(entropy).permutation(self.num_episodes)
        cut = min(max(round(share * self.num_episodes), 1), self.num_episodes - 1)
        return self.subset(np.sort(order[cut:])), self.subset(np.sort(order[:cut]))

    def digest(self) -> str:
        """Return 16 hexadecimal digits that depend on the contents alone, not on their source or their padding."""
        total = hashlib.sha256()
        mask = self.mask
        groups = {"observations": self.observations, "hidden": self.hidden, "opening": self.opening}
        groups |= {"action": {"action": self.action}}
        groups |= {"demonstrator": {} if self.demonstrator is None else {"demonstrator": self.demonstrator}}
        for group, columns in groups.items():
            for name, column in columns.items():
                total.update(repr((group, name, column.levels)).encode())
                per_round = group not in ("opening", "demonstrator")
                total.update((column.values[mask] if per_round else column.values).tobytes())
        total.update(self.lengths.astype(np.int32).tobytes())
        total.update(self.labels.astype(np.int32).tobytes())
        if self.has_interventions:  # Without any, the digest is that of versions that knew none.
            total.update(self.intervened[mask].tobytes())
        return total.hexdigest()[:16]

    def summary(self) -> str:
        """Return the counts, the levels of each column with their shares, and what stands out in the data."""
        return summarise(self)

    def __repr__(self) -> str:
        done = int((self.intervened & self.mask).sum())
        own = f", {done:,} of them interventions" if done else ""
        return f"Demos({self.num_episodes:,} episodes, {self.num_steps:,} rounds{own}, from {self.source})"


def _frames(constructor: str) -> Any:
    """Return the module that reads tables, which needs PyArrow."""
    try:
        from undelude.offline._data import frames
    except ModuleNotFoundError as error:
        raise _needs(constructor, error, installing("offline")) from error
    return frames


def _needs(constructor: str, error: ModuleNotFoundError, remedy: str) -> ModuleNotFoundError:
    """Return the error that a constructor needs a package, or `error` itself if a module of ours is missing."""
    if (error.name or "undelude").startswith("undelude"):
        return error
    return ModuleNotFoundError(f"Demos.{constructor} needs {error.name}: {remedy}.", name=error.name)
