"""All answers about one history: beliefs, predictions, and their distances from the exact answers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from undelude._inspector.history import History


@dataclasses.dataclass(frozen=True)
class Moments:
    """Predictions of D real numbers: their means and standard deviations, `[R, D]`."""

    mean: Float[np.ndarray, "R D"]
    deviation: Float[np.ndarray, "R D"]


@dataclasses.dataclass(frozen=True)
class Divergence:
    """`KL(answer || party)` in nats and the total variation, before each action and after each one.

    Between densities both are estimates. NaN if they are not known.

    Attributes:
        actions, actions_tv: `[m + 1]`, between the predictions of the next action.
        observations, observations_tv: `[n]`, between the predictions of the observation.
    """

    actions: Float[np.ndarray, " m1"]
    actions_tv: Float[np.ndarray, " m1"]
    observations: Float[np.ndarray, " n"]
    observations_tv: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Account:
    """What one party believes and predicts at each point of a history of n rounds, of which m have an observation.

    Predictions are probabilities `[R, n]` of symbols, or the moments of real numbers.

    Attributes:
        belief: `[m + 1, K]`, before each action and after the last observation; None if it is unknown. A row is NaN if
            the prediction of a learned agent implies no unique belief.
        acted_belief: `[n, K]`, after each action; None for learned agents.
        opening: the prediction of the opening, `[n]`, or moments `[1, D]`; None without one.
        opening_impossible: whether the party gave the opening probability 0.
        actions: `[m + 1]`, predictions of the next action.
        observations: `[n]`, predictions of the observation after each action, in a recording those of the symbol that
            theta changes; None if it predicts none.
        impossible, acted_impossible: `[m]` and `[n]`, whether the party gave the observation, or an action that it
            reads as evidence, probability 0. The belief of an exact agent then stays as it was.
        divergences: from exact do and from exact see.
        losses: `[n]`, `-log P(label)` of each counterfactual label in nats, NaN in rounds without one (equation 9).
    """

    belief: Float[np.ndarray, "m1 K"] | None
    acted_belief: Float[np.ndarray, "n K"] | None
    opening: Any
    opening_impossible: bool
    actions: Any
    observations: Any
    impossible: Bool[np.ndarray, " m"]
    acted_impossible: Bool[np.ndarray, " n"]
    divergences: Mapping[str, Divergence]
    losses: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class State:
    """All answers about one history, or one recording of a simulator.

    Attributes:
        history: the history.
        accounts: of each party.
        rewards: `[m]`.
        offered: `m + 1` rows, whether the expert may take each action, under any theta; None for all actions.
        ended: whether the episode is over: the process has no more rounds, or its task has ended it.
    """

    history: History
    accounts: Mapping[str, Account]
    rewards: Float[np.ndarray, " m"]
    offered: Sequence[Bool[np.ndarray, " A"] | None]
    ended: bool

    def divergence(self, answer: str, party: str) -> Divergence:
        """Return `KL(answer || party)` and the total variation of each prediction; the answer is exact do or see.

        KL is infinite where the party gives no probability to a symbol that the answer allows.
        """
        return self.accounts[party].divergences[answer]

    def losses(self, party: str) -> Float[np.ndarray, " n"]:
        """Return `-log P(label)` of each counterfactual label in nats, and NaN in rounds without one (equation 9)."""
        return self.accounts[party].losses


def kl_and_tv(p: Float[np.ndarray, "R n"], q: Float[np.ndarray, "R n"]) -> tuple[np.ndarray, np.ndarray]:
    """Return `sum_x p(x) log(p(x) / q(x))` and `sum_x |p(x) - q(x)| / 2` of each row; rounding below 0 becomes 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0)
    return np.maximum(ratio.sum(-1), 0.0), 0.5 * np.abs(p - q).sum(-1)
