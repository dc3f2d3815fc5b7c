"""The named tasks of the command line, and the user's own by `package.module:factory`."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from undelude.process import InteractionProcess
from undelude.tasks.arm import arm
from undelude.tasks.bandit import bandit
from undelude.tasks.cards import kuhn, leduc
from undelude.tasks.doors import doors
from undelude.tasks.frog import prize_or_frog
from undelude.tasks.grid import grid
from undelude.tasks.merge import merge
from undelude.tasks.switching import switching_bandit
from undelude.tasks.tabular import tabular_from_gymnasium


class NamedTask(NamedTuple):
    """A task with a name; its sizes stand here so that a list of tasks need not build them.

    Attributes:
        summary: one line, what Theta is.
        factory: builds the process.
        num_thetas, num_rounds, num_actions, num_observations: K, T, A and O of what it builds; "2 reals" where actions
            are continuous, "2 +" where an observation has given parts too.
        extra: the optional dependencies (`undelude[extra]`) without which it cannot be built.
    """

    summary: str
    factory: Callable[[], InteractionProcess]
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


def frozen_lake(num_rounds: int = 40) -> InteractionProcess:
    """FrozenLake-v1 on four 3 x 3 maps: the goal is in one corner, holes are in the other three; which, is hidden.

    A step goes where it is meant to with probability .8, and the reward is seen right with probability .8: arriving in
    a corner is evidence, but weak, whereas the expert's steps point to the goal at once. So an agent that takes its own
    steps for evidence stays with the corner that it happened to walk to first.

    Args:
        num_rounds: T.
    """
    gymnasium = _gymnasium()
    corners = [(0, 0), (0, 2), (2, 0), (2, 2)]
    envs = []
    for goal in corners:
        lake = np.full((3, 3), "F")
        lake[1, 1] = "S"
        for corner in corners:
            lake[corner] = "G" if corner == goal else "H"
        envs.append(gymnasium.make("FrozenLake-v1", desc=["".join(row) for row in lake], success_rate=0.8))
    return tabular_from_gymnasium(
        envs, reward=0.8, temperature=0.1, discount=0.95, num_rounds=num_rounds, name="frozen_lake"
    )


def taxi(num_rounds: int = 40) -> InteractionProcess:
    """Taxi-v4 with the passenger's destination hidden: one of four places.

    Wrong places are told from the right one by trying them, at the price of an illegal drop-off (reward -10).

    Args:
        num_rounds: T.
    """
    env = _gymnasium().make("Taxi-v4")
    # A state's number is (taxi and passenger) * 4 + destination.
    start = np.asarray(env.unwrapped.initial_state_distrib)
    initial = np.stack([np.where(np.arange(500) % 4 == destination, start, 0.0) for destination in range(4)])
    initial /= initial.sum(-1, keepdims=True)
    return tabular_from_gymnasium(
        [env] * 4,
        observe=np.arange(500) // 4,
        initial=initial,
        temperature=1.0,
        discount=0.97,
        num_rounds=num_rounds,
        name="taxi",
    )


def cliff_walking(num_rounds: int = 50) -> InteractionProcess:
    """CliffWalking-v1, slippery or not: on firm ground the expert walks along the edge, on ice it keeps away.

    Args:
        num_rounds: T.
    """
    gymnasium = _gymnasium()
    envs = [gymnasium.make("CliffWalking-v1", is_slippery=slippery) for slippery in (False, True)]
    # A fall costs -100 and a slip back into the start -1: the reward would tell them apart where the state does not.
    return tabular_from_gymnasium(envs, reward="hidden", temperature=5.0, num_rounds=num_rounds, name="cliff_walking")


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
    "frozen_lake": NamedTask("FrozenLake-v1: which corner is the goal", frozen_lake, 4, 40, 4, 18, "gym"),
    "taxi": NamedTask("Taxi-v4: where the passenger wants to go", taxi, 4, 40, 6, 354, "gym"),
    "cliff_walking": NamedTask("CliffWalking-v1: is the ground slippery", cliff_walking, 2, 50, 4, 38, "gym"),
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
        return TASKS[task].factory()
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


def _gymnasium() -> Any:
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("this task is made from Gymnasium: pip install gymnasium.") from error
    return gymnasium
