"""A policy without memory: the same distribution of actions in every round."""

import equinox as eqx
from jaxtyping import Array, Bool, Key

from undelude._distributions import AbstractDistribution
from undelude._types import Action, Observation


class FixedPolicy(eqx.Module):
    """A behaviour without memory: the same distribution in every round, whatever happened."""

    distribution: AbstractDistribution

    def init(self, *, num_rounds: int) -> None:
        """No memory."""

    def act(self, m: None, *, key: Key[Array, ""]) -> tuple[Action, None]:
        """A sample of the distribution."""
        return self.distribution.sample(key), m

    def g_A(self, a: Action, m: None, *, intervened: Bool[Array, ""] | bool) -> None:
        """No memory."""

    def g_O(self, o: Observation, m: None) -> None:
        """No memory."""
