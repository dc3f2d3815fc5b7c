"""Derivatives of queries in the tables, outside and inside `jit`: against the sum of products of the other tables."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from causal_oracle import brute_force, random_model, random_roles
from undelude.causal._summing import derivative


def by_hand(model: ud.CausalModel, i: int, asked: list[str], see: dict[str, int], do: dict[str, int]) -> np.ndarray:
    """Return the derivative of `P(asked, see | do)` in the table of variable i, `[*asked, *table]`.

    The sum of products is linear in each table, so its derivative is the sum of products of the others. Variables
    without asked or seen descendants are not in it.
    """
    variables = model.variables
    relevant = {*asked, *see}
    for _ in variables:
        relevant |= {x for v in variables if v.name in relevant - {*do} for x in v.parents}
    place = {v.name: k for k, v in enumerate(variables)}
    if variables[i].name in do or variables[i].name not in relevant:
        return np.zeros([*(len(model[x].values) for x in asked), *variables[i].table.shape])
    arguments: list = []
    for k, v in enumerate(variables):
        arguments += [np.ones(len(v.values)) / (1 if v.name in {*relevant, *do, *see} else len(v.values)), [k]]
        if k != i and v.name in relevant and v.name not in do:
            arguments += [np.asarray(v.table, float), [place[x] for x in (*v.parents, v.name)]]
        if v.name in see or v.name in do:
            arguments += [np.eye(len(v.values))[(see | do)[v.name]], [k]]
    for k, name in enumerate(asked):
        arguments += [np.eye(len(model[name].values)), [place[name], 30 + k]]
    axes = [place[x] for x in (*variables[i].parents, variables[i].name)]
    return np.einsum(*arguments, [*(30 + k for k in range(len(asked))), *axes], optimize=True)


def test_derivative_equals_the_sum_over_the_other_tables():
    """Of an answer, N / sum(N), and of the log evidence, with zeros in the tables."""
    rng = np.random.default_rng(1)
    checked = 0
    while checked < 3:
        model = random_model(rng, 6, zeros=0.2)
        asked, see, do = random_roles(rng, model)
        number, evidence = brute_force(model, asked, see, do)
        if evidence == 0:
            continue

        def answers(tables: tuple, model: ud.CausalModel = model, roles: tuple = (asked, see, do)) -> tuple:
            changed, (asked, see, do) = eqx.tree_at(lambda m: m.tables, model, tables), roles
            return changed.query(asked, see=see, do=do), changed.log_prob(see=see, do=do)

        of_answer, of_evidence = jax.jacrev(answers)(model.tables)
        for i in range(len(model.variables)):
            change = by_hand(model, i, asked, see, do)
            total = change.sum(tuple(range(len(asked))), keepdims=True)
            by_entry = np.expand_dims(number, tuple(range(len(asked), change.ndim)))
            expected = change / evidence - by_entry * total / evidence**2
            np.testing.assert_allclose(of_answer[i], expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(of_evidence[i], by_hand(model, i, [], see, do) / evidence, rtol=1e-4, atol=1e-5)
        checked += 1


def model_of_five() -> ud.CausalModel:
    rng = np.random.default_rng(2)
    parents = {"A": (), "B": ("A",), "C": ("A",), "D": ("B", "C"), "E": ("D",)}
    return ud.CausalModel(
        ud.Variable(x, (0, 1), above, table=rng.dirichlet([1, 1], [2] * len(above))) for x, above in parents.items()
    )


def test_all_transformations_agree(monkeypatch: pytest.MonkeyPatch):
    """Reverse and forward mode, compiled or not, batched, and twice."""
    model = model_of_five()
    x, static = eqx.partition(model, eqx.is_array)

    def answer(x: ud.CausalModel) -> jax.Array:
        return eqx.combine(x, static).query("A", see={"E": 1})[0]

    def leaves(tree: object) -> np.ndarray:
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    expected = leaves(jax.grad(answer)(x))
    assert np.abs(expected).max() > 0.1
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), x)
    np.testing.assert_allclose(leaves(jax.jit(jax.grad(answer))(x)), expected, atol=1e-6)
    np.testing.assert_allclose(leaves(jax.jacfwd(answer)(x)), expected, atol=1e-6)
    np.testing.assert_allclose(
        leaves(jax.tree.map(lambda g: g[1], jax.vmap(jax.grad(answer))(twice))), expected, atol=1e-6
    )
    _, change = jax.jvp(answer, (x,), (x,))
    np.testing.assert_allclose(change, leaves(x) @ expected, atol=1e-6)
    # If there are too many derivatives for NumPy, one compiled program computes that along the direction asked for.
    steps = model.structure.terms(("A",), ("E",), ()).plan.steps
    kept = 8 * sum(math.prod(step.sizes[axis] for axis in step.out) for step in steps)
    monkeypatch.setattr(derivative, "MAX_BYTES", kept)
    np.testing.assert_allclose(leaves(jax.grad(answer)(x)), expected, atol=1e-6)
    monkeypatch.setattr(derivative, "MAX_BYTES", kept - 1)
    with pytest.raises(ValueError, match="GiB of intermediate tables"):
        jax.grad(answer)(x)


def test_second_derivative():
    """With l_a = P(e | do(a)) and P(e) = p_0 l_0 + p_1 l_1: d2 P(A = 0 | e) / dp_0^2 = -2 l_0^2 p_1 l_1 / P(e)^3."""
    model = model_of_five()
    prior = np.asarray(model["A"].table, float)
    likelihood = np.array([float(jnp.exp(model.log_prob(see={"E": 1}, do={"A": a}))) for a in (0, 1)])
    hessian = jax.hessian(lambda t: eqx.tree_at(lambda m: m.tables[0], model, t).query("A", see={"E": 1})[0])
    found = hessian(model.tables[0])
    expected = -2 * likelihood[0] ** 2 * prior[1] * likelihood[1] / (prior @ likelihood) ** 3
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-4)


def test_many_factors_with_zeros():
    """A hundred children of one shape: the derivative in a zero of one of them, and in the rest."""
    n = 100
    zero = ud.Variable("X0", (0, 1), "T", table=[[0.0, 1.0], [0.5, 0.5]])
    rest = [ud.Variable(f"X{i}", (0, 1), "T", table=[[0.4, 0.6], [0.6, 0.4]]) for i in range(1, n)]
    model = ud.CausalModel([ud.Variable("T", (0, 1), table=[0.5, 0.5]), zero, *rest])
    see = dict.fromkeys((f"X{i}" for i in range(n)), 0)
    gradient = eqx.filter_grad(lambda model: model.log_prob(see=see))(model)
    # log P = log(sum_t p_t prod_i l_it), and only t = 1 has mass.
    ratio = (0.4 / 0.6) ** (n - 1) / 0.5
    np.testing.assert_allclose(gradient.table("X0")[:, 0], [ratio, 2], rtol=1e-4)
    np.testing.assert_allclose(gradient.table("X7")[:, 0], [0, 1 / 0.6], rtol=1e-4)
    np.testing.assert_allclose(gradient.table("T"), [0, 2], rtol=1e-4)
