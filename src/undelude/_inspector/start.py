"""How an inspection starts: what a process or a world needs, who acts, and the episode with which the page begins."""

from collections.abc import Mapping, Sequence
from typing import Any

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._inspector.abstract import AbstractInspection
from undelude._inspector.given import DO, SEE
from undelude._inspector.history import History
from undelude._inspector.host_inspection import HostInspection
from undelude._inspector.inspection import Inspection
from undelude._process.host_world import World
from undelude._process.process import InteractionProcess

# A sentence about the first episode.
CHOSEN = (
    "Of 32 episodes, the page began with the one in which see, instead of do, lowers the belief in the true theta most."
)


def inspection_of(
    process: Any,
    agents: Mapping[str, AbstractAgent | HostAgent] | Sequence[AbstractAgent | HostAgent] = (),
    *,
    num_rounds: int | None = None,
) -> AbstractInspection:
    """Return an inspection of a process, or of a world that can only be sampled."""
    if isinstance(process, World) and not isinstance(process, InteractionProcess):
        return HostInspection(process, agents, num_rounds=num_rounds)
    return Inspection(process, agents, num_rounds=num_rounds)


def first_actor(inspection: AbstractInspection) -> str:
    """Return the party that acts first: the first agent, or else the deluded exact agent."""
    return next(iter(inspection.agents), SEE)


def begin_with(inspection: AbstractInspection, *, seed: int | None) -> tuple[History, dict[str, str]]:
    """Return the episode with which the page begins, played by the first actor, and a note about it.

    Without a seed it is one that shows what delusion costs; but that of seed 0 if episodes take long to play: in a
    simulator, or with a policy in Python.
    """
    seed = 0 if seed is None and inspection.is_slow else seed
    history = first_history(inspection, first_actor(inspection), seed=seed)
    inspection.read(history)  # Compile now what the page needs at once.
    return history, {"": CHOSEN} if seed is None else {}


def first_history(inspection: AbstractInspection, actor: str, *, seed: int | None = None, tries: int = 32) -> History:
    """Return the episode with which the page begins, played by a party.

    Without a seed it is the one, of several, after which the exact reading of the actions as see believes less in the
    truth than the reading as do, by the greatest difference. One that is not played to its end stops after its last
    action, before the outcome.
    """
    rounds, observe = inspection.first_rounds

    def played(seed: int) -> History:
        return inspection.play(inspection.begin(seed=seed), rounds=rounds, actor=actor, observe=observe)

    def cost(history: History) -> float:
        accounts, truth = inspection.read(history).accounts, history.theta[-1]
        is_open = len(history) > history.num_observations
        beliefs = [accounts[x].acted_belief if is_open else accounts[x].belief for x in (DO, SEE)]
        do, see = (0.0 if x is None else float(x[-1, truth]) for x in beliefs)
        return do - see

    return played(seed) if seed is not None else max((played(s) for s in range(tries)), key=cost)
