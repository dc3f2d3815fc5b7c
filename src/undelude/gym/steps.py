"""The comparison of an environment's steps with its tables: `P` is all that a process knows of it."""

import copy
import math
import random
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from undelude._checks import one_line
from undelude.gym.transitions import Transition
from undelude.gym.wrappers import LIBRARIES, describe_limit

# Resets and random steps taken, and the most pairs of state and action that are tried one by one.
NUM_RESETS, NUM_STEPS, MAX_PAIRS = 20, 500, 5000
TOY_TEXT = "gymnasium.envs.toy_text"

Support = dict[tuple[int, int], list[Transition]]


class _MismatchError(Exception):
    """A step that has no probability in the tables."""


class _NoStateError(Exception):
    """An observation that is not the number of a state."""


def compare_with_steps(
    env: Any, moves: Iterable[Transition], first: Collection[int] | None, where: str, num_rounds: int
) -> list[str]:
    """Step a copy of an environment, and raise if something happens that has no probability in its tables.

    The copy takes random steps from a fixed seed. In Gymnasium's toy-text environments and their subclasses every
    action is then tried in every state. The environment itself, its state and all random numbers stay as they are.

    Args:
        env: an environment without wrappers; an object without a `step` of its own is its tables.
        moves: the transitions that can occur in the process.
        first: the states in which an episode can start; None if it is not to start as in `reset`.
        where: the environment's name in messages.
        num_rounds: T, to compare time limits with.

    Returns:
        Remarks that begin after `where`: on a time limit that is left out, or on steps that could not be compared.

    Raises:
        ValueError: a step does something else than the tables say.
    """
    step = getattr(env, "step", None)
    if step is None or getattr(step, "__module__", "") in {f"{library}.core" for library in LIBRARIES}:
        return []
    support: Support = defaultdict(list)
    for move in moves:
        support[move.state, move.action].append(move)
    global_states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            double = copy.deepcopy(env)
            if getattr(double, "render_mode", None) is not None:
                double.render_mode = None
            limit = _walk(double, support, first, where)
            if any(kind.__module__.startswith(TOY_TEXT) for kind in type(env).__mro__):
                _try_each(double, support, where)
        except _MismatchError as error:
            raise ValueError(str(error)) from None
        except _NoStateError as error:
            return [f"shows {error}, and the process shows the numbers of the states in P."]
        except Exception as error:
            return [f"could not be compared with P by its steps: {type(error).__name__}: {one_line(error)}"]
        finally:
            random.setstate(global_states[0])
            np.random.set_state(global_states[1])  # noqa: NPY002
    return describe_limit(limit, num_rounds)


def _walk(env: Any, support: Support, first: Collection[int] | None, where: str) -> int | None:
    """Take random steps, and return the least number of them after which an episode was cut off."""
    rng, num_actions = np.random.default_rng(0), 1 + max(action for _, action in support)
    for i in range(NUM_RESETS):
        state = _state(env.reset(seed=i)[0])
        if first is not None and state not in first:
            raise _MismatchError(
                f"{where} ({type(env).__name__}): an episode began in state {state}, in which none begins by "
                "initial_state_distrib. Give the distribution of the first state as initial=."
            )
    limit, length = None, 0
    for _ in range(NUM_STEPS):
        action = int(rng.integers(num_actions))
        state, terminated, truncated = _step(env, state, action, support, where)
        length += 1
        if truncated:
            limit = length if limit is None else min(limit, length)
        if terminated or truncated:
            state, length = _state(env.reset()[0]), 0
    return limit


def _try_each(env: Any, support: Support, where: str) -> None:
    """Try the actions in all states; in some of them if there are many."""
    pairs = list(support)
    if len(pairs) > MAX_PAIRS:
        pairs = [pairs[i] for i in np.random.default_rng(0).choice(len(pairs), MAX_PAIRS, replace=False)]
    for state, action in pairs:
        env.s = state
        _step(env, state, action, support, where)


def _step(env: Any, state: int, action: int, support: Support, where: str) -> tuple[int, bool, bool]:
    """Take one step, and compare it with the tables if the process can be in that state."""
    observation, reward, terminated, truncated, _ = env.step(action)
    next_state, reward, terminated = _state(observation), float(reward), bool(terminated)
    possible = support.get((state, action))
    if possible is not None and not any(
        move.next_state == next_state
        and move.terminated == terminated
        and math.isclose(move.reward, reward, rel_tol=1e-5, abs_tol=1e-9)
        for move in possible
    ):
        raise _MismatchError(
            f"{where} ({type(env).__name__}): action {action} in state {state} led to state {next_state} with reward "
            f"{reward:g}, {'terminated' if terminated else 'not terminated'}. This has no probability in P, which is "
            "all that the process would know. Put the dynamics of step() into P. If P is what you mean, give it alone: "
            "types.SimpleNamespace(P=env.P, initial_state_distrib=env.initial_state_distrib)."
        )
    return next_state, terminated, bool(truncated)


def _state(observation: Any) -> int:
    x = np.asarray(observation)
    if x.shape != () or x.dtype.kind not in "iu":
        raise _NoStateError(one_line(repr(observation)))
    return int(x)
