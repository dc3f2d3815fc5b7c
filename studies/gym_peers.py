"""Reward or expert? RecurrentPPO (sb3-contrib) on our tasks, next to a taught LSTM with as much CPU time.

    pip install -c constraints.txt torch==2.13.0 stable-baselines3 sb3-contrib
    OMP_NUM_THREADS=1 python studies/gym_peers.py         about 20 minutes of CPU
    OMP_NUM_THREADS=1 python studies/gym_peers.py --few   a trial run

PPO is shown the reward of each round and never the expert, and teaching is shown the expert's distributions and never
the reward: they are different problems with the same test, the reward of an agent that is not told theta. Both policies
read the same observations; the LSTM of PPO is not shown its own last action, which the observations of both tasks tell.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import store
import torch
from gymnasium.vector import AutoresetMode
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

import undelude as ud
from undelude._named_tasks import SETTINGS
from undelude.gym import TaskVectorEnv
from undelude.gym.task_env import wrapped
from undelude.tasks.registry import make

# Steps of teaching. PPO trains for as many seconds of CPU time as they take.
STEPS = {"merge": 600, "grid": 600}
NUM_ENVS, GAMMA, LEARNING_RATE, ENTROPY = 64, 0.97, 1e-3, 0.01
SHOWN = ("reward", "reward_se", "action_kl_do", "action_kl_do_se", "action_kl_see", "action_kl_see_se", "verdict")


class Episodes(VecEnv):
    """A `TaskVectorEnv` as Stable-Baselines3 takes it. The end after T rounds is the end: no value comes after it."""

    def __init__(self, envs: TaskVectorEnv):
        self.envs, self.actions = envs, np.zeros(0)
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> Any:
        return self.envs.reset(seed=0)[0]

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        seen, reward, terminated, truncated, info = self.envs.step(self.actions)
        over = terminated | truncated
        infos = [{"terminal_observation": info["final_obs"][i]} if over[i] else {} for i in range(self.num_envs)]
        return seen, reward.astype(np.float32), over, infos

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class UntilSpent(BaseCallback):
    """Stops when the CPU time is spent."""

    def __init__(self, seconds: float):
        super().__init__()
        self.end = time.process_time() + seconds

    def _on_step(self) -> bool:
        return time.process_time() < self.end


def policy_in_python(
    policy: Any, seen: Callable[[Any, Any, int], Any], predicted: Callable[[Any], Any]
) -> ud.HostAgent:
    """Return a policy of RecurrentPPO, which samples its actions.

    Args:
        policy: of a `RecurrentPPO`.
        seen: `(a, o, num_episodes)` to what the policy reads.
        predicted: the distribution of Torch to a prediction of `ud.HostAgent`.
    """
    shape = policy.lstm_hidden_state_shape

    def reset(num_episodes: int) -> Any:
        zeros = torch.zeros(shape[0], num_episodes, shape[2])
        return zeros, zeros, torch.ones(num_episodes)

    def predict(m: Any, a: Any, o: Any) -> Any:
        h, c, starts = m
        with torch.no_grad():
            x, _ = policy.obs_to_tensor(seen(a, o, len(starts)))
            distribution, (h, c) = policy.get_distribution(x, (h, c), starts)
        return predicted(distribution.distribution), (h, c, torch.zeros_like(starts))

    return ud.HostAgent(reset, predict)


def as_host_agent(process: ud.InteractionProcess, model: RecurrentPPO) -> ud.HostAgent:
    """Return the policy for `ud.certify`."""

    def seen(a: Any, o: Any, num_episodes: int) -> Any:
        del a
        return wrapped(process.observation_spec, o, opening=process.opening, num_envs=num_episodes)

    def predicted(distribution: Any) -> np.ndarray:
        probs = distribution.probs.double().numpy()
        return probs / probs.sum(-1, keepdims=True)

    return policy_in_python(model.policy, seen, predicted)


def measure(process: ud.InteractionProcess, agent: Any, num_episodes: int) -> ud.Certificate:
    return ud.certify(process, agent, key=jax.random.key(1), num_episodes=num_episodes, baselines=False)


def others(process: ud.InteractionProcess, num_episodes: int) -> list[dict[str, Any]]:
    """Return the rewards of the expert, who is told theta, and of the exact agents."""
    agents = {"expert": None, "exact, do": ud.ExactAgent(process), "exact, see": ud.ExactAgent(process, "see")}
    rows = []
    for name, agent in agents.items():
        executor = "expert" if agent is None else "agent"
        episodes = ud.rollout(process, agent, key=jax.random.key(1), num_episodes=num_episodes, executor=executor)
        reward, se = store.over(np.asarray(episodes.reward).mean(-1))
        rows.append({"agent": name, "reward": reward, "reward_se": se})
    return rows


def row_of(task: str, name: str, seconds: float, rounds: int, certificate: Any) -> dict[str, Any]:
    row = {"task": task, "agent": name, "cpu_seconds": seconds, "rounds": rounds}
    row |= {x: getattr(certificate, x) for x in SHOWN}
    print(row, flush=True)
    return row


def study(few: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    rows, num_episodes = [], 32 if few else 1024
    for task, steps in STEPS.items():
        process, settings = make(task), dict(SETTINGS[task])
        hidden_size, weight = settings.pop("hidden_size"), settings.pop("observation_weight")
        settings["steps"] = 4 if few else steps
        agent = ud.LSTMAgent(process, hidden_size, key=jax.random.key(0))
        started = time.process_time()
        taught = ud.teach(
            process, agent, ud.Counterfactual(observation_weight=weight), key=jax.random.key(0), **settings
        )
        jax.block_until_ready(jax.tree.leaves(taught.agent))
        seconds = time.process_time() - started
        report = measure(process, taught.agent, num_episodes)
        rounds = settings["steps"] * settings["batch_size"] * process.num_rounds
        rows.append(row_of(task, "taught LSTM", seconds, rounds, report))
        rows += [{"task": task} | other for other in others(process, num_episodes)]
        envs = Episodes(TaskVectorEnv(process, NUM_ENVS, autoreset_mode=AutoresetMode.SAME_STEP))
        model = RecurrentPPO(
            "MultiInputLstmPolicy",
            envs,
            n_steps=process.num_rounds,
            batch_size=NUM_ENVS * process.num_rounds // 4,
            n_epochs=4,
            gamma=GAMMA,
            learning_rate=LEARNING_RATE,
            ent_coef=ENTROPY,
            policy_kwargs={"lstm_hidden_size": hidden_size},
            seed=0,
            device="cpu",
        )
        started = time.process_time()
        model.learn(10**9, callback=UntilSpent(seconds))
        spent = time.process_time() - started
        report = measure(process, as_host_agent(process, model), num_episodes)
        rows.append(row_of(task, "RecurrentPPO", spent, model.num_timesteps, report))
    ppo = {"num_envs": NUM_ENVS, "gamma": GAMMA, "learning_rate": LEARNING_RATE, "ent_coef": ENTROPY, "n_epochs": 4}
    peers = {name: __import__(name).__version__ for name in ("stable_baselines3", "sb3_contrib", "torch", "gymnasium")}
    return {"seeds": [0], "settings": {"steps": STEPS, "ppo": ppo}, "peers": peers, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", action="store_true")
    args = parser.parse_args()
    store.run("gym_peers", lambda: study(args.few), keep=not args.few)
