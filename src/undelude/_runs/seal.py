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
from undelude._named_tasks import TASKS
from undelude._user_code import module_file

KEY_BYTES = 32


def needs_seal(task: str) -> bool:
    """Return whether making `task` calls a function of the user's."""
    return ":" in task and task not in TASKS


def seal(task: str, digest: str) -> str | None:
    """Return the seal of a configuration that names a task of the user's; None if the user can have no key.

    Args:
        task: `package.module:factory`.
        digest: of the configuration.
    """
    key, module = _key(create=True), module_file(task)
    return None if key is None or module is None else _hmac(key, task, digest, module)


def is_sealed(task: str, digest: str, seal: str | None) -> bool:
    """Return whether this user sealed that configuration, and the task's module is still in the same file."""
    key, module = _key(create=False), module_file(task)
    if seal is None or key is None or module is None:
        return False
    return hmac.compare_digest(_hmac(key, task, digest, module).encode(), seal.encode(errors="replace"))


def _hmac(key: bytes, *parts: str) -> str:
    return hmac.new(key, json.dumps(parts).encode(), hashlib.sha256).hexdigest()


def _key(*, create: bool) -> bytes | None:
    """Return the user's key, made if `create`; None if there is none, or no folder for it."""
    try:
        file = user_folder("XDG_DATA_HOME", ".local", "share") / "key"
        if create and not file.exists():
            _write_once(file, secrets.token_bytes(KEY_BYTES))
        key = read_bytes(file, most=KEY_BYTES, follow=True)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: the user has no home.
        return None
    return key if len(key) == KEY_BYTES else None


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
