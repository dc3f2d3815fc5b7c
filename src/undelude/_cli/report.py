"""The command `undelude report`."""

from undelude._cli.console import make_console
from undelude._cli.errors import ExitCode
from undelude._cli.options import Call, Report
from undelude._report import write_report


def run(options: Report, call: Call) -> ExitCode:
    """Run the command."""
    del call
    make_console(stderr=False).print(str(write_report(options.directory)), soft_wrap=True)
    return ExitCode.OK
