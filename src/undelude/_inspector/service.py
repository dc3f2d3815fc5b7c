"""The answers to the requests of the page about a history, which each request holds: nothing is kept between two."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from undelude._inspector import view
from undelude._inspector.abstract import AbstractInspection
from undelude._inspector.given import MARKED
from undelude._inspector.history import History
from undelude._inspector.limits import MAX_ROUNDS


class Service:
    """The answers to the page's requests.

    Args:
        inspection: gives the answers.
        first: the episode with which the page begins.
        task: the name under which the task can be made again, for saved episodes; None if it has none.
        actor: the party that acts, until the page chooses another.
        notes: a sentence about a party, by its name; "" for one about the first episode.
        logs: of a process that was fitted to logs: the verdict, and bounds with the keys name, fit, range and manski.
    """

    def __init__(
        self,
        inspection: AbstractInspection,
        first: History,
        *,
        task: str | None = None,
        actor: str = MARKED,
        notes: Mapping[str, str] | None = None,
        logs: Mapping[str, Any] | None = None,
    ):
        inspection.check_party(actor)
        self.inspection, self.first, self.task, self.actor = inspection, first, task, actor
        self.notes, self.logs = dict(notes or {}), logs
        self._lock = threading.Lock()

    def answer(self, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to the request `name`.

        Raises:
            ValueError: the request makes no sense; the message says why.
        """
        x = self.inspection
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "describe": self._describe,
            "read": lambda: self._view(self._history(request)),
            # What a change of marks alone changes, so that a flip neither computes nor sends anything else.
            "marks": lambda: view.after_flip(x, self._history(request)),
            "begin": lambda: self._begin(request),
            "play": lambda: self._play(request),
            "picture": lambda: {"picture": view.picture(x, self._history(request))},
            "compare": lambda: view.compare(x, self._history(request)),
            "densities": lambda: self._densities(request),
        }
        if name not in answers:
            raise ValueError(f"there is no request {name!r:.99}.")
        with self._lock:
            return answers[name]()

    def _describe(self) -> dict[str, Any]:
        x = self.inspection
        examples = {name: x.to_json(history, task=self.task) for name, history in x.examples().items()}
        own = {"actor": self.actor, "note": self.notes.get("", ""), "examples": examples, "served": True}
        about = view.describe(x, notes=self.notes) | own | {"logs": self.logs}
        return about | {"state": self._view(self.first)}

    def _begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        theta = None if request.get("theta") is None else _whole(request, "theta", self.inspection.num_thetas - 1)
        return self._view(self.inspection.begin(seed=_whole(request, "seed", 2**32 - 1), theta=theta))

    def _play(self, request: Mapping[str, Any]) -> dict[str, Any]:
        history, flags = self._history(request), {"observe": _flag(request, "observe", default=True)}
        flags["label"] = _flag(request, "label", default=False)
        actor, rounds = str(request.get("actor", MARKED)), _whole(request, "rounds", MAX_ROUNDS)
        return self._view(self.inspection.play(history, rounds=rounds, actor=actor, **flags))

    def _densities(self, request: Mapping[str, Any]) -> dict[str, Any]:
        history, outcome = self._history(request), _flag(request, "outcome", default=False)
        most = len(history) - 1 if outcome else history.num_observations
        return view.densities(self.inspection, history, _whole(request, "round", most), outcome=outcome)

    def _history(self, request: Mapping[str, Any]) -> History:
        episode = request.get("episode")
        if not isinstance(episode, Mapping):
            raise ValueError(f"episode must be an object, not {episode!r:.99}.")
        return self.inspection.from_json(episode, task=self.task)

    def _view(self, history: History) -> dict[str, Any]:
        return view.view(self.inspection, self.inspection.read(history), task=self.task)


def _flag(request: Mapping[str, Any], name: str, *, default: bool) -> bool:
    if type(flag := request.get(name, default)) is not bool:
        raise ValueError(f"{name} must be true or false, not {flag!r:.99}.")
    return flag


def _whole(request: Mapping[str, Any], name: str, most: int) -> int:
    number = request.get(name)
    if type(number) is not int or not 0 <= number <= most:
        raise ValueError(f"{name} must be a whole number from 0 to {most}, not {number!r:.99}.")
    return number
