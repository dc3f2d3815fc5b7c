"""Plain data for the page about a recording of a simulator, in the form of `view.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from undelude._agents.host import HostAgent
from undelude._agents.networks.action_mask import ACTION_MASK
from undelude._inspector.given import EXACT, MARKED, mark_readers
from undelude._inspector.history import History
from undelude._inspector.host_inspection import HostInspection
from undelude._inspector.listing import MAX_IN_LABEL, Listing, written
from undelude._inspector.state import State
from undelude._inspector.view import NAMES, READS, account_of, as_png, host_reading, numbers, numbers_of, offered_of

# Most numbers of a part of an observation that are written out.
MAX_SHOWN = 8
# Characters of a context that is a text.
LONGEST = 24
# Why the page does less than with a process in tables.
CANNOT = {
    "nature": "The simulator answers itself: a person cannot choose what its state becomes.",
    "theta": "The simulator ran under this theta, and cannot run again as if it had been another.",
    "action": "The simulator has answered to this action, and cannot be rewound. Rewind here, and act otherwise.",
    "observation": "The simulator's state goes with what it showed, and cannot be changed.",
}
NO_SYMBOL = "none"
# What an outcome is called that is an image alone.
IMAGE = "image"
NOT_COMPARED = (
    "It predicts the {} before it sees what the action led to; the exact parties know that, so that the two are not "
    "compared."
)


def describe(inspection: HostInspection, *, notes: Mapping[str, str]) -> dict[str, Any]:
    """Return names, alphabets and parties for the page.

    Args:
        inspection: with the world and its parties.
        notes: a sentence about a party, by its name.
    """
    world = inspection.world
    thetas = _thetas(world, inspection.num_thetas)
    names = [f"context {label}" for label in thetas]
    return {
        "task": world.name,
        "rounds": inspection.num_rounds,
        "thetas": thetas,
        "theta_names": names,
        "words": {"plural": "contexts", "theta_is": "The context is {}.", "acts": "does", "role": "Nature"},
        "actions": _actions(inspection),
        "observations": _observations(inspection),
        "question": "",
        "parties": [_party(inspection, name, notes) for name in inspection.parties],
        "actors": [[name, _name(name)] for name in inspection.actors],
        "opening": False,
        "theta_changes": False,
        "drawing": world.no_film is None,
        "cannot": CANNOT,
        "asks_person": world.expert_is_person,
        "symbol": inspection.symbol,
        "images": sorted(inspection.recordings.observations.images),
        "stacked": sorted(inspection.recordings.observations.stacked),
        "why_inexact": inspection.why_inexact,
        "numbers": numbers_of(None if inspection.num_actions else inspection.recordings.actions),
        "outcome_numbers": None,
    }


def _party(inspection: HostInspection, name: str, notes: Mapping[str, str]) -> dict[str, Any]:
    text = NAMES[name][1] if name in EXACT else _reading(inspection, name)
    text = f"{text} {notes.get(name, '')}".strip()
    return {"key": name, "name": _name(name), "text": text, "mark": inspection.own_mark(name)}


def _name(name: str) -> str:
    return NAMES[name][0] if name in EXACT else name


def _reading(inspection: HostInspection, name: str) -> str:
    """Return how a given agent reads past actions."""
    compared = NOT_COMPARED.format(inspection.symbol) if inspection.symbol else ""
    agent = inspection.agents[name]
    if isinstance(agent, HostAgent):
        return f"{host_reading(agent)} {compared}"
    text, why = READS[inspection.readers[name].reads]
    return f"{text} {why if inspection.readers[name].agent.trainable else ''} {compared}"


def _thetas(world: Any, num_thetas: int) -> list[str]:
    """Return the contexts in words: texts, or numbers if they are a few numbers each, otherwise places from 1.

    A person who is the expert is told them in words of their own.
    """
    contexts = getattr(world, "contexts", None)
    if world.expert_is_person:
        contexts = [world.expert.describe(context) for context in world.contexts]
    if isinstance(contexts, list | tuple) and all(isinstance(x, str) and 0 < len(x) <= LONGEST for x in contexts):
        return list(contexts)
    try:
        contexts = np.asarray(contexts, float)
    except (TypeError, ValueError):
        contexts = np.zeros(0)
    if contexts.shape[:1] != (num_thetas,) or contexts[0].size > 3:
        return [str(k + 1) for k in range(num_thetas)]
    return [written(x.ravel()) for x in contexts]


def _actions(inspection: HostInspection) -> list[dict[str, Any]]:
    """Return the symbols of actions, with the keys of an expert who is a person; empty for real numbers."""
    world: Any = inspection.world
    keys = (world.expert.keys or {}) if world.expert_is_person else {}
    first = int(world.action_space.start) if keys else 0
    names = {a - first: f" ({key})" for key, a in keys.items()}
    return [{"label": str(i), "text": f"{i}{names.get(i, '')}", "value": i} for i in range(inspection.num_actions or 0)]


def _observations(inspection: HostInspection) -> list[dict[str, Any]]:
    """Return the symbols that theta changes; empty if there are none."""
    if inspection.symbol is None:
        return []
    spec = inspection.recordings.observations.named
    assert spec is not None
    n = int(getattr(spec[inspection.symbol], "n", 0))
    words = tuple(getattr(getattr(inspection.world, "cue", None), "words", ())) or tuple(map(str, range(n - 1)))
    return [_symbol(word, i) for i, word in enumerate((*words, NO_SYMBOL))]


def _symbol(text: str, value: Any) -> dict[str, Any]:
    return {"label": text, "text": text, "value": value}


def view(inspection: HostInspection, state: State, *, task: str | None) -> dict[str, Any]:
    """Return a state for the page. Real numbers have an alphabet of their own: the values that the episode has."""
    history, symbol, own = state.history, inspection.symbol, {}
    A, rounds = Listing(inspection.num_actions), []
    O = Listing(None)
    for r in history.rounds:
        label = None if r.expert_action is None else A.place(r.expert_action)
        rounds.append([A.place(r.action), _outcome(inspection, r.observation, O), label])
    if inspection.num_actions is None:
        own["actions"] = A.symbols
    if symbol is None:
        own["observations"] = O.symbols
    shown = [history.opening, *(r.observation for r in history.rounds if r.observation is not None)]
    return own | {
        "episode": inspection.to_json(history, task=task),
        "rounds": rounds,
        "opening": None,
        "theta": list(history.theta),
        "parties": {name: account_of(x) for name, x in state.accounts.items()},
        "rewards": numbers(state.rewards),
        "offered": offered_of(state),
        "seen": [_in_words(inspection, o) for o in shown],
        "ended": state.ended,
    }


def after_flip(inspection: HostInspection, history: History) -> dict[str, Any]:
    """Return what changes on the page if marks alone change: the accounts of the parties that read them."""
    accounts = inspection.read(history, mark_readers(inspection.parties, inspection.agents)).accounts
    return {"parties": {name: account_of(x) for name, x in accounts.items()}}


def _outcome(inspection: HostInspection, o: Any, alphabet: Listing) -> int | None:
    if o is None:
        return None
    if inspection.symbol:
        return int(o[inspection.symbol])
    if text := inspection.world.say(o):
        return alphabet.place(text)
    images, parts = inspection.recordings.observations.images, o if isinstance(o, dict) else {"": o}
    rest = [np.ravel(x) for name, x in parts.items() if name not in images]
    if not rest:
        return alphabet.place(IMAGE)
    x = np.concatenate(rest)
    return alphabet.place(f"{written(x[:MAX_IN_LABEL])}{' …' if len(x) > MAX_IN_LABEL else ''}")


def _in_words(inspection: HostInspection, o: Any) -> str:
    """Return what the agent saw, but the symbol, which has a row of its own."""
    parts = o if isinstance(o, dict) else {"": o}
    found = []
    for name, x in parts.items():
        if name in (inspection.symbol, ACTION_MASK, *inspection.recordings.observations.images):
            continue
        x = np.ravel(x)
        more = f" … ({x.size} numbers)" if x.size > MAX_SHOWN else ""
        found.append(f"{name or 'observation'} {written(x[:MAX_SHOWN])}{more}")
    return "; ".join(found)


def picture(inspection: HostInspection, history: History) -> str | None:
    """Return what the simulator rendered after the last observation, as a PNG in a data URL; None if it does not.

    Raises:
        ValueError: the world shows something else than in the recording.
    """
    scenes = inspection.scenes(history)
    if scenes is None:
        return None
    belief: Sequence[tuple[int, float]] = []
    if inspection.symbol:
        account = inspection.read(history).accounts[MARKED]
        row = account.acted_belief if len(history) > history.num_observations else account.belief
        assert row is not None
        belief = list(enumerate(map(float, row[-1])))
    o = [history.opening, *(r.observation for r in history.rounds)][history.num_observations]
    return as_png(inspection.world, history.theta[0], scenes[-1], belief, jax.tree.map(np.asarray, o))


def compare(inspection: HostInspection, history: History) -> dict[str, Any]:
    """Return how each party would have fared alone, as `view.compare` does; `texts` has its actions in words."""
    found = {}
    about = _observations(inspection)
    for name, alone in ({"": history} | inspection.alone(history)).items():
        A, O = Listing(inspection.num_actions), Listing(None)
        over = [r for r in alone.rounds if r.observation is not None]
        places = [(A.place(r.action), _outcome(inspection, r.observation, O)) for r in over]
        outcomes = about or O.symbols
        words = [(A.symbols[a]["text"] if A.symbols else str(a), outcomes[o or 0]["text"]) for a, o in places]
        account = inspection.read(alone).accounts.get(name or MARKED)
        belief = None if account is None else account.belief
        truth = None if belief is None else numbers(belief[-1:, alone.theta[-1]])[0]
        rewards = numbers(np.array([r.reward for r in over], float))
        found[name] = {"rounds": [list(x) for x in places], "texts": words, "rewards": rewards, "truth": truth}
    return found


def first_history(inspection: HostInspection, actor: str, *, seed: int | None = None) -> History:
    """Return the recording with which the page begins: a whole episode of a party; none yet if a person is to teach."""
    rounds = 0 if inspection.world.expert_is_person else inspection.num_rounds
    return inspection.play(inspection.begin(seed=seed or 0), rounds=rounds, actor=actor)
