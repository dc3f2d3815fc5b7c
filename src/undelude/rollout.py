"""The one rollout that samples episodes: the interaction of agent, expert and task (Figure 4)."""

import functools
import operator
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, PyTree

from undelude._checks import check_count, check_key, filled, is_concrete, one_line, outline, signature
from undelude.agent import AbstractAgent, append, check_mark, prepend
from undelude.alphabet import alike, in_words
from undelude.distributions import AbstractDistribution
from undelude.episodes import AGENT, EXPERT, Episodes
from undelude.process import Action, InteractionProcess, Observation, check_process

if TYPE_CHECKING:
    from undelude.host import HostAgent


def rollout(
    process: InteractionProcess,
    agent: "AbstractAgent | HostAgent | None",
    *,
    key: Key[Array, ""],
    num_episodes: int,
    num_rounds: int | None = None,
    executor: Literal["agent", "expert"] = "agent",
    theta: int | None = None,
) -> Episodes:
    """Let `agent` live through `num_episodes` episodes, in one compiled scan.

    Args:
        process: where it lives.
        agent: who acts, from elsewhere too (`ud.HostAgent`); None will do where the expert executes.
        key: episode i draws from `fold_in(key, i)`.
        num_episodes: B.
        num_rounds: T; the process's own by default.
        executor: who executes. The agent's own actions are marked as it reads them (`agent.own_actions`), the
            expert's are marked see, as they truly are.
        theta: fix the index of Theta for all episodes; with a transition, of the first.

    Returns:
        `Episodes`, leading axes `(B, T)`.

    Raises:
        ValueError: the agent cannot read its own marks; theta is outside the support.
    """
    check_process(process)
    check_key(key)
    if not isinstance(executor, str) or executor not in ("agent", "expert"):
        raise ValueError(f'executor must be "agent" or "expert", not {one_line(repr(executor))}.')
    actor: AbstractAgent | None = None
    if executor == "agent":
        if agent is None:
            raise ValueError('rollout needs an agent to act; without one, let the expert: executor="expert".')
        from undelude.host import HostAgent, play  # It needs this module.

        if isinstance(agent, HostAgent):
            size = {"num_episodes": num_episodes, "num_rounds": num_rounds, "theta": theta}
            return play(process, agent, key=key, **size)[0]
        if not isinstance(agent, AbstractAgent):
            raise TypeError(f"agent must be an agent, such as ud.ExactAgent(process), not a {type(agent).__name__}.")
        check_mark(agent, agent.own_actions)
        check_fit(process, agent)
        actor = agent
    num_episodes = check_count("num_episodes", num_episodes)
    num_rounds = check_count("num_rounds", process.num_rounds if num_rounds is None else num_rounds)
    if theta is not None:
        check_theta(process, theta)
    # As an array: another theta is not another trace.
    fixed = None if theta is None else jnp.asarray(theta, jnp.int32)
    # Where the expert executes, nobody asks the agent: `unroll` has it read the episode afterwards.
    return _rollout(process, actor, key, jnp.arange(num_episodes), num_rounds, fixed)


def _is_index(x: Any) -> bool:
    try:
        operator.index(x)
    except TypeError:
        return False
    return not isinstance(x, bool)


def check_theta(process: InteractionProcess, theta: Any) -> None:
    """Raise `ValueError` where `theta` is no index of a value that may occur."""
    if not process.finite:
        raise ValueError(f"{process.name}: theta={theta} cannot be fixed: Theta is continuous, and drawn.")
    if not _is_index(theta) or not 0 <= int(theta) < process.num_thetas:
        support = f"it is an index from 0 to {process.num_thetas - 1}"
    elif is_concrete(process.prior) and np.asarray(process.prior)[int(theta)] == 0:
        support = "the prior gives it no probability"
    else:
        return
    raise ValueError(f"{process.name}: theta={one_line(theta)} is outside the support; {support}.")


def check_fit(process: InteractionProcess, agent: AbstractAgent) -> None:
    """Raise where `agent` was made for other values than the process has, or does not keep to the protocol.

    Raises:
        TypeError: f_A or f_O returns no distribution.
        ValueError: it was made for another process; its memory changes its shape.
    """
    _check_fit(outline((process, agent)))


# Asked for at every rollout, and tracing takes longer than a short one does.
@functools.lru_cache(maxsize=64)
def _check_fit(key: tuple) -> None:
    shapes = key[0]
    process, agent = filled(key, shapes)
    kind, symbols = type(agent).__name__, jax.eval_shape(lambda leaves: filled(key, leaves)[0].symbols, shapes)

    def predict(leaves: tuple) -> tuple[Any, Any, Any]:
        process, agent = filled(key, leaves)
        m = agent.init(num_rounds=process.num_rounds)
        return m, agent.f_A(m), agent.f_O(m)

    m, *laws = jax.eval_shape(predict, shapes)
    for name, (law, _), own in zip(("f_A", "f_O"), symbols, laws, strict=True):
        if not isinstance(own, AbstractDistribution):
            raise TypeError(f"{kind}.{name} must return a distribution, such as ud.Categorical, not {own!r:.99}.")
        if not alike(law, own):
            raise ValueError(
                f"{process.name} has {'actions' if name == 'f_A' else 'observations'} of {in_words(law)}, and this "
                f"{kind} knows {in_words(own)}: it was made for another process."
            )

    def live_on(leaves: tuple, m: PyTree, a: PyTree, o: PyTree) -> tuple[PyTree, PyTree]:
        _, agent = filled(key, leaves)
        return agent.g_A(a, m, intervened=agent.own_actions == "do"), agent.g_O(o, m)

    later = jax.eval_shape(live_on, shapes, m, *(value for _, value in symbols))
    for name, after in zip(("g_A", "g_O"), later, strict=True):
        if signature(after) != signature(m):
            raise ValueError(
                f"{kind}.{name} returns a memory of {signature(after):.200}, and init one of {signature(m):.200}; "
                "return the same structure, shapes and types from all three."
            )


@eqx.filter_jit
def _rollout(
    process: InteractionProcess,
    actor: AbstractAgent | None,
    key: Array,
    ids: Array,
    num_rounds: int,
    theta: Any,
) -> Episodes:
    marks = (actor is not None and actor.own_actions == "do", False)

    def one(i: Array) -> Episodes:
        return episode(process, actor, jax.random.fold_in(key, i), num_rounds=num_rounds, marks=marks, theta=theta)

    return jax.vmap(one)(ids)


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
    """What the expert would do in the round whose key is `key`: its law, and a sample."""
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


class LawOnly(eqx.Module):
    """A behaviour without memory: the same law in every round, whatever happened."""

    law: AbstractDistribution

    def init(self, *, num_rounds: int) -> None:
        """No memory."""

    def act(self, m: None, *, key: Key[Array, ""]) -> tuple[Action, None]:
        """A sample of the law."""
        return self.law.sample(key), m

    def g_A(self, a: Action, m: None, *, intervened: Bool[Array, ""] | bool) -> None:
        """No memory."""

    def g_O(self, o: Observation, m: None) -> None:
        """No memory."""


def episode(
    process: InteractionProcess, actor: AbstractAgent | LawOnly | None, key: Key[Array, ""], **options: Any
) -> Episodes:
    """One episode of `live`, with its options: data alone."""
    return live(process, actor, key, **options)[0]


def live(
    process: InteractionProcess,
    actor: AbstractAgent | LawOnly | None,
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


def _next_theta(process: InteractionProcess, theta: PyTree, w: PyTree, key: Array) -> PyTree:
    if process.transition is None:
        return theta
    return process.transition(process.theta_value(theta), w).sample(key)
