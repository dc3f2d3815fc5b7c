"""The bandit of decision-pretrained transformers (Lee et al., 2023, arXiv:2306.14892), as two settings of one loop.

Five arms with means from U(0, 1) and Gaussian noise of .3; the expert names the best arm. Their data regime is `Blind`:
the arms of an episode are sampled from a random distribution, a Dirichlet mixed with one arm, that does not depend on
observations. It is compared with `Counterfactual`, in which the agent samples its own arms, and with Thompson sampling,
UCB and greedy. The network is a linear recurrence, because sufficient statistics are sums: pulls and rewards of each
arm. It is taught for 200 rounds and plays 500.

    python studies/dpt.py               about 15 minutes on two cores
    python studies/dpt.py --steps 5     a trial run
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import store

import undelude as ud

ARMS, NOISE = 5, 0.3
# Costs of the paper's recipe with its code (github.com/jon--lee/decision-pretrained-transformer, commit of 2024-01-06,
# `run_bandit.sh`) on two cores. Collection was measured for 2,000 tasks and training for 10 batches, and extrapolated
# to 100,000 tasks and 400 epochs of 1,250 batches. PyTorch 2.13.0, Transformers 5.24.
THEIR_RECIPE = {
    "num_tasks": 100_000,
    "num_epochs": 400,
    "seconds_per_task": 0.0093,
    "bytes_per_task": 32_340,
    "seconds_per_batch": 0.66,
    "collecting_hours": 0.26,
    "disk_gigabytes": 3.2,
    "training_hours": 91,
}


class UniformMeans(ud.AbstractDistribution[jax.Array]):
    """The prior of Theta: a mean for each arm, from U(0, 1)."""

    def sample(self, key):
        """Sample the means."""
        return jax.random.uniform(key, (ARMS,))

    def log_prob(self, x):
        """Return 0."""
        return jnp.zeros(())

    def entropy(self):
        """Return 0."""
        return jnp.zeros(())


class Arms(ud.AbstractTask[jax.Array]):
    """The task `O ~ N(theta[a], .3)`; its memory is the arm."""

    def init(self, theta):
        """Return 0, as there is no arm yet."""
        return jnp.zeros((), jnp.int32)

    def Q_O(self, theta, w):
        """Return the distribution of the observed reward."""
        return ud.Normal(theta[w], NOISE)

    def g_A(self, theta, a, w):
        """Remember the arm."""
        return jnp.asarray(a, jnp.int32)

    def g_O(self, theta, o, w):
        """Return the memory unchanged."""
        return w

    def reward(self, theta, w, a, o):
        """Return minus the regret of the arm."""
        return theta[a] - theta.max()


class BestArm(ud.AbstractExpert[None]):
    """An expert who names the best arm."""

    def init(self, theta):
        """Return None: the expert has no memory."""

    def Q_A(self, theta, e):
        """Return the best arm with probability 1."""
        return ud.Categorical(log_probs=jnp.where(jnp.arange(ARMS) == jnp.argmax(theta), 0.0, -jnp.inf))

    def g_A(self, theta, a, e):
        """Return None: the expert has no memory."""

    def g_O(self, theta, o, e):
        """Return None: the expert has no memory."""


class TheirBehaviour(ud.AbstractAgent[Any]):
    """A policy `(1 - c) Dirichlet(1) + c` on a random arm, with c from 0, .1, .., 1, sampled once an episode."""

    def init(self, *, num_rounds):
        """Return zeros, as there is no distribution yet."""
        return jnp.zeros(ARMS)

    def f_A(self, m):
        """Return the distribution."""
        return ud.Categorical(probs=jnp.where(m.sum() > 0, m, 1 / ARMS))

    def f_O(self, m):
        """Return an arbitrary prediction."""
        return ud.Normal(0.5, 1.0)

    def g_A(self, a, m, *, intervened):
        """Return the distribution unchanged."""
        return m

    def g_O(self, o, m):
        """Return the distribution unchanged."""
        return m

    def act(self, m, *, key):
        """Sample the distribution if there is none, then an arm."""
        key_c, key_distribution, key_arm, key_act = jax.random.split(key, 4)
        c = jax.random.randint(key_c, (), 0, 11) / 10
        arm = jax.nn.one_hot(jax.random.randint(key_arm, (), 0, ARMS), ARMS)
        distribution = (1 - c) * jax.random.dirichlet(key_distribution, jnp.ones(ARMS)) + c * arm
        m = jnp.where(m.sum() > 0, m, distribution)
        return ud.Categorical(log_probs=jnp.log(m)).sample(key_act), m


def arms(num_rounds: int) -> ud.InteractionProcess:
    """Return the bandit."""
    return ud.InteractionProcess(UniformMeans(), None, Arms(), BestArm(), num_rounds, name="dpt")


def baselines(num_rounds: int, num_episodes: int) -> dict[str, np.ndarray]:
    """Return the cumulative regret `[N, T]` of Thompson sampling (prior N(.5, 1/12)), UCB (c = 1) and greedy."""
    found = {}
    for name in ("thompson", "ucb", "greedy"):
        rng = np.random.default_rng(0)
        means, rows = rng.random((num_episodes, ARMS)), np.arange(num_episodes)
        sums, counts, regret = np.zeros_like(means), np.zeros_like(means), np.zeros((num_episodes, num_rounds))
        for t in range(num_rounds):
            average = sums / np.maximum(counts, 1)
            if name == "thompson":
                precision = 12 + counts / NOISE**2
                score = (6 + sums / NOISE**2) / precision + rng.standard_normal(means.shape) / np.sqrt(precision)
            elif name == "ucb":
                score = np.where(counts == 0, np.inf, average + 1 / np.sqrt(np.maximum(counts, 1)))
            else:
                score = np.where(counts == 0, np.inf, average)
            a = score.argmax(1)
            sums[rows, a] += means[rows, a] + NOISE * rng.standard_normal(num_episodes)
            counts[rows, a] += 1
            regret[:, t] = means.max(1) - means[rows, a]
        found[name] = regret.cumsum(1)
    return found


def summary(regret: np.ndarray) -> dict[str, Any]:
    """Return the curve of the cumulative regret, and its mean and standard error at 100 and 500 rounds."""
    rounds = np.unique(np.geomspace(1, regret.shape[1], 40).astype(int))
    curve = {"rounds": rounds.tolist(), "regret": regret.mean(0)[rounds - 1].tolist()}
    ends = {str(t): {"mean": float(x.mean()), "se": float(x.std() / np.sqrt(len(x)))} for t, x in _ends(regret)}
    return ends | {"curve": curve}


def _ends(regret: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(t, regret[:, t - 1]) for t in (100, 500)]


def study(steps: int, taught_rounds: int = 200, num_rounds: int = 500) -> dict[str, Any]:
    """Compare both teachings and the baselines."""
    process, num_episodes = arms(taught_rounds), 2000
    size = {"hidden_size": 64, "num_layers": 2}
    settings = {"agent": "LinearRecurrentAgent", **size, "steps": steps, "batch_size": 64, "learning_rate": 1e-2}
    settings |= {"taught_rounds": taught_rounds, "num_rounds": num_rounds, "num_episodes": num_episodes}
    regret = {name: summary(x) for name, x in baselines(num_rounds, num_episodes).items()}
    seconds = {}
    for teaching in (ud.Counterfactual(observation_weight=0.1), ud.Blind(TheirBehaviour(), observation_weight=0.1)):
        agent = ud.LinearRecurrentAgent(process, **size, key=jax.random.key(0))
        started = time.perf_counter()
        run = ud.teach(
            process,
            agent,
            teaching,
            key=jax.random.key(1),
            steps=steps,
            learning_rate=1e-2,
            log_every=max(1, steps // 20),
            on_log=lambda state, row: print(row, flush=True),
        )
        seconds[teaching.name] = round(time.perf_counter() - started, 1)
        episodes = ud.rollout(
            process, run.agent, key=jax.random.key(2), num_episodes=num_episodes, num_rounds=num_rounds
        )
        regret[f"linear_{teaching.name}"] = summary(-np.asarray(episodes.reward, float).cumsum(1))
        print(teaching.name, regret[f"linear_{teaching.name}"]["500"], flush=True)
    result = {"regret": regret, "training_seconds": seconds, "their_recipe": THEIR_RECIPE}
    return {"seeds": [0], "settings": settings, **result}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    store.run("dpt", lambda: study(steps), keep=steps == 2000)
