"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) in a command that writes files."""

import contextlib
import contextvars
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from undelude._cli.errors import CommandError, ExitCode

T = TypeVar("T")
# The default handler of each signal. Other handlers, such as SIG_IGN or the caller's own, stay in place.
DEFAULTS: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
if hasattr(signal, "SIGHUP"):  # Not on Windows.
    DEFAULTS[signal.SIGHUP] = signal.SIG_DFL


class Interrupts:
    """A context in which the signals of `DEFAULTS` raise `KeyboardInterrupt`, but not while a file is being written.

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

    def error(self, message: str) -> CommandError:
        """Return the error with which the command ends after a signal; `message` names the files."""
        code = ExitCode.INTERRUPTED if self.received in (None, signal.SIGINT) else ExitCode.TERMINATED
        return CommandError(f"{code.name.lower()}; {message}", code)

    def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns; a signal ends the wait for it at once.

        Python runs the handler of a signal only after a call into XLA returns, which a long measurement does late. So
        `call` runs in another thread. It must write nothing: after a signal it is left alone until the process ends.
        """
        return in_thread(call)()

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
        _leave_closed_terminal()
        if not self._held:
            raise KeyboardInterrupt

    def _drop_interrupt(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._hook(unraisable)


def in_thread(call: Callable[[], T]) -> Callable[[], T]:
    """Start `call` in another thread; return a function that waits for its result, and raises its error."""
    outcome: list[Callable[[], T]] = []

    def work() -> None:
        try:
            result = context.run(call)
        except BaseException as error:
            outcome.append(_raiser(error))
        else:
            outcome.append(lambda: result)
        done.set()

    def wait() -> T:
        done.wait()
        return outcome[0]()

    context, done = contextvars.copy_context(), threading.Event()
    threading.Thread(target=work, daemon=True).start()
    return wait


def _raiser(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def _leave_closed_terminal() -> None:
    """Send further output nowhere if the terminal was closed: an error while printing would hide the interrupt."""
    try:
        import termios
    except ModuleNotFoundError:  # Windows.
        return
    for number in (1, 2):
        try:
            termios.tcgetattr(number)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
