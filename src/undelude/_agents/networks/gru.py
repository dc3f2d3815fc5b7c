"""A recurrent agent, a gated recurrent unit over the symbols a, do(a) and o (Section 4.1)."""

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


class GRUAgent(AbstractNetworkAgent[Float[Array, " D"]]):
    """A gated recurrent unit: three quarters of an LSTM's weights, and a memory that is its hidden state alone.

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
    bias_candidate: Float[Array, " D"]
    hidden_size: int = eqx.field(static=True)
    spec: tuple[Any, ...] = eqx.field(static=True)

    def __init__(self, process: InteractionProcess | dict[str, Any], hidden_size: int = 64, *, key: Key[Array, ""]):
        spec, hidden_size = make_spec(process), check_count("hidden_size", hidden_size)
        limit = math.sqrt(1 / hidden_size)
        width = 3 * hidden_size
        key_interface, key_recurrent = jax.random.split(key)
        self.interface = Interface(spec, reads=width, features=hidden_size, scale=limit, key=key_interface)
        self.recurrent = jax.random.uniform(key_recurrent, (hidden_size, width), minval=-limit, maxval=limit)
        # Gates in the order reset, update, candidate; an update gate that starts nearly shut keeps the past.
        self.bias = jnp.zeros(width).at[hidden_size : 2 * hidden_size].set(1.0)
        self.bias_candidate = jnp.zeros(hidden_size)
        self.reading = Reading("do")
        self.hidden_size, self.spec = hidden_size, freeze(spec)

    def init(self, *, num_rounds: int) -> Float[Array, " D"]:
        """Zeros."""
        del num_rounds
        return jnp.zeros(self.hidden_size)

    def step(self, x: Float[Array, " G"], m: Float[Array, " D"]) -> Float[Array, " D"]:
        """One step of the cell."""
        x_r, x_z, x_n = jnp.split(x + self.bias, 3)
        h_r, h_z, h_n = jnp.split(m @ self.recurrent, 3)
        z = jax.nn.sigmoid(x_z + h_z)
        n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + h_r) * (h_n + self.bias_candidate))
        return (1 - z) * n + z * m

    def features(self, m: Float[Array, " D"]) -> Float[Array, " D"]:
        """The hidden state."""
        return m

    def parallel(self, xs: Float[Array, "N G"]) -> Float[Array, "N1 D"]:
        """One scan that holds the recurrence alone."""
        return scan_symbols(self, xs)
