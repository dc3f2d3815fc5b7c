"""The command `undelude check`."""

import dataclasses
import json as json_format
from collections.abc import Sequence
from typing import Annotated

import tyro

from undelude._certificate.check_task import check_task
from undelude._cli import backend
from undelude._cli.console import make_console, working
from undelude._cli.errors import ExitCode, UsageError
from undelude._files import plain
from undelude.tasks.registry import make


@dataclasses.dataclass(frozen=True)
class Check:
    """Check a task for errors that make training on it worthless, and measure the cost of delusion."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """A name from `undelude tasks`, or your own package.module:factory."""
    num_episodes: int = 512
    """Number of episodes of the deluded agent, for action_kl_do."""
    json: bool = False
    """Print the measurements as JSON."""

    def run(self, args: Sequence[str]) -> ExitCode:
        """Run the command."""
        del args
        if self.num_episodes < 1:
            raise UsageError(f"--num-episodes must be at least 1, not {self.num_episodes}.")
        backend.configure(batch_size=1)
        process = make(self.task)
        with working(make_console(stderr=True), "playing"):
            report = check_task(process, num_episodes=self.num_episodes)
        if self.json:
            print(json_format.dumps(plain(dataclasses.asdict(report)), indent=2, allow_nan=False))
        else:
            print(report)
        return ExitCode.OK
