"""Gymnasium environments that expose wrong pairings and failures; workers import this module, so it needs no JAX."""

import os
import signal
import time
from typing import ClassVar

import gymnasium as gym
import numpy as np

CONTEXTS = np.array([3, 5, 8])


class Ledger(gym.Env):
    """Its observation says all that a label must agree with: context, episode of the lifetime, step, last action.

    Episodes end after a few steps, at random: terminated if the number is even, truncated if it is odd.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gym.spaces.Discrete(4, start=1)

    def __init__(self):
        self.resets = 0
        self.row = np.zeros(4, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        context = options["context"]
        episode = self.row[1] + 1 if self.row[0] == context and seed == self.seed + 1 else 0
        self.seed, self.length = seed, int(self.np_random.integers(2, 6))
        self.row[:] = context, episode, 0, 0
        return self.row, {}  # The same array each time, as some environments do.

    def step(self, action):
        self.row[2:] = self.row[2] + 1, action
        over = self.row[2] == self.length
        return self.row, float(self.row[2]), bool(over and self.length % 2 == 0), bool(over and self.length % 2), {}


class Faulty(gym.Env):
    """A coin whose environment fails in some episodes, in the third step, as the seed says.

    Args:
        fault: an exception, a reward or an observation that is not finite, a step without an end, or death.
        share: of the episodes.
        log: a file; each environment writes its process to it, and each fault its context.
    """

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, fault, share, log=None):
        self.fault, self.share, self.log = fault, share, log
        self.write(f"process {os.getpid()}")

    def write(self, line):
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{line}\n")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.fails, self.t = self.np_random.random() < self.share, 0
        self.context = options["context"]
        return self.flip(), {}

    def flip(self):
        return self.np_random.integers(0, 2, 1).astype(np.float32)

    def step(self, action):
        self.t += 1
        o, r = self.flip(), 1.0
        if self.fails and self.t == 3:
            self.write(f"fault {self.context}")
            match self.fault:
                case "error":
                    raise ZeroDivisionError("no ground")
                case "not finite":
                    r = float("nan")
                case "not finite observation":
                    o = o * np.nan
                case "timeout":
                    time.sleep(60)
                case "died":
                    os.kill(os.getpid(), signal.SIGKILL)
        return o, r, False, False, {}


class Make:
    """A factory that a worker can unpickle."""

    def __init__(self, fault, share, log=None):
        self.arguments = fault, share, log

    def __call__(self):
        return Faulty(*self.arguments)


LINK, RADIUS, MAX_TURN = 0.5, 0.15, 0.3


def tip(angles):
    """The hand of the two-link arm, in NumPy."""
    angles = np.cumsum(angles, -1)
    return LINK * np.stack([np.cos(angles).sum(-1), np.sin(angles).sum(-1)], -1)


class Arm(gym.Env):
    """`ud.tasks.arm` as a simulator: the pose; the target is seen by the expert alone."""

    observation_space = gym.spaces.Box(-1, 1, (8,), np.float64)
    action_space = gym.spaces.Box(-MAX_TURN, MAX_TURN, (2,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.joints, self.target = np.array([0.0, np.pi / 2]), options["context"]
        return self.observe(), {}

    def observe(self):
        return np.concatenate([np.cos(self.joints), np.sin(self.joints), tip(self.joints), self.target])

    def step(self, action):
        self.joints = self.joints + action
        return self.observe(), float(np.linalg.norm(tip(self.joints) - self.target) < RADIUS), False, False, {}


def joints_of(observation):
    """Each joint is known up to full turns, which the expert does not mind."""
    return np.arctan2(observation[..., 2:4], observation[..., :2])


def distance_to(observation, target):
    return np.linalg.norm(observation[..., 4:6] - target, axis=-1)


def arm_expert(observation, target):
    """A proportional controller towards the inverse kinematics of the target."""
    reach = np.clip(np.hypot(target[..., 0], target[..., 1]), 1e-6, 2 * LINK - 1e-6)
    elbow = 2 * np.arccos(reach / (2 * LINK))
    goal = np.stack([np.arctan2(target[..., 1], target[..., 0]) - elbow / 2, elbow], -1)
    error = (goal - joints_of(observation) + np.pi) % (2 * np.pi) - np.pi
    loc = np.clip(0.5 * error, -MAX_TURN, MAX_TURN)
    return loc, np.full(loc.shape, 0.05)


class Lake(gym.Env):
    """A boat on a line; the observation is its place and, to be hidden, the harbour.

    Args:
        gives: another number in the observation: 0; `"seed"`, a random number that the seed sets, `"clock"`, one that
            it does not; `"context"`, the harbour.
        pause: seconds that a step takes.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-0.2, 0.2, (1,), np.float32)

    def __init__(self, gives="seed", pause=0.0):
        self.gives, self.pause = gives, pause

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        given = {"seed": self.np_random.normal(), "clock": os.urandom(1)[0], "context": options["context"]}
        self.at = np.array([0.0, options["context"], given.get(self.gives, 0)], np.float32)
        return self.at, {}

    def step(self, action):
        time.sleep(self.pause)
        assert abs(action[0]) <= 0.2 + 1e-6
        self.at[0] += action[0]
        return self.at, -abs(float(self.at[0] - self.at[1])), False, False, {}


class MakeLake:
    """A factory that a worker can unpickle."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __call__(self):
        return Lake(*self.arguments)


def distance(observation, harbour):
    return abs(observation[0] - harbour)


def captain(observation, harbour):
    return 0.5 * (harbour - observation[:1]), 0.05


class Lamp(gym.Env):
    """A lamp whose colour is its level; it starts at a random one, and the wanted level is seen by the expert alone."""

    observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-0.1, 0.1, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        wanted = 0.5 if options is None else options["context"]
        self.row = np.array([self.np_random.uniform(0.3, 0.7), wanted], np.float32)
        return self.row, {}

    def step(self, action):
        self.row[0] = np.clip(self.row[0] + action[0], 0, 1)
        return self.row, float(self.row[0]), False, False, {}

    def render(self):
        return np.full((30, 60, 3), [round(200 * self.row[0]), 0, 50], np.uint8)


class Flicker(Lamp):
    """A lamp that also draws from its own random numbers."""

    rng = np.random.default_rng(0)

    def step(self, action):
        return super().step(action + 0.05 * self.rng.normal())


class Buttons(gym.Env):
    """A lamp and three buttons, of which only the last one toggles it; at first it is random, as the seed says."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.lamp, self.context = int(self.np_random.integers(2)), options["context"]
        return self.lamp, {}

    def step(self, action):
        self.lamp = self.lamp ^ (action == 2)
        return self.lamp, 0.0, False, False, {}


class Levers(Buttons):
    """Each of three levers pays with another probability, by the context; no two of them do the same."""

    def step(self, action):
        return int(self.np_random.random() < (0.8 if action == self.context else 0.3)), 0.0, False, False, {}


class Doors(gym.Env):
    """Four doors, of which some are shut in each step; the observation is noise and the door that was taken last.

    Args:
        tells: whether info says which doors are open: `"always"`, `"never"`, or `"late"`, not after reset.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def __init__(self, tells="always"):
        self.tells = tells

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(-1), self.info(late=False)

    def look(self, taken):
        self.open = (self.np_random.random(4) < 0.5).astype(np.int8)
        self.open[self.np_random.integers(4)] = 1
        return np.array([self.np_random.normal(), taken], np.float32)

    def info(self, *, late=True):
        return {"action_mask": self.open} if self.tells == "always" or (self.tells == "late" and late) else {}

    def step(self, action):
        assert self.open[action], "this door is shut"
        return self.look(action), float(action == 0), False, False, self.info()


class Screen(gym.Env):
    """A square that the actions move to the left and to the right, on a picture; it starts at a random height."""

    action_space = gym.spaces.Discrete(2)
    # The seeds of all resets.
    seeds: ClassVar[list[int]] = []

    def __init__(self, shape):
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.at, self.height = 20, int(self.np_random.integers(25))
        return self.look(), {}

    def look(self):
        picture = np.full(self.observation_space.shape, 40, np.uint8)
        picture[self.height : self.height + 5, self.at : self.at + 5] = 250 - self.at
        return picture

    def step(self, action):
        self.at += 2 * int(action) - 1
        return self.look(), float(self.at), False, False, {}
