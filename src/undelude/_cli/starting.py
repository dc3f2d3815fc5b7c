"""Ctrl-C while the modules of a command are imported. This module is the first, and imports next to nothing itself."""

import signal


def end_quietly() -> bool:
    """Let Ctrl-C end the process as the shell expects, without a traceback from inside an import.

    Returns:
        Whether this was done. It is not in a thread, nor if Ctrl-C has another handler than Python's.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # Not the main thread.
        return False
    return True


def raise_again() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
