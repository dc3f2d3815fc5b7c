"""The runs of an unfinished fit in files, so that the same call goes on from there."""

import hashlib
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from undelude._files import write_atomically
from undelude.offline._fitting.em import Progress

# Seconds between two writes.
SECONDS_BETWEEN = 10.0
# The entry of a file that tells fits apart.
DIGEST = "fit"


class Checkpoint:
    """A folder with one file for each latent, and one for the chosen latent on all data.

    Args:
        folder: is made if it is not there.
        about: everything that decides the numbers of the fit.
    """

    def __init__(self, folder: Path, about: str):
        self.folder, self.digest = folder, hashlib.sha256(about.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, name: str) -> "Kept":
        """Return the file of some runs."""
        return Kept(self.folder / f"{name}.safetensors", self.digest)


class Kept:
    """All runs of one latent in a file.

    Args:
        file: that need not be there.
        digest: of the fit.
    """

    def __init__(self, file: Path, digest: str):
        self.file, self.digest = file, digest
        self._written = time.monotonic()

    def read(self, like: Progress) -> Progress | None:
        """Return the runs as they were written; None if they never were.

        Args:
            like: has the same shapes.

        Raises:
            ValueError: the file is damaged, or of another fit.
        """
        if not self.file.exists():
            return None
        leaves, treedef = jax.tree.flatten(like)
        try:
            with safe_open(self.file, "numpy") as opened:
                digest = (opened.metadata() or {}).get(DIGEST)
                arrays = [opened.get_tensor(f"{i}") for i in range(len(leaves))] if digest == self.digest else []
        except (SafetensorError, OSError, KeyError) as error:
            raise ValueError(f"{self.file} is damaged: delete it, and its runs begin again.") from error
        if digest != self.digest:
            raise ValueError(
                f"{self.file} is of another fit: other data, another spec or other settings. Use another folder, or "
                "delete it."
            )
        if any(x.shape != y.shape or x.dtype != y.dtype for x, y in zip(arrays, leaves, strict=True)):
            raise ValueError(f"{self.file} is damaged: delete it, and its runs begin again.")
        return jax.tree.unflatten(treedef, [jnp.asarray(x) for x in arrays])

    def write(self, progress: Progress) -> None:
        """Write the runs."""
        arrays = {f"{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(progress))}
        write_atomically(self.file, save(arrays, {DIGEST: self.digest}))
        self._written = time.monotonic()

    def write_if_due(self, progress: Progress) -> None:
        """Write the runs if the last write is long ago."""
        if time.monotonic() - self._written > SECONDS_BETWEEN:
            self.write(progress)
