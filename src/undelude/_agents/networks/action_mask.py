"""Actions that an observation allows: its part `action_mask` says which, and others have probability 0."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from undelude._distributions import AbstractDistribution, Categorical, GivenArray, Parts, Spec, Symbols, as_categorical
from undelude._types import Observation

# The part of an observation with a number for each action: 0 if it cannot be taken.
ACTION_MASK = "action_mask"
# Log-odds of an action that cannot be taken: its probability is 0 in floats, and 0 times its logarithm is a number.
NEVER = -1e9


class Masked(eqx.Module):
    """The memory of a network, and the actions that the last observation allows."""

    memory: Any
    allowed: Float[Array, " A"]


def num_masked(specs: tuple[Spec, Spec]) -> int | None:
    """Return the number of actions if observations have a mask of them, otherwise None."""
    actions, observations = specs
    named = observations.named if isinstance(observations, Parts) else None
    mask = None if named is None else named.get(ACTION_MASK)
    if isinstance(actions, Symbols) and isinstance(mask, GivenArray) and mask.shape == (actions.n,):
        return actions.n
    return None


def mask_in(o: Observation) -> Array:
    """Return the mask of an observation."""
    return jnp.asarray(o[ACTION_MASK], float)


def restrict(distribution: AbstractDistribution, allowed: Float[Array, "*B A"]) -> AbstractDistribution:
    """Return a distribution of actions given that the action is allowed; without a mask if none is."""
    possible = (allowed > 0) | ~(allowed > 0).any(-1, keepdims=True)
    return Categorical(logits=jnp.where(possible, as_categorical(distribution).log_probs, NEVER))
