"""A recurrent agent that is linear in its state, so that it learns in parallel over time (Section 4.1)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from undelude._agents.base import Reading
from undelude._agents.networks.decoder import AbstractDecoderAgent, AbstractMixer, Decoder, linear
from undelude._agents.networks.heads import freeze
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.network import make_spec
from undelude._checks import check_count
from undelude._process.process import InteractionProcess


class GatedRecurrence(AbstractMixer[Float[Array, " D"]]):
    """`h_t = f_t * h_(t-1) + v_t`; gate and value are made of the input alone, so that rounds compose in any order."""

    gate: Float[Array, "D D"]
    bias: Float[Array, " D"]
    value: Float[Array, "D D"]
    out: Float[Array, "D D"]

    def __init__(self, width: int, *, key: Key[Array, ""]):
        key_gate, key_value, key_out = jax.random.split(key, 3)
        self.gate, self.value = linear(width, width, key=key_gate), linear(width, width, key=key_value)
        self.out = linear(width, width, key=key_out)
        # Units that keep the past for 4 to 400 symbols.
        self.bias = jnp.linspace(1.0, 6.0, width)

    def init(self, *, num_symbols: int) -> Float[Array, " D"]:
        """Zeros."""
        del num_symbols
        return jnp.zeros_like(self.bias)

    def step(self, x: Float[Array, " D"], s: Float[Array, " D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """One step of the recurrence."""
        h = jax.nn.sigmoid(x @ self.gate + self.bias) * s + x @ self.value
        return h @ self.out, h

    def parallel(self, xs: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """An associative scan over the maps `h -> f h + v`."""
        f, v = jax.nn.sigmoid(xs @ self.gate + self.bias[None]), xs @ self.value

        def then(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
            return other[0] * one[0], other[0] * one[1] + other[1]

        _, h = jax.lax.associative_scan(then, (f, v))
        return h @ self.out


class LinearRecurrentAgent(AbstractDecoderAgent):
    """Gated linear recurrences between layers without memory.

        h_t = f_t * h_(t-1) + v_t,    f_t = sigmoid(W_f x_t + b),    v_t = W_v x_t.

    Its memory has a constant size, like an LSTM's, and the gradient pass is parallel over time, like a transformer's.
    A sum of evidence, of which most posteriors are made, is one unit whose gate stays open.

    Args:
        process: whose actions and observations it is to read and predict (or the description in its `config`).
        hidden_size: D.
        num_layers: L.
        key: of the initial weights.

    Raises:
        TypeError: there is no head for the process's distributions.
    """

    interface: Interface
    decoder: Decoder
    hidden_size: int = eqx.field(static=True)
    num_layers: int = eqx.field(static=True)
    spec: tuple[Any, ...] = eqx.field(static=True)

    def __init__(
        self,
        process: InteractionProcess | dict[str, Any],
        hidden_size: int = 32,
        num_layers: int = 1,
        *,
        key: Key[Array, ""],
    ):
        spec, hidden_size = make_spec(process), check_count("hidden_size", hidden_size)
        num_layers = check_count("num_layers", num_layers)
        key_interface, key_decoder, *keys = jax.random.split(key, 2 + num_layers)
        self.interface = Interface(spec, reads=2 * hidden_size, features=hidden_size, scale=1.0, key=key_interface)
        mixers: list[AbstractMixer[Any]] = [GatedRecurrence(hidden_size, key=k) for k in keys]
        self.decoder = Decoder(mixers, hidden_size, key=key_decoder)
        self.reading = Reading("do")
        self.hidden_size, self.num_layers, self.spec = hidden_size, num_layers, freeze(spec)
