"""How far distributions are from one another: KL divergence and total variation, and the entropy of one, in nats."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from undelude._distributions.distributions import (
    AbstractDistribution,
    Autoregressive,
    Categorical,
    Given,
    Joint,
    Mixture,
    Squashed,
    expected_loss,
    finite_support,
    log_probs_of,
)

X = TypeVar("X")


def estimate_entropy(
    distribution: AbstractDistribution, key: Key[Array, ""], num_samples: int = 16
) -> Float[Array, ""]:
    """The entropy of `distribution`, exact where there is a closed form and otherwise an unbiased estimate, nats."""
    match distribution:
        case Mixture() if (blocks := finite_support(distribution)) is not None:
            return expected_loss(distribution, distribution, blocks)
        case Mixture() | Squashed() | Autoregressive():
            return distribution.entropy(key, num_samples)
        case Joint():
            keys = jax.random.split(key, len(distribution.distributions))
            entropies = (
                estimate_entropy(p, k, num_samples) for p, k in zip(distribution.distributions, keys, strict=True)
            )
            return sum(entropies, jnp.zeros(()))
        case _:
            return distribution.entropy()


def divergences(
    p: AbstractDistribution[X], q: AbstractDistribution[X], *, key: Key[Array, ""], num_samples: int = 64
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`KL(p || q)` in nats and the total variation between `p` and `q`.

    `KL = sum_x p(x) log(p(x) / q(x))`, `TV = sum_x |p(x) - q(x)| / 2 = E_p[max(0, 1 - q(x) / p(x))]`.
    Exact between Categoricals and over up to 4096 blocks; otherwise unbiased estimates from `num_samples` draws of `p`
    (an estimate of KL may be slightly negative). Of two Joints KL is the sum over their parts, and what is given adds
    nothing. KL is infinite where `p` shows what `q` rules out.
    """
    if isinstance(p, Joint) and isinstance(q, Joint):
        pairs = [(part, other) for part, other in p.pairs(q.parts) if not isinstance(part, Given)]
        keys = jax.random.split(key, len(pairs) + 1)
        each = [divergences(*pair, key=k, num_samples=num_samples) for pair, k in zip(pairs, keys[1:], strict=True)]
        kl = sum((kl for kl, _ in each), jnp.zeros(()))
        return kl, each[0][1] if len(each) == 1 else _estimate(p, q, keys[0], num_samples)[1]
    if (blocks := finite_support(p)) is not None:
        as_one, other = (Categorical(log_probs=log_probs_of(distribution, blocks)) for distribution in (p, q))
        return divergences(as_one, other, key=key)
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        seen = p.probs > 0
        ratio = jnp.where(seen, p.log_probs, 0.0) - jnp.where(seen, q.log_probs, 0.0)
        return jnp.sum(p.probs * ratio), 0.5 * jnp.sum(jnp.abs(p.probs - q.probs))

    return _estimate(p, q, key, num_samples)


def _estimate(
    p: AbstractDistribution, q: AbstractDistribution, key: Key[Array, ""], num_samples: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    def one(key: Key[Array, ""]) -> Float[Array, ""]:
        x: Any = p.sample(key)
        return p.log_prob(x) - q.log_prob(x)

    ratio = jax.vmap(one)(jax.random.split(key, num_samples))
    return ratio.mean(), jnp.maximum(0.0, -jnp.expm1(-ratio)).mean()
