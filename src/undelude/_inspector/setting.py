"""A process, its parties and a history as PyTrees: the arguments of the programs of the inspector."""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from undelude._agents.base import AbstractAgent
from undelude._distributions import AbstractDistribution, Categorical, Given, Joint, is_distribution
from undelude._distributions.discrete import log_probs_of
from undelude._process.process import InteractionProcess
from undelude._types import Action, Memory, Observation, Theta, Value

# The readings of past actions. "marked": as the history marks them. "do", "see": its own as interventions or as
# evidence, and those of the expert as evidence. "always do": all as interventions, for agents that know no other mark.
Reads = Literal["marked", "do", "see", "always do"]


class Reader(eqx.Module):
    """An agent that reads a history.

    Attributes:
        agent: the agent.
        reads: how it reads past actions.
        told: whether it is told theta in each round; for exact agents only.
        believes: whether its belief is about the thetas of the process.
    """

    agent: AbstractAgent
    reads: Reads = eqx.field(static=True)
    told: bool = eqx.field(static=True, default=False)
    believes: bool = eqx.field(static=True, default=True)

    def intervened(self, marked: Bool[Array, ""], by_agent: Bool[Array, ""]) -> Bool[Array, ""]:
        """Return whether the party reads an action as an intervention."""
        match self.reads:
            case "marked":
                return marked
            case "do":
                return by_agent
            case "see":
                return jnp.zeros_like(marked)
            case _:
                return jnp.ones_like(marked)


class Symbols(NamedTuple):
    """A history as arrays; symbols are indices of the alphabets, and real numbers are themselves.

    Attributes:
        theta: `[N + 1]`, before each round and after the last.
        opening: of the episode; 0 if the process has none.
        actions, observations: `[N]`, or `[N, ...]` real numbers.
        intervened: `[N]`, the marks.
        by_agent: `[N]`, whether the agent executed the action.
    """

    theta: Int[Array, " N1"]
    opening: Value
    actions: Value
    observations: Value
    intervened: Bool[Array, " N"]
    by_agent: Bool[Array, " N"]


class Setting(eqx.Module):
    """A process and the parties that read its episodes, as one PyTree.

    Attributes:
        process: the process.
        A, O: the values of actions and of observations, of which a symbol is an index; None of real numbers.
        readers: the parties; for `play_on` the one that acts, or none if the expert does.
        part: the place of the symbol in an observation of several parts, of which the others are given; None if the
            observation is the symbol.
    """

    process: InteractionProcess
    A: Int[Array, "A *L"] | None
    O: Int[Array, "O *J"] | None
    readers: tuple[Reader, ...] = ()
    part: int | None = eqx.field(static=True, default=None)

    def action(self, i: Value) -> Action:
        """Return the action that a history holds as `i`."""
        return i if self.A is None else self.A[i]

    def action_index(self, a: Action) -> Value:
        """Return what a history holds for an action."""
        return a if self.A is None else index_of(self.A, a)

    def observation(self, theta: Theta, w: Memory, i: Value) -> Observation:
        """Return the observation with the symbol `i`; its given parts are those of the task's memory `w`."""
        symbol = i if self.O is None else self.O[i]
        if self.part is None:
            return symbol
        Q_O = self.process.task.Q_O(theta, w)
        assert isinstance(Q_O, Joint)
        parts, structure = jax.tree.flatten(Q_O.parts, is_leaf=is_distribution)
        return structure.unflatten(x.value if isinstance(x, Given) else symbol for x in parts)

    def symbol(self, o: Observation) -> Value:
        """Return what a history holds for an observation."""
        scored = o if self.part is None else jax.tree.leaves(o)[self.part]
        return scored if self.O is None else index_of(self.O, scored)

    def of_action(self, distribution: AbstractDistribution) -> Any:
        """Return the log-probability of each action; of real numbers, the distribution."""
        return distribution if self.A is None else _log_probs(self.A, distribution)

    def of_observation(self, distribution: AbstractDistribution) -> Any:
        """Return the log-probability of each symbol of an observation; of real numbers, their distribution."""
        if self.part is not None:
            assert isinstance(distribution, Joint)
            distribution = distribution.distributions[self.part]
        return distribution if self.O is None else _log_probs(self.O, distribution)


def log_prob(prediction: Any, i: Value) -> Float[Array, ""]:
    """Return the log-probability of what a history holds as `i`."""
    return prediction.log_prob(i) if isinstance(prediction, AbstractDistribution) else prediction[i]


def first(setting: Setting, symbols: Symbols) -> tuple[Memory, Observation | None]:
    """Return the memory of the task before the first action, and the opening."""
    process = setting.process
    value = process.theta_value(symbols.theta[0])
    w = process.task.init(value)
    if not process.opening:
        return w, None
    o = setting.observation(value, w, symbols.opening)
    return process.task.g_O(value, o, w), o


def _log_probs(values: Int[Array, "n *L"], distribution: AbstractDistribution) -> Float[Array, " n"]:
    """Return the log-probability of each value."""
    return distribution.log_probs if isinstance(distribution, Categorical) else log_probs_of(distribution, values)


def index_of(values: Int[Array, "n *L"], value: Int[Array, "*L"]) -> Int[Array, ""]:
    """Return the index of a value."""
    n = len(values)
    return jnp.argmax((values.reshape(n, -1) == value.reshape(1, -1)).all(1)).astype(jnp.int32)
