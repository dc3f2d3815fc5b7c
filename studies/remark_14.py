"""Remark 14: one network taught with both marks, and one without marks, after all 64 pasts of three symbols.

python studies/remark_14.py               about 2 minutes on two cores
python studies/remark_14.py --steps 5     a trial run
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import store

import undelude as ud
from undelude._agents.base import Reading, predict, with_reading
from undelude._paper.blocks.processes import exact
from undelude._paper.blocks.remark_14 import four_symbols, pasts
from undelude._process.inference import reread

# Dirichlet concentration of the tables; large enough for every past to occur.
CONCENTRATION = 4.0


def study(steps: int) -> dict[str, Any]:
    """Compute P(X_4 = 1) after each past, exactly and by both networks."""
    process = four_symbols(num_thetas=2, concentration=CONCENTRATION)
    x, done, histories = pasts(process)
    predicted = {"exact": np.asarray(exact(process, histories).P_A)[:, 3, 1].tolist()}
    for name, teaching in (("marked", ud.Mixed(0.5)), ("unmarked", ud.DAgger(0.5))):
        agent = ud.LSTMAgent(process, 24, key=jax.random.key(0))
        size = {"steps": steps, "batch_size": 2048, "learning_rate": 2e-2, "log_every": steps}
        taught = ud.teach(process, agent, teaching, key=jax.random.key(1), **size).agent
        read = histories if teaching.is_marked else reread(histories, taught.own_actions)
        asked = with_reading(taught, Reading(taught.own_actions))
        P_A, _ = jax.jit(jax.vmap(lambda episode, asked=asked: predict(asked, episode)))(read)
        predicted[name] = jnp.exp(P_A.log_probs)[:, 3, 1].tolist()
        print(name, np.abs(np.array(predicted[name]) - predicted["exact"]).max(), flush=True)
    settings = {"process": f"four_symbols(num_thetas=2, concentration={CONCENTRATION})", "agent": "LSTMAgent"}
    settings |= {"hidden_size": 24, "steps": steps, "batch_size": 2048}
    rows = {"symbols": x.tolist(), "done": done.astype(int).tolist()}
    return {"seeds": [0], "settings": settings, **rows, "probability_of_1": predicted}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    store.run("remark_14", lambda: study(steps), keep=steps == 2000)
