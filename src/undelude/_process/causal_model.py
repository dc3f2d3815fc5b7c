"""The causal model of an interaction process, with a variable for each theta, action and observation (Figure 3b).

Histories that leave task and expert with the same memories are merged into one state, so that the cost grows with the
number of distinct states, not of histories. The parents of a variable are the past symbols that it depends on.
"""

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from undelude._compiled import compiled_for
from undelude._distributions import Symbols, as_categorical
from undelude._types import Theta
from undelude.causal._model.model import CausalModel
from undelude.causal._variables.variable import Variable

if TYPE_CHECKING:
    from undelude._process.process import InteractionProcess

# Number of states at a time.
MAX_STATES = 2**16
# Entries of a variable's table.
MAX_ENTRIES = 2**22
# Significant digits to which equal probabilities agree in float32.
DIGITS = 5


def as_causal_model(process: "InteractionProcess", num_rounds: int) -> CausalModel:
    """Return the causal model of `Theta, [O_0,] A_1, O_1, ..., A_T, O_T`; see `InteractionProcess.causal_model`."""
    if process.ends_early:
        raise TypeError(
            f"{process.name} may end early, but a causal model has T rounds; end it by an observation that "
            "repeats instead."
        )
    sizes = {"A": _num_symbols(process, "action"), "O": _num_symbols(process, "observation")}
    K, moving = process.num_thetas, process.transition is not None
    theta = "Theta" if not moving else "Theta_0" if process.opening else "Theta_1"
    variables = [Variable(theta, range(K), table=np.exp(process.log_prior))]
    symbols, moves = [], []
    # The memories of task and expert in each of S states, leaves [K, S, ...]; at first the empty history alone.
    memories = jax.tree.map(
        lambda x: x[:, None], tuple(jax.vmap(part.init)(process.thetas) for part in (process.task, process.expert))
    )
    num_states = 1

    def add(name: str, distribution: str) -> None:
        distributions = _distributions(process, distribution, memories, num_states)
        variables.append(_variable(process, name, theta, distributions, symbols, moves, sizes))

    for t in range(0 if process.opening else 1, num_rounds + 1):
        if moving and symbols:
            add(f"Theta_{t}", "transition")
            theta = f"Theta_{t}"
        for kind in "AO" if t else "O":
            add(f"{kind}_{t}", f"Q_{kind}")
            after = _after(process, f"g_{kind}", sizes[kind], memories, num_states)
            memories, move, num_states = _merged(after, num_states * sizes[kind])
            if num_states > MAX_STATES:
                raise ValueError(_too_large(process, f"{num_states:.1e} states at {kind}_{t}"))
            symbols.append(f"{kind}_{t}")
            moves.append(move.reshape(-1, sizes[kind]))
    return CausalModel(variables)


def _variable(
    process: "InteractionProcess",
    name: str,
    theta: str,
    distribution: np.ndarray,
    symbols: list[str],
    moves: list[np.ndarray],
    sizes: dict[str, int],
) -> Variable:
    """Return the variable with distribution `[K, S, values]`, whose parents are the past symbols that matter."""
    # Backwards in time: two states are alike if every continuation leads to the same distribution.
    _, alike = np.unique(
        _rounded(distribution).transpose(1, 0, 2).reshape(distribution.shape[1], -1), axis=0, return_inverse=True
    )
    alike, matters = alike.reshape(-1), []
    for move in reversed(moves):
        after = alike[move]
        matters.insert(0, bool((after != after[:, :1]).any()))
        _, alike = np.unique(after, axis=0, return_inverse=True)
        alike = alike.reshape(-1)
    parents = [symbol for symbol, does in zip(symbols, matters, strict=True) if does]
    shape = [sizes[symbol.partition("_")[0]] for symbol in parents]
    if (entries := math.prod(shape) * distribution.shape[0] * distribution.shape[2]) > MAX_ENTRIES:
        raise ValueError(_too_large(process, f"a table of {entries:.1e} entries for {name}"))
    # Forwards in time: the state after each combination of the symbols that matter, with symbol 0 for the others.
    state = np.zeros((), int)
    for move, does in zip(moves, matters, strict=True):
        state = move[state] if does else move[state, 0]
    table = distribution[:, state]
    if np.ptp(_rounded(table), axis=0).max() == 0:
        return Variable(name, range(distribution.shape[2]), tuple(parents), table=table[0])
    return Variable(name, range(distribution.shape[2]), (theta, *parents), table=table)


def _rounded(distribution: np.ndarray) -> np.ndarray:
    """Round each entry to `DIGITS` significant digits, so that a rare event stays distinct from an impossible one."""
    with np.errstate(divide="ignore"):
        unit = 10.0 ** (np.floor(np.log10(distribution)) - DIGITS + 1)
    return np.where(distribution > 0, np.round(distribution / np.where(distribution > 0, unit, 1)) * unit, 0)


def _distributions(process: "InteractionProcess", part: str, memories: PyTree, num_states: int) -> np.ndarray:
    return np.asarray(_compiled_distributions(process, part, memories, jnp.arange(num_states)))


@compiled_for(runs=1)
def _compiled_distributions(process: "InteractionProcess", part: str, memories: PyTree, states: Array) -> Array:
    """Compute the distribution of the next symbol or theta for every theta and state, `[K, S, values]`."""
    part_of: Any = {"Q_A": process.expert.Q_A, "Q_O": process.task.Q_O, "transition": process.transition}[part]
    memory = memories[1] if part == "Q_A" else memories[0]

    # The state index is an argument because a memory without arrays has no axis to map over.
    def probs(theta: Theta, m: PyTree, state: Array) -> Array:
        return as_categorical(part_of(theta, m)).probs

    return jax.vmap(jax.vmap(probs, (None, 0, 0)), (0, 0, None))(process.thetas, memory, states)


def _after(process: "InteractionProcess", g: str, n: int, memories: PyTree, num_states: int) -> PyTree:
    """Advance both memories by each of `n` symbols; return leaves `[K, S n, ...]`."""
    return _compiled_after(process, g, jnp.arange(n), memories, jnp.arange(num_states))


@compiled_for(runs=1)
def _compiled_after(process: "InteractionProcess", g: str, symbols: Array, memories: PyTree, states: Array) -> PyTree:
    def step(theta: Theta, symbol: Array, m: PyTree, state: Array) -> PyTree:
        return tuple(
            getattr(part, g)(theta, symbol, x) for part, x in zip((process.task, process.expert), m, strict=True)
        )

    over_states = jax.vmap(jax.vmap(step, (None, 0, None, None)), (None, None, 0, 0))
    after = jax.vmap(over_states, (0, None, 0, None))(process.thetas, symbols, memories, states)
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), after)


def _merged(memories: PyTree, num_states: int) -> tuple[PyTree, np.ndarray, int]:
    """Return the distinct memories, the index of each state's memory among them, and their number."""
    rows = [np.asarray(x).swapaxes(0, 1).reshape(num_states, -1) for x in jax.tree.leaves(memories)]
    if not rows:
        return memories, np.zeros(num_states, int), 1
    _, first, which = np.unique(np.concatenate(rows, -1), axis=0, return_index=True, return_inverse=True)
    return jax.tree.map(lambda x: x[:, first], memories), which.reshape(-1), len(first)


def _too_large(process: "InteractionProcess", what: str) -> str:
    return (
        f"{process.name}: the causal model would have {what}, because task and expert depend on too much of the past. "
        "Give a smaller num_rounds, or use posterior, which needs no tables."
    )


def _num_symbols(process: "InteractionProcess", part: str) -> int:
    spec = process.action_spec if part == "action" else process.observation_spec
    if not isinstance(spec, Symbols) or spec.n is None:
        raise TypeError(f"{process.name}: a causal model needs finitely many values, but its {part}s are {spec}.")
    return spec.n
