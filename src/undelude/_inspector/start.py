"""How an inspection starts: what a process or a world needs, who acts, and the episode with which the page begins."""

from collections.abc import Mapping, Sequence
from typing import Any

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._inspector import host_view, view
from undelude._inspector.history import History
from undelude._inspector.host_inspection import HostInspection
from undelude._inspector.inspection import SEE, Inspection
from undelude._process.host_world import World
from undelude._process.process import InteractionProcess


def inspection_of(
    process: Any,
    agents: Mapping[str, AbstractAgent | HostAgent] | Sequence[AbstractAgent | HostAgent] = (),
    *,
    num_rounds: int | None = None,
) -> Inspection | HostInspection:
    """Return an inspection of a process, or of a world that can only be sampled."""
    if isinstance(process, World) and not isinstance(process, InteractionProcess):
        return HostInspection(process, agents, num_rounds=num_rounds)
    return Inspection(process, agents, num_rounds=num_rounds)


def first_actor(inspection: Inspection | HostInspection) -> str:
    """Return the party that acts first: the first agent, or else the deluded exact agent."""
    return next(iter(inspection.agents), SEE)


def begin_with(inspection: Inspection | HostInspection, *, seed: int | None) -> tuple[History, dict[str, str]]:
    """Return the episode with which the page begins, played by the first actor, and a note about it.

    Without a seed it is one that shows what delusion costs; but that of seed 0 if episodes take long to play: in a
    simulator, or with a policy in Python.
    """
    actor = first_actor(inspection)
    if isinstance(inspection, HostInspection):
        history = host_view.first_history(inspection, actor, seed=seed)
        inspection.read(history)  # Compile now what the page needs at once.
        return history, {}
    seed = 0 if seed is None and inspection.hosts else seed
    return view.first_history(inspection, actor, seed=seed), {"": view.CHOSEN} if seed is None else {}
