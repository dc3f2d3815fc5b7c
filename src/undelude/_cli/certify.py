"""The command `undelude certify`."""

import json as json_format
import warnings
from pathlib import Path
from typing import Any

import jax

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._certificate.certificate import certify
from undelude._cli import backend
from undelude._cli.console import certifying, make_console
from undelude._cli.errors import ExitCode
from undelude._cli.interrupts import Interrupts
from undelude._cli.measurements import make_certificate, write_film
from undelude._cli.options import Call, Certify
from undelude._cli.permission import check_may_call_task
from undelude._cli.tables import print_certificate
from undelude._process.host_world import closing
from undelude._report import write_report
from undelude._runs.directory import RunDirectory
from undelude._runs.layout import CERTIFICATE
from undelude._user_code import UserCodeError, import_object
from undelude.tasks.registry import make


def run(options: Certify, call: Call) -> ExitCode:
    """Run the command."""
    return _certify_run(options, call) if options.is_run else _certify_own_agent(options)


def _certify_run(options: Certify, call: Call) -> ExitCode:
    directory = Path(options.agent)
    run = RunDirectory.open(directory)
    run.check_numerics()
    check_may_call_task(run, options.task, command=call.line("certify"))
    # The same devices as in training, to use its compiled programs.
    backend.configure(batch_size=run.config.batch_size)
    interrupts, console = Interrupts(), make_console(stderr=True)
    try:
        with run.locked(), interrupts, certifying(console) as advance:
            agent = run.load_agent()
            process = make(run.config.task)
            with closing(process):
                certificate = interrupts.run(
                    lambda: make_certificate(
                        agent, process, run.config, num_episodes=options.num_episodes, on_progress=advance
                    )
                )
                with interrupts.held():
                    run.write_certificate(certificate)
                write_film(run, agent, process, console, interrupts)
    except KeyboardInterrupt:
        raise interrupts.error(f"{run.certificate_file} is as it was, or complete.") from None
    certificate = run.read_certificate()
    page = write_report(run.path) if run.report_file.exists() else None
    _print(options, certificate, run.certificate_file, page)
    return ExitCode.OK


def _certify_own_agent(options: Certify) -> ExitCode:
    """Certify an agent from elsewhere, and write its certificate and its page."""
    assert options.task is not None
    process = make(options.task)
    agent = import_object(options.agent, kind="agent")
    if callable(agent):
        try:
            agent = agent(process)
        except (Exception, SystemExit) as error:
            raise UserCodeError("agent", options.agent) from error
    if not isinstance(agent, AbstractAgent | HostAgent):
        raise TypeError(
            f"{options.agent} is of type {type(agent).__name__}; it must be an agent, such as a ud.HostAgent, or a "
            "function that is given the process and returns one."
        )
    backend.configure(batch_size=1)
    with closing(process), certifying(make_console(stderr=True)) as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # The notes hold the same warnings and are printed.
        size = {"num_episodes": options.num_episodes, "on_progress": advance}
        report = certify(process, agent, key=jax.random.key(0), **size)
        page = report.save(options.folder)
    _print(options, report.to_dict(), options.folder / CERTIFICATE, page)
    return ExitCode.OK


def _print(options: Certify, certificate: dict[str, Any], file: Path, page: Path | None) -> None:
    """Print the result, only now that all files are written: a reader such as `head` may end the command."""
    if options.json:
        print(json_format.dumps(certificate, indent=2))
    console = make_console(stderr=options.json)
    print_certificate(console, certificate)
    console.print(f"Measured in {certificate['seconds']:.1f} s, written to {file}.", soft_wrap=True)
    if page is not None:
        console.print(f"Page: {page}", soft_wrap=True)
