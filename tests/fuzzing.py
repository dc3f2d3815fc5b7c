"""Helpers for fuzz tests: numbers of examples and allowed outcomes."""

import contextlib
import json
import random
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings

# Seconds after which an example counts as hanging; it may compile programs.
SECONDS = 300
# Characters.
LONGEST_MESSAGE = 1500
# Beginnings of messages by Python and NumPy, which do not name the caller's value.
NATIVE = re.compile(
    r"unhashable|'\w+' object|\w+\(\) arg|the truth value|can only|not enough|too many values|invalid literal|"
    r"sequence item|must be real|unsupported|'[<>=]+' not|setting an array|only |cannot (conv|unpack|interpret)|"
    r"(object|argument) of type|\w+ indices|descriptor|expected|exceeds|python int|int too|embedded|truth|tuple|list",
    re.IGNORECASE,
)


class Hang(BaseException):
    """The timeout of an example; not an `Exception`, so that no handler swallows it."""


def examples(number: int, *, shrink: bool = True) -> Any:
    """Set the number of examples in the tests; `--hypothesis-profile fuzz` multiplies it by twenty.

    With `shrink=False`, Hypothesis does not shrink a failing example: for tests in which each example may compile.
    """
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    count = max(1, number * settings.default.max_examples // 100)
    phases = [phase for phase in settings.default.phases if shrink or phase not in (Phase.shrink, Phase.explain)]
    return settings(max_examples=count, suppress_health_check=slow, phases=phases)


def check_cases(number: int, check: Callable[[random.Random], None]) -> None:
    """Call `check` with `number` generators of random numbers; an error names the seed of its case.

    Cases are faster than Hypothesis's examples. They are the same each time; with `--hypothesis-profile fuzz` they are
    new, and twenty times as many.
    """
    first = 0 if settings.default.derandomize else random.randrange(10**9)
    for seed in range(first, first + number * max(1, settings.default.max_examples // 100)):
        try:
            check(random.Random(seed))
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


@contextlib.contextmanager
def in_time(seconds: int = SECONDS) -> Iterator[None]:
    """Raise `Hang` if the block takes longer."""

    def stop(*_: object) -> None:
        raise Hang(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(call: Callable[[], Any], *, raises: tuple[type[Exception], ...], names: tuple[str, ...] = ()) -> Any:
    """Return the result of `call`, or its error if that is in `raises` and its one-line message has one of `names`.

    Any other exception fails the test, and so does a subclass that shows an internal error.
    """
    inside = (UnicodeError, json.JSONDecodeError, np.exceptions.AxisError)
    with in_time():
        try:
            return call()
        except raises as raised:
            error = raised
    message = str(error)
    assert not isinstance(error, inside), f"an internal error: {error!r}"
    assert 0 < len(message) < LONGEST_MESSAGE, f"{len(message)} characters: {message[:300]}"
    assert "\n" not in message, message
    assert not NATIVE.match(message), f"does not name what is wrong: {error!r}"
    assert not names or any(name in message for name in names), f"names none of {names}: {error!r}"
    return error
