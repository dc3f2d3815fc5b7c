"""Interventional fine-tuning (de Freitas and Ortega, 2026) on transcripts of the expert, and on the agent's own.

python studies/interventional.py               about 3 minutes on two cores
python studies/interventional.py --steps 5     a trial run
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import store

import undelude as ud
from undelude._paper.blocks.dialogues import WORLDS, Dialogues
from undelude._teaching.loop import Loop
from undelude.tasks.menu import YES

SEEDS = (0, 1, 2)
# The expert's share of the transcripts.
WRITERS = {"expert": 1.0, "own": 0.0}
SIZE = {"batch_size": 128, "learning_rate": 3e-2}


def confirms(dialogues: Dialogues, agent: ud.AbstractAgent) -> float:
    """Return the agent's probability that the customer says yes to its own first dish, the mean over dishes."""

    def one(a: jax.Array) -> jax.Array:
        m = agent.g_A(a, agent.init(num_rounds=dialogues.num_turns), intervened=False)
        return jnp.exp(agent.f_O(m).log_probs[YES])

    return float(np.mean([one(jnp.asarray(a)) for a in range(dialogues.num_dishes)]))


def study(steps: int) -> dict[str, Any]:
    """Teach one network in each world, by each writer and from each seed."""
    rows = []
    for world, dialogues in WORLDS.items():
        for writer, share in WRITERS.items():
            teaching = ud.Interventional(share)
            loop = Loop(dialogues.process, teaching, steps=steps, log_every=steps, **SIZE)
            for seed in SEEDS:
                key_agent, key_teach = jax.random.split(jax.random.key(seed))
                agent = ud.LSTMAgent(dialogues.process, 32, key=key_agent)
                run = loop.run(loop.begin(agent), key=key_teach)
                rows.append({"world": world, "writer": writer, "seed": seed, "yes": confirms(dialogues, run.agent)})
                print(rows[-1], flush=True)
    settings = {"task": "menu", "agent": "LSTMAgent", "hidden_size": 32, "steps": steps, **SIZE}
    worlds = {world: dialogues.parameters for world, dialogues in WORLDS.items()}
    return {"seeds": list(SEEDS), "settings": settings | {"worlds": worlds}, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    steps = parser.parse_args().steps
    store.run("interventional", lambda: study(steps), keep=steps == 600)
