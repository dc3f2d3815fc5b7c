"""The picture of an episode under way, as its task draws it."""

from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractTask
from undelude._tree import index
from undelude._types import Observation
from undelude.gym._envs.episode import EpisodeState

# Width of a picture in pixels.
SIZE = 240


def can_draw(process: InteractionProcess) -> bool:
    """Return whether the task has a drawing: one of its own, or that of the belief."""
    return process.finite or type(process.task).draw is not AbstractTask.draw


def picture(
    process: InteractionProcess, state: EpisodeState, o: Observation | None, size: int = SIZE
) -> UInt8[np.ndarray, "H W 3"]:
    """Return the frame that `ud.film` draws of this round for an agent that reads its own actions as do."""
    from undelude._drawing.film import BELIEFS, draw_round

    accent, meaning = BELIEFS["do"]
    host: Any = jax.tree.map(np.asarray, (process.theta_value(state.world.theta), state.acted, process.thetas, o))
    theta, w, values, o = host
    belief = []
    if state.done is not None:
        probabilities = np.exp(np.asarray(state.done.log_posterior))
        belief = [(index(values, k), float(p)) for k, p in enumerate(probabilities)]
    style = {"size": size, "accent": accent, "meaning": meaning if belief else ""}
    return draw_round(process.task, theta, w, belief, o, title=f"round {int(state.t)}", **style).array()
