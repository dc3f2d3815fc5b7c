"""The transitions of a tabular environment, `P[state][action] = [(probability, next state, reward, done), ...]`."""

import dataclasses
import operator
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from undelude._checks import as_numbers, check_probabilities, one_line

FORM = "P[state][action] = [(probability, next state, reward, terminated), ...]"


class Transition(NamedTuple):
    """One entry of a table; whether the episode ends is a property of the transition, not of the state it leads to."""

    state: int
    action: int
    probability: float
    next_state: int
    reward: float
    terminated: bool


@dataclasses.dataclass(frozen=True)
class Table:
    """The tables of an environment.

    Attributes:
        P: the rows, by state.
        states: the number of each state, in the order of `initial_state_distrib`.
        initial: the distribution of the first state over `states`; None if it is not published.
        num_actions: A; None if the environment does not declare it.
        bounded: whether the environment declares `states` to be all states.
    """

    P: Mapping[int, Any]
    states: tuple[int, ...]
    initial: np.ndarray | None
    num_actions: int | None
    bounded: bool


def read_table(env: Any, where: str, initial_size: int | None) -> Table:
    """Return the tables of an environment.

    Args:
        env: an environment without wrappers.
        where: its name in messages.
        initial_size: the number of states in a given `initial`; None if none is given.

    Raises:
        TypeError: it publishes no tables.
        ValueError: states or actions are not whole numbers, or are numbered in a way that the process cannot keep.
    """
    kind = f"{where} ({type(env).__name__})"
    P = getattr(env, "P", None)
    if P is None:
        unbuilt = " P is None: build it first." if hasattr(env, "P") else ""
        raise TypeError(
            f"{kind} publishes no tables (env.unwrapped.P); FrozenLake-v1, Taxi-v4 and CliffWalking-v1 do.{unbuilt}"
        )
    rows = _by_number(P, f"{where}.unwrapped.P")
    if not rows:
        raise ValueError(f"{where}.unwrapped.P has no states; it must be {FORM}.")
    # `isd` is its name in old versions of Gym.
    initial = getattr(env, "initial_state_distrib", None)
    initial = getattr(env, "isd", None) if initial is None else initial
    if initial is None and initial_size is None:
        raise TypeError(
            f"{kind} has tables (P), but publishes no distribution of the first state (initial_state_distrib); give it "
            "as initial=."
        )
    published, own = f"{where}.unwrapped.initial_state_distrib", None
    if initial_size is None:
        own = np.asarray(as_numbers(initial, published), float)
        check_probabilities(own, published)
    states, actions = _numbers(env, "observation_space"), _numbers(env, "action_space")
    if actions is not None and actions.start != 0:
        raise ValueError(
            f"{where} counts its actions from {actions.start} (action_space), but a process counts them from 0. Give "
            "it an action_space and a P that count from 0."
        )
    bounded = states is not None
    if states is None:
        size = initial_size if own is None else own.shape[-1]
        states = sorted(rows) if size == len(rows) else range(size or 0)
    if own is not None and own.shape != (len(states),):
        raise ValueError(f"{published} has shape {own.shape}, but there are {len(states)} states.")
    return Table(rows, tuple(states), own, None if actions is None else len(actions), bounded)


def reach(table: Table, initial: np.ndarray, where: str) -> list[Transition]:
    """Return the transitions with positive probability of all states that can occur; other rows are not looked at.

    Args:
        table: of the environment.
        initial: the distribution of the first state over `table.states`.
        where: the environment's name in messages.

    Raises:
        ValueError: a row that can occur is not of the form `FORM`.
    """
    came_from = {s: "an episode can start there" for s, p in zip(table.states, initial, strict=True) if p > 0}
    found, waiting, num_actions = [], sorted(came_from), table.num_actions
    while waiting:
        state = waiting.pop()
        row = f"{where}.unwrapped.P[{state}]"
        if state not in table.P:
            raise ValueError(f"{where}.unwrapped.P has no row for state {state}, but {came_from[state]}.")
        actions = _by_number(table.P[state], row)
        num_actions = num_actions or len(actions)
        if not actions or sorted(actions) != list(range(num_actions)):
            raise ValueError(
                f"{row} has the actions {', '.join(map(str, sorted(actions))) or 'none'}, but it needs 0 to "
                f"{num_actions - 1}: every state in which an episode goes on must have the same actions. Give an "
                f"action that is not possible there an effect, for example none: [(1.0, {state}, 0.0, False)]."
            )
        for move in _moves(table, state, actions, row):
            found.append(move)
            if not move.terminated and move.next_state not in came_from:
                came_from[move.next_state] = (
                    f"action {move.action} in state {state} leads there without ending the episode"
                )
                waiting.append(move.next_state)
    return found


def _moves(table: Table, state: int, actions: dict[int, Any], row: str) -> Iterator[Transition]:
    """Yield the transitions from one state."""
    for action, entries in sorted(actions.items()):
        entry = f"{row}[{action}]"
        if not hasattr(entries, "__len__") or isinstance(entries, str):
            raise ValueError(f"{entry} is {one_line(entries)}; it must be a list, {FORM}.")
        if not len(entries):
            raise ValueError(f"{entry} is empty, but an episode goes on there; give it at least one transition.")
        moves = [_transition(x, state, action, table, entry) for x in entries]
        probabilities = np.asarray([move.probability for move in moves])
        check_probabilities(probabilities, entry)
        # Exactly 1, also if the entries are rounded.
        total = probabilities.sum()
        yield from (move._replace(probability=move.probability / total) for move in moves if move.probability > 0)


def _transition(x: Any, state: int, action: int, table: Table, entry: str) -> Transition:
    try:
        probability, next_state, reward, terminated = x
        probability, reward = float(probability), float(reward)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{entry} contains {one_line(x)}; it must be {FORM}.") from error
    if not np.isfinite(reward) and probability > 0:
        raise ValueError(f"{entry} contains {one_line(x)}, whose reward is not finite.")
    if terminated not in (False, True):
        raise ValueError(f"{entry} contains {one_line(x)}; whether it ends the episode must be True or False.")
    number = whole_number(next_state)
    if number is None:
        raise ValueError(f"{entry} leads to {one_line(next_state)}; states must be whole numbers.")
    if table.bounded and number not in range(table.states[0], table.states[-1] + 1) and probability > 0:
        raise ValueError(
            f"{entry} leads to state {number}, but the states are {table.states[0]} to {table.states[-1]} "
            "(observation_space)."
        )
    return Transition(state, action, probability, number, reward, bool(terminated))


def _numbers(env: Any, space: str) -> range | None:
    """Return the numbers in a `Discrete` space of an environment; None if it has none."""
    discrete = getattr(env, space, None)
    if discrete is None or type(discrete).__name__ != "Discrete":
        return None
    return range(int(discrete.start), int(discrete.start) + int(discrete.n))


def _by_number(table: Any, name: str) -> dict[int, Any]:
    """Return a dict or a list as a dict whose keys are whole numbers."""
    if isinstance(table, Mapping):
        numbers = {whole_number(key): x for key, x in table.items()}
        if None in numbers:
            key = next(key for key in table if whole_number(key) is None)
            raise ValueError(f"{name} has the key {one_line(repr(key))}; number states and actions: {FORM}.")
        return {key: x for key, x in numbers.items() if key is not None}
    if isinstance(table, list | tuple | np.ndarray):
        return dict(enumerate(table))
    raise ValueError(f"{name} is of type {type(table).__name__}; it must be a dict or a list, {FORM}.")


def whole_number(x: Any) -> int | None:
    """Return a whole number as an int, also if it is stored as a float; otherwise None."""
    try:
        return operator.index(x)
    except TypeError:
        return int(x) if isinstance(x, float | np.floating) and float(x).is_integer() else None
