"""The history of one episode with its marks: what the inspector reads, edits, saves and shares."""

import dataclasses
import sys
from collections.abc import Collection, Mapping
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from undelude._checks import check_count
from undelude._inspector.limits import MAX_ROUNDS
from undelude._types import Mark

# The name and version of the file format.
FORMAT = "undelude-episode-1"
# The fields of an episode in a file, those of its rounds, and those that only rounds of a recording need.
FIELDS = ("format", "task", "process", "seed", "theta", "opening", "rounds")
ROUND_FIELDS = ("action", "mark", "by", "observation", "expert_action")
PAID_FIELDS = ("reward", "ended")
Executor: TypeAlias = Literal["agent", "expert"]


@dataclasses.dataclass(frozen=True)
class Round:
    """One round. Symbols are indices of their alphabets; in a recording of a simulator, they are the values.

    Attributes:
        action: `a_t`.
        mark: how the action is read: as an intervention (do) or as evidence (see).
        by: its executor.
        observation: `o_t`; None if it is still open, in the last round only.
        expert_action: what the expert would have done, if it was asked (a counterfactual label).
        reward: of a round of a recording; None otherwise, since the process knows it.
        ended: whether the episode of a recording ended with this round.
    """

    action: Any
    mark: Mark
    by: Executor = "agent"
    observation: Any = None
    expert_action: Any = None
    reward: float | None = None
    ended: bool = False


@dataclasses.dataclass(frozen=True)
class History:
    """An episode up to now; each method returns another history.

    Attributes:
        theta: the index of the true theta; if theta changes, before each round and after the last observation.
        rounds: the rounds so far.
        opening: the index of `O_0`, in a recording its value; or None.
        seed: of the random choices that follow.
    """

    theta: tuple[int, ...]
    rounds: tuple[Round, ...] = ()
    opening: Any = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.rounds)

    @property
    def num_observations(self) -> int:
        """The number of rounds whose observation is known."""
        return sum(r.observation is not None for r in self.rounds)

    def flip(self, t: int) -> "History":
        """Return the history with the mark of round `t`, counted from 0, changed from do to see or back."""
        return self.edit(t, mark="see" if self._at(t).mark == "do" else "do")

    def mark_all(self, mark: Mark) -> "History":
        """Return the history with all actions marked alike."""
        return dataclasses.replace(self, rounds=tuple(dataclasses.replace(r, mark=mark) for r in self.rounds))

    def edit(self, t: int, **changes: Any) -> "History":
        """Return the history with fields of round `t` changed; the other rounds stay as they are."""
        rounds = list(self.rounds)
        rounds[t] = dataclasses.replace(self._at(t), **changes)
        return dataclasses.replace(self, rounds=tuple(rounds))

    def truncate(self, num_rounds: int) -> "History":
        """Return the first rounds."""
        kept = dataclasses.replace(self, rounds=self.rounds[:num_rounds])
        theta = self.theta if len(self.theta) == 1 else self.theta[: kept.num_observations + 1]
        return dataclasses.replace(kept, theta=theta)

    def _at(self, t: int) -> Round:
        if not 0 <= t < len(self.rounds):
            raise IndexError(f"there is no round {t}: the history has {len(self.rounds)}, counted from 0.")
        return self.rounds[t]


# JSON -----------------------------------------------------------------------------------------------------------------


@runtime_checkable
class AbstractValues(Protocol):
    """The values of an action or an observation, in files: an `Alphabet`, or the `Values` of a recording."""

    def index(self, value: Any, what: str) -> Any:
        """Return what a history holds for a value of a file; raise `ValueError`, which begins with `what`."""
        ...

    def value(self, i: Any) -> Any:
        """Return the value, for JSON, of what a history holds."""
        ...


def to_json(
    history: History,
    actions: AbstractValues,
    observations: AbstractValues,
    *,
    task: str | None,
    process: str,
    theta_changes: bool,
) -> dict[str, Any]:
    """Return a history for a file: symbols as the process has them.

    Args:
        history: the history.
        actions: their alphabet.
        observations: their alphabet.
        task: the name under which the task can be made again; None if it has none.
        process: the digest of the process.
        theta_changes: whether theta is a path.
    """

    def value(alphabet: AbstractValues, i: Any) -> Any:
        return None if i is None else alphabet.value(i)

    return {
        "format": FORMAT,
        "task": task,
        "process": process,
        "seed": history.seed,
        "theta": list(history.theta) if theta_changes else history.theta[0],
        "opening": value(observations, history.opening),
        "rounds": [
            {
                "action": value(actions, r.action),
                "mark": r.mark,
                "by": r.by,
                "observation": value(observations, r.observation),
                "expert_action": value(actions, r.expert_action),
                **({} if r.reward is None else {"reward": r.reward, "ended": r.ended}),
            }
            for r in history.rounds
        ],
    }


def from_json(
    data: Mapping[str, Any],
    actions: AbstractValues,
    observations: AbstractValues,
    *,
    task: str | None,
    process: str,
    num_thetas: int,
    has_opening: bool,
    theta_changes: bool,
) -> History:
    """Check a stored history.

    Args:
        data: as `to_json` returns it.
        actions: their alphabet.
        observations: their alphabet.
        task: the name of the task that is inspected; None if it has none.
        process: the digest of its process.
        num_thetas: K.
        has_opening: whether the process opens with an observation.
        theta_changes: whether theta is a path.

    Returns:
        The history; its rounds have the rewards and ends that the file gives, which the caller checks.

    Raises:
        ValueError: an entry is missing or wrong; the message names it.
    """
    check_format(data)
    _check_source(data, task, process)
    _check_fields("", data, FIELDS)
    rows = data["rounds"]
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("rounds must be a list of objects.")
    for i, row in enumerate(rows):
        _check_fields(f"rounds[{i}].", row, ROUND_FIELDS, PAID_FIELDS)
    rounds = tuple(_round(row, i, actions, observations) for i, row in enumerate(rows))
    if any(r.observation is None for r in rounds[:-1]):
        raise ValueError("only the last round may lack its observation.")
    theta = data["theta"]
    path = [x for x in (theta if isinstance(theta, list) else [theta]) if type(x) is int and 0 <= x < num_thetas]
    if len(path) != (len(theta) if isinstance(theta, list) else 1):
        raise ValueError(f"theta must be an index from 0 to {num_thetas - 1}, not {theta!r:.99}.")
    num_observations = sum(r.observation is not None for r in rounds)
    if isinstance(theta, list) != theta_changes or len(path) != (num_observations + 1 if theta_changes else 1):
        needed = (
            f"{num_observations + 1} indices, before each round and after the last" if theta_changes else "one index"
        )
        raise ValueError(f"theta must be {needed}, not {theta!r:.99}.")
    seed = data["seed"]
    if not (type(seed) is int and 0 <= seed < 2**32):
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, not {seed!r:.99}.")
    opening = data["opening"]
    if (opening is not None) != has_opening:
        raise ValueError(f"opening must be {'the first observation' if has_opening else 'null'}, not {opening!r:.99}.")
    first = None if opening is None else observations.index(opening, "opening")
    return History(tuple(path), rounds, first, seed)


def checked_rounds(given: int | None, own: int, name: str) -> int:
    """Return the most rounds of a history: as given, or else the process's own.

    Args:
        given: `num_rounds`, if it was given.
        own: rounds of the process.
        name: of the process.

    Raises:
        ValueError: there are more than `MAX_ROUNDS`, or less than one.
    """
    num_rounds = check_count("num_rounds", own if given is None else given)
    if num_rounds > MAX_ROUNDS:
        found = f"{name} has {num_rounds} rounds" if given is None else f"num_rounds is {num_rounds}"
        raise ValueError(
            f"{found}, and the page shows {MAX_ROUNDS} at most: give num_rounds={MAX_ROUNDS} or less (--num-rounds)."
        )
    return num_rounds


def check_length(history: History, num_rounds: int) -> None:
    """Raise `ValueError` if a history has more rounds than an inspection was made for."""
    if (n := len(history)) > num_rounds:
        raise ValueError(
            f"the episode has {n} rounds, and this page takes {num_rounds} at most: start undelude inspect with "
            f"--num-rounds {n}, or ud.inspect with num_rounds={n}."
        )


def check_format(data: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless the data say that they are an episode of this format."""
    if data.get("format") != FORMAT:
        raise ValueError(f'format must be "{FORMAT}", not {data.get("format")!r:.99}: this is not an episode.')


def _check_fields(where: str, found: Mapping[str, Any], needed: Collection[str], more: Collection[str] = ()) -> None:
    """Raise `ValueError` if a field is missing or unknown, so that none is dropped or made up in silence."""
    known = (*needed, *more)
    if unknown := found.keys() - known:
        raise ValueError(f"{where}{min(unknown)} is not a field of an episode; its fields are {', '.join(known)}.")
    for name in needed:
        if name not in found:
            raise ValueError(f"{where}{name} is missing; the fields needed are {', '.join(needed)}.")


def _check_source(data: Mapping[str, Any], task: str | None, process: str) -> None:
    """Raise `ValueError` if an episode names another task or another process; it may name none."""
    named, digest = data.get("task"), data.get("process")
    for name, value in (("task", named), ("process", digest)):
        if not isinstance(value, str | None):
            raise ValueError(f"{name} must be a text or null, not {value!r:.99}.")
    if named is not None and task is not None and named != task:
        raise ValueError(f"this is an episode of {named:.99}, and the task inspected here is {task}.")
    if digest is not None and digest != process:
        raise ValueError(
            f"process is {digest:.99}, and that of the task inspected here is {process}: the episode was played in "
            "another process. Make the process with the same arguments as then, or set process to null in the file to "
            "read the episode in this one."
        )


def _round(row: Mapping[str, Any], i: int, actions: AbstractValues, observations: AbstractValues) -> Round:
    where = f"rounds[{i}]"
    for name, allowed in (("mark", ("do", "see")), ("by", ("agent", "expert"))):
        if not isinstance(row[name], str) or row[name] not in allowed:
            raise ValueError(f'{where}.{name} must be "{allowed[0]}" or "{allowed[1]}", not {row[name]!r:.99}.')
    o, label = row["observation"], row["expert_action"]
    return Round(
        actions.index(row["action"], f"{where}.action"),
        row["mark"],
        row["by"],
        None if o is None else observations.index(o, f"{where}.observation"),
        None if label is None else actions.index(label, f"{where}.expert_action"),
        *_paid(row, where),
    )


def _paid(row: Mapping[str, Any], where: str) -> tuple[float | None, bool]:
    """Return the reward of a round, None without one, and whether the round ended the episode."""
    if row["observation"] is None and (early := [name for name in PAID_FIELDS if name in row]):
        raise ValueError(f"{where}.{early[0]} comes before its observation, which is null: leave it out.")
    reward, ended = row.get("reward", 0.0), row.get("ended", False)
    # False for infinities, NaN, and whole numbers that are too large for a float.
    if type(reward) not in (int, float) or not abs(reward) <= sys.float_info.max:
        raise ValueError(f"{where}.reward must be a number, not {reward!r:.99}.")
    if type(ended) is not bool:
        raise ValueError(f"{where}.ended must be true or false, not {ended!r:.99}.")
    return float(reward) if "reward" in row else None, ended
