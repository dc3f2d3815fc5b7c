"""The two losses of Figure 4, of the expert's action and of Nature's observation, in nats."""

from typing import Any, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from undelude._agents.base import AbstractAgent, predict, predict_stepwise
from undelude._agents.exact import ExactAgent
from undelude._distributions import AbstractDistribution, cross_entropy
from undelude._process.process import InteractionProcess
from undelude._rollout.rollout import Episodes
from undelude._tree import prepend
from undelude._types import Target


def log_losses(
    agent: AbstractAgent,
    episode: Episodes,
    *,
    target: Target = "distribution",
    process: InteractionProcess | None = None,
) -> tuple[Float[Array, " T"], Float[Array, " T0"]]:
    """Return the two losses of Figure 4 at each round of one stored episode, in nats.

        l(a_bar_t) = -log P(A_t = a_bar_t | history)
        l(o_t)     = -log P(O_t = o_t | history)

    The first is that of `target="sample"`. For `"distribution"` it is the mean over `a_bar_t`; see `Teaching` for the
    other targets. Gradients flow through the predictions only: the episode is data.

    Args:
        agent: the agent that predicts.
        episode: one stored episode, with its marks.
        target: see `Teaching`.
        process: for `target="posterior"`.

    Returns:
        `[T]` losses of the actions, and `[T]` of the observations, `[T + 1]` with an opening; 0 for rounds that do not
        exist.

    Raises:
        ValueError: `episode` is a batch; the process is missing; the episode lacks the expert that the target needs.
        TypeError: the target has no closed form for these distributions.
    """
    if episode.is_batch:
        raise ValueError(
            "log_losses scores one episode; for a batch: jax.vmap(lambda e: log_losses(agent, e))(episodes)."
        )
    return score(predict(agent, episode), episode, target, process)


def score(
    predictions: tuple[Any, Any], episode: Episodes, target: Target, process: InteractionProcess | None
) -> tuple[Float[Array, " T"], Float[Array, " T0"]]:
    """Return the losses of predictions that an agent has made, as `log_losses` does."""
    P_A, P_O = predictions
    if target == "distribution" and episode.expert is None and episode.expert_actions is not None:
        target = "sample"  # Of an expert who returns actions alone, a draw is known: the same expected gradient.
    needed = {"sample": episode.expert_actions, "distribution": episode.expert, "reverse": episode.expert}
    if target in needed and needed[target] is None:
        raise ValueError(
            f'target="{target}" needs the expert\'s answers, which these episodes lack: take episodes of ud.rollout.'
        )
    match target:
        case "sample":
            action = jax.vmap(lambda distribution, a: -distribution.log_prob(a))(P_A, episode.expert_actions)
        case "distribution":
            experts: Any = episode.expert
            action = jax.vmap(cross_entropy)(experts, P_A, episode.expert_actions)
        case "posterior":
            if process is None:
                raise ValueError('target="posterior" needs the process: pass process=.')
            answer, _ = predict_stepwise(ExactAgent(process), episode)
            action = jax.vmap(cross_entropy)(answer, P_A)
        case "reverse":
            action = jax.vmap(lambda p, q: cross_entropy(p, q) - p.entropy())(P_A, episode.expert)
        case _:
            raise ValueError(f"target must be one of {', '.join(get_args(Target))}, not {target!r:.99}.")
    observation = score_observations(P_O, episode)
    return jnp.where(episode.mask, action, 0.0), observation


def score_observations(P_O: AbstractDistribution, episode: Episodes) -> Float[Array, " T0"]:
    """Return `-log P(o_t)` of the real observations, after that of the opening if there is one; 0 where masked."""
    first = None if episode.opening is None else jnp.ones((), bool)
    observations, mask = prepend(episode.opening, episode.observations), prepend(first, episode.mask)
    losses = jax.vmap(lambda distribution, o: -distribution.log_prob(o))(P_O, observations)
    # A product with the mask would be NaN if a round that does not exist holds an impossible symbol.
    return jnp.where(mask, losses, 0.0)
