"""A transformer agent: "a higher-order Markov model based on transformers" (Section 4.1)."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._agents.base import Reading
from undelude._agents.networks.decoder import AbstractDecoderAgent, AbstractMixer, Decoder, linear
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.network import make_num_components, make_specs
from undelude._checks import check_count
from undelude._distributions import Spec
from undelude._process.host_world import World

ROTARY_BASE = 10_000.0
# Queries in a block; the scores of a block then fit in the cache of a CPU core.
BLOCK = 64


class Cache(eqx.Module):
    """A ring buffer of the keys and values of the last `C` symbols: symbol `p` is in slot `p mod C`."""

    keys: Float[Array, "H C d"]
    values: Float[Array, "H C d"]
    position: Int[Array, ""]


class Attention(AbstractMixer[Cache]):
    """Causal attention with rotary positions, over the last `window` symbols or over all.

    Each head has a learned score for attending to nothing. Without it, normalisation would remove the number of
    matching symbols from the output, and a head would have to attend to some symbol after those it needs have left the
    window.

    Args:
        width: D.
        num_heads: H.
        window: in symbols; None for all.
        key: of the initial weights.
    """

    query: Float[Array, "D D"]
    key: Float[Array, "D D"]
    value: Float[Array, "D D"]
    out: Float[Array, "D D"]
    nothing: Float[Array, " H"]
    window: int | None = eqx.field(static=True)

    def __init__(self, width: int, num_heads: int, window: int | None, *, key: Key[Array, ""]):
        key_query, key_key, key_value, key_out = jax.random.split(key, 4)
        self.query = linear(width, width, key=key_query)
        self.key = linear(width, width, key=key_key)
        self.value = linear(width, width, key=key_value)
        self.out = linear(width, width, key=key_out)
        self.nothing = jnp.zeros(num_heads)
        self.window = window

    def init(self, *, num_symbols: int) -> Cache:
        """Return an empty cache for `num_symbols` symbols, or for the window if that is less."""
        size = num_symbols if self.window is None else min(self.window, num_symbols)
        num_heads = len(self.nothing)
        empty = jnp.zeros((num_heads, size, len(self.out) // num_heads))
        return Cache(empty, empty, jnp.zeros((), jnp.int32))

    def step(self, x: Float[Array, " D"], s: Cache) -> tuple[Float[Array, " D"], Cache]:
        """Return the output at one symbol, and the cache with this symbol in place of the oldest."""
        size, now = s.keys.shape[1], s.position
        q, k, v = (self._heads((x @ w)[None]) for w in (self.query, self.key, self.value))
        keys = jax.lax.dynamic_update_slice_in_dim(s.keys, rotate(k, now[None]), now % size, 1)
        values = jax.lax.dynamic_update_slice_in_dim(s.values, v, now % size, 1)
        written = jnp.arange(size) <= now
        y = self._attend(rotate(q, now[None]), keys, values, written[None])
        return y[0] @ self.out, Cache(keys, values, now + 1)

    def parallel(self, xs: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """Return the outputs of all queries; keys in the future or outside the window are masked.

        Above `BLOCK` symbols, queries are processed in blocks, and the gradient recomputes the scores of each block.
        Memory is then linear in N, and with a window time is too.
        """
        q, k, v = (self._heads(xs @ w) for w in (self.query, self.key, self.value))
        N = len(xs)
        position = jnp.arange(N)
        q, k = rotate(q, position), rotate(k, position)
        if N <= BLOCK:
            return self._attend(q, k, v, self._visible(position, position)) @ self.out
        num_blocks = -(-N // BLOCK)
        # The keys of a block: all, or its own symbols and the `before` ones before them (padding at the start).
        before = 0 if self.window is None else min(self.window - 1, N)
        reach = N if self.window is None else before + BLOCK
        k, v = (jnp.pad(x, ((0, 0), (before, num_blocks * BLOCK - N), (0, 0))) for x in (k, v))
        q = jnp.pad(q, ((0, 0), (0, num_blocks * BLOCK - N), (0, 0)))

        @jax.checkpoint
        def attend(first: Int[Array, ""], q: Array, k: Array, v: Array) -> Float[Array, "n D"]:
            start = jnp.zeros_like(first) if self.window is None else first
            q = jax.lax.dynamic_slice_in_dim(q, first, BLOCK, 1)
            k, v = (jax.lax.dynamic_slice_in_dim(x, start, reach, 1) for x in (k, v))
            visible = self._visible(first + jnp.arange(BLOCK), start - before + jnp.arange(reach))
            return self._attend(q, k, v, visible)

        y = jax.lax.map(lambda first: attend(first, q, k, v), BLOCK * jnp.arange(num_blocks))
        return y.reshape(num_blocks * BLOCK, -1)[:N] @ self.out

    def _heads(self, x: Float[Array, "N D"]) -> Float[Array, "H N d"]:
        return jnp.swapaxes(jnp.reshape(x, (len(x), len(self.nothing), -1)), 0, 1)

    def _visible(self, query: Int[Array, " N"], key: Int[Array, " C"]) -> Bool[Array, "N C"]:
        """Return whether the query at one position attends to the key at another."""
        age = query[:, None] - key[None, :]
        visible = (age >= 0) & (key >= 0)[None, :]
        return visible if self.window is None else visible & (age < self.window)

    def _attend(
        self,
        q: Float[Array, "H N d"],
        k: Float[Array, "H C d"],
        v: Float[Array, "H C d"],
        visible: Bool[Array, "N C"],
    ) -> Float[Array, "N D"]:
        scores = jnp.where(visible[None], jnp.einsum("hnd,hcd->hnc", q, k) / math.sqrt(q.shape[-1]), -jnp.inf)
        nothing = self.nothing[:, None, None]
        # A softmax over the scores and `nothing`; subtracting the greatest keeps the exponentials finite.
        top = jax.lax.stop_gradient(jnp.maximum(scores.max(-1, keepdims=True), nothing))
        weights = jnp.exp(scores - top)
        total = weights.sum(-1, keepdims=True) + jnp.exp(nothing - top)
        y = jnp.einsum("hnc,hcd->hnd", weights, v) / total
        return jnp.swapaxes(y, 0, 1).reshape(q.shape[1], -1)


def rotate(x: Float[Array, "H N d"], position: Int[Array, " N"]) -> Float[Array, "H N d"]:
    """Rotate pairs of components by an angle proportional to the position (rotary position embedding).

    The products of queries and keys then depend on the differences of their positions alone.
    """
    half = x.shape[-1] // 2
    angle = (position.astype(float)[:, None] * (ROTARY_BASE ** (-jnp.arange(half) / half))[None])[None]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class TransformerAgent(AbstractDecoderAgent):
    """A decoder with rotary positions, norms before the layers, and a cache of keys and values while it acts.

    The cache holds one episode. If the agent acts for longer, or has a `window`, each new symbol replaces the oldest
    one. With a window, memory and time of a step are constant. `predict` is one causal pass.

    Args:
        process: whose actions and observations the agent reads and predicts; or the pair of their specs.
        hidden_size: D, a multiple of twice `num_heads`.
        num_layers: L.
        num_heads: of attention, in each layer.
        window: the number of symbols that a layer attends to, two a round; None for all.
        num_components: of the mixtures that predict real numbers; see `ud.LSTMAgent`.
        key: of the initial weights.

    Raises:
        TypeError: networks have no head for the process's actions or observations.
        ValueError: a size is out of range, or `num_components` is given and no real numbers are predicted.

    >>> import undelude as ud
    >>> agent = ud.TransformerAgent(ud.tasks.bandit(), window=16, key=jax.random.key(0))
    >>> agent.init(num_rounds=1000).mixers[0].keys.shape
    (2, 16, 16)
    """

    interface: Interface
    decoder: Decoder
    hidden_size: int = eqx.field(static=True)
    num_layers: int = eqx.field(static=True)
    num_heads: int = eqx.field(static=True)
    window: int | None = eqx.field(static=True)
    num_components: int | None = eqx.field(static=True)
    specs: tuple[Spec, Spec] = eqx.field(static=True)

    def __init__(
        self,
        process: World | tuple[Spec, Spec],
        hidden_size: int = 32,
        *,
        num_layers: int = 1,
        num_heads: int = 2,
        window: int | None = None,
        num_components: int | None = None,
        key: Key[Array, ""],
    ):
        self.specs = make_specs(process)
        self.num_components = make_num_components(process, self.specs, num_components)
        self.hidden_size = D = check_count("hidden_size", hidden_size)
        self.num_layers = L = check_count("num_layers", num_layers)
        self.num_heads = H = check_count("num_heads", num_heads)
        self.window = None if window is None else check_count("window", window)
        if D % (2 * H):
            raise ValueError(f"hidden_size must be a multiple of 2 * num_heads = {2 * H}, not {D}.")
        key_interface, key_decoder, *keys = jax.random.split(key, 2 + L)
        self.interface = Interface(
            self.specs, reads=2 * D, features=D, scale=1.0, num_components=self.num_components, key=key_interface
        )
        self.decoder = Decoder([Attention(D, H, self.window, key=k) for k in keys], D, key=key_decoder)
        self.reading = Reading("do")

    @property
    def full_history(self) -> bool:
        """Whether the memory keeps the whole history, which it does without a window."""
        return self.window is None
