"""`rollout`: episodes of any agent in any world, by the compiled loop or by the Python loop."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from undelude._agents.base import AbstractAgent, check_mark
from undelude._agents.host import HostAgent
from undelude._checks import check_count, check_key, one_line
from undelude._compiled import compiled, compiled_for
from undelude._pieces import episode_ids, in_pieces
from undelude._process.episodes import Episodes
from undelude._process.host_world import World, check_world
from undelude._process.world import AbstractWorld
from undelude._rollout.checks import check_fit, check_theta
from undelude._rollout.host import AbstractHostWorld, play
from undelude._rollout.scan import run_episode
from undelude._types import OnProgress


def rollout(
    process: World,
    agent: AbstractAgent | HostAgent | None,
    *,
    key: Key[Array, ""],
    num_episodes: int,
    num_rounds: int | None = None,
    executor: Literal["agent", "expert"] = "agent",
    theta: int | None = None,
) -> Episodes:
    """Run `num_episodes` episodes, in one compiled scan if agent and world are JAX.

    Args:
        process: the world.
        agent: the actor, which may be a `ud.HostAgent`; it may be None if the expert executes.
        key: episode i draws from `fold_in(key, i)`.
        num_episodes: B.
        num_rounds: T; the world's own by default.
        executor: the party that executes the actions. The agent's own actions are marked as it reads them
            (`agent.own_actions`), and the expert's are marked see.
        theta: fixes the index of Theta for all episodes; with a transition, that of the start.

    Returns:
        `Episodes`, leading axes `(B, T)`.

    Raises:
        ValueError: the agent cannot read its own marks, or was made for another process; it is None although it
            executes; theta is outside the support.
        TypeError: an argument is not a world, an agent or a key.
    """
    size = {"num_episodes": num_episodes, "num_rounds": num_rounds}
    return run(_run_often, process, agent, key=key, executor=executor, theta=theta, **size)


def run(
    program: Callable[..., Episodes],
    process: World,
    agent: AbstractAgent | HostAgent | None,
    *,
    key: Key[Array, ""],
    num_episodes: int,
    num_rounds: int | None = None,
    executor: str = "agent",
    theta: int | None = None,
    on_progress: OnProgress | None = None,
) -> Episodes:
    """Return `rollout(...)` by one of two programs: `run_once` is quicker to compile, and slower to run.

    Measurements take `run_once`. `on_progress` is called by the Python loop alone, as in `play`.
    """
    check_world(process)
    check_key(key)
    if not isinstance(executor, str) or executor not in ("agent", "expert"):
        raise ValueError(f'executor must be "agent" or "expert", not {one_line(repr(executor))}.')
    actor: AbstractAgent | HostAgent | None = None
    if executor == "agent":
        if agent is None:
            raise ValueError('rollout needs an agent to act; without one, let the expert: executor="expert".')
        if not isinstance(agent, AbstractAgent | HostAgent):
            raise TypeError(f"agent must be an agent, such as ud.ExactAgent(process), not a {type(agent).__name__}.")
        if isinstance(agent, AbstractAgent):
            check_mark(agent, agent.own_actions)
            check_fit(process, agent)
        actor = agent
    if isinstance(actor, HostAgent) or isinstance(process, AbstractHostWorld):
        size = {"num_episodes": num_episodes, "num_rounds": num_rounds, "theta": theta}
        return play(process, actor, key=key, on_progress=on_progress, **size)[0]
    num_episodes = check_count("num_episodes", num_episodes)
    num_rounds = check_count("num_rounds", process.num_rounds if num_rounds is None else num_rounds)
    if theta is not None:
        check_theta(process, theta)
    # An array, so that another theta is not another trace.
    fixed = None if theta is None else jnp.asarray(theta, jnp.int32)
    # If the expert executes, the agent is not called: `predict` reads the episode afterwards.
    ids = episode_ids(num_episodes)
    return program(process, actor, key, ids, num_rounds, fixed)


def _run_episodes(
    world: AbstractWorld,
    actor: AbstractAgent | None,
    key: Array,
    ids: Int[Array, " B"],
    num_rounds: int,
    theta: Int[Array, ""] | None,
) -> Episodes:
    marks = (actor is not None and actor.own_actions == "do", False)

    def one(i: Int[Array, ""]) -> Episodes:
        own_key = jax.random.fold_in(key, i)
        return run_episode(world, actor, own_key, num_rounds=num_rounds, marks=marks, theta=theta)[0]

    return jax.vmap(one)(ids)


_run_often = compiled(_run_episodes)
_run_piece = compiled_for(runs=50)(_run_episodes)


def run_once(
    world: AbstractWorld, actor: AbstractAgent | None, key: Array, ids: Int[Array, " B"], *settings: Any
) -> Episodes:
    """Return the episodes `ids`, by a program that is quicker to compile, and slower to run."""
    return in_pieces(lambda piece: _run_piece(world, actor, key, piece, *settings), ids)
