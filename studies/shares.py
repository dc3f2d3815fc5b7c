"""Remark 15: networks taught with marks and without, by the share of dialogues that the expert wrote.

python studies/shares.py               about 6 minutes on two cores
python studies/shares.py --steps 5     a trial run
"""

import argparse
from typing import Any

import jax
import numpy as np
import store

import undelude as ud
from undelude._paper.blocks.dialogues import Dialogues
from undelude._teaching.loop import Loop
from undelude.tasks.menu import AGAIN

SEEDS = (0, 1, 2)
SHARES = (0.1, 0.5, 0.9, 0.99)
# Own dialogues count as many times at a share of .99.
WEIGHT = 99
NUM_EPISODES = 4096
SIZE = {"batch_size": 128, "learning_rate": 3e-2}


def teachings() -> dict[tuple[str, float], ud.Teaching]:
    """Return the teachings by name and share. Weighted dialogues are drawn more often, which is the same on average."""
    found: dict[tuple[str, float], ud.Teaching] = {}
    for share in SHARES:
        found["unmarked", share] = ud.DAgger(share, per="episode")
        found["marked", share] = ud.Teaching(expert_share=share, per="episode")
    own = WEIGHT * (1 - SHARES[-1])
    found["marked, weighted", SHARES[-1]] = ud.Teaching(expert_share=SHARES[-1] / (SHARES[-1] + own), per="episode")
    return found


def measure(dialogues: Dialogues, agent: ud.AbstractAgent) -> dict[str, float]:
    """Return KL(Q(A | do(a), o) || P), the rate of right dishes and of repeated ones, on the agent's own histories."""
    process, own = dialogues.process, agent.reading_as("do" if "do" in agent.marks else "see")
    episodes = ud.rollout(process, own, key=jax.random.key(9), num_episodes=NUM_EPISODES)
    P = np.exp(np.asarray(jax.jit(jax.vmap(own.predict))(episodes)[0].log_probs, float))
    a, o = np.asarray(episodes.actions), np.asarray(episodes.observations)
    # The exact answer, by the replies alone: agents of the library take no part in it.
    told = np.log(dialogues.replies)[(a[..., None] == np.arange(dialogues.num_dishes)).astype(int), o[..., None]]
    belief = np.exp(np.cumsum(told, 1) - told)
    do = belief / belief.sum(-1, keepdims=True) @ dialogues.expert
    asked = o[:, 0] == AGAIN
    return {
        "action_kl_do": float((do * np.log(do / P)).sum(-1).mean()),
        "repeat": float(P[asked, 1, a[asked, 0]].mean()),
        "hit": float((a[:, -1] == np.asarray(episodes.theta)).mean()),
    }


def study(steps: int) -> dict[str, Any]:
    """Teach one network by each teaching and seed."""
    dialogues, rows = Dialogues(), []
    process = dialogues.process
    for (name, share), teaching in teachings().items():
        # It is compiled once for all seeds.
        loop = Loop(process, teaching, steps=steps, log_every=steps, **SIZE)
        for seed in SEEDS:
            key_agent, key_teach = jax.random.split(jax.random.key(seed))
            run = loop.run(loop.begin(ud.LSTMAgent(process, 48, key=key_agent)), key=key_teach)
            rows.append({"teaching": name, "share": share, "seed": seed} | measure(dialogues, run.agent))
            print(rows[-1], flush=True)
    settings = dialogues.parameters | {"task": "menu", "agent": "LSTMAgent", "hidden_size": 48, "steps": steps, **SIZE}
    return {"seeds": list(SEEDS), "settings": settings | {"num_episodes": NUM_EPISODES}, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    steps = parser.parse_args().steps
    store.run("shares", lambda: study(steps), keep=steps == 1000)
