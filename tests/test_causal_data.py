"""Samples of causal models have their probabilities, and a model fitted to them has its mechanisms."""

import jax
import numpy as np
import pandas as pd
import pytest

import undelude as ud
from causal_oracle import random_model
from undelude.causal import fit, sample, standard_error

KEY = jax.random.key(0)
N = 40_000
GRAPH = {"A": (), "O": ("A",)}
ROWS = {"A": [0] * 50 + [1] * 50, "O": [0] * 30 + [1] * 20 + [0] * 10 + [1] * 40}


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
    plain = fit(GRAPH, {"A": [0, 0], "O": ["low", "high"]}, prior=1)
    assert plain["O"].values == ("high", "low")


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
        (lambda: fit(GRAPH, {"A": [None, None], "O": [1, 1]}), "column A holds no value"),
        (lambda: fit(GRAPH, {"A": [None] * 2, "O": [1, 1]}, values={"A": (0, 1)}), "column A holds no value"),
        (lambda: fit(GRAPH, {"A": [0, None], "O": [1, 1]}, values={"A": (0, None)}), "values of A hold a missing one"),
        (
            lambda: fit(GRAPH, {"A": [0, 1, None], "O": [0, 1, 0]}, values={"A": (0, 1, 2)}, missing="em"),
            "no row has A=2",
        ),
        (lambda: fit(GRAPH, {"A": [0, 1], "O": [1, 1]}, missing="drop"), 'missing must be "refuse" or "em"'),
        (lambda: standard_error(float, fit(GRAPH, {"A": [0, 1], "O": [1, 1]}), {"A": [2], "O": [1]}), "the value 2"),
        (lambda: fit(GRAPH, {"A": [0, 1], "O": [1, 1]}, prior=-1), "prior must be a finite number"),
        (lambda: fit(GRAPH, {"A": [0, 1], "O": [1, 1]}, values={"B": (0,)}), "no such variable"),
        (lambda: sample(fit(GRAPH, {"A": [0, 1], "O": [1, 1]}), KEY, 0), "num_samples must be a whole number"),
        (lambda: sample(fit(GRAPH, {"A": [0, 1], "O": [1, 1]}), KEY, 1, do={"A": 3}), "A has no value 3"),
    ],
)
def test_wrong_data_are_named(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


def with_gaps(samples, share, rng):
    """Return samples in which each value of the later columns is missing by chance, more often where the first is 1."""
    first, *others = samples
    rate = share * (1 + (samples[first] == samples[first].max()))
    return {first: samples[first]} | {
        x: [None if gone else y for gone, y in zip(rng.random(len(rate)) < rate, samples[x].tolist(), strict=True)]
        for x in others
    }


def log_likelihood(model, data):
    rows = list(zip(*data.values(), strict=True))
    seen = ({name: x for name, x in zip(data, row, strict=True) if x is not None} for row in rows)
    return sum(float(model.log_prob(see=x)) for x in seen)


def test_em_finds_a_maximum_of_the_likelihood():
    """No table that differs a little explains the rows better, the likelihood by queries of the model itself."""
    rng = np.random.default_rng(3)
    model = ud.CausalModel(
        [
            ud.Variable("A", (0, 1), table=[0.4, 0.6]),
            ud.Variable("M", (0, 1, 2), ("A",), table=[[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]]),
            ud.Variable("O", (0, 1), ("M", "A"), table=rng.dirichlet([2, 2], (3, 2))),
        ]
    )
    data = with_gaps(sample(model, KEY, 300), 0.3, rng)
    found = fit(model.graph, data, missing="em")
    best = log_likelihood(found, data)
    for v in found.variables:
        for step in (0.97, 1.03):
            table = np.array(v.table)
            table[..., 0] = np.minimum(table[..., 0] * step, 1)
            table[..., 1:] *= ((1 - table[..., 0]) / table[..., 1:].sum(-1))[..., None]
            assert log_likelihood(found.replace(ud.Variable(v.name, v.values, v.parents, table=table)), data) < best


def test_em_is_right_where_rows_are_missing_at_random_and_complete_rows_are_not():
    """O is lost more often where A = 1, so that P(O) of the complete rows is off, and EM's is not; five errors."""
    model = ud.CausalModel(
        [ud.Variable("A", (0, 1), table=[0.5, 0.5]), ud.Variable("O", (0, 1), ("A",), table=[[0.9, 0.1], [0.2, 0.8]])]
    )
    data = with_gaps(sample(model, KEY, 4000), 0.45, np.random.default_rng(0))
    found = fit(model.graph, data, missing="em")
    error = float(standard_error(lambda m: m.query("O")[1], found, data))
    assert abs(float(found.query("O")[1]) - 0.45) < 5 * error
    complete = [x for x in data["O"] if x is not None]
    assert abs(np.mean(complete) - 0.45) > 5 * error
    # The rows without O still count for A.
    np.testing.assert_allclose(found.table("A")[1], np.mean(data["A"]), atol=1e-6)


def test_without_gaps_em_counts():
    rows = {"A": [0, 0, 1, 1], "O": [0, 1, 1, 1]}
    np.testing.assert_allclose(fit(GRAPH, rows, missing="em").table("O"), fit(GRAPH, rows).table("O"))


def test_standard_errors_of_frequencies_and_their_products():
    """sqrt(p (1 - p) / n) for a frequency; for P(A, O), that of a share of all rows."""
    rows = {"A": [0] * 50 + [1] * 150, "O": [0] * 30 + [1] * 20 + [0] * 30 + [1] * 120}
    model = fit(GRAPH, rows)
    error = standard_error(lambda m: m.query("O", do={"A": 1}), model, rows)
    assert error.names == ("O",)
    np.testing.assert_allclose(error, [np.sqrt(0.2 * 0.8 / 150)] * 2, rtol=1e-5)
    joint = standard_error(lambda m: m.query(("A", "O")), model, rows)
    shares = np.array([[30, 20], [30, 120]]) / 200
    np.testing.assert_allclose(joint, np.sqrt(shares * (1 - shares) / 200), rtol=1e-5)
    # A contrast of two arms: the errors of independent rows add.
    contrast = standard_error(lambda m: m.query("O", do={"A": 1})[1] - m.query("O", do={"A": 0})[1], model, rows)
    np.testing.assert_allclose(contrast, np.sqrt(0.2 * 0.8 / 150 + 0.4 * 0.6 / 50), rtol=1e-5)
    unseen = fit(GRAPH, rows, prior=1, values={"A": (0, 1, 2)})
    assert np.isinf(standard_error(lambda m: m.query("O", do={"A": 2}), unseen, rows)).all()


def test_what_no_row_determines_has_an_infinite_standard_error():
    """A and O are never seen together, so that every effect explains the rows as well as the one that is fitted."""
    nan = float("nan")
    rows = {"A": [nan] * 30 + [0] * 10 + [1] * 10, "O": [0, 0, 1] * 10 + [nan] * 20}
    model = fit(GRAPH, rows, missing="em", prior=1)
    assert np.isinf(standard_error(lambda m: m.query("O", do={"A": 1})[1], model, rows))
    assert np.isfinite(standard_error(lambda m: m.query("A"), model, rows)).all()
    ate = standard_error(lambda m: m.ate({"A": 1}, "O"), fit(GRAPH, ROWS), ROWS)
    assert ate == pytest.approx(np.sqrt(0.2 * 0.8 / 50 + 0.4 * 0.6 / 50), rel=1e-5)
    with pytest.raises(TypeError, match="must return numbers or an answer, not dict"):
        standard_error(lambda m: {"a": 1}, fit(GRAPH, ROWS), ROWS)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda m: float(m.query("O", do={"A": 1})[1]), "JAX says: Abstract tracer value"),
        (lambda m: float(m.ate({"A": 1}, "O")), "JAX says: Abstract tracer value"),
        (lambda m: np.asarray(m.query("O")), "JAX says: The numpy.ndarray conversion"),
        (lambda m: m.query("O", do={"A": 1})[1].item(), "It returned the Python number 0."),  # It has no derivative.
    ],
)
def test_function_without_a_derivative_is_refused(function, said):
    with pytest.raises(TypeError, match=rf"return the array or the Effect itself, .*{said}"):
        standard_error(function, fit(GRAPH, ROWS), ROWS)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("key", [0, None, np.random.default_rng(0), jax.random.split(jax.random.key(0), 3)])
def test_samples_need_one_key(key):
    with pytest.raises(TypeError, match=r"key must be one random key, such as jax.random.key\(0\), not"):
        sample(fit(GRAPH, ROWS), key, 5)


@pytest.mark.slow
def test_standard_errors_are_the_spread_over_samples():
    """Of 200 fits of an adjusted effect, with and without missing values; within a fifth of their deviation."""
    model = ud.CausalModel(
        [
            ud.Variable("Z", (0, 1), table=[0.3, 0.7]),
            ud.Variable("A", (0, 1), ("Z",), table=[[0.8, 0.2], [0.3, 0.7]]),
            ud.Variable("O", (0, 1), ("Z", "A"), table=[[[0.5, 0.5], [0.9, 0.1]], [[0.2, 0.8], [0.6, 0.4]]]),
        ]
    )

    def effect(m):
        return m.query("O", do={"A": 1})[1]

    for share in (0, 0.2):
        found, errors = [], []
        for seed in range(200):
            data = sample(model, jax.random.key(seed), 600)
            data = with_gaps(data, share, np.random.default_rng(seed)) if share else data
            values = {v.name: v.values for v in model.variables}
            fitted = fit(model.graph, data, values=values, missing="em")
            found.append(float(effect(fitted)))
            if seed < 10:
                errors.append(float(standard_error(effect, fitted, data)))
        assert np.mean(errors) == pytest.approx(np.std(found), rel=0.2)
