"""The tasks that the command line knows by name.

The command line lists them and checks a name without JAX: a factory is imported when its task is made.
"""

import contextlib
import difflib
import functools
import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from undelude._user_code import UnknownNameError, check_reference
from undelude._versioned_tasks import NAMESPACE, find_task


class NamedTask(NamedTuple):
    """A task with a name. Its sizes are stated, so that listing the tasks builds none of them.

    Attributes:
        summary: what Theta is, in one line.
        factory: builds the process, as `module:name`.
        num_thetas, num_rounds, num_actions, num_observations: K, T, A and O of the process; "2 reals" if actions are
            continuous, "2 of 6" if they are blocks of two symbols out of six, "2 +" if an observation also has given
            parts.
        extra: the optional dependencies (`[extra]`) that the task needs.
        arguments: keyword arguments of the factory.
    """

    summary: str
    factory: str
    num_thetas: int
    num_rounds: int
    num_actions: int | str
    num_observations: int | str
    extra: str | None = None
    arguments: Mapping[str, Any] = MappingProxyType({})


TASKS: dict[str, NamedTask] = {
    "bandit": NamedTask("which of five arms pays best (Remark 11)", "undelude.tasks.bandit:bandit", 5, 20, 5, 2),
    "frog": NamedTask(
        "which box holds the prize (Section 2)",
        "undelude.tasks.frog:prize_or_frog",
        2,
        2,
        2,
        2,
        None,
        {"num_rounds": 2},
    ),
    "switching_bandit": NamedTask(
        "which arm pays best, and it changes", "undelude.tasks.switching:switching_bandit", 5, 100, 5, 2
    ),
    "grid": NamedTask("where in a dark grid the goal is", "undelude.tasks.grid:grid", 81, 80, 5, "2 +"),
    "arm": NamedTask("which target a guide means", "undelude.tasks.arm:arm", 8, 60, "2 reals", "2 +"),
    "merge": NamedTask("whether the other driver yields", "undelude.tasks.merge:merge", 2, 30, 2, "4 +"),
    "menu": NamedTask("which dish is on the menu (the epigraph)", "undelude.tasks.menu:menu", 5, 20, "2 of 6", 3),
    "leduc": NamedTask("which card the opponent holds", "undelude.tasks.cards:leduc", 3, 4, 3, 304),
    "kuhn": NamedTask("which card the opponent holds; hardly any delusion", "undelude.tasks.cards:kuhn", 3, 2, 2, 17),
    "doors": NamedTask(
        "which door holds the prize: imitation is the wrong goal", "undelude.tasks.doors:doors", 3, 1, 4, 4
    ),
    "frozen_lake": NamedTask(
        "FrozenLake-v1: which corner is the goal", "undelude.gym.tasks:frozen_lake", 4, 40, 4, 18, "gym"
    ),
    "taxi": NamedTask("Taxi-v4: where the passenger wants to go", "undelude.gym.tasks:taxi", 4, 40, 6, 354, "gym"),
    "cliff_walking": NamedTask(
        "CliffWalking-v1: is the ground slippery", "undelude.gym.tasks:cliff_walking", 2, 50, 4, 38, "gym"
    ),
}


# Options of `undelude train` for the tasks that need others than the general defaults (`Config`). `studies/tasks.py`
# measures what they give, and `studies/when.py` trains its networks with them.
SETTINGS: dict[str, dict[str, Any]] = {
    "switching_bandit": {
        "hidden_size": 64,
        "steps": 700,
        "batch_size": 128,
        "learning_rate": 0.02,
        "observation_weight": 0.1,
    },
    "grid": {"hidden_size": 128, "steps": 1500, "batch_size": 128, "learning_rate": 0.02, "observation_weight": 0.1},
    "arm": {"hidden_size": 128, "steps": 4000, "batch_size": 128, "learning_rate": 0.02, "observation_weight": 0.1},
    "merge": {"hidden_size": 32, "steps": 600, "batch_size": 128, "learning_rate": 0.02, "observation_weight": 0.1},
    "menu": {"hidden_size": 64, "steps": 1500, "batch_size": 64, "learning_rate": 0.03, "observation_weight": 0.1},
    "leduc": {"hidden_size": 64, "steps": 3000, "batch_size": 128, "learning_rate": 0.02, "observation_weight": 0.1},
    "kuhn": {"hidden_size": 32, "steps": 1500, "batch_size": 128, "learning_rate": 0.02, "observation_weight": 0.1},
}


@functools.cache
def measured() -> dict[str, dict[str, Any]]:
    """Return the stored result of `undelude train TASK` for each named task that was measured."""
    file = files("undelude").joinpath("_paper", "results", "tasks.json")
    return {row["task"]: row for row in json.loads(file.read_text())["rows"]}


# The file by which the folder of a fit of `undelude.offline` is known.
FIT = "fit.json"


def is_fit(task: str) -> bool:
    """Return whether `task` is the folder of a fit of `undelude.offline`, whose induced process is the task."""
    with contextlib.suppress(OSError, ValueError):  # The name is too long, or impossible.
        return task not in TASKS and Path(task, FIT).is_file()
    return False


def _is_folder(task: str) -> bool:
    with contextlib.suppress(OSError, ValueError):  # As above.
        return Path(task).is_dir()
    return False


def check_task_name(task: str) -> None:
    """Raise `UnknownNameError` if `task` stands for nothing, and import nothing.

    It may be the name of a task, the id of one of the suite, the folder of a fit, or `package.module:factory`.
    """
    if task in TASKS or is_fit(task):
        return
    if task.startswith(NAMESPACE):
        find_task(task)
        return
    if ":" not in task and _is_folder(task):
        raise UnknownNameError(
            f"{task} is a folder, and this command takes a task: name one, such as bandit, or the folder of a fit, "
            f"which has the file {FIT}. undelude report {task} is about a run."
        )
    if ":" not in task and ("/" in task or os.sep in task):
        raise UnknownNameError(f"there is no fit of undelude.offline at {task!r}, which would be a task: no {FIT}.")
    if ":" not in task:
        near = difflib.get_close_matches(task, TASKS, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"The tasks are {', '.join(TASKS)}."
        own = "Name a task of your own as package.module:factory."
        if Path(f"{task}.py").is_file():
            own = f"{task}.py is here: name the function in it that makes the process, {task}:FACTORY."
        raise UnknownNameError(f"unknown task {task!r}. {hint} {own}")
    check_reference(task, kind="task")
