"""A run directory without training, for tests of the commands that read one."""

from pathlib import Path

import jax

import undelude as ud
from undelude._certificate.certificate import QUANTITIES
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude._runs.example_episode import READERS
from undelude._versions import versions
from user_folder import without_compiling

LOSSES = {"action_loss": 1.0, "observation_loss": 0.5, "action_kl_see": 0.2}
ROWS = [LOSSES | {"update": 2 * i, "seconds": 0.1 * i, "action_kl_do": 0.1 / i} for i in (1, 2, 3)]


def certificate(task: str) -> dict:
    """Return the content of a `certificate.json`."""
    made = dict.fromkeys([name for x in QUANTITIES for name in (x, f"{x}_se")], 0.25)
    made |= {"task": task, "agent": "LSTMAgent", "own_actions": "do", "teaching": "counterfactual"}
    made |= {"num_episodes": 16, "num_rounds": 3, "seconds": 1.5, "versions": versions()}
    made |= {"notes": {"reward_best": "a plan."}, "reward_exact_see": None, "observation_kl_do": "inf"}
    distributions = {name: [[0.5, 0.5], [0.25, 0.75], [0.75, 0.25], [1.0, 0.0]] for name in READERS}
    episode = {"theta": 1, "opening": None, "actions": [0, 1, 1], "observations": [0, 1, 0], "rewards": [0.0, 1.0, 0.0]}
    return made | {"episode": episode | {"policy": distributions, "belief": distributions, "num_episodes": 16}}


def write_run(path: Path, task: str = "bandit", **options: object) -> RunDirectory:
    """Write a finished run of 6 updates, with random numbers for an agent."""
    run = RunDirectory.create(path, Config(task, hidden_size=4, steps=6, **options))
    run.write_certificate(certificate(task))
    for row in ROWS:
        run.append_metrics(row)
    process = ud.tasks.bandit(num_arms=2, num_rounds=2)
    run.save_agent(without_compiling(lambda: ud.LSTMAgent(process, 4, key=jax.random.key(0))))
    return run
