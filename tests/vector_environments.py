"""Vector environments that expose wrong pairings, in NumPy or Torch."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np

CONTEXTS = np.array([3.0, 5.0, 8.0], np.float32)
NUM_ACTIONS = 4


class LedgerBatch:
    """Observations say all that a label must agree with: context, episode of the lifetime, step, last action.

    Episodes have 2 to 5 steps, at random: terminated if the number is even, truncated if it is odd. Arrays are written
    in place, as some simulators do.

    Args:
        mode: how the next episode begins: `"NextStep"`, `"SameStep"`, `"Disabled"` or None, which says nothing.
        xp: NumPy or Torch.
        give: what becomes of each array that it returns.
        resamples: whether it draws another context when it begins an episode by itself.
        reports: whether info has the context.
        final: whether info has the last observation of an episode.
        forgets: whether a reset of some environments starts all of them.
    """

    single_observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    single_action_space = gym.spaces.Discrete(NUM_ACTIONS, start=1)

    def __init__(
        self,
        mode,
        *,
        num_envs=7,
        xp=np,
        give=lambda x: x,
        resamples=False,
        reports=True,
        final=True,
        forgets=False,
        fails=False,
    ):
        self.metadata = {} if mode is None else {"autoreset_mode": mode}
        self.num_envs, self.xp, self.give, self.mode = num_envs, xp, give, mode
        self.resamples, self.reports, self.final, self.forgets, self.fails = resamples, reports, final, forgets, fails
        self.row = xp.zeros((num_envs, 4), dtype=xp.float32)
        self.length = xp.zeros(num_envs, dtype=xp.float32)
        self.over = xp.zeros(num_envs, dtype=xp.bool)
        self.num_steps = 0

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask")
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        if mask is None or self.forgets:
            self.row[:], self.over[:] = 0, False
            self.row[:, 0] = options["context"]
            self.length[:] = self._lengths()
        else:
            self._next(self.xp.asarray(mask))
        return self.give(self.row), self._info()

    def _lengths(self):
        return self.xp.asarray(self.rng.integers(2, 6, self.num_envs).astype(np.float32))

    def _next(self, mask):
        """Begin the next episodes of some environments."""
        self.row[mask, 1] += 1
        self.row[mask, 2:] = 0
        self.length[mask] = self._lengths()[mask]
        if self.resamples:
            drawn = self.xp.asarray(self.rng.choice(CONTEXTS, self.num_envs))
            self.row[mask, 0] = drawn[mask]

    def _info(self):
        return {"context": self.give(self.row[:, 0])} if self.reports else {}

    def step(self, actions):
        assert actions.shape == (self.num_envs,)
        assert ((actions >= 1) & (actions <= NUM_ACTIONS)).all()
        xp, begins = self.xp, self.over if self.mode == "NextStep" else self.xp.zeros(self.num_envs, dtype=self.xp.bool)
        self.num_steps += 1
        goes = ~begins
        self.row[goes, 2] += 1
        self.row[goes, 3] = xp.asarray(actions, dtype=xp.float32)[goes]
        if begins.any():
            self._next(begins)
        over = goes & (self.row[:, 2] == self.length)
        assert not (self.mode == "Disabled" and (self.row[:, 2] > self.length).any()), "stepped after the end"
        even = self.length % 2 == 0
        reward = xp.where(goes, self.row[:, 2], xp.zeros(self.num_envs, dtype=xp.float32))
        info = {}
        if self.mode in ("SameStep", None):
            if self.final and over.any():
                info["final_obs"] = self.give(self.row * 1)
            if over.any():
                self._next(over)
        self.over = over
        if self.fails and self.num_steps % 3 == 0:
            self.row[self.num_steps % self.num_envs, 2] = float("nan")
        return (
            self.give(self.row),
            self.give(reward),
            self.give(over & even),
            self.give(over & ~even),
            info | self._info(),
        )

    def close(self):
        pass


def labels(observations, contexts, xp=np):
    """The expert's probabilities code what it was asked about."""
    assert (observations[:, 0] == contexts).all()
    columns = [contexts, *(1 + observations[:, i] for i in (1, 2, 3))]
    weights = xp.stack([xp.asarray(x) for x in columns], -1)
    return weights / weights.sum(-1)[:, None]


def as_boats(xp, num_envs=32, mode="SameStep"):
    """Boats on a line that look for a harbour: `environments.Lake` as one batch. The context is set by a function."""
    boats = SimpleNamespace(
        num_envs=num_envs,
        metadata={"autoreset_mode": mode},
        single_observation_space=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
        single_action_space=gym.spaces.Box(-0.2, 0.2, (1,), np.float32),
        at=xp.zeros((num_envs, 2), dtype=xp.float32),
        close=lambda: None,
    )

    def reset(*, seed=None, options=None):
        boats.at[:, 0] = 0
        return boats.at, {}

    def step(actions):
        assert (abs(actions) <= 0.2 + 1e-6).all()
        boats.at[:, :1] += actions
        no = xp.zeros(num_envs, dtype=xp.bool)
        return boats.at, -abs(boats.at[:, 0] - boats.at[:, 1]), no, no, {}

    def set_context(envs, contexts):
        envs.at[:, 1] = contexts
        return envs.at

    boats.reset, boats.step = reset, step
    return boats, set_context
