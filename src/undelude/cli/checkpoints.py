"""Checkpoints of a training run, in Orbax's format: the last two are kept."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path, tree_unflatten

from undelude.checkpoint import read_json, write_atomically
from undelude.teaching import TeachingState

KEPT = 2
# Saving takes a tenth of a second: as seldom as this it costs one percent.
SECONDS_BETWEEN = 10.0
# In each checkpoint: the digests of its files.
SEAL = "sha256.json"


class Checkpoints:
    """The folder `checkpoints/` of a run; Orbax, which takes a second to import, is imported when one is made.

    Args:
        folder: made where it does not exist.
    """

    def __init__(self, folder: Path):
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=KEPT, enable_async_checkpointing=False, create=False, multiprocessing_options=_alone(ocp)
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self._saved_at = time.monotonic()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """The update of the last one, None where there is none."""
        return self._manager.latest_step()

    @property
    def due(self) -> bool:
        """Whether the last one was written long enough ago."""
        return time.monotonic() - self._saved_at >= SECONDS_BETWEEN

    def save(self, state: TeachingState) -> None:
        """Write `state`, unless that update is there already."""
        update = int(state.update)
        if update != self.latest:
            arrays = {name: np.asarray(x) for name, x in _named_arrays(state)}
            self._manager.save(update, args=self._ocp.args.StandardSave(arrays))
            folder = self.folder / str(update)
            write_atomically(folder / SEAL, json.dumps(_digests(folder)).encode())
        self._saved_at = time.monotonic()

    def restore(self, like: TeachingState) -> TeachingState:
        """The last one, for a state of the same structure as `like`.

        Raises:
            ValueError: it is damaged, or another kind of run wrote it.
        """
        update = self.latest
        folder = self.folder / str(update)
        instead = "Delete that folder, and --resume goes on from the checkpoint before it."
        # Orbax would find damage too, but leave readers behind that complain into the terminal.
        if (folder / SEAL).exists() and read_json(folder / SEAL) != _digests(folder):
            raise ValueError(f"{folder} is damaged: a file in it has changed. {instead}")
        expected = {name: np.zeros(x.shape, x.dtype) for name, x in _named_arrays(like)}
        try:
            found = self._manager.restore(update, args=self._ocp.args.StandardRestore(expected))
            for name, want in expected.items():
                if (have := found[name]).shape != want.shape or have.dtype != want.dtype:
                    raise ValueError(f"{name} is {have.dtype}{list(have.shape)}, not {want.dtype}{list(want.shape)}")
        except Exception as error:  # Orbax and the layers under it raise whatever they like.
            raise ValueError(f"{folder} does not fit this run ({_first_line(error)}). {instead}") from error
        arrays, static = eqx.partition(like, eqx.is_array)
        _, treedef = tree_flatten_with_path(arrays)
        leaves = [jax.numpy.asarray(found[name]) for name, _ in _named_arrays(like)]
        return eqx.combine(tree_unflatten(treedef, leaves), static)


def _alone(ocp: Any) -> Any:
    """Process 0 saves and restores by itself: without saying so, Orbax would wait for the others."""
    only = {"active_processes": {0}, "barrier_sync_key_prefix": "undelude"} if jax.process_count() > 1 else {}
    return ocp.options.MultiprocessingOptions(primary_host=0, **only)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SEAL)
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _named_arrays(state: TeachingState) -> list[tuple[str, jax.Array]]:
    leaves, _ = tree_flatten_with_path(eqx.filter(state, eqx.is_array))
    return [(keystr(path), leaf) for path, leaf in leaves]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
