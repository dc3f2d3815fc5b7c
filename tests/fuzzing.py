"""Helpers for fuzz tests: numbers of examples, allowed outcomes, and damaged JSON."""

import contextlib
import copy
import json
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

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


# JSON ---------------------------------------------------------------------------------------------------------------

JUNK: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 255, 10**6, 10**9, 2**31, 2**63, 10**30, -(10**30), 10**400, 0.0, -0.5, 1.5,
    1e-300, 1e300, float("nan"), float("inf"), -float("inf"), "", "x", "do", "lstm", "é", "\ud800", "\x00", "a\nb",
    "1", "../x", "/dev/zero", "x" * 5000, [], [[]], [0], [1, 2], [None], [[1, 2], [3]], ["do", "do"], {}, {"": 0},
    {"kind": "given"},
]  # fmt: skip
# JSON text in place of a number that Python would not write.
TOKENS = [
    "1e999",
    "-1e999",
    "9" * 5000,
    "0" * 40,
    "[" * 3000 + "]" * 3000,
    '{"a":' * 3000 + "1" + "}" * 3000,
    "NaN",
    "",
]
MARK = 918273645546372819


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Return the path to each value inside `value`."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for name, x in inside for found in [(*path, name), *places(x, (*path, name))]]


@st.composite
def damaged(draw: st.DrawFn, value: Any, more: tuple = ()) -> Any:
    """Replace, drop, add or exchange one to three entries of `value`; `more` is additional junk that suits it."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        if not (paths := places(value)):
            break
        *path, name = draw(st.sampled_from(paths))
        parent = value
        for step in path:
            parent = parent[step]
        junk = copy.deepcopy(draw(st.sampled_from([*more, *JUNK])))
        match draw(st.sampled_from(["replace", "replace", "drop", "add", "exchange", "wrap"])):
            case "replace":
                parent[name] = junk
            case "drop":
                del parent[name]
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["x", "", "kind", "format", "task", "window"]))] = junk
            case "add":
                parent.append(junk)
            case "exchange":
                other = value
                for step in draw(st.sampled_from(paths)):
                    if not isinstance(other, dict | list) or (isinstance(other, dict) and step not in other):
                        break
                    if isinstance(other, list) and not (isinstance(step, int) and step < len(other)):
                        break
                    other = other[step]
                parent[name] = copy.deepcopy(other)
            case "wrap":
                parent[name] = [parent[name]]
    return value


@st.composite
def damaged_json(draw: st.DrawFn, value: Any, more: tuple = ()) -> bytes:
    """Return the bytes of `damaged` JSON; sometimes invalid JSON, or JSON that Python would not write."""
    how = draw(st.sampled_from(["value"] * 4 + ["token", "twice", "cut", "bytes", "code", "after"]))
    if how in ("value", "after", "code"):
        value = draw(damaged(value, more))
    if how == "token" and (paths := places(value)):
        value = copy.deepcopy(value)
        *path, name = draw(st.sampled_from(paths))
        parent = value
        for step in path:
            parent = parent[step]
        parent[name] = MARK
        return json.dumps(value).replace(str(MARK), draw(st.sampled_from(TOKENS))).encode()
    text = json.dumps(value)
    match how:
        case "twice" if isinstance(value, dict) and value:  # The same key again.
            name = draw(st.sampled_from(sorted(value)))
            return f"{text[:-1]}, {json.dumps(name)}: {json.dumps(draw(st.sampled_from(JUNK)))}}}".encode()
        case "cut":
            return text.encode()[: draw(st.integers(0, len(text)))]
        case "bytes":
            return flipped(draw, text.encode())
        case "code":
            return text.encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig"])), "surrogatepass")
        case "after":
            return text.encode() + draw(st.sampled_from([b"\x00", b"{}", b"\xff", b"\n\n", b","]))
    return text.encode()


def flipped(draw: st.DrawFn, data: bytes) -> bytes:
    """Return the data with some bytes changed."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        if changed:
            changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed)
