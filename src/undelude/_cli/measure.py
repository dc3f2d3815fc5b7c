"""What `train` and `certify` measure of an agent."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key
from rich.console import Console

from undelude._agents.base import AbstractAgent
from undelude._agents.exact import ExactAgent
from undelude._certificate.certificate import certify
from undelude._certificate.example_episode import example_episode
from undelude._certificate.per_episode import MARKS
from undelude._drawing.film import Film, film, side_by_side, write_gif
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractTask
from undelude._rollout.rollout import rollout
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude._runs.errors import explain

# Own episodes behind each row of metrics: the standard error of a KL is then a few percent of it.
EPISODES_A_ROW = 256
# Beginnings, of which the film shows one.
BEGINNINGS = 64
NUM_EPISODES = 4096


def keys(config: Config) -> dict[str, Key[Array, ""]]:
    """All randomness of a run."""
    names = ("agent", "teaching", "metrics", "certificate")
    return dict(zip(names, jax.random.split(jax.random.key(config.seed), len(names)), strict=True))


def measurer(process: InteractionProcess, config: Config) -> Callable[[AbstractAgent], dict[str, Any]]:
    """A function from the agent to the columns of `metrics.jsonl` that are measured, always on the same draws."""
    key = keys(config)["metrics"]

    def measure(agent: AbstractAgent) -> dict[str, Any]:
        report = certify(process, agent, key=key, num_episodes=EPISODES_A_ROW, baselines=False)
        return {"action_kl_do": report.action_kl_do, "action_kl_see": report.action_kl_see}

    return measure


def make_certificate(
    agent: AbstractAgent, process: InteractionProcess, config: Config, *, num_episodes: int = NUM_EPISODES
) -> dict[str, Any]:
    """What `certificate.json` holds.

    Args:
        agent: of the run.
        process: its task.
        config: of the run.
        num_episodes: B.

    Raises:
        ValueError: the agent is of another task.
    """
    # Where training left it: programs that were compiled for its measurements then serve here.
    agent = jax.device_put(agent, jax.local_devices()[0])
    key = keys(config)["certificate"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # What there is to warn of stands in the notes, and is printed.
        report = certify(process, agent, key=key, num_episodes=num_episodes).to_dict()
    try:
        episode = example_episode(process, agent, key=key)
    except TypeError:  # Theta is continuous, or actions are not symbols: there is nothing to draw beside.
        episode = None
    head = {"task": config.task, "agent": report["agent"], "teaching": config.teaching}
    return head | {name: value for name, value in report.items() if name not in head} | {"episode": episode}


def write_film(run: RunDirectory, agent: AbstractAgent, process: InteractionProcess, console: Console) -> None:
    """Write `episode.gif`, where the task draws something; what goes wrong there is said, and stops nothing."""
    try:
        if (frames := make_film(agent, process, run.config)) is not None:
            write_gif(run.film_file, frames)
    except Exception as error:
        console.print(f"No film of {run.config.task}: {explain(error)}", soft_wrap=True)


def make_film(agent: AbstractAgent, process: InteractionProcess, config: Config) -> Film | None:
    """One beginning, as expert, agent and exact agents go on from it; None where a task draws nothing of its own.

    Where there are exact agents, it is that of `BEGINNINGS` at which delusion costs the most reward.
    """
    if type(process.task).draw is AbstractTask.draw:
        return None
    actors: dict[str, AbstractAgent | None] = {"expert": None, "agent": agent}
    if process.finite:
        actors |= {f"exact, {mark}": ExactAgent(process, mark) for mark in MARKS}
    size = {"key": keys(config)["certificate"], "num_episodes": BEGINNINGS}
    episodes = {
        title: rollout(process, actor, executor="agent" if actor else "expert", **size)
        for title, actor in actors.items()
    }
    shown = 0
    if process.finite:
        earned = [np.asarray(episodes[f"exact, {mark}"].reward).sum(-1) for mark in MARKS]
        shown = int(np.nan_to_num(earned[0] - earned[1], nan=-np.inf).argmax())
    return side_by_side([film(process, x, episode=shown, title=title, size=200) for title, x in episodes.items()])
