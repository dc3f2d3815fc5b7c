"""An interaction process written out as a causal model, a variable for every Theta, A and O (Figure 3b)."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from undelude.causal import CausalModel, Variable
from undelude.distributions import AbstractDistribution, Categorical
from undelude.process import InteractionProcess

# Entries of the largest table.
MAX_ENTRIES = 2**22
# Rows of a table that differ by no more are the same: float32.
SAME = 1e-6


def unrolled(process: InteractionProcess, num_rounds: int) -> CausalModel:
    """`Theta, [O_0,] A_1, O_1, ..., A_T, O_T`, each listening to what makes a difference to it; see `causal_model`."""
    A, O = (_num_symbols(process, part) for part in ("action", "observation"))  # noqa: E741
    K, moving = process.num_thetas, process.transition is not None
    sizes = {"Theta": K, "A": A, "O": O}
    largest = float(K * (A * O) ** num_rounds * (O if process.opening else 1) * (K / (A * O) if moving else 1))
    if largest > MAX_ENTRIES:
        raise ValueError(
            f"{process.name}: a causal model of {num_rounds} rounds needs a table of {largest:.1e} entries, as a "
            "variable may listen to its whole past. Give a smaller num_rounds, or use posterior, which needs no table."
        )
    variables, theta, history = [], "", []
    for name, table in zip(_names(process, num_rounds), _tables(process, num_rounds), strict=True):
        kind = name.partition("_")[0]
        parents = [theta, *history] if theta else []
        shape = [sizes[parent.partition("_")[0]] for parent in parents]
        parents, table = _pruned(parents, np.asarray(table).reshape(*shape, sizes[kind]))
        variables.append(Variable(name, tuple(range(sizes[kind])), parents=tuple(parents), table=table))
        if kind == "Theta":
            theta = name
        else:
            history.append(name)
    return CausalModel(variables)


def _names(process: InteractionProcess, num_rounds: int) -> list[str]:
    moving = process.transition is not None
    names = [] if moving else ["Theta"]
    for t in range(0 if process.opening else 1, num_rounds + 1):
        names += ([f"Theta_{t}"] if moving else []) + ([f"A_{t}"] if t else []) + [f"O_{t}"]
    return names


@eqx.filter_jit
def _tables(process: InteractionProcess, num_rounds: int) -> list[Float[Array, "..."]]:
    """Of each name, the law for every theta and history, `[K, H, own]`; the first has neither."""
    thetas, task, expert = process.thetas, process.task, process.expert
    A, O = (_num_symbols(process, part) for part in ("action", "observation"))  # noqa: E741
    tables = [jnp.exp(process.log_prior)]

    # A memory goes with a zero for each history, as it may itself hold no array.
    def laws(Q: Callable[[Any, Any], AbstractDistribution], memory: tuple[PyTree, Array]) -> None:
        law = jax.vmap(jax.vmap(lambda theta, m: Q(theta, m[0]), (None, 0)))(thetas, memory)
        assert isinstance(law, Categorical)
        tables.append(law.probs)

    def read(part: Any, g: str, n: int, memory: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        """After each of `n` symbols: H histories become H n."""

        def step(theta: Any, symbol: Array, m: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
            return getattr(part, g)(theta, symbol, m[0]), m[1]

        over_histories = jax.vmap(jax.vmap(step, (None, 0, None)), (None, None, 0))
        after = jax.vmap(over_histories, (0, None, 0))(thetas, jnp.arange(n), memory)
        return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), after)

    # Of a single history, the empty one: [K, H=1, ...].
    w, e = (
        (jax.tree.map(lambda x: x[:, None], jax.vmap(part.init)(thetas)), jnp.zeros((process.num_thetas, 1)))
        for part in (task, expert)
    )
    for t in range(0 if process.opening else 1, num_rounds + 1):
        if t:
            laws(expert.Q_A, e)
            w, e = read(task, "g_A", A, w), read(expert, "g_A", A, e)
        laws(task.Q_O, w)
        w, e = read(task, "g_O", O, w), read(expert, "g_O", O, e)
        if process.transition is not None and t < num_rounds:
            laws(process.transition, w)
    return tables


def _pruned(parents: list[str], table: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Without the parents that make no difference."""
    for i in reversed(range(len(parents))):
        if np.ptp(table, axis=i).max() <= SAME:
            parents, table = parents[:i] + parents[i + 1 :], table.take(0, axis=i)
    return parents, table


def _num_symbols(process: InteractionProcess, part: str) -> int:
    law = process.action_law if part == "action" else process.observation_law
    if not isinstance(law, Categorical):
        raise TypeError(f"{process.name}: a causal model has finitely many values, and its {part}s are no symbols.")
    return law.num_categories
