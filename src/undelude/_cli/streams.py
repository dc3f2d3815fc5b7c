"""The standard streams of a process, of which the caller may have closed some (`undelude ... >&-`)."""

import os
import sys


def open_closed_streams() -> None:
    """Connect closed standard streams with nowhere, and say so if the output goes there.

    If a stream stayed closed, the next file that is opened would get its number, and the output would go into it.
    """
    closed = []
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Gets the lowest free number, which is this one.
        if getattr(sys, name) is None:
            closed.append(name)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 - stays open
    if "stdout" in closed:
        print("undelude: standard output is closed, and nothing is printed there.", file=sys.stderr)
