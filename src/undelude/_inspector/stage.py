"""A simulator in Python plays one episode: again, to where a recording ends, and then on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from undelude._inspector.history import History
from undelude._inspector.values import Values
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, difference
from undelude._process.world import EpisodeKeys, RoundKeys, key_of
from undelude._rollout.host import in_turns
from undelude._tree import index
from undelude._types import Action, Observation


class Answer(NamedTuple):
    """What the world answers to one action."""

    observation: Observation
    reward: float
    ended: bool


class Stage:
    """The simulator of one episode. It cannot be rewound, so that it plays an episode again up to a round.

    It draws as episode 0 of `ud.rollout(world, agent, key=jax.random.key(seed))` does.

    Args:
        world: the simulator.
        actions, observations: their values.
        symbol: the part of an observation that the world draws itself, such as a cue, which may be edited; or None.
    """

    def __init__(self, world: AbstractHostWorld, actions: Values, observations: Values, symbol: str | None):
        self.world, self.actions, self.observations, self.symbol = world, actions, observations, symbol
        self._state: Any = None
        # The episode whose last round the simulator has played; nobody else may have played meanwhile.
        self._at: bytes | None = None
        self._num_played: Any = None
        self._scenes: tuple[bytes, Sequence[Any]] = (b"", ())
        # Why nothing is rendered.
        self._why_not: str | None = None

    def begin(self, seed: int, theta: int | None) -> tuple[int, Observation]:
        """Return the index of theta and the opening."""
        with in_turns(self.world):
            self._at = None
            self._state, opening = self.world.begin(self._key(seed)[None], theta)
            self.rounds = EpisodeKeys.of(self._key(seed)).rounds
            self._num_played = self._num_begun()
            drawn = int(np.asarray(self.world.theta(self._state))[0])
        return drawn, self.observations.of(index(opening, 0))

    def go_to(self, history: History) -> None:
        """Play the rounds of a recording that have an observation.

        Raises:
            ValueError: the world shows something else than it did in the recording.
        """
        over = [r for r in history.rounds if r.observation is not None]
        if self._at == played_of(history, len(over)) and self._num_played == self._num_begun():
            return
        _, opening = self.begin(history.seed, history.theta[0])
        seen = [opening]
        for t, r in enumerate(over):
            seen.append(self.respond(r.action, t).observation)
        then = [history.opening, *(r.observation for r in over)]
        batches = [[jax.tree.map(lambda x: np.asarray(x)[None], o) for o in path] for path in (then, seen)]
        but = () if self.symbol is None else (self.symbol,)
        if (found := difference(*batches, but=but)) is not None:
            raise ValueError(
                f"{self.world.name}: the same seed and actions show another {found[0]} from round {found[1]} on than "
                "in this recording, so that it cannot be played on: the episode is of other luck, or the environment "
                "draws random numbers that the seed of reset does not set. It can be read and its marks flipped."
            )
        self._at = played_of(history, len(over))

    def consult(self, t: int) -> Action:
        """Return what the expert would do in round `t`, which comes next."""
        with in_turns(self.world):
            key = jax.random.fold_in(self.rounds, t)
            Q_A, a_bar = self.world.consult(self._state, key[None])
        if a_bar is None:
            assert Q_A is not None
            return self.actions.of(index(Q_A, 0).sample(RoundKeys.of(key).expert))
        return self.actions.of(index(a_bar, 0))

    def respond(self, a: Action, t: int) -> Answer:
        """Play an action in round `t`.

        Raises:
            ValueError: the environment failed.
        """
        with in_turns(self.world):
            self._at = None
            batch = jax.tree.map(lambda x: jnp.asarray(x)[None], a)
            key = jax.random.fold_in(self.rounds, t)[None]
            self._state, o, reward, ended = self.world.respond(self._state, batch, key)
            lost = self.world.lost(self._state)
        if lost is not None and lost[0]:
            why = self.world.failures_in_words()
            raise ValueError(f"{self.world.name}: the environment failed in round {t + 1}. {why or ''}".strip())
        return Answer(self.observations.of(index(o, 0)), float(np.asarray(reward)[0]), bool(np.asarray(ended)[0]))

    def scenes(self, history: History, episode: Episodes) -> Sequence[Any]:
        """Return the scenes of a recording, or of a longer one, which were rendered before.

        Raises:
            ValueError: the world shows something else than in the recording, or fails to render.
        """
        if self._why_not is not None:
            raise ValueError(self._why_not)
        played = played_of(history, history.num_observations)
        if not self._scenes[0].startswith(played):  # The last recording was not a longer one.
            try:
                self._scenes = played, self.world.replay(episode, self._key(history.seed))
            except ValueError:
                raise
            except Exception as error:  # Of the user's environment, such as for want of OpenGL: do not try again.
                self._why_not = f"the environment does not render: {type(error).__name__}: {error!s:.200}"
                raise ValueError(self._why_not) from error
        return self._scenes[1]

    def stays_at(self, history: History) -> None:
        """Note that the simulator has played all rounds of a history."""
        self._at = played_of(history, history.num_observations)

    def _num_begun(self) -> Any:
        """Return how many episodes the world has begun, if its environments can be begun by others."""
        return getattr(self.world, "num_played", None)

    def _key(self, seed: int) -> Key[Array, ""]:
        return jax.random.fold_in(key_of(seed), 0)


def played_of(history: History, num_rounds: int) -> bytes:
    """Return what decides a simulator's state after some rounds: seed, theta and actions."""
    actions = b"".join(np.asarray(r.action).tobytes() for r in history.rounds[:num_rounds])
    return f"{history.seed} {history.theta[0]}|".encode() + actions
