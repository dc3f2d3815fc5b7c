"""Environments of gymnax as worlds."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array

from undelude._versions import installing
from undelude.gym.functional_world import FunctionalWorld


def from_gymnax(env: Any, params: Any = None, **options: Any) -> FunctionalWorld:
    """Return a gymnax environment as a world whose theta is ours, to the end of a lifetime.

    gymnax draws what is hidden in `reset_env`, again at each start of an episode by its own `step`. The world calls
    `reset_env` and `step_env`, and `set_context` after each reset. Versions 0.0 and 1.0 of gymnax fit, and what has
    their shape.

    Args:
        env: the environment, or its id.
        params: its parameters; `env.default_params` by default.
        options: the arguments of `ug.FunctionalWorld` but its functions and spaces: `num_rounds`, `contexts`,
            `set_context`, `expert` and others.

    Raises:
        TypeError: `env` has no `reset_env` and `step_env`.
        ModuleNotFoundError: Gymnasium is not installed, or gymnax for an id.

    >>> goals = [[0.7, 0.7], [-0.7, 0.7]]  # doctest: +SKIP
    >>> world = ug.from_gymnax(
    ...     "PointRobot-misc",
    ...     contexts=np.array(goals),
    ...     set_context=lambda state, params, goal: (state.replace(goal=goal), params),
    ...     expert=lambda observation, goal: (0.5 * (goal - observation[:2]), 0.02),
    ...     reward_observed=True,
    ...     num_rounds=50,
    ... )  # doctest: +SKIP
    """
    if isinstance(env, str):
        env = _make(env)
    if missing := [name for name in ("reset_env", "step_env") if not hasattr(env, name)]:
        raise TypeError(
            f"from_gymnax: {type(env).__name__} has no {missing[0]}. Give the environment without wrappers."
        )
    params = env.default_params if params is None else params
    # Since version 1.0, `step_env` does not know the time limit, and `is_truncated` does.
    is_truncated = getattr(env, "is_truncated", None)

    def step(key: Array, state: Any, action: Any, params: Any) -> tuple[Any, ...]:
        found = env.step_env(key, state, action, params)
        if len(found) == 5 and is_truncated is not None:
            o, later, reward, terminated, info = found
            return o, later, reward, terminated, is_truncated(later, params), info
        return found

    defaults = {"name": str(getattr(env, "name", type(env).__name__)), "observe": _observe_of(env)}
    spaces = {name: _as_gymnasium(getattr(env, name)(params)) for name in ("observation_space", "action_space")}
    return FunctionalWorld(env.reset_env, step, params=params, **spaces, **(defaults | options))


def _make(env_id: str) -> Any:
    try:
        gymnax = importlib.import_module("gymnax")
    except ModuleNotFoundError as error:
        # Its version 1.0.1 does not say that it needs six.
        raise ModuleNotFoundError(
            f'undelude.gym.from_gymnax({env_id!r}) needs {error.name}: pip install ".[gymnax]", in a clone of '
            "undelude, without the constraints, because gymnax needs an older Gymnasium."
        ) from error
    return gymnax.make(env_id)[0]


def _observe_of(env: Any) -> Callable[..., Any] | None:
    """Return `(key, state, params) -> observation`, of an environment of either version."""
    if hasattr(env, "observe"):
        return lambda key, state, params: env.observe(key, state, None, params)
    if not hasattr(env, "get_obs"):
        return None
    names = inspect.signature(env.get_obs).parameters

    def observe(key: Array, state: Any, params: Any) -> Any:
        given = {"params": params, "key": key}
        return env.get_obs(state, **{name: x for name, x in given.items() if name in names})

    return observe


def _as_gymnasium(space: Any) -> Any:
    """Return a space of gymnax as one of Gymnasium; other spaces as they are."""
    try:
        from gymnasium import spaces
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"undelude.gym.from_gymnax needs Gymnasium: {installing('gym')}.") from error
    if isinstance(space, spaces.Space):
        return space
    match type(space).__name__:
        case "Discrete":
            return spaces.Discrete(int(space.n))
        case "Box":
            shape = tuple(space.shape)
            low, high = (np.broadcast_to(np.asarray(x, np.float32), shape) for x in (space.low, space.high))
            return spaces.Box(low, high, shape, np.float32)
        case "Dict":
            return spaces.Dict({name: _as_gymnasium(x) for name, x in space.spaces.items()})
        case "Tuple":
            return spaces.Tuple([_as_gymnasium(x) for x in space.spaces])
    raise TypeError(f"from_gymnax: a space of type {type(space).__name__} is not known: wrap the environment.")
