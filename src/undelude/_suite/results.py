"""`undelude-suite-1`: the results of one agent on the tasks of the suite, as a file."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

from undelude._certificate.baselines import BASELINES
from undelude._certificate.certificate import QUANTITIES
from undelude._certificate.quantity import Quantity
from undelude._certificate.verdict import WORDS, Kind, judge
from undelude._files import plain, read_json, write_atomically
from undelude._runs.certificate_file import check_quantity, to_float
from undelude._runs.config import Recipe
from undelude._versioned_tasks import SUITE, VersionedTask

SCHEMA = "undelude-suite-1"
# The distance in the worst round; the other scores are those of a certificate without its baselines.
WORST = "action_kl_do_worst_round"
SCORES = (*(name for name in QUANTITIES if name not in BASELINES), WORST)
Status: TypeAlias = Literal["played", "not played", "not run"]
STATUSES: tuple[Status, ...] = ("played", "not played", "not run")
VERDICTS: tuple[Kind, ...] = tuple(WORDS)
# Largest size of a result file, bytes.
MAX_BYTES = 2**22


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """One agent on one task.

    Attributes:
        status: "played"; "not played", if the agent declines the task; "not run", if the task cannot be made here, or
            the agent was not taught on it.
        why: why it was not played or run; None if it was played.
        definition: the digest of the task's definition.
        num_episodes: B; None unless played, as all that follows.
        num_rounds: T.
        own_actions: how the agent read its own actions.
        verdict: of the certificate.
        worst_round: the round of `action_kl_do_worst_round`, counted from 1.
        seconds: that measuring took.
        scores: the quantities of the certificate by name, and that of the worst round.
        notes: of the certificate.
        measured: a digest of the agent that was measured: of the source file of the user's module, or of the stored
            agent of a run. None if nothing is known of it, and for an exact agent.
        recipe: the options by which a run was taught, as `undelude._runs.config.recipe` says; None for other agents.
    """

    status: Status
    why: str | None
    definition: str
    num_episodes: int | None = None
    num_rounds: int | None = None
    own_actions: str | None = None
    verdict: Kind | None = None
    worst_round: int | None = None
    seconds: float | None = None
    scores: Mapping[str, Quantity] = dataclasses.field(default_factory=dict)
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    measured: str | None = None
    recipe: Recipe | None = None

    def is_trial(self, task: VersionedTask) -> bool:
        """Return whether the task was played on another number of episodes than its own."""
        return self.status == "played" and self.num_episodes != task.num_episodes

    def score(self, name: str) -> Quantity:
        """Return a score; missing, if the task was not played."""
        return self.scores.get(name, Quantity(why_none=self.why or "not measured."))


@dataclasses.dataclass(frozen=True)
class Result:
    """One agent, of one training seed, on the tasks of the suite.

    Attributes:
        agent: its name in tables. Results of the same name are training seeds of one agent.
        source: what was run: `exact:do`, a folder, `package.module:agent`, or `served:NAME` with its settings.
        seed: of its training; None if it was not trained.
        about: a sentence on the agent and its training, by whoever submits it.
        date: of the day on which the last task was measured, `2026-01-31`.
        versions: of undelude and the libraries in use.
        tasks: the result on each task, by id.
    """

    agent: str
    source: str
    seed: int | None
    about: str
    date: str
    versions: Mapping[str, str]
    tasks: Mapping[str, TaskResult]

    @property
    def is_trial(self) -> bool:
        """Whether a task was played on another number of episodes than its own."""
        return any(found.is_trial(SUITE[name]) for name, found in self.tasks.items())


def write_result(file: Path, result: Result) -> None:
    """Write a result file."""
    data = plain({"schema": SCHEMA, **dataclasses.asdict(result)})
    for task in data["tasks"].values():
        task["scores"] = {name: _score_entry(score) for name, score in task["scores"].items()}
        for name in OPTIONAL:
            if task[name] is None:
                del task[name]
    write_atomically(file, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def _score_entry(score: dict[str, Any]) -> dict[str, Any]:
    return {"value": score["value"], "se": score["standard_error"]} | (
        {"why": score["why_none"]} if score["value"] is None else {}
    )


def read_result(file: Path) -> Result:
    """Read and check a result file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or not of this schema; the message names the file and the field.
    """
    data = read_json(file, most=MAX_BYTES, remedy="Write it again with undelude suite run.")
    try:
        return parse_result(data)
    except ValueError as error:
        raise ValueError(f"{file} is not a result of {SCHEMA}: {error}.") from error


def parse_result(data: Any) -> Result:
    """Return the result in a JSON object.

    Raises:
        ValueError: it does not have the schema; the message begins with the field, such as
            `tasks.undelude/bandit-v1.scores.reward.se`.
    """
    if isinstance(data, dict) and data.get("schema") != SCHEMA:
        raise ValueError(f"schema must be {SCHEMA!r}, not {data.get('schema')!r:.99}")
    _check_fields("", data, {"schema": _any, **RESULT})
    tasks, is_judged_here = {}, data["versions"].get("undelude") == version("undelude")
    for name, entry in data["tasks"].items():
        where = f"tasks.{name}"
        if name not in SUITE:
            raise ValueError(f"{where} is not a task of this version of the suite, which has {', '.join(SUITE)}")
        _check_fields(where, entry, TASK, optional=OPTIONAL)
        _check_status(where, entry)
        scores = {}
        for score, found in entry["scores"].items():
            _check_score(f"{where}.scores.{score}", score, found)
            scores[score] = Quantity(to_float(found["value"]), found["se"], found.get("why"))
        if entry["status"] == "played" and (scores["reward"].value is None or math.isinf(scores["reward"].value)):
            raise ValueError(
                f"{where}.scores.reward.value must be a number: every task of the suite pays finite rewards"
            )
        tasks[name] = TaskResult(**{**entry, "scores": scores})
        if tasks[name].status == "played":
            _check_consistency(where, tasks[name], is_judged_here=is_judged_here)
    return Result(**{**{name: data[name] for name in RESULT}, "tasks": tasks})


def _check_status(where: str, entry: dict[str, Any]) -> None:
    is_played = entry["status"] == "played"
    for name in ("num_episodes", "num_rounds", "own_actions", "verdict", "seconds"):
        if (entry[name] is not None) != is_played:
            raise ValueError(
                f"{where}.{name} must be {'given' if is_played else 'null'}: the status is {entry['status']!r}"
            )
    if (entry["why"] is None) != is_played:
        raise ValueError(f"{where}.why must {'be null' if is_played else 'say why'}: the status is {entry['status']!r}")
    if is_played and (lacking := [name for name in SCORES if name not in entry["scores"]]):
        raise ValueError(f"{where}.scores.{lacking[0]} is missing")
    if not is_played and entry["scores"]:
        raise ValueError(f"{where}.scores must be empty: the status is {entry['status']!r}")


def _check_consistency(where: str, found: TaskResult, *, is_judged_here: bool) -> None:
    """Raise `ValueError` if what is said of a task that was played contradicts itself.

    Another version of undelude may judge otherwise: its verdicts are not checked.
    """
    rounds = found.num_rounds or 0
    if found.worst_round is not None and not 1 <= found.worst_round <= rounds:
        raise ValueError(f"{where}.worst_round must be from 1 to {rounds}, its rounds, not {found.worst_round}")
    if is_judged_here and found.verdict != (kind := judge(found.scores, found.notes).kind):
        raise ValueError(f"{where}.verdict must be {kind!r}, as its distances say, not {found.verdict!r}")


def _check_score(where: str, name: str, found: Any) -> None:
    if name not in SCORES:
        raise ValueError(f"{where} is not a score; there are {', '.join(SCORES)}")
    _check_fields(where, found, {"value": _any, "se": _any}, optional={"why": _text})
    quantity = "action_kl_do" if name == WORST else name
    try:
        check_quantity(quantity, found["value"])
        check_quantity(f"{quantity}_se", found["se"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if (found["value"] is None) != ("why" in found):
        raise ValueError(f"{where}.why must say why the value is null, and be left out otherwise")


Check: TypeAlias = Callable[[str, Any], None]


def _check_fields(
    where: str, data: Any, fields: Mapping[str, Check], optional: Mapping[str, Check] | None = None
) -> None:
    if not isinstance(data, dict):
        raise ValueError(f"{where or 'it'} must be an object, not {data!r:.99}")
    optional = optional or {}
    for name in (*data, *fields):
        place = f"{where}.{name}".removeprefix(".")
        if name not in data:
            raise ValueError(f"{place} is missing")
        check = fields.get(name) or optional.get(name)
        if check is None:
            raise ValueError(f"{place} is not a field; there are {', '.join((*fields, *optional))}")
        check(place, data[name])


def _rule(words: str, fits: Callable[[Any], bool]) -> Check:
    def check(where: str, x: Any) -> None:
        if not fits(x):
            raise ValueError(f"{where} must be {words}, not {x!r:.99}")

    return check


def _is_count(x: Any) -> bool:
    return type(x) is int and 1 <= x < 2**31


def _is_number(x: Any) -> bool:
    return type(x) in (int, float) and math.isfinite(x) and x >= 0


def _are_texts(x: Any) -> bool:
    return isinstance(x, dict) and all(isinstance(y, str) for y in x.values())


def _are_values(x: Any) -> bool:
    return isinstance(x, dict) and all(
        type(y) in (str, int) or (type(y) is float and math.isfinite(y)) for y in x.values()
    )


def _or_null(words: str, fits: Callable[[Any], bool]) -> Check:
    return _rule(f"{words} or null", lambda x: x is None or fits(x))


def _any(where: str, x: Any) -> None:
    del where, x


_text = _rule("a string", lambda x: isinstance(x, str))
_texts = _rule("an object of strings", _are_texts)
_object = _rule("an object", lambda x: isinstance(x, dict))
_count = _or_null("a whole number of at least 1", _is_count)
DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
DIGEST = r"[0-9a-f]{12}"
_digest = _rule("12 hexadecimal digits", lambda x: isinstance(x, str) and bool(re.fullmatch(DIGEST, x)))

# The check of each field of a result, and of its result on a task.
RESULT: dict[str, Check] = {
    "agent": _rule("a name of 1 to 80 characters", lambda x: isinstance(x, str) and 1 <= len(x.strip()) <= 80),
    "source": _text,
    "seed": _or_null("a whole number from 0 to 2**32 - 1", lambda x: type(x) is int and 0 <= x < 2**32),
    "about": _text,
    "date": _rule("a date such as 2026-01-31", lambda x: isinstance(x, str) and bool(re.fullmatch(DATE, x))),
    "versions": _texts,
    "tasks": _object,
}
TASK: dict[str, Check] = {
    "status": _rule(f"one of {', '.join(STATUSES)}", lambda x: x in STATUSES),
    "why": _or_null("a string", lambda x: isinstance(x, str)),
    "definition": _digest,
    "num_episodes": _count,
    "num_rounds": _count,
    "own_actions": _or_null("do or see", lambda x: x in ("do", "see")),
    "verdict": _or_null(f"one of {', '.join(VERDICTS)}", lambda x: x in VERDICTS),
    "worst_round": _count,
    "seconds": _or_null("a number of at least 0", _is_number),
    "scores": _object,
    "notes": _texts,
}
# Fields of a result on a task that files of earlier versions do not have.
OPTIONAL: dict[str, Check] = {"measured": _digest, "recipe": _rule("an object of strings and numbers", _are_values)}
