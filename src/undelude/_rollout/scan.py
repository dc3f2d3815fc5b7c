"""The compiled loop: one episode of agent, expert and Nature in one scan (Figure 4)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from undelude._agents.base import AbstractAgent
from undelude._distributions import AbstractDistribution
from undelude._process.episodes import AGENT, EXPERT, Episodes
from undelude._process.world import AbstractWorld, EpisodeKeys, RoundKeys
from undelude._tree import append, is_concrete, prepend, where
from undelude._types import Memory, State


def run_episode(
    world: AbstractWorld,
    actor: AbstractAgent | None,
    key: Key[Array, ""],
    *,
    num_rounds: int,
    marks: tuple[Bool[Array, ""] | bool, bool] = (True, False),
    reads: tuple[bool, bool] | None = None,
    expert_share: Float[Array, ""] | float = 0.0,
    per: str = "step",
    theta: Int[Array, ""] | None = None,
    predicts: bool = False,
) -> tuple[Episodes, tuple[AbstractDistribution, AbstractDistribution] | None]:
    """Run one episode and return it with the actor's predictions: Figure 4 without its losses.

    The predictions are those of `_agents.base.predict_stepwise` on that episode, and so is their gradient: nothing that
    was sampled carries one, but memories do. After the end of an episode, memories stay as they are, and `mask` is
    false.

    Args:
        world: Nature and the expert.
        actor: executes the actions that the expert does not; None if the expert executes all of them.
        key: of the episode.
        num_rounds: T.
        marks: the stored marks, do if true, of the actor's actions and of the expert's.
        reads: the marks that the actor itself reads; `marks` by default. They differ if the actor is not the agent that
            learns.
        expert_share: probability that the expert executes an action, possibly traced; not read without an actor.
        per: whether the executor is drawn each `"step"`, or once an `"episode"`.
        theta: fixes the index of Theta.
        predicts: whether to ask the actor, an agent, for `f_A` and `f_O` in each round.
    """
    predictor = actor if predicts and isinstance(actor, AbstractAgent) else None
    keys = EpisodeKeys.of(key)
    state, opening = world.begin(key, theta)
    first_theta = world.theta(state)
    m = None if actor is None else actor.init(num_rounds=num_rounds)
    # Without an actor, or with expert_share 0, the executor is fixed: draw no coin. A caller with expert_share 1 passes
    # no actor, so that none is called in vain.
    shared = actor is not None and (not is_concrete(expert_share) or expert_share > 0)
    if shared:
        turns = jax.random.bernoulli(keys.executor, expert_share, (num_rounds if per == "step" else 1,))
        by_expert = jnp.broadcast_to(turns, (num_rounds,))
    else:
        by_expert = jnp.full(num_rounds, actor is None)
    intervened = jnp.where(by_expert, marks[1], marks[0])

    P_first = None
    if opening is not None and actor is not None:
        P_first = None if predictor is None else predictor.f_O(m)
        m = actor.g_O(opening, m)

    def round(
        carry: tuple[State, Memory, Bool[Array, ""]], x: tuple[Array, Array]
    ) -> tuple[tuple[State, Memory, Bool[Array, ""]], tuple[PyTree, ...]]:
        state, m, exists = carry
        key, by_expert = x
        Q_A, a_bar = world.consult(state, key)
        P_A = P_O = later_m = None
        if actor is None:
            a = a_bar
        else:
            P_A = None if predictor is None else predictor.f_A(m)
            a, later_m = actor.act(m, key=RoundKeys.of(key).act)
            own, others = marks if reads is None else reads
            if shared:
                a = jax.tree.map(lambda x, y: jnp.where(by_expert, x, y), a_bar, a)
                own = jnp.where(by_expert, others, own)
            a = jax.lax.stop_gradient(a)
            later_m = actor.g_A(a, later_m, intervened=own)
            P_O = None if predictor is None else predictor.f_O(later_m)
        later, o, reward, ended = world.respond(state, a, key)
        later_m = None if actor is None else actor.g_O(jax.lax.stop_gradient(o), later_m)
        row = world.theta(state), a, o, Q_A, a_bar, reward, P_A, P_O, exists
        if world.ends_early:
            later, later_m = where(exists, (later, later_m), (state, m))
            exists &= ~ended
        return (later, later_m, exists), row

    (last, *_), (path, actions, observations, Q_A, a_bar, reward, P_A, P_O, mask) = jax.lax.scan(
        round, (state, m, jnp.ones((), bool)), (jax.random.split(keys.rounds, num_rounds), by_expert)
    )
    episode = Episodes(
        theta=append(path, world.theta(last)) if world.theta_changes else first_theta,
        opening=opening,
        actions=actions,
        observations=observations,
        executor=jnp.where(by_expert, EXPERT, AGENT),
        intervened=intervened,
        expert=Q_A,
        expert_actions=a_bar,
        reward=jnp.where(mask, reward, 0.0) if world.ends_early else reward,
        mask=mask if world.ends_early else jnp.ones(num_rounds, dtype=bool),
    )
    predictions = None if predictor is None else (P_A, prepend(P_first, P_O))
    return jax.lax.stop_gradient(episode), predictions
