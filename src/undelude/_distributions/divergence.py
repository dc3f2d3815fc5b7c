"""Cross-entropies, entropies, KL divergences and total variation of distributions, in nats."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude._distributions.base import AbstractDistribution
from undelude._distributions.compound import Given, Joint, Mixture
from undelude._distributions.continuous import Normal, Squashed
from undelude._distributions.discrete import Autoregressive, Categorical, log_probs_of
from undelude._tree import index
from undelude._types import Value


def finite_support(distribution: AbstractDistribution[Value]) -> Int[np.ndarray, "S L"] | None:
    """Return all blocks of an `Autoregressive` or of a mixture of them; None otherwise, or if they are too many."""
    match distribution:
        case Mixture():
            return finite_support(index(distribution.components, 0))
        case Autoregressive():
            return distribution.support
    return None


def cross_entropy(
    p: AbstractDistribution[Value], q: AbstractDistribution[Value], x: Value | None = None
) -> Float[Array, ""]:
    """Return `-E_p[log q(x)]` in nats: in closed form if there is one, otherwise an unbiased estimate from a draw `x`.

    The estimate is `-log q(x)`. If `p` is normal, it is the mean over `x` and its mirror image `2 loc - x`, another
    draw of `p`: what is linear in the distance of `x` from `loc`, most of the noise in the gradients, cancels.

    Args:
        p: the distribution of the values.
        q: the distribution that predicts them.
        x: a draw of `p`; used only for parts without a closed form.

    Raises:
        TypeError: there is neither a closed form nor a draw.
    """
    match p, q:
        case Categorical(), Categorical():
            return p.cross_entropy(q)
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
                return _over(p, blocks).cross_entropy(_over(q, blocks))
            if x is not None and isinstance(p, Normal):
                return -0.5 * (q.log_prob(x) + q.log_prob(2 * p.loc - x))
            if x is not None:
                return -q.log_prob(x)
            raise TypeError(
                f"no closed form for the cross-entropy of {type(q).__name__} under {type(p).__name__}; "
                'score its samples instead (target="sample").'
            )


def estimate_entropy(
    distribution: AbstractDistribution[Value], key: Key[Array, ""], num_samples: int = 16
) -> Float[Array, ""]:
    """Return the entropy in nats: exact if there is a closed form, otherwise an unbiased estimate."""
    match distribution:
        case Mixture() if (blocks := finite_support(distribution)) is not None:
            return _over(distribution, blocks).entropy()
        case Mixture() | Squashed() | Autoregressive():
            return distribution.entropy(key, num_samples)
        case Joint():
            parts = distribution.distributions
            keys = jax.random.split(key, len(parts))
            entropies = (estimate_entropy(part, k, num_samples) for part, k in zip(parts, keys, strict=True))
            return sum(entropies, jnp.zeros(()))
        case _:
            return distribution.entropy()


def divergences(
    p: AbstractDistribution[Value], q: AbstractDistribution[Value], *, key: Key[Array, ""], num_samples: int = 64
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return `KL(p || q)` in nats and the total variation between `p` and `q`.

    `KL = sum_x p(x) log(p(x) / q(x))`, `TV = sum_x |p(x) - q(x)| / 2 = E_p[max(0, 1 - q(x) / p(x))]`.

    Both are exact between Categoricals and over at most 4096 blocks; otherwise they are unbiased estimates from
    `num_samples` draws of `p`, and an estimate of KL may be slightly negative. The KL of two Joints is the sum over
    their parts, and given parts add nothing. KL is infinite if `q` gives no mass to a value that `p` allows.
    """
    if isinstance(p, Joint) and isinstance(q, Joint):
        pairs = [(part, other) for part, other in p.pairs(q.parts) if not isinstance(part, Given)]
        keys = jax.random.split(key, len(pairs) + 1)
        each = [divergences(*pair, key=k, num_samples=num_samples) for pair, k in zip(pairs, keys[1:], strict=True)]
        kl = sum((kl for kl, _ in each), jnp.zeros(()))
        return kl, each[0][1] if len(each) == 1 else _estimate(p, q, keys[0], num_samples)[1]
    if (blocks := finite_support(p)) is not None:
        return _between_categoricals(_over(p, blocks), _over(q, blocks))
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return _between_categoricals(p, q)
    return _estimate(p, q, key, num_samples)


def _over(distribution: AbstractDistribution[Value], values: Int[np.ndarray, "S L"]) -> Categorical:
    """Return the distribution over the indices of `values`, which are its support."""
    return Categorical(log_probs=log_probs_of(distribution, values))


def _between_categoricals(p: Categorical, q: Categorical) -> tuple[Float[Array, ""], Float[Array, ""]]:
    seen = p.probs > 0
    ratio = jnp.where(seen, p.log_probs, 0.0) - jnp.where(seen, q.log_probs, 0.0)
    return jnp.sum(p.probs * ratio), 0.5 * jnp.sum(jnp.abs(p.probs - q.probs))


def _estimate(
    p: AbstractDistribution[Value], q: AbstractDistribution[Value], key: Key[Array, ""], num_samples: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    def log_ratio(key: Key[Array, ""]) -> Float[Array, ""]:
        x = p.sample(key)
        return p.log_prob(x) - q.log_prob(x)

    ratio = jax.vmap(log_ratio)(jax.random.split(key, num_samples))
    return ratio.mean(), jnp.maximum(0.0, -jnp.expm1(-ratio)).mean()


def excess_mass(distribution: AbstractDistribution[Value]) -> Float[Array, ""]:
    """Return the distance of the total probability from one; zero for densities."""
    match distribution:
        case Categorical():
            return jnp.abs(distribution.probs.sum(-1) - 1)
        case Joint():
            return jnp.stack([jnp.zeros(()), *(excess_mass(part) for part in distribution.distributions)]).max()
        case Mixture():
            each = jax.vmap(excess_mass)(distribution.components)
            return jnp.maximum(jnp.abs(jnp.exp(distribution.log_weights).sum() - 1), each.max())
        case Autoregressive() if (blocks := distribution.support) is not None:
            return jnp.abs(_over(distribution, blocks).probs.sum() - 1)
    return jnp.zeros(())
