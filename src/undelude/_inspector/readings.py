"""The programs of the inspector: how each party reads a history, and how an episode goes on.

Both take arrays of a fixed length N, whatever the length of the history, so that each is compiled once. Rounds after
the end of the history hold any symbols: no earlier result depends on them.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._agents.base import AbstractAgent
from undelude._agents.exact import AbstractExactAgent, ExactAgent
from undelude._certificate.per_episode import implied_belief
from undelude._distributions import AbstractDistribution, Categorical
from undelude._distributions.discrete import log_probs_of
from undelude._process import inference
from undelude._process.inference import expert_distributions
from undelude._process.process import InteractionProcess
from undelude._process.world import EpisodeKeys, RoundKeys
from undelude._tree import append, prepend
from undelude._types import Memory

# How a party reads past actions. "marked": as the history marks them. "do", "see": its own as interventions or as
# evidence, and those of the expert as evidence. "always do": all as interventions, for agents that know no other mark.
Reads = Literal["marked", "do", "see", "always do"]


class Reader(eqx.Module):
    """An agent that reads a history.

    Attributes:
        agent: the agent.
        reads: how it reads past actions.
        told: whether it is told theta in each round; for exact agents only.
        believes: whether its belief is about the thetas of the process.
    """

    agent: AbstractAgent
    reads: Reads = eqx.field(static=True)
    told: bool = eqx.field(static=True, default=False)
    believes: bool = eqx.field(static=True, default=True)

    def intervened(self, marked: Bool[Array, ""], by_agent: Bool[Array, ""]) -> Bool[Array, ""]:
        """Return whether the party reads an action as an intervention."""
        match self.reads:
            case "marked":
                return marked
            case "do":
                return by_agent
            case "see":
                return jnp.zeros_like(marked)
            case _:
                return jnp.ones_like(marked)


class Symbols(NamedTuple):
    """A history as arrays; symbols are indices of the alphabets.

    Attributes:
        theta: `[N + 1]`, before each round and after the last.
        opening: of the episode; 0 if the process has none.
        actions, observations: `[N]`.
        intervened: `[N]`, the marks.
        by_agent: `[N]`, whether the agent executed the action.
    """

    theta: Int[Array, " N1"]
    opening: Int[Array, ""]
    actions: Int[Array, " N"]
    observations: Int[Array, " N"]
    intervened: Bool[Array, " N"]
    by_agent: Bool[Array, " N"]


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


class Setting(eqx.Module):
    """A process and the parties that read its episodes, as one PyTree.

    Attributes:
        process: the process.
        A, O: the values of actions and of observations; elsewhere here a symbol is an index of these.
        readers: the parties; for `play_on` the one that acts, or none if the expert does.
    """

    process: InteractionProcess
    A: Int[Array, "A *L"]
    O: Int[Array, "O *J"]
    readers: tuple[Reader, ...] = ()


def read_all(setting: Setting, symbols: Symbols) -> tuple[Reading, ...]:
    """Return the reading of each party."""
    return tuple(_read(setting, reader, symbols) for reader in setting.readers)


def _read(setting: Setting, reader: Reader, symbols: Symbols) -> Reading:
    process, agent, A, O = setting.process, reader.agent, setting.A, setting.O
    no = jnp.zeros((), bool)

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
    if process.opening:
        opening = _log_probs(O, agent.f_O(m))
        m = pinned(agent.g_O(O[symbols.opening], m), symbols.theta[0])

    def round(m: Memory, x: tuple[Array, ...]) -> tuple[Memory, tuple]:
        theta, a, o, marked, by_agent = x
        before = belief(m), _log_probs(A, agent.f_A(m))
        acted = agent.g_A(A[a], m, intervened=reader.intervened(marked, by_agent))
        acted, was_impossible = checked(acted)
        after = belief(acted), _log_probs(O, agent.f_O(acted))
        later, impossible = checked(agent.g_O(O[o], acted))
        return pinned(later, theta), (before, after, was_impossible, impossible)

    xs = (symbols.theta[1:], symbols.actions, symbols.observations, symbols.intervened, symbols.by_agent)
    last, (before, after, was_impossible, impossible) = jax.lax.scan(round, m, xs)
    beliefs, actions = append(before, (belief(last), _log_probs(A, agent.f_A(last))))
    return Reading(beliefs, after[0], opening, actions, after[1], impossible, was_impossible)


def implied_beliefs(setting: Setting, symbols: Symbols, log_probs: Float[Array, "N1 A"]) -> Float[Array, "N1 K"] | None:
    """Return the belief that each prediction of the action implies; None if it cannot be unique.

    It is fitted to `P(A) = sum_theta b(theta) Q(A | theta, e)`; see `implied_belief`.
    """
    process, agent = setting.process, ExactAgent(setting.process)
    m = agent.init(num_rounds=len(symbols.actions))
    m = agent.g_O(setting.O[symbols.opening], m) if process.opening else m

    def round(m: Memory, x: tuple[Array, Array]) -> tuple[Memory, Memory]:
        a, o = x
        acted = agent.g_A(setting.A[a], m, intervened=jnp.ones((), bool))
        return agent.g_O(setting.O[o], acted), m

    last, before = jax.lax.scan(round, m, (symbols.actions, symbols.observations))

    def implied(m: Memory, log_p: Array) -> Array | None:
        return implied_belief(expert_distributions(process, m), Categorical(log_probs=log_p))

    return jax.vmap(implied)(append(before, last), log_probs)


class Continued(NamedTuple):
    """An episode that went on; the first rounds are those of the history.

    Attributes:
        theta: `[N + 1]`, before each round and after the last.
        actions, observations: `[N]`.
        expert_actions: `[N]`, what the expert would have done.
        ended: `[N]`, whether the episode ends with this observation.
    """

    theta: Int[Array, " N1"]
    actions: Int[Array, " N"]
    observations: Int[Array, " N"]
    expert_actions: Int[Array, " N"]
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
    process, A, O = setting.process, setting.A, setting.O
    reader = setting.readers[0] if setting.readers else None
    keys = EpisodeKeys.of(jax.random.fold_in(key, 0))
    N = len(symbols.actions)
    agent = None if reader is None else reader.agent
    value = process.theta_value(symbols.theta[0])
    w, e = process.task.init(value), process.expert.init(value)
    m = None if agent is None else agent.init(num_rounds=N)
    if process.opening:
        o = O[symbols.opening]
        w, e = process.task.g_O(value, o, w), process.expert.g_O(value, o, e)
        m = None if agent is None else agent.g_O(o, m)

    def round(carry: tuple, x: tuple[Array, ...]) -> tuple[tuple, tuple]:
        theta, w, e, m = carry
        t, next_theta, a, o, marked, by_agent = x
        round_keys, value = RoundKeys.of(jax.random.fold_in(keys.rounds, t)), process.theta_value(theta)
        a_bar = process.expert.Q_A(value, e).sample(round_keys.expert)
        sampled, later = (a_bar, m) if agent is None else agent.act(m, key=round_keys.act)
        is_known = t < num_actions
        action = jnp.where(is_known, A[a], sampled)
        if reader is not None:
            intervened = reader.intervened(jnp.where(is_known, marked, own), jnp.where(is_known, by_agent, True))
            later = reader.agent.g_A(action, later, intervened=intervened)
        w, e = process.task.g_A(value, action, w), process.expert.g_A(value, action, e)
        observation = jnp.where(t < num_observations, O[o], process.task.Q_O(value, w).sample(round_keys.observation))
        w, e = process.task.g_O(value, observation, w), process.expert.g_O(value, observation, e)
        later = None if agent is None else agent.g_O(observation, later)
        following = theta
        if process.transition is not None:
            drawn = process.transition(value, w).sample(round_keys.theta)
            following = jnp.where(t < num_observations, next_theta, drawn)
        row = following, _index(A, action), _index(O, observation), _index(A, a_bar), process.task.ends(observation)
        return (following, w, e, later), row

    xs = (jnp.arange(N), symbols.theta[1:], *symbols[2:])
    _, (theta, actions, observations, a_bar, ended) = jax.lax.scan(round, (symbols.theta[0], w, e, m), xs)
    return Continued(prepend(symbols.theta[0], theta), actions, observations, a_bar, ended)


def rewards(setting: Setting, symbols: Symbols) -> Float[Array, " N"]:
    """Return the reward of each round under the true theta."""
    process, A, O = setting.process, setting.A, setting.O
    value = process.theta_value(symbols.theta[0])
    w = process.task.init(value)
    w = process.task.g_O(value, O[symbols.opening], w) if process.opening else w

    def round(w: Memory, x: tuple[Array, Array, Array]) -> tuple[Memory, Float[Array, ""]]:
        theta, a, o = x
        value, a, o = process.theta_value(theta), A[a], O[o]
        w = process.task.g_A(value, a, w)
        return process.task.g_O(value, o, w), jnp.asarray(process.task.reward(value, w, a, o), float)

    return jax.lax.scan(round, w, (symbols.theta[:-1], symbols.actions, symbols.observations))[1]


def first_actions(setting: Setting) -> Float[Array, "K A"]:
    """Return the expert's probabilities of its first action under each theta, before any opening."""
    distributions = expert_distributions(setting.process, inference.init(setting.process))
    return jnp.exp(jax.vmap(lambda distribution: _log_probs(setting.A, distribution))(distributions))


def begin(setting: Setting, key: Key[Array, ""], theta: Int[Array, ""]) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Return theta, drawn from the prior if it is -1, and the opening, or 0 without one."""
    keys = EpisodeKeys.of(jax.random.fold_in(key, 0))
    drawn = setting.process.sample_theta(keys.theta)
    state, o = setting.process.begin(jax.random.fold_in(key, 0), jnp.where(theta < 0, drawn, theta))
    return state.theta, jnp.zeros((), jnp.int32) if o is None else _index(setting.O, o)


def _log_probs(values: Int[Array, "n *L"], distribution: AbstractDistribution) -> Float[Array, " n"]:
    """Return the log-probability of each value."""
    return distribution.log_probs if isinstance(distribution, Categorical) else log_probs_of(distribution, values)


def _index(values: Int[Array, "n *L"], value: Int[Array, "*L"]) -> Int[Array, ""]:
    """Return the index of a value."""
    n = len(values)
    return jnp.argmax((values.reshape(n, -1) == value.reshape(1, -1)).all(1)).astype(jnp.int32)
