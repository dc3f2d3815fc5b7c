"""The world of one episode but the agent: Nature and the expert (Figure 4)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from undelude._distributions import AbstractDistribution
from undelude._process.process import InteractionProcess
from undelude._types import Action, Observation


class World(eqx.Module):
    """Everything of one episode but the agent: theta as it is now, and what Nature and the expert remember."""

    theta: PyTree
    w: PyTree
    e: PyTree


def begin(
    process: InteractionProcess, key: Key[Array, ""], theta: PyTree | None = None
) -> tuple[World, Observation | None]:
    """The world before the first action of an episode, and `O_0`, where there is one; `key` is the episode's."""
    task, expert = process.task, process.expert
    key_theta, key_opening, *_ = jax.random.split(key, 4)
    theta = process.sample_theta(key_theta) if theta is None else jnp.asarray(theta, jnp.int32)
    value = process.theta_value(theta)
    w, e = task.init(value), expert.init(value)
    if not process.opening:
        return World(theta, w, e), None
    opening = task.Q_O(value, w).sample(key_opening)
    w, e = task.g_O(value, opening, w), expert.g_O(value, opening, e)
    return World(_next_theta(process, theta, w, jax.random.fold_in(key_opening, 1)), w, e), opening


def acting_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """Of what an agent draws in the round whose key is `key`."""
    return jax.random.split(key, 4)[0]


def consult(process: InteractionProcess, world: World, key: Key[Array, ""]) -> tuple[AbstractDistribution, Action]:
    """What the expert would do in the round whose key is `key`: its distribution, and a sample."""
    Q_A = process.expert.Q_A(process.theta_value(world.theta), world.e)
    return Q_A, Q_A.sample(jax.random.split(key, 4)[1])


def respond(
    process: InteractionProcess, world: World, a: Action, key: Key[Array, ""]
) -> tuple[World, Observation, Array]:
    """What becomes of the action `a` in the round whose key is `key`: the world after it, `o`, and the reward."""
    task, expert = process.task, process.expert
    _, _, key_observe, key_theta = jax.random.split(key, 4)
    value = process.theta_value(world.theta)
    w, e = task.g_A(value, a, world.w), expert.g_A(value, a, world.e)
    o = task.Q_O(value, w).sample(key_observe)
    reward = jnp.asarray(task.reward(value, w, a, o), dtype=float)
    w, e = task.g_O(value, o, w), expert.g_O(value, o, e)
    return World(_next_theta(process, world.theta, w, key_theta), w, e), o, reward


def _next_theta(process: InteractionProcess, theta: PyTree, w: PyTree, key: Array) -> PyTree:
    if process.transition is None:
        return theta
    return process.transition(process.theta_value(theta), w).sample(key)
