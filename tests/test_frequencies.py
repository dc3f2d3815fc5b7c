"""Relative frequencies of data, and what estimands and bounds make of them."""

import itertools

import numpy as np
import pandas as pd
import pytest

import undelude as ud
from undelude.causal import ate_bounds, bounds, frequencies

GRAPH = ud.Graph({"Z": (), "A": "Z", "O": "A"}, bidirected=[("A", "O")])


def rows(n=400):
    """Return values that are no positions, in an order that is not that of the graph."""
    rng = np.random.default_rng(0)
    z = rng.integers(1, 3, n)
    a = np.where(rng.random(n) < 0.2 + 0.3 * z, "drug", "none")
    o = np.where(rng.random(n) < np.where(a == "drug", 0.7, 0.3), "well", "ill")
    return pd.DataFrame({"O": o, "A": a, "Z": z, "unused": rng.random(n)})


def count(data, **at):
    return sum(all(row[name] == x for name, x in at.items()) for row in data.to_dict("records"))


def test_frequencies_are_counts_over_rows():
    data = rows()
    found = frequencies(data, ("A", "O", "Z"))
    assert found.values_of == {"A": ("drug", "none"), "O": ("ill", "well"), "Z": (1, 2)}
    for (a, o, z), p in found.to_dict().items():
        assert p == pytest.approx(count(data, A=a, O=o, Z=z) / len(data), abs=1e-6)
    assert frequencies(data[["Z", "O"]]).names == ("Z", "O")
    assert frequencies({"Z": [1, 2, 2], "O": [0, 0, 0]}, "Z").to_dict() == pytest.approx({1: 1 / 3, 2: 2 / 3})
    given = frequencies(data, "O", values={"O": ("well", "so-so", "ill")})
    assert given.to_dict()["so-so"] == 0


def test_frequencies_have_the_values_that_fit_has():
    levels = pd.Categorical(["low", "high", "low"], ["low", "mid", "high"], ordered=True)
    data = pd.DataFrame({"A": levels, "O": [2, 1, 2]})
    found, model = frequencies(data), ud.causal.fit({"A": (), "O": "A"}, data, prior=1)
    assert found.values_of == model.structure.values_of


def test_estimands_take_frequencies():
    """Z confounds nothing and A is adjusted for by it."""
    data = rows()
    found = ud.identify({"Z": (), "A": "Z", "O": ("A", "Z")}, "O", do="A").evaluate(frequencies(data, ("O", "A", "Z")))
    for (i, o), (k, a) in itertools.product(enumerate(("ill", "well")), enumerate(("drug", "none"))):
        truth = sum(count(data, Z=z, A=a, O=o) / count(data, Z=z, A=a) * count(data, Z=z) / len(data) for z in (1, 2))
        assert found[i, k] == pytest.approx(truth, abs=1e-5)


def test_bounds_take_frequencies():
    """Each value of Z bounds the effect by itself (Manski 1990); the instrument of these rows says no more."""
    data = rows()
    found = bounds(GRAPH, "O", do={"A": "drug"}, joint=frequencies(data, ("O", "Z", "A")))
    seen = [count(data, Z=z, A="drug", O="well") / count(data, Z=z) for z in (1, 2)]
    others = [count(data, Z=z, A="none") / count(data, Z=z) for z in (1, 2)]
    assert found.low.to_dict()["well"] == pytest.approx(max(seen), abs=1e-5)
    assert found.high.to_dict()["well"] == pytest.approx(min(np.add(seen, others)), abs=1e-5)
    effect = ate_bounds(
        GRAPH, {"A": "drug"}, "O", joint=frequencies(data, ("O", "Z", "A")), function=lambda o: o == "well"
    )
    assert -1 < float(effect.low) < float(effect.high) < 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: frequencies({"A": [0, None], "O": [1, 1]}), "the column A has 1 missing values, the first in row 1"),
        (lambda: frequencies({"A": [0, 1]}, ("A", "O")), "no column 'O'"),
        (lambda: frequencies({"A": [0, 1], "O": [1]}), "different lengths"),
        (lambda: frequencies({"A": [0, 1]}, ("A", "A")), "names has a variable twice"),
        (lambda: frequencies({}), "the data have no column"),
        (lambda: frequencies({"A": [0, 1]}, values={"O": (0, 1)}), "there is no such variable"),
        (lambda: frequencies({"A": [0, 2]}, values={"A": (0, 1)}), "which is not in"),
        (lambda: frequencies({"A": [0, 1], "O": [0, 1]}, {"A", "O"}), "not a set"),
        (lambda: frequencies({x: range(2000) for x in "ABC"}), "the table has 8,000,000,000 entries"),
        (lambda: ud.causal.fit(GRAPH, rows()), r"ud\.causal\.frequencies\(data\)"),
    ],
)
def test_wrong_data_are_named(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


@pytest.mark.parametrize("read", [frequencies, lambda data, **kw: ud.causal.fit({"A": ()}, data, **kw)])
@pytest.mark.parametrize("column", [np.array(["a", np.nan]), ["a", "nan"]])
def test_the_text_nan_is_not_a_value_unless_it_is_said_to_be(read, column):
    """NumPy writes a missing value so in an array of text."""
    with pytest.raises(ValueError, match="the column A holds the text 'nan'"):
        read({"A": column})
    read({"A": column}, values={"A": ("a", "nan")})
