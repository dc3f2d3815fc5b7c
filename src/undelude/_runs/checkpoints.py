"""Checkpoints of a training run, in Orbax's format, written while training goes on: the last two are kept."""

import functools
import json
import logging
import shutil
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

from undelude._files import read_json, sync, write_atomically
from undelude._runs.agent_files import digest
from undelude._teaching.updates import TeachingState

KEPT = 2
SECONDS_BETWEEN = 10.0
# The file in each checkpoint that holds the digests of its other files.
SEAL = "sha256.json"
# A generous bound, in bytes, on Orbax's metadata files.
METADATA_BYTES = 200_000
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
    """

    def __init__(self, folder: Path, seconds_between: float = SECONDS_BETWEEN, metrics_file: Path | None = None):
        import orbax.checkpoint as ocp

        _silence_orbax()
        self._ocp = ocp
        self.folder, self.seconds_between, self.metrics_file = folder, seconds_between, metrics_file
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
            write_atomically(part / SEAL, json.dumps(_digests(part)).encode())
            for file in part.rglob("*"):
                sync(file)
            if self.metrics_file is not None:
                sync(self.metrics_file)
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
        shutil.rmtree(aside, ignore_errors=True)
        (self.folder / str(update)).rename(aside)

    def _sweep(self) -> None:
        """Delete unfinished checkpoints; the thread of a failed write may add files later, for the next sweep."""
        for part in self.folder.glob(f"*{PART}*"):
            shutil.rmtree(part, ignore_errors=True)

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
        # Orbax would find damage too, but its reader threads would print to the terminal.
        try:
            intact = read_json(folder / SEAL) == _digests(folder)
        except FileNotFoundError as error:
            raise ValueError(f"{folder} is damaged ({Path(error.filename).name} is missing)") from error
        except ValueError as error:
            raise ValueError(f"{folder} is damaged ({str(error).removeprefix(f'{folder}/')})") from error
        if not intact:
            raise ValueError(f"{folder} is damaged (a file in it has changed)")
        expected = {name: np.zeros(x.shape, x.dtype) for name, x in _named_arrays(like)}
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
    """Return the updates of the checkpoints in `folder`, in order."""
    return sorted(int(file.name) for file in folder.glob("*") if file.name.isdecimal())


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SEAL)
    return {str(file.relative_to(folder)): digest(file.read_bytes()) for file in files}


def _named_arrays(state: TeachingState) -> list[tuple[str, jax.Array]]:
    leaves, _ = tree_flatten_with_path(eqx.filter(state, eqx.is_array))
    return [(keystr(path), leaf) for path, leaf in leaves]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
