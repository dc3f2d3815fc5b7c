"""The command line: one module for each command, and `app`, which parses and runs them."""

from undelude._cli import starting

_ends_quietly = starting.end_quietly()
try:
    from undelude._cli.app import main
finally:
    if _ends_quietly:
        starting.raise_again()

__all__ = ["main"]
