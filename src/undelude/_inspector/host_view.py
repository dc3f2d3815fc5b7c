"""Plain data for the page about a recording of a simulator, in the form of `view.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from undelude._agents.host import HostAgent
from undelude._agents.networks.action_mask import ACTION_MASK
from undelude._inspector.given import DO, EXACT, MARKED, SEE
from undelude._inspector.history import History
from undelude._inspector.host_inspection import HostInspection
from undelude._inspector.host_state import HostAccount, HostState
from undelude._inspector.recorded import DRAWS
from undelude._inspector.view import NAMES, READS, as_png, host_reading, numbers

# Most numbers of a part of an observation that are written out, and of an action in its narrow column.
MOST_SHOWN, MOST_IN_LABEL = 8, 2
# Significant digits of these numbers.
DIGITS = 3
# Why the page does less than with a process in tables.
CANNOT = {
    "nature": "The simulator answers itself: a person cannot choose what its state becomes.",
    "theta": "The simulator ran under this theta, and cannot run again as if it had been another.",
    "action": "The simulator has answered to this action, and cannot be rewound. Rewind here, and act otherwise.",
    "observation": "The simulator's state goes with what it showed, and cannot be changed.",
}
NO_SYMBOL = "none"
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
    world, spec = inspection.world, inspection.recordings.actions.spec
    thetas = _thetas(world, inspection.num_thetas)
    names = [f"context {label}" for label in thetas]
    return {
        "task": world.name,
        "rounds": inspection.num_rounds,
        "thetas": thetas,
        "theta_names": names,
        "words": {"plural": "contexts", "theta_is": "The context is {}.", "acts": "does", "role": "Nature"},
        "actions": [_symbol(str(i), i) for i in range(inspection.num_actions or 0)],
        "observations": _observations(inspection),
        "question": "",
        "parties": [_party(inspection, name, notes) for name in inspection.parties],
        "actors": [[name, _name(name)] for name in inspection.actors],
        "opening": False,
        "theta_changes": False,
        "drawing": world.no_film is None,
        "cannot": CANNOT,
        "symbol": inspection.symbol,
        "why_inexact": inspection.why_inexact,
        "numbers": None if inspection.num_actions else {"shape": list(spec.value.shape), "draws": DRAWS},
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
    """Return the contexts in words: numbers if they are a few numbers each, otherwise their places from 1."""
    try:
        contexts = np.asarray(getattr(world, "contexts", None), float)
    except (TypeError, ValueError):
        contexts = np.zeros(0)
    if contexts.shape[:1] != (num_thetas,) or contexts[0].size > 3:
        return [str(k + 1) for k in range(num_thetas)]
    return [_written(x.ravel()) for x in contexts]


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


def view(inspection: HostInspection, state: HostState, *, task: str | None) -> dict[str, Any]:
    """Return a state for the page. Real numbers have an alphabet of their own: the values that the episode has."""
    history, symbol, own = state.history, inspection.symbol, {}
    A, rounds = _Alphabet(inspection.num_actions), []
    O = _Alphabet(None)
    for r in history.rounds:
        label = None if r.expert_action is None else A.place(r.expert_action)
        rounds.append([A.place(r.action), _outcome(inspection, r.observation, O), label])
    if inspection.num_actions is None:
        own["actions"] = A.symbols
    if symbol is None:
        own["observations"] = O.symbols
    parties = {name: _account(x) for name, x in state.accounts.items()}
    shown = [history.opening, *(r.observation for r in history.rounds if r.observation is not None)]
    return own | {
        "episode": inspection.to_json(history, task=task),
        "rounds": rounds,
        "opening": None,
        "theta": list(history.theta),
        "parties": parties,
        "rewards": numbers(np.array([r.reward for r in history.rounds if r.observation is not None], float)),
        "offered": [_offered(o) for o in shown],
        "seen": [_in_words(inspection, o) for o in shown],
        "ended": state.ended,
    }


class _Alphabet:
    """The values that an episode has, in the order in which they come; symbols are their own places."""

    def __init__(self, num_symbols: int | None):
        self.num_symbols = num_symbols
        self.symbols: list[dict[str, Any]] = []
        self._places: dict[Any, int] = {}

    def place(self, value: Any) -> int:
        if self.num_symbols is not None:
            return int(value)
        if isinstance(value, str):
            return self._add(value, value, value, value)
        x = np.asarray(value)
        few = x.ravel()[:MOST_IN_LABEL]
        label = f"{_written(few)}{' …' if x.size > len(few) else ''}"
        plain = np.asarray([float(str(y)) for y in x.ravel()]).reshape(x.shape).tolist()
        return self._add(x.tobytes(), label, _written(x.ravel()), plain)

    def _add(self, key: Any, label: str, text: str, value: Any) -> int:
        if key not in self._places:
            self._places[key] = len(self.symbols)
            self.symbols.append({"label": label, "text": text, "value": value})
        return self._places[key]


def _outcome(inspection: HostInspection, o: Any, alphabet: _Alphabet) -> int | None:
    if o is None:
        return None
    if inspection.symbol:
        return int(o[inspection.symbol])
    numbers = np.concatenate([np.ravel(x) for x in jax.tree.leaves(o)])
    few = f"{_written(numbers[:MOST_IN_LABEL])}{' …' if len(numbers) > MOST_IN_LABEL else ''}"
    return alphabet.place(inspection.world.say(o) or few)


def _offered(o: Any) -> list[int] | None:
    """Return the actions that the mask of an observation allows; None for all."""
    return np.flatnonzero(o[ACTION_MASK]).tolist() if isinstance(o, dict) and ACTION_MASK in o else None


def _in_words(inspection: HostInspection, o: Any) -> str:
    """Return what the agent saw, but the symbol, which has a row of its own."""
    parts = o if isinstance(o, dict) else {"observation": o}
    found = []
    for name, x in parts.items():
        if name in (inspection.symbol, ACTION_MASK):
            continue
        x = np.ravel(x)
        found.append(f"{name} {_written(x[:MOST_SHOWN])}{f' … ({x.size} numbers)' if x.size > MOST_SHOWN else ''}")
    return "; ".join(found)


def _written(x: Any) -> str:
    """Return numbers with three significant digits."""
    rounded = [float(f"{y:.{DIGITS}g}") for y in np.ravel(x)]
    return " ".join(f"{y + 0.0:g}" for y in rounded)


def _account(x: HostAccount) -> dict[str, Any]:
    if x.probs is not None:
        actions = numbers(x.probs)
    else:
        assert x.mean is not None
        assert x.deviation is not None
        actions = [list(pair) for pair in zip(numbers(x.mean), numbers(x.deviation), strict=True)]
    return {
        "belief": None if x.belief is None else numbers(x.belief),
        "acted_belief": None if x.acted_belief is None else numbers(x.acted_belief),
        "opening": None,
        "opening_impossible": False,
        "impossible": np.flatnonzero(x.impossible).tolist(),
        "acted_impossible": np.flatnonzero(x.acted_impossible).tolist(),
        "actions": actions,
        "observations": None if x.symbols is None else numbers(x.symbols),
        "kl": {
            answer: {"actions": numbers(x.kl[:, i]), "observations": numbers(x.symbol_kl[:, i])}
            for i, answer in enumerate((DO, SEE))
        },
        "loss": numbers(x.losses),
    }


def densities(inspection: HostInspection, history: History, t: int) -> dict[str, Any]:
    """Return the densities of the numbers of the action of round `t`, by party."""
    found = inspection.densities(history, t)
    grid = found["grid"]
    curves = {name: np.round(curve, 4).tolist() for name, curve in found["parties"].items()}
    return {"grid": np.round(grid, 5).tolist() if len(grid) else [], "parties": curves}


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
        A, O = _Alphabet(inspection.num_actions), _Alphabet(None)
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
    """Return the recording with which the page begins: a whole episode of a party."""
    return inspection.play(inspection.begin(seed=seed or 0), rounds=inspection.num_rounds, actor=actor)
