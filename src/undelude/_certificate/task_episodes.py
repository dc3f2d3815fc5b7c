"""The episodes that `check_task` plays, and the same histories replayed under other values of theta."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from undelude._agents.base import AbstractAgent
from undelude._distributions import AbstractDistribution, Categorical, Given, Joint, excess_mass
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._process.replay import replay
from undelude._process.task import AbstractExpert
from undelude._process.validation import first_Q_O
from undelude._rollout.scan import run_episode
from undelude._tree import index, prepend
from undelude._types import Action, Memory, Observation, Theta

# Episodes played, and the most thetas under which each is replayed.
EPISODES, MAX_THETAS = 64, 16


class ExpertOfTheta(AbstractAgent[Memory]):
    """The expert who was shown `theta`, as an agent in episodes of any theta. It predicts no observations."""

    expert: AbstractExpert
    theta: Theta

    @property
    def trainable(self) -> bool:
        """False: it predicts no observations."""
        return False

    def init(self, *, num_rounds: int) -> Memory:
        """Return the expert's memory at the start."""
        del num_rounds
        return self.expert.init(self.theta)

    def f_A(self, m: Memory) -> AbstractDistribution:
        """Return `Q(A | theta, m)`."""
        return self.expert.Q_A(self.theta, m)

    def f_O(self, m: Memory) -> AbstractDistribution:
        """Raise a `TypeError`: it predicts no observations."""
        raise TypeError("an expert predicts no observations.")

    def g_A(self, a: Action, m: Memory, *, intervened: Bool[Array, ""] | bool) -> Memory:
        """Return the expert's memory after the action `a`; an expert reads both marks alike."""
        del intervened
        return self.expert.g_A(self.theta, a, m)

    def g_O(self, o: Observation, m: Memory) -> Memory:
        """Return the expert's memory after the observation `o`."""
        return self.expert.g_O(self.theta, o, m)


class Played(eqx.Module):
    """Episodes in which the expert of another theta acts, as an agent does that believes in a wrong theta.

    Attributes:
        episodes: `[B, T]`.
        acting_theta: `[B]`, the theta of the expert that acted.
        theta_changes: whether `episodes.theta` is that of each round.
    """

    episodes: Episodes
    acting_theta: PyTree
    theta_changes: bool = eqx.field(static=True)


class Probe(NamedTuple):
    """The check of a distribution by one of its own samples.

    Attributes:
        log_prob: of the sample, nats.
        excess: by how much the probabilities miss a sum of one.
    """

    log_prob: Float[Array, "*B"]
    excess: Float[Array, "*B"]


class Replayed(eqx.Module):
    """The same histories under other thetas, `[B, K, T, ...]`.

    Attributes:
        given_opening: the `Given` parts of the opening, `[B, K, ...]`.
        given: the `Given` parts of the observations.
        memories: of task and expert, after the action and after the observation; each only if it declares
            `theta_free_memory`.
        policies: the expert's probabilities; None if actions are not symbols.
        evidence: `[B, K, T + 1]`, the log-probability of the opening (0 without one) and of each observation.
        possible_before: whether the round exists, and a theta allows all observations before it.
        possible_after: whether the round exists, and a theta allows all observations up to and including its own.
    """

    given_opening: list[PyTree]
    given: list[PyTree]
    memories: dict[str, PyTree]
    policies: Array | None
    evidence: Float[Array, "*B T1"]
    possible_before: Bool[Array, "*B T"]
    possible_after: Bool[Array, "*B T"]


def player(process: InteractionProcess, key: Key[Array, ""], num_rounds: int) -> Callable[[], Played]:
    """Return a function that plays 64 episodes, the same ones each time it is called."""

    def one(i: Array) -> Played:
        key_theta, key_episode = jax.random.split(jax.random.fold_in(key, i))
        acting_theta = process.sample_theta(key_theta)
        actor = ExpertOfTheta(process.expert, process.theta_value(acting_theta))
        episode, _ = run_episode(process, actor, key_episode, num_rounds=num_rounds)
        return Played(episode, acting_theta, process.theta_changes)

    play_all = jax.jit(jax.vmap(one))
    return lambda: play_all(jnp.arange(EPISODES))


def probe(process: InteractionProcess, played: Played, key: Key[Array, ""]) -> dict[str, Probe]:
    """Return a probe of every distribution in the episodes.

    Returns:
        By method: `[B, T]`, zeros for rounds that do not exist; for the opening, `[B]`.
    """

    def one(played: Played, key: Key[Array, ""]) -> dict[str, Probe]:
        episode, acting = played.episodes, process.theta_value(played.acting_theta)
        states, of_actor = replay(process, episode), replay(process, episode, theta=acting)

        def round(t: Array) -> dict[str, Probe]:
            theta, w, e = index((states.theta, states.acted_w, of_actor.e), t)
            distributions = {"expert.Q_A": process.expert.Q_A(acting, e), "task.Q_O": process.task.Q_O(theta, w)}
            if process.transition is not None:
                distributions["transition"] = process.transition(theta, index(states.w, t + 1))
            probes = {name: _probe(x, jax.random.fold_in(key, t)) for name, x in distributions.items()}
            return jax.tree.map(lambda x: jnp.where(episode.mask[t], x, 0.0), probes)

        probes = jax.vmap(round)(jnp.arange(episode.num_rounds))
        if process.opening:
            Q_O = first_Q_O(process, index(states.theta, 0))
            probes["task.Q_O of the opening"] = _probe(Q_O, jax.random.fold_in(key, episode.num_rounds))
        return probes

    return jax.jit(jax.vmap(one))(played, jax.random.split(key, EPISODES))


def replay_under_others(process: InteractionProcess, episodes: Episodes, key: Key[Array, ""]) -> Replayed:
    """Replay each episode under every theta; if there are many, under its own and some drawn from the prior.

    A theta of prior 0 counts only with a transition, which may lead to it.
    """
    every = None
    if process.finite:
        occurring = jnp.flatnonzero(process.theta_changes | (process.log_prior > -jnp.inf))
        every = index(process.thetas, occurring) if len(occurring) <= MAX_THETAS else None

    def one(episode: Episodes, key: Array) -> Replayed:
        if every is not None:
            values = every
        else:
            others = jax.vmap(process.sample_theta)(jax.random.split(key, MAX_THETAS - 1))
            own = index(episode.theta, 0) if process.theta_changes else episode.theta
            thetas = jax.tree.map(lambda x, xs: jnp.concatenate([jnp.asarray(x)[None], xs]), own, others)
            values = jax.vmap(process.theta_value)(thetas)
        return jax.vmap(lambda value: _replay_under(process, value, episode))(values)

    keys = jax.random.split(jax.random.fold_in(key, EPISODES), EPISODES)
    return jax.jit(jax.vmap(one))(episodes, keys)


def _probe(distribution: AbstractDistribution, key: Key[Array, ""]) -> Probe:
    return Probe(distribution.log_prob(distribution.sample(key)), excess_mass(distribution))


def _replay_under(process: InteractionProcess, theta: Theta, episode: Episodes) -> Replayed:
    task, expert = process.task, process.expert
    states = replay(process, episode, theta=theta)
    log_prob, given_opening = jnp.zeros(()), []
    if episode.opening is not None:
        Q_O = first_Q_O(process, theta)
        log_prob, given_opening = Q_O.log_prob(episode.opening), _given_parts(Q_O)

    def round(t: Array) -> tuple[Array, list[PyTree], Array | None]:
        Q_O = task.Q_O(theta, index(states.acted_w, t))
        Q_A = expert.Q_A(theta, index(states.e, t))
        log_prob = jnp.where(episode.mask[t], Q_O.log_prob(index(episode.observations, t)), 0.0)
        return log_prob, _given_parts(Q_O), Q_A.probs if isinstance(Q_A, Categorical) else None

    log_probs, given, policies = jax.vmap(round)(jnp.arange(episode.num_rounds))
    # One more entry than there are rounds.
    evidence = prepend(log_prob, log_probs)
    possible = jnp.isfinite(jnp.cumsum(evidence))
    later_w, later_e = jax.tree.map(lambda x: x[1:], (states.w, states.e))
    memories = {"task": (states.acted_w, later_w)} if task.theta_free_memory else {}
    memories |= {"expert": (states.acted_e, later_e)} if expert.theta_free_memory else {}
    exists = episode.mask
    return Replayed(given_opening, given, memories, policies, evidence, possible[:-1] & exists, possible[1:] & exists)


def _given_parts(distribution: AbstractDistribution) -> list[PyTree]:
    match distribution:
        case Given():
            return [distribution.value, distribution.up_to]
        case Joint():
            return [value for part in distribution.distributions for value in _given_parts(part)]
    return []
