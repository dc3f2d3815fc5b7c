"""Remark 17: the error of cloning and of counterfactual teaching by data and size, with theta hidden or observed.

python studies/remark_17.py               about 6 minutes on two cores
python studies/remark_17.py --steps 8     a trial run
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import store

import undelude as ud

SIZES = (4, 16, 64)
CHECKPOINTS = (0.0625, 0.125, 0.25, 0.5, 1.0)


class Shown(ud.AbstractTask[Any]):
    """Remark 11's bandit with theta as its opening, O_0 = 2 + theta."""

    theta_free_memory = True
    log_probs: jax.Array  # [K, A, O]

    def init(self, theta):
        """Return -1, as there is no action yet."""
        return jnp.asarray(-1, jnp.int32)

    def Q_O(self, theta, w):
        """Return the distribution of the opening, then of the reward."""
        told = jnp.where(jnp.arange(self.log_probs.shape[-1]) == 2 + theta, 0.0, -jnp.inf)
        return ud.Categorical(log_probs=jnp.where(w < 0, told, self.log_probs[theta, w]))

    def g_A(self, theta, a, w):
        """Remember the arm."""
        return jnp.asarray(a, jnp.int32)

    def g_O(self, theta, o, w):
        """Return the memory unchanged."""
        return w

    def reward(self, theta, w, a, o):
        """Return 1 if the arm paid."""
        return (o == 1).astype(float)


def shown() -> ud.InteractionProcess:
    """Return the bandit with theta as its opening."""
    b = ud.tasks.bandit()
    rest = jnp.full((5, 5, 5), -jnp.inf)
    task = Shown(jnp.concatenate([b.task.log_probs, rest], -1))
    return ud.InteractionProcess(b.prior, b.thetas, task, b.expert, b.num_rounds, opening=True, name="shown")


def study(steps: int, num_seeds: int) -> dict[str, Any]:
    """Teach with each teaching, size and seed, and certify during training."""
    rows = []
    stops = sorted({max(1, round(steps * x)) for x in CHECKPOINTS})
    for process in (ud.tasks.bandit(), shown()):
        for teaching in (ud.Counterfactual(), ud.Cloning()):
            for size in SIZES if process.name == "bandit" else (16,):
                for seed in range(num_seeds):
                    kls = {}

                    def log(state: Any, row: dict, process=process, kls=kls) -> None:
                        if row["update"] in stops:
                            report = ud.certify(
                                process, state.agent, key=jax.random.key(9), num_episodes=1000, baselines=False
                            )
                            kls[row["update"]] = report.action_kl_do

                    key_agent, key_teach = jax.random.split(jax.random.key(seed))
                    agent = ud.LSTMAgent(process, size, key=key_agent)
                    every = int(np.gcd.reduce(stops))
                    ud.teach(process, agent, teaching, key=key_teach, steps=steps, log_every=every, on_log=log)
                    row = {"theta": "hidden" if process.name == "bandit" else "shown", "teaching": teaching.name}
                    rows.append(row | {"hidden_size": size, "seed": seed, "action_kl_do": list(kls.values())})
                    print(rows[-1], flush=True)
    settings = {"task": "bandit", "agent": "LSTMAgent", "steps": steps, "batch_size": 64, "updates": stops}
    return {"seeds": list(range(num_seeds)), "settings": settings, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1600)
    steps = parser.parse_args().steps
    store.run("remark_17", lambda: study(steps, 2 if steps >= 100 else 1), keep=steps == 1600)
