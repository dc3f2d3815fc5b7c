"""What the page says of a simulator: its contexts, actions and observations in words."""

from typing import Any

import numpy as np

from undelude._agents.networks.action_mask import ACTION_MASK
from undelude._inspector.listing import MAX_IN_LABEL, written
from undelude._inspector.values import Values
from undelude._process.host_world import AbstractHostWorld

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
# The word for an outcome that is an image alone.
IMAGE = "image"
NOT_COMPARED = (
    "It predicts the {} before it sees what the action led to; the exact parties know that, so that the two are not "
    "compared."
)


class HostWords:
    """The words for a simulator.

    Args:
        world: the world.
        num_thetas: K.
        num_actions: A; None if actions are real numbers.
        observations: their values.
        symbol: the part of an observation that theta changes, such as the cue; None without exact answers.
    """

    def __init__(
        self, world: AbstractHostWorld, num_thetas: int, num_actions: int | None, observations: Values,
        symbol: str | None,
    ):  # fmt: skip
        self.world: Any = world
        self.num_thetas, self.num_actions = num_thetas, num_actions
        self.observations, self.symbol = observations, symbol

    @property
    def note_on_agents(self) -> str:
        """Why the predictions of given agents are not compared with the exact ones, if there are any."""
        return NOT_COMPARED.format(self.symbol) if self.symbol else ""

    def about(self) -> dict[str, Any]:
        """Return the contexts, and what the page must know of a simulator alone."""
        thetas = self._thetas()
        return {
            "thetas": thetas,
            "theta_names": [f"context {label}" for label in thetas],
            "words": {"plural": "contexts", "theta_is": "The context is {}.", "acts": "does", "role": "Nature"},
            "question": "",
            "outcome_numbers": None,
            "drawing": self.world.no_film is None,
            "cannot": CANNOT,
            "asks_person": self.world.expert_is_person,
            "symbol": self.symbol,
            "images": sorted(self.observations.images),
            "stacked": sorted(self.observations.stacked),
        }

    def _thetas(self) -> list[str]:
        """Return the contexts in words: texts, or numbers if they are a few numbers each, otherwise places from 1.

        A person who is the expert is told them in words of their own.
        """
        contexts = getattr(self.world, "contexts", None)
        if self.world.expert_is_person:
            contexts = [self.world.expert.describe(context) for context in self.world.contexts]
        if isinstance(contexts, list | tuple) and all(isinstance(x, str) and 0 < len(x) <= LONGEST for x in contexts):
            return list(contexts)
        try:
            contexts = np.asarray(contexts, float)
        except (TypeError, ValueError):
            contexts = np.zeros(0)
        if contexts.shape[:1] != (self.num_thetas,) or contexts[0].size > 3:
            return [str(k + 1) for k in range(self.num_thetas)]
        return [written(x.ravel()) for x in contexts]

    def actions(self) -> list[dict[str, Any]]:
        """Return the symbols of actions, with the keys of an expert who is a person; empty for real numbers."""
        keys = (self.world.expert.keys or {}) if self.world.expert_is_person else {}
        first = int(self.world.action_space.start) if keys else 0
        names = {a - first: f" ({key})" for key, a in keys.items()}
        return [{"label": str(i), "text": f"{i}{names.get(i, '')}", "value": i} for i in range(self.num_actions or 0)]

    def outcomes(self) -> list[dict[str, Any]]:
        """Return the symbols that theta changes; empty if there are none."""
        if self.symbol is None:
            return []
        assert self.observations.named is not None
        n = int(getattr(self.observations.named[self.symbol], "n", 0))
        words = tuple(getattr(getattr(self.world, "cue", None), "words", ())) or tuple(map(str, range(n - 1)))
        return [{"label": word, "text": word, "value": i} for i, word in enumerate((*words, NO_SYMBOL))]

    def outcome(self, o: Any) -> int | str:
        """Return the symbol of an observation, or else the observation in a few words."""
        if self.symbol:
            return int(o[self.symbol])
        if text := self.world.say(o):
            return text
        parts = o if isinstance(o, dict) else {"": o}
        rest = [np.ravel(x) for name, x in parts.items() if name not in self.observations.images]
        if not rest:
            return IMAGE
        x = np.concatenate(rest)
        return f"{written(x[:MAX_IN_LABEL])}{' …' if len(x) > MAX_IN_LABEL else ''}"

    def rest(self, o: Any) -> str:
        """Return what the agent saw, but the symbol, which has a row of its own."""
        parts = o if isinstance(o, dict) else {"": o}
        found = []
        for name, x in parts.items():
            if name in (self.symbol, ACTION_MASK, *self.observations.images):
                continue
            x = np.ravel(x)
            more = f" … ({x.size} numbers)" if x.size > MAX_SHOWN else ""
            found.append(f"{name or 'observation'} {written(x[:MAX_SHOWN])}{more}")
        return "; ".join(found)
