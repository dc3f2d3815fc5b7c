"""Agents that act in fitted models: what they earn, and how far their policy is from another agent's."""

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from undelude._agents.base import predict_stepwise
from undelude._agents.exact import ExactAgent
from undelude._certificate.rounds import mean_over_rounds, reward_per_round
from undelude._compiled import compiled_for
from undelude._distributions import divergences
from undelude._process.inference import reread
from undelude._process.process import InteractionProcess
from undelude._rollout.scan import run_episode
from undelude._types import Mark

# A mean and its standard error.
Estimate = tuple[float, float]


def estimate(x: Array) -> Estimate:
    """Return the mean over episodes and its standard error."""
    values = np.asarray(x, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf


@compiled_for(runs=1)
def play(
    world: InteractionProcess,
    actor: ExactAgent,
    reader: ExactAgent,
    key: Key[Array, ""],
    num_episodes: int,
    own_actions: Mark = "do",
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Return the reward per round of an agent in a process, and how far its policy is from another agent's.

    Args:
        world: Nature.
        actor: acts, and reads its actions as done.
        reader: is asked for its policy in the same histories.
        key: of the episodes.
        num_episodes: played.
        own_actions: how the reader reads the actions.

    Returns:
        `[B]`, and `[B]`, the mean total variation over the rounds.
    """

    def one(key: Array) -> tuple[Array, Array]:
        key_episode, key_tv = jax.random.split(key)
        episode, predictions = run_episode(
            world, actor, key_episode, num_rounds=world.num_rounds, marks=(True, False), predicts=True
        )
        assert predictions is not None
        others, _ = predict_stepwise(reader, reread(episode, own_actions))
        keys = jax.random.split(key_tv, world.num_rounds)
        _, tv = jax.vmap(lambda p, q, k: divergences(p, q, key=k))(predictions[0], others, keys)
        return reward_per_round(episode.reward, None), mean_over_rounds(tv, None)

    return jax.lax.map(one, jax.random.split(key, num_episodes), batch_size=64)
