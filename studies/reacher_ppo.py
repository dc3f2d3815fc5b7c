"""RecurrentPPO (sb3-contrib) on the guided Reacher-v5 of examples/reacher.py, for `gym_reacher.py`.

It is shown what an agent of the world is shown, its own last action and, to learn from, the reward of each round. It is
never shown the expert.
"""

from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import torch
from gym_peers import policy_in_python
from reacher import HIDDEN, TARGETS, distance, make, place
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv

import undelude as ud
import undelude.gym as ug

NUM_ENVS, NUM_ROUNDS = 64, 100
SETTINGS = {"n_epochs": 4, "gamma": 0.97, "learning_rate": 1e-3, "ent_coef": 0.0}
VISIBLE = [i for i in range(10) if i not in HIDDEN]
GUIDE = ug.WarmerColder(distance, right=0.8, within=0.02, batched=True)
NO_CUE = -1


def vector(state: Any, cue: Any, a: Any) -> np.ndarray:
    """Return what the policy reads, `[B, 10]`: the state, the cue as (1, 0), (0, 1) or (0, 0), the last action."""
    told = np.stack([np.asarray(cue) == 0, np.asarray(cue) == 1], -1)
    return np.concatenate([state, told, a], -1).astype(np.float32)


class Guided(gymnasium.Wrapper):
    """Reacher-v5 with a target drawn at each reset, which a guide knows, as `HostWorld` plays it."""

    def __init__(self) -> None:
        super().__init__(make())
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (len(VISIBLE) + 4,), np.float32)
        self.whole, self.target, self.t = np.zeros(10), np.zeros(2), 0

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.env.reset(**kwargs)
        self.target = TARGETS[self.env.unwrapped.np_random.integers(len(TARGETS))]
        self.whole, self.t = place(self.env, self.target), 0
        return vector(self.whole[VISIBLE], NO_CUE, np.zeros(2)), {}

    def step(self, a: np.ndarray) -> Any:
        before = self.whole
        self.whole, reward, *_ = self.env.step(a)
        self.t += 1
        p = GUIDE.probabilities(before, self.whole, self.target)
        cue = int(self.env.unwrapped.np_random.random() < p[1])
        return vector(self.whole[VISIBLE], cue, a), float(reward), self.t == NUM_ROUNDS, False, {}


def learn(env_steps: int, hidden_size: int) -> RecurrentPPO:
    """Return a policy that has taken as many steps in the environments."""
    torch.set_num_threads(1)
    model = RecurrentPPO(
        "MlpLstmPolicy",
        DummyVecEnv([Guided] * NUM_ENVS),
        n_steps=NUM_ROUNDS,
        batch_size=NUM_ENVS * NUM_ROUNDS // 4,
        policy_kwargs={"lstm_hidden_size": hidden_size, "log_std_init": -1.5},
        seed=0,
        device="cpu",
        **SETTINGS,
    )
    return model.learn(env_steps)


def as_host_agent(model: RecurrentPPO) -> ud.HostAgent:
    """Return the policy, which samples its actions."""

    def seen(a: Any, o: Any, num_episodes: int) -> np.ndarray:
        cue = np.full(num_episodes, NO_CUE) if a is None else np.asarray(o["cue"])
        # As in training, in which Stable-Baselines3 clips the action before the step.
        return vector(np.asarray(o["state"]), cue, np.zeros((num_episodes, 2)) if a is None else np.clip(a, -1, 1))

    def predicted(normal: Any) -> ud.Normal:
        return ud.Normal(*(jax.numpy.asarray(x.numpy()) for x in (normal.mean, normal.stddev)))

    return policy_in_python(model.policy, seen, predicted)


def load(file: Path) -> ud.HostAgent:
    """Return a policy that was saved."""
    return as_host_agent(RecurrentPPO.load(file, device="cpu"))
