"""Ctrl-C while the modules of a command are imported."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ending_quietly() -> Iterator[None]:
    """Let Ctrl-C end the process in the block as the shell expects, without a traceback from inside an import."""
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
