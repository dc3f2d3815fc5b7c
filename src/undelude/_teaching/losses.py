"""The two losses of Figure 4: of the expert's action and of Nature's observation, in nats."""

from typing import Any, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from undelude._agents.base import AbstractAgent, predict, scan
from undelude._agents.exact import ExactAgent
from undelude._distributions import AbstractDistribution, cross_entropy
from undelude._process.process import InteractionProcess
from undelude._rollout.rollout import Episodes
from undelude._teaching.settings import Target
from undelude._tree import prepend


def log_losses(
    agent: AbstractAgent,
    episode: Episodes,
    *,
    target: Target = "distribution",
    process: InteractionProcess | None = None,
) -> tuple[Float[Array, " T"], Float[Array, " T0"]]:
    """The two losses of Figure 4 at each round of one stored episode, in nats.

    `l(a_bar_t) = -log P(A_t = a_bar_t | history)` (the mean over `a_bar_t` for a whole distribution; see
    `AbstractTeaching` for the other targets) and
    `l(o_t) = -log P(O_t = o_t | history)`; with an opening, the latter has T + 1 entries. Their gradient reaches the
    predictions alone: the episode is data.

    Args:
        agent: whose predictions are scored.
        episode: one stored episode, with its marks.
        target: see `AbstractTeaching`.
        process: for `target="posterior"`.

    Raises:
        ValueError: a batch instead of one episode; the process is missing.
        TypeError: there is no closed form for this target.
    """
    if episode.is_batch:
        raise ValueError(
            "log_losses scores one episode; for a batch: jax.vmap(lambda e: log_losses(agent, e))(episodes)."
        )
    return score(predict(agent, episode), episode, target, process)


def score(
    predictions: tuple[Any, Any], episode: Episodes, target: Target, process: InteractionProcess | None
) -> tuple[Float[Array, " T"], Float[Array, " T0"]]:
    """The same of what an agent has predicted already."""
    P_A, P_O = predictions
    needed = {"sample": episode.expert_actions, "distribution": episode.expert, "reverse": episode.expert}
    if target in needed and needed[target] is None:
        raise ValueError(
            f'target="{target}" is what the expert said, of which these episodes have none; take those of ud.rollout.'
        )
    match target:
        case "sample":
            action = jax.vmap(lambda distribution, a: -distribution.log_prob(a))(P_A, episode.expert_actions)
        case "distribution":
            action = jax.vmap(cross_entropy)(episode.expert, P_A, episode.expert_actions)
        case "posterior":
            if process is None:
                raise ValueError('target="posterior" is an answer of the process: give process=.')
            answer, _ = scan(ExactAgent(process), episode)
            action = jax.vmap(cross_entropy)(answer, P_A)
        case "reverse":
            action = jax.vmap(lambda p, q: cross_entropy(p, q) - p.entropy())(P_A, episode.expert)
        case _:
            raise ValueError(f"target must be one of {', '.join(get_args(Target))}, not {target!r:.99}.")
    observation = score_observations(P_O, episode)
    return jnp.where(episode.mask, action, 0.0), observation


def score_observations(P_O: AbstractDistribution, episode: Episodes) -> Float[Array, " T0"]:
    """`-log P(o_t)` of the real observations, the opening first where there is one; 0 where masked."""
    first = None if episode.opening is None else jnp.ones((), bool)
    observations, mask = prepend(episode.opening, episode.observations), prepend(first, episode.mask)
    losses = jax.vmap(lambda distribution, o: -distribution.log_prob(o))(P_O, observations)
    # A product with the mask would be NaN if a round that does not exist holds an impossible symbol.
    return jnp.where(mask, losses, 0.0)
