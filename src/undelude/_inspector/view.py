"""Plain data for the page: the process and its parties, and all answers about one history."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from undelude._agents.host import HostAgent
from undelude._drawing.film import draw_round
from undelude._drawing.frame import INK
from undelude._files import plain
from undelude._inspector.alphabet import Alphabet
from undelude._inspector.given import mark_readers
from undelude._inspector.history import History
from undelude._inspector.inspection import DO, EXACT, MARKED, SEE, TOLD, Inspection
from undelude._inspector.listing import Listing
from undelude._inspector.state import Account, Moments, State
from undelude._inspector.summary import DRAWS
from undelude._inspector.values import Values
from undelude._process.task import AbstractTask
from undelude.tasks.tables import TableTask

# Decimals of a probability.
DECIMALS = 6
# Longest alphabet whose probabilities are all sent; of a longer one, so many of each party's largest.
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
# The readings of given agents, whose own past actions are meant; the reason for learned ones.
READS = {
    "marked": ("It reads each past action as its switch says.", "It was taught both marks."),
    "always do": ("It reads every past action as an intervention.", "It was taught no other mark."),
    "see": ("It reads every past action as evidence.", "It was taught no other mark."),
}
# A sentence about the first episode.
CHOSEN = (
    "Of 32 episodes, the page began with the one in which see, instead of do, lowers the belief in the true theta most."
)


def describe(inspection: Inspection, *, notes: Mapping[str, str]) -> dict[str, Any]:
    """Return names, alphabets and parties for the page.

    Args:
        inspection: with the process and its parties.
        notes: a sentence about a party, by its name.
    """
    process, words = inspection.process, inspection.words
    parties = []
    for name in inspection.parties:
        label, text = NAMES[name] if name in EXACT else (name, _reading(inspection, name))
        text = f"{text} {notes.get(name, '')}".strip()
        parties.append({"key": name, "name": label, "text": text, "mark": inspection.own_mark(name)})
    return {
        "task": process.name,
        "rounds": inspection.num_rounds,
        "thetas": [words.label(k) for k in range(process.num_thetas)],
        "theta_names": [words.theta(k) for k in range(process.num_thetas)],
        "words": {
            "plural": words.plural,
            "theta_is": words.theta_is,
            "acts": words.acts,
            "role": words.role,
        },
        "actions": _symbols(inspection.actions),
        "observations": _symbols(inspection.observations),
        "numbers": numbers_of(inspection.actions),
        "outcome_numbers": numbers_of(inspection.observations),
        "question": words.outcomes.question.strip() or "What happens?",
        "parties": parties,
        "opening": process.opening,
        "theta_changes": process.theta_changes,
        "drawing": type(process.task).draw not in DRAW_BELIEF,
    }


def _reading(inspection: Inspection, name: str) -> str:
    """Return how a given agent reads past actions."""
    agent = inspection.agents[name]
    if isinstance(agent, HostAgent):
        return host_reading(agent)
    text, why = READS[inspection.readers[name].reads]
    return f"{text} {why}" if inspection.readers[name].agent.trainable else text


def host_reading(agent: HostAgent) -> str:
    """Return how a policy in Python reads past actions."""
    if agent.told_marks:
        return f"A policy in Python, which is told the marks. {READS['marked'][0]}"
    return "A policy in Python. It is not told the marks, and reads past actions in its own way."


def _symbols(alphabet: Any) -> list[dict[str, Any]]:
    """Return the symbols of an alphabet; real numbers have none: each episode lists its own."""
    if isinstance(alphabet, Values):
        return []
    return [
        {"label": label, "text": text, "value": alphabet.value(i)}
        for i, (label, text) in enumerate(zip(alphabet.labels, alphabet.sentences, strict=True))
    ]


def view(inspection: Inspection, state: State, *, task: str | None) -> dict[str, Any]:
    """Return a state for the page; KL that is infinite is the text "inf", and a belief that is not unique is null."""
    history, (A, O) = state.history, _listings(inspection)
    opening = O.place(history.opening)
    listed = [[A.place(r.action), O.place(r.observation), A.place(r.expert_action)] for r in history.rounds]
    own = {"actions": A.symbols} if isinstance(inspection.actions, Values) else {}
    own |= {"observations": O.symbols} if isinstance(inspection.observations, Values) else {}
    return own | {
        "episode": inspection.to_json(history, task=task),
        "rounds": listed,
        "opening": opening,
        "theta": list(history.theta),
        "parties": _parties(state),
        "rewards": numbers(state.rewards),
        "offered": offered_of(state),
        "ended": state.ended,
    }


def after_flip(inspection: Inspection, history: History) -> dict[str, Any]:
    """Return what changes on the page if marks alone change: the accounts of the parties that read them."""
    # Of a long alphabet, the rows of all parties have the same symbols, which depend on all of them.
    is_long = any(isinstance(x, Alphabet) and len(x) > ALL for x in (inspection.actions, inspection.observations))
    parties = None if is_long else mark_readers(inspection.parties, inspection.agents)
    return {"parties": _parties(inspection.read(history, parties))}


def _listings(inspection: Inspection) -> tuple[Listing, Listing]:
    A, O = (Listing(None if isinstance(x, Values) else len(x)) for x in (inspection.actions, inspection.observations))
    return A, O


def _parties(state: State) -> dict[str, Any]:
    """Return the account of each party."""
    history, accounts = state.history, state.accounts
    wanted = [some if some is not None and len(some) <= ALL else [] for some in offered_of(state)]
    taken = [[r.action] for r in history.rounds] + [[]]
    wanted = [[*some, *also] for some, also in zip(wanted, taken, strict=False)]
    happened = [[] if r.observation is None else [r.observation] for r in history.rounds]
    actions = _predictions({name: x.actions for name, x in accounts.items()}, wanted)
    observations = _predictions({name: x.observations for name, x in accounts.items()}, happened)
    openings = {name: _row(x.opening) for name, x in accounts.items() if x.opening is not None}
    first = _predictions(openings, [[] if history.opening is None else [history.opening]])
    return {
        name: account_of(account)
        | {
            "opening": first[name][0] if name in first else None,
            "actions": actions[name],
            "observations": observations[name],
        }
        for name, account in accounts.items()
    }


def offered_of(state: State) -> list[list[int] | None]:
    """Return the actions that are offered at each point; None for all."""
    rows = state.offered
    return [None if row is None or row.all() or not row.any() else np.flatnonzero(row).tolist() for row in rows]


def account_of(account: Account) -> dict[str, Any]:
    """Return an account for the page, with all probabilities, or means and deviations."""
    return {
        "belief": None if account.belief is None else numbers(account.belief),
        "acted_belief": None if account.acted_belief is None else numbers(account.acted_belief),
        "opening": None,
        "opening_impossible": account.opening_impossible,
        "impossible": np.flatnonzero(account.impossible).tolist(),
        "acted_impossible": np.flatnonzero(account.acted_impossible).tolist(),
        "actions": _all(account.actions),
        "observations": _all(account.observations),
        "kl": {
            answer: {"actions": numbers(x.actions), "observations": numbers(x.observations)}
            for answer, x in account.divergences.items()
        },
        "loss": numbers(account.losses),
    }


def numbers_of(values: Any) -> dict[str, Any] | None:
    """Return what the page must know of real numbers; None of symbols."""
    return {"shape": list(values.like.shape), "draws": DRAWS} if isinstance(values, Values) else None


def _all(predictions: Any) -> Any:
    if isinstance(predictions, Moments):
        return [list(pair) for pair in zip(numbers(predictions.mean), numbers(predictions.deviation), strict=True)]
    return None if predictions is None else numbers(predictions)


def _row(prediction: Any) -> Any:
    """Return one prediction as a row; moments are one already."""
    return prediction if isinstance(prediction, Moments) else prediction[None]


def _predictions(tables: Mapping[str, Any], wanted: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the predictions of each party: probabilities as `_probabilities` does, or means and deviations."""
    if any(isinstance(x, Moments) for x in tables.values()):
        return {name: _all(x) for name, x in tables.items()}
    return _probabilities(tables, wanted)


def numbers(x: Float[np.ndarray, "..."]) -> list[Any]:
    """Return an array as lists of numbers."""
    numbers = np.round(x, DECIMALS).tolist()
    return numbers if np.isfinite(x).all() else plain(numbers)


def _probabilities(
    tables: Mapping[str, Float[np.ndarray, "R n"]], wanted: Sequence[Sequence[Any]]
) -> dict[str, list[Any]]:
    """Return all probabilities of each row and party.

    Of a long alphabet, a row has pairs of an index and a probability: of the largest of each party and of the wanted
    ones, the same indices for all parties.
    """
    if all(p.shape[1] <= ALL for p in tables.values()):
        return {name: numbers(p) for name, p in tables.items()}
    largest = [np.argsort(-p, axis=1, kind="stable")[:, :LARGEST] for p in tables.values()]
    known = [(p, some) for p, some in zip(tables.values(), largest, strict=True) if not np.isnan(p).all()]
    sent = [
        np.unique([*also, *(i for p, some in known if not np.isnan(p[t]).any() for i in some[t])]).astype(int)
        for t, also in enumerate(wanted)
    ]
    return {
        name: [
            [list(pair) for pair in zip(some.tolist(), numbers(row[some]), strict=True)]
            for row, some in zip(p, sent, strict=True)
        ]
        for name, p in tables.items()
    }


def densities(inspection: Any, history: History, t: int, *, outcome: bool) -> dict[str, Any]:
    """Return the densities of the numbers of the action of round `t`, or of its outcome, by party."""
    found = inspection.densities(history, t, outcome=outcome)
    curves = {name: np.round(curve, 4).tolist() for name, curve in found["parties"].items()}
    return {"grid": np.round(found["grid"], 5).tolist() if len(found["grid"]) else [], "parties": curves}


def compare(inspection: Inspection, history: History) -> dict[str, Any]:
    """Return how each party would have fared alone, with the same theta, rounds and luck.

    Returns:
        For each party its symbols, rewards and belief in the truth at the end, which is null if it has none; the entry
        "" is the history itself, with the belief as marked.
    """
    found, values = {}, (inspection.actions, inspection.observations)
    for name, alone in ({"": history} | inspection.alone(history)).items():
        state = inspection.read(alone)
        belief = state.accounts[name or MARKED].belief
        A, O = _listings(inspection)
        over = [r for r in alone.rounds if r.observation is not None]
        places = [[A.place(r.action), O.place(r.observation)] for r in over]
        found[name] = {
            "rounds": places,
            "rewards": numbers(state.rewards),
            "truth": None if belief is None else numbers(belief[-1:, alone.theta[-1]])[0],
        }
        if any(isinstance(x, Values) for x in values):
            texts = [x.symbols or _symbols(y) for x, y in zip((A, O), values, strict=True)]
            found[name]["texts"] = [[texts[0][a]["text"], texts[1][o]["text"]] for a, o in places]
    return found


def picture(inspection: Inspection, history: History) -> str:
    """Return the world after the last symbol, as the task draws it, with the belief as marked: a PNG as a data URL."""
    return as_png(inspection.process.task, *inspection.scene(history))


def as_png(task: Any, *scene: Any) -> str:
    """Return a drawing of a task or a world in Python: a PNG as a data URL."""
    frame = draw_round(task, *scene, size=SIZE, accent=INK, meaning="", title="")
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
