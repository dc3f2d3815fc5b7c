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
from undelude._inspector.abstract import AbstractInspection
from undelude._inspector.given import DO, EXACT, MARKED, SEE, TOLD, mark_readers
from undelude._inspector.history import History, Round
from undelude._inspector.listing import Listing
from undelude._inspector.state import Account, Moments, State
from undelude._inspector.summary import DRAWS

# Decimals of a probability.
DECIMALS = 6
# Longest alphabet whose probabilities are all sent; of a longer one, so many of each party's largest.
ALL, LARGEST = 24, 12
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


def describe(inspection: AbstractInspection, *, notes: Mapping[str, str]) -> dict[str, Any]:
    """Return names, alphabets and parties for the page.

    Args:
        inspection: with the parties.
        notes: a sentence about a party, by its name.
    """
    return {
        "task": inspection.name,
        "rounds": inspection.num_rounds,
        "actions": inspection.action_symbols,
        "observations": inspection.observation_symbols,
        "numbers": _numbers_of(inspection.actions, inspection.action_symbols),
        "outcome_numbers": _numbers_of(inspection.observations, inspection.observation_symbols),
        "parties": [_party(inspection, name, notes.get(name, "")) for name in inspection.parties],
        "actors": [[name, _name(name)] for name in inspection.actors],
        "opening": inspection.shows_opening,
        "theta_changes": inspection.theta_changes,
    } | inspection.about()


def _party(inspection: AbstractInspection, name: str, note: str) -> dict[str, Any]:
    texts = [NAMES[name][1]] if name in EXACT else [*_reading(inspection, name), inspection.note_on_agents]
    text = " ".join(filter(None, (*texts, note)))
    return {"key": name, "name": _name(name), "text": text, "mark": inspection.own_mark(name)}


def _name(party: str) -> str:
    return NAMES[party][0] if party in EXACT else party


def _reading(inspection: AbstractInspection, name: str) -> tuple[str, ...]:
    """Return how a given agent reads past actions."""
    agent = inspection.agents[name]
    if isinstance(agent, HostAgent):
        if agent.told_marks:
            return "A policy in Python, which is told the marks.", READS["marked"][0]
        return ("A policy in Python. It is not told the marks, and reads past actions in its own way.",)
    return READS[inspection.readers[name].reads][: 2 if inspection.readers[name].agent.trainable else 1]


def view(inspection: AbstractInspection, state: State, *, task: str | None) -> dict[str, Any]:
    """Return a state for the page; KL that is infinite is the text "inf", and a belief that is not unique is null.

    Real numbers have alphabets of their own: the values that the episode has.
    """
    history, (A, O) = state.history, _listings(inspection)
    opening = O.place(history.opening) if inspection.shows_opening else None
    listed = [[A.place(r.action), _outcome(inspection, r, O), A.place(r.expert_action)] for r in history.rounds]
    own: dict[str, Any] = {} if inspection.action_symbols else {"actions": A.symbols}
    own |= {} if inspection.observation_symbols else {"observations": O.symbols}
    seen = inspection.seen(history)
    own |= {} if seen is None else {"seen": seen}
    return own | {
        "episode": inspection.to_json(history, task=task),
        "rounds": listed,
        "opening": opening,
        "theta": list(history.theta),
        "parties": _parties(inspection, state),
        "rewards": numbers(state.rewards),
        "offered": _offered(state),
        "ended": state.ended,
    }


def after_flip(inspection: AbstractInspection, history: History) -> dict[str, Any]:
    """Return what changes on the page if marks alone change: the accounts of the parties that read them."""
    # Of a long alphabet, the rows of all parties have the same symbols, which depend on all of them.
    is_long = any(len(x) > ALL for x in (inspection.action_symbols, inspection.observation_symbols))
    parties = None if is_long else mark_readers(inspection.parties, inspection.agents)
    return {"parties": _parties(inspection, inspection.read(history, parties))}


def _listings(inspection: AbstractInspection) -> tuple[Listing, Listing]:
    A, O = (Listing(len(x) or None) for x in (inspection.action_symbols, inspection.observation_symbols))
    return A, O


def _outcome(inspection: AbstractInspection, r: Round, O: Listing) -> Any:
    return None if r.observation is None else O.place(inspection.outcome(r.observation))


def _parties(inspection: AbstractInspection, state: State) -> dict[str, Any]:
    """Return the account of each party."""
    history, accounts = state.history, state.accounts
    wanted = [some if some is not None and len(some) <= ALL else [] for some in _offered(state)]
    taken = [[r.action] for r in history.rounds] + [[]]
    wanted = [[*some, *also] for some, also in zip(wanted, taken, strict=False)]
    happened = [[] if r.observation is None else [inspection.outcome(r.observation)] for r in history.rounds]
    actions = _predictions({name: x.actions for name, x in accounts.items()}, wanted)
    observations = _predictions({name: x.observations for name, x in accounts.items()}, happened)
    openings = {name: _row(x.opening) for name, x in accounts.items() if x.opening is not None}
    first = _predictions(openings, [[] if history.opening is None else [history.opening]])
    return {
        name: _account(account)
        | {
            "opening": first[name][0] if name in first else None,
            "actions": actions[name],
            "observations": observations[name],
        }
        for name, account in accounts.items()
    }


def _offered(state: State) -> list[list[int] | None]:
    """Return the actions that are offered at each point; None for all."""
    rows = state.offered
    return [None if row is None or row.all() or not row.any() else np.flatnonzero(row).tolist() for row in rows]


def _account(account: Account) -> dict[str, Any]:
    """Return an account for the page, but its predictions."""
    return {
        "belief": None if account.belief is None else numbers(account.belief),
        "acted_belief": None if account.acted_belief is None else numbers(account.acted_belief),
        "opening_impossible": account.opening_impossible,
        "impossible": np.flatnonzero(account.impossible).tolist(),
        "acted_impossible": np.flatnonzero(account.acted_impossible).tolist(),
        "kl": {
            answer: {"actions": numbers(x.actions), "observations": numbers(x.observations)}
            for answer, x in account.divergences.items()
        },
        "loss": numbers(account.losses),
    }


def _numbers_of(values: Any, symbols: Sequence[Any]) -> dict[str, Any] | None:
    """Return what the page must know of real numbers; None of symbols, and of values of several parts."""
    shape = getattr(values.like, "shape", None)
    return None if symbols or shape is None else {"shape": list(shape), "draws": DRAWS}


def _all(predictions: Any) -> Any:
    if isinstance(predictions, Moments):
        return [list(pair) for pair in zip(numbers(predictions.mean), numbers(predictions.deviation), strict=True)]
    return None if predictions is None else numbers(predictions)


def _row(prediction: Any) -> Any:
    """Return one prediction as a row; moments are one already."""
    return prediction if isinstance(prediction, Moments) else prediction[None]


def _predictions(tables: Mapping[str, Any], wanted: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the predictions of each party: probabilities as `_probabilities` does, means and deviations, or None."""
    if any(isinstance(x, Moments) for x in tables.values()):
        return {name: _all(x) for name, x in tables.items()}
    known = {name: x for name, x in tables.items() if x is not None}
    return dict.fromkeys(tables) | _probabilities(known, wanted)


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


def densities(inspection: AbstractInspection, history: History, t: int, *, outcome: bool) -> dict[str, Any]:
    """Return the densities of the numbers of the action of round `t`, or of its outcome, by party."""
    found = inspection.densities(history, t, outcome=outcome)
    curves = {name: np.round(curve, 4).tolist() for name, curve in found["parties"].items()}
    return {"grid": np.round(found["grid"], 5).tolist() if len(found["grid"]) else [], "parties": curves}


def compare(inspection: AbstractInspection, history: History) -> dict[str, Any]:
    """Return how each party would have fared alone, with the same theta, rounds and luck.

    Returns:
        For each party its symbols, in words if some have no alphabet, its rewards and its belief in the truth at the
        end, which is null if it has none; the entry "" is the history itself, with the belief as marked.
    """
    found, symbols = {}, (inspection.action_symbols, inspection.observation_symbols)
    for name, alone in ({"": history} | inspection.alone(history)).items():
        state, (A, O) = inspection.read(alone), _listings(inspection)
        account = state.accounts.get(name or MARKED)
        belief = None if account is None else account.belief
        over = [r for r in alone.rounds if r.observation is not None]
        places = [[A.place(r.action), _outcome(inspection, r, O)] for r in over]
        found[name] = {
            "rounds": places,
            "rewards": numbers(state.rewards),
            "truth": None if belief is None else numbers(belief[-1:, alone.theta[-1]])[0],
        }
        if not all(symbols):
            actions, outcomes = (known or own.symbols for known, own in zip(symbols, (A, O), strict=True))
            found[name]["texts"] = [[actions[a]["text"], outcomes[o]["text"]] for a, o in places]
    return found


def picture(inspection: AbstractInspection, history: History) -> str | None:
    """Return the world after the last symbol, as its task draws it or its simulator renders it: a PNG as a data URL.

    It shows the belief as marked. None if nothing draws it.
    """
    scene = inspection.scene(history)
    if scene is None:
        return None
    frame = draw_round(*scene, size=SIZE, accent=INK, meaning="", title="")
    out = io.BytesIO()
    Image.fromarray(frame.array()).save(out, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
