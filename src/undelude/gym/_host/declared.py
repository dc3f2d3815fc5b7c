"""Checks that an environment keeps its declarations: the observation space, the context, the form of its answers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from undelude._checks import one_line
from undelude._tree import is_concrete
from undelude.gym._host.rows import host
from undelude.gym._host.spaces import flatten, leaves_of

# Spaces whose values are checked; the others cannot be shown to an agent.
SYMBOLS = ("Discrete", "MultiBinary", "MultiDiscrete")
CHECKED = ("Box", *SYMBOLS)
# The relative difference of a context that an environment keeps in fewer digits.
FEWER_DIGITS = 1e-5


class NotAsDeclared(ValueError):
    """An environment that answers otherwise than it declares; no other episode would be better."""


def name_of_env(env: Any) -> str:
    """Return the name of the class of an environment, below its wrappers."""
    return type(getattr(env, "unwrapped", env)).__name__


def check_observation(name: str, space: Any, observation: Any, *, lead: tuple[int, ...] = ()) -> None:
    """Raise `NotAsDeclared` if an observation has another shape than its space, or a symbol outside it.

    The bounds of a Box are not checked, and neither are values that are being traced.

    Args:
        name: of the environment.
        space: of one observation.
        observation: the whole one.
        lead: leading axes, of many environments.
    """
    try:
        parts = flatten(space, observation, "")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise NotAsDeclared(
            f"{name}: the observation {one_line(repr(observation))} does not have the parts of observation_space, "
            f"{one_line(space)}."
        ) from error
    for part, inner in leaves_of(space, "").items():
        if type(inner).__name__ in CHECKED:
            what = f"{name}: the observation{f', part {part},' if part else ''}"
            _check_part(what, inner, parts[part], lead)


def _check_part(what: str, space: Any, x: Any, lead: tuple[int, ...]) -> None:
    x = x if hasattr(x, "shape") else np.asarray(x)
    if tuple(x.shape) != (*lead, *space.shape):
        raise NotAsDeclared(
            f"{what} has the shape {tuple(x.shape)[len(lead) :]}, and {one_line(space)} says {tuple(space.shape)}: "
            "correct observation_space, or what reset and step return."
        )
    if type(space).__name__ not in SYMBOLS or not is_concrete(x):
        return
    values = host(x)
    first = np.asarray(getattr(space, "start", 0))
    most = np.asarray(getattr(space, "n" if type(space).__name__ == "Discrete" else "nvec", 2)) - 1 + first
    wrong = (values != np.floor(values)) | (values < first) | (values > most)
    if wrong.any():
        raise NotAsDeclared(
            f"{what} is {one_line(values[wrong][0])}, which is outside {one_line(space)}: correct observation_space, "
            "or what reset and step return."
        )


def check_context(name: str, info: Any, context: Any) -> None:
    """Raise `NotAsDeclared` if an environment that was told its context reports another one in `info["context"]`."""
    reported = info.get("context") if isinstance(info, Mapping) else None
    if reported is None:
        return
    x, y = np.asarray(reported), np.asarray(context)
    if x.shape != y.shape or (x.dtype.kind in "biuf") != (y.dtype.kind in "biuf"):
        return  # Another description of the context.
    if not (np.isclose(x, y, FEWER_DIGITS) if y.dtype.kind in "biuf" else x == y).all():
        raise NotAsDeclared(
            f'{name}: reset(options={{"context": {one_line(context)}}}) began an episode under context '
            f'{one_line(reported)}, as info["context"] says. reset must take the context from options["context"]; or '
            "give set_context=."
        )


def reset(name: str, env: Any, seed: int, options: Any) -> tuple[Any, Any]:
    """Reset an environment, and return the observation and the info.

    Raises:
        NotAsDeclared: `reset` does not take the arguments of Gymnasium, or returns something else.
    """
    try:
        answer = env.reset(seed=seed, options=options)
    except TypeError as error:
        if missing := [x for x in ("options", "seed") if f"argument '{x}'" in str(error)]:
            raise NotAsDeclared(
                f"{name}: reset does not take {missing[0]}=. Write reset(self, *, seed=None, options=None), and take "
                'the context from options["context"] or give set_context=.'
            ) from error
        raise
    if not (isinstance(answer, tuple) and len(answer) == 2):
        raise NotAsDeclared(f"{name}: reset must return two values, (observation, info), not {one_line(repr(answer))}.")
    return answer


def step(name: str, env: Any, action: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Play an action, and return the five values of Gymnasium.

    Raises:
        NotAsDeclared: they are not five.
    """
    answer = env.step(action)
    if not (isinstance(answer, tuple) and len(answer) == 5):
        found = f"{len(answer)}" if isinstance(answer, tuple) else one_line(repr(answer))
        raise NotAsDeclared(
            f"{name}: step must return five values, (observation, reward, terminated, truncated, info), not {found}. "
            "Four are those of the old Gym, whose done is terminated or truncated."
        )
    return answer
