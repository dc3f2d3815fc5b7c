"""The seal of a run: how `config.json` shows that this user wrote it on this machine.

A task of the user's own is code that `config.json` names. A command calls it without asking only if the seal fits. The
seal is an HMAC under a key that lies in the user's data folder and in no run directory, so that a directory from
elsewhere cannot carry a fitting one. It covers the file of the task's module, so that a run of one's own does not call
a module of the same name in another place.
"""

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from pathlib import Path

from undelude._files import read_bytes, user_folder
from undelude._named_tasks import TASKS, is_fit
from undelude._user_code import module_file

KEY_BYTES = 32
# Hexadecimal digits of a seal that name its key.
NAME_DIGITS = 16


def needs_seal(task: str) -> bool:
    """Return whether making `task` calls a function of the user's."""
    return ":" in task and task not in TASKS and not is_fit(task)


def seal(task: str, digest: str) -> str | None:
    """Return the seal of a configuration that names a task of the user's; None if the user can have no key.

    Args:
        task: `package.module:factory`.
        digest: of the configuration.
    """
    module = module_file(task)
    try:
        key = _key(create=True)
    except _NoKeyError:
        return None
    return None if module is None else _seal(key, task, digest, module)


def why_unsealed(task: str, digest: str, seal: str | None) -> str | None:
    """Return why a seal does not fit, as a clause for a message; None if it fits.

    It fits if this user sealed that configuration, and the task's module is still in the same file.
    """
    module = module_file(task)
    if module is None:
        return (
            f"its module is neither installed nor in the current directory {os.getcwd()}, so run the command "
            "where it is"
        )
    if seal is None:
        return "the run has no seal, because it was made without a key"
    try:
        key = _key(create=False)
    except _NoKeyError as error:
        return str(error)
    if hmac.compare_digest(_seal(key, task, digest, module).encode(), seal.encode(errors="replace")):
        return None
    if not seal.startswith(_name_of(key)):
        return "it was sealed with another key, such as that of another user or machine"
    return f"its module is now {module}, and was another file when the run was made"


class _NoKeyError(Exception):
    """The user has no key; the message says why."""


def _seal(key: bytes, task: str, digest: str, module: str) -> str:
    return _name_of(key) + _hmac(key, task, digest, module)


def _name_of(key: bytes) -> str:
    """Return digits that tell keys apart and say nothing else about them."""
    return _hmac(key, "name")[:NAME_DIGITS]


def _hmac(key: bytes, *parts: str) -> str:
    return hmac.new(key, json.dumps(parts).encode(), hashlib.sha256).hexdigest()


def _key(*, create: bool) -> bytes:
    """Return the user's key, made if `create`.

    Raises:
        _NoKeyError: there is none, or no folder for it, or its file holds something else.
    """
    try:
        file = user_folder("XDG_DATA_HOME", ".local", "share") / "key"
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: the user has no home.
        raise _NoKeyError(f"there is no folder for a key of yours ({error})") from error
    try:
        if create and not file.exists():
            _write_once(file, secrets.token_bytes(KEY_BYTES))
        key = read_bytes(file, most=KEY_BYTES, follow=True)
    except FileNotFoundError as error:
        raise _NoKeyError(f"you have no key on this machine ({file})") from error
    except (OSError, ValueError) as error:
        raise _NoKeyError(f"your key {file} cannot be read ({error})") from error
    if len(key) != KEY_BYTES:
        size = f"{len(key)} bytes in place of {KEY_BYTES}; delete it, and the next run makes another"
        raise _NoKeyError(f"your key {file} is damaged ({size})")
    return key


def _write_once(file: Path, data: bytes) -> None:
    """Write a file that only the user can read, unless another process writes it first."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        try:
            os.link(temporary, file)
        except FileExistsError:
            pass
        except OSError:  # A file system without hard links.
            os.rename(temporary, file)
    finally:
        Path(temporary).unlink(missing_ok=True)
