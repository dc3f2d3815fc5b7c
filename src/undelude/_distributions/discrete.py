"""Distributions over symbols, and over blocks of symbols."""

import abc
from collections.abc import Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key

from undelude._checks import check_probabilities
from undelude._distributions.base import AbstractDistribution
from undelude._tree import is_concrete
from undelude._types import Value

# An array, or nested lists of numbers.
Table: TypeAlias = ArrayLike | Sequence[Any]
# Blocks: a larger support is not enumerated.
MAX_SUPPORT = 4096


class Categorical(AbstractDistribution[Int[Array, ""]]):
    """A distribution over the symbols `0 .. n-1`, from exactly one of three arrays, given by keyword.

    Args:
        probs: `[n]`, probabilities; they must sum to one.
        logits: `[n]`, unnormalised log-probabilities; they are normalised here.
        log_probs: `[n]`, normalised log-probabilities; they are stored unchanged.

    Raises:
        TypeError: an array was given without its keyword.
        ValueError: not exactly one was given; probabilities are negative, not finite, or do not sum to one; no symbol
            has mass.

    >>> coin = Categorical(probs=[.75, .25])
    >>> round(float(coin.entropy()), 4)
    0.5623
    """

    log_probs: Float[Array, "... n"]

    def __init__(
        self,
        *positional: None,
        probs: Table | None = None,
        logits: Table | None = None,
        log_probs: Array | None = None,
    ):
        if positional:
            raise TypeError(
                "Categorical cannot tell probabilities from logits: name the argument, "
                "Categorical(probs=...), Categorical(logits=...) or Categorical(log_probs=...)."
            )
        if sum(x is not None for x in (logits, probs, log_probs)) != 1:
            raise ValueError("Categorical takes exactly one of logits, probs and log_probs.")
        if log_probs is not None:
            self.log_probs = log_probs
        elif probs is not None:
            probs = jnp.asarray(probs, dtype=float)
            check_probabilities(probs, "Categorical(probs=)")
            self.log_probs = jnp.log(probs)
        else:
            logits = jnp.asarray(logits, dtype=float)
            # Checked in NumPy: under jit, JAX traces operations on constants too.
            if is_concrete(logits) and not np.isfinite(np.asarray(logits).max(-1, initial=-np.inf)).all():
                raise ValueError(
                    "Categorical(logits=) gives no symbol any mass, or holds nan or +inf; "
                    "at least one logit must be finite and the others finite or -inf."
                )
            self.log_probs = jax.nn.log_softmax(logits)

    @property
    def num_categories(self) -> int:
        """The number of symbols."""
        return self.log_probs.shape[-1]

    @property
    def probs(self) -> Float[Array, "... n"]:
        """Probabilities of the symbols."""
        return jnp.exp(self.log_probs)

    def sample(self, key: Key[Array, ""]) -> Int[Array, ""]:
        """Draw a symbol by inverting the cumulative distribution; a symbol without mass is never drawn."""
        return self.invert(jax.random.uniform(key, dtype=self.log_probs.dtype))

    def invert(self, u: Float[Array, ""]) -> Int[Array, ""]:
        """Return the first symbol whose cumulative probability exceeds `u`, which is in `[0, 1)`."""
        # A parallel cumulative sum may increase by a rounding error at a symbol without mass: exclude such symbols.
        cumulative = jnp.where(self.probs > 0, jnp.cumsum(self.probs), 0.0)
        last = self.num_categories - 1
        exceeds = cumulative > u * cumulative.max()
        return jnp.min(jnp.where(exceeds, jnp.arange(last + 1, dtype=jnp.int32), last))

    def log_prob(self, x: Int[ArrayLike, ""]) -> Float[Array, ""]:
        """Return `log P(x)`."""
        return self.log_probs[x]

    def cross_entropy(self, q: "Categorical") -> Float[Array, ""]:
        """Return `-sum_x P(x) log q(x)`; a symbol without mass adds nothing, even if `q` rules it out."""
        return -jnp.sum(self.probs * jnp.where(self.probs > 0, q.log_probs, 0.0))

    def entropy(self) -> Float[Array, ""]:
        """Return `-sum_x P(x) log P(x)`."""
        return self.cross_entropy(self)


def as_categorical(distribution: AbstractDistribution[Value]) -> Categorical:
    """Return `distribution`, which must be a Categorical.

    Raises:
        TypeError: it is another distribution.
    """
    if not isinstance(distribution, Categorical):
        raise TypeError(f"this needs a Categorical distribution over symbols, not a {type(distribution).__name__}.")
    return distribution


class AbstractConditionals(eqx.Module):
    """The conditionals `P(x_i | x_1, ..., x_(i-1))` of a block of `length` symbols, for each i."""

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """The number of symbols in a block."""

    @property
    @abc.abstractmethod
    def num_categories(self) -> int:
        """The number of values of each symbol."""

    @abc.abstractmethod
    def next(self, prefix: Int[Array, " i"]) -> Float[Array, " n"]:
        """Return the unnormalised log-probabilities of the symbol after `prefix`."""


class BlockTable(AbstractConditionals):
    """The conditionals of a joint table `[n, ..., n]` of log-probabilities, with one axis for each symbol."""

    log_probs: Float[Array, "..."]

    @property
    def length(self) -> int:
        """The number of axes of the table."""
        return self.log_probs.ndim

    @property
    def num_categories(self) -> int:
        """The length of each axis."""
        return self.log_probs.shape[-1]

    def next(self, prefix: Int[Array, " i"]) -> Float[Array, " n"]:
        """Return `log sum_rest P(prefix, x_i, rest)`."""
        table = self.log_probs[tuple(prefix)]
        log_probs = jax.nn.logsumexp(table, axis=tuple(range(1, table.ndim)))
        # After a prefix without mass any finite logits do: the block has probability zero already.
        return jnp.where(log_probs.max() > -jnp.inf, log_probs, 0.0)


class Autoregressive(AbstractDistribution[Int[Array, " L"]]):
    """A joint distribution of a block of dependent symbols, `P(x) = prod_i P(x_i | x_1, ..., x_(i-1))`.

    A block is one action or one observation, such as an utterance or a chunk of actions.

    Args:
        conditionals: of each symbol given those before it.
        probs: the joint table `[n, ..., n]`, in place of `conditionals`.

    Raises:
        TypeError: `conditionals` are not `AbstractConditionals`.
        ValueError: not exactly one was given; probabilities are negative, not finite, or do not sum to one; the axes of
            `probs` differ in length.

    >>> pair = Autoregressive(probs=[[.5, 0.], [0., .5]])
    >>> round(float(jnp.exp(pair.log_prob(jnp.array([0, 0])))), 2)
    0.5
    """

    conditionals: AbstractConditionals

    def __init__(self, conditionals: AbstractConditionals | None = None, *, probs: Table | None = None):
        if (conditionals is None) == (probs is None):
            raise ValueError("Autoregressive takes either conditionals or probs.")
        if conditionals is None:
            table = jnp.asarray(probs, dtype=float)
            if table.ndim == 0 or len(set(table.shape)) != 1:
                raise ValueError(f"Autoregressive(probs=) needs axes of one length, not {list(table.shape)}.")
            check_probabilities(table.ravel(), "Autoregressive(probs=)")
            conditionals = BlockTable(jnp.log(table))
        elif not isinstance(conditionals, AbstractConditionals):
            raise TypeError(
                f"Autoregressive: conditionals must be AbstractConditionals, not {type(conditionals).__name__}; "
                "for a table of probabilities write Autoregressive(probs=...)."
            )
        self.conditionals = conditionals

    @property
    def support(self) -> Int[np.ndarray, "S L"] | None:
        """All blocks in lexicographic order; None if there are more than `MAX_SUPPORT`."""
        n, length = self.conditionals.num_categories, self.conditionals.length
        if n**length > MAX_SUPPORT:
            return None
        return np.stack(np.unravel_index(np.arange(n**length), (n,) * length), axis=-1).astype(np.int32)

    def sample(self, key: Key[Array, ""]) -> Int[Array, " L"]:
        """Draw a block, symbol by symbol."""
        x = jnp.zeros(0, jnp.int32)
        for k in jax.random.split(key, self.conditionals.length):
            x = jnp.append(x, Categorical(logits=self.conditionals.next(x)).sample(k))
        return x

    def log_prob(self, x: Int[Array, " L"]) -> Float[Array, ""]:
        """Return `sum_i log P(x_i | x_1, ..., x_(i-1))`."""
        distributions = [Categorical(logits=self.conditionals.next(x[:i])) for i in range(self.conditionals.length)]
        return sum((distribution.log_prob(x[i]) for i, distribution in enumerate(distributions)), jnp.zeros(()))

    def entropy(self, key: Key[Array, ""] | None = None, num_samples: int = 256) -> Float[Array, ""]:
        """Return the entropy: exact over at most `MAX_SUPPORT` blocks, otherwise the mean of `-log P(x)` over draws.

        The draws are always the same if `key` is None.
        """
        if (blocks := self.support) is not None:
            return Categorical(log_probs=log_probs_of(self, blocks)).entropy()
        keys = jax.random.split(jax.random.key(0) if key is None else key, num_samples)
        return jax.vmap(lambda key: -self.log_prob(self.sample(key)))(keys).mean()


def log_probs_of(distribution: AbstractDistribution[Value], values: Int[ArrayLike, "S L"]) -> Float[Array, " S"]:
    """Return `log P(x)` of each of several values."""
    return jax.vmap(distribution.log_prob)(jnp.asarray(values))
