"""A policy without memory: the same distribution of actions in every round."""

from jaxtyping import Array, Bool

from undelude._agents.base import AbstractAgent
from undelude._distributions import AbstractDistribution
from undelude._types import Action, Observation


class FixedPolicy(AbstractAgent[None]):
    """An agent without memory that draws every action from the same distribution.

    It predicts no observations: it can execute actions, and cannot be taught or certified.

    Attributes:
        distribution: of its actions.
    """

    distribution: AbstractDistribution

    @property
    def trainable(self) -> bool:
        """False: it predicts no observations."""
        return False

    def init(self, *, num_rounds: int) -> None:
        """Return no memory."""

    def f_A(self, m: None) -> AbstractDistribution:
        """Return the distribution."""
        del m
        return self.distribution

    def f_O(self, m: None) -> AbstractDistribution:
        """Raise a `TypeError`: it predicts no observations."""
        raise TypeError("FixedPolicy predicts no observations: it can execute actions, and nothing else.")

    def g_A(self, a: Action, m: None, *, intervened: Bool[Array, ""] | bool) -> None:
        """Return no memory."""

    def g_O(self, o: Observation, m: None) -> None:
        """Return no memory."""
