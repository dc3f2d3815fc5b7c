"""The bandit of Swamy et al. (2022, arXiv:2208.02225), with exact agents and trained networks.

One of five doors is right. An observation tells whether the chosen door was right and is flipped with probability
eps_obs. The expert takes the right door, or another one with probability eps_exp. Agents act by the authors' rule: the
most probable door, or another one with probability eps_exp. One network of each architecture learns all noise levels:
both eps are observed, and sampled for every episode. It is then evaluated in 3 x 5 cells.

    python studies/doors.py                    about an hour on two cores
    python studies/doors.py --agents linear    one architecture; the results of the others are kept
    python studies/doors.py --steps 5          a trial run
"""

import argparse
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import store

import undelude as ud
from undelude._agents.base import predict

DOORS = 5
CELLS = list(itertools.product((0.1, 0.3, 0.4), (0.1, 0.3, 0.5, 0.7, 0.9)))


# Bounds of (eps_obs, eps_exp) in training.
TAUGHT = ((0.05, 0.05), (0.45, 0.95))
NOTHING, WRONG, RIGHT = range(3)


class Doors(ud.AbstractTask[Any]):
    """The task `Q(O | theta, a)`; the opening O_0 and every later O contain the eps of the episode."""

    theta_free_memory = True
    least: jax.Array  # eps_obs and eps_exp
    most: jax.Array

    def init(self, theta):
        """Return a memory without action and eps."""
        return jnp.asarray(-1, jnp.int32), jnp.zeros(2)

    def Q_O(self, theta, w):
        """Return the distribution of the noisy answer, with the eps."""
        door, eps = w
        right = jnp.where(door == theta, 1 - eps[0], eps[0])
        probs = jnp.where(door < 0, jax.nn.one_hot(NOTHING, 3), jnp.stack([0.0, 1 - right, right]))
        shown = ud.Given(jnp.where(door < 0, self.least, eps), up_to=jnp.where(door < 0, self.most, eps))
        return ud.Joint({"eps": shown, "says": ud.Categorical(log_probs=jnp.log(probs))})

    def g_A(self, theta, a, w):
        """Remember the door."""
        return jnp.asarray(a, jnp.int32), w[1]

    def g_O(self, theta, o, w):
        """Remember the eps."""
        return w[0], o["eps"]

    def reward(self, theta, w, a, o):
        """Return 1 if the door was right."""
        return (a == theta).astype(float)


class Expert(ud.AbstractExpert[Any]):
    """The expert `Q(A | theta, E)`; E is its eps."""

    theta_free_memory = True

    def init(self, theta):
        """Return 0, as eps is not known yet."""
        return jnp.zeros(())

    def Q_A(self, theta, e):
        """Return the right door with probability 1 - eps_exp, else another one."""
        return ud.Categorical(probs=jnp.where(jnp.arange(DOORS) == theta, 1 - e, e / (DOORS - 1)))

    def g_A(self, theta, a, e):
        """Return the memory unchanged."""
        return e

    def g_O(self, theta, o, e):
        """Remember the eps."""
        return o["eps"][1]


def doors(num_rounds: int, least: Any = TAUGHT[0], most: Any = TAUGHT[1]) -> ud.InteractionProcess:
    """Return the process with eps_obs and eps_exp uniform between `least` and `most`, which are equal for one cell."""
    return ud.InteractionProcess(
        prior=np.full(DOORS, 1 / DOORS),
        thetas=jnp.arange(DOORS),
        task=Doors(jnp.asarray(least, float), jnp.asarray(most, float)),
        expert=Expert(),
        num_rounds=num_rounds,
        opening=True,
        name="doors",
    )


class ArgmaxThenFlip(ud.AbstractSequenceAgent[Any]):
    """An agent that acts by the authors' rule on the predictions of another; its memory contains eps_exp."""

    agent: ud.AbstractAgent

    def init(self, *, num_rounds):
        """Return eps 0 and the memory of the agent."""
        return jnp.zeros(()), self.agent.init(num_rounds=num_rounds)

    def f_A(self, m):
        """Return the agent's prediction of the action."""
        return self.agent.f_A(m[1])

    def f_O(self, m):
        """Return the agent's prediction of the observation."""
        return self.agent.f_O(m[1])

    def g_A(self, a, m, *, intervened):
        """Update the agent's memory."""
        return m[0], self.agent.g_A(a, m[1], intervened=intervened)

    def g_O(self, o, m):
        """Update the agent's memory and eps_exp."""
        return o["eps"][1], self.agent.g_O(o, m[1])

    def act(self, m, *, key):
        """Choose the door that is most probably right: the least probable action if the expert is mostly wrong."""
        key_flip, key_other, key_tie = jax.random.split(key, 3)
        eps = m[0]
        probs = self.agent.f_A(m[1]).probs
        sign = jnp.where(1 - eps > eps / (DOORS - 1), 1.0, -1.0)
        best = jnp.argmax(sign * probs + 1e-6 * jax.random.uniform(key_tie, (DOORS,)))
        other = (best + jax.random.randint(key_other, (), 1, DOORS)) % DOORS
        return jnp.where(jax.random.bernoulli(key_flip, eps), other, best).astype(jnp.int32), m

    def predict(self, episode):
        """Return the agent's predictions over an episode."""
        return predict(self.agent, episode)


def acting(agent: ud.AbstractAgent) -> ArgmaxThenFlip:
    """Return `agent` with the authors' rule for its actions, in training too."""
    return ArgmaxThenFlip(agent, reading=agent.reading)


# Architecture: factory, rounds in training, and episodes for each cell; few for the transformer, which is slow.
AGENTS: dict[str, tuple[Any, int, int]] = {
    "lstm": (lambda process, key: ud.LSTMAgent(process, 64, key=key), 200, 400),
    "linear": (lambda process, key: ud.LinearRecurrentAgent(process, 64, key=key), 200, 400),
    "transformer": (lambda process, key: ud.TransformerAgent(process, 32, key=key), 200, 60),
}


def measure(agent: ud.AbstractAgent, num_rounds: int, num_episodes: int) -> dict[str, list]:
    """Return P(right door) by cell: around rounds 20, 100 and 190, and over the last 100 of `num_rounds`."""
    right = []
    for i, cell in enumerate(CELLS):
        key = jax.random.fold_in(jax.random.key(7), i)
        episodes = ud.rollout(doors(num_rounds, cell, cell), agent, key=key, num_episodes=num_episodes)
        right.append(np.asarray(episodes.reward))
    windows = {"20": slice(15, 25), "100": slice(90, 110), "190": slice(180, 200)}
    windows[str(num_rounds)] = slice(num_rounds - 100, num_rounds)
    table = {t: [float(cell_rewards[:, rounds].mean()) for cell_rewards in right] for t, rounds in windows.items()}
    by_episode = [cell_rewards[:, windows[str(num_rounds)]].mean(-1) for cell_rewards in right]
    table["se"] = [float(x.std() / np.sqrt(len(x))) for x in by_episode]
    return table


def study(steps: int, agents: list[str], before: dict[str, Any]) -> dict[str, Any]:
    """Evaluate the exact agents, and each architecture taught in two ways; other stored results are kept."""
    num_rounds, few = 1000, steps <= 100
    right, seconds = dict(before.get("right_door", {})), dict(before.get("training_seconds", {}))

    def record(name: str, agent: ud.AbstractAgent, num_episodes: int = 400) -> None:
        right[name] = measure(agent, num_rounds, 20 if few else num_episodes)
        print(name, np.round(np.reshape(right[name][str(num_rounds)], (3, 5)), 2).tolist(), flush=True)

    for mark in ("do", "see"):
        if f"exact_{mark}" not in right:
            record(f"exact_{mark}", acting(ud.ExactAgent(doors(num_rounds), own_actions=mark)))
    for name in agents:
        make_agent, taught_rounds, num_episodes = AGENTS[name]
        process = doors(taught_rounds)
        for teaching in (ud.Counterfactual(), ud.Cloning()):
            started = time.perf_counter()
            agent = acting(make_agent(process, jax.random.key(0)))
            size = {"steps": steps, "batch_size": 64, "on_log": lambda state, row: print(row, flush=True)}
            run = ud.teach(process, agent, teaching, key=jax.random.key(1), **size)
            seconds[f"{name}_{teaching.name}"] = round(time.perf_counter() - started, 1)
            record(f"{name}_{teaching.name}", run.agent, num_episodes)
    settings = {"steps": steps, "batch_size": 64}
    stored = [name for name in AGENTS if f"{name}_counterfactual" in right]
    settings |= {"taught_rounds": {name: AGENTS[name][1] for name in stored}}
    settings |= {"num_episodes": {name: AGENTS[name][2] * len(CELLS) for name in stored}}
    return {
        "seeds": [0],
        "cells": [{"eps_obs": a, "eps_exp": b} for a, b in CELLS],
        "settings": settings | {"num_rounds": num_rounds},
        "right_door": right,
        "training_seconds": seconds,
        # Possibly of several runs.
        "seconds": round(sum(seconds.values()), 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    args = parser.parse_args()
    before = store.earlier("doors") if args.steps == 2000 and set(args.agents) != set(AGENTS) else {}
    store.run("doors", lambda: study(args.steps, args.agents, before), keep=args.steps == 2000)
