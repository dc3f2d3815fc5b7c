"""The bandit of Swamy et al. (2022, arXiv:2208.02225), with trained nets beside the exact curves.

Five doors, one is right. An observation says whether the chosen door was right and is flipped with probability eps_obs;
the expert takes the right door, and any other with probability eps_exp. Agents act by the authors' rule: the most
probable door, flipped to another with probability eps_exp. One net of each architecture learns all noises at once: both
eps are numbers that it is shown, drawn anew for every episode; it is then measured in 3 x 5 cells.

    python studies/doors.py                    about an hour on two cores
    python studies/doors.py --agents linear    one architecture anew, beside what is stored of the others
    python studies/doors.py --steps 5          to see that it runs
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


# Between these (eps_obs, eps_exp) they are taught.
TAUGHT = ((0.05, 0.05), (0.45, 0.95))
NOTHING, WRONG, RIGHT = range(3)


class Doors(ud.AbstractTask[Any]):
    """`Q(O | theta, a)`; O_0 shows what an episode's eps are, and so does every later O."""

    theta_free_memory = True
    least: jax.Array  # eps_obs and eps_exp
    most: jax.Array

    def init(self, theta):
        """No action and no eps yet."""
        return jnp.asarray(-1, jnp.int32), jnp.zeros(2)

    def Q_O(self, theta, w):
        """Whether the door was right, or so it seems."""
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
        """Whether the door was right."""
        return (a == theta).astype(float)


class Expert(ud.AbstractExpert[Any]):
    """`Q(A | theta, E)`: E is the eps of the expert."""

    theta_free_memory = True

    def init(self, theta):
        """Not known yet."""
        return jnp.zeros(())

    def Q_A(self, theta, e):
        """The right door, or with probability eps_exp another."""
        return ud.Categorical(probs=jnp.where(jnp.arange(DOORS) == theta, 1 - e, e / (DOORS - 1)))

    def g_A(self, theta, a, e):
        """Nothing to remember."""
        return e

    def g_O(self, theta, o, e):
        """Remember the eps."""
        return o["eps"][1]


def doors(num_rounds: int, least: Any = TAUGHT[0], most: Any = TAUGHT[1]) -> ud.InteractionProcess:
    """With eps_obs and eps_exp drawn uniformly in between; of one cell, where both are the same."""
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
    """An agent that acts by the authors' rule on what its policy says; its memory begins with eps_exp."""

    agent: ud.AbstractAgent

    def init(self, *, num_rounds):
        """No eps yet."""
        return jnp.zeros(()), self.agent.init(num_rounds=num_rounds)

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
        """The agent's; eps_exp is shown."""
        return o["eps"][1], self.agent.g_O(o, m[1])

    def act(self, m, *, key):
        """The door that is most probably right: the least probable for an expert who is mostly wrong."""
        key_flip, key_other, key_tie = jax.random.split(key, 3)
        eps = m[0]
        probs = self.agent.f_A(m[1]).probs
        sign = jnp.where(1 - eps > eps / (DOORS - 1), 1.0, -1.0)
        best = jnp.argmax(sign * probs + 1e-6 * jax.random.uniform(key_tie, (DOORS,)))
        other = (best + jax.random.randint(key_other, (), 1, DOORS)) % DOORS
        return jnp.where(jax.random.bernoulli(key_flip, eps), other, best).astype(jnp.int32), m

    def predict(self, episode):
        """The agent's."""
        return predict(self.agent, episode)


def acting(agent: ud.AbstractAgent) -> ArgmaxThenFlip:
    """`agent`, acting by that rule; taught so too."""
    return ArgmaxThenFlip(agent, reading=agent.reading)


# For how many rounds they are taught, and in how many episodes of each cell they are measured: all of a transformer's
# past is read at every symbol.
AGENTS: dict[str, tuple[Any, int, int]] = {
    "lstm": (lambda process, key: ud.LSTMAgent(process, 64, key=key), 200, 400),
    "linear": (lambda process, key: ud.LinearRecurrentAgent(process, 64, key=key), 200, 400),
    "transformer": (lambda process, key: ud.TransformerAgent(process, 32, key=key), 200, 60),
}


def measure(agent: ud.AbstractAgent, num_rounds: int, num_episodes: int) -> dict[str, list]:
    """P(right door) by cell: about rounds 20, 100 and 190, and over the last 100 rounds of `num_rounds`."""
    right = []
    for i, cell in enumerate(CELLS):
        key = jax.random.fold_in(jax.random.key(7), i)
        episodes = ud.rollout(doors(num_rounds, cell, cell), agent, key=key, num_episodes=num_episodes)
        right.append(np.asarray(episodes.reward))
    windows = {"20": slice(15, 25), "100": slice(90, 110), "190": slice(180, 200)}
    windows[str(num_rounds)] = slice(num_rounds - 100, num_rounds)
    table = {t: [float(of_cell[:, rounds].mean()) for of_cell in right] for t, rounds in windows.items()}
    by_episode = [of_cell[:, windows[str(num_rounds)]].mean(-1) for of_cell in right]
    table["se"] = [float(x.std() / np.sqrt(len(x))) for x in by_episode]
    return table


def study(steps: int, agents: list[str], before: dict[str, Any]) -> dict[str, Any]:
    """The exact agents, and each architecture taught in two ways; beside what was found before."""
    num_rounds, few = 1000, steps <= 100
    right, seconds = dict(before.get("right_door", {})), dict(before.get("training_seconds", {}))

    def record(name: str, agent: ud.AbstractAgent, of_each_cell: int = 400) -> None:
        right[name] = measure(agent, num_rounds, 20 if few else of_each_cell)
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
    before = store.earlier("doors") if args.steps == 2000 and set(args.agents) != set(AGENTS) else {}
    store.run("doors", lambda: study(args.steps, args.agents, before), keep=args.steps == 2000)
