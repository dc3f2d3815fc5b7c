"""A simulated robot arm is guided to a target that it is not shown: Reacher-v5 of Gymnasium, with MuJoCo.

    pip install -c constraints.txt ".[gym,mujoco]"
    python examples/reacher.py              a certificate after 100 updates, about three minutes of CPU

One of eight targets lies around the base. The expert is a controller that is shown the target. The agent sees the
joints and hears a guide say warmer or colder, right with probability .8.
"""

import argparse

import gymnasium
import jax
import numpy as np

import undelude as ud
import undelude.gym as ug

LENGTHS = 0.1, 0.11  # Metres, of both links: the fingertip is at the end of the second.
ANGLES = 2 * np.pi * np.arange(8) / 8
TARGETS = 0.14 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1)
# An observation has the joints' cosines (0, 1) and sines (2, 3), the target (4, 5), the joints' velocities (6, 7), and
# the way from the target to the fingertip (8, 9).
HIDDEN = [4, 5, 8, 9]


def directions(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors along both links, metres; observations of a batch."""
    cos, sin = observations[:, 0:2], observations[:, 2:4]
    both = cos[:, 0] * cos[:, 1] - sin[:, 0] * sin[:, 1], sin[:, 0] * cos[:, 1] + cos[:, 0] * sin[:, 1]
    return LENGTHS[0] * np.stack([cos[:, 0], sin[:, 0]], -1), LENGTHS[1] * np.stack(both, -1)


def distance(observations: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return how far the fingertip is from the target, in metres."""
    return np.linalg.norm(sum(directions(observations)) - targets, axis=-1)


def controller(observations: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale of the torques, which pull the fingertip to the target and brake the joints."""
    first, second = directions(observations)
    error = targets - first - second

    def torque(arm: np.ndarray) -> np.ndarray:
        return arm[:, 0] * error[:, 1] - arm[:, 1] * error[:, 0]

    pull = 45 * np.stack([torque(first + second), torque(second)], -1)
    mean = np.clip(pull - 0.05 * observations[:, 6:8], -0.3, 0.3)
    return mean, np.full(mean.shape, 0.1)


def place(env: gymnasium.Env, target: np.ndarray) -> np.ndarray:
    """Move the target, and return the observation that this gives."""
    arm = env.unwrapped
    position, velocity = arm.data.qpos.copy(), arm.data.qvel.copy()
    position[2:], velocity[2:] = target, 0
    arm.set_state(position, velocity)
    return arm._get_obs()


def draw(frame: ud.Frame, target: np.ndarray, observation: np.ndarray, belief: list[tuple[np.ndarray, float]]) -> None:
    """Draw the arm, and each target as dark as it is probable."""

    def at(x: np.ndarray) -> tuple[float, float]:
        return 0.5 + x[0] / 0.46, 0.5 - x[1] / 0.46

    for other, p in belief:
        frame.disc(at(other), 0.03, fill=frame.accent, opacity=p, outline=frame.rule)
    frame.disc(at(target), 0.045, outline=frame.ink, label="true target")
    upper, lower = (x[0] for x in directions(observation[None]))
    frame.line([at(np.zeros(2)), at(upper), at(upper + lower)], colour=frame.ink, width=0.02)


def make() -> gymnasium.Env:
    """Return the environment, which would be cut off after 50 steps."""
    return gymnasium.make("Reacher-v5", max_episode_steps=101)


def reacher(num_rounds: int = 100, num_envs: int = 64) -> ug.HostWorld:
    """Return the world of the agent."""
    return ug.HostWorld(
        make,
        num_rounds=num_rounds,
        num_envs=num_envs,
        contexts=TARGETS,
        set_context=place,
        hide=HIDDEN,
        cue=ug.WarmerColder(distance, right=0.8, within=0.02, batched=True),
        expert=controller,
        batched=True,
        reward_observed=False,
        at_end="end",
        draw=draw,
        name="Reacher-v5",
    )


def main(steps: int, num_episodes: int) -> ud.Certificate:
    """Teach, and print the certificate."""
    world, key = reacher(), jax.random.key(0)
    typical = ud.rollout(world, None, executor="expert", key=key, num_episodes=64)
    agent = ud.normalise(ud.GRUAgent(world, 128, key=key), typical)
    teaching = ud.Counterfactual(observation_weight=0.1)
    run = ud.teach(world, agent, teaching, key=key, steps=steps, batch_size=64, reuse=4)
    report = ud.certify(world, run.agent, key=jax.random.key(1), num_episodes=num_episodes, baselines=False)
    print(report)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--num-episodes", type=int, default=64)
    args = parser.parse_args()
    main(args.steps, args.num_episodes)
