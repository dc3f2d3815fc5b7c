"""The named tasks of the command line, and the user's own by `package.module:factory`."""

import difflib
import importlib
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
    """A task with a name; its sizes stand here so that a list of tasks need not build them.

    Attributes:
        summary: one line, what Theta is.
        factory: builds the process; as `module:name`, if its module needs optional dependencies.
        num_thetas, num_rounds, num_actions, num_observations: K, T, A and O of what it builds; "2 reals" where actions
            are continuous, "2 +" where an observation has given parts too.
        extra: the optional dependencies (`undelude[extra]`) without which it cannot be built.
    """

    summary: str
    factory: Callable[[], InteractionProcess] | str
    num_thetas: int
    num_rounds: int
    num_actions: int | str
    num_observations: int | str
    extra: str | None = None


class UnknownTaskError(ValueError):
    """There is no such task; the message lists near names."""


class TaskError(RuntimeError):
    """The user's own task cannot be made; its cause says why."""

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
    "kuhn": NamedTask("the same in Kuhn poker, where it hardly matters", kuhn, 3, 2, 2, 17),
    "doors": NamedTask("which door is not poisoned: imitation is the wrong goal", doors, 3, 1, 4, 4),
    "frozen_lake": NamedTask(
        "FrozenLake-v1: which corner is the goal", "undelude.gym.tasks:frozen_lake", 4, 40, 4, 18, "gym"
    ),
    "taxi": NamedTask("Taxi-v4: where the passenger wants to go", "undelude.gym.tasks:taxi", 4, 40, 6, 354, "gym"),
    "cliff_walking": NamedTask(
        "CliffWalking-v1: is the ground slippery", "undelude.gym.tasks:cliff_walking", 2, 50, 4, 38, "gym"
    ),
}


def make(task: str) -> InteractionProcess:
    """Build a task from its name, or from the user's own `package.module:factory`.

    Args:
        task: a key of `TASKS`; or a module, importable from the current directory too, and in it a callable of no
            arguments that returns an `InteractionProcess`.

    Raises:
        UnknownTaskError: there is no such name, module or factory.
        TaskError: the user's module or factory failed.
        ModuleNotFoundError: an optional dependency is missing; the message says which to install.
        TypeError: the factory returned something else.
    """
    if task in TASKS:
        named = TASKS[task].factory
        return _find_factory(named)() if isinstance(named, str) else named()
    if ":" not in task:
        near = difflib.get_close_matches(task, TASKS, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(TASKS)}."
        raise UnknownTaskError(f"there is no task {task!r}. {hint} Your own is given as package.module:factory.")
    factory = _find_factory(task)
    try:
        process = factory()
    except (Exception, SystemExit) as error:
        raise TaskError(task) from error
    if not isinstance(process, InteractionProcess):
        raise TypeError(f"{task} returned {type(process).__name__}; it must return an undelude.InteractionProcess.")
    return process


def _find_factory(task: str) -> Callable[[], Any]:
    module_name, _, name = task.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if not name:
        raise UnknownTaskError(
            f"the task {task!r} names no factory: write {module_name}:NAME, a function's name in it."
        )
    unknown = UnknownTaskError(
        f"there is no module {module_name!r} for the task {task!r}; {_meant(module_name, name)}"
        "it must be installed, or lie in the current directory."
    )
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise unknown
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise unknown from error
        # The module is there; something in it, or that it imports, is not as it should.
        raise TaskError(task) from error
    factory = getattr(module, name, None)
    if factory is None:
        near = difflib.get_close_matches(name, [n for n, x in vars(module).items() if callable(x)], n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UnknownTaskError(f"module {module_name!r} has no factory {name!r} for the task {task!r}.{hint}")
    if not callable(factory):
        raise UnknownTaskError(
            f"{name!r} in module {module_name!r} is no factory but of type {type(factory).__name__}: "
            f"the task {task!r} needs a function that returns an undelude.InteractionProcess."
        )
    return factory


def _meant(module_name: str, name: str) -> str:
    """The name of the module in a file, where a file was named in its place."""
    file = os.path.relpath(module_name) if module_name.endswith(".py") else ""
    module = file.removesuffix(".py").replace(os.sep, ".")
    return f"did you mean {module}:{name}? A module is named without .py, and " if module and module[0] != "." else ""
