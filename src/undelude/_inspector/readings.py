"""How each party reads a history: its belief and its predictions in every round.

The programs take arrays of a fixed length N, whatever the length of the history, so that each is compiled once. Rounds
after the end of the history hold any symbols: no earlier result depends on them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from undelude._agents.exact import AbstractExactAgent, ExactAgent
from undelude._certificate.per_episode import implied_belief
from undelude._distributions import Categorical
from undelude._inspector.setting import Reader, Setting, Symbols, first
from undelude._inspector.worlds import scenes
from undelude._process.inference import expert_distributions
from undelude._tree import append
from undelude._types import Memory, Observation


class Reading(eqx.Module):
    """What one party believes and predicts in each round; logarithms in nats.

    Attributes:
        belief: `[N + 1, K]`, probabilities of theta before each action and after the last round. None if it is unknown;
            for a learned agent the belief that its prediction implies, NaN where none is.
        acted_belief: `[N, K]`, after each action and before its observation; None for an agent without a belief.
        opening: `[O]`, log-probabilities of `O_0`; None without an opening.
        actions: `[N + 1, A]`, log-probabilities of the next action.
        observations: `[N, O]`, log-probabilities of the next observation, after the action.
        impossible, acted_impossible: `[N]`, whether the observation, or the action, had probability 0 under every theta
            that the party thought possible. Its belief then stays as it was.
    """

    belief: Float[Array, "N1 K"] | None
    acted_belief: Float[Array, "N K"] | None
    opening: Float[Array, " O"] | None
    actions: Float[Array, "N1 A"]
    observations: Float[Array, "N O"]
    impossible: Bool[Array, " N"]
    acted_impossible: Bool[Array, " N"]


def read_all(setting: Setting, symbols: Symbols) -> tuple[Reading, ...]:
    """Return the reading of each party."""
    return tuple(_read(setting, reader, symbols) for reader in setting.readers)


def _read(setting: Setting, reader: Reader, symbols: Symbols) -> Reading:
    process, agent, A = setting.process, reader.agent, setting.A
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
    w, o = first(setting, symbols)
    if process.opening:
        opening = setting.log_observations(agent.f_O(m))
        m = pinned(agent.g_O(o, m), symbols.theta[0])

    def round(carry: tuple[Memory, Memory], x: tuple[Array, ...]) -> tuple[tuple[Memory, Memory], tuple]:
        (m, w), (theta, next_theta, a, o, marked, by_agent) = carry, x
        before = belief(m), setting.log_actions(agent.f_A(m))
        acted = agent.g_A(A[a], m, intervened=reader.intervened(marked, by_agent))
        acted, was_impossible = checked(acted)
        after = belief(acted), setting.log_observations(agent.f_O(acted))
        value = process.theta_value(theta)
        w = task.g_A(value, A[a], w)
        o = setting.observation(value, w, o)
        later, impossible = checked(agent.g_O(o, acted))
        return (pinned(later, next_theta), task.g_O(value, o, w)), (before, after, was_impossible, impossible)

    xs = (symbols.theta[:-1], symbols.theta[1:], *symbols[2:])
    (last, _), (before, after, was_impossible, impossible) = jax.lax.scan(round, (m, w), xs)
    beliefs, actions = append(before, (belief(last), setting.log_actions(agent.f_A(last))))
    return Reading(beliefs, after[0], opening, actions, after[1], impossible, was_impossible)


def implied_beliefs(setting: Setting, symbols: Symbols, log_probs: Float[Array, "N1 A"]) -> Float[Array, "N1 K"] | None:
    """Return the belief that each prediction of the action implies; None if it cannot be unique.

    It is fitted to `P(A) = sum_theta b(theta) Q(A | theta, e)`; see `implied_belief`.
    """
    process, agent = setting.process, ExactAgent(setting.process)
    _, opening = first(setting, symbols)
    m = agent.init(num_rounds=len(symbols.actions))
    m = m if opening is None else agent.g_O(opening, m)

    def round(m: Memory, x: tuple[Array, Observation]) -> tuple[Memory, Memory]:
        a, o = x
        return agent.g_O(o, agent.g_A(setting.A[a], m, intervened=jnp.ones((), bool))), m

    last, before = jax.lax.scan(round, m, (symbols.actions, scenes(setting, symbols).observations))

    def implied(m: Memory, log_p: Array) -> Array | None:
        return implied_belief(expert_distributions(process, m), Categorical(log_probs=log_p))

    return jax.vmap(implied)(append(before, last), log_probs)
