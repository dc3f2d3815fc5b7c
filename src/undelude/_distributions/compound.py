"""Distributions made of others: independent parts, mixtures, and values that are given."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key, PyTree

from undelude._checks import check_probabilities
from undelude._distributions.base import AbstractDistribution, X, check_is_distribution, is_distribution
from undelude._distributions.discrete import Categorical
from undelude._tree import index, is_concrete
from undelude._types import Value


class Given(AbstractDistribution[Value]):
    """A value that agents read, but that is neither predicted nor evidence about theta; most often deterministic.

    For deterministic continuous parts of an observation, such as a joint angle or a clock, whose density would be
    infinite; and for the conditions of an episode, such as a noise level or a friction, drawn for each episode and
    shown in its opening.

    Attributes:
        value: the value; if `up_to` is given, the lower bound.
        up_to: a PyTree of the same structure. The value is then uniform between `value` and `up_to`, independently for
            each number.

    Raises:
        ValueError: with `up_to`, `value` is not of floats; or `up_to` differs from it in structure, shape or type, or
            is less somewhere.
    """

    value: Value
    up_to: Value | None = eqx.field(default=None, kw_only=True)

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

    def sample(self, key: Key[Array, ""]) -> Value:
        """Return the value, or draw it if there is `up_to`."""
        if self.up_to is None:
            return self.value
        low, structure = jtu.tree_flatten(self.value)
        keys = structure.unflatten(jax.random.split(key, len(low)))
        return jtu.tree_map(_uniform, keys, self.value, self.up_to)

    def log_prob(self, x: Value) -> Float[Array, ""]:
        """Return zero."""
        del x
        return jnp.zeros(())

    def entropy(self) -> Float[Array, ""]:
        """Return zero."""
        return jnp.zeros(())


def _uniform(key: Key[Array, ""], low: Array | float, high: Array | float) -> Array:
    return low + (high - low) * jax.random.uniform(key, jnp.shape(low), jnp.result_type(low))


class Joint(AbstractDistribution[Value]):
    """A PyTree of independent distributions; a value is the PyTree of their values, in the same places.

    Raises:
        TypeError: a part is not a distribution, or there is none.
    """

    parts: PyTree[AbstractDistribution]

    def __check_init__(self) -> None:
        paths = jtu.tree_leaves_with_path(self.parts, is_leaf=lambda x: is_distribution(x) or x is None)
        if not paths:
            raise TypeError(f"Joint needs at least one distribution, not {self.parts!r:.99}.")
        for path, part in paths:
            check_is_distribution(part, f"Joint: part {jtu.keystr(path, simple=True, separator='.') or 'itself'}")

    @property
    def distributions(self) -> list[AbstractDistribution[Value]]:
        """The parts, in the order of the PyTree."""
        return jtu.tree_leaves(self.parts, is_leaf=is_distribution)

    def pairs(self, x: Value) -> list[tuple[AbstractDistribution[Value], Value]]:
        """Return each part with its subtree of `x`."""
        parts, structure = jtu.tree_flatten(self.parts, is_leaf=is_distribution)
        return list(zip(parts, structure.flatten_up_to(x), strict=True))

    def sample(self, key: Key[Array, ""]) -> Value:
        """Draw each part independently."""
        parts, structure = jtu.tree_flatten(self.parts, is_leaf=is_distribution)
        keys = jax.random.split(key, len(parts))
        return structure.unflatten(part.sample(k) for part, k in zip(parts, keys, strict=True))

    def log_prob(self, x: Value) -> Float[Array, ""]:
        """Return the sum of the parts' log-probabilities."""
        return sum((part.log_prob(value) for part, value in self.pairs(x)), jnp.zeros(()))

    def entropy(self) -> Float[Array, ""]:
        """Return the sum of the parts' entropies."""
        return sum((part.entropy() for part in self.distributions), jnp.zeros(()))


class Mixture(AbstractDistribution[X]):
    """A mixture `P(x) = sum_k w_k P_k(x)` of `K` distributions of one kind.

    Args:
        components: the `P_k`: one distribution whose arrays have a leading axis of `K`.
        weights: `[K]`, probabilities `w_k`; they must sum to one.
        log_weights: `[K]`, normalised `log w_k`, in place of `weights`; they are stored unchanged.

    Raises:
        TypeError: `components` is not a distribution.
        ValueError: not exactly one of `weights` and `log_weights` was given; `weights` are not probabilities.

    >>> two = Mixture(Categorical(probs=[[.5, .5], [1., 0.]]), weights=[.5, .5])
    >>> round(float(jnp.exp(two.log_prob(1))), 2)
    0.25
    """

    log_weights: Float[Array, " K"]
    components: AbstractDistribution[X]

    def __init__(
        self,
        components: AbstractDistribution[X],
        *,
        weights: ArrayLike | Sequence[float] | None = None,
        log_weights: Float[Array, " K"] | None = None,
    ):
        if (weights is None) == (log_weights is None):
            raise ValueError("Mixture takes either weights or log_weights.")
        check_is_distribution(components, "Mixture: components")
        if log_weights is None:
            weights = jnp.asarray(weights, dtype=float)
            check_probabilities(weights, "Mixture(weights=)")
            log_weights = jnp.log(weights)
        self.log_weights = log_weights
        self.components = components

    def sample(self, key: Key[Array, ""]) -> X:
        """Draw a component, and then a value from it."""
        key_component, key_value = jax.random.split(key)
        k = Categorical(log_probs=self.log_weights).sample(key_component)
        return index(self.components, k).sample(key_value)

    def log_prob(self, x: X) -> Float[Array, ""]:
        """Return `logsumexp_k(log w_k + log P_k(x))`."""
        return jax.nn.logsumexp(self.log_weights + jax.vmap(lambda component: component.log_prob(x))(self.components))

    def entropy(self, key: Key[Array, ""] | None = None, num_samples: int = 256) -> Float[Array, ""]:
        """Return the unbiased estimate `sum_k w_k mean(-log P(x))`, the mean over `num_samples` draws of component k.

        The draws are always the same if `key` is None.
        """
        key = jax.random.key(0) if key is None else key

        def loss(component: AbstractDistribution[X], key: Key[Array, ""]) -> Float[Array, ""]:
            return -self.log_prob(component.sample(key))

        def mean_loss(component: AbstractDistribution[X], keys: Key[Array, " S"]) -> Float[Array, ""]:
            return jax.vmap(lambda key: loss(component, key))(keys).mean()

        weights = jnp.exp(self.log_weights)
        losses = jax.vmap(mean_loss)(self.components, jax.random.split(key, (len(weights), num_samples)))
        # The loss of a component without weight may be infinite; it must not give 0 * inf.
        return jnp.sum(weights * jnp.where(weights > 0, losses, 0.0))


def mixture(log_weights: Float[Array, " K"], components: AbstractDistribution[Value]) -> AbstractDistribution[Value]:
    """Return `sum_k w_k P_k`, the posterior predictive of Remark 10, in the simplest form.

    A mixture of Categoricals is a Categorical. A mixture of Joints with a single part that is not `Given` is a Joint
    with the mixture in that part; a given part is that of the likeliest component.
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
    return Mixture(components, log_weights=log_weights)
