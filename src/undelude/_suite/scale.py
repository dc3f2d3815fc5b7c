"""The scale of the normalised return: 0 is the exact agent that reads its own actions as evidence, 1 the sober one."""

import functools
import math
from importlib.resources import files

from undelude._certificate.quantity import Quantity
from undelude._files import json_object
from undelude._suite.results import Result, parse_result

# Standard errors by which the exact agents' returns must differ for a task to count in the normalised return.
CLEARLY = 8.0


@functools.cache
def baseline(name: str) -> Result:
    """Return a result that is stored in the package, such as `exact-do`."""
    return parse_result(json_object(files("undelude._suite").joinpath("baselines", f"{name}.json").read_bytes()))


def reference(task: str, mark: str) -> Quantity:
    """Return the reward per round of an exact agent on a task: `do`, the sober one, or `see`, the limit of a clone."""
    try:
        return baseline(f"exact-{mark}").tasks[task].score("reward")
    except (FileNotFoundError, KeyError):
        return Quantity(why_none=f"the exact agents have not been measured on {task}: run studies/suite.py.")


def span(task: str) -> float | None:
    """Return by how much the exact sober agent earns more per round than a clone; None if it does not tell them apart.

    It does if the difference is at least eight standard errors, so that one measurement of an agent is within about an
    eighth of the difference.
    """
    do, see = reference(task, "do"), reference(task, "see")
    if do.value is None or see.value is None:
        return None
    difference = do.value - see.value
    error = math.hypot(do.standard_error or 0.0, see.standard_error or 0.0)
    return difference if difference > CLEARLY * error else None


def normalised(task: str, reward: Quantity) -> Quantity:
    """Return a reward in units in which a clone earns 0 and the exact sober agent 1.

        (reward - reward of the exact see agent) / (reward of the exact do agent - reward of the exact see agent)

    The references are the stored numbers, without error.
    """
    width, see = span(task), reference(task, "see")
    if see.value is None:
        return see
    if width is None:
        return Quantity(why_none="the exact agents earn the same here, or the deluded one more.")
    if reward.value is None:
        return Quantity(why_none=reward.why_none or "the reward was not measured.")
    error = None if reward.standard_error is None else reward.standard_error / width
    return Quantity((reward.value - see.value) / width, error)
