"""Agents of every architecture taught for 20 rounds, evaluated after 20, 100 and 1,000 on the paper's bandit.

python studies/length.py               about 12 minutes on two cores
python studies/length.py --steps 5     a trial run
"""

import argparse
from typing import Any

import jax
import numpy as np
import store

import undelude as ud
from undelude._agents.base import predict, predict_stepwise

LENGTHS = (20, 100, 1000)
ARCHITECTURES: dict[str, Any] = {
    "lstm": ud.LSTMAgent,
    "gru": ud.GRUAgent,
    "linear": ud.LinearRecurrentAgent,
    "transformer": ud.TransformerAgent,
    "transformer, window 40": lambda process, key: ud.TransformerAgent(process, window=40, key=key),
    "markov, order 40": ud.MarkovAgent,
    "predictor, order 40": ud.SequencePredictor,
}
# Architectures that are also taught for longer: number of rounds.
TAUGHT_LONG = {"linear": 200}


def measure(agent: ud.AbstractAgent, num_rounds: int) -> float:
    """Return KL(Q(A | do(a), o) || P) in the last fifth of the rounds of its own episodes, nats per action."""
    process, exact = ud.tasks.bandit(num_rounds=num_rounds), ud.ExactAgent(ud.tasks.bandit())
    num_episodes = max(64, 20_000 // num_rounds)
    episodes = ud.rollout(process, agent, key=jax.random.key(9), num_episodes=num_episodes)

    def one(episode: ud.Episodes) -> jax.Array:
        answer, predicted = predict_stepwise(exact, episode)[0], predict(agent, episode)[0]
        return (answer.probs * (answer.log_probs - predicted.log_probs)).sum(-1)

    kl = np.asarray(jax.jit(lambda e: jax.lax.map(one, e, batch_size=64))(episodes))
    return float(kl[:, -(num_rounds // 5) :].mean())


def study(steps: int, num_seeds: int) -> dict[str, Any]:
    """Teach and evaluate all architectures."""
    rows = []
    jobs = [(name, 20) for name in ARCHITECTURES] + list(TAUGHT_LONG.items())
    for name, taught in jobs:
        process = ud.tasks.bandit(num_rounds=taught)
        runs = ud.replicate(
            process,
            lambda key, name=name, process=process: ARCHITECTURES[name](process, key=key),
            ud.Counterfactual(),
            key=jax.random.key(0),
            num_seeds=num_seeds,
            num_episodes=64,
            steps=steps,
            log_every=steps,
        )
        kl = {str(T): [measure(run.agent, T) for run in runs.runs] for T in LENGTHS}
        seconds = [run.seconds for run in runs.runs]
        rows.append({"agent": name, "taught_rounds": taught, "kl_do_last_fifth": kl, "training_seconds": seconds})
        print(rows[-1], flush=True)
    settings = {"task": "bandit", "teaching": "counterfactual", "steps": steps, "batch_size": 64}
    settings |= {"key of seed i": "fold_in(key(0), i)"}
    return {"seeds": list(range(num_seeds)), "settings": settings, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    store.run("length", lambda: study(steps, 3 if steps >= 100 else 2), keep=steps == 2000)
