"""What teaching on a simulator saves by collecting the next batch in a thread, and whether it learns the same.

`python benchmarks/overlap.py [--steps 200] [--seeds 3]`, some ten minutes. The world is a boat with a hidden harbour, a
guide, and exact answers. A step of its simulator waits as long as the row says. An agent whose memory is truncated
collects and learns in turn; here one only says that it is.
"""

import argparse
import os
import time

import gymnasium
import jax
import numpy as np

import undelude as ud
import undelude.gym as ug

HARBOURS, NUM_ROUNDS, NUM_ENVS = [-0.8, -0.3, 0.3, 0.8], 20, 64


class InTurn(ud.GRUAgent):
    """The same agent, taught in turn."""

    @property
    def full_history(self) -> bool:
        """False, so that each batch is collected with the present weights."""
        return False


class Lake(gymnasium.Env):
    """A boat on a line; the observation is its place and, to be hidden, the harbour."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-0.2, 0.2, (1,), np.float32)

    def __init__(self, pause: float):
        self.pause = pause

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Start at 0."""
        super().reset(seed=seed)
        self.at = np.array([0.0, (options or {}).get("context", 0.0)], np.float32)
        return self.at, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move."""
        if self.pause:
            time.sleep(self.pause)
        self.at[0] += action[0]
        return self.at, -abs(float(self.at[0] - self.at[1])), False, False, {}


def make_world(pause: float) -> ug.HostWorld:
    """Return the world whose steps take `pause` seconds."""
    return ug.HostWorld(
        lambda: Lake(pause),
        num_rounds=NUM_ROUNDS,
        num_envs=NUM_ENVS,
        contexts=HARBOURS,
        hide=[1],
        cue=ug.WarmerColder(lambda o, c: np.abs(o[:, 0] - c), right=0.8, within=0.1, batched=True),
        expert=lambda o, c: (np.clip(0.5 * (c[:, None] - o[:, :1]), -0.2, 0.2), np.full(len(o), 0.05)),
        batched=True,
        reward_observed=False,
        at_end="end",
    )


def measure(pause: float, hidden_size: int, steps: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return the seconds of teaching and the distance from the interventional answer, in turn and side by side."""
    fast, found = make_world(0.0), {}
    typical = ud.rollout(fast, None, executor="expert", key=jax.random.key(seed), num_episodes=NUM_ENVS)
    for name, architecture in (("in turn", InTurn), ("side by side", ud.GRUAgent)):
        agent = ud.normalise(architecture(fast, hidden_size, key=jax.random.key(seed)), typical)
        options = {"steps": steps, "batch_size": NUM_ENVS, "log_every": steps}
        run = ud.teach(make_world(pause), agent, ud.Counterfactual(), key=jax.random.key(seed), **options)
        report = ud.certify(fast, run.agent, key=jax.random.key(100 + seed), num_episodes=512, baselines=False)
        found[name] = run.seconds, report.action_kl_do
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pauses", type=float, nargs="+", default=[0.0, 1e-4], help="seconds of a step")
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[32, 256])
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}; {options.steps} updates, {options.seeds} seeds")
    print(f"{'':32}{'ms an update':>26}{'':10}{'action_kl_do':>34}")
    head = f"{'hidden':>8}{'pause, us':>12}{'':12}{'in turn':>13}{'side by side':>13}{'saved':>10}"
    print(f"{head}{'in turn':>20}{'side by side':>20}")
    for hidden_size in options.hidden_sizes:
        for pause in options.pauses:
            runs = [measure(pause, hidden_size, options.steps, s) for s in range(options.seeds)]
            x = np.array([[run[name] for name in ("in turn", "side by side")] for run in runs])
            ms, kl = 1000 * np.median(x[..., 0], 0) / options.steps, x[..., 1]
            each = "".join(f"{k.mean():11.4f} ± {k.std(ddof=1) / np.sqrt(len(k)):.4f}" for k in kl.T)
            row = f"{hidden_size:8}{1e6 * pause:12.0f}{'':12}{ms[0]:13.1f}{ms[1]:13.1f}{1 - ms[1] / ms[0]:10.0%}"
            print(f"{row} {each}", flush=True)


if __name__ == "__main__":
    main()
