"""Recordings of a simulator: as histories, as arrays and as files."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from undelude._distributions import Reals, Symbols
from undelude._inspector.digest import DIGITS
from undelude._inspector.history import History, Round, from_json, to_json
from undelude._inspector.recorded import Recorded
from undelude._inspector.values import Values
from undelude._process.episodes import AGENT, EXPERT, Episodes
from undelude._process.host_world import AbstractHostWorld, World
from undelude._rollout.host import sampled
from undelude._tree import index
from undelude._types import Action

# Most numbers of an action: each has a column of its own.
MOST_OF_ACTION = 12


class Recordings:
    """The recordings of a world, of at most N rounds.

    Args:
        world: the world.
        num_rounds: N.

    Attributes:
        actions, observations: their values.
        num_actions: A; None if actions are real numbers.
        num_thetas: K.
        digest: of the world; saved episodes hold it.

    Raises:
        TypeError: an observation or an action has too many numbers.
    """

    def __init__(self, world: AbstractHostWorld, num_rounds: int):
        self.num_rounds = num_rounds
        self.num_actions = world.action_spec.n if isinstance(world.action_spec, Symbols) else None
        self.num_thetas = len(np.asarray(vars(world)["prior"]))
        self.actions = Values(world.action_spec, f"{world.name}: actions", most=MOST_OF_ACTION)
        self.observations = Values(world.observation_spec, f"{world.name}: observations")
        self.digest = hashlib.sha256(world.settings_in_words().encode()).hexdigest()[:DIGITS]

    def to_json(self, history: History, *, task: str | None = None) -> dict[str, Any]:
        """Return a recording for a file; `task` is the name under which the world can be made again, if it has one."""
        A, O = self.actions, self.observations
        return to_json(history, A, O, task=task, process=self.digest, theta_changes=False)

    def from_json(self, data: Mapping[str, Any], *, task: str | None = None) -> History:
        """Check a stored recording.

        Raises:
            ValueError: it is of another task or world, does not fit, or goes on after its end.
        """
        A, O = self.actions, self.observations
        source = {"task": task, "process": self.digest}
        history = from_json(data, A, O, **source, num_thetas=self.num_thetas, has_opening=True, theta_changes=False)
        self.check_length(history)
        rounds = tuple(_paid(row, r, i) for i, (row, r) in enumerate(zip(data["rounds"], history.rounds, strict=True)))
        if any(r.ended for r in rounds[:-1]):
            raise ValueError("a round comes after one that ended the episode: remove it.")
        return dataclasses.replace(history, rounds=rounds)

    def history_of(self, episode: Episodes) -> History:
        """Return one episode of a rollout as a recording. Its seed is not known: it cannot be played on."""
        one: Any = jax.tree.map(np.asarray, episode)
        m, labels = int(one.mask.sum()), one.expert_actions
        rounds = [
            Round(
                self.actions.of(index(one.actions, t)),
                "do" if one.intervened[t] else "see",
                "expert" if one.executor[t] == EXPERT else "agent",
                self.observations.of(index(one.observations, t)),
                None if labels is None else self.actions.of(index(labels, t)),
                0.0 if one.reward is None else float(one.reward[t]),
                t == m - 1 and m < len(one.mask),
            )
            for t in range(m)
        ]
        return History((int(one.theta),), tuple(rounds), self.observations.of(one.opening))

    def arrays(self, history: History) -> tuple[Recorded, Action]:
        """Return a recording as arrays of N rounds, and the labels; rounds that do not exist hold zeros."""
        self.check_length(history)
        x = self.episode(history, self.num_rounds)
        by_agent: Any = np.asarray(x.executor) == AGENT
        return Recorded(x.opening, x.actions, x.observations, x.intervened, by_agent, x.mask), x.expert_actions

    def episode(self, history: History, num_rounds: int) -> Episodes:
        """Return a recording as an episode of `num_rounds` rounds, of which `mask` says which exist."""
        rounds, A, O = history.rounds, self.actions.spec.value, self.observations.spec.value

        def padded(values: Sequence[Any], kind: Any) -> Any:
            x = np.zeros(num_rounds, kind)
            x[: len(values)] = values
            return x

        return Episodes(
            np.asarray(history.theta[0], np.int32),
            history.opening,
            _stacked([r.action for r in rounds], A, num_rounds),
            _stacked([r.observation for r in rounds], O, num_rounds),
            padded([EXPERT if r.by == "expert" else AGENT for r in rounds], np.int32),
            padded([r.mark == "do" for r in rounds], bool),
            None,
            _stacked([r.expert_action for r in rounds], A, num_rounds),
            padded([r.reward or 0.0 for r in rounds], np.float32),
            padded([r.observation is not None for r in rounds], bool),
        )

    def check_length(self, history: History) -> None:
        """Raise `ValueError` if a recording has more than N rounds."""
        if len(history) > self.num_rounds:
            raise ValueError(
                f"the recording has {len(history)} rounds, and this inspection was made for {self.num_rounds}: "
                "give num_rounds (--num-rounds)."
            )


def check_recordable(world: World) -> AbstractHostWorld:
    """Return a world as one in Python; raise `TypeError` if its episodes cannot be recorded for the page."""
    batch = sampled(world)
    assert isinstance(batch, AbstractHostWorld)
    if batch.expert_is_person:
        raise TypeError(f"{world.name}: its expert is a person at the terminal, whom the page cannot ask.")
    if not isinstance(world.action_spec, Symbols | Reals):
        raise TypeError(
            f"{world.name} has actions of {world.action_spec}, and the inspector shows symbols or real numbers. Look "
            "at such an episode with ud.film(world, episodes, key=key)."
        )
    if not batch.opening or not hasattr(batch, "prior"):
        raise TypeError(f"{world.name} is not a world of undelude.gym, and the inspector records these.")
    return batch


def fingerprint(history: History) -> bytes:
    """Return what decides how a recording is read, its marks and executors aside."""
    leaves = jax.tree.leaves((history.opening, [(r.action, r.observation) for r in history.rounds]))
    return str(len(leaves)).encode() + b"".join(np.asarray(x).tobytes() for x in leaves)


def _paid(row: Mapping[str, Any], r: Round, i: int) -> Round:
    """Return a round with the reward and the end that a file gives it."""
    if r.observation is None:
        return r
    reward, ended = row.get("reward"), row.get("ended", False)
    if type(reward) not in (int, float) or not np.isfinite(reward) or type(ended) is not bool:
        raise ValueError(f"rounds[{i}] must have a number as reward, and true or false as ended.")
    return dataclasses.replace(r, reward=float(reward), ended=ended)


def _stacked(values: Sequence[Any], like: Any, length: int) -> Any:
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    rows = [blank if x is None else x for x in values] + [blank] * (length - len(values))
    return jax.tree.map(lambda x, *xs: np.stack(xs) if xs else x[None][:0], blank, *rows)
