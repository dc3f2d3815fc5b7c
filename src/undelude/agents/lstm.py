"""A recurrent agent, an LSTM over the symbols a, do(a) and o (Section 4.1)."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from undelude.agent import AbstractSequenceAgent, Mark, check_mark, with_marks
from undelude.agents.heads import AbstractReader, Head, describe, freeze, make_reader, thaw
from undelude.distributions import AbstractDistribution
from undelude.process import Action, InteractionProcess, Observation
from undelude.rollout import Episodes

State = tuple[Float[Array, " D"], Float[Array, " D"]]


class LSTMAgent(AbstractSequenceAgent[State]):
    """A long short-term memory of `hidden_size` units that reads one symbol at a time.

    `x` and `do(x)` are different symbols (Remark 14): an action has one row of input weights for each mark. f_A and f_O
    are linear in the hidden state.

    Args:
        process: whose actions and observations it is to read and predict (or the description in its `config`).
        hidden_size: D.
        key: of the initial weights.

    Raises:
        TypeError: there is no head for the process's laws.
    """

    read_do: AbstractReader
    read_see: AbstractReader
    read_observation: AbstractReader
    recurrent: Float[Array, "D G"]
    bias: Float[Array, " G"]
    head_A: Head
    head_O: Head
    own_actions: Mark = eqx.field(static=True)
    marks: tuple[Mark, ...] = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    spec: tuple[Any, ...] = eqx.field(static=True)

    def __init__(self, process: InteractionProcess | dict[str, Any], hidden_size: int = 64, *, key: Key[Array, ""]):
        if isinstance(process, InteractionProcess):
            spec = {"actions": describe(process.action_law), "observations": describe(process.observation_law)}
        else:
            spec = process
        if hidden_size < 1:
            raise ValueError(f"hidden_size must be at least 1, not {hidden_size}.")
        limit = math.sqrt(1 / hidden_size)
        width = 4 * hidden_size
        key_do, key_see, key_observation, key_recurrent, key_A, key_O = jax.random.split(key, 6)
        self.read_do = make_reader(spec["actions"], width, scale=limit, key=key_do)
        self.read_see = make_reader(spec["actions"], width, scale=limit, key=key_see)
        self.read_observation = make_reader(spec["observations"], width, scale=limit, key=key_observation)
        self.recurrent = jax.random.uniform(key_recurrent, (hidden_size, width), minval=-limit, maxval=limit)
        # Gates in the order input, forget, cell, output; a forget gate that starts open keeps the past.
        self.bias = jnp.zeros(width).at[hidden_size : 2 * hidden_size].set(1.0)
        self.head_A = Head(spec["actions"], hidden_size, key=key_A)
        self.head_O = Head(spec["observations"], hidden_size, key=key_O)
        self.own_actions, self.marks = "do", ("do", "see")
        self.hidden_size, self.spec = hidden_size, freeze(spec)

    @property
    def config(self) -> dict[str, Any]:
        """What `from_config` needs to build such an agent, in JSON."""
        return {
            "spec": thaw(self.spec),
            "hidden_size": self.hidden_size,
            "own_actions": self.own_actions,
            "marks": list(self.marks),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LSTMAgent":
        """An agent of that shape, with weights yet to be filled in."""
        agent = cls(config["spec"], config["hidden_size"], key=jax.random.key(0))
        agent = with_marks(agent, config["own_actions"], tuple(config["marks"]))
        check_mark(agent, agent.own_actions)
        return agent

    def init(self, *, num_rounds: int) -> State:
        """Zeros."""
        del num_rounds
        return jnp.zeros(self.hidden_size), jnp.zeros(self.hidden_size)

    def f_A(self, m: State) -> AbstractDistribution:
        """A linear head on the hidden state."""
        return self.head_A(m[0])

    def f_O(self, m: State) -> AbstractDistribution:
        """Another linear head on the hidden state."""
        return self.head_O(m[0])

    def g_A(self, a: Action, m: State, *, intervened: Bool[Array, ""] | bool) -> State:
        """One step of the cell on the symbol `a` or `do(a)`."""
        return self._cell(m, self._read_action(a, intervened))

    def g_O(self, o: Observation, m: State) -> State:
        """One step of the cell on the symbol `o`."""
        return self._cell(m, self.read_observation(o))

    def unroll(self, episode: Episodes) -> tuple[AbstractDistribution, AbstractDistribution]:
        """One scan over the rounds that holds the recurrence alone: reading and predicting happen for all at once."""
        m = self.init(num_rounds=episode.num_rounds)
        before_opening = m
        if episode.opening is not None:
            m = self.g_O(episode.opening, m)
        x_A = jax.vmap(self._read_action)(episode.actions, episode.intervened)
        x_O = jax.vmap(self.read_observation)(episode.observations)

        def round(m: State, x: tuple[Array, Array]) -> tuple[State, tuple[Array, Array]]:
            m_A = self._cell(m, x[0])
            return self._cell(m_A, x[1]), (m[0], m_A[0])

        _, (h_A, h_O) = jax.lax.scan(round, m, (x_A, x_O))
        if episode.opening is not None:
            h_O = jnp.concatenate([before_opening[0][None], h_O])
        return jax.vmap(self.head_A)(h_A), jax.vmap(self.head_O)(h_O)

    def _read_action(self, a: Action, intervened: Bool[Array, ""] | bool) -> Float[Array, " G"]:
        if intervened is True:
            return self.read_do(a)
        if intervened is False:
            return self.read_see(a)
        return jnp.where(intervened, self.read_do(a), self.read_see(a))

    def _cell(self, m: State, x: Float[Array, " G"]) -> State:
        h, c = m
        i, f, g, o = jnp.split(x + h @ self.recurrent + self.bias, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c
