"""Reading and writing files so that a crash, a full disk or a damaged file is never taken for good data."""

import contextlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

MAX_JSON = 2**26


def read_json(file: Path, *, most: int = MAX_JSON) -> dict[str, Any]:
    """A JSON object from `file`.

    Args:
        file: a regular file, or a link to one.
        most: bytes; a longer file is not read.

    Raises:
        ValueError: it is damaged; the message names it.
        OSError: it cannot be read.
    """
    if file.exists() and not file.is_file():
        raise ValueError(f"{file} is no regular file.")
    if (size := file.stat().st_size) > most:
        raise ValueError(f"{file} is damaged: it has {size} bytes, of {most} at most.")
    try:
        return json_object(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}.") from error


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object; unlike `json.loads`, nothing that JSON has not, no name twice in it, and no float without end.

    Raises:
        ValueError: it is none; the message is one line, and goes on from the name of what was read.
    """
    try:
        value = json.loads(data, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeError as error:
        raise ValueError("it is no text in UTF-8") from error
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{twice!r:.99} is there twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON's")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text:.99} is no number of 64 bits")
    return number


def write_atomically(file: Path, data: bytes) -> None:
    """Write next to `file`, then rename: a reader, or a crash, sees the old content or the new, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(handle)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, file)
        sync(file.parent)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # As on a full disk, which says no name.
            error.filename = str(file)
        raise


def sync(path: Path) -> None:
    """Have what was written to a file, or renamed in a folder, on the disk before anything that comes after it."""
    with contextlib.suppress(OSError):  # Some systems open no folders.
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    """What the user forbids new files; it can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
