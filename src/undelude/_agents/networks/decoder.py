"""A causal stack of residual blocks over symbols, parallel over an episode or step by step (Section 4.1).

Architectures differ in their mixers, the part of a block that combines symbols over time.
"""

import abc
import math
from collections.abc import Sequence
from typing import Generic

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from undelude._agents.networks.network import AbstractNetworkAgent
from undelude._types import Memory, S


class AbstractMixer(eqx.Module, Generic[S]):
    """The part of a block that depends on earlier symbols, through a state `S`."""

    @abc.abstractmethod
    def init(self, *, num_symbols: int) -> S:
        """Return the state before the first of `num_symbols` symbols."""

    @abc.abstractmethod
    def step(self, x: Float[Array, " D"], s: S) -> tuple[Float[Array, " D"], S]:
        """Return the output at one symbol, and the state after it."""

    @abc.abstractmethod
    def parallel(self, xs: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """Return the outputs at `N` symbols; they equal those of `step`, scanned from `init`."""


class Block(eqx.Module):
    """A residual block: `x + mix(norm(x))`, then `x + mlp(norm(x))`."""

    mixer: AbstractMixer
    up: Float[Array, "D H"]
    bias: Float[Array, " H"]
    down: Float[Array, "H D"]

    def __init__(self, mixer: AbstractMixer, width: int, *, key: Key[Array, ""]):
        key_up, key_down = jax.random.split(key)
        self.mixer = mixer
        self.up = linear(width, 2 * width, key=key_up)
        self.bias = jnp.zeros(2 * width)
        self.down = linear(2 * width, width, key=key_down)

    def mlp(self, x: Float[Array, " D"]) -> Float[Array, " D"]:
        """Return `x + MLP(norm(x))`."""
        return x + jax.nn.silu(norm(x) @ self.up + self.bias) @ self.down


class State(eqx.Module):
    """The memory of a `Decoder`.

    Attributes:
        mixers: the states of the mixers.
        last: the half of the last symbol's vector that is added to its successor.
        features: the normalised output of the last block at the last symbol.
    """

    mixers: tuple[Memory, ...]
    last: Float[Array, " D"]
    features: Float[Array, " D"]


class Decoder(eqx.Module):
    """A stack of blocks over pairs of neighbouring symbols.

    The vector of a symbol is `[2 D]`: one half for the symbol itself, and one that is added to its successor. This is
    a convolution of width two: the first layer sees an action together with the observation after it, which saves a
    layer and most of the training.

    Args:
        mixers: one for each block.
        width: D.
        key: of the initial weights.
    """

    start: Float[Array, " D"]
    blocks: tuple[Block, ...]

    def __init__(self, mixers: Sequence[AbstractMixer], width: int, *, key: Key[Array, ""]):
        key_start, *keys = jax.random.split(key, 1 + len(mixers))
        self.start = jax.random.normal(key_start, (width,))
        self.blocks = tuple(Block(mixer, width, key=k) for mixer, k in zip(mixers, keys, strict=True))

    def init(self, *, num_rounds: int) -> State:
        """Return the state after the start symbol, which precedes the first symbol of an episode."""
        # The start symbol, perhaps an opening, and the rounds.
        states = tuple(block.mixer.init(num_symbols=2 * num_rounds + 2) for block in self.blocks)
        return self._step(self.start, states, jnp.zeros_like(self.start))

    def step(self, x: Float[Array, " E"], m: State) -> State:
        """Return the state after one more symbol."""
        now, later = jnp.split(x, 2)
        return self._step(jax.nn.silu(now + m.last), m.mixers, later)

    def parallel(self, xs: Float[Array, "N E"]) -> Float[Array, "N1 D"]:
        """Return the features after the start symbol and after each of `N` symbols."""
        now, later = jnp.split(xs, 2, axis=-1)
        before = jnp.concatenate([jnp.zeros_like(later[:1]), later])[: len(xs)]
        x = jnp.concatenate([self.start[None], jax.nn.silu(now + before)])
        for block in self.blocks:
            x = jax.vmap(block.mlp)(x + block.mixer.parallel(norm(x)))
        return norm(x)

    def _step(self, x: Float[Array, " D"], states: tuple[Memory, ...], last: Float[Array, " D"]) -> State:
        next_states: list[Memory] = []
        for block, state in zip(self.blocks, states, strict=True):
            y, state = block.mixer.step(norm(x), state)
            x = block.mlp(x + y)
            next_states.append(state)
        return State(tuple(next_states), last, norm(x))


class AbstractDecoderAgent(AbstractNetworkAgent[State]):
    """An agent with a `Decoder` between its readers and its heads."""

    decoder: eqx.AbstractVar[Decoder]

    def init(self, *, num_rounds: int) -> State:
        """Return the state of the decoder after the start symbol."""
        return self.with_mask(self.decoder.init(num_rounds=num_rounds))

    def step(self, x: Float[Array, " E"], m: State) -> State:
        """Return the state of the decoder after one more symbol."""
        return self.decoder.step(x, m)

    def features(self, m: State) -> Float[Array, " D"]:
        """Return the normalised output of the last block at the last symbol."""
        return m.features

    def parallel(self, xs: Float[Array, "N E"]) -> Float[Array, "N1 D"]:
        """Return the features at all symbols, computed block by block."""
        return self.decoder.parallel(xs)


def norm(x: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """Return `x` scaled to a root mean square of one; without weights, as a linear map follows."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def linear(size: int, width: int, *, key: Key[Array, ""]) -> Float[Array, "size width"]:
    """Return initial weights `[size, width]`, uniform in `[-size^-1/2, size^-1/2]`."""
    limit = math.sqrt(1 / size)
    return jax.random.uniform(key, (size, width), minval=-limit, maxval=limit)
