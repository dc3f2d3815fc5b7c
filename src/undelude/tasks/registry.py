"""Make a task from its name or id, from the folder of a fit, or from a user's own `package.module:factory`."""

import pkgutil

from undelude._named_tasks import TASKS, check_task_name, is_fit
from undelude._process.host_world import AbstractHostWorld, World
from undelude._process.world import AbstractWorld
from undelude._user_code import UnknownNameError, UserCodeError, import_object
from undelude._versioned_tasks import NAMESPACE, find_task


class WrongTypeError(TypeError):
    """A name of the user's own that stands for something else than a process; `found` is that."""

    def __init__(self, message: str, found: object):
        super().__init__(message)
        self.found = found


class NoFactoryError(WrongTypeError, UnknownNameError):
    """A name that stands for no function."""


def make(task: str) -> World:
    """Build a task from its name or id, from the folder of a fit, or from a user's own `package.module:factory`.

    Args:
        task: a key of `TASKS`; or the id of a task of the suite, such as `undelude/bandit-v1`; or a folder that
            `undelude.offline.save` wrote, whose induced process is the task; or a module, installed or in the current
            directory, and a function in it that takes no arguments and returns an `InteractionProcess`, or a world that
            can only be sampled, such as `undelude.gym.HostWorld`.

    Raises:
        UnknownNameError: the name, module or factory does not exist.
        UserCodeError: the user's module or factory failed.
        ModuleNotFoundError: an optional dependency is missing; the message names it.
        WrongTypeError: the factory did not return a process, or the name is not that of a function.
    """
    check_task_name(task)
    if task in TASKS:
        return pkgutil.resolve_name(TASKS[task].factory)(**TASKS[task].arguments)
    if task.startswith(NAMESPACE):
        return find_task(task).make()
    if is_fit(task):
        return pkgutil.resolve_name("undelude.offline:load")(task).process
    factory = import_object(task, kind="task")
    if not callable(factory):
        raise NoFactoryError(
            f"{task!r} is not a function but of type {type(factory).__name__}. "
            "A task of your own is a function that returns an undelude.InteractionProcess or an "
            "undelude.gym.HostWorld.",
            factory,
        )
    try:
        process = factory()
    except (Exception, SystemExit) as error:
        raise UserCodeError("task", task) from error
    if not isinstance(process, AbstractWorld | AbstractHostWorld):
        raise WrongTypeError(
            f"{task} returned {type(process).__name__}; it must return an undelude.InteractionProcess, or a "
            "world such as undelude.gym.HostWorld or FunctionalWorld.",
            process,
        )
    return process
