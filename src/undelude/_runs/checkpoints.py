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
# In each checkpoint: the digests of its files.
SEAL = "sha256.json"
# Orbax's files about the arrays, amply.
BYTES_BESIDE = 200_000
# In the name of a folder that is being written or taken away: whatever is called by an update alone is whole.
PART = ".part"


class Checkpoints:
    """The folder `checkpoints/` of a run; Orbax, which takes a second to import, is imported when one is made.

    Orbax takes a tenth of a second for a small state, most of it waiting: it starts a dozen threads, writes the arrays
    twice (once for the process, then merged), and a dozen files with metadata. So a thread does it, and training waits
    for no more than the copy of the state to the host.

    Args:
        folder: made where it does not exist; what a crash left unfinished in it is taken away.
        seconds_between: two checkpoints, at least.
        beside: a file that must reach as far as a checkpoint does, also when the power fails: it is on the disk first.
    """

    def __init__(self, folder: Path, seconds_between: float = SECONDS_BETWEEN, beside: Path | None = None):
        import orbax.checkpoint as ocp

        _silence_orbax()
        self._ocp = ocp
        self.folder, self.seconds_between, self.beside = folder, seconds_between, beside
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
            if kind is None:  # An error that is under way is not hidden by another.
                self.wait()
        finally:
            self._orbax.close()

    def save_if_due(self, state: TeachingState) -> None:
        """Begin to write `state`, if the last one was written long enough ago.

        Raises:
            OSError: the last one could not be written.
        """
        if self._writing is not None and self._writing.done():
            self.wait()
        if self._writing is None and time.monotonic() - self._saved_at >= self.seconds_between:
            self.save(state)

    def save(self, state: TeachingState) -> None:
        """Begin to write `state`; `wait` until it is done.

        Raises:
            OSError: the one before it could not be written.
        """
        self.wait()
        arrays = {name: np.asarray(x) for name, x in _named_arrays(state)}
        self._writing = self._thread.submit(self._write, int(state.update), arrays)
        self._saved_at = time.monotonic()

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            OSError: it could not be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, update: int, arrays: dict[str, np.ndarray]) -> None:
        """Whole, under another name; then renamed, unless that update is there already."""
        if update in updates_in(self.folder):
            return
        part = self.folder / f"{update}{PART}"
        try:
            # A disk without room is found out before a dozen threads are at work on it.
            with tempfile.TemporaryFile(dir=self.folder) as room:
                room.write(bytes(2 * sum(x.nbytes for x in arrays.values()) + BYTES_BESIDE))
            self._orbax.save(part.absolute(), args=self._ocp.args.StandardSave(arrays))
            write_atomically(part / SEAL, json.dumps(_digests(part)).encode())
            for file in part.rglob("*"):
                sync(file)
            if self.beside is not None:
                sync(self.beside)
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
        """Take away what is unfinished; a thread of a write that failed may yet add to it, which the next one takes."""
        for part in self.folder.glob(f"*{PART}*"):
            shutil.rmtree(part, ignore_errors=True)

    def restore(self, like: TeachingState, warn: Callable[[str], None]) -> TeachingState | None:
        """The last one that is whole, for a state of the same structure as `like`; None where there is none at all.

        Those after it are renamed, as training will write them again.

        Args:
            like: of that structure.
            warn: called with a line about each that is damaged, where another serves.

        Raises:
            ValueError: none is whole, or another kind of run wrote them.
        """
        wrong: dict[int, str] = {}
        for update in reversed(updates_in(self.folder)):
            try:
                state = self._read(update, like)
            except ValueError as error:
                wrong[update] = str(error)
                continue
            for damaged, why in wrong.items():
                warn(f"{why}: it is set aside, and the checkpoint before it serves.")
                self._set_aside(damaged)
            return state
        if wrong:
            raise ValueError(
                f"{'; '.join(wrong.values())}; there is no other checkpoint. Restore one from a copy, or train anew "
                "with another --out."
            )
        return None

    def _read(self, update: int, like: TeachingState) -> TeachingState:
        folder = self.folder / str(update)
        # Orbax would find damage too, but leave readers behind that complain into the terminal.
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
        except (OSError, MemoryError):  # Of this moment, not of the checkpoint.
            raise
        except Exception as error:  # Orbax and the layers under it raise whatever they like.
            raise ValueError(f"{folder} does not fit this run ({_first_line(error)})") from error
        arrays, static = eqx.partition(like, eqx.is_array)
        _, treedef = tree_flatten_with_path(arrays)
        leaves = [jax.numpy.asarray(found[name]) for name, _ in _named_arrays(like)]
        return eqx.combine(tree_unflatten(treedef, leaves), static)


@functools.cache
def _silence_orbax() -> None:
    """What stops a write, `Checkpoints.wait` raises; Orbax's threads print it too, some of them long after."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).disabled = True
    say = sys.unraisablehook

    def hook(what: Any) -> None:
        if str(what.exc_value) != "Event loop is closed":
            say(what)

    sys.unraisablehook = hook


def _alone(ocp: Any) -> Any:
    """Process 0 saves and restores by itself: without saying so, Orbax would wait for the others."""
    only = {"active_processes": {0}, "barrier_sync_key_prefix": "undelude"} if jax.process_count() > 1 else {}
    return ocp.options.MultiprocessingOptions(primary_host=0, **only)


def updates_in(folder: Path) -> list[int]:
    """The updates that there is a checkpoint of, in order."""
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
