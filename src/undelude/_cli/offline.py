"""The command `undelude offline` and its commands `diagnose`, `report` and `dream`; `fit` has a module of its own."""

import dataclasses
import json
from pathlib import Path

import tyro

from undelude import offline
from undelude._cli import backend, offline_fit, train
from undelude._cli.console import make_console, working
from undelude._cli.errors import CommandError, ExitCode, UsageError
from undelude._cli.interrupts import Interrupts
from undelude._cli.offline_options import FIT, Diagnose, DrawReport, Dream, FitLogs, Offline
from undelude._cli.options import Call, Train
from undelude._report.logs_page import write_logs_report
from undelude._runs import layout
from undelude._runs.config import DREAM_OPTIONS, Config, option
from undelude._runs.directory import RunDirectory
from undelude.offline._acting.agent import AGAINST
from undelude.offline._diagnosing.cloned import cloned
from undelude.offline._saving.diagnosis_file import FILE, read_diagnosis, write_diagnosis

# Verdicts after which an experiment is named; its episodes, and most rounds of its plans.
OPEN, TRIED, PLANNED = ("not identified", "weak"), 50, 4


def run(options: Offline, call: Call) -> ExitCode:
    """Run the command."""
    match options.command:
        case FitLogs() as command:
            return offline_fit.run(command, call)
        case Diagnose() as command:
            return _diagnose(command)
        case DrawReport(directory):
            make_console(stderr=False).print(str(write_logs_report(directory)), soft_wrap=True)
            return ExitCode.OK
        case Dream() as command:
            return _dream(command, call)


def _diagnose(options: Diagnose) -> ExitCode:
    """Diagnose a fit, from its logs."""
    folder = options.directory
    backend.configure(batch_size=1)
    fit = offline.load(folder)
    settings = offline_fit.read_settings(folder)
    files = [str(Path(x).expanduser().absolute()) for x in options.logs] or settings["files"]
    progress = make_console(stderr=True)
    with working(progress, "reading the logs"):
        try:
            demos = offline_fit.read_logs(files, offline_fit.stored_options(folder, settings))
        except FileNotFoundError as error:
            raise UsageError(f"{error} Say where the logs are now with --logs.") from error
    if demos.digest() != fit.digest:
        raise CommandError(
            f"{demos!r} are not the logs that {folder / FIT} was fitted to: they have changed, or --logs names others. "
            "Fit them again with another --out."
        )
    interrupts = Interrupts()
    try:
        with interrupts:
            how_long = "which takes some minutes; --quick leaves out the longest tests"
            with working(progress, "diagnosing" if options.quick else f"diagnosing, {how_long}") as show:
                slow = not options.quick

                def show_test(test: str) -> None:
                    show(f"diagnosing: {test}")

                diagnosis = interrupts.run(
                    lambda: offline.diagnose(fit, demos, passive=slow, structure=slow, on_test=show_test)
                )
                show_test("what cloning would do")
                clone = interrupts.run(lambda: cloned(fit))
                if slow and diagnosis.verdict in OPEN and demos.action.finite:
                    show_test("the experiment that would tell most")
                    T = min(PLANNED, fit.process.num_rounds)
                    found = interrupts.run(
                        lambda: offline.next_experiment(fit, demos, num_episodes=TRIED, num_rounds=T)
                    )
                    diagnosis = dataclasses.replace(diagnosis, experiment=found)
            with interrupts.held():
                content = write_diagnosis(folder, fit, diagnosis, clone)
            page = write_logs_report(folder)
    except KeyboardInterrupt:
        raise interrupts.error(f"{folder / FILE} is as it was, or complete.") from None
    if options.json:
        print(json.dumps(content, indent=2, allow_nan=False))
    console = make_console(stderr=options.json)
    console.print(str(diagnosis), soft_wrap=True)
    console.print(f"Page: {page}", soft_wrap=True)
    return ExitCode.OK


def _dream(options: Dream, call: Call) -> ExitCode:
    """Teach an agent in the induced process, as `undelude train` does with the folder of the fit for a task."""
    out = options.run_directory
    layout.check_run(out) if options.resume else layout.check_free(out)
    if options.resume:
        config = RunDirectory.open(out).config
        kept = {name: getattr(config, name) for name in DREAM_OPTIONS}
        default = dataclasses.replace(options, **kept, resume=False, strict=False)
        flags = (tyro.conf.FlagCreatePairsOff,)
        options = tyro.cli(Dream, args=[*call.args][1:], default=default, config=flags)
    given = {name: getattr(options, name) for name in DREAM_OPTIONS}
    config = Config(str(options.directory.absolute()), target="posterior", **given)
    command = Train(config, out=out, resume=options.resume)
    command.check()
    backend.configure(batch_size=config.batch_size)
    _warn_of_verdict(options)
    args = [config.task]
    for name, value in [*given.items(), ("target", config.target)]:
        args += [] if value is None else [option(name), str(value)]
    return train.run(command, Call(args, call.started))


def _warn_of_verdict(options: Dream) -> None:
    """Print a warning if the diagnosis speaks against acting, or is missing; with --strict, raise."""
    fit = offline.load(options.directory)
    found = read_diagnosis(options.directory, fit)
    if found is None:
        text = f"this fit has not been diagnosed: undelude offline diagnose {options.directory}"
    elif found[0].verdict in AGAINST:
        text = f"the verdict on this fit is {found[0].verdict!r}: do not rely on what is taught in it."
    else:
        return
    if options.strict:
        raise CommandError(text)
    make_console(stderr=True).print(f"Warning: {text}", soft_wrap=True)
