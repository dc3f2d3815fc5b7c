"""The measurements and the film of an agent, for `train` and `certify`."""

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
from undelude._cli.errors import explain
from undelude._cli.interrupts import Interrupts
from undelude._distributions import Symbols, num_symbols
from undelude._drawing.film import Film, film, side_by_side, write_gif
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractTask
from undelude._rollout.rollout import rollout
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude._runs.example_episode import READERS
from undelude._runs.layout import FILM, MOST

# Episodes per row of metrics: the standard error of a KL is then a few percent of it.
EPISODES_A_ROW = 256
# Episodes from which the film is chosen.
BEGINNINGS = 64
# Numbers in the example episode of a certificate, for its file and for the memory that choosing it takes.
MOST_NUMBERS = 2**20
# Episodes per certificate.
NUM_EPISODES = 4096


def keys(config: Config) -> dict[str, Key[Array, ""]]:
    """Return the random keys of a run by purpose."""
    names = ("agent", "teaching", "metrics", "certificate")
    return dict(zip(names, jax.random.split(jax.random.key(config.seed), len(names)), strict=True))


def measurer(process: InteractionProcess, config: Config) -> Callable[[AbstractAgent], dict[str, Any]]:
    """Return a function that measures an agent for a row of `metrics.jsonl`, with the same random numbers each time."""
    key = keys(config)["metrics"]

    def measure(agent: AbstractAgent) -> dict[str, Any]:
        report = certify(process, agent, key=key, num_episodes=EPISODES_A_ROW, baselines=False)
        return {"action_kl_do": report.action_kl_do, "action_kl_see": report.action_kl_see}

    return measure


def make_certificate(
    agent: AbstractAgent, process: InteractionProcess, config: Config, *, num_episodes: int = NUM_EPISODES
) -> dict[str, Any]:
    """Return the content of `certificate.json`.

    Args:
        agent: the agent of the run.
        process: the task of the run.
        config: the options of the run.
        num_episodes: B.

    Raises:
        ValueError: the agent was made for another task.
    """
    # On one device, as in training: the programs compiled there for its measurements are then used again.
    agent = jax.device_put(agent, jax.local_devices()[0])
    key = keys(config)["certificate"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # The notes hold the same warnings and are printed.
        report = certify(process, agent, key=key, num_episodes=num_episodes).to_dict()
    try:
        too_large = too_large_for_an_example(process)
        episode = None if too_large else example_episode(process, agent, key=key)
        report["notes"] |= {"episode": too_large} if too_large else {}
    except TypeError:  # Theta is continuous, or actions are not symbols.
        episode = None
    head = {"task": config.task, "agent": report["agent"], "teaching": config.teaching}
    return head | {name: value for name, value in report.items() if name not in head} | {"episode": episode}


def too_large_for_an_example(process: InteractionProcess) -> str | None:
    """Return why the certificate of a process has no example episode, if it would hold too many numbers."""
    if not process.finite:
        return None
    actions = num_symbols(process.action_spec) if isinstance(process.action_spec, Symbols) else 0
    numbers = (process.num_rounds + 1) * (process.num_thetas + actions) * len(READERS)
    return f"it would hold {numbers} numbers, of {MOST_NUMBERS} at most." if numbers > MOST_NUMBERS else None


def write_film(
    run: RunDirectory, agent: AbstractAgent, process: InteractionProcess, console: Console, interrupts: Interrupts
) -> None:
    """Write `episode.gif` if the task has a drawing; print an error in the drawing, but do not raise it."""
    try:
        frames = interrupts.run(lambda: make_film(agent, process, run.config))
        if frames is None:
            return
        with interrupts.held():
            write_gif(run.film_file, frames)
            if (size := run.film_file.stat().st_size) > MOST[FILM]:
                run.film_file.unlink()
                raise ValueError(f"it would have {size} bytes, of {MOST[FILM]} at most.")
    except Exception as error:
        console.print(f"No film of {run.config.task}: {explain(error)}", soft_wrap=True)


def make_film(agent: AbstractAgent, process: InteractionProcess, config: Config) -> Film | None:
    """Draw side by side one episode each of the expert, the agent and the exact agents, with the same beginning.

    With exact agents, the episode is the one of `BEGINNINGS` in which delusion costs the most reward. Films of episodes
    that end early are prolonged by their last frame.

    Returns:
        None if the task has no drawing of its own.
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
    films = [film(process, x, episode=shown, title=title, size=200) for title, x in episodes.items()]
    length = max(map(len, films))
    return side_by_side([np.concatenate([x, np.repeat(x[-1:], length - len(x), axis=0)]) for x in films])
