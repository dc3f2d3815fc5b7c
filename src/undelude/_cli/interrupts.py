"""Ctrl-C and SIGTERM in a command that writes files."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

# The default handler of each signal. Other handlers, such as SIG_IGN or the caller's own, stay in place.
DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interrupts:
    """A context in which Ctrl-C and SIGTERM raise `KeyboardInterrupt`, but not while a file is being written.

    Python drops an exception raised in a callback of its garbage collector, and JAX has such a callback; `check` raises
    the interrupt again.

    Attributes:
        received: the last signal, or None.
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
        """Raise `KeyboardInterrupt` if a signal was received."""
        if self.received is not None:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delay signals until the block ends, so that it writes complete files."""
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
