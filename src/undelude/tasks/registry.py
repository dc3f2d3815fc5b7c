"""The tasks that the command line knows by name, and users' own tasks as `package.module:factory`."""

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from undelude._process.process import InteractionProcess
from undelude.tasks.arm import arm
from undelude.tasks.bandit import bandit
from undelude.tasks.cards import kuhn, leduc
from undelude.tasks.doors import doors
from undelude.tasks.frog import prize_or_frog
from undelude.tasks.grid import grid
from undelude.tasks.merge import merge
from undelude.tasks.switching import switching_bandit


class NamedTask(NamedTuple):
    """A task with a name. Its sizes are stated, so that listing the tasks builds none of them.

    Attributes:
        summary: what Theta is, in one line.
        factory: builds the process; written as `module:name` if its module needs optional dependencies.
        num_thetas, num_rounds, num_actions, num_observations: K, T, A and O of the process; "2 reals" if actions are
            continuous, "2 +" if an observation also has given parts.
        extra: the optional dependencies (`undelude[extra]`) that the task needs.
    """

    summary: str
    factory: Callable[[], InteractionProcess] | str
    num_thetas: int
    num_rounds: int
    num_actions: int | str
    num_observations: int | str
    extra: str | None = None


class UnknownTaskError(ValueError):
    """An unknown task; the message lists names that are close."""


class TaskError(RuntimeError):
    """A failure of a user's own task; `__cause__` is the error."""

    def __init__(self, task: str):
        super().__init__(f"the task {task} cannot be made")


TASKS: dict[str, NamedTask] = {
    "bandit": NamedTask("which of five arms pays best (Remark 11)", bandit, 5, 20, 5, 2),
    "frog": NamedTask("which box holds the prize (Section 2)", lambda: prize_or_frog(num_rounds=2), 2, 2, 2, 2),
    "switching_bandit": NamedTask("which arm pays best, and it changes", switching_bandit, 5, 100, 5, 2),
    "grid": NamedTask("where in a dark grid the goal is", grid, 81, 80, 5, "2 +"),
    "arm": NamedTask("which target a guide means", arm, 8, 60, "2 reals", "2 +"),
    "merge": NamedTask("whether the other driver yields", merge, 2, 30, 2, "4 +"),
    "leduc": NamedTask("which card the opponent holds", leduc, 3, 4, 3, 304),
    "kuhn": NamedTask("which card the opponent holds; hardly any delusion", kuhn, 3, 2, 2, 17),
    "doors": NamedTask("which door holds the prize: imitation is the wrong goal", doors, 3, 1, 4, 4),
    "frozen_lake": NamedTask(
        "FrozenLake-v1: which corner is the goal", "undelude.gym.tasks:frozen_lake", 4, 40, 4, 18, "gym"
    ),
    "taxi": NamedTask("Taxi-v4: where the passenger wants to go", "undelude.gym.tasks:taxi", 4, 40, 6, 354, "gym"),
    "cliff_walking": NamedTask(
        "CliffWalking-v1: is the ground slippery", "undelude.gym.tasks:cliff_walking", 2, 50, 4, 38, "gym"
    ),
}


def make(task: str) -> InteractionProcess:
    """Build a task from its name, or from a user's own `package.module:factory`.

    Args:
        task: a key of `TASKS`; or a module, installed or in the current directory, and a function in it that takes no
            arguments and returns an `InteractionProcess`.

    Raises:
        UnknownTaskError: the name, module or factory does not exist.
        TaskError: the user's module or factory failed.
        ModuleNotFoundError: an optional dependency is missing; the message names it.
        TypeError: the factory did not return a process.
    """
    if task in TASKS:
        named = TASKS[task].factory
        return _find_factory(named)() if isinstance(named, str) else named()
    if ":" not in task:
        near = difflib.get_close_matches(task, TASKS, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"The tasks are {', '.join(TASKS)}."
        raise UnknownTaskError(f"unknown task {task!r}. {hint} Name a task of your own as package.module:factory.")
    factory = _find_factory(task)
    try:
        process = factory()
    except (Exception, SystemExit) as error:
        raise TaskError(task) from error
    if not isinstance(process, InteractionProcess):
        raise TypeError(f"{task} returned {type(process).__name__}; it must return an undelude.InteractionProcess.")
    return process


def module_file(task: str) -> str | None:
    """Return the file, or the folders, from which Python would import the package of `package.module:factory`.

    It is found without importing anything. None if there is no such package.
    """
    _see_current_directory()
    try:
        spec = importlib.util.find_spec(task.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.has_location and spec.origin is not None:
        return os.path.realpath(spec.origin)
    return f"{spec.origin} {spec.submodule_search_locations and [*spec.submodule_search_locations]}"


def _see_current_directory() -> None:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _find_factory(task: str) -> Callable[[], Any]:
    module_name, _, name = task.partition(":")
    _see_current_directory()
    if not name:
        raise UnknownTaskError(
            f"the task {task!r} names no factory. Write {module_name}:NAME, with the name of a function in it."
        )
    unknown = UnknownTaskError(
        f"no module {module_name!r} for the task {task!r}: {_suggest_module(module_name, name)}"
        "it must be installed or in the current directory."
    )
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise unknown
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise unknown from error
        # The module exists, and fails in its own code or in its imports.
        raise TaskError(task) from error
    factory = getattr(module, name, None)
    if factory is None:
        near = difflib.get_close_matches(name, [n for n, x in vars(module).items() if callable(x)], n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UnknownTaskError(f"module {module_name!r} has no factory {name!r} for the task {task!r}.{hint}")
    if not callable(factory):
        raise UnknownTaskError(
            f"{name!r} in module {module_name!r} is not a function but of type {type(factory).__name__}. "
            f"The task {task!r} needs a function that returns an undelude.InteractionProcess."
        )
    return factory


def _suggest_module(module_name: str, name: str) -> str:
    """Return a hint if the path of a file was given as the module; empty otherwise."""
    file = os.path.relpath(module_name) if module_name.endswith(".py") else ""
    module = file.removesuffix(".py").replace(os.sep, ".")
    return f"did you mean {module}:{name}? Write a module without .py; " if module and module[0] != "." else ""
