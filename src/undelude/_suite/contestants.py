"""What can be named for `undelude suite run`: an exact agent, a folder of taught runs, or the user's own agent."""

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from undelude._agents.base import AbstractAgent
from undelude._agents.exact import ExactAgent, ThompsonAgent
from undelude._agents.host import HostAgent
from undelude._process.host_world import AbstractHostWorld, World
from undelude._process.process import InteractionProcess
from undelude._runs.agent_files import digest
from undelude._runs.config import Recipe, recipe
from undelude._runs.directory import RunDirectory
from undelude._runs.layout import is_run
from undelude._user_code import UserCodeError, check_reference, import_object, module_file
from undelude._versioned_tasks import SUITE, VersionedTask

# Begins the name of an exact agent.
EXACT = "exact:"
EXACT_AGENTS = ("do", "see", "committed")
# Digits of a digest in a result.
DIGITS = 12
# The requirement on the user's object.
MUST_BE = (
    "it must be an agent, such as a ud.HostAgent, or a function that is given the process (and the id of the task, if "
    "it takes two arguments) and returns one"
)


@dataclasses.dataclass(frozen=True)
class Declines:
    """The answer of an agent that does not play a task, and why."""

    why: str


@dataclasses.dataclass(frozen=True)
class NotRun:
    """The answer for a task on which there is no agent to ask, such as one that was not taught, and why."""

    why: str


class Unplayable(Exception):
    """Raised while a task is played if its agent turns out not to play it; the message says why."""


# An agent for a task, or why there is none.
Answer: TypeAlias = AbstractAgent | HostAgent | Declines | NotRun


class Measured(NamedTuple):
    """The agent that plays a task, as far as a file tells which one it is.

    Attributes:
        of: the file or the run, in words.
        digest: of its content, 12 hexadecimal digits; None if there is none.
        recipe: the options by which a run was taught; None if it is not known.
    """

    of: str = ""
    digest: str | None = None
    recipe: Recipe | None = None


def _not_known(task: VersionedTask) -> Measured:
    del task
    return Measured()


class Contestant(NamedTuple):
    """An agent that runs the suite.

    Attributes:
        name: for tables.
        source: as the user named it.
        seed: of its training; None if it was not trained, or its seed is not known.
        answer: returns the agent for a task and its process, or why there is none.
        notes: returns what to know of how the agent played the last task, by name, or raises `Unplayable`.
        measured: returns which agent plays a task, as far as it is known.
    """

    name: str
    source: str
    seed: int | None
    answer: Callable[[VersionedTask, Any], Answer]
    notes: Callable[[], dict[str, str]] = dict
    measured: Callable[[VersionedTask], Measured] = _not_known


def check_source(source: str) -> None:
    """Raise if `source` cannot name an agent; nothing is imported.

    Raises:
        ValueError: it is an exact agent that does not exist, or a module without a name in it.
        UnknownNameError: there is no such module.
        FileNotFoundError: there is no such folder.
    """
    if source.startswith(EXACT):
        if source.removeprefix(EXACT) not in EXACT_AGENTS:
            known = ", ".join(EXACT + name for name in EXACT_AGENTS)
            raise ValueError(f"there is no exact agent {source!r}; there are {known}.")
    elif ":" in source and not Path(source).is_dir():
        check_reference(source, kind="agent")
    elif not _groups(Path(source)):
        if (module := _module(source)) is not None:
            raise ValueError(f"{source} is a module: name the agent in it, {module}:NAME.")
        example = Path(source) / next(iter(SUITE.values())).short_id
        raise FileNotFoundError(
            f"there are no runs of the suite's tasks in {source}, such as {example}. "
            f"Make them with undelude suite train --out {source}; or name exact:do, your own package.module:agent, or "
            "the address of a served model."
        )


def _module(source: str) -> str | None:
    """Return the name of the module that `source` is, by its name or its file; None if it is not one."""
    name = os.path.relpath(source).removesuffix(".py").replace(os.sep, ".") if source.endswith(".py") else source
    is_name = all(part.isidentifier() for part in name.split("."))
    return name if is_name and not Path(source).is_dir() and module_file(name) is not None else None


def contestants(source: str, *, num_tasks: int) -> list[Contestant]:
    """Return the agents that `source` names: one, or one for each training seed of a folder.

    Args:
        source: as the user named it.
        num_tasks: the number of tasks that are to be played.

    Raises:
        ValueError: the runs of a folder are of different agents, or lie beside folders of seeds; one agent of the
            user's shall play several tasks; or the user's object is neither an agent nor a function.
        UserCodeError: the user's module failed.
    """
    check_source(source)
    if source.startswith(EXACT):
        name = source.removeprefix(EXACT)
        return [Contestant(f"exact {name}", source, None, lambda task, process: exact_agent(name, process))]
    if ":" in source and not Path(source).is_dir():
        thing = import_object(source, kind="agent")
        if not (callable(thing) or isinstance(thing, AbstractAgent | HostAgent)):
            raise ValueError(f"{source} is of type {type(thing).__name__}; {MUST_BE}.")
        if isinstance(thing, AbstractAgent | HostAgent) and num_tasks > 1:
            raise ValueError(
                f"{source} is one agent, and tasks differ in their actions: write a function that returns an agent for "
                "a process; or name the task that it is for with --tasks."
            )
        code = _code(source)

        def answer(task: VersionedTask, process: World) -> Answer:
            return own_agent(source, thing, task, process)

        return [Contestant(source, source, None, answer, measured=lambda task: code)]
    if seeds_in(Path(source)) and (alone := [*runs_in(Path(source)).values()]):
        raise ValueError(
            f"{source} holds folders of seeds, such as {seeds_in(Path(source))[0].name}, and beside them the run "
            f"{alone[0].name}: move it into the folder of its seed, or name one folder of a seed."
        )
    return [_taught(source, folder) for folder in _groups(Path(source))]


def _code(source: str) -> Measured:
    """Return the file of the imported module of `package.module:agent`; what it imports in turn is not known."""
    name = source.partition(":")[0]
    file = getattr(sys.modules[name], "__file__", None)
    found = digest(Path(file).read_bytes())[:DIGITS] if file is not None and Path(file).is_file() else None
    return Measured(f"the source of {name}", found)


def exact_agent(name: str, process: World) -> Answer:
    """Return an exact agent of a process; it declines if it is not defined there."""
    if isinstance(process, AbstractHostWorld):
        if name == "committed":
            return Declines("the committed agent needs the tables of a process, and this is a simulator.")
        if process.no_exact_agent:
            return Declines(process.no_exact_agent)
        return process.exact_agent("do" if name == "do" else "see")
    assert isinstance(process, InteractionProcess)
    if name != "committed":
        return ExactAgent(process, "do" if name == "do" else "see")
    if process.transition is not None:
        return Declines("theta changes: there is nothing to commit to.")
    return ThompsonAgent(process, resample="belief")


def own_agent(source: str, thing: Any, task: VersionedTask, process: World) -> Answer:
    """Return the user's agent for a task: the object itself, or what it returns for the process and the task's id.

    It declines the task by returning None, or by raising `NotImplementedError`.

    Raises:
        UserCodeError: the user's function failed.
        TypeError: it did not return an agent.
    """
    agent = thing
    if callable(thing) and not isinstance(thing, AbstractAgent | HostAgent):
        try:
            agent = thing(*[process, task.id][: _num_arguments(thing)])
        except NotImplementedError as error:
            # By Python's convention: the function has nothing for this process. Its words are in the result.
            return Declines(str(error).strip() or f"{source} raises NotImplementedError.")
        except (Exception, SystemExit) as error:
            raise UserCodeError("agent", source) from error
    if agent is None:
        return Declines(f"{source} returns None.")
    if not isinstance(agent, AbstractAgent | HostAgent):
        raise TypeError(
            f"{source} is of type {type(agent).__name__} for {task.id}; {MUST_BE}; or None for a task that it does not "
            "play."
        )
    return agent


def _num_arguments(function: Callable[..., Any]) -> int:
    """Return how many arguments the user's function takes: the process, and the id of the task."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # A builtin says nothing.
        return 1
    if any(x.kind is x.VAR_POSITIONAL for x in parameters):
        return 2
    taken = [x for x in parameters if x.kind in (x.POSITIONAL_ONLY, x.POSITIONAL_OR_KEYWORD)]
    required = sum(x.default is x.empty for x in taken)
    return max(1, min(required, 2))


def _groups(folder: Path) -> list[Path]:
    """Return the folders that hold a run for each task: `folder` itself, or one for each seed in it."""
    return seeds_in(folder) or ([folder] if runs_in(folder) else [])


def seeds_in(folder: Path) -> list[Path]:
    """Return the folders of training seeds in `folder`, each with runs of tasks of the suite."""
    return sorted(path for path in folder.glob("seed-*") if runs_in(path)) if folder.is_dir() else []


def runs_in(folder: Path) -> dict[str, Path]:
    """Return the runs in `folder` by the id of the task of the suite."""
    return {task.id: folder / task.short_id for task in SUITE.values() if is_run(folder / task.short_id)}


def _taught(source: str, folder: Path) -> Contestant:
    runs = {task: RunDirectory.open(path) for task, path in runs_in(folder).items()}
    kinds = {(run.config.agent, run.config.teaching, run.config.seed) for run in runs.values()}
    if len(kinds) > 1:
        several = "; ".join(" ".join(map(str, kind)) for kind in sorted(kinds))
        raise ValueError(
            f"the runs in {folder} are of different agents, teachings or seeds ({several}): keep those of one in a "
            "folder of their own."
        )
    architecture, teaching, seed = kinds.pop()

    def answer(task: VersionedTask, process: World) -> Answer:
        del process
        if task.id not in runs:
            return NotRun(
                f"there is no run in {folder / task.short_id}: repeat the undelude suite train command that made "
                f"{source}, with --resume and without --tasks."
            )
        run = runs[task.id]
        if run.config.task != task.id:
            raise ValueError(f"the run in {run.path} is of {run.config.task}, not of {task.id}.")
        if not run.is_finished:
            raise FileNotFoundError(f"the run in {run.path} is not finished. Resume it with: {run.resume_command}")
        return run.load_agent()

    def measured(task: VersionedTask) -> Measured:
        of, run = f"the run in {folder / task.short_id}", runs.get(task.id)
        if run is None or (found := run.agent_digest) is None:
            return Measured(of)
        return Measured(of, found[:DIGITS], recipe(run.config))

    return Contestant(f"{architecture}, {teaching}", source, seed, answer, measured=measured)
