"""Damaged files for fuzz tests: bytes are changed, or entries of JSON are replaced, dropped, added or exchanged."""

import copy
import json
from random import Random
from typing import Any

JUNK: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 255, 10**6, 10**9, 2**31, 2**63, 10**30, -(10**30), 10**400, 0.0, -0.5, 1.5, 50,
    1e-300, 1e99, 1e300, float("nan"), float("inf"), -float("inf"), "", "x", "do", "lstm", "inf", "é", "\ud800", "\x00",
    "a\nb", "\x1b[2J", "1", "../x", "/dev/zero", "x" * 5000, [], [[]], [0], [1, 2], [None], [[1, 2], [3]], ["do", "do"],
    {}, {"": 0}, {"kind": "given"},
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


def at(value: Any, path: tuple) -> Any:
    for step in path:
        value = value[step]
    return value


def damaged(rng: Random, value: Any, more: tuple = ()) -> Any:
    """Replace, drop, add or exchange one to three entries of `value`; `more` is additional junk that suits it."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        if not (paths := places(value)):
            break
        *path, name = rng.choice(paths)
        parent, junk = at(value, path), copy.deepcopy(rng.choice([*more, *JUNK]))
        match rng.choice(["replace", "replace", "drop", "add", "exchange", "wrap"]):
            case "replace":
                parent[name] = junk
            case "drop":
                del parent[name]
            case "add" if isinstance(parent, dict):
                parent[rng.choice(["x", "", "kind", "format", "task", "window"])] = junk
            case "add":
                parent.append(junk)
            case "exchange":
                parent[name] = copy.deepcopy(at(value, rng.choice(paths)))
            case "wrap":
                parent[name] = [parent[name]]
    return value


def damaged_json(rng: Random, value: Any, more: tuple = ()) -> bytes:
    """Return the bytes of `damaged` JSON; sometimes invalid JSON, or JSON that Python would not write."""
    how = rng.choice(["value"] * 4 + ["token", "twice", "cut", "bytes", "code", "after"])
    if how in ("value", "after", "code"):
        value = damaged(rng, value, more)
    if how == "token" and (paths := places(value)):
        value = copy.deepcopy(value)
        *path, name = rng.choice(paths)
        at(value, path)[name] = MARK
        return json.dumps(value).replace(str(MARK), rng.choice(TOKENS)).encode()
    text = json.dumps(value)
    match how:
        case "twice" if isinstance(value, dict) and value:  # The same key again.
            name = rng.choice(sorted(value))
            return f"{text[:-1]}, {json.dumps(name)}: {json.dumps(rng.choice(JUNK))}}}".encode()
        case "cut":
            return text.encode()[: rng.randint(0, len(text))]
        case "bytes":
            return flipped(rng, text.encode())
        case "code":
            return text.encode(rng.choice(["utf-16", "utf-32", "utf-8-sig"]), "surrogatepass")
        case "after":
            return text.encode() + rng.choice([b"\x00", b"{}", b"\xff", b"\n\n", b","])
    return text.encode()


def flipped(rng: Random, data: bytes) -> bytes:
    """Return the data with some bytes changed."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)
