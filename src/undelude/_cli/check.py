"""The command `undelude check`."""

import dataclasses
import json as json_format

from undelude._certificate.check_task import check_task
from undelude._cli import backend
from undelude._cli.console import make_console, working
from undelude._cli.errors import ExitCode
from undelude._cli.options import Call, Check
from undelude._files import plain
from undelude._process.host_world import closing
from undelude.tasks.registry import make


def run(options: Check, call: Call) -> ExitCode:
    """Run the command."""
    del call
    backend.configure(batch_size=1)
    process = make(options.task)
    with closing(process), working(make_console(stderr=True), "playing"):
        report = check_task(process, num_episodes=options.num_episodes)
    if options.json:
        print(json_format.dumps(plain(dataclasses.asdict(report)), indent=2, allow_nan=False))
    else:
        print(report)
    return ExitCode.OK if report.warning is None else ExitCode.FAILED
