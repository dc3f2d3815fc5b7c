"""Nature and the expert under the true theta: how an episode begins and goes on, and what its world is like."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._inspector.setting import Setting, Symbols, first
from undelude._process.world import EpisodeKeys, RoundKeys
from undelude._tree import append, prepend, where
from undelude._types import Memory, Observation, Value


class Scenes(NamedTuple):
    """The world of a history.

    Attributes:
        w: `[N + 1, ...]`, memories of the task before each action and after the last round.
        acted_w: `[N, ...]`, memories after each action.
        observations: `[N, ...]`, with their given parts.
        rewards: `[N]`.
        opening: of the episode, with its given parts; None if the process has none.
    """

    w: Memory
    acted_w: Memory
    observations: Observation
    rewards: Float[Array, " N"]
    opening: Observation | None


def scenes(setting: Setting, symbols: Symbols) -> Scenes:
    """Return the world of a history under its true theta."""
    process = setting.process
    w, opening = first(setting, symbols)

    def round(w: Memory, x: tuple[Array, Array, Array]) -> tuple[Memory, tuple]:
        theta, a, o = x
        value, action = process.theta_value(theta), setting.action(a)
        acted = process.task.g_A(value, action, w)
        o = setting.observation(value, acted, o)
        reward = jnp.asarray(process.task.reward(value, acted, action, o), float)
        return process.task.g_O(value, o, acted), (w, acted, o, reward)

    last, (before, acted, o, rewards) = jax.lax.scan(
        round, w, (symbols.theta[:-1], symbols.actions, symbols.observations)
    )
    return Scenes(append(before, last), acted, o, rewards, opening)


class Continued(NamedTuple):
    """An episode that went on; the first rounds are those of the history.

    Attributes:
        theta: `[N + 1]`, before each round and after the last.
        actions, observations: `[N, ...]`, as a history holds them.
        expert_actions: `[N, ...]`, what the expert would have done.
        ended: `[N]`, whether the episode ends with this observation.
    """

    theta: Int[Array, " N1"]
    actions: Value
    observations: Value
    expert_actions: Value
    ended: Bool[Array, " N"]


def play_on(
    setting: Setting,
    symbols: Symbols,
    num_actions: Int[Array, ""],
    num_observations: Int[Array, ""],
    key: Key[Array, ""],
    own: Bool[Array, ""],
) -> Continued:
    """Return the episode with all actions after the first `num_actions`, and observations alike, sampled.

    The random numbers of a round depend on `key` and the round alone. With `key` that of `ud.rollout`, and from the
    first round on, this is episode 0 of that rollout.

    Args:
        setting: with the party that executes the sampled actions, or none for the expert.
        symbols: the history.
        num_actions: how many of its actions are known.
        num_observations: how many of its observations are known.
        key: of the episodes.
        own: how the party reads the actions that it executes now: true for do.
    """
    process = setting.process
    reader = setting.readers[0] if setting.readers else None
    keys = EpisodeKeys.of(jax.random.fold_in(key, 0))
    N = len(symbols.actions)
    agent = None if reader is None else reader.agent
    w, opening = first(setting, symbols)
    value = process.theta_value(symbols.theta[0])
    e, m = process.expert.init(value), None if agent is None else agent.init(num_rounds=N)
    if opening is not None:
        e = process.expert.g_O(value, opening, e)
        m = None if agent is None else agent.g_O(opening, m)

    def round(carry: tuple, x: tuple[Array, ...]) -> tuple[tuple, tuple]:
        theta, w, e, m = carry
        t, next_theta, a, o, marked, by_agent = x
        round_keys, value = RoundKeys.of(jax.random.fold_in(keys.rounds, t)), process.theta_value(theta)
        a_bar = process.expert.Q_A(value, e).sample(round_keys.expert)
        sampled, later = (a_bar, m) if agent is None else agent.act(m, key=round_keys.act)
        is_known = t < num_actions
        action = where(is_known, setting.action(a), sampled)
        if reader is not None:
            intervened = reader.intervened(jnp.where(is_known, marked, own), jnp.where(is_known, by_agent, True))
            later = reader.agent.g_A(action, later, intervened=intervened)
        w, e = process.task.g_A(value, action, w), process.expert.g_A(value, action, e)
        drawn = process.task.Q_O(value, w).sample(round_keys.observation)
        observation = where(t < num_observations, setting.observation(value, w, o), drawn)
        w, e = process.task.g_O(value, observation, w), process.expert.g_O(value, observation, e)
        later = None if agent is None else agent.g_O(observation, later)
        following = theta
        if process.transition is not None:
            changed = process.transition(value, w).sample(round_keys.theta)
            following = jnp.where(t < num_observations, next_theta, changed)
        indices = setting.action_index(action), setting.symbol(observation), setting.action_index(a_bar)
        row = following, *indices, process.task.ends(observation)
        return (following, w, e, later), row

    xs = (jnp.arange(N), symbols.theta[1:], *symbols[2:])
    _, (theta, actions, observations, a_bar, ended) = jax.lax.scan(round, (symbols.theta[0], w, e, m), xs)
    return Continued(prepend(symbols.theta[0], theta), actions, observations, a_bar, ended)


def begin(setting: Setting, key: Key[Array, ""], theta: Int[Array, ""]) -> tuple[Int[Array, ""], Value]:
    """Return theta, drawn from the prior if it is -1, and the opening, or 0 without one."""
    keys = EpisodeKeys.of(jax.random.fold_in(key, 0))
    drawn = setting.process.sample_theta(keys.theta)
    state, o = setting.process.begin(jax.random.fold_in(key, 0), jnp.where(theta < 0, drawn, theta))
    return state.theta, jnp.zeros((), jnp.int32) if o is None else setting.symbol(o)
