"""One agent over all tasks: its return between a clone and the exact sober agent, its distances, its verdicts."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from undelude._certificate.quantity import Quantity
from undelude._certificate.verdict import Kind
from undelude._files import json_object
from undelude._suite.contestants import EXACT
from undelude._suite.results import Result, parse_result
from undelude._versioned_tasks import SUITE

# Standard errors by which the exact agents' returns must differ for a task to count in the normalised return.
CLEARLY = 8.0
# Resamples of a bootstrap, and the level of its interval.
RESAMPLES, LEVEL = 2000, 0.95


# Kinds of agents, in the order of tables: exact inference, networks that undelude taught, and all others.
Group: TypeAlias = Literal["exact", "taught", "others"]
GROUPS: tuple[Group, ...] = ("exact", "taught", "others")

# From rows of numbers to a number for each row.
Statistic: TypeAlias = Callable[[np.ndarray], np.ndarray]


class Estimate(NamedTuple):
    """A number with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Standing:
    """An agent in the leaderboard.

    Attributes:
        agent: its name.
        results: one for each training seed.
        score: the interquartile mean of the normalised return over the tasks that are played, times their share of the
            tasks that count: a declined task counts 0, and is not trimmed. None if no task that counts was run.
        median_kl: the median over tasks and seeds of `action_kl_do`, nats; infinite for a task that is not played.
        worst_kl: the greatest over tasks of the distance in the worst round, nats, and the id of the task.
        verdicts: number of tasks by verdict. With several seeds, a task has a verdict if all seeds have it, and is
            "undecided" otherwise.
        not_played, not_run: ids of tasks.
    """

    agent: str
    results: tuple[Result, ...]
    score: Estimate | None
    median_kl: Estimate | None
    worst_kl: tuple[float, str] | None
    verdicts: Mapping[Kind, int]
    not_played: tuple[str, ...]
    not_run: tuple[str, ...]

    @property
    def num_seeds(self) -> int:
        """The number of training seeds."""
        return len(self.results)

    @property
    def group(self) -> Group:
        """The kind of the agent, by its source: `exact:do`, a folder of taught runs, or `package.module:agent`."""
        return group_of(self.results[0].source)

    @property
    def is_complete(self) -> bool:
        """Whether every task was run: played or declined."""
        return not self.not_run


@functools.cache
def baseline(name: str) -> Result:
    """Return a result that is stored in the package, such as `exact-do`."""
    return parse_result(json_object(files("undelude._suite").joinpath("baselines", f"{name}.json").read_bytes()))


def reference(task: str, mark: str) -> Quantity:
    """Return the reward per round of an exact agent on a task: `do`, the sober one, or `see`, the limit of a clone."""
    try:
        return baseline(f"exact-{mark}").tasks[task].score("reward")
    except (FileNotFoundError, KeyError):
        return Quantity(why_none=f"the exact agents have not been measured on {task}: run studies/suite.py.")


def span(task: str) -> float | None:
    """Return by how much the exact sober agent earns more per round than a clone; None if the task does not tell them.

    It does if the difference is at least eight standard errors, so that one measurement of an agent is within about an
    eighth of the difference.
    """
    do, see = reference(task, "do"), reference(task, "see")
    if do.value is None or see.value is None:
        return None
    difference = do.value - see.value
    error = math.hypot(do.standard_error or 0.0, see.standard_error or 0.0)
    return difference if difference > CLEARLY * error else None


def normalised(task: str, reward: Quantity) -> Quantity:
    """Return a reward in units in which a clone earns 0 and the exact sober agent 1.

        (reward - reward of the exact see agent) / (reward of the exact do agent - reward of the exact see agent)

    The references are the stored numbers, without error.
    """
    width, see = span(task), reference(task, "see")
    if see.value is None:
        return see
    if width is None:
        return Quantity(why_none="the exact agents earn the same here, or the deluded one more.")
    if reward.value is None:
        return Quantity(why_none=reward.why_none or "the reward was not measured.")
    error = None if reward.standard_error is None else reward.standard_error / width
    return Quantity((reward.value - see.value) / width, error)


def standings(results: Sequence[Result]) -> list[Standing]:
    """Return the standing of each agent: by group, and in it the best first, complete ones before others.

    Raises:
        ValueError: two results are of the same agent and training seed.
    """
    by_agent: dict[str, list[Result]] = {}
    for result in results:
        others = by_agent.setdefault(result.agent, [])
        if any(other.seed == result.seed for other in others):
            seed = "without a seed" if result.seed is None else f"of seed {result.seed}"
            raise ValueError(f"there are two results {seed} of {result.agent!r}: give each agent a --name of its own.")
        others.append(result)
    found = [standing(group) for group in by_agent.values()]
    return sorted(found, key=_rank)


def _rank(x: Standing) -> tuple[int, bool, float]:
    return GROUPS.index(x.group), not x.is_complete, -(x.score.value if x.score else -math.inf)


def group_of(source: str) -> Group:
    """Return the kind of the agent that `source` names, for `undelude suite run`.

    >>> group_of("exact:do"), group_of("runs/gru"), group_of("mine:agent")
    ('exact', 'taught', 'others')
    """
    if source.startswith(EXACT):
        return "exact"
    module, colon, name = source.partition(":")
    is_reference = colon and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))
    return "others" if is_reference else "taught"


def standing(results: Sequence[Result]) -> Standing:
    """Return the standing of one agent from its results, one for each training seed."""
    statuses = {task: {_status(result, task) for result in results} for task in SUITE}
    run = [task for task in SUITE if "not run" not in statuses[task]]
    scored = [task for task in run if span(task) is not None]
    returns = [_entries(results, task, "reward") for task in scored if statuses[task] == {"played"}]
    distances = [_entries(results, task, "action_kl_do") for task in run]
    worst = [(_worst(results, task), task) for task in run if statuses[task] == {"played"}]
    verdicts: dict[Kind, int] = {}
    for task in run:
        if statuses[task] == {"played"}:
            kinds: set[Kind] = {x for result in results if (x := result.tasks[task].verdict) is not None}
            kind: Kind = kinds.pop() if len(kinds) == 1 else "undecided"
            verdicts[kind] = verdicts.get(kind, 0) + 1
    known = [(x, task) for x, task in worst if x is not None]
    return Standing(
        agent=results[0].agent,
        results=tuple(results),
        score=_scaled(_bootstrap(returns, interquartile_mean), len(returns) / len(scored)) if scored else None,
        median_kl=_bootstrap([x for x in distances if x], median),
        worst_kl=max(known) if known else None,
        verdicts=verdicts,
        not_played=tuple(task for task in run if "not played" in statuses[task]),
        not_run=tuple(task for task in SUITE if task not in run),
    )


def _status(result: Result, task: str) -> str:
    return result.tasks[task].status if task in result.tasks else "not run"


def _worst(results: Sequence[Result], task: str) -> float | None:
    values = [result.tasks[task].score("action_kl_do_worst_round").value for result in results]
    return None if None in values else float(np.mean([x for x in values if x is not None]))


def _entries(results: Sequence[Result], task: str, name: str) -> list[tuple[float, float]]:
    """Return the value and the standard error for each seed; empty if it was not measured, as in some simulators."""
    found = []
    for result in results:
        entry = result.tasks[task]
        score = entry.score(name)
        if name == "reward":
            score = normalised(task, score)
        if entry.status == "not played":
            found.append((math.inf, 0.0))
        elif score.value is not None:
            found.append((score.value, score.standard_error or 0.0))
    return found


def _scaled(estimate: Estimate | None, share: float) -> Estimate:
    return Estimate(0.0, 0.0, 0.0) if estimate is None else Estimate(*(share * x for x in estimate))


def _bootstrap(entries: list[list[tuple[float, float]]], statistic: Statistic) -> Estimate | None:
    """Return a statistic of all tasks and its interval by a stratified bootstrap (Agarwal et al., 2021).

    Each resample draws as many seeds of each task as there are, with replacement. Of a task with one seed it draws from
    a normal distribution with the standard error over episodes, since nothing is known about other seeds.
    """
    if not entries:
        return None
    rng, drawn = np.random.default_rng(0), []
    for task in entries:
        values, errors = np.array(task).T
        if len(task) == 1:
            noise = rng.normal(size=(RESAMPLES, 1)) * errors
            drawn.append(values + noise)
        else:
            drawn.append(values[rng.integers(len(values), size=(RESAMPLES, len(values)))])
    value = statistic(np.concatenate([np.array(task)[:, 0] for task in entries])[None])[0]
    means = statistic(np.concatenate(drawn, 1))
    tail = (1 - LEVEL) / 2
    low, high = (float(x) for x in np.quantile(means, (tail, 1 - tail), method="inverted_cdf"))
    return Estimate(float(value), low, high)


def interquartile_mean(x: Float[np.ndarray, "N n"]) -> Float[np.ndarray, " N"]:
    """Return the mean of the middle half of each row, robust to a task on which an agent fails or excels.

    Of a row whose length is not a multiple of four, it takes a part of the outermost numbers.
    """
    n = x.shape[1]
    after = np.arange(1, n + 1) / n
    inside = np.clip(np.minimum(after, 0.75) - np.maximum(after - 1 / n, 0.25), 0.0, None)
    return np.sort(x, 1) @ (inside / inside.sum())


def median(x: Float[np.ndarray, "N n"]) -> Float[np.ndarray, " N"]:
    """Return the median of each row."""
    return np.median(x, 1)
