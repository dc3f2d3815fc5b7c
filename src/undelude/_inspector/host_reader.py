"""A `HostAgent` reads a history and plays on: it is called in Python, round by round."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from undelude._agents.host import HostAgent
from undelude._inspector.readings import Reading
from undelude._inspector.setting import Setting, Symbols
from undelude._process.host_world import Prediction
from undelude._process.world import EpisodeKeys
from undelude._rollout.players import AbstractPlayer, HostPlayer, LastRound
from undelude._tree import index
from undelude._types import Memory, Observation

# One episode, which exists in each round.
ONE = np.ones(1, bool)


class HostReader:
    """A `HostAgent` that reads histories of a process. In most cases it is not told the marks.

    Args:
        agent: the agent.
        setting: the process and its alphabets.
    """

    def __init__(self, agent: HostAgent, setting: Setting):
        self.agent, self.setting = agent, setting
        self._of_action = jax.jit(jax.vmap(setting.of_action))
        self._of_observation = jax.jit(jax.vmap(setting.of_observation))

    def read(
        self,
        symbols: Symbols,
        opening: Observation | None,
        observations: Observation,
        n: int,
        m: int,
        key: Key[Array, ""],
    ) -> Reading:
        """Return the predictions in a history of `n` actions and `m` observations, which are given whole.

        Log-probabilities are NaN where it predicts nothing. In rounds that the agent executed, its `act` is called too,
        since it may change the memory; its choice is replaced by the action of the history.

        Raises:
            ValueError: a function of the agent returned something else than it should.
        """
        A, O, N = self.setting.A, self.setting.O, len(symbols.theta) - 1
        actions = np.asarray(jax.vmap(self.setting.action)(symbols.actions))
        own, done = (np.asarray(x) for x in (symbols.by_agent, symbols.intervened))
        observations = jax.tree.map(np.asarray, observations)
        rounds = [
            (actions[t], None if t == m else index(observations, t), bool(own[t]), bool(done[t])) for t in range(n)
        ]
        has_opening = self.setting.process.opening
        found = predictions(self._player(key), N, opening, rounds, has_opening=has_opening)
        first = self._rows(self._of_observation, [found.opening], O, 1) if has_opening else None
        first = None if first is None else index(first, 0)
        outcomes = self._rows(self._of_observation, found.observations, O, N)
        impossible = np.zeros(N, bool)
        if O is not None:
            impossible[:m] = np.isneginf(outcomes[np.arange(m), np.asarray(symbols.observations)[:m]])
        no_opening = jnp.asarray(O is not None and first is not None and np.isneginf(first[symbols.opening]))
        of_actions = self._rows(self._of_action, found.actions, A, N + 1)
        return Reading(None, None, first, no_opening, of_actions, outcomes, jnp.asarray(impossible), jnp.zeros(N, bool))

    def _rows(self, predicted: Any, rows: list[Prediction], values: Any, length: int) -> Any:
        """Return predictions with a leading axis of `length`: log-probabilities of symbols, or distributions or None.

        Those of the last one fill the end.
        """
        if values is None:
            distributions = stacked(rows, length)
            return None if distributions is None else predicted(distributions)
        unknown = np.full(len(values), np.nan)
        found = [unknown if x is None else np.asarray(predicted(x), float)[0] for x in rows]
        return np.stack([*found, *[found[-1] if found else unknown] * (length - len(found))])

    def play(self, symbols: Symbols, opening: Observation | None, key: Key[Array, ""]) -> "HostPlay":
        """Return the agent at the start of an episode; its samples are those of `ud.rollout` with this key."""
        return HostPlay(self._player(key), len(symbols.theta) - 1, opening, key)

    def _player(self, key: Key[Array, ""]) -> HostPlayer:
        """Return the agent with the random numbers that it has in `ud.rollout(..., key=key, num_episodes=1)`."""
        return HostPlayer(self.agent, self.setting.process.specs, jax.random.fold_in(key, 1))


class HostPlay:
    """An episode that an agent plays in Python: it reads the rounds that were, then acts.

    Args:
        player: the agent.
        num_rounds: N.
        opening: of the episode.
        key: of the episodes.
    """

    def __init__(self, player: AbstractPlayer, num_rounds: int, opening: Observation | None, key: Key[Array, ""]):
        self.player, self.memory = player, player.init(1, num_rounds)
        self.last, self.t = LastRound(None, _batch(opening), ONE), 0
        self.keys = EpisodeKeys.of(jax.random.fold_in(key, 0)).rounds

    def read(self, a: PyTree, o: Observation, *, own: bool, intervened: bool = True) -> None:
        """Read a round whose action is given; `own` says whether the agent executed it."""
        _, self.memory = _turn(self.player, self.memory, self.last, self.t, self._keys(), acts=own)
        self.follow(a, o, intervened=intervened)

    def act(self) -> PyTree:
        """Return the action of the next round."""
        _, a, self.memory = self.player.turn(self.memory, self.last, self._keys(), ONE, self.t)
        return index(a, 0)

    def follow(self, a: PyTree, o: Observation, *, intervened: bool = True) -> None:
        """Give the action, its mark and the observation of the round, which are read before the next action."""
        self.last, self.t = LastRound(_batch(a), _batch(o), ONE & intervened), self.t + 1

    def _keys(self) -> Key[Array, " 1"]:
        return jax.random.fold_in(self.keys, self.t)[None]


class Predictions(NamedTuple):
    """What a `HostAgent` predicts in each round, batches of one; None where it predicts nothing.

    Attributes:
        opening: the prediction of `O_0`; None without an opening.
        actions: m + 1, before each action and after the last observation.
        observations: n, after each action.
    """

    opening: Prediction
    actions: list[Prediction]
    observations: list[Prediction]


def predictions(
    player: HostPlayer,
    num_rounds: int,
    opening: Observation | None,
    rounds: Sequence[tuple[PyTree, Observation | None, bool, bool]],
    *,
    has_opening: bool,
) -> Predictions:
    """Return the predictions of a `HostAgent` in a history.

    Args:
        player: the agent.
        num_rounds: N.
        opening: of the episode.
        rounds: action, observation, whether the agent executed the action, and whether it is marked do; the last round
            may lack its observation.
        has_opening: whether it predicts an opening.
    """
    memory, last = player.init(1, num_rounds), LastRound(None, _batch(opening), ONE)
    first = player.predict_observation(memory, None, ONE, ONE, 0) if has_opening else None
    # A HostAgent that has `act` does not draw from the keys of the round.
    keys = jax.random.split(jax.random.key(0), 1)
    actions, outcomes = [], []
    for t, (a, o, own, done) in enumerate(rounds):
        prediction, memory = _turn(player, memory, last, t, keys, acts=own)
        actions.append(prediction)
        outcomes.append(player.predict_observation(memory, a[None], ONE, ONE, t))
        if o is None:
            return Predictions(first, actions, outcomes)
        last = LastRound(a[None], _batch(o), ONE & done)
    prediction, _ = player.read(memory, last, ONE, len(rounds))
    return Predictions(first, [*actions, prediction], outcomes)


def stacked(rows: list[Prediction], length: int) -> Any:
    """Return predictions of one round as distributions with a leading axis of `length`; None if one is missing.

    The last one fills the end.
    """
    if not rows or any(x is None for x in rows):
        return None
    each = [index(x, 0) for x in rows]
    return jax.tree.map(lambda *xs: jnp.stack(xs), *each, *[each[-1]] * (length - len(each)))


def _turn(
    player: AbstractPlayer, memory: Memory, last: LastRound, t: int, keys: Key[Array, " 1"], *, acts: bool
) -> tuple[Prediction, Memory]:
    """Return the prediction and the memory of a round, after `act` if the agent has one and executed the action."""
    if not acts or (isinstance(player, HostPlayer) and player.agent.act is None):
        return player.read(memory, last, ONE, t)
    prediction, _, memory = player.turn(memory, last, keys, ONE, t)
    return prediction, memory


def _batch(x: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], x)
