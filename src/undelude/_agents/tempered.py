"""Acting more sharply, or less, than one predicts: predicting is not acting (Section 4.1)."""

import math
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from undelude._agents.base import AbstractAgent, AbstractSequenceAgent, predict
from undelude._checks import check_between
from undelude._distributions import AbstractDistribution, Categorical, Symbols, as_categorical, spec_of
from undelude._process.episodes import Episodes
from undelude._types import Action, Mark, Observation

M = TypeVar("M")


class TemperedAgent(AbstractSequenceAgent[M]):
    """Predicts as `agent` does, and acts by that prediction at another temperature.

        a ~ P(a | m)^(1 / temperature) / Z,    at temperature 0 one of the most probable actions.

    `f_A` stays the prediction of the expert, which is what teaching scores and the certificate judges. Appendix A holds
    for every rule of acting that is not shown theta, so such an agent can be taught, and acts so while it is taught.

    Args:
        agent: whose predictions these are; its actions must be symbols.
        temperature: at least 0; 1 is the agent's own rule where that is to sample.

    Raises:
        TypeError: the agent's actions are no symbols.
        ValueError: the temperature is negative or not finite.

    >>> import undelude as ud
    >>> agent = TemperedAgent(ud.ExactAgent(ud.tasks.bandit()), temperature=0.0)
    >>> m = agent.g_O(jnp.array(1), agent.g_A(jnp.array(3), agent.init(num_rounds=2), intervened=True))
    >>> [round(p, 2) for p in agent.f_A(m).probs.tolist()], int(agent.act(m, key=jax.random.key(0))[0])
    ([0.17, 0.17, 0.17, 0.31, 0.17], 3)
    """

    agent: AbstractAgent[M]
    temperature: float = eqx.field(static=True)
    own_actions: Mark = eqx.field(static=True)
    marks: tuple[Mark, ...] = eqx.field(static=True)

    def __init__(self, agent: AbstractAgent[M], temperature: float):
        temperature = check_between("temperature", temperature, 0, math.inf)
        spec = spec_of(jax.eval_shape(lambda: agent.f_A(agent.init(num_rounds=1))))
        if not isinstance(spec, Symbols):
            raise TypeError(
                f"a temperature is for actions that are symbols, but this {type(agent).__name__} predicts {spec}; "
                "write its act by hand."
            )
        self.agent, self.temperature = agent, temperature
        self.own_actions, self.marks = agent.own_actions, agent.marks

    @property
    def full_history(self) -> bool:
        """Whether the agent's memory keeps the whole history."""
        return self.agent.full_history

    def init(self, *, num_rounds: int) -> M:
        """The agent's."""
        return self.agent.init(num_rounds=num_rounds)

    def f_A(self, m: M) -> AbstractDistribution:
        """The agent's, untempered."""
        return self.agent.f_A(m)

    def f_O(self, m: M) -> AbstractDistribution:
        """The agent's."""
        return self.agent.f_O(m)

    def g_A(self, a: Action, m: M, *, intervened: Bool[Array, ""] | bool) -> M:
        """The agent's."""
        return self.agent.g_A(a, m, intervened=intervened)

    def g_O(self, o: Observation, m: M) -> M:
        """The agent's."""
        return self.agent.g_O(o, m)

    def policy(self, m: M) -> Categorical:
        """The distribution of its actions."""
        distribution = as_categorical(self.agent.f_A(m))
        if self.temperature == 0:
            return Categorical(logits=jnp.where(distribution.log_probs == distribution.log_probs.max(), 0.0, -jnp.inf))
        return Categorical(logits=distribution.log_probs / self.temperature)

    def act(self, m: M, *, key: Key[Array, ""]) -> tuple[Action, M]:
        """A sample of `policy`."""
        return self.policy(m).sample(key), m

    def predict(self, episode: Episodes) -> tuple[AbstractDistribution, AbstractDistribution]:
        """The agent's."""
        return predict(self.agent, episode)
