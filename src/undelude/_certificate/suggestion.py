"""Auto-suggestion in a simulator: what an own action that had no effect tells an agent about the next one."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._certificate.per_episode import predict_to_the_end
from undelude._certificate.quantity import Quantity
from undelude._checks import check_count, check_key, one_line
from undelude._compiled import compiled_for
from undelude._distributions import AbstractDistribution, divergences, mixture
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld
from undelude._rollout.rollout import run, run_once
from undelude._tree import index
from undelude._types import Action

# Pairs of actions without effect from which the quantity is estimated, and the least number of them.
MAX_PAIRS, MIN_PAIRS = 32, 8


def auto_suggestion(
    world: AbstractHostWorld, agent: AbstractAgent, *, key: Key[Array, ""], num_episodes: int = 256
) -> Quantity:
    """Measure what an own action that had no effect tells an agent about its next action, in nats.

        I(B; A_{t+1} | h),    with A_t = a if B = 0, and a' if B = 1, each with probability 1/2

    Two actions have no effect if the world answers the same to both, under every context and several seeds: a push
    against a wall, or a torque beyond its limit. For a sober agent it is 0, since nothing can be learnt from an action
    but by its effect; an agent that takes its actions for evidence reads in them what it knew, at most log 2 nats. It
    needs no exact answer, and uses none of the expert's. Of each episode one round is tried, with a second action from
    the agent's own policy; in a Box, the numbers that are beyond its bounds, drawn again beyond them.

    Args:
        world: a world in Python that can play an episode again, such as `undelude.gym.HostWorld`.
        agent: an agent that can be asked about any history: not a `HostAgent`.
        key: for sampling.
        num_episodes: of which one round each is tried.

    Returns:
        The mean over the pairs and its standard error; `value` is None if there were fewer than 8 pairs without effect,
        and `why_none` says so.

    Raises:
        TypeError: the world or the agent is of another kind.
    """
    if not isinstance(world, AbstractHostWorld):
        raise TypeError(
            f"auto_suggestion is for worlds in Python, such as undelude.gym.HostWorld, not {one_line(repr(world))}: in "
            "a process ud.certify compares with the exact answers."
        )
    if not isinstance(agent, AbstractAgent):
        name = type(agent).__name__
        why = (
            "cannot be asked about a history with another action" if isinstance(agent, HostAgent) else "is not an agent"
        )
        raise TypeError(f"auto_suggestion asks the agent about a history with another action; a {name} {why}.")
    check_key(key)
    num_episodes = check_count("num_episodes", num_episodes)
    episodes = run(run_once, world, agent, key=key, num_episodes=num_episodes)
    own_key = jax.random.fold_in(key, num_episodes)
    mask = np.asarray(episodes.mask)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(own_key)).tolist())
    rounds = np.array([rng.integers(row.sum()) for row in mask], np.int32)
    others = _others(agent, episodes, jnp.asarray(rounds), own_key)
    found, others = world.without_effect(episodes, rounds, others, key=key, most=MAX_PAIRS)
    if isinstance(found, str):
        return Quantity(why_none=found)
    if len(found) < MIN_PAIRS:
        return Quantity(
            why_none=f"of {num_episodes} pairs of actions that were tried, {len(found)} had no effect; it is estimated "
            f"from {MIN_PAIRS} or more."
        )
    at = jnp.asarray(found)
    values = _informations(
        agent, index(episodes, at), jnp.asarray(rounds)[at], index(jax.tree.map(jnp.asarray, others), at), own_key
    )
    return Quantity.over_episodes(values)


@compiled_for(runs=1)
def _others(agent: AbstractAgent, episodes: Episodes, rounds: Int[Array, " B"], key: Key[Array, ""]) -> Action:
    """Return an action for each episode, drawn from the agent's policy in that round."""

    def one(episode: Episodes, t: Array, key: Array) -> Action:
        P_A, _ = predict_to_the_end(agent, episode)
        assert P_A is not None
        return index(P_A, t).sample(key)

    keys = jax.random.split(key, len(rounds))
    return jax.lax.map(lambda x: one(*x), (episodes, rounds, keys), batch_size=min(len(rounds), 32))


@compiled_for(runs=1)
def _informations(
    agent: AbstractAgent, episodes: Episodes, rounds: Int[Array, " N"], others: Action, key: Key[Array, ""]
) -> Float[Array, " N"]:
    """Return `I(B; A_{t+1} | h)` of each pair: the mean KL of two policies from their mixture."""

    def after(episode: Episodes, t: Array) -> AbstractDistribution:
        P_A, _ = predict_to_the_end(agent, episode)
        assert P_A is not None
        return index(P_A, t + 1)

    def one(x: Any) -> Array:
        episode, t, other, key = x
        actions = jax.tree.map(lambda a, b: a.at[t].set(b), episode.actions, other)
        pair = after(episode, t), after(dataclasses.replace(episode, actions=actions), t)
        both = jax.tree.map(lambda *xs: jnp.stack(xs), *pair)
        middle = mixture(jnp.log(jnp.full(2, 0.5)), both)
        keys = jax.random.split(key)
        kl = [divergences(p, middle, key=k, num_samples=1024)[0] for p, k in zip(pair, keys, strict=True)]
        return (kl[0] + kl[1]) / 2

    keys = jax.random.split(jax.random.fold_in(key, 1), len(rounds))
    return jax.lax.map(one, (episodes, rounds, others, keys), batch_size=min(len(rounds), 32))
