"""The command line: `undelude train | certify | report | tasks | play | paper`."""

from undelude._cli.app import main

__all__ = ["main"]
