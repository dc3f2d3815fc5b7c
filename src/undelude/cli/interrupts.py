"""Ctrl-C in a command that writes files."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


class Interrupts:
    """While it is entered, Ctrl-C raises `KeyboardInterrupt` where that does no harm, and is never lost.

    Python drops what is raised within a callback of its garbage collector, and JAX has one: `check` raises it again.
    """

    def __init__(self) -> None:
        self._pending = False
        self._held = 0

    def __enter__(self) -> "Interrupts":
        self._before = signal.getsignal(signal.SIGINT), sys.unraisablehook
        is_main = threading.current_thread() is threading.main_thread()
        # Where Ctrl-C is ignored, or the caller's own business, it stays so.
        self._installed = is_main and self._before[0] is signal.default_int_handler
        if self._installed:
            signal.signal(signal.SIGINT, self._handle)
            sys.unraisablehook = self._drop_interrupt
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._before[0])
            sys.unraisablehook = self._before[1]

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if Ctrl-C was pressed."""
        if self._pending:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Ctrl-C waits until the block is done, so that what it writes is whole."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self.check()

    def _handle(self, *_: object) -> None:
        self._pending = True
        if not self._held:
            raise KeyboardInterrupt

    def _drop_interrupt(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._before[1](unraisable)
