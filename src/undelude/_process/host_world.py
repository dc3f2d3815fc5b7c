"""A world as a batch of episodes in Python, such as a simulator that JAX cannot trace."""

import abc
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PyTree

from undelude._checks import one_line
from undelude._distributions import AbstractDistribution, Spec
from undelude._process.world import AbstractWorld
from undelude._types import Action, Mark, Observation, S

if TYPE_CHECKING:
    from undelude._process.episodes import Episodes

# Predictions of a whole batch: arrays have a leading axis B. None if nothing is predicted.
Prediction = AbstractDistribution | None


class Evidence(eqx.Module):
    """What each of K values of Theta says about B stored episodes, so that exact answers exist without tables.

    Attributes:
        experts: `Q(A | theta, e)`, arrays `[B, T + 1, K, ...]`, before each round and after the last.
        log_likelihood: `[B, T + 1, K]`, nats, up to a term that theta does not change: the log-prior with the opening,
            then `log P(o_t | theta, history)` of each observation.
    """

    experts: Any
    log_likelihood: Float[Array, "B T1 K"]


class AbstractHostWorld(abc.ABC, Generic[S]):
    """A batch of episodes in Python: the methods of `AbstractWorld` with a leading axis B, never traced.

    Rows of episodes that have ended are still passed and returned; their values are ignored.

    Attributes:
        name, num_rounds, specs, opening, theta_changes, ends_early, finite: as in `AbstractWorld`.
        num_envs: the greatest B; None if there is no limit.
    """

    name: str
    num_rounds: int
    specs: tuple[Spec, Spec]
    opening: bool = False
    theta_changes: bool = False
    ends_early: bool = True
    num_envs: int | None = None
    finite: bool = False

    @abc.abstractmethod
    def begin(self, keys: Key[Array, " B"], theta: int | None = None) -> tuple[S, Observation | None]:
        """Sample theta, unless it is given, and the openings."""

    @abc.abstractmethod
    def theta(self, state: S) -> PyTree:
        """Return theta of each episode."""

    @abc.abstractmethod
    def consult(self, state: S, keys: Key[Array, " B"]) -> tuple[Prediction, Action | None]:
        """Return the expert's distributions, or None if they are not known, and its actions.

        The actions may be None if the distributions are known: the loop draws from them when it needs to.
        """

    @abc.abstractmethod
    def respond(
        self, state: S, a: Action, keys: Key[Array, " B"]
    ) -> tuple[S, Observation, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Return the next state, observations, rewards, and whether each episode has ended."""

    def lost(self, state: S) -> Bool[np.ndarray, " B"] | None:
        """Return which episodes were lost to a failure; None, the default, if none can be."""
        del state

    def evidence(self, episodes: "Episodes") -> Evidence | str:
        """Return what each theta says about stored episodes, or why it is not known."""
        del episodes
        return "what observations say about theta is not known: this world can only be sampled."

    def exact_agent(self, own_actions: Mark = "do") -> Any:
        """Return the exact agent as a `ud.HostAgent`, or why there is none."""
        del own_actions
        return "what observations say about theta is not known: this world can only be sampled."

    @property
    def action_spec(self) -> Spec:
        """The spec of actions: the set of their values."""
        return self.specs[0]

    @property
    def observation_spec(self) -> Spec:
        """The spec of observations: the set of their values."""
        return self.specs[1]


# Either kind.
World: TypeAlias = AbstractWorld | AbstractHostWorld


def check_world(world: object) -> None:
    """Raise `TypeError` if `world` is neither a process nor another world."""
    if not isinstance(world, World):
        raise TypeError(
            f"process must be an ud.InteractionProcess, such as ud.tasks.bandit(), not {one_line(repr(world))}."
        )
