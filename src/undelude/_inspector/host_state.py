"""All answers about one recording of a simulator."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from undelude._inspector.history import History


@dataclasses.dataclass(frozen=True)
class HostAccount:
    """What one party believes and predicts at each point of a recording of n actions and m observations.

    Attributes:
        belief: `[m + 1, K]`, before each action and after the last observation; None if it is not known.
        acted_belief: `[n, K]`, after each action.
        probs: `[m + 1, A]`, of the next action, if actions are symbols.
        mean, deviation: `[m + 1, D]`, of the next action, if actions are real numbers.
        symbols: `[n, S]`, of the symbol in the next observation; NaN if it is not known.
        impossible, acted_impossible: `[m]` and `[n]`, whether a symbol or an action had probability 0.
        kl: `[m + 1, 2]`, from exact do and exact see, of the next action in nats.
        symbol_kl: `[n, 2]`, of the symbol; NaN for given agents.
        losses: `[n]`, `-log P(label)` in nats; NaN without a label.
    """

    belief: Float[np.ndarray, "m1 K"] | None
    acted_belief: Float[np.ndarray, "n K"] | None
    probs: Float[np.ndarray, "m1 A"] | None
    mean: Float[np.ndarray, "m1 D"] | None
    deviation: Float[np.ndarray, "m1 D"] | None
    symbols: Float[np.ndarray, "n S"] | None
    impossible: np.ndarray
    acted_impossible: np.ndarray
    kl: Float[np.ndarray, "m1 2"]
    symbol_kl: Float[np.ndarray, "n 2"]
    losses: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class HostState:
    """All answers about one recording.

    Attributes:
        history: the recording.
        accounts: of each party.
        ended: whether the episode is over.
    """

    history: History
    accounts: Mapping[str, HostAccount]
    ended: bool
