"""Causal models: every split into asked, seen, done and summed out, against brute force."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from causal_oracle import brute_force, random_model, random_roles
from undelude.causal._model import compiled
from undelude.causal._summing import order


@pytest.fixture
def frog() -> ud.CausalModel:
    """Return the model of Section 2, with the values of the paper."""
    return ud.CausalModel(
        [
            ud.Variable("Theta", (1, 2), table=[0.5, 0.5]),
            ud.Variable("A", (1, 2), parents=("Theta",), table=[[1.0, 0.0], [0.0, 1.0]]),
            ud.Variable("O", (-1, 1), ("Theta", "A"), table=[[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]),
        ]
    )


def chain(length: int, rng: np.random.Generator) -> ud.CausalModel:
    variables = [ud.Variable("X0", (0, 1), table=[0.3, 0.7])]
    for i in range(1, length):
        variables.append(ud.Variable(f"X{i}", (0, 1), (f"X{i - 1}",), table=rng.dirichlet([1, 1], 2)))
    return ud.CausalModel(variables)


# ------------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("num_variables", [3, 5, 8, 12])
def test_query_equals_brute_force(num_variables: int):
    """Random DAGs, with zeros in the tables; observed colliders and several done variables occur."""
    rng = np.random.default_rng(num_variables)
    for _ in range(60 if num_variables < 12 else 12):
        model = random_model(rng, num_variables, sizes=(2, 3) if num_variables < 12 else (2,), zeros=0.1)
        asked, see, do = random_roles(rng, model)
        answer, evidence = brute_force(model, asked, see, do)
        if evidence == 0:
            with pytest.raises(ValueError, match="impossible evidence"):
                model.query(asked, see=see, do=do)
            assert model.log_prob(see=see, do=do) == -np.inf
        else:
            np.testing.assert_allclose(model.query(asked, see=see, do=do), answer / evidence, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(model.log_prob(see=see, do=do), np.log(evidence), rtol=1e-5, atol=1e-6)


def test_all_roles_equal_brute_force():
    """All 4^4 assignments of roles to four variables, two of them colliders."""
    rng = np.random.default_rng(0)
    tables = {"A": (), "B": (), "C": ("A", "B"), "D": ("C", "A")}
    model = ud.CausalModel(
        [ud.Variable(x, (0, 1), p, table=rng.dirichlet([1, 1], [2] * len(p))) for x, p in tables.items()]
    )
    for roles in itertools.product(("asked", "seen", "done", "summed"), repeat=4):
        asked = [x for x, role in zip("ABCD", roles, strict=True) if role == "asked"]
        see, do = ({x: 1 for x, role in zip("ABCD", roles, strict=True) if role == r} for r in ("seen", "done"))
        answer, evidence = brute_force(model, asked, see, do)
        np.testing.assert_allclose(model.log_prob(see=see, do=do), np.log(evidence), rtol=1e-5, atol=1e-6)
        if asked:
            np.testing.assert_allclose(model.query(asked, see=see, do=do), answer / evidence, rtol=1e-5)


def test_answer_axes_follow_asked(frog: ud.CausalModel):
    joint = frog.query(("Theta", "O"), do={"A": 1})
    np.testing.assert_allclose(joint, [[0, 0.5], [0.5, 0]])
    np.testing.assert_allclose(frog.query(("O", "Theta"), do={"A": 1}), joint.T)


def test_long_chain_observed():
    """The evidence of 200 variables underflows in float32; its logarithm does not."""
    rng = np.random.default_rng(1)
    model = chain(200, rng)
    values = {f"X{i}": int(rng.integers(2)) for i in range(200)}
    by_hand = math.log([0.3, 0.7][values["X0"]])
    for i in range(1, 200):
        by_hand += math.log(float(model[f"X{i}"].table[values[f"X{i - 1}"], values[f"X{i}"]]))
    assert by_hand < -103  # exp of it is below the smallest float32.
    np.testing.assert_allclose(model.log_prob(see=values), by_hand, rtol=1e-6)
    del values["X100"]
    before, after = (np.asarray(model[x].table, float) for x in ("X100", "X101"))
    weight = before[values["X99"]] * after[:, values["X101"]]
    np.testing.assert_allclose(model.query("X100", see=values), weight / weight.sum(), rtol=1e-6)
    np.testing.assert_allclose(
        model.compile("X100", see=tuple(values))(list(values.values())), weight / weight.sum(), rtol=1e-5
    )


@pytest.mark.parametrize(("length", "p"), [(50, 0.9), (400, 0.999)])
def test_conflicting_evidence(length: int, p: float):
    """Half of the children favour one value, half the other; either likelihood ratio exceeds the range of a float.

    The float is single precision for 50 children (compiled) and double precision for 400.
    """
    variables = [ud.Variable("T", (0, 1), table=[0.5, 0.5])]
    variables += [ud.Variable(f"X{i}", (0, 1), ("T",), table=[[p, 1 - p], [1 - p, p]]) for i in range(length)]
    # Tables of another shape, so that their message about T is separate from that of the first.
    variables += [ud.Variable(f"Y{i}", (0, 1, 2), ("T",), table=[[p, 0, 1 - p], [1 - p, 0, p]]) for i in range(length)]
    model = ud.CausalModel(variables)
    see = {f"X{i}": 0 for i in range(length)} | {f"Y{i}": 2 for i in range(length)}
    np.testing.assert_allclose(model.query("T", see=see), [0.5, 0.5], atol=1e-4)
    by_hand = length * (np.log(p) + np.log1p(-p))
    np.testing.assert_allclose(model.log_prob(see=see), by_hand, rtol=1e-5)
    if length > 100:
        return  # A compiled query of 800 variables adds time and no claim.
    np.testing.assert_allclose(model.compile("T", see=tuple(see))(list(see.values())), [0.5, 0.5], atol=1e-2)
    # log P = log sum_t P(t) c, so the derivative in each P(t) = 1/2 is 1.
    evidence = jax.grad(lambda t: eqx.tree_at(lambda m: m.tables[0], model, t).log_prob(see=see))
    np.testing.assert_allclose(jax.jit(evidence)(model.tables[0]), [1, 1], atol=2e-2)


def test_derivative_at_zero_entries(frog: ud.CausalModel):
    """P(O = 1 | do(A = 1)) = sum_t P(t) P(O = 1 | t, 1), where all entries of prize or frog are 0 or 1."""
    table = frog.tables[2]
    value = jax.grad(lambda t: jnp.exp(eqx.tree_at(lambda m: m.tables[2], frog, t).log_prob(see={"O": 1}, do={"A": 1})))
    expected = np.zeros((2, 2, 2))
    expected[:, 0, 1] = 0.5
    np.testing.assert_allclose(jax.jit(value)(table), expected, atol=1e-6)


def test_long_chain_summed_out():
    """The distribution of the last variable is a product of matrices."""
    model = chain(200, np.random.default_rng(2))
    distribution = np.array([0.0, 1.0])
    for i in range(1, 200):
        distribution = distribution @ np.asarray(model[f"X{i}"].table, float)
    np.testing.assert_allclose(model.query("X199", do={"X0": 1}), distribution, rtol=1e-5)


def test_compile_equals_query(frog: ud.CausalModel):
    f = frog.compile("O", see="Theta", do="A")
    see, do = [[1], [1], [2], [2]], [[1], [2], [1], [2]]
    answers = f(see, do)
    for answer, (theta,), (a,) in zip(answers, see, do, strict=True):
        np.testing.assert_allclose(answer, frog.query("O", see={"Theta": theta}, do={"A": a}))
    np.testing.assert_allclose(jax.jit(f)(jnp.array(see), jnp.array(do)), answers)
    # A single row is broadcast against a batch, and needs no leading axis.
    np.testing.assert_allclose(f([1], do), f([[1]] * 4, do))
    assert f([1], [1]).shape == (2,)
    assert f(np.ones((3, 2, 1), int), [1]).shape == (3, 2, 2)


def test_compiled_batch_in_parts(frog: ud.CausalModel, monkeypatch: pytest.MonkeyPatch):
    """Rows that do not fit into memory together are answered in parts, here two at a time."""
    do = [[1], [2], [1], [1], [2]]
    expected = frog.compile("O", do="A")(do_values=do)
    monkeypatch.setattr(compiled, "MAX_BYTES", 2 * frog.structure.terms(("O",), ("Theta",), ("A",)).plan.num_bytes)
    f = frog.compile("O", see="Theta", do="A")
    found = np.asarray(f([1], do)) + np.asarray(f([2], do))
    np.testing.assert_allclose(found / 2, expected)


def test_compile_equals_brute_force():
    rng = np.random.default_rng(3)
    model = random_model(rng, 7, zeros=0.2)
    asked, see, do = ("X6", "X2"), ("X5", "X1"), ("X3",)
    f = model.compile(asked, see=see, do=do)
    rows = [[int(rng.choice(model[name].values)) for name in (*see, *do)] for _ in range(30)]
    for answer, row in zip(f([r[:2] for r in rows], [r[2:] for r in rows]), rows, strict=True):
        by_hand, evidence = brute_force(
            model, list(asked), dict(zip(see, row[:2], strict=True)), dict(zip(do, row[2:], strict=True))
        )
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(answer, by_hand / evidence, rtol=1e-5, atol=1e-7)  # nan if impossible


def test_string_and_bool_values():
    model = ud.CausalModel(
        [
            ud.Variable("weather", ("dry", "wet"), table=[0.8, 0.2]),
            ud.Variable("umbrella", (False, True), ("weather",), table=[[0.9, 0.1], [0.25, 0.75]]),
        ]
    )
    np.testing.assert_allclose(model.query("umbrella", see={"weather": "wet"}), [0.25, 0.75])
    np.testing.assert_allclose(model.compile("umbrella", see="weather")([["wet"], ["dry"]]), [[0.25, 0.75], [0.9, 0.1]])
    with pytest.raises(TypeError, match="cannot be traced"):
        jax.jit(model.compile("umbrella", see="weather"))(jnp.array([1]))


def test_derivative_in_tables():
    """The directional derivatives of an answer and of the evidence, against difference quotients."""
    rng = np.random.default_rng(4)
    model = random_model(rng, 6)
    root = next(v for v in model.variables if not v.parents)
    asked, see, do = "X5", {"X4": 1}, {"X2": 0}
    direction = np.zeros(len(root.values))
    direction[:2] = 1, -1

    def shifted(step):
        i = [v.name for v in model.variables].index(root.name)
        return eqx.tree_at(lambda m: m.tables[i], model, root.table + step * jnp.asarray(direction, jnp.float32))

    def answers(step):
        model = shifted(step)
        return jnp.stack([model.query(asked, see=see, do=do)[0], model.log_prob(see=see, do=do)])

    derivative, log_derivative = jax.jit(jax.jacrev(answers))(0.0)
    high, low = (brute_force(shifted(step), [asked], see, do) for step in (1e-3, -1e-3))
    quotient = (high[0][0] / high[1] - low[0][0] / low[1]) / 2e-3
    np.testing.assert_allclose(derivative, quotient, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(log_derivative, (np.log(high[1]) - np.log(low[1])) / 2e-3, rtol=1e-3, atol=1e-5)
    assert derivative != 0


def test_dense_graph_raises():
    """A clique of 40 needs a table of about 2^38 entries; the error comes before the allocation."""
    rng = np.random.default_rng(5)
    names = [f"X{i}" for i in range(40)]
    variables = [ud.Variable(name, (0, 1), table=[0.5, 0.5]) for name in names]
    for i, (a, b) in enumerate(itertools.combinations(names, 2)):
        variables.append(ud.Variable(f"Y{i}", (0, 1), (a, b), table=rng.dirichlet([1, 1], (2, 2))))
    model = ud.CausalModel(variables)
    with pytest.raises(ValueError, match="too densely connected"):
        model.query("X0", see={f"Y{i}": 0 for i in range(780)})


def test_limit_on_memory_is_inclusive(monkeypatch: pytest.MonkeyPatch):
    """A table of eight entries takes 24 bytes an entry while it is normalised, less than its contraction from two."""
    monkeypatch.setattr(order, "MAX_BYTES", 16 * (8 + 4))
    model = chain(4, np.random.default_rng(7))
    assert model.query(("X0", "X1", "X2")).shape == (2, 2, 2)
    with pytest.raises(ValueError, match=r"the answer itself would have 1\.6e.01 entries"):
        model.query(("X0", "X1", "X2", "X3"))


# ------------------------------------------------------------------------------------------------------------ marginal


def test_marginal_of_prize_or_frog(frog: ud.CausalModel):
    """Figure 3d with one round: `P(o | a)` has an answer, and `P(o | do(a))` raises the hedge."""
    marginal = frog.marginal(("A", "O"))
    np.testing.assert_allclose(marginal.query("O", see={"A": 1}), [0, 1])
    for call in (
        lambda: marginal.query("O", do={"A": 1}),
        lambda: marginal.compile("O", do="A"),
        lambda: marginal.identify("O", do="A"),
    ):
        with pytest.raises(ud.NotIdentifiable, match="Theta") as error:
            call()
        assert error.value.hedge.forest == {"A", "O"}
        assert error.value.hedge.subforest == {"O"}
    assert marginal.graph.back_door("A", "O") == ()
    with pytest.raises(ValueError, match="Theta is latent"):
        marginal.query("Theta")


def test_marginal_with_front_door():
    """The mediator determines the effect although the confounder is hidden; against brute force."""
    rng = np.random.default_rng(6)
    tables = {"U": (), "A": ("U",), "M": ("A",), "O": ("U", "M")}
    model = ud.CausalModel(
        [ud.Variable(x, (0, 1), p, table=rng.dirichlet([1, 1], [2] * len(p))) for x, p in tables.items()]
    )
    answer, _ = brute_force(model, ["O"], {}, {"A": 1})
    np.testing.assert_allclose(model.marginal(tuple("AMO")).query("O", do={"A": 1}), answer, rtol=1e-5)
    # The marginal and the full model have the same derivatives, also when the tables are traced.
    effect = eqx.filter_jit(eqx.filter_grad(lambda m: m.query("O", do={"A": 1})[0]))
    for found, expected in zip(effect(model.marginal(tuple("AMO"))).tables, effect(model).tables, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    # The estimand needs the distribution of A, M and O alone.
    estimand = model.identify("O", do="A", latent="U")
    np.testing.assert_allclose(estimand.evaluate(model.query(tuple("AMO")), tuple("AMO"))[:, 1], answer, rtol=1e-5)


def test_marginal_without_positivity_raises():
    """Two front-door models with deterministic mechanisms: the same observed distribution and different effects."""
    certain, observed = [[1, 0], [0, 1]], []
    for p in (0.1, 0.6):
        model = ud.CausalModel(
            [
                ud.Variable("U", (0, 1), table=[0.5, 0.5]),
                ud.Variable("A", (0, 1), "U", table=certain),
                ud.Variable("M", (0, 1), "A", table=certain),
                ud.Variable("O", (0, 1), ("M", "U"), table=[[[0.3, 0.7], [p, 1 - p]], [[1 - p, p], [0.2, 0.8]]]),
            ]
        )
        marginal = model.marginal(("A", "M", "O"))
        observed.append(marginal.query(("A", "M", "O")))
        with pytest.raises(ValueError, match="positivity"):
            marginal.query("O", do={"A": 1})
    np.testing.assert_array_equal(*observed)


def test_rounded_rows_are_normalised():
    model = ud.CausalModel(
        [
            ud.Variable("T", (0, 1), table=[0.5, 0.5]),
            ud.Variable("X", (0, 1), "T", table=[[0.50009, 0.5], [0.49995, 0.49996]]),
        ]
    )
    np.testing.assert_allclose(model.query(("T", "X")).sum(1), model.query("T"), atol=1e-7)


def test_leaves_are_the_tables(frog: ud.CausalModel):
    assert [x.shape for x in jax.tree.leaves(frog)] == [(2,), (2, 2), (2, 2, 2)]
    assert [x.shape for x in jax.tree.leaves(frog["O"])] == [(2, 2, 2)]


def test_gradient_table_by_name(frog: ud.CausalModel):
    gradient = eqx.filter_jit(eqx.filter_grad(lambda model: model.query("O", do={"A": 1})[1]))(frog)
    assert gradient.table("A").shape == (2, 2)
    np.testing.assert_allclose(gradient.table("A"), 0)  # Surgery removes the mechanism.
    assert (gradient.table("O")[:, 0] != 0).any()


# -------------------------------------------------------------------------------------------------------------- errors


def test_invalid_model_raises():
    coin = ud.Variable("A", (0, 1), table=[0.5, 0.5])
    with pytest.raises(ValueError, match="two variables are called 'A'"):
        ud.CausalModel([coin, coin])
    with pytest.raises(ValueError, match="B: its parent 'a' is not in the graph"):
        ud.CausalModel([coin, ud.Variable("B", (0, 1), ("a",), table=[[0.5, 0.5]] * 2)])
    with pytest.raises(ValueError, match=r"shape \(3, 2\), but its axes are A \(2\), B \(2\)"):
        ud.CausalModel([coin, ud.Variable("B", (0, 1), ("A",), table=[[0.5, 0.5]] * 3)])
    half = [[0.5, 0.5]] * 2
    with pytest.raises(ValueError, match=r"A -> B -> A|B -> A -> B"):
        ud.CausalModel([ud.Variable("A", (0, 1), ("B",), table=half), ud.Variable("B", (0, 1), ("A",), table=half)])


def test_invalid_variable_raises():
    with pytest.raises(ValueError, match="A: values must be distinct"):
        ud.Variable("A", (0, 0), table=[0.5, 0.5])
    with pytest.raises(ValueError, match="A: a parent repeats"):
        ud.Variable("A", (0, 1), ("B", "B"), table=np.full((2, 2, 2), 0.5))
    with pytest.raises(ValueError, match="A: table has shape"):
        ud.Variable("A", (0, 1), ("B",), table=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"A: table\[1\] does not sum to one"):
        ud.Variable("A", (0, 1), ("B",), table=[[0.5, 0.5], [0.5, 0.6]])


def test_invalid_query_raises(frog: ud.CausalModel):
    with pytest.raises(ValueError, match="'Thetas' is not in the graph; did you mean Theta"):
        frog.query("Thetas")
    with pytest.raises(ValueError, match="A has no value 3; it has 1, 2"):
        frog.query("O", do={"A": 3})
    with pytest.raises(ValueError, match="A is both seen and done"):
        frog.query("O", see={"A": 1}, do={"A": 1})
    with pytest.raises(ValueError, match="O is both asked and seen"):
        frog.compile("O", see="O")
    with pytest.raises(ValueError, match="gives A=1, O=-1 no probability"):
        frog.query("Theta", see={"A": 1, "O": -1})
    np.testing.assert_allclose(frog.query("Theta", see={"O": -1}, do={"A": 1}), [0, 1])
    f = frog.compile("O", see="Theta", do="A")
    with pytest.raises(ValueError, match="see_values has shape"):
        f([[1, 2]], [[1]])
    with pytest.raises(ValueError, match="Theta has no value 7"):
        f([[7]], [[1]])
    assert np.isnan(jax.jit(f)(jnp.array([7]), jnp.array([1]))).all()
    assert np.isnan(frog.compile("Theta", see=("A", "O"))([1, -1])).all()


@pytest.mark.usefixtures("no_type_checks")
def test_wrong_type_raises(frog: ud.CausalModel):
    """Names for values, values for names, arrays for scalars, None."""
    with pytest.raises(ValueError, match="see must be a dict"):
        frog.query("O", see="A")
    with pytest.raises(ValueError, match="see must be a name or several"):
        frog.compile("O", see={"A": 1})
    with pytest.raises(ValueError, match=r"a name is asked twice"):
        frog.query(("O", "O"))
    with pytest.raises(TypeError, match=r"ud\.Variable objects"):
        ud.CausalModel({"A": ()})
    with pytest.raises(TypeError, match=r"ud\.Variable objects"):
        ud.CausalModel(3)
    with pytest.raises(ValueError, match="'X' is not in the graph"):
        ud.CausalModel(frog.variables, latent=("X",))
    with pytest.raises(ValueError, match="A: values"):
        ud.Variable("A", 2, table=[0.5, 0.5])
    with pytest.raises(ValueError, match="name"):
        ud.Variable("", (0, 1), table=[0.5, 0.5])
    with pytest.raises(ValueError, match="A: table"):
        ud.Variable("A", (0, 1), ("B",), table=[[0.5], [0.5, 0.5]])
    with pytest.raises(TypeError, match=r"model\.graph"):
        ud.identify(frog, "O", do="A")
    for a, b in ((("A", "Theta"), "O"), ("A", ("O", "Theta")), ((), "O")):
        with pytest.raises(ValueError, match="back_door takes one cause"):
            frog.graph.back_door(a, b)
        with pytest.raises(ValueError, match="paths takes one name"):
            frog.graph.paths(a, b)
    with pytest.raises(TypeError, match="the value of A is traced"):
        jax.jit(lambda a: frog.query("O", see={"A": a}))(1)
    with pytest.raises(ValueError, match="leading axes"):
        frog.compile("O", see="Theta", do="A")([[1], [2]], [[1], [2], [1]])
    with pytest.raises(ValueError, match="nothing is seen in this query; pass do_values="):
        frog.compile("O", do="A")([1])
    with pytest.raises(ValueError, match="nothing is done in this query; omit do_values"):
        frog.compile("O", see="A")([[1]], [1])
    with pytest.raises(ValueError, match="nothing is seen in this query; omit see_values"):
        frog.compile("O")([1])
    with pytest.raises(TypeError, match="asked must be a name or several, not None"):
        frog.query(None)
    with pytest.raises(ValueError, match=r"A takes one value, .* \(2,\)"):
        frog.query("O", see={"A": np.array([1, 2])})
    with pytest.raises(ValueError, match="A: values must be hashable"):
        ud.Variable("A", ([0], [1]), table=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"A: table .* int too large"):
        ud.Variable("A", (0, 1), table=[10**400, 0])
    with pytest.raises(TypeError, match="'A': None"):
        ud.identify({"A": None}, "A")
    with pytest.raises(ValueError, match="entries"):
        chain(40, np.random.default_rng(0)).query([f"X{i}" for i in range(40)])


def test_compile_without_values(frog: ud.CausalModel):
    np.testing.assert_allclose(frog.compile("O")(), [0, 1])


def test_value_as_array_scalar(frog: ud.CausalModel):
    for value in (np.int64(1), np.array([1]), jnp.array(1)):
        np.testing.assert_allclose(frog.query("O", see={"A": value}), [0, 1])


def test_float_values_match_in_single_precision():
    dose = ud.Variable("dose", (0.1, 0.2), table=[0.5, 0.5])
    model = ud.CausalModel([dose, ud.Variable("cured", ("no", "yes"), ("dose",), table=[[0.9, 0.1], [0.4, 0.6]])])
    for x in (0.2, np.float32(0.2), jnp.array(0.2)):
        np.testing.assert_allclose(model.query("cured", see={"dose": x}), [0.4, 0.6])
    f = model.compile("cured", see="dose")
    np.testing.assert_allclose(f(jnp.array([[0.1], [0.2]])), jax.jit(f)(jnp.array([[0.1], [0.2]])), rtol=1e-6)
    np.testing.assert_allclose(f([[0.2]]), [[0.4, 0.6]])
    np.testing.assert_allclose(model.compile("dose", see=("cured",))([["yes"], ["no"]])[0], [1 / 7, 6 / 7], rtol=1e-6)


def test_events_rarer_than_single_precision_are_kept():
    """By Bayes' rule with Python's floats: P(A = 1 | E = 1) is 1e-300 of what a coarser table would call impossible."""
    model = ud.CausalModel(
        [
            ud.Variable("A", (0, 1), table=[1 - 1e-300, 1e-300]),
            ud.Variable("O", (0, 1), ("A",), table=[[1 - 1e-200, 1e-200], [0.25, 0.75]]),
            ud.Variable("E", (0, 1), ("A", "O"), table=[[[1, 0], [1, 0]], [[0.5, 0.5], [0.9, 0.1]]]),
        ]
    )
    weights = np.array([0.25 * 0.5, 0.75 * 0.1])
    np.testing.assert_allclose(model.query("O", see={"E": 1}), weights / weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(model.log_prob(see={"E": 1}), np.log(1e-300) + np.log(weights.sum()), rtol=1e-6)
    compiled = model.compile("O", see="E")
    np.testing.assert_allclose(compiled([[1], [0]]), [weights / weights.sum(), [1, 0]], rtol=1e-6)
    assert compiled([[1]])[0, 0] == model.query("O", see={"E": 1})[0]


def test_numbers_and_the_strings_that_write_them_are_told_apart():
    model = ud.CausalModel([ud.Variable("A", ("0", "1"), table=[0.5, 0.5]), ud.Variable("B", (0, 1), table=[0.5, 0.5])])
    with pytest.raises(ValueError, match="A has no value 1: its value '1' is a string, not int"):
        model.query("B", see={"A": 1})
    with pytest.raises(ValueError, match="B has no value '1': its value 1 is a number, not str"):
        model.query("A", see={"B": "1"})


def test_rare_entries_of_several_tables_do_not_underflow():
    """Each entry fits into its type, and their product does not; by Bayes' rule with fractions of the rare entry."""
    for e, f, g in ((1e-20, 1e-25, 1e-15), (1e-165, 1e-290, 1e-40)):
        model = ud.CausalModel(
            [
                ud.Variable("C", (0, 1), table=[e, 1]),
                ud.Variable("E", (0, 1, 2), ("C",), table=[[1, e, 0], [1, f, 0]]),
                ud.Variable("D", (0, 1), ("C",), table=[[0.7, 0.3], [1, g]]),
            ]
        )
        logs = np.array([2 * np.log(e) + np.log(0.3), np.log(f) + np.log(g)])
        expected = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
        np.testing.assert_allclose(model.query("C", see={"E": 1, "D": 1}), expected, rtol=1e-5)
        np.testing.assert_allclose(model.compile("C", see=("E", "D"))([1, 1]), expected, rtol=1e-5)
        np.testing.assert_allclose(model.query_each(see={"E": 1, "D": 1})["C"], expected, rtol=1e-5)


def test_an_answer_is_a_table_only_of_its_own_variables():
    model = ud.CausalModel([ud.Variable("A", (0, 1), table=[0.2, 0.8])])
    assert ud.Variable("A", (0, 1), table=model.query("A")).table[1] == pytest.approx(0.8)
    for name, values in (("A", (1, 0)), ("B", (0, 1))):
        with pytest.raises(ValueError, match="table is an answer with the axes"):
            ud.Variable(name, values, table=model.query("A"))
    with pytest.raises(ValueError, match="nan is not a value"):
        ud.Variable("A", (0.1, float("nan")), table=[0.5, 0.5])
