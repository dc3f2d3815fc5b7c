"""The parts that a world adds to an observation, and what is kept of an environment that is tried out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from undelude._types import Observation

# Names of parts.
CUE, REWARD, ENDED = "cue", "reward", "ended"


class Moment(NamedTuple):
    """What one or more environments answered, and what an agent sees of it without cues and rewards.

    Attributes:
        o: what is seen, with a leading axis.
        whole: whole observations.
        rewards: of the last action.
        info: of the environment, if it has one.
    """

    o: Observation
    whole: Sequence[Any]
    rewards: np.ndarray
    info: Any = None
