"""The answers to the requests of the page about a history, which each request holds: nothing is kept between two."""

import threading
from collections.abc import Mapping
from typing import Any

from undelude._inspector import host_view, view
from undelude._inspector.examples import examples
from undelude._inspector.history import History
from undelude._inspector.host_inspection import HostInspection
from undelude._inspector.inspection import MARKED, Inspection

# Most rounds that one request adds.
MAX_ROUNDS = 10_000


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
        inspection: Inspection | HostInspection,
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
        answers = {
            "describe": self._describe,
            "read": self._read,
            "marks": self._marks,
            "begin": self._begin,
            "play": self._play,
            "picture": self._picture,
            "compare": self._compare,
            "densities": self._densities,
        }
        if name not in answers:
            raise ValueError(f"there is no request {name!r:.99}.")
        with self._lock:
            return answers[name](request)

    def _describe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        del request
        if isinstance(self.inspection, HostInspection):
            about, stored = host_view.describe(self.inspection, notes=self.notes), {}
        else:
            about, stored = view.describe(self.inspection, notes=self.notes), examples(self.inspection)
        written = {name: self.inspection.to_json(history, task=self.task) for name, history in stored.items()}
        about |= {"actor": self.actor, "note": self.notes.get("", ""), "examples": written, "served": True}
        about["logs"] = self.logs
        return about | {"state": self._view(self.first)}

    def _read(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._view(self._history(request))

    def _marks(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a change of marks alone changes, so that a flip neither computes nor sends anything else."""
        history, x = self._history(request), self.inspection
        return host_view.after_flip(x, history) if isinstance(x, HostInspection) else view.after_flip(x, history)

    def _begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        seed, theta = _whole(request, "seed", 2**32 - 1), None
        if request.get("theta") is not None:
            theta = _whole(request, "theta", self.inspection.num_thetas - 1)
        return self._view(self.inspection.begin(seed=seed, theta=theta))

    def _play(self, request: Mapping[str, Any]) -> dict[str, Any]:
        history, flags = self._history(request), {}
        for name, default in (("observe", True), ("label", False)):
            if type(flag := request.get(name, default)) is not bool:
                raise ValueError(f"{name} must be true or false, not {flag!r:.99}.")
            flags[name] = flag
        actor, rounds = str(request.get("actor", "marked")), _whole(request, "rounds", MAX_ROUNDS)
        return self._view(self.inspection.play(history, rounds=rounds, actor=actor, **flags))

    def _picture(self, request: Mapping[str, Any]) -> dict[str, Any]:
        history, x = self._history(request), self.inspection
        return {"picture": host_view.picture(x, history) if isinstance(x, HostInspection) else view.picture(x, history)}

    def _compare(self, request: Mapping[str, Any]) -> dict[str, Any]:
        history, x = self._history(request), self.inspection
        return host_view.compare(x, history) if isinstance(x, HostInspection) else view.compare(x, history)

    def _densities(self, request: Mapping[str, Any]) -> dict[str, Any]:
        history = self._history(request)
        if type(outcome := request.get("outcome", False)) is not bool:
            raise ValueError(f"outcome must be true or false, not {outcome!r:.99}.")
        most = len(history) - 1 if outcome else history.num_observations
        return view.densities(self.inspection, history, _whole(request, "round", most), outcome=outcome)

    def _history(self, request: Mapping[str, Any]) -> History:
        episode = request.get("episode")
        if not isinstance(episode, Mapping):
            raise ValueError(f"episode must be an object, not {episode!r:.99}.")
        return self.inspection.from_json(episode, task=self.task)

    def _view(self, history: History) -> dict[str, Any]:
        x = self.inspection
        if isinstance(x, HostInspection):
            return host_view.view(x, x.read(history), task=self.task)
        return view.view(x, x.read(history), task=self.task)


def _whole(request: Mapping[str, Any], name: str, most: int) -> int:
    number = request.get(name)
    if type(number) is not int or not 0 <= number <= most:
        raise ValueError(f"{name} must be a whole number from 0 to {most}, not {number!r:.99}.")
    return number
