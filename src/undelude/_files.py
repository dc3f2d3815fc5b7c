"""Reading and writing files: a crash or a full disk leaves no half-written file, and damaged files are refused."""

import contextlib
import errno
import glob
import json
import math
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

MAX_JSON = 2**26


def user_folder(variable: str, *default: str) -> Path:
    """Return the folder `undelude` in the one that an XDG variable names, by default in `default` in the user's home.

    A relative path does not count, as the XDG specification says.

    Raises:
        RuntimeError: the user has no home.
    """
    named = Path(os.environ.get(variable, ""))
    return (named if named.is_absolute() else Path.home().joinpath(*default)) / "undelude"


def read_bytes(file: Path, *, most: int, remedy: str = "", follow: bool = False) -> bytes:
    """Read a regular file; the size is checked before anything is read, and a FIFO or a device is not opened for long.

    Args:
        file: a regular file.
        most: bytes that the file may have.
        remedy: a sentence for the error message that says what to do about a damaged file.
        follow: whether `file` may be a symbolic link to a regular file.

    Raises:
        ValueError: the file is a link or a special file, or is too large; the message names it.
        OSError: the file cannot be read.
    """
    flags = os.O_RDONLY | _flag("O_NONBLOCK") | _flag("O_CLOEXEC") | _flag("O_BINARY")
    try:
        handle = os.open(file, flags if follow else flags | _flag("O_NOFOLLOW"))
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise ValueError(f"{file} is a symbolic link: put the file itself there.") from error
        raise
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{file} is not a regular file.")
        if about.st_size > most:
            raise ValueError(f"{file} is damaged: it has {about.st_size} bytes, of {most} at most. {remedy}".rstrip())
        with open(handle, "rb", closefd=False) as opened:
            return opened.read(most)
    finally:
        os.close(handle)


def _flag(name: str) -> int:
    """Return a flag of `os.open`, or 0 on a system that lacks it."""
    return getattr(os, name, 0)


def read_json(file: Path, *, most: int = MAX_JSON, remedy: str = "", follow: bool = False) -> dict[str, Any]:
    """Read a JSON object from `file`; the arguments are those of `read_bytes`.

    Raises:
        ValueError: the file is damaged; the message names it.
        OSError: the file cannot be read.
    """
    data = read_bytes(file, most=most, remedy=remedy, follow=follow)
    try:
        return json_object(data)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}. {remedy}".rstrip()) from error


def json_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object strictly: reject NaN and Infinity, duplicate keys, and decimals too large for a float.

    Raises:
        ValueError: it is not such an object; the message is one line that continues the name of the file.
    """
    try:
        value = json.loads(data, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{twice!r:.99} occurs twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text:.99} is not a 64-bit number")
    return number


def plain(value: Any) -> Any:
    """Return `value` for JSON, with infinity as the string "inf" and NaN as null."""
    if isinstance(value, dict):
        return {name: plain(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [plain(x) for x in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else None
    return value


def write_atomically(file: Path, data: bytes) -> None:
    """Write next to `file`, then rename, so that a reader or a crash finds the old content or the new, never half."""
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
        if isinstance(error, OSError) and error.filename is None:  # A full disk's error has no name.
            error.filename = str(file)
        raise


def sweep(file: Path) -> None:
    """Delete the temporary files that a killed process left next to `file` in `write_atomically`."""
    for left in file.parent.glob(f".{glob.escape(file.name)}.{'?' * 8}"):
        with contextlib.suppress(OSError):
            left.unlink()


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with everything in it, if it is there; follow no link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def sync(path: Path) -> None:
    """Flush a written file, or a rename in a folder, to the disk before later writes."""
    with contextlib.suppress(OSError):  # Not every system can open or sync a folder.
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
