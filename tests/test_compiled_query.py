"""Values of compiled queries from data frames: columns by name, values by what they are."""

import numpy as np
import pandas as pd
import pytest

import undelude as ud


@pytest.fixture(scope="module")
def model() -> ud.CausalModel:
    rng = np.random.default_rng(0)
    return ud.CausalModel(
        [
            ud.Variable("Z", (1, 0), table=rng.dirichlet(np.ones(2))),
            ud.Variable("A", (0, 1), ("Z",), table=rng.dirichlet(np.ones(2), 2)),
            ud.Variable("B", ("low", "high"), ("Z",), table=rng.dirichlet(np.ones(2), 2)),
            ud.Variable("O", (0, 1), ("A", "B", "Z"), table=rng.dirichlet(np.ones(2), (2, 2, 2))),
        ]
    )


SEEN = {"Z": [1, 0, 0], "A": [0, 1, 0]}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("of", [pd.DataFrame, dict])
def test_columns_are_matched_by_name_in_any_order(model, of):
    query = model.compile("O", see=("A", "Z"), do="B")
    found = query(of(SEEN), of({"B": ["high", "low", "high"]}))
    for i, (z, a, b) in enumerate(zip(SEEN["Z"], SEEN["A"], ("high", "low", "high"), strict=True)):
        np.testing.assert_allclose(found[i], model.query("O", see={"A": a, "Z": z}, do={"B": b}), atol=1e-6)
    np.testing.assert_allclose(query(of(SEEN), [["high"]])[0], found[0], atol=1e-6)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"Z": [1, 0]}, "the data have no column 'A'"),
        ({**SEEN, "B": ["low"] * 3}, r"has the column 'B', and takes A, Z alone: pass data\[\['A', 'Z'\]\]"),
        ({"Z": [1, 0, np.nan], "A": [0, 1, 0]}, "the column Z of see_values has no value in row 2"),
        ({"Z": [1, 0, 5], "A": [0, 1, 0]}, "Z has no value 5"),
    ],
)
def test_wrong_columns_are_named(model, values, message):
    with pytest.raises(ValueError, match=message):
        model.compile("O", see=("A", "Z"))(pd.DataFrame(values))


@pytest.mark.usefixtures("no_type_checks")
def test_other_labelled_values_are_refused(model):
    query = model.compile("O", see=("A", "Z"))
    for values, kind in ((pd.DataFrame(SEEN).iloc[0], "Series"), (model.query("A"), "Answer")):
        with pytest.raises(ValueError, match=f"a data frame with the columns A, Z, not one {kind}"):
            query(values)
    with pytest.raises(ValueError, match="nothing is seen in this query; pass do_values="):
        model.compile("O", do=("A", "Z"))(pd.DataFrame(SEEN))
    with pytest.raises(ValueError, match="different lengths"):
        query({"A": [0], "Z": [0, 1]})
