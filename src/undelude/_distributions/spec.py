"""What the values of a law are: whether two laws are about the same ones, and whether all mass is on them."""

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


def excess_mass(law: AbstractDistribution) -> Float[Array, ""]:
    """How far the masses of a law of symbols are from one in all; zero for others."""
    match law:
        case Categorical():
            return jnp.abs(law.probs.sum(-1) - 1)
        case Joint():
            return jnp.stack([jnp.zeros(()), *(excess_mass(part) for part in law.laws)]).max()
        case Mixture():
            each = jax.vmap(excess_mass)(law.components)
            return jnp.maximum(jnp.abs(jnp.exp(law.log_weights).sum() - 1), each.max())
        case Autoregressive() if (blocks := finite_support(law)) is not None:
            return jnp.abs(jnp.exp(log_probs_of(law, blocks)).sum() - 1)
    return jnp.zeros(())


def alike(p: AbstractDistribution, q: AbstractDistribution) -> bool:
    """Whether two laws are about the same values."""
    (own, structure), (others, other) = jtu.tree_flatten(_values(p)), jtu.tree_flatten(_values(q))
    # Of a law of one's own, how many symbols there are may not be known.
    return structure == other and all(
        x == y or (SYMBOLS in (x, y) and x.endswith(SYMBOLS) and y.endswith(SYMBOLS))
        for x, y in zip(own, others, strict=True)
    )


def in_words(law: AbstractDistribution) -> str:
    """What the values of a law are."""
    values = _values(law)
    return values if isinstance(values, str) else str(values)


def _values(law: AbstractDistribution) -> PyTree[str]:
    match law:
        case Categorical():
            return f"{law.num_categories} symbols"
        case Autoregressive():
            return f"blocks of {law.conditionals.length}, each symbol one of {law.conditionals.num_categories}"
        case Mixture():
            return _values(eqx.filter_eval_shape(index, law.components, 0))
        case Joint():
            return jtu.tree_map(_values, law.parts, is_leaf=is_distribution)
    value = eqx.filter_eval_shape(lambda law: law.sample(jax.random.key(0)), law)

    def kind(x: Any) -> str:
        if jnp.shape(x):
            return f"numbers {list(jnp.shape(x))}"
        return SYMBOLS if jnp.issubdtype(jnp.result_type(x), jnp.integer) else "a number"

    return jtu.tree_map(kind, value)


def check_alphabet(name: str, law: AbstractDistribution, values: PyTree) -> None:
    """Raise `ValueError` where symbols among `values` are outside the alphabet of their law."""
    if isinstance(law, Joint):
        for i, (part, value) in enumerate(law.pairs(values)):
            check_alphabet(f"{name}, part {i},", part, value)
    if not isinstance(law, Categorical) or not is_concrete(values):
        return
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be integers from 0 to {law.num_categories - 1}, not {values.dtype}.")
    if values.size and (values.min() < 0 or values.max() >= law.num_categories):
        raise ValueError(
            f"{name} must be integers from 0 to {law.num_categories - 1}, not from {values.min()} to {values.max()}."
        )
