"""A causal stack of residual blocks over symbols: all at once for the gradient, one by one while acting (Section 4.1).

What a block does along time is its mixer's affair; the rest is the same for all of them.
"""

import abc
import math
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from undelude._agents.networks.network import AbstractNetworkAgent

S = TypeVar("S")


class AbstractMixer(eqx.Module, Generic[S]):
    """The part of a block that looks back; `S` is what it has to remember."""

    @abc.abstractmethod
    def init(self, *, num_symbols: int) -> S:
        """The state before the first of `num_symbols` symbols."""

    @abc.abstractmethod
    def step(self, x: Float[Array, " D"], s: S) -> tuple[Float[Array, " D"], S]:
        """Its output at one symbol, and the state after it."""

    @abc.abstractmethod
    def parallel(self, xs: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """Its output at each of `N` symbols from the first one on: `step` scanned from `init`."""


class Block(eqx.Module):
    """`x + mix(norm(x))`, then `x + mlp(norm(x))`."""

    mixer: AbstractMixer[Any]
    up: Float[Array, "D H"]
    bias: Float[Array, " H"]
    down: Float[Array, "H D"]

    def __init__(self, mixer: AbstractMixer[Any], width: int, *, key: Key[Array, ""]):
        key_up, key_down = jax.random.split(key)
        self.mixer = mixer
        self.up = linear(width, 2 * width, key=key_up)
        self.bias = jnp.zeros(2 * width)
        self.down = linear(2 * width, width, key=key_down)

    def mlp(self, x: Float[Array, " D"]) -> Float[Array, " D"]:
        """What needs no memory."""
        return x + jax.nn.silu(norm(x) @ self.up + self.bias) @ self.down


class State(eqx.Module):
    """What a `Decoder` remembers: its mixers' states, half of the last symbol, and what its heads will see."""

    mixers: tuple[Any, ...]
    last: Float[Array, " D"]
    features: Float[Array, " D"]


class Decoder(eqx.Module):
    """Blocks over pairs of neighbouring symbols.

    A symbol comes as `[2 D]`: what it says about itself, and what it will say to its successor. That an action and the
    observation after it are seen together from the first layer on saves a layer and most of the training
    (a convolution of width two).
    """

    start: Float[Array, " D"]
    blocks: tuple[Block, ...]

    def __init__(self, mixers: list[AbstractMixer[Any]], width: int, *, key: Key[Array, ""]):
        key_start, *keys = jax.random.split(key, 1 + len(mixers))
        self.start = jax.random.normal(key_start, (width,))
        self.blocks = tuple(Block(mixer, width, key=k) for mixer, k in zip(mixers, keys, strict=True))

    def init(self, *, num_rounds: int) -> State:
        """After the mark of the beginning, which stands before the first symbol."""
        # The beginning, perhaps an opening, and the rounds.
        states = tuple(block.mixer.init(num_symbols=2 * num_rounds + 2) for block in self.blocks)
        return self._step(self.start, states, jnp.zeros_like(self.start))

    def step(self, x: Float[Array, " E"], m: State) -> State:
        """After one symbol more."""
        now, later = jnp.split(x, 2)
        return self._step(jax.nn.silu(now + m.last), m.mixers, later)

    def parallel(self, xs: Float[Array, "N E"]) -> Float[Array, "N1 D"]:
        """The features after the beginning and after each of `N` symbols."""
        now, later = jnp.split(xs, 2, axis=-1)
        before = jnp.concatenate([jnp.zeros_like(later[:1]), later])[: len(xs)]
        x = jnp.concatenate([self.start[None], jax.nn.silu(now + before)])
        for block in self.blocks:
            x = jax.vmap(block.mlp)(x + block.mixer.parallel(norm(x)))
        return norm(x)

    def _step(self, x: Float[Array, " D"], states: tuple[Any, ...], last: Float[Array, " D"]) -> State:
        after = []
        for block, state in zip(self.blocks, states, strict=True):
            y, state = block.mixer.step(norm(x), state)
            x = block.mlp(x + y)
            after.append(state)
        return State(tuple(after), last, norm(x))


class AbstractDecoderAgent(AbstractNetworkAgent[State]):
    """An agent that is a `Decoder` between its readers and its heads."""

    decoder: eqx.AbstractVar[Decoder]

    def init(self, *, num_rounds: int) -> State:
        """The mixers' memories, which have met the mark of the beginning."""
        return self.decoder.init(num_rounds=num_rounds)

    def step(self, x: Float[Array, " E"], m: State) -> State:
        """One symbol through all layers."""
        return self.decoder.step(x, m)

    def features(self, m: State) -> Float[Array, " D"]:
        """What the last layer says at the last symbol."""
        return m.features

    def parallel(self, xs: Float[Array, "N E"]) -> Float[Array, "N1 D"]:
        """All symbols through one layer after the other."""
        return self.decoder.parallel(xs)


def norm(x: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """`x` at a root mean square of one; no weights, for what follows is linear."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def linear(size: int, width: int, *, key: Key[Array, ""]) -> Float[Array, "size width"]:
    """Weights that keep the variance about as it is."""
    limit = math.sqrt(1 / size)
    return jax.random.uniform(key, (size, width), minval=-limit, maxval=limit)
