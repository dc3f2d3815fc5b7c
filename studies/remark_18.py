"""Remark 18: does the observation loss help to learn the action distribution? Three weights, equal budget.

python studies/remark_18.py                about 5 minutes on two cores
python studies/remark_18.py --steps 50     a trial run
"""

import argparse
import statistics
from typing import Any

import jax
import store

import undelude as ud

WEIGHTS = (0.0, 0.1, 1.0)
SEEDS = (0, 1, 2)


def study(steps: int, batch_size: int = 64, hidden_size: int = 48, num_episodes: int = 4096) -> dict[str, Any]:
    """Teach and certify one agent for each weight and seed."""
    bandit = ud.tasks.bandit()
    rows = []
    for weight in WEIGHTS:
        for seed in SEEDS:
            key_agent, key_teach, key_certify = jax.random.split(jax.random.key(seed), 3)
            agent = ud.LSTMAgent(bandit, hidden_size, key=key_agent)
            teaching = ud.Counterfactual(observation_weight=weight)
            run = ud.teach(bandit, agent, teaching, key=key_teach, steps=steps, batch_size=batch_size, log_every=steps)
            report = ud.certify(bandit, run.agent, key=key_certify, num_episodes=num_episodes, baselines=False)
            rows.append({"observation_weight": weight, "seed": seed, "action_kl_do": report.action_kl_do})
            rows[-1] |= {"action_kl_do_se": report.action_kl_do_se, "observation_kl_do": report.observation_kl_do}
            print(rows[-1], flush=True)
    means = {}
    for weight in WEIGHTS:
        kls = [row["action_kl_do"] for row in rows if row["observation_weight"] == weight]
        means[str(weight)] = {"mean": statistics.fmean(kls), "sd_over_seeds": statistics.stdev(kls)}
    settings = {"task": "bandit", "agent": "LSTMAgent", "steps": steps, "batch_size": batch_size}
    settings |= {"hidden_size": hidden_size, "num_episodes": num_episodes}
    return {"seeds": list(SEEDS), "settings": settings, "action_kl_do": means, "runs": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=700)
    steps = parser.parse_args().steps
    store.run("remark_18", lambda: study(steps), keep=steps == 700)
