"""The measurements and the film of an agent, for `train` and `certify`."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Key
from rich.console import Console

from undelude._agents.base import AbstractAgent
from undelude._certificate.baselines import Baselines
from undelude._certificate.certificate import certify, certify_with, measure_baselines_of
from undelude._certificate.example_episode import example_entries
from undelude._cli.errors import explain
from undelude._cli.interrupts import Interrupts
from undelude._cli.options import NUM_EPISODES
from undelude._process.host_world import AbstractHostWorld, World
from undelude._rollout.host import sampled
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude._runs.layout import FILM, MAX_BYTES
from undelude._runs.metrics import DISTANCES, EPISODES_A_ROW, OWN_SCORES
from undelude._types import OnProgress


def keys(config: Config) -> dict[str, Key[Array, ""]]:
    """Return the random keys of a run by purpose."""
    names = ("agent", "teaching", "metrics", "certificate")
    return dict(zip(names, jax.random.split(jax.random.key(config.seed), len(names)), strict=True))


def measurer(process: World, config: Config) -> Callable[[AbstractAgent], dict[str, Any]]:
    """Return a function that measures an agent for a row of `metrics.jsonl`, with the same random numbers each time."""
    key = keys(config)["metrics"]
    process, columns = sampled(process), DISTANCES
    if isinstance(process, AbstractHostWorld) and process.no_exact_agent:
        columns = (*DISTANCES, *OWN_SCORES)

    def measure(agent: AbstractAgent) -> dict[str, Any]:
        report = certify(process, agent, key=key, num_episodes=EPISODES_A_ROW, baselines=False)
        return {name: getattr(report, name) for name in columns}

    return measure


def run_baselines(
    process: World, config: Config, *, num_episodes: int = NUM_EPISODES, on_progress: OnProgress | None = None
) -> Baselines:
    """Measure the baselines of the certificate of a run."""
    key = keys(config)["certificate"]
    return measure_baselines_of(sampled(process), key=key, num_episodes=num_episodes, on_progress=on_progress)


def make_certificate(
    agent: AbstractAgent,
    process: World,
    config: Config,
    *,
    num_episodes: int = NUM_EPISODES,
    baselines: Callable[[], Baselines] | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Return the content of `certificate.json`.

    Args:
        agent: the agent of the run.
        process: the task of the run.
        config: the options of the run.
        num_episodes: B.
        baselines: returns `run_baselines(...)`, if they were measured before.
        on_progress: as for `certify`.

    Raises:
        ValueError: the agent was made for another task.
    """
    # On one device, as in training: the programs compiled there for its measurements are then used again.
    agent = jax.device_put(agent, jax.local_devices()[0])
    process, key = sampled(process), keys(config)["certificate"]
    size = {"num_episodes": num_episodes, "on_progress": on_progress}
    baselines = baselines or (lambda: run_baselines(process, config, **size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # The notes hold the same warnings and are printed.
        report = certify_with(process, agent, baselines, key=key, **size).to_dict()
    report |= example_entries(process, agent, report["notes"], key=key)
    head = {"task": config.task, "agent": report["agent"], "teaching": config.teaching}
    return head | {name: value for name, value in report.items() if name not in head}


def write_film(
    run: RunDirectory, agent: AbstractAgent, process: World, console: Console, interrupts: Interrupts
) -> None:
    """Write `episode.gif` if the task has a drawing; print an error in the drawing, but do not raise it."""
    # Matplotlib and Pillow load slowly.
    from undelude._drawing.gif import write_gif
    from undelude._report.actors import film_of_actors

    try:
        frames = interrupts.run(lambda: film_of_actors(process, agent, key=keys(run.config)["certificate"]))
        if frames is None:
            return
        with interrupts.held():
            write_gif(run.film_file, frames)
            if (size := run.film_file.stat().st_size) > MAX_BYTES[FILM]:
                run.film_file.unlink()
                raise ValueError(f"it would have {size} bytes, of {MAX_BYTES[FILM]} at most.")
    except Exception as error:
        console.print(f"No film of {run.config.task}: {explain(error)}", soft_wrap=True)
