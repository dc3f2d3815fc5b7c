"""A recurrent agent with an LSTM over the symbols a, do(a) and o (Section 4.1)."""

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

State = tuple[Float[Array, " D"], Float[Array, " D"]]


class LSTMCell(AbstractCell[State]):
    """A long short-term memory; its state is the pair of hidden state and cell state."""

    recurrent: Float[Array, "D G"]
    bias: Float[Array, " G"]

    def __init__(self, hidden_size: int, *, key: Key[Array, ""]):
        limit = math.sqrt(1 / hidden_size)
        width = 4 * hidden_size
        self.recurrent = jax.random.uniform(key, (hidden_size, width), minval=-limit, maxval=limit)
        # Gates in the order input, forget, cell, output. The forget gate starts open, so that the cell keeps the past.
        self.bias = jnp.zeros(width).at[hidden_size : 2 * hidden_size].set(1.0)

    def init(self) -> State:
        """Return zeros."""
        zeros = jnp.zeros(len(self.recurrent))
        return zeros, zeros

    def step(self, x: Float[Array, " G"], s: State) -> State:
        """Return the next hidden state and cell state."""
        h, c = s
        i, f, g, o = jnp.split(x + h @ self.recurrent + self.bias, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    def hidden(self, s: State) -> Float[Array, " D"]:
        """Return the hidden state."""
        return s[0]


class LSTMAgent(AbstractRecurrentAgent[State]):
    """A long short-term memory of `hidden_size` units that reads one symbol at a time.

    `x` and `do(x)` are different symbols (Remark 14): an action has one row of input weights for each mark. The
    parameters of `f_A` and `f_O`, for symbols their logits, are linear in the hidden state.

    Args:
        process: whose actions and observations the agent reads and predicts; or the pair of their specs.
        hidden_size: D.
        num_components: of the mixtures of normals that predict real numbers. The answer to an expert whose actions are
            normal under each theta is such a mixture, over the values of theta. By default as many as theta has values,
            but from 4 to 16, and 4 if their number is not known. None if nothing that is predicted is a real number.
        key: of the initial weights.

    Raises:
        TypeError: networks have no head for the process's actions or observations.
        ValueError: a size is out of range, or `num_components` is given and no real numbers are predicted.
    """

    interface: Interface
    cell: LSTMCell
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
            reads=4 * D,
            features=D,
            scale=math.sqrt(1 / D),
            num_components=self.num_components,
            key=key_interface,
        )
        self.cell = LSTMCell(D, key=key_cell)
        self.reading = Reading("do")
