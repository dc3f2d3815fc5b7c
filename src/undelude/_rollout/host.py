"""The Python loop: episodes whose agent, or whose world, is not JAX and runs as a batch in Python."""

import dataclasses
import itertools
import threading
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._checks import check_count
from undelude._compiled import compiled, read_now
from undelude._distributions import AbstractDistribution
from undelude._process.episodes import AGENT, EXPERT, Episodes
from undelude._process.host_world import SAMPLED_ONLY, AbstractHostWorld, Prediction, World
from undelude._process.process import InteractionProcess
from undelude._process.world import AbstractWorld, EpisodeKeys, RoundKeys
from undelude._rollout.checks import check_theta
from undelude._rollout.players import AbstractPlayer, HostPlayer, LastRound, TracedPlayer
from undelude._tree import where
from undelude._types import MAX_COUNT, Action, Observation, OnProgress, State

# Episodes, and the agent's predictions of actions and of observations.
Played = tuple[Episodes, Prediction, Prediction]
# How often an episode is played again that was lost to a failure of its environment.
MAX_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True)
class Execution:
    """Who executes, and how actions are marked.

    Attributes:
        marks: the stored marks, do if true, of the actor's actions and of the expert's.
        reads: the marks that the actor itself reads; `marks` by default.
        expert_share: the probability that the expert executes an action.
        per: whether the executor is drawn each `"step"`, or once an `"episode"`.
    """

    marks: tuple[bool, bool]
    reads: tuple[bool, bool] | None = None
    expert_share: float = 0.0
    per: str = "step"


# What a compiled world that can only be sampled may know of itself, as a world in Python does.
KNOWN = "evidence", "exact_agent", "context_in_words", "on_contexts", "outside", "random_actions", "difference"
KNOWN += "clipped", "prior", "num_thetas", "contexts", "cue"


class _Vmapped(AbstractHostWorld[State]):
    """A compiled world as a batch."""

    def __init__(self, world: AbstractWorld):
        self.world = world
        self._begin, self._consult, self._respond = read_now(world, _begin, _consult, _respond)
        self.name, self.num_rounds, self.specs = world.name, world.num_rounds, world.specs
        self.opening, self.theta_changes, self.ends_early = world.opening, world.theta_changes, world.ends_early
        for name in KNOWN:
            if hasattr(world, name):
                setattr(self, name, getattr(world, name))

    def begin(self, keys: Key[Array, " B"], theta: int | None = None) -> tuple[State, Observation | None]:
        return self._begin(self.world, keys, None if theta is None else jnp.asarray(theta, jnp.int32))

    def theta(self, state: State) -> PyTree:
        return jax.vmap(self.world.theta)(state)

    def consult(self, state: State, keys: Key[Array, " B"]) -> tuple[Prediction, Action]:
        return self._consult(self.world, state, keys)

    def respond(self, state: State, a: Action, keys: Key[Array, " B"]) -> tuple[State, Observation, Array, Array]:
        return self._respond(self.world, state, a, keys)

    @property
    def leak(self) -> str | None:
        return getattr(self.world, "leak", None)

    @property
    def no_exact_agent(self) -> str | None:
        return getattr(self.world, "no_exact_agent", SAMPLED_ONLY)


def sampled(world: World) -> InteractionProcess | AbstractHostWorld:
    """Return a compiled world that can only be sampled as one in Python, which certificates measure; others as is."""
    return _Vmapped(world) if isinstance(world, AbstractWorld) and not isinstance(world, InteractionProcess) else world


def play(
    world: World,
    agent: HostAgent | AbstractAgent | None,
    *,
    key: Key[Array, ""],
    num_episodes: int,
    num_rounds: int | None = None,
    theta: int | None = None,
    execution: Execution | None = None,
    predicts: bool = True,
    stopped: threading.Event | None = None,
    ids: Int[np.ndarray, " B"] | None = None,
    on_progress: OnProgress | None = None,
    doing: str = "the agent",
) -> Played:
    """Run episodes in Python, for an agent or a world that cannot be traced.

    Nature and the expert draw as in the compiled loop: the same key gives the same theta, and the same answers to the
    same actions. An episode that is lost to a failure of its environment is played again, from another key.

    Args:
        world: a world, compiled or in Python.
        agent: the actor; None if the expert executes.
        key: of the episodes; episode i draws from `fold_in(key, i)`.
        num_episodes: B.
        num_rounds: T; the world's own by default.
        theta: fixes the index of Theta.
        execution: who executes and how actions are marked; by default the agent, if there is one, with the mark of its
            own actions.
        predicts: whether the agent's predictions are returned.
        stopped: if it is set, from another thread, playing ends with an `InterruptedError` before the next round.
        ids: the numbers of the episodes; by default 0 to B - 1.
        on_progress: called after each round with the number of rounds so far, of all, and `doing`. Rounds of episodes
            that are played again do not count.
        doing: the name of the party that acts, for `on_progress`.

    Returns:
        The episodes; `P_A`, `[B, T + 1]` predictions of actions, the last one after the last observation; `P_O`,
        `[B, T]` predictions of observations, `[B, T + 1]` with an opening. None if the agent predicts none.

    Raises:
        ValueError: the agent returned the wrong shape, no probabilities, or values outside the spec; the message names
            the function and the round.
        RuntimeError: an episode was lost as often as it was played.
    """
    B = check_count("num_episodes", num_episodes)
    T = check_count("num_rounds", world.num_rounds if num_rounds is None else num_rounds)
    if theta is not None:
        check_theta(world, theta)
    world = _Vmapped(world) if isinstance(world, AbstractWorld) else world
    player: AbstractPlayer | None = None
    if isinstance(agent, HostAgent):
        player = HostPlayer(agent, world.specs, jax.random.fold_in(key, B))
    elif agent is not None:
        player = TracedPlayer(agent)
    if execution is None:
        execution = Execution(marks=(agent is not None and agent.own_actions == "do", False))
    size = world.num_envs or B
    rounds, total = itertools.count(1), T * len(range(0, B, size))

    def after_round() -> None:
        if on_progress is not None and (done := next(rounds)) <= total:
            on_progress(done, total, doing)

    def play_some(key: Key[Array, ""], ids: Int[np.ndarray, " n"]) -> tuple[Played, Bool[np.ndarray, " n"] | None]:
        with in_turns(world):
            return _play_piece(world, player, key, ids, T, theta, execution, predicts, stopped, after_round)

    ids = np.arange(B) if ids is None else ids
    pieces = [_play_whole(play_some, key, ids[start : start + size], world.name) for start in range(0, B, size)]
    return pieces[0] if len(pieces) == 1 else jax.tree.map(lambda *xs: jnp.asarray(np.concatenate(xs)), *pieces)


def in_turns(world: AbstractHostWorld) -> threading.RLock:
    """Return the lock of a world: its environments play for one thread at a time, from the beginning to the end."""
    return vars(world).setdefault("_turns", threading.RLock())


def _play_whole(
    play_some: Callable[[Key[Array, ""], Int[np.ndarray, " n"]], tuple[Played, Bool[np.ndarray, " n"] | None]],
    key: Key[Array, ""],
    ids: Int[np.ndarray, " n"],
    name: str,
) -> Played:
    """Return the episodes `ids`; one that is lost is played again, from another key."""
    played, lost = play_some(key, ids)
    at = np.arange(0) if lost is None else np.flatnonzero(lost)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        if not len(at):
            break
        mended, still = play_some(jax.random.fold_in(key, MAX_COUNT - attempt), ids[at])
        played = jax.tree.map(lambda x, y, at=at: _with_rows(x, at, y), played, mended)
        at = at[still]
    if len(at):
        raise RuntimeError(f"{name}: an episode was lost {MAX_ATTEMPTS} times to a failure of its environment.")
    return played


def _with_rows(x: Array, at: Int[np.ndarray, " n"], rows: Array) -> Array:
    """Return `x` with other rows at `at`, by NumPy: JAX would compile a program for each number of rows."""
    changed = np.array(x)
    changed[at] = rows
    return jnp.asarray(changed)


def _play_piece(
    world: AbstractHostWorld,
    player: AbstractPlayer | None,
    key: Key[Array, ""],
    ids: Int[np.ndarray, " B"],
    T: int,
    theta: int | None,
    execution: Execution,
    predicts: bool,
    stopped: threading.Event | None,
    after_round: Callable[[], None],
) -> tuple[Played, Bool[np.ndarray, " B"] | None]:
    """Return episodes that the world plays side by side, the predictions, and which episodes were lost."""
    B = len(ids)
    keys, round_keys, coins = _keys(key, jnp.asarray(ids), T)
    by_expert: np.ndarray = np.ones((B, T), bool)
    if player is not None:
        coins = coins if execution.per == "step" else coins[:, :1]
        by_expert = np.broadcast_to(np.asarray(coins) < execution.expert_share, (B, T))
    marks, reads = (
        np.where(by_expert, pair[1], pair[0]) for pair in (execution.marks, execution.reads or execution.marks)
    )
    state, opening = world.begin(keys, theta)
    thetas, rows = [world.theta(state)], []
    P_A: list[Prediction] = []
    P_O: list[Prediction] = []
    exists = np.ones(B, bool)

    m, last = None, LastRound(None, opening, np.zeros(B, bool))
    if player is not None:
        m = player.init(B, T)
        if opening is not None and predicts:
            P_O.append(player.predict_observation(m, None, last.marks, exists, 0))
    for t in range(T):
        if stopped is not None and stopped.is_set():
            raise InterruptedError(f"{world.name}: stopped in round {t + 1}.")
        own_keys = _of_round(round_keys, np.int32(t))
        Q_A, a_bar = world.consult(state, own_keys)
        later_m = m
        if player is None:
            a = _draw_expert(Q_A, own_keys) if a_bar is None else a_bar
        else:
            prediction, a, later_m = player.turn(m, last, own_keys, exists, t)
            if execution.expert_share > 0:
                a_bar = _draw_expert(Q_A, own_keys) if a_bar is None else a_bar
                a = _choose(jnp.asarray(by_expert[:, t]), a_bar, a)
            if predicts:
                P_A.append(prediction)
                P_O.append(player.predict_observation(later_m, a, reads[:, t], exists, t))
        later, o, reward, ended = world.respond(state, a, own_keys)
        last = LastRound(a, o, reads[:, t])
        rows.append((a, o, Q_A, a_bar, np.where(exists, np.asarray(reward, np.float32), 0), exists))
        # The memory of a HostAgent is its own; its rows of ended episodes are ignored.
        m = _keep(exists, later_m, m) if isinstance(player, TracedPlayer) and not exists.all() else later_m
        state = _keep(exists, later, state) if isinstance(world, _Vmapped) and world.ends_early else later
        if world.theta_changes:
            thetas.append(world.theta(state))
        before, exists = exists, exists & ~np.asarray(ended) if world.ends_early else exists
        after_round()
    if player is not None and predicts:
        prediction, _ = player.read(m, last, before, T)
        P_A.append(prediction)

    actions, observations, Q_A, a_bar, reward, mask = _stack(rows)
    if a_bar is None:
        a_bar = actions if player is None else _draw_experts(Q_A, round_keys)
    episodes = Episodes(
        theta=_stack(thetas) if world.theta_changes else thetas[0],
        opening=jax.tree.map(jnp.asarray, opening),
        actions=actions,
        observations=observations,
        executor=jnp.where(jnp.asarray(by_expert), EXPERT, AGENT),
        intervened=jnp.asarray(marks),
        expert=Q_A,
        expert_actions=a_bar,
        reward=reward,
        mask=mask,
    )
    if not predicts:
        return (episodes, None, None), world.lost(state)
    return (episodes, _all_or_none(P_A, "predict"), _all_or_none(P_O, "predict_observation")), world.lost(state)


def _keep(exists: Bool[np.ndarray, " B"], new: PyTree, old: PyTree) -> PyTree:
    """Return `new` for the episodes that go on, and `old` for those that have ended."""
    return jax.vmap(where)(jnp.asarray(exists), new, old)


def _all_or_none(distributions: list[Prediction], name: str) -> AbstractDistribution | None:
    missing = [t for t, distribution in enumerate(distributions) if distribution is None]
    if missing and len(missing) < len(distributions):
        raise ValueError(
            f"HostAgent: {name} returned a distribution in some rounds and None in others, such as {missing[0]}."
        )
    return None if missing or not distributions else _stack(distributions)


def _stack(xs: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack([np.asarray(x) for x in leaves], axis=1)), *xs)


@compiled
def _keys(key: Array, ids: Array, T: int) -> tuple[Key[Array, " B"], Key[Array, "B T"], Float[Array, "B T"]]:
    """Return the keys of episodes and rounds, and a uniform number for the executor of each round."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)
    rounds = jax.vmap(lambda key: jax.random.split(EpisodeKeys.of(key).rounds, T))(keys)
    return keys, rounds, jax.vmap(lambda key: jax.random.uniform(EpisodeKeys.of(key).executor, (T,)))(keys)


# A slice outside a program takes a hundred times as long.
@jax.jit
def _of_round(keys: Array, t: Array) -> Array:
    return keys[:, t]


@compiled
def _draw_expert(Q_A: AbstractDistribution, keys: Array) -> PyTree:
    return jax.vmap(lambda distribution, key: distribution.sample(RoundKeys.of(key).expert))(Q_A, keys)


@compiled
def _draw_experts(Q_A: AbstractDistribution, keys: Array) -> PyTree:
    return jax.vmap(jax.vmap(lambda distribution, key: distribution.sample(RoundKeys.of(key).expert)))(Q_A, keys)


@compiled
def _choose(by_expert: Array, a_bar: Action, a: Action) -> Action:
    return jax.vmap(where)(by_expert, a_bar, a)


@compiled
def _begin(world: AbstractWorld, keys: Array, theta: Array | None) -> tuple[State, Observation | None]:
    return jax.vmap(lambda key: world.begin(key, theta))(keys)


@compiled
def _consult(world: AbstractWorld, state: State, keys: Array) -> tuple[Prediction, Action]:
    return jax.vmap(world.consult)(state, keys)


@compiled
def _respond(world: AbstractWorld, state: State, a: Action, keys: Array) -> tuple[State, Observation, Array, Array]:
    return jax.vmap(world.respond)(state, a, keys)
