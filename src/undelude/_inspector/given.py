"""The parties of the inspector by name, and the checks of those that are given."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._inspector.setting import Reads
from undelude._process.host_world import World
from undelude._process.process import InteractionProcess
from undelude._rollout.checks import check_fit

# The exact parties, in the order in which they are shown; their keys are taken, so that no agent may have them.
MARKED, DO, SEE, TOLD = "marked", "do", "see", "told"
EXACT = (MARKED, DO, SEE, TOLD)


def check_agents(world: World, agents: Mapping[str, AbstractAgent]) -> None:
    """Raise if an agent was made for other values than the world has; the message has its name or position."""
    for name, agent in agents.items():
        try:
            check_fit(world, agent)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} ({type(agent).__name__}) does not fit: {error}") from error


def named_agents(agents: Any) -> dict[str, AbstractAgent | HostAgent]:
    if not isinstance(agents, Mapping):
        agents = {"agent" if i == 0 else f"agent {i + 1}": x for i, x in enumerate(agents)}
    for name, agent in agents.items():
        if not isinstance(agent, AbstractAgent | HostAgent):
            found = (
                f"the class {agent.__name__}"
                if isinstance(agent, type)
                else f"something of type {type(agent).__name__}"
            )
            raise TypeError(f"{name} must be an agent such as ud.ExactAgent(process), not {found}.")
        if name in EXACT:
            raise ValueError(f"an agent cannot have the name {name!r}, which is that of an exact party.")
    return dict(agents)


def reads_of(agent: AbstractAgent) -> Reads:
    if {"do", "see"} <= {*agent.marks}:
        return "marked"
    return "always do" if agent.own_actions == "do" else "see"


def reads_marks(agent: AbstractAgent | HostAgent) -> bool:
    """Return whether an agent reads each past action as it is marked."""
    return agent.told_marks if isinstance(agent, HostAgent) else reads_of(agent) == "marked"


def mark_readers(parties: Sequence[str], agents: Mapping[str, AbstractAgent | HostAgent]) -> tuple[str, ...]:
    """Return the parties for which a changed mark changes anything."""
    return tuple(x for x in parties if x == MARKED or (x in agents and reads_marks(agents[x])))


def believes(agent: AbstractAgent, process: InteractionProcess) -> bool:
    """Return whether the agent has a belief about the thetas of the process."""
    if agent.thetas is None:
        return False
    own, other = (jax.tree.flatten(x) for x in (agent.thetas, process.thetas))
    return own[1] == other[1] and all(np.array_equal(x, y) for x, y in zip(own[0], other[0], strict=True))
