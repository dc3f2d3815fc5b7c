"""What every world around an environment knows of its contexts, its expert and its spaces."""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from undelude._agents.host import HostAgent
from undelude._distributions import Spec
from undelude._process.episodes import Episodes
from undelude._process.host_world import Evidence, difference
from undelude._types import Action, Mark, Observation
from undelude.gym._host import exact
from undelude.gym._host.arguments import context_in_words
from undelude.gym._host.hiding import Visible
from undelude.gym._host.own_loop import as_played
from undelude.gym._host.parts import Moment
from undelude.gym._host.probes import on_contexts_of
from undelude.gym._host.spaces import clipped, random_actions

# Rounds in which `leak` compares what the agent sees.
LEAK_ROUNDS = 20


class AbstractSimulated(abc.ABC):
    """A world around an environment, whose contexts are known and whose tables are not.

    Attributes:
        name, num_rounds, specs, num_thetas, prior: as in `AbstractWorld`.
        action_space, observation_space: of the environment, in Gymnasium's terms.
        visible: the numbers of an observation that agents are shown.
        cue: what each round tells of the context; None if nothing does.
        reward_observed: whether agents see the reward.
        make_expert: the expert that cannot be asked about another context, if there is one.
        expert_is_person: whether the expert is a person.
        filling: code by which an expert puts theta in place of hidden numbers.
        ignored: the likely mistake if the context changes nothing in the environment.
        leak: where the agent sees the context other than by the cue, found by playing; None if it was not seen to.
        no_advice: why the expert cannot be asked in exact answers, found by playing; None if it can.
    """

    name: str
    num_rounds: int
    specs: tuple[Spec, Spec]
    num_thetas: int
    prior: np.ndarray
    action_space: Any
    observation_space: Any
    visible: Visible
    cue: Any
    reward_observed: bool
    make_expert: Callable[..., Any] | None
    expert_is_person: bool
    filling: str
    ignored: str
    leak: str | None
    no_advice: str | None

    @abc.abstractmethod
    def ask(self, whole: Sequence[Any], thetas: np.ndarray, masks: np.ndarray | None = None) -> Sequence[Any]:
        """Return the expert's advice, one answer for each whole observation and index of a context."""

    @abc.abstractmethod
    def tell(self, before: Sequence[Any], after: Sequence[Any], thetas: np.ndarray) -> Float[np.ndarray, "N n"]:
        """Return the distributions of the cue after many steps under the contexts of these indices."""

    @abc.abstractmethod
    def context_at(self, theta: int) -> Any:
        """Return one of the contexts, in NumPy if it is an array."""

    @abc.abstractmethod
    def _path(self, theta: int, seed: int, actions: list[Any]) -> list[Moment]:
        """Return what happens in an episode of these actions, without cues and rewards."""

    @property
    def num_compared(self) -> int:
        """Rounds in which `leak` compares what the agent sees."""
        return min(self.num_rounds, LEAK_ROUNDS)

    def as_played(self, a: Action) -> Any:
        """Return an agent's action as the environment takes it: inside its Box, and counted from the space's start."""
        return as_played(self, a)

    def evidence(self, episodes: Episodes) -> Evidence | str:
        """Return what each context says about stored episodes, if the cue alone depends on it; otherwise the reason."""
        return exact.evidence(self, episodes)

    @property
    def no_exact_agent(self) -> str | None:
        """Why there is no exact agent; None if there is."""
        return exact.why_inexact(self)

    def exact_agent(self, own_actions: Mark = "do") -> HostAgent:
        """Return the exact agent: Bayes' rule over the cues, and over its own actions too if `own_actions="see"`.

        Raises:
            TypeError: there is none; the message is that of `no_exact_agent`.
            ValueError: expert or cue read hidden numbers of the observation.
        """
        return exact.exact_agent(self, own_actions)

    def context_in_words(self, theta: int) -> str:
        """Return a context for a message, by its value if that is short."""
        return context_in_words(theta, self.context_at(theta))

    def on_contexts(self) -> list[str]:
        """Return what `check_task` should note of the contexts."""
        return on_contexts_of(self, self._path, self.num_compared)

    def outside(self, o: Observation) -> str | None:
        """Return which number of some observations lies outside its Box; None if none does."""
        return self.visible.outside(o)

    def random_actions(self, rng: np.random.Generator, num_episodes: int) -> Action:
        """Return actions that the space of the environment samples, `[B, ...]`."""
        return random_actions(self.action_space, rng, num_episodes)

    def difference(self, one: Sequence[Observation], other: Sequence[Observation]) -> tuple[str, int] | None:
        """Return in words what differs between the observations of two batches, and in which of them first.

        Numbers of an array are called by their indices in the whole observation.
        """
        return difference(one, other, indices=self.visible.kept)

    def clipped(self, a: Action) -> Bool[np.ndarray, " B"] | None:
        """Return which actions have a number outside its Box; None if actions have no Box."""
        return clipped(self.action_space, a)
