"""Samples by inversion: a value of a distribution as a function of uniform numbers, where there are no random keys."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from undelude._distributions.base import AbstractDistribution
from undelude._distributions.compound import Given, Joint, Mixture
from undelude._distributions.continuous import Normal, Squashed
from undelude._distributions.discrete import Autoregressive, Categorical
from undelude._tree import index
from undelude._types import Value


def num_uniforms(distribution: AbstractDistribution[Value]) -> int:
    """Return how many uniform numbers `invert` takes for one value.

    Raises:
        TypeError: the inverse of this distribution is not known.

    >>> num_uniforms(Joint({"arm": Categorical(probs=[.5, .5]), "force": Normal([0., 0.], 1.)}))
    3
    """
    match distribution:
        case Categorical():
            return 1
        case Normal():
            return math.prod(distribution.loc.shape)
        case Squashed():
            return num_uniforms(distribution.base)
        case Mixture():
            return 1 + num_uniforms(jax.eval_shape(index, distribution.components, jax.ShapeDtypeStruct((), int)))
        case Autoregressive():
            return distribution.conditionals.length
        case Joint():
            return sum(map(num_uniforms, distribution.distributions))
        case Given(up_to=None):
            return 0
    raise TypeError(
        f"a value of a {type(distribution).__name__} cannot be computed from uniform numbers; use Categorical, "
        "Autoregressive, Normal, Squashed, Mixture, Joint, or Given without up_to."
    )


def invert(distribution: AbstractDistribution[Value], u: Float[Array, " n"]) -> Value:
    """Return the value of `distribution` at `u`; it is a sample if `u` are independent and uniform in `[0, 1)`.

    Args:
        distribution: of a kind that `num_uniforms` knows.
        u: as many numbers as `num_uniforms(distribution)`.

    >>> int(invert(Categorical(probs=[.25, .75]), jnp.array([.5])))
    1
    """
    match distribution:
        case Categorical():
            return distribution.invert(u[0])
        case Normal():
            # The inverse is infinite at 0 and 1.
            clipped = jnp.clip(u, jnp.finfo(u.dtype).eps / 2, 1 - jnp.finfo(u.dtype).eps / 2)
            z = math.sqrt(2) * jax.lax.erf_inv(2 * clipped - 1)
            return distribution.loc + distribution.scale * jnp.reshape(z, distribution.loc.shape)
        case Squashed():
            return distribution.squash(invert(distribution.base, u))
        case Mixture():
            k = Categorical(log_probs=distribution.log_weights).invert(u[0])
            values = jax.vmap(lambda component: invert(component, u[1:]))(distribution.components)
            # A sum over a mask: jax2onnx writes the entry k of a batch of mixtures with wrong shapes.
            return jax.tree.map(lambda x: jnp.sum(x, 0, where=_is(k, x), dtype=x.dtype), values)
        case Autoregressive():
            x = jnp.zeros(0, jnp.int32)
            for i in range(distribution.conditionals.length):
                x = jnp.append(x, Categorical(logits=distribution.conditionals.next(x)).invert(u[i]))
            return x
        case Joint():
            values, first = [], 0
            for part in distribution.distributions:
                end = first + num_uniforms(part)
                values.append(invert(part, u[first:end]))
                first = end
            structure = jax.tree.structure(distribution.parts, is_leaf=lambda x: isinstance(x, AbstractDistribution))
            return structure.unflatten(values)
        case Given(up_to=None):
            return distribution.value
    raise TypeError(f"the inverse of a {type(distribution).__name__} is not known.")


def _is(k: Int[Array, ""], x: Array) -> Array:
    """Return a mask of the entries `k` along the leading axis of `x`."""
    return jnp.reshape(jnp.arange(len(x)) == k, (-1,) + (1,) * (x.ndim - 1))
