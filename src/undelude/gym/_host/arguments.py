"""The arguments of a world: the environment that it is given, and what is checked of others."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from undelude._checks import check_probabilities, one_line
from undelude._distributions import Parts
from undelude.gym._host.cues import AbstractCue
from undelude.gym._host.rows import host

# Seconds to wait for an answer of a process, by default.
TIMEOUT = 60.0
# Numbers of a context that a message shows.
MAX_SHOWN = 4


def check_told(world: str, reward_observed: object, at_end: object, cue: object) -> None:
    """Raise `TypeError` or `ValueError` if one of the choices that every world makes is none of them."""
    if reward_observed is None:
        raise TypeError(
            f"{world}: say reward_observed=True or False. There is no default, because an agent that is shown the "
            "rewards often learns theta from them."
        )
    if not isinstance(reward_observed, bool):
        raise TypeError(f"{world}: reward_observed must be True or False, not {reward_observed!r}.")
    if at_end not in ("restart", "end"):
        raise ValueError(f'{world}: at_end must be "restart" or "end", not {at_end!r}.')
    if not (cue is None or isinstance(cue, AbstractCue)):
        raise TypeError(f"{world}: cue must be a ug.WarmerColder(...) or another ug.AbstractCue, not {cue!r}.")


def check_called(world: str, expert: Callable[..., Any]) -> None:
    """Raise `TypeError` if an expert cannot be called as `expert(observation, context)`, or with a mask too."""
    try:
        signature = inspect.signature(expert)
    except (TypeError, ValueError):  # Some built-in functions have none.
        return
    try:
        signature.bind(None, None, **({"mask": None} if "mask" in signature.parameters else {}))
    except TypeError as error:
        raise TypeError(
            f"{world}: an expert is called as expert(observation, context), and this one takes {signature}."
        ) from error


def prior_over(world: str, prior: Any, num_thetas: int) -> Float[np.ndarray, " K"]:
    """Return the probabilities of K contexts, uniform by default.

    Raises:
        ValueError: they are not a distribution, or not K.
    """
    probs = np.full(num_thetas, 1 / num_thetas) if prior is None else np.asarray(prior, float)
    check_probabilities(probs, f"{world}: prior")
    if probs.shape != (num_thetas,):
        raise ValueError(f"{world}: prior must have {num_thetas} probabilities, not {probs.shape}.")
    return probs


def context_in_words(theta: int, context: Any) -> str:
    """Return a context for a message: its number, and its value if that is short."""
    x = host(context)
    if x.dtype.kind in "biuf" and x.size <= MAX_SHOWN:
        value = f"{x:.4g}" if not x.ndim else np.array2string(x, precision=4, separator=", ").replace("\n", "")
    elif isinstance(context, str):
        value = one_line(context)
    else:
        return f"context {theta}"
    return f"context {value} (number {theta})"


def in_one_line(world: Any) -> str:
    """Return the name of a world, its contexts and rounds, what the agent sees, and its actions."""
    actions, observations = world.specs
    parts = (observations.named if isinstance(observations, Parts) else None) or {"observation": observations}
    sees = ", ".join(f"{name} ({part})" for name, part in parts.items())
    contexts = f"{world.num_thetas} contexts, {world.num_rounds} rounds"
    return f"{world.name}: {contexts}; the agent sees {sees}; actions: {actions}"


def check_unused(
    env: Any, *, num_envs: int | None, vectorization: str, num_workers: int | None, timeout: float
) -> None:
    """Raise if arguments were given that a vector environment decides by itself."""
    if num_envs not in (None, int(env.num_envs)):
        raise ValueError(
            f"HostWorld: num_envs={num_envs}, but the vector environment has {env.num_envs}: leave it out."
        )
    if vectorization != "sync" or num_workers is not None or timeout != TIMEOUT:
        raise TypeError(
            "HostWorld: vectorization, num_workers and timeout are for environments that the world makes itself; a "
            "vector environment steps as it does. Leave them out."
        )


def makers_of(env: Any) -> tuple[Callable[[], Any], ...]:
    """Return the factories of the environments: one, or one for each context.

    Raises:
        TypeError: `env` is of another kind.
    """
    if isinstance(env, str):
        return (_ById(env),)
    if isinstance(env, list | tuple):
        if not env:
            raise TypeError("HostWorld: the list of environments is empty.")
        return tuple(maker for each in env for maker in makers_of(each))
    if not isinstance(env, type) and hasattr(env, "step") and hasattr(env, "reset"):
        raise TypeError(
            f"HostWorld makes its environments itself, num_envs of them: give an id, or a factory such as lambda: "
            f"gymnasium.make(...), and not the environment {one_line(repr(env))}."
        )
    if not callable(env):
        raise TypeError(f"HostWorld: env must be an id, a factory or a list of them, not {one_line(repr(env))}.")
    return (env,)


@dataclasses.dataclass(frozen=True)
class _ById:
    id: str

    def __call__(self, render_mode: str | None = None) -> Any:
        import gymnasium

        return gymnasium.make(self.id, render_mode=render_mode)


def name_of(env: Any, example: Any) -> str:
    """Return the name of an environment, for messages."""
    if isinstance(env, str):
        return env
    spec = getattr(example, "spec", None)
    return spec.id if spec is not None else type(getattr(example, "unwrapped", example)).__name__
