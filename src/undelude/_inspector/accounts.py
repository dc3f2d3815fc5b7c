"""The readings of a history in numbers: the account of each party."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from undelude._inspector.alphabet import Alphabet
from undelude._inspector.given import DO, SEE
from undelude._inspector.history import History
from undelude._inspector.readings import Reading
from undelude._inspector.state import Account, Divergence, Moments, kl_and_tv
from undelude._inspector.summary import log_losses, summarise, unknown_summary
from undelude._inspector.values import Values, stacked


def accounts_of(
    history: History, readings: Mapping[str, Reading], actions: Alphabet | Values, observations: Alphabet | Values
) -> dict[str, Account]:
    """Return the account of each party.

    Args:
        history: the history.
        readings: of each party, those of exact do and exact see among them.
        actions: their values.
        observations: their values.
    """
    n, m = len(history), history.num_observations
    predicted, of_actions = in_numbers({name: x.actions for name, x in readings.items()}, m + 1, actions)
    outcomes, of_outcomes = in_numbers({name: x.observations for name, x in readings.items()}, n, observations)
    return {
        name: Account(
            None if x.belief is None else np.asarray(x.belief, float)[: m + 1],
            None if x.acted_belief is None else np.asarray(x.acted_belief, float)[:n],
            _opening(x.opening, observations),
            bool(x.opening_impossible),
            predicted[name],
            outcomes[name],
            np.asarray(x.impossible)[:m],
            np.asarray(x.acted_impossible)[:n],
            {y: Divergence(*of_actions[name][i], *of_outcomes[name][i]) for i, y in enumerate((DO, SEE))},
            losses(history, predicted[name], x.actions, actions),
        )
        for name, x in readings.items()
    }


def in_numbers(
    predictions: Mapping[str, Any], R: int, alphabet: Alphabet | Values
) -> tuple[dict[str, Any], dict[str, Float[np.ndarray, "2 2 R"]]]:
    """Return the first R predictions of each party, and KL and total variation from exact do and exact see.

    Args:
        predictions: by party, log-probabilities of symbols, or distributions of real numbers; None if there are none.
        R: their number.
        alphabet: their values.
    """
    if isinstance(alphabet, Alphabet):
        probs = {name: np.exp(np.asarray(x, float))[:R] for name, x in predictions.items()}
        return probs, {name: np.array([kl_and_tv(probs[x], q) for x in (DO, SEE)]) for name, q in probs.items()}
    answers, key = (predictions[DO], predictions[SEE]), jax.random.key(0)
    length = len(jax.tree.leaves(answers)[0])
    found = {
        name: unknown_summary(length, None, alphabet.size) if x is None else summarise(x, answers, None, key)
        for name, x in predictions.items()
    }
    return {name: x.shown(R) for name, x in found.items()}, {name: x.divergences(R) for name, x in found.items()}


def losses(history: History, probs: Any, distributions: Any, alphabet: Alphabet | Values) -> Float[np.ndarray, " n"]:
    """Return `-log P(label)` of each counterfactual label in nats, and NaN in rounds without one."""
    labels = [r.expert_action for r in history.rounds]
    asked, found = [t for t, x in enumerate(labels) if x is not None], np.full(len(labels), np.nan)
    if not asked or distributions is None:
        return found
    if isinstance(alphabet, Alphabet):
        with np.errstate(divide="ignore"):
            found[asked] = -np.log(probs[asked, [labels[t] for t in asked]])
        return found
    length = len(jax.tree.leaves(distributions)[0]) - 1
    each = np.asarray(log_losses(distributions, stacked(labels, alphabet.like, length)), float)
    found[asked] = each[asked]
    return found


def _opening(prediction: Any, alphabet: Alphabet | Values) -> Float[np.ndarray, " O"] | Moments | None:
    if prediction is None:
        return None
    if isinstance(alphabet, Alphabet):
        return np.exp(np.asarray(prediction, float))
    return summarise(jax.tree.map(lambda x: x[None], prediction), (), None, jax.random.key(0)).shown(1)
