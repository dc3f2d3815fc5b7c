"""The one rollout that samples episodes: the interaction of agent, expert and task (Figure 4)."""

from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from undelude._agents.base import AbstractAgent, check_mark
from undelude._checks import check_count, check_key, one_line
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess, check_process
from undelude._rollout.checks import check_fit, check_theta
from undelude._rollout.scan import episode

if TYPE_CHECKING:
    from undelude._agents.host import HostAgent


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
        from undelude._agents.host import HostAgent
        from undelude._rollout.host import play

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
    # Where the expert executes, nobody asks the agent: `predict` has it read the episode afterwards.
    return _rollout(process, actor, key, jnp.arange(num_episodes), num_rounds, fixed)


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
