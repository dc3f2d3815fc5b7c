"""Remark 15: networks evaluated as an actor, as an onlooker, and taking turns with the expert.

python studies/remark_15.py               about 3 minutes on two cores
python studies/remark_15.py --steps 5     a trial run
"""

import argparse
from typing import Any

import jax
import store

import undelude as ud
from undelude._agents.base import Reading, predict, predict_stepwise, with_reading
from undelude._process.inference import reread
from undelude._teaching.updates import collect

SEEDS = (0, 1)
# The expert's share of actions in the episodes of each role.
ROLES = {"acting": 0.0, "taking turns": 0.5, "looking on": 1.0}


def measure(process: ud.InteractionProcess, agent: ud.AbstractAgent, share: float, marked: bool) -> float:
    """Return KL(Q(A | marked history) || P), nats per action, in episodes with that share of the expert."""
    # Allow both marks; an agent taught without marks reads all actions alike.
    asked = with_reading(agent, Reading(agent.own_actions))

    def one(key: jax.Array) -> jax.Array:
        episode = collect(process, asked, ud.Teaching(expert_share=share), key)
        answer, _ = predict_stepwise(ud.ExactAgent(process), episode)
        read = episode if marked else reread(episode, agent.own_actions)
        predicted, _ = predict(asked, read)
        return (answer.probs * (answer.log_probs - predicted.log_probs)).sum(-1).mean()

    return float(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(9), 2000)).mean())


def study(steps: int) -> dict[str, Any]:
    """Teach one network by each teaching and seed, and evaluate it in each role."""
    process, rows = ud.tasks.bandit(), []
    for teaching in (ud.Mixed(0.5), ud.Counterfactual(), ud.Factual(), ud.DAgger(0.5)):
        for seed in SEEDS:
            key_agent, key_teach = jax.random.split(jax.random.key(seed))
            agent = ud.LSTMAgent(process, 64, key=key_agent)
            run = ud.teach(process, agent, teaching, key=key_teach, steps=steps, log_every=steps)
            kl = {role: measure(process, run.agent, share, teaching.is_marked) for role, share in ROLES.items()}
            rows.append({"teaching": teaching.name, "seed": seed, "action_kl": kl})
            print(rows[-1], flush=True)
    settings = {"task": "bandit", "agent": "LSTMAgent", "hidden_size": 64, "steps": steps, "batch_size": 64}
    return {"seeds": list(SEEDS), "settings": settings | {"num_episodes": 2000}, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    store.run("remark_15", lambda: study(steps), keep=steps == 2000)
