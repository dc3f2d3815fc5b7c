"""A transformer agent: "a higher-order Markov model based on transformers" (Section 4.1)."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._agents.base import Reading
from undelude._agents.networks.decoder import AbstractDecoderAgent, AbstractMixer, Decoder, linear
from undelude._agents.networks.heads import freeze
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.network import make_spec
from undelude._checks import check_count
from undelude._process.process import InteractionProcess

ROTARY_BASE = 10_000.0
# Queries at a time, where an episode has more symbols: their scores then fit the caches of a core.
BLOCK = 64


class Cache(eqx.Module):
    """Keys and values of the last `C` symbols, in a ring: symbol `p` lies in slot `p mod C`."""

    keys: Float[Array, "H C d"]
    values: Float[Array, "H C d"]
    position: Int[Array, ""]


class Attention(AbstractMixer[Cache]):
    """Causal attention with rotary positions, to the last `window` symbols or to all.

    Each head has a learned score of attending to nothing, so that how much of something there was is not lost in the
    normalisation, and a head whose past leaves the window need not hold on to anything.
    """

    query: Float[Array, "D D"]
    key: Float[Array, "D D"]
    value: Float[Array, "D D"]
    out: Float[Array, "D D"]
    nothing: Float[Array, " H"]
    window: int | None = eqx.field(static=True)

    def __init__(self, width: int, num_heads: int, window: int | None, *, key: Key[Array, ""]):
        keys = jax.random.split(key, 4)
        self.query, self.key, self.value, self.out = (linear(width, width, key=k) for k in keys)
        self.nothing = jnp.zeros(num_heads)
        self.window = window

    def init(self, *, num_symbols: int) -> Cache:
        """An empty cache, of the window's size where that is less."""
        size = num_symbols if self.window is None else min(self.window, num_symbols)
        num_heads = len(self.nothing)
        empty = jnp.zeros((num_heads, size, len(self.out) // num_heads))
        return Cache(empty, empty, jnp.zeros((), jnp.int32))

    def step(self, x: Float[Array, " D"], s: Cache) -> tuple[Float[Array, " D"], Cache]:
        """One query to the cache; the oldest symbol makes room for this one."""
        size, now = s.keys.shape[1], s.position
        q, k, v = (self._heads((x @ w)[None]) for w in (self.query, self.key, self.value))
        keys = jax.lax.dynamic_update_slice_in_dim(s.keys, rotate(k, now[None]), now % size, 1)
        values = jax.lax.dynamic_update_slice_in_dim(s.values, v, now % size, 1)
        written = jnp.arange(size) <= now
        y = self._attend(rotate(q, now[None]), keys, values, written[None])
        return y[0] @ self.out, Cache(keys, values, now + 1)

    def parallel(self, xs: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """All queries to all keys, the future and what has left the window hidden.

        Of more than `BLOCK` symbols, the queries of a block at a time; their scores are computed anew for the gradient,
        so that memory grows with N alone, and with a window time does too.
        """
        q, k, v = (self._heads(xs @ w) for w in (self.query, self.key, self.value))
        N = len(xs)
        position = jnp.arange(N)
        q, k = rotate(q, position), rotate(k, position)
        if N <= BLOCK:
            return self._attend(q, k, v, self._visible(position, position)) @ self.out
        num_blocks = -(-N // BLOCK)
        # What a block may look at: everything, or its own symbols and so many before them, none at the beginning.
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
        """Whether a symbol at one position looks at one at another."""
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
        # The softmax over the scores and nothing; its greatest entry only keeps the exponentials small.
        top = jax.lax.stop_gradient(jnp.maximum(scores.max(-1, keepdims=True), nothing))
        weights = jnp.exp(scores - top)
        total = weights.sum(-1, keepdims=True) + jnp.exp(nothing - top)
        y = jnp.einsum("hnc,hcd->hnd", weights, v) / total
        return jnp.swapaxes(y, 0, 1).reshape(q.shape[1], -1)


def rotate(x: Float[Array, "H N d"], position: Int[Array, " N"]) -> Float[Array, "H N d"]:
    """Rotary positions: pairs of components turn with the position, so that products depend on distances alone."""
    half = x.shape[-1] // 2
    angle = (position[:, None] * (ROTARY_BASE ** (-jnp.arange(half) / half))[None])[None]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class TransformerAgent(AbstractDecoderAgent):
    """A decoder with rotary positions, norms before the layers, and a cache of keys and values while it acts.

    The cache has room for an episode; an agent that goes on for longer, or has a `window`, forgets the oldest symbol
    with each new one. A window makes its memory and the time of a step constant. `predict` is one causal pass.

    Args:
        process: whose actions and observations it is to read and predict (or the description in its `config`).
        hidden_size: D, a multiple of twice `num_heads`.
        num_layers: L.
        num_heads: of attention, in each layer.
        window: how many symbols back a layer looks, two a round; None for all.
        key: of the initial weights.

    Raises:
        TypeError: there is no head for the process's distributions.
        ValueError: a size is out of range.

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
    spec: tuple[Any, ...] = eqx.field(static=True)

    def __init__(
        self,
        process: InteractionProcess | dict[str, Any],
        hidden_size: int = 32,
        num_layers: int = 1,
        num_heads: int = 2,
        window: int | None = None,
        *,
        key: Key[Array, ""],
    ):
        spec, hidden_size = make_spec(process), check_count("hidden_size", hidden_size)
        num_layers, num_heads = check_count("num_layers", num_layers), check_count("num_heads", num_heads)
        window = None if window is None else check_count("window", window)
        if hidden_size % (2 * num_heads):
            raise ValueError(f"hidden_size must be a multiple of 2 * num_heads = {2 * num_heads}, not {hidden_size}.")
        key_interface, key_decoder, *keys = jax.random.split(key, 2 + num_layers)
        self.interface = Interface(spec, reads=2 * hidden_size, features=hidden_size, scale=1.0, key=key_interface)
        mixers: list[AbstractMixer[Any]] = [Attention(hidden_size, num_heads, window, key=k) for k in keys]
        self.decoder = Decoder(mixers, hidden_size, key=key_decoder)
        self.reading = Reading("do")
        self.hidden_size, self.num_layers, self.num_heads, self.window = hidden_size, num_layers, num_heads, window
        self.spec = freeze(spec)

    @property
    def full_history(self) -> bool:
        """Whether its memory keeps the whole history: not with a window."""
        return self.window is None
