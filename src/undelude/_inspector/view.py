"""Plain data for the page: the process and its parties, and all answers about one history."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from undelude._drawing.film import draw_round
from undelude._drawing.frame import INK
from undelude._files import plain
from undelude._inspector.history import History
from undelude._inspector.inspection import DO, EXACT, MARKED, SEE, TOLD, Inspection
from undelude._inspector.state import Account, State
from undelude._process.task import AbstractTask
from undelude.tasks.tables import TableTask

# Decimals of a probability.
DECIMALS = 6
# Longest alphabet whose probabilities are all sent; of a longer one, the largest.
ALL, LARGEST = 24, 12
# Drawings that show hardly more than the belief, which the page shows anyway.
DRAW_BELIEF = (AbstractTask.draw, TableTask.draw)
# Pixels: the width of a picture of the world.
SIZE = 400
# Names of the exact parties, and their readings of past actions.
NAMES = {
    MARKED: ("exact, as marked", "Exact inference. It reads each past action as its switch says."),
    DO: ("exact do", "Exact inference. It reads the agent's past actions as interventions: the right answer."),
    SEE: ("exact see", "Exact inference. It reads all past actions as evidence: the deluded answer."),
    TOLD: ("expert", "The expert of the process, who is told theta."),
}
READS = {
    "marked": "It reads each past action as its switch says: it was taught both marks.",
    "always do": "It was taught interventions alone, and reads every past action as one.",
    "see": "It was taught evidence alone, and reads every past action as evidence.",
}


# A sentence about the first episode.
CHOSEN = "Of 32 episodes, the page began with the one in which reading see in place of do costs the truth most belief."


def describe(inspection: Inspection, *, notes: Mapping[str, str]) -> dict[str, Any]:
    """Return names, alphabets and parties for the page.

    Args:
        inspection: with the process and its parties.
        notes: a sentence about a party, by its name.
    """
    process, words = inspection.process, inspection.words
    parties = []
    for name, reader in inspection.readers.items():
        label, text = NAMES[name] if name in EXACT else (name, READS[reader.reads])
        text = f"{text} {notes.get(name, '')}".strip()
        parties.append({"key": name, "name": label, "text": text, "mark": inspection.own_mark(name)})
    return {
        "task": process.name,
        "rounds": inspection.num_rounds,
        "thetas": [words.label(k) for k in range(process.num_thetas)],
        "theta_names": [words.theta(k) for k in range(process.num_thetas)],
        "words": {
            "noun": words.noun,
            "plural": words.plural,
            "theta_is": words.theta_is,
            "acts": words.acts,
            "role": words.role,
        },
        "actions": _symbols(inspection.actions),
        "offered": inspection.offered,
        "observations": _symbols(inspection.observations),
        "question": words.outcomes.question.strip() or "What happens?",
        "parties": parties,
        "opening": process.opening,
        "theta_changes": process.theta_changes,
        "drawing": type(process.task).draw not in DRAW_BELIEF,
    }


def _symbols(alphabet: Any) -> list[dict[str, Any]]:
    return [
        {"label": label, "text": text, "value": alphabet.value(i)}
        for i, (label, text) in enumerate(zip(alphabet.labels, alphabet.sentences, strict=True))
    ]


def view(inspection: Inspection, state: State, *, task: str) -> dict[str, Any]:
    """Return a state for the page; KL that is infinite is the text "inf", and a belief that is not unique is null."""
    history, parties = state.history, {}
    for name, account in state.accounts.items():
        parties[name] = _account(account) | {
            "kl": {answer: _divergence(state, answer, name) for answer in (DO, SEE)},
            "loss": _numbers(state.losses(name)),
        }
    return {
        "episode": inspection.to_json(history, task=task),
        "rounds": [[r.action, r.observation, r.expert_action] for r in history.rounds],
        "opening": history.opening,
        "theta": list(history.theta),
        "parties": parties,
        "rewards": _numbers(state.rewards),
        "ended": state.ended,
    }


def _divergence(state: State, answer: str, party: str) -> dict[str, Any]:
    return {name: _numbers(x) for name, x in vars(state.divergence(answer, party)).items()}


def _account(account: Account) -> dict[str, Any]:
    return {
        "belief": None if account.belief is None else _numbers(account.belief),
        "acted_belief": None if account.acted_belief is None else _numbers(account.acted_belief),
        "opening": None if account.opening is None else _probabilities(account.opening[None])[0],
        "actions": _probabilities(account.actions),
        "observations": _probabilities(account.observations),
        "impossible": np.flatnonzero(account.impossible).tolist(),
        "acted_impossible": np.flatnonzero(account.acted_impossible).tolist(),
    }


def _numbers(x: Float[np.ndarray, "..."]) -> list[Any]:
    """Return an array as lists of numbers."""
    numbers = np.round(x, DECIMALS).tolist()
    return numbers if np.isfinite(x).all() else plain(numbers)


def _probabilities(p: Float[np.ndarray, "R n"]) -> list[Any]:
    """Return all probabilities of each row; of a long alphabet, the largest as pairs of an index and a probability."""
    if p.shape[1] <= ALL:
        return _numbers(p)
    largest = np.argsort(-p, axis=1, kind="stable")[:, :LARGEST]
    return [[[i, round(float(row[i]), DECIMALS)] for i in some.tolist()] for row, some in zip(p, largest, strict=True)]


def compare(inspection: Inspection, history: History) -> dict[str, Any]:
    """Return how each party would have fared alone, with the same theta, rounds and luck.

    Returns:
        For each party its symbols, rewards and belief in the truth at the end, which is null if it has none; the entry
        "" is the history itself, with the belief as marked.
    """
    found = {}
    for name, alone in ({"": history} | inspection.alone(history)).items():
        state = inspection.read(alone)
        belief = state.accounts[name or MARKED].belief
        found[name] = {
            "rounds": [[r.action, r.observation] for r in alone.rounds if r.observation is not None],
            "rewards": _numbers(state.rewards),
            "truth": None if belief is None else _numbers(belief[-1:, alone.theta[-1]])[0],
        }
    return found


def picture(inspection: Inspection, history: History) -> str:
    """Return the world after the last symbol, as the task draws it, with the belief as marked: a PNG as a data URL."""
    scene = inspection.scene(history)
    frame = draw_round(inspection.process.task, *scene, size=SIZE, accent=INK, meaning="", title="")
    out = io.BytesIO()
    Image.fromarray(frame.array()).save(out, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def first_history(inspection: Inspection, actor: str, *, seed: int | None = None, tries: int = 32) -> History:
    """Return the episode with which the page begins, played by a party.

    Without a seed it is the one, of several, after which the exact reading of the actions as see believes less in the
    truth than the reading as do, by the greatest difference. A process of at most two rounds stops after its first
    action, before the outcome.
    """
    is_short = inspection.num_rounds <= 2

    def played(seed: int) -> History:
        rounds = 1 if is_short else inspection.num_rounds
        return inspection.play(inspection.begin(seed=seed), rounds=rounds, actor=actor, observe=not is_short)

    def cost(history: History) -> float:
        accounts, truth = inspection.read(history).accounts, history.theta[-1]
        beliefs = [accounts[x].acted_belief if is_short else accounts[x].belief for x in (DO, SEE)]
        do, see = (0.0 if x is None else float(x[-1, truth]) for x in beliefs)
        return do - see

    return played(seed) if seed is not None else max((played(s) for s in range(tries)), key=cost)
