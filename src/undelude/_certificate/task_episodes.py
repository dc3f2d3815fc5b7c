"""The episodes that `check_task` plays, and the same histories replayed under other values of theta."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from undelude._distributions import AbstractDistribution, Categorical, Given, Joint, excess_mass
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._tree import append, index, where
from undelude._types import Action, Observation, Theta

# Episodes played, and the most thetas under which each is replayed.
EPISODES, MAX_THETAS = 64, 16


class Played(eqx.Module):
    """Episodes in which the expert of another theta acts, as an agent does that believes in a wrong theta.

    Attributes:
        episodes: `[B, T]`, without the expert's distributions.
        acting_theta: `[B]`, the theta of the expert that acted.
        log_probs: by method, `[B]` or `[B, T]`: of the method's sample under its own distribution, nats.
        excess: by method, `[B]` or `[B, T]`: by how much the probabilities miss a sum of one.
        has_transition: whether theta changes during an episode.
    """

    episodes: Episodes
    acting_theta: PyTree
    log_probs: dict[str, Array]
    excess: dict[str, Array]
    has_transition: bool = eqx.field(static=True)


class Replayed(eqx.Module):
    """The same histories under other thetas, `[B, K, T, ...]`.

    Attributes:
        given_opening: the `Given` parts of the opening, `[B, K, ...]`.
        given: the `Given` parts of the observations.
        memories: of task and expert, each only if it declares `theta_free_memory`.
        policies: the expert's probabilities; None if actions are not symbols.
        possible_before: whether a theta allows all observations before the round.
        possible_after: whether a theta allows all observations up to and with the round's.
    """

    given_opening: list[PyTree]
    given: list[PyTree]
    memories: dict[str, PyTree]
    policies: Array | None
    possible_before: Array
    possible_after: Array


def play(process: InteractionProcess, key: Key[Array, ""], num_rounds: int) -> Played:
    """Play 64 episodes.

    Every call traces the methods again. A method that draws random numbers in Python then draws others.
    """
    task, expert = process.task, process.expert

    def one(i: Array) -> Played:
        key_theta, key_other, key_opening, key_rounds = jax.random.split(jax.random.fold_in(key, i), 4)
        theta, acting_theta = process.sample_theta(key_theta), process.sample_theta(key_other)
        value, acting_value = process.theta_value(theta), process.theta_value(acting_theta)
        w, e = task.init(value), expert.init(acting_value)
        opening, log_probs, excess = None, {}, {}
        if process.opening:
            Q_O = task.Q_O(value, w)
            opening = Q_O.sample(key_opening)
            log_probs["task.Q_O of the opening"] = Q_O.log_prob(opening)
            excess["task.Q_O of the opening"] = excess_mass(Q_O)
            w, e = task.g_O(value, opening, w), expert.g_O(acting_value, opening, e)

        def round(state: tuple[PyTree, PyTree, PyTree, Array], key: Array) -> tuple[PyTree, PyTree]:
            theta, w, e, exists = state
            before = theta, w, e
            value = process.theta_value(theta)
            key_a, key_o, key_theta = jax.random.split(key, 3)
            Q_A = expert.Q_A(acting_value, e)
            a = Q_A.sample(key_a)
            w, e = task.g_A(value, a, w), expert.g_A(acting_value, a, e)
            Q_O = task.Q_O(value, w)
            o = Q_O.sample(key_o)
            reward = task.reward(value, w, a, o)
            log_probs = {"expert.Q_A": Q_A.log_prob(a), "task.Q_O": Q_O.log_prob(o)}
            excess = {"expert.Q_A": excess_mass(Q_A), "task.Q_O": excess_mass(Q_O)}
            w, e = task.g_O(value, o, w), expert.g_O(acting_value, o, e)
            later = theta
            if process.transition is not None:
                Q_theta = process.transition(value, w)
                later = Q_theta.sample(key_theta)
                log_probs["transition"] = Q_theta.log_prob(later)
                excess["transition"] = excess_mass(Q_theta)
            after = later, w, e
            if process.ends_early:
                # After the end nothing changes, and nothing is checked.
                after = where(exists, after, before)
                reward, log_probs, excess = jax.tree.map(
                    lambda x: jnp.where(exists, x, jnp.zeros_like(x)), (reward, log_probs, excess)
                )
            return (*after, exists & ~task.ends(o)), (before[0], a, o, reward, log_probs, excess, exists)

        (last, *_), (path, actions, observations, rewards, log_probs_of_rounds, excess_of_rounds, mask) = jax.lax.scan(
            round, (theta, w, e, jnp.ones((), bool)), jax.random.split(key_rounds, num_rounds)
        )
        episodes = Episodes(
            theta=theta if process.transition is None else append(path, last),
            opening=opening,
            actions=actions,
            observations=observations,
            executor=jnp.zeros(num_rounds, int),
            intervened=jnp.ones(num_rounds, bool),
            expert=None,
            expert_actions=None,
            reward=jnp.asarray(rewards, float),
            mask=mask,
        )
        return Played(
            episodes,
            acting_theta,
            log_probs | log_probs_of_rounds,
            excess | excess_of_rounds,
            process.transition is not None,
        )

    return jax.jit(jax.vmap(one))(jnp.arange(EPISODES))


def replay(process: InteractionProcess, episodes: Episodes, key: Key[Array, ""]) -> Replayed:
    """Replay each episode under every theta; if there are many, under its own and some drawn from the prior."""

    def one(episode: Episodes, key: Array) -> Replayed:
        if process.finite and process.num_thetas <= MAX_THETAS:
            values = process.thetas
        else:
            others = jax.vmap(process.sample_theta)(jax.random.split(key, MAX_THETAS - 1))
            own = episode.theta if process.transition is None else index(episode.theta, 0)
            thetas = jax.tree.map(lambda x, xs: jnp.concatenate([jnp.asarray(x)[None], xs]), own, others)
            values = jax.vmap(process.theta_value)(thetas)
        return jax.vmap(lambda value: _replay_under(process, value, episode))(values)

    keys = jax.random.split(jax.random.fold_in(key, EPISODES), EPISODES)
    return jax.jit(jax.vmap(one))(episodes, keys)


def _replay_under(process: InteractionProcess, value: Theta, episode: Episodes) -> Replayed:
    task, expert = process.task, process.expert
    w, e = task.init(value), expert.init(value)
    log_prob, given_opening = jnp.zeros(()), []
    if episode.opening is not None:
        Q_O = task.Q_O(value, w)
        log_prob, given_opening = Q_O.log_prob(episode.opening), _given_parts(Q_O)
        w, e = task.g_O(value, episode.opening, w), expert.g_O(value, episode.opening, e)

    def round(carry: tuple[PyTree, PyTree, Array], x: tuple[Action, Observation, Array]) -> tuple[PyTree, PyTree]:
        w, e, before = carry
        a, o, exists = x
        Q_A = expert.Q_A(value, e)
        w, e = task.g_A(value, a, w), expert.g_A(value, a, e)
        Q_O = task.Q_O(value, w)
        after = before + Q_O.log_prob(o)
        memories = {"task": w} if task.theta_free_memory else {}
        memories |= {"expert": e} if expert.theta_free_memory else {}
        policy = Q_A.probs if isinstance(Q_A, Categorical) else None
        found = (_given_parts(Q_O), memories, policy, jnp.isfinite(before), jnp.isfinite(after))
        later = task.g_O(value, o, w), expert.g_O(value, o, e), after
        return (where(exists, later, carry) if process.ends_early else later), found

    _, found = jax.lax.scan(round, (w, e, log_prob), (episode.actions, episode.observations, episode.mask))
    return Replayed(given_opening, *found)


def _given_parts(distribution: AbstractDistribution) -> list[PyTree]:
    match distribution:
        case Given():
            return [distribution.value, distribution.up_to]
        case Joint():
            return [value for part in distribution.distributions for value in _given_parts(part)]
    return []
