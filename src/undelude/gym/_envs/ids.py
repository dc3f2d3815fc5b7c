"""The ids of the named tasks in Gymnasium's registry, such as `undelude/Bandit-v0`."""

import functools
from collections.abc import Hashable
from typing import Any

import gymnasium

from undelude._named_tasks import TASKS
from undelude._process.process import InteractionProcess
from undelude.gym.task_env import TaskEnv
from undelude.gym.task_vector_env import TaskVectorEnv

HERE = __name__
# Arguments of environments; all others are the task's.
OWN, VECTOR = ("render_mode", "size"), ("render_mode", "size", "autoreset_mode")


def id_of(task: str) -> str:
    """Return the id of a named task.

    >>> id_of("frozen_lake")
    'undelude/FrozenLake-v0'
    """
    return f"undelude/{''.join(word.capitalize() for word in task.split('_'))}-v0"


def register() -> None:
    """Register every named task, unless it is registered already."""
    for task in TASKS:
        if id_of(task) not in gymnasium.registry:
            gymnasium.register(
                id_of(task),
                entry_point=f"{HERE}:single",
                vector_entry_point=f"{HERE}:vector",
                kwargs={"task": task},
            )


def single(task: str, **arguments: Any) -> TaskEnv:
    """Return the environment of a named task; arguments that are not the environment's are the task's."""
    own = {name: arguments.pop(name) for name in OWN if name in arguments}
    return TaskEnv(_process(task, arguments), **own)


def vector(task: str, num_envs: int = 1, **arguments: Any) -> TaskVectorEnv:
    """Return the vector environment of a named task; arguments that are not the environment's are the task's."""
    own = {name: arguments.pop(name) for name in VECTOR if name in arguments}
    return TaskVectorEnv(_process(task, arguments), num_envs, **own)


def _process(task: str, arguments: dict[str, Any]) -> InteractionProcess:
    # One process for all environments of equal arguments, so that it is made once.
    items = tuple(sorted(arguments.items()))
    return _made(task, items) if all(isinstance(x, Hashable) for x in arguments.values()) else _make(task, items)


def _make(task: str, arguments: tuple[tuple[str, Any], ...]) -> InteractionProcess:
    import pkgutil

    return pkgutil.resolve_name(TASKS[task].factory)(**{**TASKS[task].arguments, **dict(arguments)})


_made = functools.lru_cache(maxsize=64)(_make)
