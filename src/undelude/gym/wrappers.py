"""From a Gymnasium environment to the one below its wrappers, if they leave its tables true."""

from typing import Any

# Wrappers that leave states, rewards and ends as they are; and `Autoreset`, which the process does too.
HARMLESS = frozenset({"Autoreset", "HumanRendering", "OrderEnforcing", "PassiveEnvChecker", "RecordEpisodeStatistics"})
HARMLESS |= {"RecordVideo", "RenderCollection"}
LIBRARIES = ("gymnasium", "gym")


def unwrap(env: Any, where: str, num_rounds: int) -> tuple[Any, list[str]]:
    """Return `env.unwrapped`, whose tables are the process, and remarks on what is left out, which begin after `where`.

    Wrappers are told by their names, so that an object with tables can be used without Gymnasium.

    Args:
        env: an environment, or any object with tables.
        where: its name in messages.
        num_rounds: T, to compare time limits with.

    Raises:
        TypeError: a class or a name was given in place of an environment.
        ValueError: a wrapper may change states, rewards or actions, or the dynamics are not in the tables.
    """
    if isinstance(env, type | str):
        what = f"the class {env.__name__}" if isinstance(env, type) else f"the string {env!r}"
        raise TypeError(f"{where} is {what}; give an environment, such as gymnasium.make(...).")
    bare, left_out = getattr(env, "unwrapped", env), []
    while env is not bare and hasattr(env, "env"):
        if _is_from_library(type(env)) and type(env).__name__ == "TimeLimit":
            left_out += describe_limit(getattr(env, "_max_episode_steps", None), num_rounds)
        elif not (_is_harmless(env) or _passes_on(env)):
            raise ValueError(
                f"{where} has the wrapper {type(env).__name__}, which may change states, rewards or actions. The "
                "process would not know of it, because its dynamics are env.unwrapped.P. Change P itself, or give "
                "env.unwrapped to leave the wrapper out."
            )
        env = env.env
    if getattr(bare, "fickle_passenger", False):
        raise ValueError(
            f"{where} ({type(bare).__name__}) has fickle_passenger=True. The passenger's change of mind is in step() "
            "and not in P, so the process would not know of it. Make the environment with fickle_passenger=False."
        )
    return bare, left_out


def describe_limit(num_steps: int | None, num_rounds: int) -> list[str]:
    """Describe a time limit of less than T steps, which the process leaves out; a longer one has no effect."""
    if num_steps is None or num_steps >= num_rounds:
        return []
    return [
        f"cuts episodes off after {num_steps} steps, and the process does not: it starts anew only after transitions "
        f"that P calls terminated. Give num_rounds of at most {num_steps}, or lift the limit, for example with "
        "gymnasium.make(..., max_episode_steps=-1)."
    ]


def _is_from_library(kind: type) -> bool:
    return kind.__module__.split(".")[0] in LIBRARIES


def _is_harmless(env: Any) -> bool:
    return _is_from_library(type(env)) and type(env).__name__ in HARMLESS


def _passes_on(env: Any) -> bool:
    """Return whether a wrapper leaves `step` and `reset` to the environment below."""
    base = next((kind for kind in type(env).__mro__ if kind.__name__ == "Wrapper" and _is_from_library(kind)), None)
    if base is None or {"step", "reset"} & set(vars(env)):
        return False
    return type(env).step is base.step and type(env).reset is base.reset
