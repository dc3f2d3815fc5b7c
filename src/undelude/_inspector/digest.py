"""The digest of a process, by which a saved episode knows its own process again."""

import hashlib
import re

import jax
import numpy as np

from undelude._process.process import InteractionProcess
from undelude._tree import outline

# Hexadecimal digits of a digest.
DIGITS = 16


def digest_of(process: InteractionProcess) -> str:
    """Return a digest of what the process computes with: the outline and the numbers of its parts.

    Numbers count with five significant digits, since the last ones differ between machines. The number of rounds does
    not count.
    """
    parts = process.prior, process.thetas, process.task, process.expert, process.transition, process.opening
    found = outline(parts)
    # The address of a function differs between two runs of a program.
    text = re.sub(r" at 0x[0-9a-f]+", "", str((found.shapes, found.structure, found.static_leaves)))
    total = hashlib.sha256(text.encode())
    for leaf in jax.tree.leaves(parts):
        x = np.asarray(leaf)
        if np.issubdtype(x.dtype, np.floating):
            total.update(" ".join(f"{y + 0.0:.4e}" for y in x.astype(float).ravel().tolist()).encode())
        else:
            total.update(str(x.tolist()).encode())
    return total.hexdigest()[:DIGITS]
