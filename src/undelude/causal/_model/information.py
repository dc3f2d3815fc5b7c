"""Information between variables of a causal model, in nats."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from undelude.causal._summing.contraction import Table, backend


def mutual_information(joint: Table) -> Float[Array, ""]:
    """Return `I(a; b | c) = sum_abc P(a, b, c) log(P(a, b, c) P(c) / (P(a, c) P(b, c)))`, nats.

    Args:
        joint: `P(a, b, c)`, `[A, B, C]`.
    """
    xp = backend(joint)
    joint = xp.asarray(joint, float)
    a_c, b_c, c = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True), joint.sum((0, 1), keepdims=True)
    possible = joint > 0
    ratio = xp.where(possible, joint * c, 1.0) / xp.where(possible, a_c * b_c, 1.0)
    return jnp.asarray(xp.where(possible, joint * xp.log(ratio), 0.0).sum())
