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

from undelude._checks import check_probabilities, is_concrete

X = TypeVar("X")


class AbstractDistribution(eqx.Module, Generic[X]):
    """A law over values `x`: it samples them, scores them in nats, and knows its entropy."""

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
    """A law over the symbols `0 .. n-1`.

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

    For deterministic continuous parts of an observation (a joint angle, a clock), whose density would be infinite.
    """

    value: PyTree

    def sample(self, key: Key[Array, ""]) -> PyTree:
        """The value."""
        del key
        return self.value

    def log_prob(self, x: PyTree) -> Float[Array, ""]:
        """Zero: the value is not scored and is no evidence."""
        del x
        return jnp.zeros(())

    def entropy(self) -> Float[Array, ""]:
        """Zero."""
        return jnp.zeros(())


class Joint(AbstractDistribution[PyTree]):
    """A PyTree of independent parts; a value is the PyTree of the parts' values in the same places."""

    parts: PyTree[AbstractDistribution]

    def pairs(self, x: PyTree) -> list[tuple[AbstractDistribution, Any]]:
        """Each part with its own part of `x`."""
        parts, treedef = jtu.tree_flatten(self.parts, is_leaf=_is_distribution)
        return list(zip(parts, treedef.flatten_up_to(x), strict=True))

    def sample(self, key: Key[Array, ""]) -> PyTree:
        """A PyTree of independent draws."""
        parts, treedef = jtu.tree_flatten(self.parts, is_leaf=_is_distribution)
        return treedef.unflatten(p.sample(k) for p, k in zip(parts, jax.random.split(key, len(parts)), strict=True))

    def log_prob(self, x: PyTree) -> Float[Array, ""]:
        """The sum of the parts' log-probabilities."""
        return sum((part.log_prob(value) for part, value in self.pairs(x)), jnp.zeros(()))

    def entropy(self) -> Float[Array, ""]:
        """The sum of the parts' entropies."""
        return sum((part.entropy() for part in jtu.tree_leaves(self.parts, is_leaf=_is_distribution)), jnp.zeros(()))


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


def mixture(log_weights: Float[Array, " K"], components: AbstractDistribution) -> AbstractDistribution:
    """`sum_k w_k P_k`, the posterior predictive of Remark 10; one Categorical where the components are."""
    if isinstance(components, Categorical):
        return Categorical(log_probs=jax.nn.logsumexp(log_weights[:, None] + components.log_probs, axis=0))
    return Mixture(log_weights, components)


def estimate_entropy(law: AbstractDistribution, key: Key[Array, ""], num_samples: int = 16) -> Float[Array, ""]:
    """The entropy of `law`, exact where there is a closed form and otherwise an unbiased estimate, nats."""
    match law:
        case Mixture():
            return law.entropy(key, num_samples)
        case Joint():
            parts = jtu.tree_leaves(law.parts, is_leaf=_is_distribution)
            keys = jax.random.split(key, len(parts))
            return sum((estimate_entropy(p, k, num_samples) for p, k in zip(parts, keys, strict=True)), jnp.zeros(()))
        case _:
            return law.entropy()


def index(batch: PyTree, i: Any) -> Any:
    """Entry `i` of the leading axis of every array of a PyTree."""
    return jax.tree.map(lambda x: x[i], batch)


def cross_entropy(p: AbstractDistribution[X], q: AbstractDistribution[X]) -> Float[Array, ""]:
    """`-E_p[log q(x)]` in nats, where there is a closed form.

    Raises:
        TypeError: there is none for these two; score samples of `p` instead.
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
            return sum((cross_entropy(a, b) for a, b in pairs), jnp.zeros(()))
        case _:
            raise TypeError(
                f"no closed form for the cross-entropy of {type(q).__name__} under {type(p).__name__}; "
                'score its samples instead (target="sample").'
            )


def divergences(
    p: AbstractDistribution[X], q: AbstractDistribution[X], *, key: Key[Array, ""], num_samples: int = 64
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`KL(p || q)` in nats and the total variation between `p` and `q`.

    `KL = sum_x p(x) log(p(x) / q(x))`, `TV = sum_x |p(x) - q(x)| / 2 = E_p[max(0, 1 - q(x) / p(x))]`.
    Exact between Categoricals; otherwise unbiased estimates from `num_samples` draws of `p` (an estimate of KL may be
    slightly negative). KL is infinite where `p` shows what `q` rules out.
    """
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        seen = p.probs > 0
        ratio = jnp.where(seen, p.log_probs, 0.0) - jnp.where(seen, q.log_probs, 0.0)
        return jnp.sum(p.probs * ratio), 0.5 * jnp.sum(jnp.abs(p.probs - q.probs))

    def one(key: Key[Array, ""]) -> Float[Array, ""]:
        x: Any = p.sample(key)
        return p.log_prob(x) - q.log_prob(x)

    ratio = jax.vmap(one)(jax.random.split(key, num_samples))
    return ratio.mean(), jnp.maximum(0.0, -jnp.expm1(-ratio)).mean()


def _is_distribution(x: Any) -> bool:
    return isinstance(x, AbstractDistribution)
