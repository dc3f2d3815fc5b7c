"""Plain data for the page: what is inspected, and all answers about one history."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from undelude._files import plain
from undelude._inspector.history import History
from undelude._inspector.inspection import DO, EXACT, MARKED, SEE, TOLD, Account, Inspection, State

# Decimals of a probability.
DECIMALS = 6
# Longest alphabet whose probabilities are all sent; of a longer one, the largest.
ALL, LARGEST = 24, 12
# The exact parties: a name, and how each reads past actions.
NAMES = {
    MARKED: ("exact, as marked", "Exact inference. It reads each past action as its switch says."),
    DO: ("exact do", "Exact inference. It reads the agent’s past actions as interventions: the right answer."),
    SEE: ("exact see", "Exact inference. It reads all past actions as evidence: the deluded answer."),
    TOLD: ("expert", "The expert of the process, who is told theta."),
}
READS = {
    "marked": "It reads each past action as its switch says: it was taught both marks.",
    "always do": "It was taught interventions alone, and reads every past action as one.",
    "see": "It was taught evidence alone, and reads every past action as evidence.",
}


def describe(inspection: Inspection, *, notes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what the page must know before any episode.

    Args:
        inspection: what is inspected.
        notes: a sentence about a party, by its name.
    """
    process, words = inspection.process, inspection.words
    parties = []
    for name, reader in inspection.readers.items():
        label, text = NAMES[name] if name in EXACT else (name, READS[reader.reads])
        text = f"{text} {(notes or {}).get(name, '')}".strip()
        parties.append({"key": name, "name": label, "text": text, "mark": inspection.own_mark(name)})
    return {
        "task": process.name,
        "rounds": inspection.num_rounds,
        "thetas": [words.label(k) for k in range(process.num_thetas)],
        "theta_names": [words.theta(k) for k in range(process.num_thetas)],
        "words": {"noun": words.noun, "plural": words.plural, "theta_is": words.theta_is, "acts": words.acts},
        "actions": _symbols(inspection.actions),
        "offered": inspection.offered,
        "observations": _symbols(inspection.observations),
        "question": words.outcomes.question.strip() or "What happens?",
        "parties": parties,
        "opening": process.opening,
        "theta_changes": process.theta_changes,
    }


def _symbols(alphabet: Any) -> list[dict[str, Any]]:
    return [
        {"label": label, "text": text, "value": alphabet.value(i)}
        for i, (label, text) in enumerate(zip(alphabet.labels, alphabet.sentences, strict=True))
    ]


def view(inspection: Inspection, state: State, *, task: str) -> dict[str, Any]:
    """Return a state for the page; KL that is infinite is the text "inf", and a belief that is not unique is null."""
    history = state.history
    parties = {}
    for name, account in state.accounts.items():
        parties[name] = _account(account) | {
            "kl": {answer: _divergence(state, answer, name) for answer in (DO, SEE)},
            "loss": _row(state.losses(name)),
        }
    return plain(
        {
            "episode": inspection.to_json(history, task=task),
            "rounds": [[r.action, r.observation, r.expert_action] for r in history.rounds],
            "opening": history.opening,
            "theta": list(history.theta),
            "parties": parties,
            "rewards": _row(state.rewards),
            "ended": state.ended,
        }
    )


def _divergence(state: State, answer: str, party: str) -> dict[str, Any]:
    d = state.divergence(answer, party)
    return {name: _row(x) for name, x in vars(d).items()}


def _account(account: Account) -> dict[str, Any]:
    return {
        "belief": None if account.belief is None else [_row(x) for x in account.belief],
        "acted_belief": None if account.acted_belief is None else [_row(x) for x in account.acted_belief],
        "opening": None if account.opening is None else _probabilities(account.opening),
        "actions": [_probabilities(x) for x in account.actions],
        "observations": [_probabilities(x) for x in account.observations],
        "impossible": np.flatnonzero(account.impossible).tolist(),
        "acted_impossible": np.flatnonzero(account.acted_impossible).tolist(),
    }


def _row(x: np.ndarray) -> list[float]:
    return np.round(x, DECIMALS).tolist()


def _probabilities(p: np.ndarray) -> list[Any]:
    """Return all probabilities; of a long alphabet, pairs of an index and its probability, the largest first."""
    if len(p) <= ALL:
        return _row(p)
    largest = np.argsort(-p, kind="stable")[:LARGEST]
    return [[int(i), round(float(p[i]), DECIMALS)] for i in largest]


def first_history(inspection: Inspection, actor: str, *, seed: int | None = None, tries: int = 32) -> History:
    """Return the episode with which the page begins, played by a party.

    Without a seed it is the one, of several, after which the exact readings of the actions as do and as see differ
    most. A process of at most two rounds stops after its first action, before the outcome.
    """
    if inspection.num_rounds <= 2:
        history = inspection.begin(seed=0 if seed is None else seed)
        return inspection.play(history, actor=actor, observe=False)

    def played(seed: int) -> History:
        return inspection.play(inspection.begin(seed=seed), rounds=inspection.num_rounds, actor=actor)

    def distance(history: History) -> float:
        accounts = inspection.read(history).accounts
        do, see = accounts[DO].belief, accounts[SEE].belief
        return 0.0 if do is None or see is None else float(np.abs(do[-1] - see[-1]).sum())

    if seed is not None:
        return played(seed)
    return max((played(s) for s in range(tries)), key=distance)
