"""The bandit of Swamy et al. (2022, arXiv:2208.02225), with trained nets beside the exact curves.

Five doors, one is right. An observation says whether the chosen door was right and is flipped with probability eps_obs;
the expert takes the right door, and any other with probability eps_exp. Agents act by the authors' rule: the most
probable door, flipped to another with probability eps_exp. One net of each architecture learns all 3 x 5 cells; O_0
tells it which it is in.

    python studies/doors.py                    about 40 minutes on two cores
    python studies/doors.py --agents linear    one architecture anew, beside what is stored of the others
    python studies/doors.py --steps 5          to see that it runs
"""

import argparse
import itertools
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import store

import undelude as ud
from undelude.agent import Mark, unroll
from undelude.paper.results import load
from undelude.tasks.tables import TableExpert

DOORS = 5
CELLS = list(itertools.product((0.1, 0.3, 0.4), (0.1, 0.3, 0.5, 0.7, 0.9)))


class Doors(ud.AbstractTask[jax.Array]):
    """`Q(O | theta, a)`, theta = 5 cell + door; O_0 is 2 + cell, later observations are 0 and 1."""

    theta_free_memory = True
    log_opening: jax.Array  # [K, O]
    log_probs: jax.Array  # [K, A, O]

    def init(self, theta):
        """No action yet."""
        return jnp.asarray(-1, jnp.int32)

    def Q_O(self, theta, w):
        """The cell; then whether the door was right, or so it seems."""
        return ud.Categorical(log_probs=jnp.where(w < 0, self.log_opening[theta], self.log_probs[theta, w]))

    def g_A(self, theta, a, w):
        """Remember the door."""
        return jnp.asarray(a, jnp.int32)

    def g_O(self, theta, o, w):
        """Nothing to remember."""
        return w

    def reward(self, theta, w, a, o):
        """Whether the door was right."""
        return (a == theta % DOORS).astype(float)


def doors(num_rounds: int) -> ud.InteractionProcess:
    """All cells as one process."""
    num_cells = len(CELLS)
    cell, door = np.divmod(np.arange(DOORS * num_cells), DOORS)
    eps_obs, eps_exp = np.array(CELLS).T[:, cell]
    right = np.arange(DOORS) == door[:, None]
    expert = np.where(right, 1 - eps_exp[:, None], eps_exp[:, None] / (DOORS - 1))
    seems = np.where(right, 1 - eps_obs[:, None], eps_obs[:, None])
    task = np.zeros((len(cell), DOORS, 2 + num_cells))
    task[..., 0], task[..., 1] = 1 - seems, seems
    start = np.eye(2 + num_cells)[2 + cell]
    with np.errstate(divide="ignore"):
        start, task = np.log(start), np.log(task)
    return ud.InteractionProcess(
        prior=np.full(len(cell), 1 / len(cell)),
        thetas=jnp.arange(len(cell)),
        task=Doors(jnp.asarray(start, float), jnp.asarray(task, float)),
        expert=TableExpert(jnp.log(jnp.asarray(expert, float))),
        num_rounds=num_rounds,
        opening=True,
        name="doors",
    )


class ArgmaxThenFlip(ud.AbstractSequenceAgent[Any]):
    """An agent that acts by the authors' rule on what its policy says; its memory begins with the cell."""

    agent: ud.AbstractAgent
    eps_exp: tuple[float, ...] = eqx.field(static=True)  # of each cell
    own_actions: Mark = eqx.field(static=True, default="do")
    marks: tuple[Mark, ...] = eqx.field(static=True, default=("do", "see"))

    def init(self, *, num_rounds):
        """No cell yet."""
        return jnp.asarray(-1, jnp.int32), self.agent.init(num_rounds=num_rounds)

    def f_A(self, m):
        """The agent's."""
        return self.agent.f_A(m[1])

    def f_O(self, m):
        """The agent's."""
        return self.agent.f_O(m[1])

    def g_A(self, a, m, *, intervened):
        """The agent's."""
        return m[0], self.agent.g_A(a, m[1], intervened=intervened)

    def g_O(self, o, m):
        """The agent's; the first observation is the cell."""
        return jnp.where(m[0] < 0, o - 2, m[0]), self.agent.g_O(o, m[1])

    def act(self, m, *, key):
        """The door that is most probably right: the least probable for an expert who is mostly wrong."""
        key_flip, key_other, key_tie = jax.random.split(key, 3)
        eps = jnp.asarray(self.eps_exp)[m[0]]
        probs = self.agent.f_A(m[1]).probs
        sign = jnp.where(1 - eps > eps / (DOORS - 1), 1.0, -1.0)
        best = jnp.argmax(sign * probs + 1e-6 * jax.random.uniform(key_tie, (DOORS,)))
        other = (best + jax.random.randint(key_other, (), 1, DOORS)) % DOORS
        return jnp.where(jax.random.bernoulli(key_flip, eps), other, best).astype(jnp.int32), m

    def unroll(self, episode):
        """The agent's."""
        return unroll(self.agent, episode)


def acting(agent: ud.AbstractAgent) -> ArgmaxThenFlip:
    """`agent`, acting by that rule; taught so too."""
    return ArgmaxThenFlip(agent, tuple(eps for _, eps in CELLS), agent.own_actions, agent.marks)


# For how many rounds they are taught, and in how many episodes of each cell they are measured: all of a transformer's
# past is read at every symbol.
AGENTS: dict[str, tuple[Any, int, int]] = {
    "lstm": (lambda process, key: ud.LSTMAgent(process, 64, key=key), 200, 400),
    "linear": (lambda process, key: ud.LinearRecurrentAgent(process, 64, key=key), 200, 400),
    "transformer": (lambda process, key: ud.TransformerAgent(process, 32, key=key), 200, 60),
}


def measure(agent: ud.AbstractAgent, num_rounds: int, num_episodes: int) -> dict[str, list]:
    """P(right door) by cell: about rounds 20, 100 and 190, and over the last 100 rounds of `num_rounds`."""
    episodes = ud.rollout(doors(num_rounds), agent, key=jax.random.key(7), num_episodes=num_episodes)
    right, cell = np.asarray(episodes.reward), np.asarray(episodes.theta) // DOORS
    windows = {"20": slice(15, 25), "100": slice(90, 110), "190": slice(180, 200)}
    windows[str(num_rounds)] = slice(num_rounds - 100, num_rounds)
    table = {t: [float(right[cell == c, rounds].mean()) for c in range(len(CELLS))] for t, rounds in windows.items()}
    last = windows[str(num_rounds)]
    by_episode = [right[cell == c, last].mean(-1) for c in range(len(CELLS))]
    table["se"] = [float(x.std() / np.sqrt(len(x))) for x in by_episode]
    return table


def study(steps: int, agents: list[str], before: dict[str, Any]) -> dict[str, Any]:
    """The exact agents, and each architecture taught in two ways; beside what was found before."""
    num_rounds, few = 1000, steps <= 100
    right, seconds = dict(before.get("right_door", {})), dict(before.get("training_seconds", {}))

    def record(name: str, agent: ud.AbstractAgent, of_each_cell: int = 400) -> None:
        right[name] = measure(agent, num_rounds, (20 if few else of_each_cell) * len(CELLS))
        print(name, np.round(np.reshape(right[name][str(num_rounds)], (3, 5)), 2).tolist(), flush=True)

    for mark in ("do", "see"):
        if f"exact_{mark}" not in right:
            record(f"exact_{mark}", acting(ud.ExactAgent(doors(num_rounds), own_actions=mark)))
    for name in agents:
        make_agent, taught_rounds, of_each_cell = AGENTS[name]
        process = doors(taught_rounds)
        for teaching in (ud.Counterfactual(), ud.Cloning()):
            started = time.perf_counter()
            agent = acting(make_agent(process, jax.random.key(0)))
            size = {"steps": steps, "batch_size": 64, "on_log": lambda state, row: print(row, flush=True)}
            run = ud.teach(process, agent, teaching, key=jax.random.key(1), **size)
            seconds[f"{name}_{teaching.name}"] = round(time.perf_counter() - started, 1)
            record(f"{name}_{teaching.name}", run.agent, of_each_cell)
    settings = {"steps": steps, "batch_size": 64, "seed": 0}
    stored = [name for name in AGENTS if f"{name}_counterfactual" in right]
    settings |= {"taught_rounds": {name: AGENTS[name][1] for name in stored}}
    settings |= {"num_episodes": {name: AGENTS[name][2] * len(CELLS) for name in stored}}
    return {
        "cells": [{"eps_obs": a, "eps_exp": b} for a, b in CELLS],
        "settings": settings | {"num_rounds": num_rounds},
        "right_door": right,
        "training_seconds": seconds,
        # Not all of it may be of this run.
        "seconds": round(sum(seconds.values()), 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    args = parser.parse_args()
    before = load("doors") if args.steps == 2000 and set(args.agents) != set(AGENTS) else {}
    store.run("doors", lambda: study(args.steps, args.agents, before), keep=args.steps == 2000)
