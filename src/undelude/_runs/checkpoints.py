"""Checkpoints of a training run, in Orbax's format, written while training goes on: the last two are kept."""

import functools
import json
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path, tree_unflatten

from undelude._files import read_bytes, read_json, remove, sync, write_atomically
from undelude._runs.agent_files import digest
from undelude._runs.config import SECONDS_BETWEEN
from undelude._runs.config_file import DIGEST
from undelude._teaching.updates import TeachingState

KEPT = 2
# The file in each checkpoint that holds the digests of its other files.
SEAL = "sha256.json"
# A generous bound, in bytes, on Orbax's metadata files.
METADATA_BYTES = 200_000
# Bytes of a checkpoint beyond those of its arrays, when it is read: more than any has.
MARGIN = 2**24
# Suffix of a folder that is being written or deleted: a folder named by an update alone is complete.
PART = ".part"


class Checkpoints:
    """The folder `checkpoints/` of a run, written by Orbax.

    A checkpoint takes a tenth of a second even for a small state, most of it waiting. It is therefore written in a
    thread, and training waits only for the copy of the state to the host. Orbax takes a second to import, so it is
    imported when a `Checkpoints` is created.

    Args:
        folder: created if it does not exist; unfinished checkpoints that a crash left in it are deleted.
        seconds_between: the least number of seconds between two checkpoints.
        metrics_file: synced to the disk before each checkpoint, so that after a power failure it has all rows up to
            the checkpoint.
        config_digest: of the configuration of the run; a checkpoint with another one is not used. None uses all.
    """

    def __init__(
        self,
        folder: Path,
        seconds_between: float = SECONDS_BETWEEN,
        metrics_file: Path | None = None,
        config_digest: str | None = None,
    ):
        import orbax.checkpoint as ocp

        _silence_orbax()
        self._ocp = ocp
        self.folder, self.seconds_between, self.metrics_file = folder, seconds_between, metrics_file
        self.config_digest = config_digest
        folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        self._orbax = ocp.Checkpointer(ocp.StandardCheckpointHandler(), multiprocessing_options=_alone(ocp))
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._saved_at = time.monotonic()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._thread.shutdown()
            if kind is None:  # Otherwise another error would hide the first.
                self.wait()
        finally:
            self._orbax.close()

    def save_if_due(self, state: TeachingState) -> None:
        """Start writing `state` if `seconds_between` have passed since the last checkpoint.

        Raises:
            OSError: the last checkpoint could not be written.
        """
        if self._writing is not None and self._writing.done():
            self.wait()
        if self._writing is None and time.monotonic() - self._saved_at >= self.seconds_between:
            self.save(state)

    def save(self, state: TeachingState) -> None:
        """Start writing `state` in a thread; `wait` returns when it is done.

        Raises:
            OSError: the last checkpoint could not be written.
        """
        self.wait()
        arrays = {name: np.asarray(x) for name, x in _named_arrays(state)}
        self._writing = self._thread.submit(self._write, int(state.update), arrays)
        self._saved_at = time.monotonic()

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is complete.

        Raises:
            OSError: it could not be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, update: int, arrays: dict[str, np.ndarray]) -> None:
        """Write a checkpoint under a temporary name, then rename it; do nothing if there is one of that update."""
        if update in updates_in(self.folder):
            return
        part = self.folder / f"{update}{PART}"
        try:
            # Find out whether the disk has room before Orbax's threads write to it.
            with tempfile.TemporaryFile(dir=self.folder) as room:
                room.write(bytes(2 * sum(x.nbytes for x in arrays.values()) + METADATA_BYTES))
            self._orbax.save(part.absolute(), args=self._ocp.args.StandardSave(arrays))
            seal = {DIGEST: self.config_digest, "files": _digests(part, self._most(arrays))}
            write_atomically(part / SEAL, json.dumps(seal).encode())
            for file in part.rglob("*"):
                sync(file)
            if self.metrics_file is not None:
                sync(self.metrics_file)
            if os.path.lexists(self.folder / str(update)):  # A file or a link, which is not a checkpoint.
                self._set_aside(update)
            part.rename(self.folder / str(update))
            sync(self.folder)
        except BaseException:
            self._sweep()
            raise
        for old in updates_in(self.folder)[:-KEPT]:
            self._remove(old)

    def _remove(self, update: int) -> None:
        part = self.folder / f"{update}{PART}"
        (self.folder / str(update)).rename(part)
        shutil.rmtree(part)

    def _set_aside(self, update: int) -> None:
        aside = self.folder / f"{update}.damaged"
        remove(aside)
        (self.folder / str(update)).rename(aside)

    def _sweep(self) -> None:
        """Delete unfinished checkpoints; the thread of a failed write may add files later, for the next sweep."""
        for part in self.folder.glob("*"):
            if re.fullmatch(rf"[0-9]+{re.escape(PART)}(\..*)?", part.name):
                remove(part)

    @staticmethod
    def _most(arrays: dict[str, np.ndarray]) -> int:
        """Return the most bytes that a checkpoint of such arrays may have."""
        return 2 * sum(x.nbytes for x in arrays.values()) + MARGIN

    def restore(self, like: TeachingState, warn: Callable[[str], None]) -> TeachingState | None:
        """Return the last complete checkpoint, or None if there are no checkpoints.

        Damaged checkpoints after it are renamed, because training will write them again.

        Args:
            like: a state of the same structure.
            warn: called with one line for each damaged checkpoint, if an earlier one is complete.

        Raises:
            ValueError: all checkpoints are damaged, or another kind of run wrote them.
        """
        wrong: dict[int, str] = {}
        for update in reversed(updates_in(self.folder)):
            try:
                state = self._read(update, like)
            except ValueError as error:
                wrong[update] = str(error)
                continue
            for damaged, why in wrong.items():
                warn(f"{why}: it is set aside, and the checkpoint before it is used.")
                self._set_aside(damaged)
            return state
        if wrong:
            raise ValueError(
                f"{'; '.join(wrong.values())}; there is no other checkpoint. Restore one from a copy, or train again "
                "with another --out."
            )
        return None

    def _read(self, update: int, like: TeachingState) -> TeachingState:
        folder = self.folder / str(update)
        expected = {name: np.zeros(x.shape, x.dtype) for name, x in _named_arrays(like)}
        # Orbax would find damage too, but its reader threads would print to the terminal.
        try:
            seal = read_json(folder / SEAL, most=MARGIN)
            intact = seal.get("files") == _digests(folder, self._most(expected))
        except FileNotFoundError as error:
            raise ValueError(f"{folder} is damaged ({Path(error.filename).name} is missing)") from error
        except OSError as error:
            raise ValueError(f"{folder} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise ValueError(f"{folder} is damaged ({str(error).removeprefix(f'{folder}/')})") from error
        if not intact:
            raise ValueError(f"{folder} is damaged (a file in it has changed)")
        if self.config_digest is not None and (other := seal.get(DIGEST)) != self.config_digest:
            raise ValueError(
                f"{folder} belongs to another run or configuration ({DIGEST} in {SEAL} is {other!r:.99}, not "
                f"{self.config_digest!r})"
            )
        try:
            found = self._orbax.restore(folder.absolute(), args=self._ocp.args.StandardRestore(expected))
            for name, want in expected.items():
                if (have := found[name]).shape != want.shape or have.dtype != want.dtype:
                    raise ValueError(f"{name} is {have.dtype}{list(have.shape)}, not {want.dtype}{list(want.shape)}")
        except (OSError, MemoryError):  # Not the checkpoint's fault.
            raise
        except Exception as error:  # Orbax and the layers below it raise many types.
            raise ValueError(f"{folder} does not fit this run ({_first_line(error)})") from error
        arrays, static = eqx.partition(like, eqx.is_array)
        _, treedef = tree_flatten_with_path(arrays)
        leaves = [jax.numpy.asarray(found[name]) for name, _ in _named_arrays(like)]
        return eqx.combine(tree_unflatten(treedef, leaves), static)


@functools.cache
def _silence_orbax() -> None:
    """Keep Orbax's threads from printing the errors that `Checkpoints.wait` raises."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).disabled = True
    say = sys.unraisablehook

    def hook(what: Any) -> None:
        if str(what.exc_value) != "Event loop is closed":
            say(what)

    sys.unraisablehook = hook


def _alone(ocp: Any) -> Any:
    """Return options with which process 0 saves alone; by default Orbax would wait for the other processes."""
    only = {"active_processes": {0}, "barrier_sync_key_prefix": "undelude"} if jax.process_count() > 1 else {}
    return ocp.options.MultiprocessingOptions(primary_host=0, **only)


def updates_in(folder: Path) -> list[int]:
    """Return the updates of the checkpoints in `folder`, in order; other entries are not checkpoints."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [x.name for x in entries if x.is_dir(follow_symlinks=False)]
    return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]{0,17}", name))


def _digests(folder: Path, most: int) -> dict[str, str]:
    """Return the digest of each file in `folder` but `SEAL`; raise `ValueError` if they are too large, or links."""
    found, left = {}, most
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if name != SEAL and not stat.S_ISDIR((about := file.lstat()).st_mode):
            if about.st_size > left:
                raise ValueError(f"its files have more than {most} bytes")
            left -= about.st_size
            found[name] = digest(read_bytes(file, most=about.st_size))
    return found


def _named_arrays(state: TeachingState) -> list[tuple[str, jax.Array]]:
    leaves, _ = tree_flatten_with_path(eqx.filter(state, eqx.is_array))
    return [(keystr(path), leaf) for path, leaf in leaves]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
