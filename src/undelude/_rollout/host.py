"""The Python loop: episodes whose agent, or whose world, is not JAX and runs as a batch in Python."""

import abc
import dataclasses
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._checks import as_numbers, check_count, check_probabilities
from undelude._compiled import compiled, read_now
from undelude._distributions import AbstractDistribution, Categorical, Spec, Symbols, num_symbols, spec_of
from undelude._process.episodes import AGENT, EXPERT, Episodes
from undelude._process.host_world import AbstractHostWorld, Prediction, World
from undelude._process.world import AbstractWorld, EpisodeKeys, RoundKeys
from undelude._rollout.checks import check_theta
from undelude._tree import index, where
from undelude._types import MAX_COUNT, Action, Memory, Observation, State

# The episodes that have not ended before the round.
Exists = Bool[np.ndarray, " B"]
# The marks of a round's actions: true for do.
Marks = Bool[np.ndarray, " B"]
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
    reads: tuple[bool, bool] = None  # type: ignore[assignment]
    expert_share: float = 0.0
    per: str = "step"

    def __post_init__(self) -> None:
        if self.reads is None:
            object.__setattr__(self, "reads", self.marks)


class _Vmapped(AbstractHostWorld[State]):
    """A compiled world as a batch."""

    def __init__(self, world: AbstractWorld):
        self.world = world
        self._begin, self._consult, self._respond = read_now(world, _begin, _consult, _respond)
        self.name, self.num_rounds, self.specs = world.name, world.num_rounds, world.specs
        self.opening, self.theta_changes, self.ends_early = world.opening, world.theta_changes, world.ends_early

    def begin(self, keys: Key[Array, " B"], theta: int | None = None) -> tuple[State, Observation | None]:
        return self._begin(self.world, keys, None if theta is None else jnp.asarray(theta, jnp.int32))

    def theta(self, state: State) -> PyTree:
        return jax.vmap(self.world.theta)(state)

    def consult(self, state: State, keys: Key[Array, " B"]) -> tuple[Prediction, Action]:
        return self._consult(self.world, state, keys)

    def respond(self, state: State, a: Action, keys: Key[Array, " B"]) -> tuple[State, Observation, Array, Array]:
        return self._respond(self.world, state, a, keys)


class _AbstractPlayer(abc.ABC):
    """An agent as the loop calls it: for all episodes at once."""

    @abc.abstractmethod
    def init(self, num_episodes: int, num_rounds: int) -> Memory:
        """Return the memories at the start."""

    @abc.abstractmethod
    def read(
        self, m: Memory, a: Action | None, o: Observation | None, marks: Marks, exists: Exists, t: int
    ) -> tuple[Prediction, Memory]:
        """Read the last round, whose actions have the `marks`, and predict the action of round `t`."""

    @abc.abstractmethod
    def turn(
        self,
        m: Memory,
        a: Action | None,
        o: Observation | None,
        marks: Marks,
        keys: Key[Array, " B"],
        exists: Exists,
        t: int,
    ) -> tuple[Prediction, Action, Memory]:
        """Read the last round as `read` does, and choose the actions of round `t`."""

    @abc.abstractmethod
    def predict_observation(self, m: Memory, a: Action | None, marks: Marks, exists: Exists, t: int) -> Prediction:
        """Predict the observations of round `t`, or the openings if `a` is None."""


class _HostPlayer(_AbstractPlayer):
    """A `HostAgent`, whose every answer is checked."""

    def __init__(self, agent: HostAgent, specs: tuple[Spec, Spec], key: Key[Array, ""]):
        self.agent = agent
        self.action_spec, self.observation_spec = specs
        self.rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def init(self, num_episodes: int, num_rounds: int) -> Memory:
        del num_rounds
        return self.agent.reset(num_episodes)

    def read(
        self, m: Memory, a: Action | None, o: Observation | None, marks: Marks, exists: Exists, t: int
    ) -> tuple[Prediction, Memory]:
        del marks  # A HostAgent executes all actions, and knows how it reads them.
        returned, m = _pair(self.agent.predict(m, _to_host(a), _to_host(o)), f"predict (round {t})")
        return _as_distribution(returned, self.action_spec, exists, f"predict (round {t})"), m

    def turn(
        self,
        m: Memory,
        a: Action | None,
        o: Observation | None,
        marks: Marks,
        keys: Key[Array, " B"],
        exists: Exists,
        t: int,
    ) -> tuple[Prediction, Action, Memory]:
        prediction, m = self.read(m, a, o, marks, exists, t)
        if self.agent.act is not None:
            chosen, m = _pair(self.agent.act(m, prediction, self.rng), f"act (round {t})")
            return prediction, _as_actions(chosen, self.action_spec, exists, t), m
        if prediction is None:
            raise ValueError(
                "HostAgent: predict returned None instead of a distribution, so that there is nothing to draw actions "
                "from; give act=, or return the distribution."
            )
        return prediction, _draw(prediction, keys), m

    def predict_observation(self, m: Memory, a: Action | None, marks: Marks, exists: Exists, t: int) -> Prediction:
        del marks
        if self.agent.predict_observation is None:
            return None
        returned = self.agent.predict_observation(m, _to_host(a))
        return _as_distribution(returned, self.observation_spec, exists, f"predict_observation (round {t})")


class _TracedPlayer(_AbstractPlayer):
    """An `AbstractAgent`, vmapped and compiled step by step."""

    def __init__(self, agent: AbstractAgent):
        self.agent = agent
        functions = _read, _turn, _predict_observation
        self._read, self._turn, self._predict_observation = read_now(agent, *functions)

    def init(self, num_episodes: int, num_rounds: int) -> Memory:
        one = self.agent.init(num_rounds=num_rounds)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_episodes, *jnp.shape(x))), one)

    def read(
        self, m: Memory, a: Action | None, o: Observation | None, marks: Marks, exists: Exists, t: int
    ) -> tuple[Prediction, Memory]:
        del t
        return self._read(self.agent, m, a, o, marks, exists)

    def turn(
        self,
        m: Memory,
        a: Action | None,
        o: Observation | None,
        marks: Marks,
        keys: Key[Array, " B"],
        exists: Exists,
        t: int,
    ) -> tuple[Prediction, Action, Memory]:
        del t
        return self._turn(self.agent, m, a, o, marks, exists, keys)

    def predict_observation(self, m: Memory, a: Action | None, marks: Marks, exists: Exists, t: int) -> Prediction:
        del exists, t
        return self._predict_observation(self.agent, m, a, marks)


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
    ids: Int[np.ndarray, " B"] | None = None,
    stopped: threading.Event | None = None,
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
        ids: of the episodes; 0 to B - 1 by default.
        stopped: if it is set, from another thread, playing ends with an `InterruptedError` before the next round.

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
    player: _AbstractPlayer | None = None
    if isinstance(agent, HostAgent):
        player = _HostPlayer(agent, world.specs, jax.random.fold_in(key, B))
    elif agent is not None:
        player = _TracedPlayer(agent)
    if execution is None:
        execution = Execution(marks=(agent is not None and agent.own_actions == "do", False))
    ids = np.arange(B) if ids is None else ids
    size = world.num_envs or B
    keys = key
    pieces = []
    for start in range(0, B, size):
        piece, lost = _play_piece(
            world, player, keys, ids[start : start + size], T, theta, execution, predicts, stopped
        )
        for attempt in range(1, MAX_ATTEMPTS + 1):
            if lost is None or not lost.any():
                break
            again = jax.random.fold_in(key, MAX_COUNT - attempt)
            rows = ids[start : start + size][lost]
            mended, still = _play_piece(world, player, again, rows, T, theta, execution, predicts, stopped)
            at = np.flatnonzero(lost)
            piece = jax.tree.map(lambda x, y, at=at: x.at[at].set(y), piece, mended)
            lost = np.zeros_like(lost)
            lost[at] = still
        else:
            raise RuntimeError(
                f"{world.name}: an episode was lost {MAX_ATTEMPTS} times to a failure of its environment."
            )
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else jax.tree.map(lambda *xs: jnp.concatenate(xs), *pieces)


def _play_piece(
    world: AbstractHostWorld,
    player: _AbstractPlayer | None,
    key: Key[Array, ""],
    ids: Int[np.ndarray, " B"],
    T: int,
    theta: int | None,
    execution: Execution,
    predicts: bool,
    stopped: threading.Event | None,
) -> tuple[Played, Bool[np.ndarray, " B"] | None]:
    """Return episodes that the world plays side by side, the predictions, and which episodes were lost."""
    B = len(ids)
    keys, round_keys, coins = _keys(key, jnp.asarray(ids), T)
    by_expert: np.ndarray = np.ones((B, T), bool)
    if player is not None:
        coins = coins if execution.per == "step" else coins[:, :1]
        by_expert = np.broadcast_to(np.asarray(coins) < execution.expert_share, (B, T))
    marks, reads = (np.where(by_expert, pair[1], pair[0]) for pair in (execution.marks, execution.reads))
    state, opening = world.begin(keys, theta)
    thetas, rows = [world.theta(state)], []
    P_A: list[Prediction] = []
    P_O: list[Prediction] = []
    exists = np.ones(B, bool)

    m, a, o, mark = None, None, opening, np.zeros(B, bool)
    if player is not None:
        m = player.init(B, T)
        if opening is not None and predicts:
            P_O.append(player.predict_observation(m, None, mark, exists, 0))
    for t in range(T):
        if stopped is not None and stopped.is_set():
            raise InterruptedError(f"{world.name}: stopped in round {t + 1}.")
        own_keys = _of_round(round_keys, np.int32(t))
        Q_A, a_bar = world.consult(state, own_keys)
        later_m = m
        if player is None:
            a = _draw_expert(Q_A, own_keys) if a_bar is None else a_bar
        else:
            prediction, a, later_m = player.turn(m, a, o, mark, own_keys, exists, t)
            if execution.expert_share > 0:
                a_bar = _draw_expert(Q_A, own_keys) if a_bar is None else a_bar
                a = _choose(jnp.asarray(by_expert[:, t]), a_bar, a)
            mark = reads[:, t]
            if predicts:
                P_A.append(prediction)
                P_O.append(player.predict_observation(later_m, a, mark, exists, t))
        later, o, reward, ended = world.respond(state, a, own_keys)
        rows.append((a, o, Q_A, a_bar, np.where(exists, np.asarray(reward, np.float32), 0), exists))
        # The memory of a HostAgent is its own; its rows of ended episodes are ignored.
        m = _keep(exists, later_m, m) if isinstance(player, _TracedPlayer) and not exists.all() else later_m
        state = _keep(exists, later, state) if isinstance(world, _Vmapped) and world.ends_early else later
        if world.theta_changes:
            thetas.append(world.theta(state))
        before, exists = exists, exists & ~np.asarray(ended) if world.ends_early else exists
    if player is not None and predicts:
        prediction, _ = player.read(m, a, o, mark, before, T)
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


def _to_host(x: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, x)


def _keep(exists: Bool[np.ndarray, " B"], new: PyTree, old: PyTree) -> PyTree:
    """Return `new` for the episodes that go on, and `old` for those that have ended."""
    return jax.vmap(where)(jnp.asarray(exists), new, old)


def _as_actions(chosen: object, spec: Spec, exists: Exists, t: int) -> Action:
    """Return the actions that a `HostAgent` chose as arrays of the spec's shapes and dtypes."""
    shape = jax.tree.map(lambda x: (len(exists), *x.shape), spec.value)
    dtypes = jax.tree.map(lambda x: x.dtype, spec.value)
    name = f"HostAgent: what act (round {t}) returned"
    is_one_array = isinstance(spec.value, jax.ShapeDtypeStruct)
    a = as_numbers(chosen, name) if is_one_array else jax.tree.map(lambda x: as_numbers(x, name), chosen)
    if jax.tree.map(np.shape, a) != shape:
        raise ValueError(
            f"HostAgent: act (round {t}) returned actions of shape {jax.tree.map(np.shape, a)}, not {shape}."
        )
    read = jax.tree.map(lambda x: x[exists], a)
    spec.check(f"HostAgent: act (round {t}), actions", read)
    if any(np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all() for x in jax.tree.leaves(read)):
        raise ValueError(f"HostAgent: act (round {t}) returned actions that are not finite.")
    return jax.tree.map(lambda x, dtype: jnp.asarray(x, dtype), a, dtypes)


def _pair(returned: object, name: str) -> tuple[object, Memory]:
    if not (isinstance(returned, tuple) and len(returned) == 2):
        what = "(a, m)" if name.startswith("act") else "(distribution, m)"
        raise ValueError(f"HostAgent: {name} must return a pair {what}, not {type(returned).__name__}.")
    return returned


def _as_distribution(returned: object, spec: Spec, exists: Exists, name: str) -> AbstractDistribution | None:
    """Return a policy's prediction as a batch of distributions; those of ended episodes are not checked."""
    if returned is None:
        return None
    B = len(exists)
    if isinstance(returned, AbstractDistribution):
        leaves = jax.tree.leaves(eqx.filter(returned, eqx.is_array_like))
        if any(leaf.ndim == 0 or leaf.shape[0] != B for leaf in leaves):
            raise ValueError(
                f"HostAgent: {name} returned a distribution whose arrays have no leading axis of {B} episodes."
            )
        if not spec.agrees(own := spec_of(index(returned, 0))):
            raise ValueError(f"HostAgent: {name} returned a distribution of {own} for each episode, not of {spec}.")
        if isinstance(returned, Categorical):
            check_probabilities(returned.probs[exists], f"HostAgent: {name}, probabilities")
        return returned
    if not isinstance(spec, Symbols):
        raise ValueError(
            f"HostAgent: {name} returned {type(returned).__name__}, but it predicts {spec}; "
            "return a distribution with a leading axis of episodes, such as ud.Normal(loc, scale)."
        )
    probs = as_numbers(returned, f"HostAgent: what {name} returned").astype(float)
    if probs.shape != (shape := (B, num_symbols(spec))):
        raise ValueError(f"HostAgent: {name} returned probabilities of shape {list(probs.shape)}, not {list(shape)}.")
    check_probabilities(probs[exists], f"HostAgent: {name}, probabilities")
    with np.errstate(divide="ignore", invalid="ignore"):
        return Categorical(log_probs=jnp.asarray(np.log(probs), float))


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


@compiled
def _draw(predictions: AbstractDistribution, keys: Array) -> PyTree:
    return jax.vmap(lambda prediction, key: prediction.sample(RoundKeys.of(key).act))(predictions, keys)


@compiled
def _predict_observation(agent: AbstractAgent, m: Memory, a: Action | None, marks: Array) -> AbstractDistribution:
    return jax.vmap(lambda m, a, mark: agent.f_O(_after(agent, m, a, mark)))(m, a, marks)


def _read_all(
    agent: AbstractAgent, m: Memory, a: Action | None, o: Observation | None, marks: Array, exists: Array
) -> tuple[AbstractDistribution, Memory]:
    # `exists` alone gives the batch its size if the memory is empty and nothing was read yet.
    def one(
        m: Memory, a: Action | None, o: Observation | None, mark: Array, _: Array
    ) -> tuple[AbstractDistribution, Memory]:
        m = _after(agent, m, a, mark)
        m = m if o is None else agent.g_O(o, m)
        return agent.f_A(m), m

    return jax.vmap(one)(m, a, o, marks, exists)


_read = compiled(_read_all)


@compiled
def _turn(
    agent: AbstractAgent, m: Memory, a: Action | None, o: Observation | None, marks: Array, exists: Array, keys: Array
) -> tuple[AbstractDistribution, Action, Memory]:
    prediction, m = _read_all(agent, m, a, o, marks, exists)
    a, m = jax.vmap(lambda m, key: agent.act(m, key=RoundKeys.of(key).act))(m, keys)
    return prediction, a, m


def _after(agent: AbstractAgent, m: Memory, a: Action | None, mark: Array) -> Memory:
    return m if a is None else agent.g_A(a, m, intervened=mark)
