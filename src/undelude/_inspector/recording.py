"""Recordings of a simulator: as histories, as arrays and as files."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from undelude._distributions import Reals, Symbols
from undelude._inspector.history import PAID_FIELDS, History, Round, check_length
from undelude._inspector.images import image_parts
from undelude._inspector.recorded import Recorded
from undelude._inspector.values import MAX_PREDICTED, Values, stacked
from undelude._process.episodes import AGENT, EXPERT, Episodes
from undelude._process.host_world import AbstractHostWorld, World
from undelude._rollout.host import sampled
from undelude._tree import index


class Arranged(NamedTuple):
    """A recording as arrays.

    Attributes:
        history: the recording.
        recorded: its arrays.
        labels: `[N, ...]`, zeros in rounds without one.
        seen: a key of what happened: all but marks, executors and labels.
    """

    history: History
    recorded: Recorded
    labels: Any
    seen: bytes


class Recordings:
    """The recordings of a world, of at most N rounds.

    Args:
        world: the world.
        num_rounds: N.

    Attributes:
        actions, observations: their values.
        num_actions: A; None if actions are real numbers.
        num_thetas: K.

    Raises:
        TypeError: an observation or an action has too many numbers.
    """

    def __init__(self, world: AbstractHostWorld, num_rounds: int):
        self.num_rounds = num_rounds
        self.num_actions = world.action_spec.n if isinstance(world.action_spec, Symbols) else None
        self.num_thetas = len(np.asarray(vars(world)["prior"]))
        self.actions = Values(world.action_spec, f"{world.name}: actions", most=MAX_PREDICTED)
        images = image_parts(world)
        self.observations = Values(world.observation_spec, f"{world.name}: observations", images=images)

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

    def arrange(self, history: History) -> Arranged:
        """Return a recording as arrays of N rounds; rounds that do not exist hold zeros."""
        check_length(history, self.num_rounds)
        N, rounds = self.num_rounds, history.rounds
        A, O = self.actions.like, self.observations.like
        marks, by_agent = ([getattr(r, name) == x for r in rounds] for name, x in (("mark", "do"), ("by", "agent")))
        exists = [r.observation is not None for r in rounds]
        arrays: Any = (
            history.opening,
            stacked([r.action for r in rounds], A, N),
            stacked([r.observation for r in rounds], O, N),
            *(_padded(x, bool, N) for x in (marks, by_agent, exists)),
        )
        leaves = jax.tree.leaves((history.opening, [(r.action, r.observation) for r in rounds]))
        seen = str(len(leaves)).encode() + b"".join(np.asarray(leaf).tobytes() for leaf in leaves)
        return Arranged(history, Recorded(*arrays), stacked([r.expert_action for r in rounds], A, N), seen)

    def episode(self, history: History) -> Episodes:
        """Return the rounds of a recording that have an observation as an episode, without labels."""
        m = history.num_observations
        x, rounds = self.arrange(history).recorded, history.rounds[:m]
        by, rewards = ([EXPERT if r.by == "expert" else AGENT for r in rounds], [r.reward for r in rounds])
        return Episodes(
            theta=np.asarray(history.theta[0], np.int32),
            opening=history.opening,
            actions=x.actions[:m],
            observations=jax.tree.map(lambda leaf: leaf[:m], x.observations),
            executor=jnp.asarray(by, jnp.int32),
            intervened=jnp.asarray(x.intervened[:m]),
            expert=None,
            expert_actions=None,
            reward=np.asarray(rewards, np.float32),
            mask=jnp.asarray(x.exists[:m]),
        )


def check_recordable(world: World) -> AbstractHostWorld:
    """Return a world as one in Python; raise `TypeError` if its episodes cannot be recorded for the page."""
    batch = sampled(world)
    assert isinstance(batch, AbstractHostWorld)
    if not isinstance(world.action_spec, Symbols | Reals):
        raise TypeError(
            f"{world.name} has actions of {world.action_spec}, and the inspector shows symbols or real numbers. Look "
            "at such an episode with ud.film(world, episodes, key=key)."
        )
    if not batch.opening or not hasattr(batch, "prior"):
        raise TypeError(f"{world.name} is not a world of undelude.gym, and the inspector records these.")
    return batch


def check_paid(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise `ValueError` if a round of a recording in a file lacks its reward or its end: no process knows them."""
    for i, row in enumerate(rows):
        for name in PAID_FIELDS:
            if row["observation"] is not None and name not in row:
                raise ValueError(
                    f"rounds[{i}].{name} is missing; a round of a recording has {' and '.join(PAID_FIELDS)}."
                )


def _padded(values: Sequence[Any], kind: Any, length: int) -> np.ndarray:
    x = np.zeros(length, kind)
    x[: len(values)] = values
    return x
