"""Acting more or less greedily than the prediction: predicting is not acting (Section 4.1)."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from undelude._agents.base import AbstractAgent, AbstractSequenceAgent, M, Predictions, predict
from undelude._checks import check_between
from undelude._distributions import AbstractDistribution, Categorical, Symbols, as_categorical, spec_of
from undelude._process.episodes import Episodes
from undelude._types import Action, Observation, Theta


class TemperedAgent(AbstractSequenceAgent[M]):
    """An agent that predicts as `agent` does, and acts by that prediction at another temperature.

        a ~ P(a | m)^(1 / temperature) / Z,    at temperature 0 one of the most probable actions.

    `f_A` stays the prediction of the expert, which is what teaching scores and the certificate judges. Appendix A holds
    for every rule of acting that is not shown theta, so such an agent can be taught, and acts at its temperature while
    it is taught.

    Args:
        agent: the agent that predicts; its actions must be symbols.
        temperature: at least 0; 1 is the agent's own rule if it samples `f_A`.

    Raises:
        TypeError: the agent's actions are not symbols.
        ValueError: the temperature is negative or not finite.

    >>> import undelude as ud
    >>> agent = TemperedAgent(ud.ExactAgent(ud.tasks.bandit()), temperature=0.0)
    >>> m = agent.g_O(jnp.array(1), agent.g_A(jnp.array(3), agent.init(num_rounds=2), intervened=True))
    >>> [round(p, 2) for p in agent.f_A(m).probs.tolist()], int(agent.act(m, key=jax.random.key(0))[0])
    ([0.17, 0.17, 0.17, 0.31, 0.17], 3)
    """

    agent: AbstractAgent[M]
    temperature: float = eqx.field(static=True)

    def __init__(self, agent: AbstractAgent[M], temperature: float):
        temperature = check_between("temperature", temperature, 0, math.inf)
        spec = spec_of(jax.eval_shape(lambda: agent.f_A(agent.init(num_rounds=1))))
        if not isinstance(spec, Symbols):
            raise TypeError(
                f"a temperature is for actions that are symbols, but this {type(agent).__name__} predicts {spec}: "
                "define act in a subclass of ud.AbstractAgent instead."
            )
        self.agent = agent
        self.temperature = temperature
        self.reading = agent.reading

    @property
    def full_history(self) -> bool:
        """True if the memory of `agent` can keep the whole history."""
        return self.agent.full_history

    @property
    def trainable(self) -> bool:
        """True if `agent` is trainable."""
        return self.agent.trainable

    @property
    def thetas(self) -> Theta | None:
        """The values of Theta that the belief of `agent` is about."""
        return self.agent.thetas

    def init(self, *, num_rounds: int) -> M:
        """Return the memory of `agent`."""
        return self.agent.init(num_rounds=num_rounds)

    def f_A(self, m: M) -> AbstractDistribution:
        """Return the prediction of `agent`, without the temperature."""
        return self.agent.f_A(m)

    def f_O(self, m: M) -> AbstractDistribution:
        """Return the prediction of `agent`."""
        return self.agent.f_O(m)

    def g_A(self, a: Action, m: M, *, intervened: Bool[Array, ""] | bool) -> M:
        """Return the memory of `agent` after the action."""
        return self.agent.g_A(a, m, intervened=intervened)

    def g_O(self, o: Observation, m: M) -> M:
        """Return the memory of `agent` after the observation."""
        return self.agent.g_O(o, m)

    def belief(self, m: M) -> Float[Array, " K"] | None:
        """Return the belief of `agent`."""
        return self.agent.belief(m)

    def policy(self, m: M) -> Categorical:
        """Return the distribution of its actions."""
        distribution = as_categorical(self.agent.f_A(m))
        if self.temperature == 0:
            return Categorical(logits=jnp.where(distribution.log_probs == distribution.log_probs.max(), 0.0, -jnp.inf))
        return Categorical(logits=distribution.log_probs / self.temperature)

    def act(self, m: M, *, key: Key[Array, ""]) -> tuple[Action, M]:
        """Sample `policy`."""
        return self.policy(m).sample(key), m

    def predict(self, episode: Episodes) -> Predictions:
        """Return the predictions of `agent`."""
        return predict(self.agent, episode)
