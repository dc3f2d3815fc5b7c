"""Random causal models, and their answers by summing the joint of the mutilated model; shares no code."""

from typing import Any

import numpy as np

import undelude as ud


def random_model(
    rng: np.random.Generator,
    num_variables: int,
    *,
    density: float = 0.4,
    sizes: tuple[int, ...] = (2, 3),
    zeros: float = 0.0,
) -> ud.CausalModel:
    """Return a model on a random DAG with random tables, with a share `zeros` of zeros; variables in random order."""
    names = [f"X{i}" for i in range(num_variables)]
    size = {name: int(rng.choice(sizes)) for name in names}
    variables = []
    for i, name in enumerate(names):
        parents = tuple(p for p in rng.permutation(names[:i]) if rng.random() < density)[:4]
        table = rng.dirichlet(np.ones(size[name]), size=[size[p] for p in parents])
        table = np.where(rng.random(table.shape) < zeros, 0, table)
        table[table.sum(-1) == 0] = 1
        table = table / table.sum(-1, keepdims=True)
        variables.append(ud.Variable(name, tuple(range(size[name])), parents=parents, table=table))
    return ud.CausalModel([variables[i] for i in rng.permutation(num_variables)])


def brute_force(
    model: ud.CausalModel, asked: list[str], see: dict[str, Any], do: dict[str, Any]
) -> tuple[np.ndarray, float]:
    """Return `P(asked, see | do)`, `[*asked]`, and `P(see | do)`, by enumerating all assignments."""
    variables = model.variables
    names = [v.name for v in variables]
    shape = [len(v.values) for v in variables]
    columns = dict(zip(names, np.indices(shape).reshape(len(names), -1), strict=True))
    weight = np.ones(np.prod(shape))
    for v in variables:
        if v.name in do:
            weight = weight * (columns[v.name] == v.values.index(do[v.name]))
        else:
            weight = weight * np.asarray(v.table, float)[tuple(columns[name] for name in (*v.parents, v.name))]
        if v.name in see:
            weight = weight * (columns[v.name] == v.values.index(see[v.name]))
    answer = np.zeros([shape[names.index(name)] for name in asked])
    np.add.at(answer, tuple(columns[name] for name in asked), weight if asked else weight.sum())
    return answer, weight.sum()


def random_roles(rng: np.random.Generator, model: ud.CausalModel) -> tuple[list[str], dict[str, int], dict[str, int]]:
    """Return one or two names asked; of the other variables about a third each is seen, done and summed out."""
    names = [str(name) for name in rng.permutation(model.names)]
    asked, rest = names[: rng.integers(1, 3)], names[2:]
    roles = {name: rng.choice(["seen", "done", "summed"]) for name in rest}
    values = {v.name: int(rng.choice(v.values)) for v in model.variables}
    return (
        asked,
        {name: values[name] for name, role in roles.items() if role == "seen"},
        {name: values[name] for name, role in roles.items() if role == "done"},
    )
