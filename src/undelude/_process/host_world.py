"""A world as a batch of episodes in Python, such as a simulator that JAX cannot trace."""

import abc
from typing import Generic, TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float, Key, PyTree

from undelude._checks import one_line
from undelude._distributions import AbstractDistribution, Spec
from undelude._process.world import AbstractWorld
from undelude._types import Action, Observation, S

# Predictions of a whole batch: arrays have a leading axis B. None if nothing is predicted.
Prediction = AbstractDistribution | None


class AbstractHostWorld(abc.ABC, Generic[S]):
    """A batch of episodes in Python: the methods of `AbstractWorld` with a leading axis B, never traced.

    Rows of episodes that have ended are still passed and returned; their values are ignored.

    Attributes:
        name, num_rounds, specs, opening, theta_changes, ends_early: as in `AbstractWorld`.
    """

    name: str
    num_rounds: int
    specs: tuple[Spec, Spec]
    opening: bool = False
    theta_changes: bool = False
    ends_early: bool = True

    @abc.abstractmethod
    def begin(self, keys: Key[Array, " B"], theta: int | None = None) -> tuple[S, Observation | None]:
        """Sample theta, unless it is given, and the openings."""

    @abc.abstractmethod
    def theta(self, state: S) -> PyTree:
        """Return theta of each episode."""

    @abc.abstractmethod
    def consult(self, state: S, keys: Key[Array, " B"]) -> tuple[Prediction, Action]:
        """Return the expert's distributions, or None if they are not known, and its actions."""

    @abc.abstractmethod
    def respond(
        self, state: S, a: Action, keys: Key[Array, " B"]
    ) -> tuple[S, Observation, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Return the next state, observations, rewards, and whether each episode has ended."""


# Either kind.
World: TypeAlias = AbstractWorld | AbstractHostWorld


def check_world(world: object) -> None:
    """Raise `TypeError` if `world` is neither a process nor another world."""
    if not isinstance(world, World):
        raise TypeError(
            f"process must be an ud.InteractionProcess, such as ud.tasks.bandit(), not {one_line(repr(world))}."
        )
