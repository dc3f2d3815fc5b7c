"""Causal models of the paper that several blocks use."""

from typing import Any

import numpy as np

import undelude as ud

BOXES, CONTENTS = (1, 2), (-1, 1)
IDENTITY = np.eye(2)
# `[theta, a, o]`: a prize if `a = theta`, else a frog.
CONTENT = np.stack([1 - IDENTITY, IDENTITY], -1)


def frog() -> ud.CausalModel:
    """Return the prize-or-frog problem with the paper's tables."""
    return ud.CausalModel(
        [
            ud.Variable("Theta", BOXES, table=[1 / 2, 1 / 2]),
            ud.Variable("A", BOXES, parents="Theta", table=IDENTITY),
            ud.Variable("O", CONTENTS, parents=("Theta", "A"), table=CONTENT),
        ]
    )


def refusal(model: ud.CausalModel, asked: str, *, of: type[ValueError] = ud.NotIdentifiable, **query: Any) -> str:
    """Return the message of the error of type `of` that a query raises; empty if the query succeeds."""
    try:
        model.query(asked, **query)
    except of as error:
        return str(error)
    return ""


def chance(model: ud.CausalModel, asked: str, value: Any, **query: Any) -> float:
    """Return `P(asked = value | ...)`."""
    return float(model.query(asked, **query)[model[asked].values.index(value)])


def random_model(rng: np.random.Generator, *, K: int = 3, A: int = 3, O: int = 3) -> ud.CausalModel:
    """Return a model of Theta, A and O with tables from flat Dirichlet distributions."""
    tables = [rng.dirichlet(np.ones(shape[-1]), shape[:-1]) for shape in ((K,), (K, A), (K, A, O))]
    names, parents = ("Theta", "A", "O"), ((), ("Theta",), ("Theta", "A"))
    return ud.CausalModel(
        ud.Variable(name, range(table.shape[-1]), parents=above, table=table)
        for name, above, table in zip(names, parents, tables, strict=True)
    )


def log_tables(process: ud.InteractionProcess) -> tuple[np.ndarray, np.ndarray]:
    """Return `log Q(a | theta)`, `[K, A]`, and `log Q(o | theta, a)`, `[K, A, O]`, of a process from tables."""
    expert: Any = process.expert
    task: Any = process.task
    return np.asarray(expert.log_probs, float), np.asarray(task.log_probs, float)


def draw(rng: np.random.Generator, distribution: np.ndarray) -> np.ndarray:
    """Sample a symbol from each row of `[B, n]` by inverting the cumulative distribution."""
    return (rng.random((len(distribution), 1)) > distribution.cumsum(-1)[:, :-1]).sum(-1)


def demonstrations(
    process: ud.InteractionProcess, size: int, num_rounds: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample theta, `[B]`, and the expert's actions and observations, `[B, T]`, of a process from tables, in NumPy."""
    expert, task = (np.exp(table) for table in log_tables(process))
    theta = draw(rng, np.broadcast_to(np.asarray(process.prior, float), (size, len(expert))))
    a = np.stack([draw(rng, expert[theta]) for _ in range(num_rounds)], 1)
    o = np.stack([draw(rng, task[theta, a[:, t]]) for t in range(num_rounds)], 1)
    return theta, a, o


GAME = ("Theta_1", "A_1", "O_1", "Theta_2", "A_2", "O_2")
OBSERVED = ("A_1", "O_1", "A_2", "O_2")


def game(seed: int = 139) -> ud.CausalModel:
    """Return Figure 3's game of two rounds: six binary variables, each with all variables before it as parents."""
    rng = np.random.default_rng(seed)
    variables = []
    for i, name in enumerate(GAME):
        p = rng.uniform(0.1, 0.9, [2] * i).round(2)
        variables.append(ud.Variable(name, (0, 1), parents=GAME[:i], table=np.stack([1 - p, p], -1)))
    return ud.CausalModel(variables)
