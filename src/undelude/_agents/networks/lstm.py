"""A recurrent agent, an LSTM over the symbols a, do(a) and o (Section 4.1)."""

import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from undelude._agents.base import Reading
from undelude._agents.networks.heads import freeze
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.network import AbstractNetworkAgent, make_spec, scan_symbols
from undelude._checks import check_count
from undelude._process.process import InteractionProcess

State = tuple[Float[Array, " D"], Float[Array, " D"]]


class LSTMAgent(AbstractNetworkAgent[State]):
    """A long short-term memory of `hidden_size` units that reads one symbol at a time.

    `x` and `do(x)` are different symbols (Remark 14): an action has one row of input weights for each mark. f_A and f_O
    are linear in the hidden state.

    Args:
        process: whose actions and observations it is to read and predict (or the description in its `config`).
        hidden_size: D.
        key: of the initial weights.

    Raises:
        TypeError: there is no head for the process's distributions.
    """

    steps_alike: ClassVar[bool] = True
    interface: Interface
    recurrent: Float[Array, "D G"]
    bias: Float[Array, " G"]
    hidden_size: int = eqx.field(static=True)
    spec: tuple[Any, ...] = eqx.field(static=True)

    def __init__(self, process: InteractionProcess | dict[str, Any], hidden_size: int = 64, *, key: Key[Array, ""]):
        spec, hidden_size = make_spec(process), check_count("hidden_size", hidden_size)
        limit = math.sqrt(1 / hidden_size)
        width = 4 * hidden_size
        key_interface, key_recurrent = jax.random.split(key)
        self.interface = Interface(spec, reads=width, features=hidden_size, scale=limit, key=key_interface)
        self.recurrent = jax.random.uniform(key_recurrent, (hidden_size, width), minval=-limit, maxval=limit)
        # Gates in the order input, forget, cell, output; a forget gate that starts open keeps the past.
        self.bias = jnp.zeros(width).at[hidden_size : 2 * hidden_size].set(1.0)
        self.reading = Reading("do")
        self.hidden_size, self.spec = hidden_size, freeze(spec)

    def init(self, *, num_rounds: int) -> State:
        """Zeros."""
        del num_rounds
        return jnp.zeros(self.hidden_size), jnp.zeros(self.hidden_size)

    def step(self, x: Float[Array, " G"], m: State) -> State:
        """One step of the cell."""
        h, c = m
        i, f, g, o = jnp.split(x + h @ self.recurrent + self.bias, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    def features(self, m: State) -> Float[Array, " D"]:
        """The hidden state."""
        return m[0]

    def parallel(self, xs: Float[Array, "N G"]) -> Float[Array, "N1 D"]:
        """One scan that holds the recurrence alone."""
        return scan_symbols(self, xs)
