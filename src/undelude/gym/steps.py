"""The comparison of an environment's steps with its tables: `P` is all that a process knows of it."""

import contextlib
import copy
import math
import random
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np

from undelude._checks import one_line
from undelude.gym.transitions import Transition, whole_number
from undelude.gym.wrappers import LIBRARIES, describe_limit

# Resets and random steps taken, and the most pairs of state and action that are tried one by one.
NUM_RESETS, NUM_STEPS, MAX_PAIRS = 20, 500, 5000
TOY_TEXT = "gymnasium.envs.toy_text"

Support = dict[tuple[int, int], list[Transition]]
# The state of an environment, from the environment and its last observation.
StateOf = Callable[[Any, Any], int]


class _MismatchError(Exception):
    """A step that has no probability in the tables."""


class _NoStateError(Exception):
    """An observation that is not the number of a state."""


def compare_with_steps(
    env: Any,
    moves: Iterable[Transition],
    first: Collection[int] | None,
    where: str,
    *,
    num_rounds: int,
    shows_states: bool,
) -> list[str]:
    """Step a copy of an environment, and raise if something happens that has no probability in its tables.

    The copy takes random steps from a fixed seed. In Gymnasium's toy-text environments and their subclasses every
    action is then tried in every state. The environment itself, its state and all random numbers stay as they are.

    The state is `env.s` if there is one, because an observation can show less than the state; otherwise, or if the
    tables do not agree with `env.s`, it is the observation.

    Args:
        env: an environment without wrappers; an object without a `step` of its own is its tables.
        moves: the transitions that can occur in the process.
        first: the states in which an episode can start; None if it is not to start as in `reset`.
        where: the environment's name in messages.
        num_rounds: T, to compare time limits with.
        shows_states: whether the process shows the numbers of the states, and not something else (`observe`).

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
    mismatches: list[str] = []
    with _undisturbed():
        for state_of in (_own_state, _shown_state):
            try:
                double = _copy(env)
                limit, other = _walk(double, state_of, support, first, where)
                if any(kind.__module__.startswith(TOY_TEXT) for kind in type(env).__mro__):
                    _try_each(double, state_of, support, where)
            except _MismatchError as error:
                mismatches.append(str(error))
                continue
            except Exception as error:
                if mismatches:
                    break
                is_known = isinstance(error, _NoStateError)
                why = f"{error}" if is_known else f"{type(error).__name__}: {one_line(error)}"
                return [f"could not be compared with P by its steps: {why}"]
            shown = [other] if other is not None and shows_states else []
            return [*describe_limit(limit, num_rounds), *shown]
    raise ValueError(mismatches[0])


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hide warnings, and leave the global random numbers as they are."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def _copy(env: Any) -> Any:
    double = copy.deepcopy(env)
    if getattr(double, "render_mode", None) is not None:
        double.render_mode = None
    return double


def _walk(
    env: Any, state_of: StateOf, support: Support, first: Collection[int] | None, where: str
) -> tuple[int | None, str | None]:
    """Take random steps.

    Returns:
        The least number of steps after which an episode was cut off; a remark if the environment showed something else
        than its state.
    """
    rng, num_actions = np.random.default_rng(0), 1 + max(action for _, action in support)
    other = None
    for i in range(NUM_RESETS):
        observation = env.reset(seed=i)[0]
        state = state_of(env, observation)
        other = other or _describe_other(observation, state)
        if first is not None and state not in first:
            raise _MismatchError(
                f"{where} ({type(env).__name__}): an episode began in state {state}, in which none begins by "
                "initial_state_distrib. Give the distribution of the first state as initial=."
            )
    limit, length = None, 0
    for _ in range(NUM_STEPS):
        action = int(rng.integers(num_actions))
        observation, state, terminated, truncated = _step(env, state_of, state, action, support, where)
        other = other or _describe_other(observation, state)
        length += 1
        if truncated:
            limit = length if limit is None else min(limit, length)
        if terminated or truncated:
            state, length = state_of(env, env.reset()[0]), 0
    return limit, other


def _describe_other(observation: Any, state: int) -> str | None:
    if whole_number(observation) == state:
        return None
    return (
        f"shows {one_line(repr(observation))} in state {state}, and the process shows the numbers of the states in P. "
        "Give what it shows as observe=."
    )


def _try_each(env: Any, state_of: StateOf, support: Support, where: str) -> None:
    """Try the actions in all states; in some of them if there are many."""
    pairs = list(support)
    if len(pairs) > MAX_PAIRS:
        pairs = [pairs[i] for i in np.random.default_rng(0).choice(len(pairs), MAX_PAIRS, replace=False)]
    for state, action in pairs:
        env.s = state
        _step(env, state_of, state, action, support, where)


def _step(
    env: Any, state_of: StateOf, state: int, action: int, support: Support, where: str
) -> tuple[Any, int, bool, bool]:
    """Take one step, and compare it with the tables if the process can be in that state.

    Returns:
        The observation and the state after it; whether the episode terminated, and whether it was cut off.
    """
    observation, reward, terminated, truncated, _ = env.step(action)
    next_state, reward, terminated = state_of(env, observation), float(reward), bool(terminated)
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
    return observation, next_state, terminated, bool(truncated)


def _own_state(env: Any, observation: Any) -> int:
    """Return `env.s`, or the observation if there is none."""
    own = whole_number(getattr(env, "s", None))
    return _shown_state(env, observation) if own is None else own


def _shown_state(env: Any, observation: Any) -> int:
    del env
    shown = whole_number(observation)
    if shown is None:
        raise _NoStateError(f"it shows {one_line(repr(observation))}, and not the number of a state in P.")
    return shown
