"""The compiled loop: one episode of agent, expert and Nature in one scan (Figure 4)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from undelude._agents.base import AbstractAgent
from undelude._agents.fixed import FixedPolicy
from undelude._distributions import AbstractDistribution
from undelude._process.episodes import AGENT, EXPERT, Episodes
from undelude._process.process import InteractionProcess
from undelude._rollout.world import World, acting_key, begin, consult, respond
from undelude._tree import append, prepend


def episode(
    process: InteractionProcess, actor: AbstractAgent | FixedPolicy | None, key: Key[Array, ""], **options: Any
) -> Episodes:
    """One episode of `live`, with its options: data alone."""
    return live(process, actor, key, **options)[0]


def live(
    process: InteractionProcess,
    actor: AbstractAgent | FixedPolicy | None,
    key: Key[Array, ""],
    *,
    num_rounds: int,
    marks: tuple[bool, bool] = (True, False),
    reads: tuple[bool, bool] | None = None,
    expert_share: float = 0.0,
    per: str = "step",
    theta: PyTree | None = None,
    predicts: bool = False,
) -> tuple[Episodes, tuple[AbstractDistribution, AbstractDistribution] | None]:
    """One episode, traced, and what the actor predicted as it lived through it: Figure 4 without its losses.

    The predictions are those of `scan` on that episode, and so is their gradient: what was sampled carries none, what
    was remembered does.

    Args:
        process: where it happens.
        actor: who executes where the expert does not; None, where the expert executes all.
        key: of all that is drawn.
        num_rounds: T.
        marks: whether an action counts as intervened that the actor, and that the expert executed.
        reads: the same as the actor itself reads it; as it is marked, where it is the agent that will learn.
        expert_share: the probability that the expert executes in the actor's place,
        per: drawn anew each `"step"`, or once an `"episode"`.
        theta: fix the index of Theta.
        predicts: whether the actor, an agent, is asked for `f_A` and `f_O` in each round.
    """
    predictor = actor if predicts and isinstance(actor, AbstractAgent) else None
    *_, key_rounds, key_turns = jax.random.split(key, 4)
    world, opening = begin(process, key, theta)
    first = world.theta
    m = None if actor is None else actor.init(num_rounds=num_rounds)
    # Without chance there is no choice in the program, and who executes nothing is not asked.
    if actor is None or expert_share == 0:
        by_expert = jnp.full(num_rounds, actor is None)
        shared = False
    else:
        turns = jax.random.bernoulli(key_turns, expert_share, (num_rounds if per == "step" else 1,))
        by_expert = jnp.broadcast_to(turns, (num_rounds,))
        shared = True
    intervened = jnp.where(by_expert, marks[1], marks[0])

    P_first = None
    if opening is not None and actor is not None:
        P_first = None if predictor is None else predictor.f_O(m)
        m = actor.g_O(opening, m)

    def round(carry: tuple[World, Any], x: tuple[Array, Array]) -> tuple[tuple[World, Any], tuple[Any, ...]]:
        world, m = carry
        key, by_expert = x
        Q_A, a_bar = consult(process, world, key)
        P_A = P_O = None
        if actor is None:
            a = a_bar
        else:
            P_A = None if predictor is None else predictor.f_A(m)
            a, m = actor.act(m, key=acting_key(key))
            own, others = marks if reads is None else reads
            if shared:
                a = jax.tree.map(lambda x, y: jnp.where(by_expert, x, y), a_bar, a)
                own = jnp.where(by_expert, others, own)
            a = jax.lax.stop_gradient(a)
            m = actor.g_A(a, m, intervened=own)
            P_O = None if predictor is None else predictor.f_O(m)
        later, o, reward = respond(process, world, a, key)
        m = None if actor is None else actor.g_O(jax.lax.stop_gradient(o), m)
        return (later, m), (world.theta, a, o, Q_A, a_bar, reward, P_A, P_O)

    (last, _), (path, actions, observations, Q_A, a_bar, reward, P_A, P_O) = jax.lax.scan(
        round, (world, m), (jax.random.split(key_rounds, num_rounds), by_expert)
    )
    lived = Episodes(
        theta=first if process.transition is None else append(path, last.theta),
        opening=opening,
        actions=actions,
        observations=observations,
        executor=jnp.where(by_expert, EXPERT, AGENT),
        intervened=intervened,
        expert=Q_A,
        expert_actions=a_bar,
        reward=reward,
        mask=jnp.ones(num_rounds, dtype=bool),
    )
    return jax.lax.stop_gradient(lived), None if predictor is None else (P_A, prepend(P_first, P_O))
