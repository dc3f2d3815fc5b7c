"""The rounds of an episode that exist: one that ends early has fewer than its arrays have room for.

A `Mask` is None if all rounds of all episodes exist. Programs for such episodes then hold no masks, and their means are
plain means to the last bit.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from undelude._process.episodes import Episodes
from undelude._tree import prepend

Mask = Bool[Array, "*B T"] | None


def fill_missing(episodes: Episodes) -> tuple[Episodes, Mask]:
    """Replace each round that does not exist by a copy of the episode's first round.

    A predictor that reads all rounds at once then meets no NaN in rounds that were never played.

    Returns:
        The episodes, and the mask of their rounds; None if all exist.
    """
    if np.asarray(episodes.mask).all():
        return episodes, None
    mask = episodes.mask

    def fill(x: Array) -> Array:
        return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, x[:, :1])

    return dataclasses.replace(episodes, **(jax.tree.map(fill, _rounds(episodes)) | {"mask": mask})), mask


def mean_over_rounds(x: Float[Array, "*B T"], mask: Mask) -> Float[Array, "*B"]:
    """Return the mean of `x` along its last axis, over the entries whose round exists."""
    return x.mean(-1) if mask is None else jnp.where(mask, x, 0.0).sum(-1) / mask.sum(-1)


def missing_as_nan(x: Float[Array, "B T"], mask: Mask) -> Float[np.ndarray, "B T"]:
    """Return `x` with NaN in the rounds that do not exist."""
    return np.asarray(x) if mask is None else np.where(np.asarray(mask), np.asarray(x), np.nan)


def reward_per_round(reward: Float[Array, "*B T"], mask: Mask) -> Float[Array, "*B"]:
    """Return the sum of an episode's rewards over T, as if its rounds after an early end paid nothing."""
    return reward.mean(-1) if mask is None else jnp.where(mask, reward, 0.0).mean(-1)


def count_rounds(episode: Episodes, mask: Mask) -> int | Int[Array, ""]:
    """Return how many rounds of one episode exist."""
    return episode.num_rounds if mask is None else mask.sum()


def observation_mask(episode: Episodes, mask: Bool[Array, " T"] | None) -> Bool[Array, " T0"] | None:
    """Return the mask of one episode's observations, of which an opening is the first and always exists."""
    first = None if episode.opening is None else jnp.ones((), bool)
    return None if mask is None else prepend(first, mask)


def with_one_more_round(episode: Episodes) -> Episodes:
    """Return one episode with its last round repeated, so that there is a prediction after the last observation.

    The prediction before a round does not depend on the content of that round.
    """
    return dataclasses.replace(episode, **jax.tree.map(lambda x: jnp.concatenate([x, x[-1:]]), _rounds(episode)))


def _rounds(episodes: Episodes) -> dict[str, PyTree]:
    """Return the fields that have an entry for each round."""
    names = [field.name for field in dataclasses.fields(episodes) if field.name not in ("theta", "opening")]
    return {name: getattr(episodes, name) for name in names}
