"""Ctrl-C, and the SIGTERM of a scheduler, in a command that writes files."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

# What a signal does by default; where it is ignored, or the caller's own business, it stays so.
DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interrupts:
    """While it is entered, Ctrl-C and SIGTERM raise `KeyboardInterrupt` where that does no harm, and are never lost.

    Python drops what is raised within a callback of its garbage collector, and JAX has one: `check` raises it again.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._held = 0

    def __enter__(self) -> "Interrupts":
        is_main = threading.current_thread() is threading.main_thread()
        self._installed = [x for x, default in DEFAULTS.items() if is_main and signal.getsignal(x) is default]
        self._hook = sys.unraisablehook
        for number in self._installed:
            signal.signal(number, self._handle)
        if self._installed:
            sys.unraisablehook = self._drop_interrupt
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._installed:
            signal.signal(number, DEFAULTS[number])
        if self._installed:
            sys.unraisablehook = self._hook

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if a signal came."""
        if self.received is not None:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A signal waits until the block is done, so that what it writes is whole."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self.check()

    def _handle(self, number: int, _: object) -> None:
        self.received = signal.Signals(number)
        if not self._held:
            raise KeyboardInterrupt

    def _drop_interrupt(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._hook(unraisable)
