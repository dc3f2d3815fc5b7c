"""Distributions as three methods on a PyTree: the P(A | M), P(O | M), Q(A | Theta, E), Q(O | Theta, W) of Section 4.1.

A distribution is unbatched. A batch of them is the same PyTree with leading axes, vmapped at the method:
`jax.vmap(lambda d, key: d.sample(key))(batch, keys)`.
"""

import abc
import math
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key, PyTree

from undelude._checks import check_probabilities
from undelude._tree import index, is_concrete

X = TypeVar("X")


class AbstractDistribution(eqx.Module, Generic[X]):
    """A distribution over values `x`: it samples them, scores them in nats, and knows its entropy."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""]) -> X:
        """Draw one value."""

    @abc.abstractmethod
    def log_prob(self, x: X) -> Float[Array, ""]:
        """`log P(x)` in nats (a density where `x` is continuous)."""

    @abc.abstractmethod
    def entropy(self) -> Float[Array, ""]:
        """`-E[log P(x)]` in nats."""


class Categorical(AbstractDistribution[Int[Array, ""]]):
    """A distribution over the symbols `0 .. n-1`.

    Args:
        logits: `[n]`, unnormalised log-probabilities; normalised here.
        probs: `[n]`, probabilities; must sum to one.
        log_probs: `[n]`, log-probabilities that are normalised already; taken as they are.

    Raises:
        ValueError: probabilities are negative, not finite, or do not sum to one; no symbol has mass.

    >>> coin = Categorical(probs=[.75, .25])
    >>> round(float(coin.entropy()), 4)
    0.5623
    """

    log_probs: Float[Array, "... n"]

    def __init__(
        self,
        logits: ArrayLike | list | None = None,
        *,
        probs: ArrayLike | list | None = None,
        log_probs: Array | None = None,
    ):
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
            # In NumPy: under jit every operation of JAX is traced, that of a constant too.
            if is_concrete(logits) and not np.isfinite(np.asarray(logits).max(-1, initial=-np.inf)).all():
                raise ValueError(
                    "Categorical(logits=) gives no symbol any mass, or holds nan or +inf; "
                    "at least one logit must be finite and the others finite or -inf."
                )
            self.log_probs = jax.nn.log_softmax(logits)

    @property
    def num_categories(self) -> int:
        """How many symbols there are."""
        return self.log_probs.shape[-1]

    @property
    def probs(self) -> Float[Array, "... n"]:
        """Probabilities of the symbols."""
        return jnp.exp(self.log_probs)

    def sample(self, key: Key[Array, ""]) -> Int[Array, ""]:
        """One symbol, by the inverse of the cumulative distribution; a symbol without mass never comes."""
        # A parallel cumulative sum may step up by a rounding error where there is no mass: leave those places out.
        cumulative = jnp.where(self.probs > 0, jnp.cumsum(self.probs), 0.0)
        u = jax.random.uniform(key, dtype=cumulative.dtype) * cumulative.max()
        last = self.num_categories - 1
        return jnp.min(jnp.arange(last + 1, dtype=jnp.int32), where=cumulative > u, initial=last)

    def log_prob(self, x: Int[ArrayLike, ""]) -> Float[Array, ""]:
        """`log P(x)`."""
        return self.log_probs[x]

    def entropy(self) -> Float[Array, ""]:
        """`-sum_x P(x) log P(x)`."""
        return cross_entropy(self, self)


class Normal(AbstractDistribution[Float[Array, "..."]]):
    """Independent normal components, one for each entry of `loc`; `log_prob` sums over them."""

    loc: Float[Array, "..."]
    scale: Float[Array, "..."]

    def __init__(self, loc: ArrayLike | list, scale: ArrayLike | list):
        self.loc = jnp.asarray(loc, dtype=float)
        self.scale = jnp.broadcast_to(jnp.asarray(scale, dtype=float), self.loc.shape)
        if is_concrete(self.loc) and not np.isfinite(self.loc).all():
            raise ValueError("Normal(loc=) must be finite everywhere.")
        if is_concrete(self.scale) and not (np.isfinite(self.scale) & (np.asarray(self.scale) > 0)).all():
            raise ValueError("Normal(scale=) must be positive and finite everywhere.")

    def sample(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        """`loc + scale * epsilon`: reparameterised, so that a missing stop-gradient shows itself."""
        return self.loc + self.scale * jax.random.normal(key, self.loc.shape, self.loc.dtype)

    def log_prob(self, x: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """`sum_i log N(x_i; loc_i, scale_i)`."""
        z = (x - self.loc) / self.scale
        return jnp.sum(-0.5 * z**2 - jnp.log(self.scale) - 0.5 * math.log(2 * math.pi))

    def entropy(self) -> Float[Array, ""]:
        """`sum_i log(scale_i sqrt(2 pi e))`."""
        return jnp.sum(jnp.log(self.scale) + 0.5 * math.log(2 * math.pi * math.e))


class Given(AbstractDistribution[PyTree]):
    """A value that is handed over, not predicted: it is fed to memory, costs nothing and tells nothing.

    For deterministic continuous parts of an observation (a joint angle, a clock), whose density would be infinite; and
    for what an episode is played under, drawn anew for each and shown in its opening (a noise level, a friction).

    Attributes:
        value: the value; where there is `up_to`, the least.
        up_to: a PyTree like `value`. The value is then drawn uniformly in between, each number by itself.
    """

    value: PyTree
    up_to: PyTree | None = None

    def __check_init__(self) -> None:
        if self.up_to is None:
            return
        low, high = (jtu.tree_map(lambda x: (jnp.shape(x), jnp.result_type(x)), x) for x in (self.value, self.up_to))
        if low != high:
            raise ValueError(
                f"Given: value and up_to must have the same structure, shapes and types, not {low} and {high}."
            )
        for x, y in zip(jtu.tree_leaves(self.value), jtu.tree_leaves(self.up_to), strict=True):
            if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
                raise ValueError(f"Given: with up_to, value must be of floats, not of {jnp.result_type(x)}.")
            if is_concrete(x, y) and not (np.asarray(x) <= np.asarray(y)).all():
                raise ValueError(f"Given: up_to must not be less than value, and {x} is greater than {y}.")

    def sample(self, key: Key[Array, ""]) -> PyTree:
        """The value; a draw where there is `up_to`."""
        if self.up_to is None:
            return self.value
        low, treedef = jtu.tree_flatten(self.value)
        keys = treedef.unflatten(jax.random.split(key, len(low)))
        return jtu.tree_map(_uniform, keys, self.value, self.up_to)

    def log_prob(self, x: PyTree) -> Float[Array, ""]:
        """Zero: the value is not scored and is no evidence."""
        del x
        return jnp.zeros(())

    def entropy(self) -> Float[Array, ""]:
        """Zero."""
        return jnp.zeros(())


def _uniform(key: Key[Array, ""], low: Any, high: Any) -> Array:
    return low + (high - low) * jax.random.uniform(key, jnp.shape(low), jnp.result_type(low))


class Joint(AbstractDistribution[PyTree]):
    """A PyTree of independent parts; a value is the PyTree of the parts' values in the same places."""

    parts: PyTree[AbstractDistribution]

    @property
    def distributions(self) -> list[AbstractDistribution]:
        """The parts, one after the other."""
        return jtu.tree_leaves(self.parts, is_leaf=is_distribution)

    def pairs(self, x: PyTree) -> list[tuple[AbstractDistribution, Any]]:
        """Each part with its own part of `x`."""
        parts, treedef = jtu.tree_flatten(self.parts, is_leaf=is_distribution)
        return list(zip(parts, treedef.flatten_up_to(x), strict=True))

    def sample(self, key: Key[Array, ""]) -> PyTree:
        """A PyTree of independent draws."""
        parts, treedef = jtu.tree_flatten(self.parts, is_leaf=is_distribution)
        return treedef.unflatten(p.sample(k) for p, k in zip(parts, jax.random.split(key, len(parts)), strict=True))

    def log_prob(self, x: PyTree) -> Float[Array, ""]:
        """The sum of the parts' log-probabilities."""
        return sum((part.log_prob(value) for part, value in self.pairs(x)), jnp.zeros(()))

    def entropy(self) -> Float[Array, ""]:
        """The sum of the parts' entropies."""
        return sum((part.entropy() for part in self.distributions), jnp.zeros(()))


class Mixture(AbstractDistribution[X]):
    """`sum_k w_k P_k(x)` of components stacked on a leading axis.

    Attributes:
        log_weights: `[K]`, normalised.
        components: one distribution PyTree with a leading axis of `K`.
    """

    log_weights: Float[Array, " K"]
    components: AbstractDistribution[X]

    def sample(self, key: Key[Array, ""]) -> X:
        """Draw the component, then the value."""
        key_component, key_value = jax.random.split(key)
        k = Categorical(log_probs=self.log_weights).sample(key_component)
        return index(self.components, k).sample(key_value)

    def log_prob(self, x: X) -> Float[Array, ""]:
        """`logsumexp_k(log w_k + log P_k(x))`."""
        return jax.nn.logsumexp(self.log_weights + jax.vmap(lambda c: c.log_prob(x))(self.components))

    def entropy(self, key: Key[Array, ""] | None = None, num_samples: int = 256) -> Float[Array, ""]:
        """No closed form: the mean of `-log P(x)` over `num_samples` draws of each component.

        Without a `key`, the same draws each time; with one, an unbiased estimate.
        """
        key = jax.random.key(0) if key is None else key

        def draw(component: AbstractDistribution[X], key: Key[Array, ""]) -> Float[Array, ""]:
            return -self.log_prob(component.sample(key))

        weights = jnp.exp(self.log_weights)
        keys = jax.random.split(key, (len(weights), num_samples))
        losses = jax.vmap(lambda c, ks: jax.vmap(lambda k: draw(c, k))(ks).mean())(self.components, keys)
        # A component without weight may show what the mixture rules out.
        return jnp.sum(weights * jnp.where(weights > 0, losses, 0.0))


class Squashed(AbstractDistribution[Float[Array, "..."]]):
    """A distribution on the real line squashed into a box: `x = low + (high - low) (1 + tanh z) / 2`, `z` from the
    base distribution.

    Attributes:
        base: of `z`.
        low, high: the bounds of every component.
    """

    base: AbstractDistribution[Float[Array, "..."]]
    low: float = eqx.field(static=True, default=-1.0)
    high: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"Squashed needs finite bounds low < high, not {self.low} and {self.high}.")

    def sample(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        """A draw of the base distribution, squashed."""
        return self.low + 0.5 * (self.high - self.low) * (1 + jnp.tanh(self.base.sample(key)))

    def log_prob(self, x: Float[ArrayLike, "..."]) -> Float[Array, ""]:
        """`log P(z) - sum_i log(dx_i / dz_i)`; a value on the bound counts as the float next to it."""
        y = (2 * jnp.asarray(x) - (self.low + self.high)) / (self.high - self.low)
        z = jnp.arctanh(jnp.clip(y, -1 + 1e-6, 1 - 1e-6))
        # log(1 - tanh(z)^2), which 1 - y^2 would lose to rounding.
        slope = 2 * (math.log(2) - z - jax.nn.softplus(-2 * z)) + math.log(0.5 * (self.high - self.low))
        return self.base.log_prob(z) - jnp.sum(slope)

    def entropy(self, key: Key[Array, ""] | None = None, num_samples: int = 256) -> Float[Array, ""]:
        """No closed form: the mean of `-log P(x)` over draws; without a `key`, the same each time."""
        keys = jax.random.split(jax.random.key(0) if key is None else key, num_samples)
        return jax.vmap(lambda key: -self.log_prob(self.sample(key)))(keys).mean()


class AbstractConditionals(eqx.Module):
    """`P(x_i | x_1, ..., x_(i-1))` of a block of `length` symbols, for each i."""

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """How many symbols a block has."""

    @property
    @abc.abstractmethod
    def num_categories(self) -> int:
        """How many values each of them has."""

    @abc.abstractmethod
    def next(self, prefix: Int[Array, " i"]) -> Float[Array, " n"]:
        """The unnormalised log-probabilities of the symbol after `prefix`."""


class BlockTable(AbstractConditionals):
    """Conditionals of a joint table, `[n, ..., n]`, one axis for each symbol of the block."""

    log_probs: Float[Array, "..."]

    @property
    def length(self) -> int:
        """The table's axes."""
        return self.log_probs.ndim

    @property
    def num_categories(self) -> int:
        """The length of each axis."""
        return self.log_probs.shape[-1]

    def next(self, prefix: Int[Array, " i"]) -> Float[Array, " n"]:
        """`log sum P(prefix, x_i, rest)` over the rest."""
        table = self.log_probs[tuple(prefix)]
        log_probs = jax.nn.logsumexp(table, axis=tuple(range(1, table.ndim)))
        # After a prefix without mass anything may stand: the block has none whatever follows.
        return jnp.where(log_probs.max() > -jnp.inf, log_probs, 0.0)


class Autoregressive(AbstractDistribution[Int[Array, " L"]]):
    """The joint distribution of a block of symbols, `P(x) = prod_i P(x_i | x_1, ..., x_(i-1))`: its symbols see each
    other.

    A block is one action or one observation: an utterance, an action chunk.

    Args:
        conditionals: of each symbol given those before it.
        probs: instead, the joint table `[n, ..., n]`.

    Raises:
        ValueError: probabilities are negative, not finite, or do not sum to one; not exactly one was given.

    >>> pair = Autoregressive(probs=[[.5, 0.], [0., .5]])
    >>> round(float(jnp.exp(pair.log_prob(jnp.array([0, 0])))), 2)
    0.5
    """

    conditionals: AbstractConditionals

    def __init__(self, conditionals: AbstractConditionals | None = None, *, probs: ArrayLike | list | None = None):
        if (conditionals is None) == (probs is None):
            raise ValueError("Autoregressive takes either conditionals or probs.")
        if conditionals is None:
            table = jnp.asarray(probs, dtype=float)
            if table.ndim == 0 or len(set(table.shape)) != 1:
                raise ValueError(f"Autoregressive(probs=) needs axes of one length, not {list(table.shape)}.")
            check_probabilities(table.ravel(), "Autoregressive(probs=)")
            conditionals = BlockTable(jnp.log(table))
        self.conditionals = conditionals

    def sample(self, key: Key[Array, ""]) -> Int[Array, " L"]:
        """One symbol after the other."""
        x = jnp.zeros(0, jnp.int32)
        for k in jax.random.split(key, self.conditionals.length):
            x = jnp.append(x, Categorical(logits=self.conditionals.next(x)).sample(k))
        return x

    def log_prob(self, x: Int[Array, " L"]) -> Float[Array, ""]:
        """`sum_i log P(x_i | x_1, ..., x_(i-1))`."""
        distributions = [Categorical(logits=self.conditionals.next(x[:i])) for i in range(self.conditionals.length)]
        return sum((distribution.log_prob(x[i]) for i, distribution in enumerate(distributions)), jnp.zeros(()))

    def entropy(self, key: Key[Array, ""] | None = None, num_samples: int = 256) -> Float[Array, ""]:
        """Exact over up to 4096 blocks; otherwise the mean of `-log P(x)` over draws (without a `key`, the same)."""
        if (blocks := finite_support(self)) is not None:
            return expected_loss(self, self, blocks)
        keys = jax.random.split(jax.random.key(0) if key is None else key, num_samples)
        return jax.vmap(lambda key: -self.log_prob(self.sample(key)))(keys).mean()


MAX_SUPPORT = 4096


def finite_support(distribution: AbstractDistribution) -> Int[np.ndarray, "S L"] | None:
    """All blocks that `distribution` is about, if it is about blocks and they are at most `MAX_SUPPORT`."""
    if isinstance(distribution, Mixture):
        return finite_support(index(distribution.components, 0))
    if not isinstance(distribution, Autoregressive):
        return None
    n, length = distribution.conditionals.num_categories, distribution.conditionals.length
    if n**length > MAX_SUPPORT:
        return None
    return np.stack(np.unravel_index(np.arange(n**length), (n,) * length), axis=-1).astype(np.int32)


def log_probs_of(distribution: AbstractDistribution, values: Any) -> Float[Array, " S"]:
    """`log P(x)` of each of several values."""
    return jax.vmap(distribution.log_prob)(jnp.asarray(values))


def expected_loss(p: AbstractDistribution, q: AbstractDistribution, values: Any) -> Float[Array, ""]:
    """`-sum_x p(x) log q(x)` over all values."""
    return cross_entropy(Categorical(log_probs=log_probs_of(p, values)), Categorical(log_probs=log_probs_of(q, values)))


def mixture(log_weights: Float[Array, " K"], components: AbstractDistribution) -> AbstractDistribution:
    """`sum_k w_k P_k`, the posterior predictive of Remark 10; one Categorical where the components are.

    Of a Joint with one part beside what is given, the mixture is in that part.
    """
    if isinstance(components, Categorical):
        return Categorical(log_probs=jax.nn.logsumexp(log_weights[:, None] + components.log_probs, axis=0))
    if isinstance(components, Joint) and sum(not isinstance(part, Given) for part in components.distributions) == 1:
        likeliest = jnp.argmax(log_weights)
        return Joint(
            jtu.tree_map(
                lambda part: index(part, likeliest) if isinstance(part, Given) else mixture(log_weights, part),
                components.parts,
                is_leaf=is_distribution,
            )
        )
    return Mixture(log_weights, components)


def cross_entropy(p: AbstractDistribution[X], q: AbstractDistribution[X], x: X | None = None) -> Float[Array, ""]:
    """`-E_p[log q(x)]` in nats: in closed form where there is one, and else scored by `x`, a draw of `p`.

    Args:
        p: who says what comes.
        q: who predicts it.
        x: a draw of `p`; only parts without a closed form look at it.

    Raises:
        TypeError: there is no closed form for these two, and no draw.
    """
    match p, q:
        case Categorical(), Categorical():
            # A symbol that p never shows costs nothing, whatever q thinks of it.
            return -jnp.sum(p.probs * jnp.where(p.probs > 0, q.log_probs, 0.0))
        case Normal(), Normal():
            z2 = (p.scale**2 + (p.loc - q.loc) ** 2) / q.scale**2
            return jnp.sum(0.5 * z2 + jnp.log(q.scale) + 0.5 * math.log(2 * math.pi))
        case Given(), Given():
            return jnp.zeros(())
        case Joint(), Joint():
            pairs = p.pairs(q.parts)
            values = [None] * len(pairs) if x is None else [value for _, value in p.pairs(x)]
            losses = (cross_entropy(a, b, value) for (a, b), value in zip(pairs, values, strict=True))
            return sum(losses, jnp.zeros(()))
        case _:
            if (blocks := finite_support(p)) is not None:
                return expected_loss(p, q, blocks)
            if x is not None:
                return -q.log_prob(x)
            raise TypeError(
                f"no closed form for the cross-entropy of {type(q).__name__} under {type(p).__name__}; "
                'score its samples instead (target="sample").'
            )


def as_categorical(distribution: AbstractDistribution) -> Categorical:
    """Return `distribution`, which must be a Categorical.

    Raises:
        TypeError: it is of another kind.
    """
    if not isinstance(distribution, Categorical):
        raise TypeError(f"this needs a Categorical distribution over symbols, not a {type(distribution).__name__}.")
    return distribution


def is_distribution(x: Any) -> bool:
    """Whether `x` is one: where a PyTree of them has its leaves."""
    return isinstance(x, AbstractDistribution)
