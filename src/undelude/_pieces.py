"""Large batches in pieces of one size, so that one compiled program serves batches of many sizes."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

T = TypeVar("T")
R = TypeVar("R")

# Episodes a piece: as many as a row of metrics measures, so that rows and certificates share their programs.
PIECE = 256


def episode_ids(num_episodes: int) -> Int[Array, " B"]:
    """Return `0 .. B - 1`, without a compiled program for each B."""
    return jnp.asarray(np.arange(num_episodes, dtype=np.int32))


def in_pieces(f: Callable[[T], R], batch: T) -> R:
    """Return `f(batch)`, computed on pieces of the batch.

    Args:
        f: maps each entry along the leading axis by itself, without regard to the others.
        batch: a PyTree of arrays, leading axis B.

    Returns:
        A PyTree of arrays, leading axis B.
    """
    size = len(jax.tree.leaves(batch)[0])
    if size <= PIECE:
        return f(batch)
    # NumPy cuts and joins without a program of its own for each size.
    batch = jax.tree.map(np.asarray, batch)
    # The last piece is as long as the others and overlaps the one before it.
    starts = [*range(0, size - PIECE, PIECE), size - PIECE]
    *results, last = (f(jax.tree.map(lambda x, i=i: jnp.asarray(x[i : i + PIECE]), batch)) for i in starts)
    overlap = len(starts) * PIECE - size
    last = jax.tree.map(lambda x: np.asarray(x)[overlap:], last)
    return jax.tree.map(lambda *xs: jnp.asarray(np.concatenate(xs)), *results, last)
