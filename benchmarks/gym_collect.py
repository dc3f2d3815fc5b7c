"""How much of the speed of a simulator is left to collection: Reacher-v5 (MuJoCo), 64 environments in one process.

    pip install -c constraints.txt ".[gym,mujoco]"
    OMP_NUM_THREADS=1 python benchmarks/gym_collect.py
    pip install -c constraints.txt torch==2.13.0 stable-baselines3 sb3-contrib
    OMP_NUM_THREADS=1 python benchmarks/gym_collect.py --peer

Rates are environment steps in a second of the process, on all its threads, so that other programs of the machine count
little. The rows are measured in turns, and the median is shown. `bare` is Gymnasium's SyncVectorEnv with random
actions; `collected` is what `ud.teach` does before it learns: a GRU acts, the expert labels each action, the guide
gives cues. The peer is the collecting of RecurrentPPO (sb3-contrib) with an LSTM of as many units.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium
import jax
import numpy as np

import undelude as ud
from undelude._teaching.host_updates import collect_in

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from reacher import make, reacher

NUM_ENVS, NUM_ROUNDS, HIDDEN_SIZE = 64, 100, 128


def core_seconds() -> float:
    """Return the seconds of all threads of this process."""
    times = os.times()
    return times.user + times.system


def bare() -> Callable[[], None]:
    """Return a function that plays NUM_ROUNDS rounds of random actions."""
    envs = gymnasium.vector.SyncVectorEnv([make] * NUM_ENVS)
    envs.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (NUM_ROUNDS, NUM_ENVS, 2)).astype(np.float32)

    def play() -> None:
        for a in actions:
            envs.step(a)

    return play


def collected() -> Callable[[], object]:
    """Return a function that collects a batch of episodes."""
    world = reacher(NUM_ROUNDS, NUM_ENVS)
    agent = ud.GRUAgent(world, HIDDEN_SIZE, key=jax.random.key(0))
    return lambda: collect_in(world, agent, ud.Counterfactual(), jax.random.key(1), 0, NUM_ENVS)


def peer() -> Callable[[], None]:
    """Return a function that collects a rollout of RecurrentPPO."""
    import torch
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Silent(BaseCallback):
        def _on_step(self) -> bool:
            return True

    torch.set_num_threads(1)
    envs = DummyVecEnv([make] * NUM_ENVS)
    settings = {"n_steps": NUM_ROUNDS, "policy_kwargs": {"lstm_hidden_size": HIDDEN_SIZE}, "device": "cpu", "seed": 0}
    model = RecurrentPPO("MlpLstmPolicy", envs, **settings)
    model._setup_learn(10**9)
    callback = Silent()
    callback.init_callback(model)

    def play() -> None:
        model.collect_rollouts(model.env, callback, model.rollout_buffer, n_rollout_steps=NUM_ROUNDS)

    return play


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peer", action="store_true", help="also RecurrentPPO")
    args = parser.parse_args()
    plays = {"bare": bare(), "collected": collected()} | ({"RecurrentPPO": peer()} if args.peer else {})
    for play in plays.values():
        play()
    rates: dict[str, list[float]] = {name: [] for name in plays}
    for _ in range(args.repeats):
        for name, play in plays.items():
            started = core_seconds()
            play()
            rates[name].append(NUM_ENVS * NUM_ROUNDS / (core_seconds() - started))
    for name, found in rates.items():
        shares = [x / y for x, y in zip(found, rates["bare"], strict=True)]
        print(f"{name:14}{statistics.median(found):8.0f} a second   {statistics.median(shares):.2f} of bare")
    if args.peer:
        ratio = [x / y for x, y in zip(rates["collected"], rates["RecurrentPPO"], strict=True)]
        print(f"collected is {statistics.median(ratio):.1f} times as fast as RecurrentPPO collects")
