"""The rounds of an episode that exist: an episode that ends early has fewer than its arrays have room for."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from undelude._process.episodes import Episodes
from undelude._tree import prepend


@jax.jit
def mean_over_rounds(x: Float[Array, "*B T"], exists: Bool[Array, "*B T"]) -> Float[Array, "*B"]:
    """Return the mean of `x` along its last axis, over the entries whose round exists."""
    over_existing = jnp.where(exists, x, 0.0).sum(-1) / exists.sum(-1)
    # XLA rounds a division by the constant T differently from one by a count. Without early ends, use T.
    return jnp.where(exists.all(-1), x.mean(-1), over_existing)


def count_rounds(episode: Episodes) -> Int[Array, ""]:
    """Return how many rounds of one episode exist."""
    return episode.mask.sum()


def observation_mask(episode: Episodes) -> Bool[Array, " T0"]:
    """Return whether each observation of one episode exists; an opening comes first and always does."""
    opening = None if episode.opening is None else jnp.ones((), bool)
    return prepend(opening, episode.mask)


def without_garbage(episode: Episodes) -> Episodes:
    """Return one episode with copies of its first round in place of the rounds that do not exist.

    A predictor that reads all rounds at once then meets no NaN in rounds that were never played.
    """

    def fill(x: Array) -> Array:
        exists = episode.mask.reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(exists, x, x[:1])

    return dataclasses.replace(episode, **(jax.tree.map(fill, _rounds(episode)) | {"mask": episode.mask}))


def with_one_more_round(episode: Episodes) -> Episodes:
    """Return one episode with its last round repeated, so that there is a prediction after the last observation.

    The prediction before a round does not depend on the content of that round.
    """
    return dataclasses.replace(episode, **jax.tree.map(lambda x: jnp.concatenate([x, x[-1:]]), _rounds(episode)))


def _rounds(episode: Episodes) -> dict[str, PyTree]:
    """Return the fields of one episode that have an entry for each round."""
    names = [field.name for field in dataclasses.fields(episode) if field.name not in ("theta", "opening")]
    return {name: getattr(episode, name) for name in names}
