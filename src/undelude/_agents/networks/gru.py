"""A recurrent agent with a gated recurrent unit over the symbols a, do(a) and o (Section 4.1)."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from undelude._agents.base import Reading
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.network import make_num_components, make_specs
from undelude._agents.networks.recurrent import AbstractCell, AbstractRecurrentAgent
from undelude._checks import check_count
from undelude._distributions import Spec
from undelude._process.host_world import World


class GRUCell(AbstractCell[Float[Array, " D"]]):
    """A gated recurrent unit; its state is the hidden state."""

    recurrent: Float[Array, "D G"]
    bias: Float[Array, " G"]
    bias_candidate: Float[Array, " D"]

    def __init__(self, hidden_size: int, *, key: Key[Array, ""]):
        limit = math.sqrt(1 / hidden_size)
        width = 3 * hidden_size
        self.recurrent = jax.random.uniform(key, (hidden_size, width), minval=-limit, maxval=limit)
        # Gates in the order reset, update, candidate. The update gate starts mostly shut, so that the cell keeps the
        # past.
        self.bias = jnp.zeros(width).at[hidden_size : 2 * hidden_size].set(1.0)
        self.bias_candidate = jnp.zeros(hidden_size)

    def init(self) -> Float[Array, " D"]:
        """Return zeros."""
        return jnp.zeros(len(self.recurrent))

    def step(self, x: Float[Array, " G"], s: Float[Array, " D"]) -> Float[Array, " D"]:
        """Return the next hidden state."""
        x_r, x_z, x_n = jnp.split(x + self.bias, 3)
        h_r, h_z, h_n = jnp.split(s @ self.recurrent, 3)
        z = jax.nn.sigmoid(x_z + h_z)
        n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + h_r) * (h_n + self.bias_candidate))
        return (1 - z) * n + z * s

    def hidden(self, s: Float[Array, " D"]) -> Float[Array, " D"]:
        """Return the hidden state."""
        return s


class GRUAgent(AbstractRecurrentAgent[Float[Array, " D"]]):
    """A gated recurrent unit: three quarters of the weights of an LSTM, and no memory apart from the hidden state.

    Args:
        process: whose actions and observations the agent reads and predicts; or the pair of their specs.
        hidden_size: D.
        num_components: of the mixtures that predict real numbers; see `ud.LSTMAgent`.
        key: of the initial weights.

    Raises:
        TypeError: networks have no head for the process's actions or observations.
        ValueError: a size is out of range, or `num_components` is given and no real numbers are predicted.
    """

    interface: Interface
    cell: GRUCell
    hidden_size: int = eqx.field(static=True)
    num_components: int | None = eqx.field(static=True)
    specs: tuple[Spec, Spec] = eqx.field(static=True)

    def __init__(
        self,
        process: World | tuple[Spec, Spec],
        hidden_size: int = 64,
        *,
        num_components: int | None = None,
        key: Key[Array, ""],
    ):
        self.specs = make_specs(process)
        self.num_components = make_num_components(process, self.specs, num_components)
        self.hidden_size = D = check_count("hidden_size", hidden_size)
        key_interface, key_cell = jax.random.split(key)
        self.interface = Interface(
            self.specs,
            reads=3 * D,
            features=D,
            scale=math.sqrt(1 / D),
            num_components=self.num_components,
            key=key_interface,
        )
        self.cell = GRUCell(D, key=key_cell)
        self.reading = Reading("do")
