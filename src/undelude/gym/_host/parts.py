"""The parts that a world adds to an observation, and the record of one moment of an environment."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from undelude._types import Observation

# Names of parts.
CUE, REWARD, ENDED = "cue", "reward", "ended"


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
