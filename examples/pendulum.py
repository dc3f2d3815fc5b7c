"""A pole on a cart in MuJoCo whose motor may be wired the wrong way round: a simulator inside a compiled task.

Theta is the sign of the motor. The expert knows it and balances the pole, by linear-quadratic control. Observations are
the state with noise, so that each push tells a little about the sign; a push of the expert's own tells all. Because the
simulator is part of a process, exact agents and the whole certificate exist; the exact agents simulate both signs.

`randomised` has a continuous theta instead: the strength of the motor (domain randomisation).

Needs the extra `[mujoco]`.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np

import undelude as ud
import undelude.gym as ug

# Position, angle, and their velocities at the start; the angle up to which the pole counts as balanced.
START, BALANCED = np.array([0.0, 0.05, 0.0, 0.0]), 0.2
# Standard deviations of observations and of the expert's actions.
NOISE, SPREAD = 0.1, 0.02

env: Any = gymnasium.make("InvertedPendulum-v5").unwrapped


def simulate(state, force):
    """The next state: it depends on the arguments alone, because all of MuJoCo's state is set before the step."""
    mujoco.mj_resetData(env.model, env.data)
    env.data.qpos[:], env.data.qvel[:] = state[:2], state[2:]
    env.data.ctrl[:] = np.clip(force, -3, 3)
    mujoco.mj_step(env.model, env.data, env.frame_skip)
    return np.concatenate([env.data.qpos, env.data.qvel])


step = ug.callback(simulate, result=np.zeros(4))


@functools.cache
def gains():
    """The gains of linear-quadratic control, from the simulator's own derivatives."""
    d = 1e-4
    A = np.stack([(simulate(d * e, 0.0) - simulate(-d * e, 0.0)) / (2 * d) for e in np.eye(4)], -1)
    B = ((simulate(np.zeros(4), d) - simulate(np.zeros(4), -d)) / (2 * d))[:, None]
    P = np.eye(4)
    for _ in range(2000):
        K = np.linalg.solve(1 + B.T @ P @ B, B.T @ P @ A)
        P = np.diag([0.1, 10.0, 0.1, 0.1]) + A.T @ P @ (A - B @ K)
    return K[0]


class Cart(ud.AbstractTask):
    """W is the true state, under one motor."""

    motor: Callable = eqx.field(static=True)

    def init(self, theta):
        return jnp.asarray(START, float)

    def Q_O(self, theta, w):
        return ud.Normal(w, NOISE)

    def g_A(self, theta, a, w):
        return step(w, self.motor(theta) * a[0])

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return (jnp.abs(w[1]) < BALANCED).astype(float)


class Controller(ud.AbstractExpert):
    """E is the last observation, which does not depend on theta."""

    theta_free_memory = True
    motor: Callable = eqx.field(static=True)
    gains: Any = eqx.field(converter=jnp.asarray)

    def init(self, theta):
        return jnp.asarray(START, float)

    def Q_A(self, theta, e):
        return ud.Normal(jnp.clip(-self.gains @ e / self.motor(theta), -3, 3)[None], SPREAD)

    def g_A(self, theta, a, e):
        return e

    def g_O(self, theta, o, e):
        return o


def sign(theta):
    return theta


def pendulum(num_rounds=50):
    """Theta is the sign of the motor."""
    signs = jnp.array([-1.0, 1.0])
    return ud.InteractionProcess([0.5, 0.5], signs, Cart(sign), Controller(sign, gains()), num_rounds, name="pendulum")


def randomised(num_rounds=50):
    """Theta is the logarithm of the motor's strength, which is normally distributed: teach on it as it is.

    Exact answers are those of draws of theta, `randomised().particles(16, key=...)`.
    """
    return ud.InteractionProcess(
        ud.Normal(0.0, 0.5), None, Cart(jnp.exp), Controller(jnp.exp, gains()), num_rounds, name="randomised"
    )


def main(num_rounds=50, num_episodes=256):
    process, key = pendulum(num_rounds), jax.random.key(0)
    reports = {}
    for mark, name in (("do", "sober"), ("see", "deluded")):
        report = ud.certify(process, ud.ExactAgent(process, mark), key=key, num_episodes=num_episodes, baselines=False)
        print(f"{name}: {report.reward:.2%} of rounds balanced, {report.action_kl_do:.3f} nats from Q(A | do(a), o)")
        reports[name] = report
    return reports


if __name__ == "__main__":
    main()
