"""The film of a page: the expert, the agent and both exact agents from the same beginning."""

import numpy as np
from jaxtyping import Array, Key

from undelude._agents.base import AbstractAgent
from undelude._agents.exact import ExactAgent
from undelude._agents.host import HostAgent
from undelude._certificate.per_episode import MARKS
from undelude._drawing.film import Film, film, side_by_side
from undelude._pieces import PIECE
from undelude._process.host_world import AbstractHostWorld, World
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractTask
from undelude._rollout.rollout import run, run_once

# Episodes from which the film is chosen; the agent's own are then those of the certificate's first piece.
BEGINNINGS = PIECE


def film_of_actors(process: World, agent: AbstractAgent | HostAgent, *, key: Key[Array, ""]) -> Film | None:
    """Draw side by side one episode each of the expert, the agent and the exact agents, with the same beginning.

    With exact agents, the episode is the one of `BEGINNINGS` in which delusion costs the most reward.

    Returns:
        None if the task has no drawing of its own.
    """
    num_episodes, exact = BEGINNINGS, {}
    if isinstance(process, InteractionProcess):
        if type(process.task).draw is AbstractTask.draw:
            return None
        if process.finite:
            exact = {mark: ExactAgent(process, mark) for mark in MARKS}
    elif isinstance(process, AbstractHostWorld) and process.no_film is None and not process.expert_is_person:
        num_episodes = min(BEGINNINGS, process.num_envs or BEGINNINGS)  # A simulator may be slow.
        exact = {} if process.no_exact_agent else {mark: process.exact_agent(mark) for mark in MARKS}
    else:
        return None
    actors = {"expert": None, "agent": agent} | {f"exact, {mark}": x for mark, x in exact.items()}
    episodes = {
        title: run(
            run_once, process, actor, executor="agent" if actor else "expert", key=key, num_episodes=num_episodes
        )
        for title, actor in actors.items()
    }
    shown = 0
    if exact:
        earned = [np.asarray(episodes[f"exact, {mark}"].reward).sum(-1) for mark in MARKS]
        shown = int(np.nan_to_num(earned[0] - earned[1], nan=-np.inf).argmax())
    title = f"{process.name}: one beginning, {'four' if exact else 'two'} actors"
    of_rollout = key if isinstance(process, AbstractHostWorld) else None
    films = [film(process, x, episode=shown, title=actor, size=200, key=of_rollout) for actor, x in episodes.items()]
    return side_by_side(films, title=title)
