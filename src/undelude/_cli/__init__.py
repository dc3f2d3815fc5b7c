"""The command line: one module for each command, and `app`, which parses and runs them."""

from undelude._cli.starting import ending_quietly

with ending_quietly():
    from undelude._cli.app import main

__all__ = ["main"]
