"""Cues: what a guide says to the agent after each round, with known probabilities under every context."""

import abc
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from undelude._checks import check_between


class AbstractCue(abc.ABC):
    """A symbol that follows each action, drawn from a known distribution that depends on the context.

    If the context changes nothing else that the agent sees, then the belief over contexts, both exact answers and the
    whole certificate are known on any simulator.

    Attributes:
        num_symbols: the number of its values.
    """

    num_symbols: int

    @abc.abstractmethod
    def probabilities(self, before: Any, after: Any, context: Any) -> Float[np.ndarray, "... n"]:
        """Return the distribution of the cue after a step from the observation `before` to `after`.

        Observations are whole ones in the world, and in exact answers those that the agent saw, with NaN in place of
        hidden numbers: take theta from `context`.
        """


class WarmerColder(AbstractCue):
    """Cue 1, warmer, if the step led nearer to the target, and 0, colder, if not; right with a fixed probability.

    Args:
        distance: `(observation, context) -> distance` to the target of that context.
        right: the probability that the cue is right, from 1/2 (no information) to 1.
        within: at this distance or nearer, the cue is warmer even if the step led away.
    """

    num_symbols = 2

    def __init__(self, distance: Callable[[Any, Any], float], *, right: float, within: float = 0.0):
        if not callable(distance):
            raise TypeError(f"WarmerColder: distance must be a function of (observation, context), not {distance!r}.")
        self.distance = distance
        self.right = check_between("WarmerColder: right", right, 0.5, 1, why="1/2 says nothing")
        self.within = float(within)

    def probabilities(self, before: Any, after: Any, context: Any) -> Float[np.ndarray, " 2"]:
        """Return `(1 - right, right)` if the step led nearer, `(right, 1 - right)` if not."""
        d_before, d_after = float(self.distance(before, context)), float(self.distance(after, context))
        if np.isnan(d_before) or np.isnan(d_after):
            raise ValueError(
                "WarmerColder: distance returned NaN. In exact answers hidden numbers of an observation are NaN: "
                "compute the distance from what the agent sees and from the context."
            )
        warmer = d_after < d_before or d_after <= self.within
        return np.array([1 - self.right, self.right] if warmer else [self.right, 1 - self.right])
