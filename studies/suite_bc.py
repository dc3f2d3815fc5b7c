"""Behaviour cloning by the library imitation, from the expert's episodes: a peer of the suite (`suite_peers.py`).

Its policies are feed-forward networks of Stable-Baselines3, so that they read the last 20 rounds, as a stack of frames.
"""

import importlib.metadata
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch
from imitation.algorithms.bc import BC
from imitation.util import logger
from stable_baselines3.common.policies import ActorCriticPolicy
from suite_ppo import action_space, observation_space, predicted, read
from suite_shared import features, kept

import undelude as ud

NAME = "behaviour cloning (imitation)"
ABOUT = (
    f"Behaviour cloning by imitation {importlib.metadata.version('imitation')}, of a feed-forward network that reads "
    "the last 20 rounds with its own actions, from 50,000 rounds of the expert on each task."
)
NUM_ROUNDS, WINDOW = 50_000, 20
BATCHES, BATCH, LEARNING_RATE, WIDTHS = 2000, 256, 1e-3, [64, 64]


class Demonstrations:
    """Batches of windows from the expert's episodes, drawn with replacement, without end."""

    def __init__(self, process: Any, num_episodes: int, seed: int):
        played = ud.rollout(process, None, key=jax.random.key(seed), num_episodes=num_episodes, executor="expert")
        specs, rows = process.specs, jax.tree.map(np.asarray, (played.actions, played.observations, played.opening))
        rounds = np.concatenate([features(spec, x).numpy() for spec, x in zip(specs, rows[:2], strict=True)], -1)
        first = read(specs, None, rows[2], num_episodes)
        zeros = np.zeros((num_episodes, WINDOW - 1, first.shape[-1]), np.float32)
        # Row t + WINDOW - 1 is the last round before action t.
        self.vectors, self.actions = np.concatenate([zeros, first[:, None], rounds], 1), rows[0]
        self.places = np.argwhere(np.asarray(played.mask))
        self.rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            i, t = self.places[self.rng.integers(len(self.places), size=BATCH)].T
            windows = self.vectors[i[:, None], t[:, None] + np.arange(WINDOW)]
            yield {"obs": windows.reshape(BATCH, -1), "acts": self.actions[i, t]}


def learn(process: Any, task: str, seed: int, *, few: bool) -> tuple[Any, dict[str, Any]]:
    """Clone the expert, one recipe for all tasks."""
    del task
    num_episodes = max(2, (200 if few else NUM_ROUNDS) // process.num_rounds)
    seen, actions = observation_space(process.specs, WINDOW), action_space(process.specs[0])
    clone = BC(
        observation_space=seen,
        action_space=actions,
        rng=np.random.default_rng(seed),
        policy=ActorCriticPolicy(seen, actions, lambda _: LEARNING_RATE, net_arch=WIDTHS, log_std_init=-1.5),
        demonstrations=Demonstrations(process, num_episodes, seed),
        batch_size=BATCH,
        optimizer_kwargs={"lr": LEARNING_RATE},
        device="cpu",
        custom_logger=logger.configure(None, []),
    )
    clone.train(n_batches=2 if few else BATCHES, progress_bar=False)
    return clone.policy.state_dict(), {"rounds": num_episodes * process.num_rounds}


def agent(process: Any, task: str) -> ud.HostAgent:
    """Return the clone of a task, for `undelude suite run suite_bc:agent`."""
    seen = observation_space(process.specs, WINDOW)
    policy = ActorCriticPolicy(seen, action_space(process.specs[0]), lambda _: LEARNING_RATE, net_arch=WIDTHS)
    policy.load_state_dict(kept("imitation-bc", task))
    policy.set_training_mode(False)
    width = seen.shape[0] // WINDOW

    def reset(num_episodes: int) -> np.ndarray:
        return np.zeros((num_episodes, WINDOW, width), np.float32)

    def predict(m: np.ndarray, a: Any, o: Any) -> tuple[Any, np.ndarray]:
        m = np.concatenate([m[:, 1:], read(process.specs, a, o, len(m))[:, None]], 1)
        with torch.no_grad():
            x, _ = policy.obs_to_tensor(m.reshape(len(m), -1))
            return predicted(policy.get_distribution(x).distribution), m

    return ud.HostAgent(reset, predict)
