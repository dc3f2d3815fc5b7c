"""The protocol of a distribution: P(A | M), P(O | M), Q(A | Theta, E) and Q(O | Theta, W) of Section 4.1.

A distribution is three methods on a PyTree, and it is unbatched. A batch of distributions is the same PyTree with
leading axes, with the methods under `jax.vmap`: `jax.vmap(lambda d, key: d.sample(key))(batch, keys)`.
"""

import abc
from typing import Generic, TypeGuard

import equinox as eqx
from jaxtyping import Array, Float, Key

from undelude._types import X


class AbstractDistribution(eqx.Module, Generic[X]):
    """A distribution over values `x`, with samples, log-probabilities and an entropy, in nats."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""]) -> X:
        """Draw one value."""

    @abc.abstractmethod
    def log_prob(self, x: X) -> Float[Array, ""]:
        """Return `log P(x)` in nats: of a probability, or of a density if `x` is continuous."""

    @abc.abstractmethod
    def entropy(self) -> Float[Array, ""]:
        """Return `-E[log P(x)]` in nats."""


def is_distribution(x: object) -> TypeGuard[AbstractDistribution[object]]:
    """Return whether `x` is a distribution; the `is_leaf` of PyTrees of distributions."""
    return isinstance(x, AbstractDistribution)


def check_is_distribution(x: object, name: str) -> None:
    """Raise `TypeError` if `x`, called `name`, is not a distribution, and say how to make one."""
    if is_distribution(x):
        return
    match x:
        case type():
            what, remedy = f"the class {x.__name__}", f"call it, as in ud.{x.__name__}(...)"
        case dict() | tuple() | list():
            what, remedy = (
                f"a {type(x).__name__}",
                "for several parts return ud.Joint({...}), with a distribution for each",
            )
        case _ if eqx.is_array_like(x):
            what = "an array" if eqx.is_array(x) else f"{x!r:.99}"
            remedy = "give probabilities as ud.Categorical(probs=...), and a fixed value as ud.Given(...)"
        case _:
            what, remedy = f"{type(x).__name__}", "return ud.Categorical(...) or another one"
    raise TypeError(f"{name} is {what}, not a distribution; {remedy}.")
