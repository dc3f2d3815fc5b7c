"""Output to a stream whose encoding lacks a character, as under `LC_ALL=C`: another spelling instead of an error."""

import codecs
import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

# Other spellings; a character that is not here is written as an escape, such as `\u03b8`.
SPELLINGS = {
    "±": "+-",
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{INFINITY}": "inf",
    "\N{DOUBLE VERTICAL LINE}": "||",
    "\N{NO-BREAK SPACE}": " ",
    "─": "-",
    "│": "|",
} | dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼╶╴╵╷", "+")


@contextlib.contextmanager
def replacing(*streams: Any) -> Iterator[None]:
    """Replace the characters that a stream cannot encode, while the block runs."""
    before = [(x, x.errors) for x in streams if isinstance(x, io.TextIOWrapper) and x.errors != "backslashreplace"]
    for stream, errors in before:
        codecs.register_error(name := f"undelude, or else {errors}", _handler(codecs.lookup_error(errors or "strict")))
        stream.reconfigure(errors=name)
    try:
        yield
    finally:
        for stream, errors in before:
            if not stream.closed:
                with contextlib.suppress(OSError):  # It flushes, and the reader of the stream may be gone.
                    stream.reconfigure(errors=errors)


def _handler(usual: Callable[[UnicodeError], Any]) -> Callable[[UnicodeError], Any]:
    """Return an error handler for encoding: the usual one, and another spelling for a character that it refuses."""

    def handle(error: UnicodeError) -> Any:
        if not isinstance(error, UnicodeEncodeError):
            return usual(error)
        error.end = error.start + 1  # One character at a time.
        try:
            return usual(error)
        except UnicodeError:
            x = error.object[error.start]
            return SPELLINGS.get(x, x.encode("ascii", "backslashreplace").decode()), error.end

    return handle
