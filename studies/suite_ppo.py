"""RecurrentPPO of sb3-contrib, which is trained on reward and never shown the expert: a peer (`suite_peers.py`)."""

from typing import Any

import jax
import numpy as np
import sb3_contrib
from gym_peers import Episodes, policy_in_python
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from suite_shared import features, kept, size

import undelude as ud
from undelude._distributions import Block, Reals, Spec, Symbols
from undelude.gym import TaskVectorEnv

NAME = "RecurrentPPO"
ABOUT = (
    f"RecurrentPPO of sb3-contrib {sb3_contrib.__version__}, trained on the reward of 100,000 rounds of each task. It "
    "reads observations and its own last action, and is never shown the expert."
)
NUM_ROUNDS, NUM_ENVS, WIDTH = 100_000, 128, 64
SETTINGS = {"n_steps": 25, "n_epochs": 4, "gamma": 0.97, "learning_rate": 1e-3, "ent_coef": 0.01}
# Actor and critic share one LSTM, which halves the time.
POLICY = {"lstm_hidden_size": WIDTH, "shared_lstm": True, "enable_critic_lstm": False, "log_std_init": -1.5}
# Bounds of real-valued actions, at which Stable-Baselines3 clips; those of the tasks are smaller.
BOUND = 4.0


def action_space(spec: Spec) -> spaces.Space[Any]:
    """Return the space of the actions for Stable-Baselines3."""
    match spec:
        case Symbols():
            assert spec.n is not None
            return spaces.Discrete(spec.n)
        case Block():
            return spaces.MultiDiscrete([spec.n] * spec.length)
        case Reals():
            return spaces.Box(-BOUND, BOUND, spec.shape, np.float32)
    raise NotImplementedError(f"Stable-Baselines3 has no policy for actions that are {spec}.")


def observation_space(specs: tuple[Spec, Spec], length: int = 1) -> spaces.Box:
    """Return the space of `length` vectors of `read`."""
    return spaces.Box(-np.inf, np.inf, (length * sum(map(size, specs)),), np.float32)


def read(specs: tuple[Spec, Spec], a: Any, o: Any, num_episodes: int) -> np.ndarray:
    """Return the last action and observation as vectors, `[B, D]`; zeros in place of one that is None."""
    each = [
        np.zeros((num_episodes, size(spec)), np.float32) if x is None else features(spec, x).numpy()
        for spec, x in zip(specs, (a, o), strict=True)
    ]
    return np.concatenate(each, -1)


def predicted(distribution: Any) -> Any:
    """Return a distribution of Stable-Baselines3 as a `ud.HostAgent` predicts."""
    if isinstance(distribution, list):  # One for each symbol of a block; they are independent.
        table, *others = (x.probs.double().numpy() for x in distribution)
        for probs in others:
            table = table[..., None] * probs.reshape(len(probs), *[1] * (table.ndim - 1), -1)
        table /= table.sum(tuple(range(1, table.ndim)), keepdims=True)
        return jax.vmap(lambda probs: ud.Autoregressive(probs=probs))(table)
    if hasattr(distribution, "probs"):
        probs = distribution.probs.double().numpy()
        return probs / probs.sum(-1, keepdims=True)
    return ud.Normal(distribution.mean.numpy(), distribution.stddev.numpy())


class Simulator:
    """A world in Python with the methods of `TaskVectorEnv` that `Episodes` calls; its episodes last T rounds."""

    def __init__(self, world: Any):
        self.world, self.num_envs = world, world.num_envs
        self.single_observation_space, self.single_action_space = world.observation_space, world.action_space
        self.key: Any = None
        self.state: Any = None
        self.t = 0

    def reset(self, *, seed: int) -> tuple[Any, dict[str, Any]]:
        self.key = jax.random.key(seed)
        return self._begin(), {}

    def step(self, a: Any) -> Any:
        self.state, o, reward, ended = self.world.respond(self.state, a, self._keys())
        self.t += 1
        over = np.full(self.num_envs, self.t == self.world.num_rounds)
        assert not np.any(np.asarray(ended) & ~over), f"episodes of {self.world.name} end early"
        info = {"final_obs": [None] * self.num_envs}
        return self._begin() if over.all() else o, np.asarray(reward), over & False, over, info

    def close(self) -> None:
        self.world.close()

    def _begin(self) -> Any:
        self.state, o = self.world.begin(self._keys())
        self.t = 0
        return o

    def _keys(self) -> Any:
        self.key, now = jax.random.split(self.key)
        return jax.random.split(now, self.num_envs)


class OwnActions(VecEnvWrapper):
    """Environments that show the last observation and the agent's own last action, as vectors."""

    def __init__(self, envs: VecEnv, specs: tuple[Spec, Spec]):
        super().__init__(envs, observation_space(specs), action_space(specs[0]))
        self.specs, self.last = specs, np.zeros(0)

    def reset(self) -> np.ndarray:
        return read(self.specs, None, self.venv.reset(), self.num_envs)

    def step_async(self, actions: np.ndarray) -> None:
        self.last = actions
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        o, reward, over, _ = self.venv.step_wait()
        seen = read(self.specs, self.last, o, self.num_envs)
        seen[over, : size(self.specs[0])] = 0  # The next episode has begun.
        return seen, reward, over, [{} for _ in over]


def learn(process: Any, task: str, seed: int, *, few: bool) -> tuple[Any, dict[str, Any]]:
    """Train a policy in the process, one recipe for all tasks."""
    del task
    if isinstance(process, ud.InteractionProcess):
        envs: Any = TaskVectorEnv(process, NUM_ENVS, autoreset_mode=AutoresetMode.SAME_STEP)
    else:
        envs = Simulator(process)
    model = RecurrentPPO(
        "MlpLstmPolicy",
        OwnActions(Episodes(envs), process.specs),
        batch_size=envs.num_envs * SETTINGS["n_steps"] // 4,
        policy_kwargs=POLICY,
        seed=seed,
        device="cpu",
        **SETTINGS,
    )
    model.learn(1 if few else NUM_ROUNDS)
    return model.policy, {"rounds": model.num_timesteps}


def agent(process: Any, task: str) -> ud.HostAgent:
    """Return the policy that was trained on a task, for `undelude suite run suite_ppo:agent`."""

    def seen(a: Any, o: Any, num_episodes: int) -> np.ndarray:
        played = np.clip(a, -BOUND, BOUND) if a is not None and isinstance(process.specs[0], Reals) else a
        return read(process.specs, played, o, num_episodes)

    return policy_in_python(kept("recurrent-ppo", task), seen, predicted)
