"""One episode of a process, round by round, with the information of an environment."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from undelude._distributions import AbstractDistribution, Autoregressive, Categorical, Normal
from undelude._process import inference
from undelude._process.inference import Belief
from undelude._process.process import InteractionProcess, ProcessState
from undelude._process.world import EpisodeKeys
from undelude._tree import where
from undelude._types import Action, Memory, Observation

# Entries of the information.
THETA, EXPERT_ACTION, DO, SEE = "theta", "expert_action", "belief_do", "belief_see"


class EpisodeState(eqx.Module):
    """An episode under way.

    Attributes:
        world: theta, and the memories of task and expert.
        done, seen: the exact beliefs that read actions as do and as see; None if Theta is continuous.
        acted: the memory of the task after the last action and before its observation, which `draw` is given.
        rounds: the key of the rounds.
        t: the rounds played.
    """

    world: ProcessState
    done: Belief | None
    seen: Belief | None
    acted: Memory
    rounds: Key[Array, ""]
    t: Int[Array, ""]


class Outcome(NamedTuple):
    """The start of an episode, or the outcome of an action.

    Attributes:
        observation: None at the start if Nature does not open.
        reward: of the action.
        terminated: whether the task ended the episode.
        truncated: whether round `T` is over, and the task has not ended the episode.
        info: theta, expert and beliefs.
    """

    observation: Observation | None
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    info: dict[str, PyTree]


def begin(
    process: InteractionProcess, base: Key[Array, ""], number: Int[Array, ""], theta: Int[Array, ""] | None = None
) -> tuple[EpisodeState, Outcome]:
    """Begin episode `number` of the stream `base`: that of `ud.rollout` with the key `base`."""
    key = jax.random.fold_in(base, number)
    world, opening = process.begin(key, theta)
    done = inference.init(process) if process.finite else None
    if done is not None and opening is not None:
        done = inference.update_observation(process, done, opening)
    acted = process.task.init(process.theta_value(world.theta))
    state = EpisodeState(world, done, done, acted, EpisodeKeys.of(key).rounds, jnp.zeros((), jnp.int32))
    no = jnp.zeros((), bool)
    return state, Outcome(opening, jnp.zeros(()), no, no, _info(process, state))


def step(process: InteractionProcess, state: EpisodeState, a: Action) -> tuple[EpisodeState, Outcome]:
    """Play one round."""
    # Equal to the entry `t` of `split(rounds, T)`, which `run_episode` takes.
    key = jax.random.fold_in(state.rounds, state.t)
    acted = process.task.g_A(process.theta_value(state.world.theta), a, state.world.w)
    world, o, reward, ended = process.respond(state.world, a, key)
    done, seen = (
        None
        if belief is None
        else inference.update_observation(process, inference.update_action(process, belief, a, mark), o)
        for belief, mark in ((state.done, True), (state.seen, False))
    )
    later = EpisodeState(world, done, seen, acted, state.rounds, state.t + 1)
    truncated = (later.t >= process.num_rounds) & ~ended
    return later, Outcome(o, reward, ended, truncated, _info(process, later))


def _info(process: InteractionProcess, state: EpisodeState) -> dict[str, PyTree]:
    Q_A, a_bar = process.consult(state.world, jax.random.fold_in(state.rounds, state.t))
    info = {THETA: process.theta(state.world), EXPERT_ACTION: a_bar} | _as_arrays(Q_A)
    if state.done is not None and state.seen is not None:
        info |= {DO: jnp.exp(state.done.log_posterior), SEE: jnp.exp(state.seen.log_posterior)}
    return info


def _as_arrays(Q_A: AbstractDistribution) -> dict[str, Array]:
    """Return the expert's distribution as plain arrays; nothing for a distribution that has no such form."""
    match Q_A:
        case Categorical():
            return {"expert_probs": Q_A.probs}
        case Normal():
            return {"expert_mean": Q_A.loc, "expert_std": jnp.broadcast_to(Q_A.scale, jnp.shape(Q_A.loc))}
        case Autoregressive() if (blocks := Q_A.support) is not None:
            shape = (Q_A.conditionals.num_categories,) * Q_A.conditionals.length
            return {"expert_probs": jnp.exp(jax.vmap(Q_A.log_prob)(jnp.asarray(blocks))).reshape(shape)}
    return {}


# Batches --------------------------------------------------------------------------------------------------------------


def begin_all(
    process: InteractionProcess,
    bases: Key[Array, " B"],
    numbers: Int[Array, " B"],
    thetas: Int[Array, " B"] | None = None,
) -> tuple[EpisodeState, Outcome]:
    """Begin an episode of each stream."""
    return jax.vmap(lambda *args: begin(process, *args))(bases, numbers, thetas)


def step_all(process: InteractionProcess, states: EpisodeState, a: Action) -> tuple[EpisodeState, Outcome]:
    """Play one round of each episode."""
    return jax.vmap(lambda state, a: step(process, state, a))(states, a)


def begin_some(
    process: InteractionProcess,
    states: EpisodeState,
    chosen: Bool[Array, " B"],
    bases: Key[Array, " B"],
    numbers: Int[Array, " B"],
    thetas: Int[Array, " B"] | None = None,
) -> tuple[EpisodeState, Outcome]:
    """Begin new episodes in the rows `chosen`; the other states stay as they are, and their outcomes say nothing."""
    fresh, outcome = begin_all(process, bases, numbers, thetas)
    return jax.vmap(where)(chosen, fresh, states), outcome


def to_host(outcome: Any) -> Any:
    """Return a PyTree of JAX's arrays in NumPy: numbers, and copies of arrays, which a user may write to."""
    return jax.tree.map(lambda x: np.array(x)[()], outcome)
