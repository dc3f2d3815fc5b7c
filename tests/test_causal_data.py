"""Samples of causal models have their probabilities, and a model fitted to them has its mechanisms."""

import jax
import numpy as np
import pandas as pd
import pytest

import undelude as ud
from causal_oracle import random_model
from undelude.causal import fit, sample

KEY = jax.random.key(0)
N = 40_000
GRAPH = {"A": (), "O": ("A",)}


def frequencies(samples, model, names):
    values = [model[name].values for name in names]
    places = [[known.index(x) for x in samples[name].tolist()] for name, known in zip(names, values, strict=True)]
    found = np.zeros([*map(len, values)])
    np.add.at(found, tuple(places), 1 / N)
    return found


def test_samples_have_the_probabilities_of_queries():
    """Also under a value, a distribution and another mechanism; five standard errors."""
    model = random_model(np.random.default_rng(0), 5, density=0.6, zeros=0.2)
    names = sorted(model.names)
    a, last = names[1], names[-1]
    size = len(model[a].values)
    policy = ud.Variable(a, model[a].values, (names[0],), table=np.full((len(model[names[0]].values), size), 1 / size))
    for do in ({}, {a: 1}, {a: dict.fromkeys(model[a].values, 1 / size)}, {a: policy}):
        truth = np.asarray(model.query((names[0], last), do=do), float)
        found = frequencies(sample(model, KEY, N, do=do), model, (names[0], last))
        assert (abs(found - truth) <= 5 * np.sqrt(truth * (1 - truth) / N) + 1e-6).all()


def test_fit_finds_the_mechanisms_of_samples():
    model = random_model(np.random.default_rng(1), 4, density=0.6)
    found = fit(model.graph, pd.DataFrame(sample(model, KEY, N)), prior=0.5)
    for v in model.variables:
        counts = np.asarray(model.query(v.parents)) if v.parents else np.ones(())
        error = np.sqrt(0.25 / np.maximum(N * counts, 1))
        assert (abs(np.asarray(found.table(v.name)) - np.asarray(v.table)) <= 5 * error[..., None]).all()


def test_frequencies_and_pseudo_counts():
    rows = {"A": ["x", "x", "x", "y"], "O": [1, 1, 2, 2], "unused": [0, 0, 0, 0]}
    np.testing.assert_allclose(fit(GRAPH, rows).table("O"), [[2 / 3, 1 / 3], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(fit(GRAPH, rows, prior=1).table("O"), [[3 / 5, 2 / 5], [1 / 3, 2 / 3]], atol=1e-6)
    model = fit(GRAPH, rows, values={"O": (2, 1, 0)}, prior=1)
    assert model["O"].values == (2, 1, 0)
    np.testing.assert_allclose(model.table("O")[0], [2 / 6, 3 / 6, 1 / 6], atol=1e-6)


def test_values_of_a_categorical_column_are_its_categories():
    levels = pd.Categorical(["low", "high"], ["low", "mid", "high"], ordered=True)
    model = fit(GRAPH, pd.DataFrame({"A": [0, 0], "O": levels}), prior=1)
    assert model["O"].values == ("low", "mid", "high")


def test_marginal_samples_hide_the_hidden():
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    assert set(sample(frog.marginal(("A_1", "O_1")), KEY, 3)) == {"A_1", "O_1"}
    with pytest.raises(ValueError, match="marginal knows no mechanism"):
        sample(frog.marginal(("A_1", "O_1")), KEY, 3, do={"A_1": 1})


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: fit(GRAPH, {"A": [0, 1]}), "no column 'O'"),
        (lambda: fit(GRAPH, {"A": [0, 1], "O": [1]}), "different lengths"),
        (lambda: fit(GRAPH, {"A": [0, None], "O": [1, 1]}), "A has 1 missing values, the first in row 1"),
        (lambda: fit(GRAPH, {"A": [0, 1], "O": [1, float("nan")]}), "O has 1 missing values, the first in row 1"),
        (lambda: fit(GRAPH, {"A": [0, "1"], "O": [1, 1]}), "values of A cannot be sorted"),
        (lambda: fit(GRAPH, {"A": [0, 1], "O": [1, 1]}, values={"A": (0, 2)}), "A has the value 1, which is not in"),
        (lambda: fit(GRAPH, {"A": [0, 0], "O": [1, 1]}, values={"A": (0, 1)}), r"no row has A=1, .* of O there \(1"),
        (lambda: fit(GRAPH, {"A": [0, 1], "O": [1, 1]}, values={"A": {0, 1}}), "a set"),
        (lambda: fit(GRAPH, {"A": "ab", "O": [1, 1]}), "'A' must be one sequence"),
        (lambda: fit(GRAPH, pd.DataFrame([[0, 0, 1]], columns=["A", "A", "O"])), "'A' must be one sequence"),
        (lambda: fit(GRAPH, {"A": [0, 1], "O": [1, 1]}, prior=-1), "prior must be a finite number"),
        (lambda: fit(GRAPH, {"A": [0, 1], "O": [1, 1]}, values={"B": (0,)}), "no such variable"),
        (lambda: sample(fit(GRAPH, {"A": [0, 1], "O": [1, 1]}), KEY, 0), "num_samples must be a whole number"),
        (lambda: sample(fit(GRAPH, {"A": [0, 1], "O": [1, 1]}), KEY, 1, do={"A": 3}), "A has no value 3"),
    ],
)
def test_wrong_data_are_named(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
