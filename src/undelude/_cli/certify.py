"""The commands `undelude certify` and `undelude report`."""

import dataclasses
import json as json_format
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from undelude._cli import backend
from undelude._cli.console import make_console, print_certificate, working
from undelude._cli.errors import ExitCode, UsageError
from undelude._cli.interrupts import Interrupts
from undelude._cli.measure import NUM_EPISODES, make_certificate, write_film
from undelude._cli.permission import check_may_call_task
from undelude._runs.config import Text
from undelude._runs.directory import RunDirectory
from undelude.tasks.registry import make

Directory = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]


@dataclasses.dataclass(frozen=True)
class Certify:
    """Measure the agent of a run and write its certificate.json."""

    directory: Directory
    """The run directory."""
    num_episodes: int = NUM_EPISODES
    """Number of the agent's own episodes to measure on."""
    task: Text = None
    """The task, package.module:factory, of a run that you did not make on this machine: allows calling it."""
    json: bool = False
    """Print the certificate as JSON to stdout, and everything else to stderr."""

    def run(self, args: Sequence[str]) -> ExitCode:
        """Run the command."""
        del args
        if self.num_episodes < 2:
            raise UsageError(f"--num-episodes must be at least 2, for a standard error, not {self.num_episodes}.")
        run = RunDirectory.open(self.directory)
        run.check_numerics()
        check_may_call_task(run, self.task, command=f"undelude certify {shlex.quote(str(self.directory))}")
        # The same devices as in training, to use its compiled programs.
        backend.configure(batch_size=run.config.batch_size)
        interrupts, console = Interrupts(), make_console(stderr=True)
        try:
            with run.locked(), interrupts, working(console, "certifying"):
                agent = run.load_agent()
                process = make(run.config.task)
                size = {"num_episodes": self.num_episodes}
                certificate = interrupts.run(lambda: make_certificate(agent, process, run.config, **size))
                with interrupts.held():
                    run.write_certificate(certificate)
                write_film(run, agent, process, console, interrupts)
        except KeyboardInterrupt:
            raise interrupts.error(f"{run.certificate_file} is as it was, or complete.") from None
        certificate = run.read_certificate()
        page = _write_report(run) if run.report_file.exists() else None
        # Print only now, with all files written: a reader such as `head` may end the command.
        if self.json:
            print(json_format.dumps(certificate, indent=2))
        console = make_console(stderr=self.json)
        print_certificate(console, certificate)
        console.print(f"Measured in {certificate['seconds']:.1f} s, written to {run.certificate_file}.", soft_wrap=True)
        if page is not None:
            console.print(f"Page: {page}", soft_wrap=True)
        return ExitCode.OK


@dataclasses.dataclass(frozen=True)
class Report:
    """Draw the page of a run from its files and print its path."""

    directory: Directory
    """The run directory."""

    def run(self, args: Sequence[str]) -> ExitCode:
        """Run the command."""
        del args
        page = _write_report(RunDirectory.open(self.directory))
        make_console(stderr=False).print(str(page), soft_wrap=True)
        return ExitCode.OK


def _write_report(run: RunDirectory) -> Path:
    from undelude._report import write_report  # Imports matplotlib, which takes long to load.

    return write_report(run.path)
