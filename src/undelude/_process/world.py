"""The world of an episode: Nature and the expert, everything but the agent (Figure 4).

A process whose distributions are known implements it, and so does a simulator that can only be sampled.
"""

import abc
from typing import TYPE_CHECKING, Generic, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from undelude._distributions import AbstractDistribution, Spec
from undelude._types import Action, Observation, S


class EpisodeKeys(NamedTuple):
    """The random keys of one episode."""

    theta: Key[Array, ""]
    opening: Key[Array, ""]
    rounds: Key[Array, ""]
    executor: Key[Array, ""]

    @classmethod
    def of(cls, key: Key[Array, ""]) -> "EpisodeKeys":
        """Split the key of an episode."""
        return cls(*jax.random.split(key, 4))


class RoundKeys(NamedTuple):
    """The random keys of one round."""

    act: Key[Array, ""]
    expert: Key[Array, ""]
    observation: Key[Array, ""]
    theta: Key[Array, ""]

    @classmethod
    def of(cls, key: Key[Array, ""]) -> "RoundKeys":
        """Split the key of a round."""
        return cls(*jax.random.split(key, 4))


def key_of(seed: int) -> Key[Array, ""]:
    """Return `jax.random.key(seed)`; for a seed of more than 32 bits, which JAX would cut off, that of its digest."""
    if not 0 <= seed < 2**32:
        seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return jax.random.key(seed)


class AbstractWorld(eqx.Module, Generic[S]):
    """Nature and the expert in one unbatched episode; `S` is their state. `jax.vmap` adds a batch.

        S, O_0 = begin(key)
        each round:    Q_A, a_bar = consult(S, key);    S, o, r, ended = respond(S, a, key)

    Every method is traced, so that episodes are played in one compiled scan.

    Attributes:
        name: of the world in messages and run directories.
        num_rounds: `T`, the greatest number of rounds in an episode.
        specs: of actions and of observations: the sets of their values.
        opening: whether Nature opens with an observation `O_0` before the first action.
        theta_changes: whether theta may change between rounds.
        ends_early: whether an episode may end before round `T`.
        finite: whether Theta has finitely many values whose distributions are known, so that exact answers exist.
    """

    # Fields in some worlds, properties in others. Type checkers take an `eqx.AbstractVar` for a field that every
    # constructor must fill.
    if TYPE_CHECKING:

        @property
        def name(self) -> str: ...
        @property
        def num_rounds(self) -> int: ...
        @property
        def specs(self) -> tuple[Spec, Spec]: ...
        @property
        def opening(self) -> bool: ...
        @property
        def theta_changes(self) -> bool: ...
        @property
        def ends_early(self) -> bool: ...
        @property
        def finite(self) -> bool: ...

    @property
    def action_spec(self) -> Spec:
        """The spec of actions: the set of their values."""
        return self.specs[0]

    @property
    def observation_spec(self) -> Spec:
        """The spec of observations: the set of their values."""
        return self.specs[1]

    @abc.abstractmethod
    def begin(self, key: Key[Array, ""], theta: Int[Array, ""] | None = None) -> tuple[S, Observation | None]:
        """Sample theta, unless it is given as an index, and the opening.

        Returns:
            The state before the first action; `O_0`, or None without an opening.
        """

    @abc.abstractmethod
    def theta(self, state: S) -> PyTree[Array]:
        """Return theta in `state`, as `Episodes.theta` stores it."""

    @abc.abstractmethod
    def consult(self, state: S, key: Key[Array, ""]) -> tuple[AbstractDistribution | None, Action]:
        """Ask the expert for its next action.

        Returns:
            `Q_A`, the distribution of the expert's action, or None if it is not known; `a_bar`, a sample of it.
        """

    @abc.abstractmethod
    def respond(
        self, state: S, a: Action, key: Key[Array, ""]
    ) -> tuple[S, Observation, Float[Array, ""], Bool[Array, ""]]:
        """Play the action `a`: sample the observation and advance the memories of Nature and expert.

        Returns:
            The next state, the observation, the reward, and whether the episode has ended.
        """
