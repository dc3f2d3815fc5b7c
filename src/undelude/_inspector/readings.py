"""How each party reads a history: its belief and its predictions in every round.

The programs take arrays of a fixed length N, whatever the length of the history, so that each is compiled once. Rounds
after the end of the history hold any symbols: no earlier result depends on them.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from undelude._agents.exact import AbstractExactAgent, ExactAgent
from undelude._certificate.per_episode import implied_belief
from undelude._distributions import Categorical
from undelude._inspector.setting import Reader, Setting, Symbols, first, log_prob
from undelude._inspector.worlds import scenes
from undelude._process.inference import expert_distributions
from undelude._tree import append
from undelude._types import Memory, Observation


class Reading(eqx.Module):
    """What one party believes and predicts in each round; logarithms in nats.

    Predictions are log-probabilities of symbols, or distributions of real numbers.

    Attributes:
        belief: `[N + 1, K]`, probabilities of theta before each action and after the last round. None if it is unknown;
            for a learned agent the belief that its prediction implies, NaN where none is.
        acted_belief: `[N, K]`, after each action and before its observation; None for an agent without a belief.
        opening: the prediction of `O_0`; None without an opening.
        opening_impossible: whether the opening had probability 0.
        actions: `[N + 1]`, of the next action.
        observations: `[N]`, of the next observation, after the action.
        impossible, acted_impossible: `[N]`, whether the party gave the observation, or an action that it reads as
            evidence, probability 0. The belief of an exact agent then stays as it was.
    """

    belief: Float[Array, "N1 K"] | None
    acted_belief: Float[Array, "N K"] | None
    opening: Any
    opening_impossible: Bool[Array, ""]
    actions: Any
    observations: Any
    impossible: Bool[Array, " N"]
    acted_impossible: Bool[Array, " N"]


def read_all(setting: Setting, symbols: Symbols) -> tuple[Reading, ...]:
    """Return the reading of each party."""
    return tuple(_read(setting, reader, symbols) for reader in setting.readers)


def _read(setting: Setting, reader: Reader, symbols: Symbols) -> Reading:
    process, agent = setting.process, reader.agent
    task, no = process.task, jnp.zeros((), bool)

    def pinned(m: Memory, theta: Int[Array, ""]) -> Memory:
        """Return the memory of a party that is told theta."""
        if not reader.told or not isinstance(agent, AbstractExactAgent):
            return m
        log_prior = jnp.where(jnp.arange(process.num_thetas) == theta, 0.0, -jnp.inf)
        return agent.advance(m, eqx.tree_at(lambda b: b.log_posterior, agent.get_belief(m), log_prior))

    def checked(m: Memory) -> tuple[Memory, Bool[Array, ""]]:
        """Return the memory with its alarm reset, and whether it was raised."""
        if not isinstance(agent, AbstractExactAgent):
            return m, no
        belief = agent.get_belief(m)
        return agent.advance(m, eqx.tree_at(lambda b: b.impossible, belief, no)), belief.impossible

    def belief(m: Memory) -> Float[Array, " K"] | None:
        log_belief = agent.belief(m) if reader.believes else None
        return None if log_belief is None else jnp.exp(log_belief)

    m, opening = pinned(agent.init(num_rounds=len(symbols.actions)), symbols.theta[0]), None
    no_opening = no
    w, o = first(setting, symbols)
    if process.opening:
        opening = setting.of_observation(agent.f_O(m))
        m, was_raised = checked(agent.g_O(o, m))
        m, no_opening = pinned(m, symbols.theta[0]), was_raised | jnp.isneginf(log_prob(opening, symbols.opening))

    def round(carry: tuple[Memory, Memory], x: tuple[Array, ...]) -> tuple[tuple[Memory, Memory], tuple]:
        (m, w), (theta, next_theta, a, o, marked, by_agent) = carry, x
        before = belief(m), setting.of_action(agent.f_A(m))
        intervened = reader.intervened(marked, by_agent)
        acted, was_raised = checked(agent.g_A(setting.action(a), m, intervened=intervened))
        was_impossible = was_raised | (~intervened & jnp.isneginf(log_prob(before[1], a)))
        after = belief(acted), setting.of_observation(agent.f_O(acted))
        value = process.theta_value(theta)
        w = task.g_A(value, setting.action(a), w)
        later, is_raised = checked(agent.g_O(setting.observation(value, w, o), acted))
        impossible = is_raised | jnp.isneginf(log_prob(after[1], o))
        o = setting.observation(value, w, o)
        return (pinned(later, next_theta), task.g_O(value, o, w)), (before, after, was_impossible, impossible)

    xs = (symbols.theta[:-1], symbols.theta[1:], *symbols[2:])
    (last, _), (before, after, was_impossible, impossible) = jax.lax.scan(round, (m, w), xs)
    beliefs, actions = append(before, (belief(last), setting.of_action(agent.f_A(last))))
    return Reading(beliefs, after[0], opening, no_opening, actions, after[1], impossible, was_impossible)


def implied_beliefs(setting: Setting, symbols: Symbols, log_probs: Float[Array, "N1 A"]) -> Float[Array, "N1 K"] | None:
    """Return the belief that each prediction of the action implies; None if it cannot be unique.

    It is fitted to `P(A) = sum_theta b(theta) Q(A | theta, e)`; see `implied_belief`.
    """

    def implied(m: Memory, log_p: Array) -> Array | None:
        return implied_belief(expert_distributions(setting.process, m), Categorical(log_probs=log_p))

    return jax.vmap(implied)(_exact_memories(setting, symbols), log_probs)


def offered_actions(setting: Setting, symbols: Symbols) -> Bool[Array, "N1 A"]:
    """Return whether the expert may take each action, under any theta, before each round and after the last."""

    def offered(m: Memory) -> Bool[Array, " A"]:
        log_probs = jax.vmap(setting.of_action)(expert_distributions(setting.process, m))
        return (log_probs > -jnp.inf).any(0)

    return jax.vmap(offered)(_exact_memories(setting, symbols))


def _exact_memories(setting: Setting, symbols: Symbols) -> Memory:
    """Return the memories of the exact agent that reads all actions as do, `[N + 1, ...]`."""
    agent = ExactAgent(setting.process)
    _, opening = first(setting, symbols)
    m = agent.init(num_rounds=len(symbols.actions))
    m = m if opening is None else agent.g_O(opening, m)

    def round(m: Memory, x: tuple[Array, Observation]) -> tuple[Memory, Memory]:
        a, o = x
        return agent.g_O(o, agent.g_A(setting.action(a), m, intervened=jnp.ones((), bool))), m

    last, before = jax.lax.scan(round, m, (symbols.actions, scenes(setting, symbols).observations))
    return append(before, last)
