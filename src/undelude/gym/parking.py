"""Gymnasium's mountain car, which has to park at a place that only the expert knows: a world that runs in Python."""

from typing import Any

import gymnasium
import numpy as np

from undelude._checks import check_between, check_count
from undelude.gym._host.cues import WarmerColder
from undelude.gym.host_world import HostWorld

# The car's motor and the valley's slope, from Gymnasium's Continuous_MountainCarEnv.
POWER, SLOPE = 0.0015, 0.0025
# The expert's controller, by position and by velocity; the deviation of its pushes; the size of a place.
STIFF, DAMPED, SCALE, WITHIN = 0.01, 0.15, 0.1, 0.04


class Parking(gymnasium.Wrapper):
    """`MountainCarContinuous-v0` from the bottom, with reward 1 within .04 of the place `options["context"]`.

    An attempt never ends: the flag of the original is out of reach of the pushes that parking takes.
    """

    def __init__(self):
        super().__init__(gymnasium.make("MountainCarContinuous-v0").unwrapped)
        self.place = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start at the bottom of the valley."""
        self.place = float((options or {}).get("context", 0.0))
        return self.env.reset(seed=seed, options={"low": -0.53, "high": -0.51})

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Push, and pay for standing at the place."""
        seen, _, _, _, info = self.env.step(action)
        return seen, float(abs(seen[0] - self.place) < WITHIN), False, False, info


def distance(observation: Any, place: Any) -> Any:
    """Return how far the car is from a place."""
    return abs(observation[..., 0] - place)


def push(observation: Any, place: Any) -> tuple[Any, Any]:
    """Return the mean and the deviation of the expert's push: proportional and derivative control against the slope."""
    at, speed = observation[..., 0], observation[..., 1]
    wanted = STIFF * (place - at) - DAMPED * speed + SLOPE * np.cos(3 * at)
    mean = np.clip(wanted / POWER, -1, 1)[..., None]
    return mean, np.full(mean.shape, SCALE)


def parking(
    places: tuple[float, ...] = (-0.68, -0.6, -0.44, -0.36), cue: float = 0.8, num_rounds: int = 60, num_envs: int = 64
) -> HostWorld:
    """Return a world in which a car parks at one of several places in a valley, led by warmer and colder.

    `Theta` is the place, uniform. The agent sees the car's position and velocity, which it reads, and the cue, right
    with probability `cue`; the expert's push is `N(mean(place), .1)`. Why it deludes: two pushes tell more about the
    place than the whole episode's cues.

    Args:
        places: positions, within the part of the valley in which the motor holds the car.
        cue: the probability that the cue is right, from 1/2 (no information) to 1.
        num_rounds: T.
        num_envs: cars side by side.

    Raises:
        ValueError: a number is out of range.
    """
    cue = check_between("parking: cue", cue, 0.5, 1, why="1/2 says nothing")
    return HostWorld(
        Parking,
        num_rounds=check_count("parking: num_rounds", num_rounds),
        num_envs=num_envs,
        contexts=np.array([check_between("parking: places", x, -0.72, -0.32) for x in places]),
        expert=push,
        batched=True,
        cue=WarmerColder(distance, right=cue, within=WITHIN, batched=True),
        reward_observed=False,
        at_end="end",
        name="parking",
    )
