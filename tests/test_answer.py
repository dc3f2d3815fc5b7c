"""Answers that name their axes: printed, indexed by name, and still arrays."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from causal_oracle import random_model
from undelude.causal._variables.answer import Answer

JOINT = [[0.5, 0.0], [0.125, 0.375]]


@pytest.fixture(scope="module")
def answer() -> Answer:
    return Answer(jnp.array(JOINT), ("Theta", "O"), (("left", "right"), (-1, 1)))


def frog() -> ud.CausalModel:
    return ud.tasks.prize_or_frog().causal_model(num_rounds=1)


def test_a_query_names_its_axes_in_the_order_asked() -> None:
    found = frog().query(("O_1", "Theta"), do={"A_1": 1})
    assert found.names == ("O_1", "Theta")
    assert found.values_of == {"O_1": (0, 1), "Theta": (0, 1)}
    there = frog().counterfactual(("O_1", "Theta"), do={"A_1": 1}, given={"A_1": 0})
    assert there.names == ("O_1", "Theta")
    np.testing.assert_allclose(there[{"O_1": 0, "Theta": 0}], 1)  # The prize is in box 0, and box 1 has the frog.


def test_printed_as_a_table(answer: Answer) -> None:
    table = ["             O=-1    O=1", "Theta=left    0.5      0", "Theta=right  0.125  0.375"]
    assert [line.split() for line in str(answer).splitlines()] == [line.split() for line in table]
    assert len({len(line) for line in str(answer).splitlines()}) == 1
    assert str(answer[{"Theta": "left"}]).split() == ["O=-1", "O=1", "0.5", "0"]
    assert str(answer[{"Theta": "left", "O": -1}]).strip() == "0.5"
    assert all(x in answer._repr_html_() for x in ("Theta=right", "O=-1", "0.125"))


def test_a_large_table_says_what_it_leaves_out() -> None:
    values = tuple(range(30))
    found = Answer(jnp.ones((30, 30)) / 900, ("A", "B"), (values, values))
    assert "... (30 rows in all)" in str(found)
    assert "... (30 in all)" in str(found)


def test_indexed_by_name_and_by_position(answer: Answer) -> None:
    np.testing.assert_array_equal(answer[{"O": 1}], [0, 0.375])
    assert answer[{"O": 1}].names == ("Theta",)
    assert isinstance(answer[0], jax.Array)
    assert [x.tolist() for x in answer] == JOINT
    with pytest.raises(ValueError, match="no axis 'A'"):
        answer[{"A": 1}]
    with pytest.raises(ValueError, match="O has no value 0"):
        answer[{"O": 0}]


def test_as_dict_frame_and_array(answer: Answer) -> None:
    cells = {("left", -1): 0.5, ("left", 1): 0, ("right", -1): 0.125, ("right", 1): 0.375}
    assert answer.to_dict() == cells
    assert answer[{"Theta": "right"}].to_dict() == {-1: 0.125, 1: 0.375}
    frame = answer.to_frame()
    assert {(x.Theta, x.O): x.P for x in frame.itertuples()} == cells
    array = answer.to_xarray()
    assert float(array.sel(Theta="right", O=1)) == 0.375
    assert array.dims == ("Theta", "O")


def test_operators_and_functions_are_those_of_the_array(answer: Answer) -> None:
    array = jnp.array(JOINT)
    for found, expected in (
        (answer + 1, array + 1),
        (1 - answer, 1 - array),
        (np.array([[2.0, 3.0]]) * answer, np.array([[2.0, 3.0]]) * array),
        (answer @ answer, array @ array),
        (-answer, -array),
        (answer > 0.2, array > 0.2),
        (answer == answer, array == array),
        (np.log(answer + 1), jnp.log1p(array)),
        (jnp.exp(answer), jnp.exp(array)),
        (answer.sum(0), array.sum(0)),
        (np.asarray(answer, float), np.asarray(array)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (len(answer), answer.shape, float(answer[1, 1])) == (2, (2, 2), 0.375)
    assert (f"{answer[{'Theta': 'left', 'O': -1}]:.3f}", round(answer[0, 0] * 1, 1)) == ("0.500", 0.5)
    with pytest.raises(AttributeError, match="nonsense"):
        answer.nonsense  # noqa: B018
    with pytest.raises(TypeError):
        hash(answer)


def test_transformations_pass_it_through() -> None:
    table = jnp.array([[0.25, 0.75], [1.0, 0.0]])

    def query(table: jax.Array) -> Answer:
        a = ud.Variable("A", (0, 1), table=[0.5, 0.5])
        return ud.CausalModel([a, ud.Variable("O", (0, 1), ("A",), table=table)]).query("O", do={"A": 1})

    np.testing.assert_allclose(jax.jit(query)(table), [1, 0])
    assert jax.jit(query)(table).names == ("O",)
    gradient = jax.grad(lambda x: query(x)[1])(table)
    np.testing.assert_allclose(gradient, [[0, 0], [-1, 1]] @ np.diag([0, 1]), atol=1e-6)
    batch = eqx.filter_vmap(query)(jnp.stack([table, table[::-1]]))
    np.testing.assert_allclose(batch, [[1, 0], [0.25, 0.75]])
    assert str(batch).startswith("Answer(")
    with pytest.raises(ValueError, match="batch"):
        batch.to_dict()


def test_an_estimand_reads_the_names_of_an_answer() -> None:
    model = frog()
    estimand = model.identify("O_1", do="A_1")
    found = estimand.evaluate(model.query(("Theta", "A_1", "O_1")))
    np.testing.assert_array_equal(
        found, estimand.evaluate(np.asarray(model.query(("Theta", "A_1", "O_1"))), estimand.names)
    )
    with pytest.raises(ValueError, match="leave names out"):
        estimand.evaluate(model.query(("O_1", "A_1", "Theta")), estimand.names)


def test_all_marginals_are_those_of_queries() -> None:
    rng = np.random.default_rng(0)
    for i in range(40):
        model = random_model(rng, 6, density=0.5, zeros=0.3 * (i % 2))
        names = rng.permutation(model.names).tolist()
        drawn = ud.causal.sample(model, jax.random.key(i), 1)
        see = {name: drawn[name].tolist()[0] for name in names[: i % 3]}
        do = {name: model[name].values[-1] for name in names[4 : 4 + i % 2]}
        try:
            model.log_prob(see=see, do=do)
            expected = {name: model.query(name, see=see, do=do) for name in names if name not in {**see, **do}}
        except ValueError:  # Impossible under the intervention.
            with pytest.raises(ValueError, match="impossible evidence"):
                model.query_each(see=see, do=do)
            continue
        found = model.query_each(see=see, do=do)
        assert set(found) == set(expected)
        for name, answer in expected.items():
            np.testing.assert_allclose(found[name], answer, atol=1e-6)
    with pytest.raises(ValueError, match="both seen and done"):
        model.query_each(see={names[0]: 0}, do={names[0]: 0})
    hidden = frog().marginal(("A_1", "O_1"))
    assert list(hidden.query_each()) == ["A_1", "O_1"]
    with pytest.raises(ud.NotIdentifiable):
        hidden.query_each(do={"A_1": 0})


def test_a_single_probability_prints_as_a_number() -> None:
    assert str(frog().query("O_1", do={"A_1": 1})[{"O_1": 1}]) == "0.5"


def test_a_name_alone_is_no_index_and_traced_answers_have_no_labels() -> None:
    with pytest.raises(ValueError, match=r"say the value too, answer\[\{'O_1': value\}\]"):
        frog().query("O_1")["O_1"]
    with pytest.raises(ValueError, match="the answer is traced"):
        jax.jit(lambda x: Answer(x, ("O",), ((0, 1),)).to_dict())(jnp.ones(2))
    found = jax.jit(lambda x: Answer(x, ("O",), ((0, 1),))[{"O": 1}])(jnp.array([0.25, 0.75]))
    assert float(found) == 0.75


def test_an_answer_is_neither_none_nor_a_text():
    answer = ud.tasks.prize_or_frog().causal_model(num_rounds=1).query("O_1", do={"A_1": 1})
    for other in (None, "x"):
        assert (answer == other) is False
        assert (answer != other) is True
        assert (other == answer) is False
    np.testing.assert_array_equal(answer == answer.array, [True, True])
    np.testing.assert_array_equal(answer != np.array([0.5, 1.0]), [False, True])
    with pytest.raises(TypeError, match="unhashable"):
        hash(answer)


def test_an_answer_is_refused_as_a_value():
    """Of one number too, which a value could equal."""
    model = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    seen = model.query("A_1")
    for ask in (
        lambda: model.query("O_1", do={"A_1": seen}),
        lambda: model.query("O_1", see={"A_1": seen}),
        lambda: model.query("O_1", do={"A_1": model.query(())}),
        lambda: model.counterfactual("O_1", do={"A_1": seen}),
    ):
        with pytest.raises(ValueError, match=r"A_1 takes one value, not an answer.*answer\.to_dict\(\)"):
            ask()
    np.testing.assert_allclose(model.query("O_1", do={"A_1": seen.to_dict()}), [0.5, 0.5])


def test_a_model_says_that_it_has_no_hash():
    with pytest.raises(TypeError, match=r"a CausalModel has no hash, .* id\(model\) as a key"):
        hash(ud.tasks.prize_or_frog().causal_model(num_rounds=1))
