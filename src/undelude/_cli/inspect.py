"""The command `undelude inspect`: an episode in the browser, with a switch between see and do at each past action."""

import contextlib
import gc
import os
import shlex
import sys
import webbrowser
from pathlib import Path
from typing import Any, NamedTuple

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._cli import backend
from undelude._cli.console import make_console, working
from undelude._cli.errors import CommandError, ExitCode, UsageError
from undelude._cli.inspect_options import MENU, Inspect
from undelude._cli.options import Call
from undelude._cli.permission import check_may_call_task
from undelude._files import plain, read_json
from undelude._inspector.history import check_format
from undelude._inspector.inspection import MARKED
from undelude._inspector.limits import MAX_ROUNDS
from undelude._inspector.server import MAX_BYTES, Server
from undelude._inspector.service import Service
from undelude._inspector.start import begin_with, first_actor, inspection_of
from undelude._named_tasks import TASKS, is_fit
from undelude._runs.directory import RunDirectory
from undelude._versions import installing
from undelude.tasks.registry import WrongTypeError, make

# The party that a language model is.
LANGUAGE_MODEL = "language model"
# Of a model without a task.
READS_MENU = (
    f" It reads a dialogue of the task {MENU} unless --task names another menu, and --prompt its first message."
)


class _Subject(NamedTuple):
    """What is inspected: a task, agents by name with a sentence about each, and a stored episode."""

    task: str
    agents: dict[str, AbstractAgent]
    notes: dict[str, str]
    episode: dict[str, Any] | None = None

    @property
    def logs(self) -> dict[str, Any] | None:
        """What the logs determine, if the task is a fit of `undelude.offline`."""
        if not is_fit(self.task):
            return None
        from undelude import offline

        try:
            diagnosis = offline.load_diagnosis(self.task)
        except (FileNotFoundError, ValueError) as error:
            return {"verdict": f"Not known: {error}", "bounds": []}
        because = f". Reasons: {'; '.join(diagnosis.reasons)}" if diagnosis.reasons else ""
        given = f"given: {'; '.join(diagnosis.assumptions)}"
        probes = [{"name": x.name, "fit": x.value, "range": x.profile, "manski": x.manski} for x in diagnosis.probes]
        verdict = f"{diagnosis.verdict} {given}{because}."
        return {"verdict": f"{verdict[0].upper()}{verdict[1:]}", "bounds": plain(probes)}


def run(options: Inspect, call: Call) -> ExitCode:
    """Run the command."""
    backend.configure()
    subject = _subject(options, call.line("inspect"))
    with working(make_console(stderr=True), "compiling"):
        answers = _service(options, subject)
    # Compiling leaves many objects that live as long as the server; looking through them would delay answers.
    gc.freeze()
    try:
        server = Server(answers, host=options.host, port=options.port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommandError(
            f"cannot listen on {options.host}, port {options.port}: {reason}. Choose another."
        ) from error
    make_console(stderr=False).print(f"{subject.task}: {server.url} (Ctrl-C ends it)", soft_wrap=True)
    if server.listens_everywhere:
        told = "From another network, put the address at which it reaches this machine into the link."
        make_console(stderr=True).print(told, soft_wrap=True)
    sys.stdout.flush()
    if not options.no_browser and _has_screen():
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(server.link_for_once())
    with contextlib.suppress(KeyboardInterrupt):
        server.wait()
    server.stop()
    return ExitCode.OK


def service(options: Inspect, line: str = "undelude inspect") -> Service:
    """Return the answers of the page; `line` is the command line that was given, for messages that add to it."""
    return _service(options, _subject(options, line))


def _has_screen() -> bool:
    """Return whether a browser would open in a window, and not in this terminal."""
    is_unix = sys.platform not in ("darwin", "win32")
    return not is_unix or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _service(options: Inspect, subject: _Subject) -> Service:
    process: Any = _made(subject.task)
    num_rounds, rows = options.num_rounds, (subject.episode or {}).get("rounds")
    if isinstance(rows, list):
        if len(rows) > MAX_ROUNDS:
            raise UsageError(f"{options.target} has {len(rows)} rounds, and the page shows {MAX_ROUNDS} at most.")
        if num_rounds is not None and len(rows) > num_rounds:
            raise UsageError(
                f"{options.target} has {len(rows)} rounds, and --num-rounds is {num_rounds}: leave it out, or give at "
                f"least {len(rows)}."
            )
        num_rounds = num_rounds or max(process.num_rounds, len(rows))
    agents: dict[str, Any] = dict(subject.agents)
    if options.model is not None:
        agents[LANGUAGE_MODEL] = _language_model(process, options.model, options)
    inspection = inspection_of(process, agents, num_rounds=num_rounds)
    notes, actor = dict(subject.notes), first_actor(inspection)
    if options.model is not None:
        marks = "its marks are tokens of their own" if agents[LANGUAGE_MODEL].told_marks else "it has no marked words"
        which = READS_MENU if options.is_model and options.task is None else ""
        notes[LANGUAGE_MODEL] = f"The language model in {options.model}; {marks}.{which}"
    if subject.episode is None:
        history, note = begin_with(inspection, seed=options.seed)
        return Service(inspection, history, task=subject.task, actor=actor, notes=notes | note, logs=subject.logs)
    try:
        history = inspection.from_json(subject.episode, task=subject.task)
    except ValueError as error:
        raise UsageError(f"{options.target} cannot be opened: {error}") from error
    actor = MARKED if MARKED in inspection.parties else actor
    return Service(inspection, history, task=subject.task, actor=actor, notes=notes, logs=subject.logs)


def _language_model(process: Any, folder: str, options: Inspect) -> HostAgent:
    """Return the language model of a folder as an agent of a menu."""
    try:
        from undelude.hf import MenuDialogue, local_agent
        from undelude.hf._measuring.local import load_model
    except ModuleNotFoundError as error:
        raise CommandError(f"a language model needs {error.name}: {installing('hf')}.") from error
    try:
        dialogue = MenuDialogue(process, prompt=options.prompt)
        return local_agent(dialogue, *load_model(folder))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{folder if options.is_model else f'--second {folder}'}: {error}") from error


def _made(task: str) -> Any:
    """Return the process of a name; raise `UsageError` if it is that of an agent."""
    try:
        return make(task)
    except WrongTypeError as error:
        if not isinstance(error.found, AbstractAgent | HostAgent):
            raise
        raise UsageError(
            f"{task} is an agent, of type {type(error.found).__name__}, and undelude inspect takes a process: name a "
            "function that returns the process in which it acts. ud.inspect(process, agent) shows both, from Python "
            "or a notebook."
        ) from error


def _subject(options: Inspect, line: str) -> _Subject:
    second = None if options.model is not None else options.second
    runs = [Path(x) for x in (options.target if options.is_run else None, second) if x is not None]
    agents, notes, tasks = {}, {}, []
    for path in runs:
        run = RunDirectory.open(path)
        run.check_numerics()
        check_may_call_task(run, options.task, command=line)
        name = run.config.agent if run.config.agent not in agents else f"{run.config.agent} 2"
        agents[name] = run.load_agent()
        notes[name] = f"The {run.config.agent} of {path}, teaching {run.config.teaching}."
        tasks.append(run.config.task)
    if options.is_model:
        return _Subject(options.task or MENU, {}, {})
    if not options.is_run:
        episode = _episode(options, line) if options.is_episode else None
        tasks.insert(0, options.target if episode is None else episode["task"])
        subject = _Subject(tasks[0], agents, notes, episode)
    else:
        subject = _Subject(tasks[0], agents, notes)
    if len({*tasks}) > 1:
        raise UsageError(f"--second {options.second} is a run on {tasks[-1]}, and {options.target} is of {tasks[0]}.")
    return subject


def _episode(options: Inspect, line: str) -> dict[str, Any]:
    """Return a stored episode, whose task may be called: one with a name, or one that the user has named."""
    file = Path(options.target)
    try:
        episode = read_json(file, most=MAX_BYTES, follow=True)
    except ValueError as error:
        if file.suffix == ".json":
            raise
        raise UsageError(_no_episode(file)) from error
    try:
        check_format(episode)
    except ValueError as error:
        raise UsageError(f"{options.target}: {error}") from error
    task = episode.get("task")
    if task is None and options.task is None:
        raise UsageError(f"{options.target} does not name its task: name it, as in {line} --task my_tasks:corridor")
    task = options.task if task is None else task
    if not isinstance(task, str):
        raise UsageError(f"{options.target} is damaged: task must be a name, not {task!r:.99}.")
    if options.task is not None and options.task != task:
        raise UsageError(f"--task {options.task} contradicts {options.target}, which says {task}: leave it out.")
    if task not in TASKS and options.task is None:
        raise UsageError(
            f"{options.target} would have undelude import and call {task}. If you trust that function, name it: "
            f"{line} --task {shlex.quote(task)}"
        )
    return {**episode, "task": task}


def _no_episode(file: Path) -> str:
    """Return what a file that is not JSON is not, and what the command takes in its place."""
    is_python = file.suffix == ".py"
    factory = f"{file.stem}:FACTORY, where FACTORY is the function in it that makes the process"
    own = factory if is_python else "package.module:factory"
    return (
        f"{file} is not an episode, which is a JSON file that the page saved. Give such a file, the name of a task, "
        f"the folder of a run, of a fit to logs or of a language model. A task of your own is given as {own}."
    )
