"""One agent over all tasks: its return between a clone and the exact sober agent, its distances, its verdicts."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from undelude._certificate.quantity import Quantity
from undelude._certificate.verdict import Kind
from undelude._suite.contestants import EXACT
from undelude._suite.results import WORST, Result, Status
from undelude._suite.scale import normalised, span
from undelude._versioned_tasks import SUITE

# Resamples of a bootstrap, and the level of its interval.
RESAMPLES, LEVEL = 2000, 0.95
# A number of a task that was not played.
MISSING = Quantity(why_none="not played.")

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
class TaskStanding:
    """An agent on one task, over its training seeds.

    Attributes:
        status: "not run" if one seed was not run; otherwise "not played" if one declines; otherwise "played".
        verdict: of all seeds; "undecided" if they differ; None unless the task was played.
        distance: the mean of `action_kl_do`, nats.
        reward: the mean reward per round.
        normalised: that reward on the scale of the exact agents, if the task tells them apart.
        is_trial: whether a seed played another number of episodes than the task's own.
    """

    status: Status
    verdict: Kind | None = None
    distance: Quantity = MISSING
    reward: Quantity = MISSING
    normalised: Quantity = MISSING
    is_trial: bool = False


@dataclasses.dataclass(frozen=True)
class Standing:
    """An agent in the leaderboard.

    Attributes:
        agent: its name.
        results: one for each training seed.
        tasks: the agent on each task of the suite, by id.
        score: the interquartile mean of the normalised return over the tasks that are played, times their share of the
            tasks that count: a declined task counts 0, and is not trimmed. None if no task that counts was run.
        median_kl: the median over tasks and seeds of `action_kl_do`, nats; infinite for a task that is not played.
        worst_kl: the greatest over tasks of the distance in the worst round, nats, and the id of the task.
    """

    agent: str
    results: tuple[Result, ...]
    tasks: Mapping[str, TaskStanding]
    score: Estimate | None
    median_kl: Estimate | None
    worst_kl: tuple[float, str] | None

    @property
    def num_seeds(self) -> int:
        """The number of training seeds."""
        return len(self.results)

    @property
    def group(self) -> Group:
        """The kind of the agent, by its source: `exact:do`, a folder of taught runs, or `package.module:agent`."""
        return group_of(self.results[0].source)

    @property
    def verdicts(self) -> Mapping[Kind, int]:
        """The number of tasks by verdict."""
        return Counter(x.verdict for x in self.tasks.values() if x.verdict is not None)

    @property
    def played(self) -> tuple[str, ...]:
        """The ids of the tasks that it plays."""
        return self._with("played")

    @property
    def not_played(self) -> tuple[str, ...]:
        """The ids of the tasks that it declines."""
        return self._with("not played")

    @property
    def not_run(self) -> tuple[str, ...]:
        """The ids of the tasks that are missing."""
        return self._with("not run")

    @property
    def trials(self) -> tuple[str, ...]:
        """The ids of the tasks that it played on other numbers of episodes than their own."""
        return tuple(task for task, x in self.tasks.items() if x.is_trial)

    @property
    def is_complete(self) -> bool:
        """Whether every task was run: played or declined."""
        return not self.not_run

    def _with(self, status: Status) -> tuple[str, ...]:
        return tuple(task for task, x in self.tasks.items() if x.status == status)


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
    tasks = {task: task_standing(results, task) for task in SUITE}
    run = [task for task in SUITE if tasks[task].status != "not run"]
    played = [task for task in run if tasks[task].status == "played"]
    scored = [task for task in run if span(task) is not None]
    returns = [_entries(results, task, "reward") for task in scored if task in played]
    distances = [_entries(results, task, "action_kl_do") for task in run]
    worst = [(x, task) for task in played if (x := over_seeds(results, task, WORST).value) is not None]
    return Standing(
        agent=results[0].agent,
        results=tuple(results),
        tasks=tasks,
        score=_scaled(_bootstrap(returns, interquartile_mean), len(returns) / len(scored)) if scored else None,
        median_kl=_bootstrap([x for x in distances if x], median),
        worst_kl=max(worst) if worst else None,
    )


def task_standing(results: Sequence[Result], task: str) -> TaskStanding:
    """Return one agent on one task from its results, one for each training seed."""
    entries = [result.tasks[task] for result in results if task in result.tasks]
    is_trial = any(entry.is_trial(SUITE[task]) for entry in entries)
    statuses = {entry.status for entry in entries}
    if len(entries) < len(results) or "not run" in statuses:
        return TaskStanding("not run", is_trial=is_trial)
    if "not played" in statuses:
        return TaskStanding("not played", is_trial=is_trial)
    kinds: set[Kind] = {entry.verdict for entry in entries if entry.verdict is not None}
    reward = over_seeds(results, task, "reward")
    return TaskStanding(
        status="played",
        verdict=kinds.pop() if len(kinds) == 1 else "undecided",
        distance=over_seeds(results, task, "action_kl_do"),
        reward=reward,
        normalised=normalised(task, reward),
        is_trial=is_trial,
    )


def over_seeds(results: Sequence[Result], task: str, name: str) -> Quantity:
    """Return the mean of a score over training seeds with its standard error.

    All seeds play the same episodes, whose luck the spread of the seeds does not show. So the error is that over
    episodes, the mean of the seeds' own, and, of several seeds, that over seeds beside it.
    """
    scores = [result.tasks[task].score(name) for result in results]
    if len(scores) == 1:
        return scores[0]
    values = [score.value for score in scores if score.value is not None]
    if len(values) < len(scores):
        return Quantity(why_none="not measured for a seed.")
    found = Quantity.over_episodes(values)
    if found.standard_error is None:
        return found
    over_episodes = float(np.mean([score.standard_error or 0.0 for score in scores]))
    return dataclasses.replace(found, standard_error=math.hypot(found.standard_error, over_episodes))


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

    Each resample draws as many seeds of each task as there are, with replacement. The luck of the episodes, which all
    seeds of a task share, it draws from a normal distribution with the standard error over episodes.
    """
    if not entries:
        return None
    rng, drawn = np.random.default_rng(0), []
    for task in entries:
        values, errors = np.array(task).T
        luck = rng.normal(size=(RESAMPLES, 1)) * errors.mean()
        if len(task) == 1:
            drawn.append(values + luck)
        else:
            drawn.append(values[rng.integers(len(values), size=(RESAMPLES, len(values)))] + luck)
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
