"""Errors that end a command with one line, and the exit codes."""

import errno
from enum import IntEnum

from undelude._errors import is_ours, users_line

# Types that undelude raises with a message that says what to do.
EXPECTED = (ValueError, TypeError, OSError, ImportError, FloatingPointError, MemoryError)


class ExitCode(IntEnum):
    """Exit codes of the commands; 2, 130 and 143 follow the conventions of the shell."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
    TERMINATED = 143


class CommandError(Exception):
    """An error that ends the command with one line on stderr and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED):
        super().__init__(message)
        self.code = code


class UsageError(CommandError):
    """A command line that makes no sense."""

    def __init__(self, message: str):
        super().__init__(message, ExitCode.USAGE)


def explain(error: BaseException) -> str:
    """Describe `error` in one line: its place in the user's code, and its type if undelude did not raise it."""
    where, text = users_line(error), str(error).strip()
    is_expected = isinstance(error, EXPECTED) and (not where or is_ours(error))
    if not is_expected:
        text = ": ".join([type(error).__name__, *text.splitlines()[:1]])
    if isinstance(error, SyntaxError) or (where and where in text):  # The text has the place already.
        return text
    if where:
        return text.removesuffix(".") + where
    return text if is_expected else f"{text} (UNDELUDE_DEBUG=1 shows the traceback.)"


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is a full disk or an exceeded quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):  # From C++, without errno.
            return True
        error = error.__cause__ or error.__context__
    return False


def check_seed(seed: int) -> None:
    """Raise `UsageError` if `--seed` is out of range."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed must be from 0 to 2**32 - 1, not {seed}.")
