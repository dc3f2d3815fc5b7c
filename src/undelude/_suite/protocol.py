"""One agent on one task of the suite."""

import dataclasses
import time
import warnings

import jax

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._certificate.certificate import certify
from undelude._process.host_world import World, closing
from undelude._rollout.host import sampled
from undelude._suite.contestants import Contestant, Declines, NotRun, Unplayable
from undelude._suite.definitions import SEED, check_definition, digest
from undelude._suite.results import SCORES, WORST, TaskResult
from undelude._suite.worst_round import worst_round
from undelude._versioned_tasks import VersionedTask

# Settings of JAX on which its random numbers depend.
NUMERICS = {"jax_enable_x64": False, "jax_default_prng_impl": "threefry2x32", "jax_threefry_partitionable": True}


def run_task(task: VersionedTask, contestant: Contestant, *, num_episodes: int | None = None) -> TaskResult:
    """Measure an agent on one task: its certificate on the suite's own episodes, and its worst round.

    Args:
        task: of the suite.
        contestant: the agent.
        num_episodes: B; the task's own by default. Another number is a trial, which a leaderboard shows on request.

    Raises:
        ValueError: the task is not the one that was frozen, because a library changed it; or JAX draws other numbers.
    """
    definition = digest(task)
    for name, wanted in NUMERICS.items():
        if (have := getattr(jax.config, name)) != wanted:
            raise ValueError(
                f"the suite is played with {name}={wanted}, and JAX has {name}={have}: the same seed would give other "
                f"episodes. Unset the environment variable {name.upper()}."
            )
    if task.missing is not None:
        return TaskResult("not run", task.missing, definition)
    with closing(task.make()) as process:
        if task.extra is not None:  # Its tables are another library's, of any version.
            check_definition(task, process)
        measured = contestant.measured(task)
        known = {"measured": measured.digest, "recipe": measured.recipe}
        match contestant.answer(task, process):
            case NotRun(why):
                return TaskResult("not run", why, definition)
            case Declines(why):
                return TaskResult("not played", why, definition, **known)
            case agent:
                try:
                    found = measure(process, agent, definition, num_episodes=num_episodes or task.num_episodes)
                    return dataclasses.replace(found, notes={**found.notes, **contestant.notes()}, **known)
                except Unplayable as error:
                    return TaskResult("not played", str(error), definition, **known)


def measure(process: World, agent: AbstractAgent | HostAgent, definition: str, *, num_episodes: int) -> TaskResult:
    """Measure an agent in a process: `ud.certify` with the suite's key, and the worst round."""
    started = time.perf_counter()
    world, key = sampled(process), jax.random.key(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # That imitation is the wrong goal is a property of the task.
        report = certify(world, agent, key=key, num_episodes=num_episodes, baselines=False)
    worst, number = worst_round(report)
    scores = {name: worst if name == WORST else report.quantities[name] for name in SCORES}
    return TaskResult(
        status="played",
        why=None,
        definition=definition,
        num_episodes=report.num_episodes,
        num_rounds=report.num_rounds,
        own_actions=report.own_actions,
        verdict=report.verdict,
        worst_round=number,
        seconds=round(time.perf_counter() - started, 1),
        scores=scores,
        notes={name: note for name, note in report.notes.items() if name not in report.quantities},
    )
