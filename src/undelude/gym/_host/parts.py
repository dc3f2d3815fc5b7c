"""The parts that a world adds to an observation, and the record of one moment of an environment."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from undelude._distributions import GivenArray, Reals, Spec, Symbols
from undelude._types import Observation
from undelude.gym._host.cues import AbstractCue

# Names of parts.
CUE, REWARD, ENDED = "cue", "reward", "ended"


def added_specs(
    cue: AbstractCue | None, *, reward_observed: bool, predict: bool, num_ends: int | None
) -> dict[str, Spec]:
    """Return the specs of the parts that a world adds to an observation, by name.

    Args:
        cue: of the world; one symbol more than it has says that none was told.
        reward_observed: whether the reward of the last action is a part.
        predict: whether it is predicted.
        num_ends: in how many ways an episode of the environment may go on or end within a lifetime; None if it does
            not.
    """
    found: dict[str, Spec] = {}
    if cue is not None:
        found[CUE] = Symbols(cue.num_symbols + 1)
    if reward_observed:
        found[REWARD] = Reals(()) if predict else GivenArray((), "float32")
    if num_ends is not None:
        found[ENDED] = Symbols(num_ends)
    return found


class Moment(NamedTuple):
    """The answers of one or more environments, and the agent's view of them without cues and rewards.

    Attributes:
        o: the agent's view, with a leading axis.
        whole: whole observations.
        rewards: of the last action.
        info: of the environment, if it has one.
    """

    o: Observation
    whole: Sequence[Any]
    rewards: np.ndarray
    info: Any = None
