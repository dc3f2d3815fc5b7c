"""A recurrent agent that is linear in its state and therefore parallel over time in training (Section 4.1)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from undelude._agents.base import Reading
from undelude._agents.networks.decoder import AbstractDecoderAgent, AbstractMixer, Decoder, linear
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.network import make_num_components, make_specs
from undelude._checks import check_count
from undelude._distributions import Spec
from undelude._process.host_world import World


class GatedRecurrence(AbstractMixer[Float[Array, " D"]]):
    """A recurrence `h_t = f_t * h_(t-1) + v_t`, whose gate and value depend on the input alone.

    Steps are therefore linear maps of the state, and their composition is associative.
    """

    gate: Float[Array, "D D"]
    bias: Float[Array, " D"]
    value: Float[Array, "D D"]
    out: Float[Array, "D D"]

    def __init__(self, width: int, *, key: Key[Array, ""]):
        key_gate, key_value, key_out = jax.random.split(key, 3)
        self.gate = linear(width, width, key=key_gate)
        # Units that keep the past for 4 to 400 symbols.
        self.bias = jnp.linspace(1.0, 6.0, width)
        self.value = linear(width, width, key=key_value)
        self.out = linear(width, width, key=key_out)

    def init(self, *, num_symbols: int) -> Float[Array, " D"]:
        """Return zeros."""
        del num_symbols
        return jnp.zeros_like(self.bias)

    def step(self, x: Float[Array, " D"], s: Float[Array, " D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Return the output and the next state."""
        h = jax.nn.sigmoid(x @ self.gate + self.bias) * s + x @ self.value
        return h @ self.out, h

    def parallel(self, xs: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """Return all outputs, by an associative scan over the maps `h -> f h + v`."""
        f, v = jax.nn.sigmoid(xs @ self.gate + self.bias[None]), xs @ self.value

        def compose(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
            return second[0] * first[0], second[0] * first[1] + second[1]

        _, h = jax.lax.associative_scan(compose, (f, v))
        return h @ self.out


class LinearRecurrentAgent(AbstractDecoderAgent):
    """Gated linear recurrences between layers without memory.

        h_t = f_t * h_(t-1) + v_t,    f_t = sigmoid(W_f x_t + b),    v_t = W_v x_t.

    The memory has a constant size, as in an LSTM, and training is parallel over time, as in a transformer. Most
    posteriors are sums of evidence; such a sum is one unit whose gate stays open.

    Args:
        process: whose actions and observations the agent reads and predicts; or the pair of their specs.
        hidden_size: D.
        num_layers: L.
        num_components: of the mixtures that predict real numbers; see `ud.LSTMAgent`.
        key: of the initial weights.

    Raises:
        TypeError: networks have no head for the process's actions or observations.
        ValueError: a size is out of range, or `num_components` is given and no real numbers are predicted.
    """

    interface: Interface
    decoder: Decoder
    hidden_size: int = eqx.field(static=True)
    num_layers: int = eqx.field(static=True)
    num_components: int | None = eqx.field(static=True)
    specs: tuple[Spec, Spec] = eqx.field(static=True)

    def __init__(
        self,
        process: World | tuple[Spec, Spec],
        hidden_size: int = 32,
        *,
        num_layers: int = 1,
        num_components: int | None = None,
        key: Key[Array, ""],
    ):
        self.specs = make_specs(process)
        self.num_components = make_num_components(process, self.specs, num_components)
        self.hidden_size = D = check_count("hidden_size", hidden_size)
        self.num_layers = L = check_count("num_layers", num_layers)
        key_interface, key_decoder, *keys = jax.random.split(key, 2 + L)
        self.interface = Interface(
            self.specs, reads=2 * D, features=D, scale=1.0, num_components=self.num_components, key=key_interface
        )
        self.decoder = Decoder([GatedRecurrence(D, key=k) for k in keys], D, key=key_decoder)
        self.reading = Reading("do")
