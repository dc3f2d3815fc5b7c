"""The outcomes of all environments as symbols, and Nature's distribution over them as tables."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool, Float, Int

from undelude._checks import one_line
from undelude.gym.transitions import Table, Transition, whole_number

# Entries of a table [K, R, A, O] above which it takes too much memory: two gigabytes while it is filled.
MAX_ENTRIES = 5 * 10**7
# Relative difference up to which two rewards are one: they may be stored in different precisions.
SAME_REWARD = 1e-7


class Moves(NamedTuple):
    """All transitions of all environments, between rows: states as they are shown.

    The last row stands between two attempts: before the opening, and after a terminated transition. Every action leads
    from it to a new start, with reward 0.

    Attributes:
        theta, row, action: in which a transition begins.
        probability: of the transition, given these.
        shown: the value that is shown of the next state.
        reward: of the transition.
        terminated: whether it ends the attempt.
        next_row: the last one if it does.
        num_thetas, num_rows, num_actions: K, R, A.
    """

    theta: Int[np.ndarray, " N"]
    row: Int[np.ndarray, " N"]
    action: Int[np.ndarray, " N"]
    probability: Float[np.ndarray, " N"]
    shown: Int[np.ndarray, " N"]
    reward: Float[np.ndarray, " N"]
    terminated: Bool[np.ndarray, " N"]
    next_row: Int[np.ndarray, " N"]
    num_thetas: int
    num_rows: int
    num_actions: int


class OutcomeTables(NamedTuple):
    """Nature's distribution over outcomes, as in `undelude.tasks.tabular`.

    Attributes:
        log_probs, rewards: `[K, R, A, O]`.
        row_of: `[O]`.
        outcomes: `(state shown, reward shown or None, terminated)` for each of O symbols.
    """

    log_probs: Float[np.ndarray, "K R A O"]
    rewards: Float[np.ndarray, "K R A O"]
    row_of: Int[np.ndarray, " O"]
    outcomes: tuple[tuple[int, float | None, bool], ...]


def stack_moves(
    found: list[list[Transition]],
    starts: list[Float[np.ndarray, " S"]],
    tables: list[Table],
    observe: Callable[[int], int] | ArrayLike | list | None,
    name: str,
) -> Moves:
    """Stack the transitions of all environments, and replace their states by rows.

    Args:
        found: the transitions of each environment that can occur.
        starts: its distribution of the first state, over the states of its table.
        tables: its tables.
        observe: the observed part of a state, as in `tabular_from_gymnasium`.
        name: of the process, for messages.

    Raises:
        ValueError: the environments have different actions, or theta does not explain a hidden state.
    """
    num_actions = {1 + max(move.action for move in moves) for moves in found}
    if len(num_actions) > 1:
        listed = ", ".join(map(str, sorted(num_actions)))
        raise ValueError(f"{name}: the environments must have the same actions; the numbers of theirs are {listed}.")
    A = num_actions.pop()
    show = _Shown(observe, tables[0].states, name)
    # The states in which an action is taken must look different under one theta; those in which attempts end need not.
    acting = [sorted({move.state for move in moves}) for moves in found]
    for k, states in enumerate(acting):
        _check_that_states_differ(show, states, k, name)
    arrivals = {move.next_state for moves in found for move in moves}
    row_of = {x: row for row, x in enumerate(sorted({show(s) for s in arrivals.union(*acting)}))}
    last = len(row_of)
    columns: list[tuple[int, int, int, float, int, float, bool, int]] = []
    for k, (moves, start) in enumerate(zip(found, starts, strict=True)):
        for state, action, p, next_state, reward, terminated in moves:
            x = show(next_state)
            columns.append(
                (k, row_of[show(state)], action, p, x, reward, terminated, last if terminated else row_of[x])
            )
        for state, p in zip(tables[k].states, start, strict=True):
            x = show(state) if p > 0 else 0
            columns += [(k, last, a, float(p), x, 0.0, False, row_of[x]) for a in range(A) if p > 0]
    return Moves(*map(np.asarray, zip(*columns, strict=True)), num_thetas=len(found), num_rows=last + 1, num_actions=A)


class _Shown:
    """The observed part of a state, a whole number."""

    def __init__(self, observe: Callable[[int], int] | ArrayLike | list | None, states: tuple[int, ...], name: str):
        self.observe, self.states, self.name = observe, states, name
        self.known: dict[int, int] = {}
        if observe is not None and not callable(observe):
            values = np.asarray(observe)
            if values.shape != (len(states),):
                raise ValueError(
                    f"{name}: observe gives {values.shape} values for {len(states)} states; it needs one for each."
                )
            self.observe = dict(zip(states, values.tolist(), strict=True)).get

    def __call__(self, state: int) -> int:
        """Return the number that is shown for a state."""
        if state not in self.known:
            value = self.observe(state) if callable(self.observe) else state
            number = whole_number(value)
            if number is None:
                raise ValueError(
                    f"{self.name}: observe gives {one_line(repr(value))} for state {state}; it must be a whole number."
                )
            self.known[state] = number
        return self.known[state]


def _check_that_states_differ(show: _Shown, states: list[int], k: int, name: str) -> None:
    """Raise if two states in which an action is taken look the same under theta `k`."""
    first: dict[int, int] = {}
    for s in states:
        if (other := first.setdefault(show(s), s)) != s:
            raise ValueError(
                f"{name}: under theta {k}, states {other} and {s} look the same (observe gives {show(s)}). "
                "Theta must be all that is hidden: show more, or make what is hidden part of theta."
            )


def fill_tables(moves: Moves, right: float | None, name: str) -> OutcomeTables:
    """Return the tables. Outcomes are numbered in the order of (state, terminated, reward).

    Args:
        moves: all transitions.
        right: the probability that the reward shown is the true one, otherwise one of the others; None hides it.
        name: of the process, for messages.

    Raises:
        ValueError: the tables would be too large.
    """
    rewards, true = _distinct(moves.reward)
    n = len(rewards)
    if right is None:
        shown, source, weight = np.zeros(len(true), int), np.arange(len(true)), np.ones(len(true))
    elif right == 1 or n == 1:
        shown, source, weight = true, np.arange(len(true)), np.ones(len(true))
    else:
        _check_size(moves, n, n, name)  # Every reward can be shown with every state.
        source, shown = (x.ravel() for x in np.indices((len(true), n)))
        weight = np.where(shown == true[source], right, (1 - right) / (n - 1))
        source, shown, weight = source[weight > 0], shown[weight > 0], weight[weight > 0]
    key = np.stack([moves.shown[source], moves.terminated[source], shown], axis=-1)
    unique, symbol = np.unique(key, axis=0, return_inverse=True)
    symbol = symbol.reshape(-1)
    _check_size(moves, len(unique), n, name)

    shape = (moves.num_thetas, moves.num_rows, moves.num_actions, len(unique))
    entry = np.ravel_multi_index((moves.theta[source], moves.row[source], moves.action[source], symbol), shape)
    p = moves.probability[source] * weight
    probs = np.bincount(entry, p, minlength=int(np.prod(shape))).reshape(shape)
    weighted = np.bincount(entry, p * rewards[true[source]], minlength=int(np.prod(shape))).reshape(shape)
    # A row that does not occur under a theta is filled like the last one.
    np.copyto(probs, probs[:, -1:], where=probs.sum(-1, keepdims=True) == 0)
    row_of = np.empty(len(unique), int)
    row_of[symbol] = moves.next_row[source]
    labels = [None] if right is None else rewards.tolist()
    mean = np.divide(weighted, probs, out=weighted, where=probs > 0)
    with np.errstate(divide="ignore"):
        log_probs = np.log(probs, out=probs)
    return OutcomeTables(log_probs, mean, row_of, tuple((int(s), labels[r], bool(end)) for s, end, r in unique))


def _distinct(rewards: Float[np.ndarray, " N"]) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " N"]]:
    """Return the rewards that occur, in order, and for each transition the index of its own."""
    values, index = np.unique(rewards, return_inverse=True)
    new = np.diff(values, prepend=-np.inf) > SAME_REWARD * np.abs(values)
    # Rewards that differ by rounding alone become the one that is shortest to write: .1 and not .10000000149.
    groups = np.split(values, np.flatnonzero(new)[1:])
    kept = [min(group.tolist(), key=lambda x: len(repr(x))) for group in groups]
    return np.asarray(kept), (np.cumsum(new) - 1)[index.reshape(-1)]


def _check_size(moves: Moves, num_outcomes: int, num_rewards: int, name: str) -> None:
    sizes = moves.num_thetas, moves.num_rows, moves.num_actions, num_outcomes
    if (entries := int(np.prod([float(n) for n in sizes]))) > MAX_ENTRIES:
        K, R, A, O = sizes
        raise ValueError(
            f"{name}: the table [K, R, A, O] would have {entries:,} entries (K = {K} environments, R = {R} states, "
            f"A = {A} actions, O = {O:,} outcomes, with {num_rewards:,} different rewards); at most {MAX_ENTRIES:,} "
            'fit. Hide the reward (reward="hidden"), round the rewards in P, or show less of the state (observe=).'
        )
