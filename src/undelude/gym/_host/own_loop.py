"""Observations and actions in a loop of the user's own, between an environment and the agent of a world."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PyTree

from undelude._types import Action
from undelude.gym._host.declared import check_observation
from undelude.gym._host.spaces import to_actions

if TYPE_CHECKING:
    from undelude.gym._host.simulated import AbstractSimulated


def check_seen(
    world: "AbstractSimulated", observation: Any, cue: Any, mask: Any = None, *, reads_mask: bool = False
) -> None:
    """Raise `ValueError` if an observation is not the environment's, or a cue or a mask is not what agents read."""
    check_observation(world.name, world.observation_space, observation)
    if world.cue is None and cue is not None:
        raise ValueError(f"{world.name}: cue={cue!r}, but the world declares no cue.")
    if world.cue is not None and cue is not None and not (np.ndim(cue) == 0 and cue in range(world.cue.num_symbols)):
        raise ValueError(
            f"{world.name}: cue={cue!r}; after an action it is from 0 to {world.cue.num_symbols - 1}. At the opening "
            "no cue was told yet: leave it out."
        )
    if reads_mask != (mask is not None):
        missing = (
            "agents read the mask of actions: give mask=" if reads_mask else "agents read no mask: leave out mask="
        )
        raise ValueError(f"{world.name}: {missing}.")


def as_played(world: "AbstractSimulated", a: Action) -> PyTree:
    """Return an agent's action as the environment takes it."""
    return to_actions(world.action_space, jax.tree.map(lambda x: np.asarray(x)[None], a), np.zeros(1, int))[0]
