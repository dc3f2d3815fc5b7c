"""What a command says when it cannot go on, and the exit codes."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script sees; 2 and 130 are the shell's own conventions."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends the command with one line on stderr and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED):
        super().__init__(message)
        self.code = code


class UsageError(CommandError):
    """What was asked for makes no sense."""

    def __init__(self, message: str):
        super().__init__(message, ExitCode.USAGE)


def check_seed(seed: int) -> None:
    """Raise `UsageError` where `--seed` is out of range."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed must be from 0 to 2**32 - 1, not {seed}.")
