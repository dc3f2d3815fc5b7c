"""Remark 17: the limits of DAgger without marks, with turns per step and per episode, and networks taught so.

python studies/dagger.py               about 3 minutes on two cores
python studies/dagger.py --steps 5     a trial run
"""

import argparse
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import store

import undelude as ud
from undelude._agents.base import predict

ARMS, BETA = 3, 0.5


def limits(process: ud.InteractionProcess, histories: list[tuple], beta: float, per: str) -> np.ndarray:
    """Return the limit of DAgger without marks after each history, `sum_theta Q(theta | h) Q(A | theta)`.

    Per step `Q(theta | h)` is proportional to `Q(theta) prod_t [beta Q(a_t | theta) + (1 - beta) P(a_t | h_t)]
    Q(o_t | theta, a_t)`, with the limit itself as `P`. Per episode the products over t are within the bracket.
    """
    expert, pays = (np.exp(np.asarray(x.log_probs, float)) for x in (process.expert, process.task))

    def limit(history: tuple) -> np.ndarray:
        nature, steps, pi, own = np.asarray(process.prior, float), np.ones(ARMS), np.ones(ARMS), 1.0
        for t, (a, o) in enumerate(history):
            P = limit(history[:t])[a] if beta < 1 else 0.0
            nature, pi, own = nature * pays[:, a, o], pi * expert[:, a], own * P
            steps = steps * (beta * expert[:, a] + (1 - beta) * P)
        belief = nature * (steps if per == "step" else beta * pi + (1 - beta) * own)
        return belief / belief.sum() @ expert

    return np.array([limit(history) for history in histories])


def study(steps: int) -> dict[str, Any]:
    """Compare two networks with four distributions after all histories of two rounds."""
    process = ud.tasks.bandit(num_arms=ARMS, num_rounds=3)
    histories = list(itertools.product(itertools.product(range(ARMS), range(2)), repeat=2))
    distributions = {
        "do": limits(process, histories, 0.0, "step"),
        "per step": limits(process, histories, BETA, "step"),
        "per episode": limits(process, histories, BETA, "episode"),
        "see": limits(process, histories, 1.0, "step"),
    }
    # A third round, for the prediction before it.
    a, o = (np.pad([[x[i] for x in h] for h in histories], ((0, 0), (0, 1))) for i in (0, 1))
    asked = ud.Episodes.of(process, actions=a, observations=o, intervened=False)
    rows = {}
    for per in ("step", "episode"):
        agent = ud.GRUAgent(process, 24, key=jax.random.key(0))
        size = {"steps": steps, "batch_size": 1024, "learning_rate": 2e-2, "log_every": steps}
        run = ud.teach(process, agent, ud.DAgger(BETA, per=per), key=jax.random.key(1), **size)
        P_A, _ = jax.jit(jax.vmap(lambda episode, agent=run.agent: predict(agent, episode)))(asked)
        predicted = np.asarray(jnp.exp(P_A.log_probs))[:, 2]
        rows[f"per {per}"] = {
            name: float(np.abs(predicted - distribution).sum(1).max() / 2)
            for name, distribution in distributions.items()
        }
        print(per, rows[f"per {per}"], flush=True)
    apart = {
        name: float(np.abs(distribution - distributions["per step"]).sum(1).max() / 2)
        for name, distribution in distributions.items()
    }
    settings = {"process": f"bandit(num_arms={ARMS}, num_rounds=3)", "agent": "GRUAgent", "hidden_size": 24}
    settings |= {"steps": steps, "batch_size": 1024, "beta": BETA}
    return {"seeds": [0], "settings": settings, "largest_total_variation": rows, "of_the_limit_per_step": apart}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    store.run("dagger", lambda: study(steps), keep=steps == 2000)
