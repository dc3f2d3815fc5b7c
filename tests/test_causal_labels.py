"""Labels of data are honoured, and arguments are read once: what was a wrong answer without a word."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import undelude as ud

TRIAL = ud.Graph({"Z": (), "A": "Z", "O": "A"}, bidirected=[("A", "O")])


@pytest.mark.parametrize("unit", [1e-10, 1e-8, 1e-3, 1.0, 1e6])
def test_bounds_of_an_effect_scale_with_the_unit_of_the_outcome(unit):
    joint = [[[0.32, 0.08], [0.02, 0.08]], [[0.09, 0.01], [0.08, 0.32]]]

    def found(scale):
        return ud.causal.ate_bounds(
            TRIAL, {"A": 1}, "O", joint=joint, names=("Z", "A", "O"), function=lambda o: scale * o
        )

    np.testing.assert_allclose(np.array(found(unit)[:2]) / unit, found(1.0)[:2], rtol=1e-5)


def test_latent_of_an_effect_may_be_any_iterable():
    tables = [[[0.9, 0.1], [0.4, 0.6]], [[0.5, 0.5], [0.2, 0.8]]]
    model = ud.CausalModel(
        [
            ud.Variable("U", (0, 1), table=[0.3, 0.7]),
            ud.Variable("A", (0, 1), "U", table=tables[0]),
            ud.Variable("O", (0, 1), ("U", "A"), table=tables),
        ]
    )
    for latent in ("U", ("U",), iter(["U"]), np.array(["U"])):
        with pytest.raises(ud.NotIdentifiable):
            model.ate({"A": 1}, "O", latent=latent)


def test_tables_of_experiments_agree_about_values():
    surrogate = {"U": (), "V": (), "Z": ("U", "V"), "A": ("Z", "U"), "O": ("A", "V")}
    estimand = ud.identify(surrogate, "O", do="A", latent=("U", "V"), experiments=["Z", ()])
    seen = pd.DataFrame({"Z": [0, 0, 1, 1], "A": ["drug", "none"] * 2, "O": [1, 0, 1, 0]})
    tried = seen.assign(A=pd.Categorical(seen["A"], ["none", "drug"]))
    with pytest.raises(ValueError, match=r"joint of do\(Z\) has the values none, drug of A, and another"):
        estimand.evaluate({(): ud.causal.frequencies(seen), "Z": ud.causal.frequencies(tried)})
    in_one_order = ud.causal.frequencies(tried, values={"A": ["drug", "none"]})
    answer = estimand.evaluate({(): ud.causal.frequencies(seen), "Z": in_one_order})
    assert answer[{"A": "drug"}].to_dict() == {0: 0.0, 1: 1.0}


def test_evaluation_of_an_answer_keeps_its_labels():
    """The values of the model are in another order than those of the data."""
    graph = ud.Graph({"A": (), "O": "A"})
    data = {"A": [1, 1, 0, 0, 0], "O": ["yes", "yes", "no", "no", "yes"]}
    found = ud.identify(graph, "O", do="A").evaluate(ud.causal.frequencies(data, values={"A": (1, 0)}))
    assert found[{"A": 1, "O": "yes"}] == 1
    assert found[{"A": 0, "O": "yes"}] == pytest.approx(1 / 3)
    assert isinstance(ud.identify(graph, "O", do="A").evaluate([[3, 1], [1, 1]], ("A", "O")), np.ndarray)


def test_compiled_queries_take_traced_columns():
    model = ud.CausalModel(
        [
            ud.Variable("A", (0, 1), table=[0.5, 0.5]),
            ud.Variable("B", (0, 1), table=[0.5, 0.5]),
            ud.Variable("O", (0, 1), ("A", "B"), table=[[[0.9, 0.1], [0.4, 0.6]], [[0.5, 0.5], [0.2, 0.8]]]),
        ]
    )
    compiled = model.compile("O", see=("A", "B"))
    columns = {"B": jnp.array([0, 1]), "A": jnp.array([1, 0])}
    np.testing.assert_allclose(jax.jit(compiled)(columns), [[0.5, 0.5], [0.4, 0.6]], rtol=1e-6)
    with pytest.raises(ValueError, match="the column 'A' must be one sequence of values, not int"):
        compiled({"A": 1, "B": 0})
    with pytest.raises(ValueError, match="the column 'A' must be one sequence of values, not int"):
        ud.causal.frequencies({"A": 1})


def test_an_empty_batch_with_rare_entries_has_no_answers():
    model = ud.CausalModel(
        [ud.Variable("A", (0, 1), table=[1e-60, 1]), ud.Variable("O", (0, 1), "A", table=[[0.3, 0.7], [0.6, 0.4]])]
    )
    assert model.compile("O", see="A")(np.zeros((0, 1), int)).shape == (0, 2)


def test_a_cause_without_such_a_value_is_named():
    model = ud.CausalModel(
        [ud.Variable("A", (0, 1), table=[0.5, 0.5]), ud.Variable("O", (0, 1), "A", table=[[0.3, 0.7], [0.6, 0.4]])]
    )
    for ask in (model.ate, model.ate_bounds):
        with pytest.raises(ValueError, match="A has no value 7"):
            ask({"A": 7}, "O")


def test_each_query_needs_evidence_that_is_possible():
    model = ud.CausalModel(
        [ud.Variable("A", (0, 1), table=[1, 0]), ud.Variable("O", (0, 1), "A", table=[[1, 0], [0, 1]])]
    )
    for see in ({"A": 1}, {"A": 0, "O": 1}):
        with pytest.raises(ValueError, match="impossible evidence"):
            model.query_each(see=see)
    with pytest.raises(ValueError, match="takes values in see and do, and A has none"):
        model.query_each(see={"A": {0: 0.5, 1: 0.2}})


def test_a_name_is_asked_once():
    with pytest.raises(ValueError, match="asked twice"):
        ud.identify({"A": (), "O": "A"}, ("O", "O"), do="A")
