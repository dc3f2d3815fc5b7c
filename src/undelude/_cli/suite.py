"""The command `undelude suite` and its commands `list`, `run`, `train` and `table`."""

import dataclasses
import json
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from undelude._certificate.numbers import NONE, share, short, with_error
from undelude._cli import backend, suite_train
from undelude._cli.console import make_console
from undelude._cli.errors import CommandError, ExitCode, UsageError
from undelude._cli.interrupts import Interrupts
from undelude._cli.options import Call
from undelude._cli.suite_begin import begin, is_done, today
from undelude._cli.suite_options import ListSuite, RunSuite, Suite, TrainSuite, WriteTable, chosen
from undelude._cli.suite_served import ServedModel
from undelude._suite import aggregate
from undelude._suite.contestants import Contestant, check_source, contestants
from undelude._suite.definitions import digest
from undelude._suite.leaderboard import is_leaderboard, read_results, write_page
from undelude._suite.protocol import run_task
from undelude._suite.results import Result, TaskResult, write_result
from undelude._suite.scale import normalised
from undelude._user_code import UnknownNameError
from undelude._versioned_tasks import EFFECTS, SUITE, VersionedTask


def run(options: Suite, call: Call) -> ExitCode:
    """Run the command."""
    match options.command:
        case ListSuite() as command:
            return _list(command)
        case RunSuite() as command:
            return _run(command)
        case TrainSuite() as command:
            return suite_train.run(command, call)
        case WriteTable() as command:
            return _table(command)


def _list(options: ListSuite) -> ExitCode:
    rows = [
        {
            "id": task.id,
            "effect": task.effect,
            "why": task.why,
            "num_episodes": task.num_episodes,
            "extra": task.extra,
            "factory": task.factory,
            "arguments": dict(task.arguments),
            "definition": digest(task),
        }
        for task in SUITE.values()
    ]
    if options.json:
        print(json.dumps(rows, indent=2))
        return ExitCode.OK
    console = make_console(stderr=False)
    for task in SUITE.values():
        extra = f" Needs the extra [{task.extra}]." if task.extra else ""
        console.print(f"{task.id} (delusion {EFFECTS[task.effect]}): {task.why}{extra}", soft_wrap=True, markup=False)
    return ExitCode.OK


def _run(options: RunSuite) -> ExitCode:
    try:
        served = ServedModel(options) if options.is_served else None
        if served is None:
            check_source(options.agent)
        backend.configure(batch_size=1)
        tasks = chosen(options.tasks)
        agents = contestants(options.agent, num_tasks=len(tasks)) if served is None else [served.contestant]
    except UnknownNameError:
        raise
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    interrupts = Interrupts()
    several = len(agents) > 1
    files = [options.file_of(options.name or x.name, x.seed, several=several) for x in agents]
    if options.resume and not any(file.exists() for file in files):
        raise UsageError(f"there is no file {files[0]} to go on with: leave --resume out, or name it with --out.")
    begun = [begin(options, x, file) for x, file in zip(agents, files, strict=True)]
    if served is not None:
        served.agree(tasks, left=[x for x in tasks if not is_done(begun[0].tasks.get(x.id), x)])
    for contestant, file, result in zip(agents, files, begun, strict=True):
        try:
            with interrupts:
                result = _measure(options, contestant, file, result, interrupts)
        except KeyboardInterrupt:
            raise interrupts.error(_how_to_go_on(options, file)) from None
        _print_standing(result, file)
    return ExitCode.OK


def _how_to_go_on(options: RunSuite, file: Path) -> str:
    record = options.server.record
    answers = f" The answers so far are in {record}, from which it takes them." if record is not None else ""
    if file.exists():
        return f"the tasks so far are in {file}; the same command with --resume goes on.{answers}"
    return f"no task was finished; the same command begins again.{answers}"


def _measure(options: RunSuite, contestant: Contestant, file: Path, result: Result, interrupts: Interrupts) -> Result:
    """Measure the agent on the tasks that are missing, and write the file after each."""
    progress = make_console(stderr=True)
    tasks = chosen(options.tasks)
    for i, task in enumerate(tasks, 1):
        if is_done(result.tasks.get(task.id), task):
            progress.print(f"{task.id}: measured before", soft_wrap=True)
            continue
        progress.print(f"{task.id}, {i} of {len(tasks)} ...", soft_wrap=True)

        def measure(task: VersionedTask = task) -> TaskResult:
            return run_task(task, contestant, num_episodes=options.num_episodes)

        try:
            found = interrupts.run(measure)
        except Exception:
            if result.tasks:
                now = contestant.measured(task)
                unless = f", unless {now.of} changes" if now.digest is not None else ""
                progress.print(
                    f"The tasks before {task.id} are in {file}; --resume goes on there{unless}.", soft_wrap=True
                )
            raise
        tasks_so_far = {**result.tasks, task.id: found}
        ordered = {name: tasks_so_far[name] for name in SUITE if name in tasks_so_far}
        result = dataclasses.replace(result, tasks=ordered, date=today())
        with interrupts.held():
            write_result(file, result)
        progress.print(f"  {describe(task, found)}", soft_wrap=True)
    if not result.tasks:
        raise CommandError("no task was measured.")
    return result


def describe(task: VersionedTask, found: TaskResult) -> str:
    """Return a result in one line."""
    if found.status != "played":
        return f"{found.status}: {found.why}"
    do, reward = found.score("action_kl_do"), found.score("reward")
    scaled = normalised(task.id, reward)
    between = "" if scaled.value is None else f" (normalised {with_error(scaled.value, scaled.standard_error)})"
    line = (
        f"{found.verdict}, {with_error(do.value, do.standard_error)} nats from do, return "
        f"{with_error(reward.value, reward.standard_error)}{between}, {found.seconds:.1f} s"
    )
    return line.replace("\N{NO-BREAK SPACE}", " ")


def _print_standing(result: Result, file: Path) -> None:
    console = make_console(stderr=False)
    print_standings(console, [aggregate.standing([result])])
    command = f"undelude suite table {file}{' --trials' if result.is_trial else ''}"
    console.print(f"Written to {file}. A page beside the baselines: {command}", soft_wrap=True)


def print_standings(console: Console, standings: list[aggregate.Standing]) -> None:
    """Print a row for each agent, in 80 columns without a break in a number."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("agent", overflow="fold")
    for head in ("normalised return", "median KL to do", "sober", "deluded", "of"):
        table.add_column(head, justify="right", no_wrap=True)
    for x in standings:
        table.add_row(
            x.agent,
            estimate_share(x.score),
            estimate(x.median_kl),
            str(x.verdicts.get("sober", 0)),
            str(x.verdicts.get("deluded", 0)),
            f"{len(x.played)}",
        )
    console.print(table)
    for x in standings:
        if x.not_run:
            missing = ", ".join(x.not_run) if len(x.not_run) < 5 else f"{len(x.not_run)} of {len(SUITE)} tasks"
            console.print(f"{x.agent}: incomplete, not run on {missing}.", soft_wrap=True, markup=False)
        if x.not_played:
            console.print(f"{x.agent}: does not play {', '.join(x.not_played)}.", soft_wrap=True, markup=False)


def estimate(x: aggregate.Estimate | None) -> str:
    """Return a distance with its interval."""
    return NONE if x is None else f"{short(x.value)} [{short(x.low)}, {short(x.high)}]"


def estimate_share(x: aggregate.Estimate | None) -> str:
    """Return a normalised return with its interval: two decimals."""
    return NONE if x is None else f"{share(x.value)} [{share(x.low)}, {share(x.high)}]"


def _table(options: WriteTable) -> ExitCode:
    if options.out.exists() and not is_leaderboard(options.out):
        raise UsageError(f"{options.out} exists and is not a leaderboard: name another file with --out.")
    try:
        found = read_results(
            [Path(x) for x in options.results], baselines=not options.no_baselines, trials=options.trials
        )
        standings = aggregate.standings(found.results)
    except ValueError as error:
        raise UsageError(str(error)) from error
    write_page(options.out, standings)
    console = make_console(stderr=False)
    print_standings(console, standings)
    for notice in found.notices:
        console.print(notice, soft_wrap=True, markup=False)
    console.print(f"Page: {options.out}", soft_wrap=True)
    return ExitCode.OK
