"""The values that a distribution ranges over: whether two agree on them, and whether all mass is on them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from undelude._distributions.distributions import (
    AbstractDistribution,
    Autoregressive,
    Categorical,
    Joint,
    Mixture,
    finite_support,
    is_distribution,
    log_probs_of,
)
from undelude._tree import index, is_concrete

SYMBOLS = "symbols"


def excess_mass(distribution: AbstractDistribution) -> Float[Array, ""]:
    """How far the masses of a distribution of symbols are from one in all; zero for others."""
    match distribution:
        case Categorical():
            return jnp.abs(distribution.probs.sum(-1) - 1)
        case Joint():
            return jnp.stack([jnp.zeros(()), *(excess_mass(part) for part in distribution.distributions)]).max()
        case Mixture():
            each = jax.vmap(excess_mass)(distribution.components)
            return jnp.maximum(jnp.abs(jnp.exp(distribution.log_weights).sum() - 1), each.max())
        case Autoregressive() if (blocks := finite_support(distribution)) is not None:
            return jnp.abs(jnp.exp(log_probs_of(distribution, blocks)).sum() - 1)
    return jnp.zeros(())


def alike(p: AbstractDistribution, q: AbstractDistribution) -> bool:
    """Whether two distributions are about the same values."""
    (own, structure), (others, other) = jtu.tree_flatten(_values(p)), jtu.tree_flatten(_values(q))
    # Of a distribution of one's own, how many symbols there are may not be known.
    return structure == other and all(
        x == y or (SYMBOLS in (x, y) and x.endswith(SYMBOLS) and y.endswith(SYMBOLS))
        for x, y in zip(own, others, strict=True)
    )


def in_words(distribution: AbstractDistribution) -> str:
    """What the values of a distribution are."""
    values = _values(distribution)
    return values if isinstance(values, str) else str(values)


def _values(distribution: AbstractDistribution) -> PyTree[str]:
    match distribution:
        case Categorical():
            return f"{distribution.num_categories} symbols"
        case Autoregressive():
            length, n = distribution.conditionals.length, distribution.conditionals.num_categories
            return f"blocks of {length}, each symbol one of {n}"
        case Mixture():
            return _values(eqx.filter_eval_shape(index, distribution.components, 0))
        case Joint():
            return jtu.tree_map(_values, distribution.parts, is_leaf=is_distribution)
    value = eqx.filter_eval_shape(lambda distribution: distribution.sample(jax.random.key(0)), distribution)

    def kind(x: Any) -> str:
        if jnp.shape(x):
            return f"numbers {list(jnp.shape(x))}"
        return SYMBOLS if jnp.issubdtype(jnp.result_type(x), jnp.integer) else "a number"

    return jtu.tree_map(kind, value)


def check_alphabet(name: str, distribution: AbstractDistribution, values: PyTree) -> None:
    """Raise `ValueError` where symbols among `values` are outside the alphabet of their distribution."""
    if isinstance(distribution, Joint):
        for i, (part, value) in enumerate(distribution.pairs(values)):
            check_alphabet(f"{name}, part {i},", part, value)
    if not isinstance(distribution, Categorical) or not is_concrete(values):
        return
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be integers from 0 to {distribution.num_categories - 1}, not {values.dtype}.")
    if values.size and (values.min() < 0 or values.max() >= distribution.num_categories):
        raise ValueError(
            f"{name} must be integers from 0 to {distribution.num_categories - 1}, not from {values.min()} to "
            f"{values.max()}."
        )
