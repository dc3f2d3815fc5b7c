"""Total, direct and indirect effects against their definitions, summed over all noise of structural models."""

import itertools

import jax
import numpy as np
import pytest

import undelude as ud


def random_tables(rng, hidden):
    """Return the tables of a model U, A, M, N, O in which U moves A, M and O if `hidden`."""
    u = ("U",) * hidden
    parents = {"U": (), "A": u, "M": ("A", *u), "N": ("A", "M"), "O": ("A", "M", "N", *u)}
    sizes = {"U": 2, "A": 2, "M": 2, "N": 3, "O": 2}
    shapes = {name: [sizes[x] for x in p] for name, p in parents.items()}
    return ud.CausalModel(
        ud.Variable(name, range(sizes[name]), p, table=rng.dirichlet(np.ones(sizes[name]), shapes[name]))
        for name, p in parents.items()
    )


def expectation_of_nested(model, told, rest):
    """Return E[O(told, M(rest), N(rest, M(rest)))] by the sum over U, M and N; the outcome's noise is in its table."""
    P = {v.name: np.asarray(v.table, float) for v in model.variables}
    hidden = model["M"].parents == ("A", "U")
    total = 0.0
    for u, m, n in itertools.product(range(2), range(2), range(3)):
        at = (u,) if hidden else ()
        total += P["U"][u] * P["M"][(rest, *at, m)] * P["N"][rest, m, n] * P["O"][(told, m, n, *at, 1)]
    return total


@pytest.mark.parametrize("hidden", [False, True])
def test_effects_are_those_of_nested_counterfactuals(hidden):
    rng = np.random.default_rng(0)
    for _ in range(20):
        model = random_tables(rng, hidden)
        E = {(a, b): expectation_of_nested(model, a, b) for a in range(2) for b in range(2)}
        total, direct, indirect = (
            float(f({"A": 1}, "O")) for f in (model.ate, model.direct_effect, model.indirect_effect)
        )
        assert total == pytest.approx(E[1, 1] - E[0, 0], abs=1e-6)
        assert direct == pytest.approx(E[1, 0] - E[0, 0], abs=1e-6)
        assert indirect == pytest.approx(E[0, 1] - E[0, 0], abs=1e-6)
        back = float(model.indirect_effect({"A": 0}, "O"))
        assert total == pytest.approx(direct - back, abs=1e-6)


def test_conditional_and_controlled_effects():
    model = random_tables(np.random.default_rng(1), hidden=True)
    found = float(model.ate({"A": 1}, "O", see={"U": 1}, do={"M": 0}))
    P = [model.query("O", see={"U": 1}, do={"M": 0, "A": a})[1] for a in (1, 0)]
    assert found == pytest.approx(float(P[0] - P[1]), abs=1e-6)
    squares = model.ate({"A": 1}, "O", function=lambda x: 4 * x)
    assert float(squares) == pytest.approx(4 * float(model.ate({"A": 1}, "O")), abs=1e-6)


def test_an_effect_shows_its_definition_and_estimand():
    model = random_tables(np.random.default_rng(1), hidden=False)
    assert str(model.ate({"A": 1}, "O")).splitlines()[0].startswith("E[O | do(A=1)] - E[O | do(A=0)] = ")
    assert str(model.ate({"A": 1}, "O")).splitlines()[1] == "Estimand from observations: P(O | do(A)) = P(O | A)"
    hidden = random_tables(np.random.default_rng(1), hidden=True)
    assert "Estimand from observations: P(O | do(A)) = sum_U" in str(hidden.ate({"A": 1}, "O"))
    with pytest.raises(ud.NotIdentifiable):
        hidden.ate({"A": 1}, "O", latent="U")
    with pytest.raises(ud.NotIdentifiable):
        hidden.marginal(("A", "M", "N", "O")).ate({"A": 1}, "O")
    with pytest.raises(ValueError, match="marginal knows no mechanism"):
        hidden.marginal(("A", "M", "N", "O")).direct_effect({"A": 1}, "O")
    with pytest.raises(ValueError, match="say which one stands instead"):
        model.ate({"N": 1}, "O")
    with pytest.raises(ValueError, match="A has no value 2"):
        model.ate({"A": 2}, "O", instead=0)
    with pytest.raises(ValueError, match="A is both the cause and done"):
        model.ate({"A": 1}, "O", do={"A": 0})
    with pytest.raises(ValueError, match="both the cause and the outcome"):
        model.ate({"A": 1}, "A")


def test_a_policy_or_a_likelihood_has_no_estimand_of_values():
    """With another mechanism of M, the effect is not that of holding M at a value, which an estimand would claim."""
    model = random_tables(np.random.default_rng(1), hidden=False)
    policy = ud.Variable("M", (0, 1), ("A",), table=[[0.9, 0.1], [0.1, 0.9]])
    assert model.ate({"A": 1}, "O", do={"M": 0}).estimand is not None
    for soft in ({"do": {"M": policy}}, {"do": {"M": {0: 0.5, 1: 0.5}}}, {"see": {"U": {0: 1.0, 1: 3.0}}}):
        assert model.ate({"A": 1}, "O", **soft).estimand is None
        with pytest.raises(ValueError, match="for values in see and do alone"):
            model.ate({"A": 1}, "O", latent="U", **soft)


@pytest.mark.parametrize(
    ("soft", "text"),
    [
        ({"do": {"M": ud.Variable("M", (0, 1), table=[0.1, 0.9])}}, "do(M by another mechanism)"),
        ({"do": {"M": {0: 0.5, 1: 0.5}}}, "do(M ~ {0: 0.5, 1: 0.5})"),
        ({"see": {"U": {0: 1.0, 1: 3.0}}}, "U with likelihoods {0: 1.0, 1: 3.0}"),
    ],
)
def test_a_definition_says_that_no_value_is_seen_or_done(soft, text):
    model = random_tables(np.random.default_rng(1), hidden=False)
    definition = f"E[O | do(A=1), {text}] - E[O | do(A=0), {text}]"
    assert model.ate({"A": 1}, "O", **soft).definition == definition


def test_names_may_have_braces():
    a = ud.Variable("A{x}", (0, 1), table=[0.5, 0.5])
    model = ud.CausalModel([a, ud.Variable("O", (0, 1), ("A{x}",), table=[[0.5, 0.5], [0.1, 0.9]])])
    assert model.ate({"A{x}": 1}, "O").definition == "E[O | do(A{x}=1)] - E[O | do(A{x}=0)]"


def test_an_effect_is_differentiable():
    """By the definition: the derivative in P(A = 1) is 0, and in P(O = 1 | A = 1) it is 1."""

    def effect(p):
        a = ud.Variable("A", (0, 1), table=[0.5, 0.5])
        return ud.CausalModel([a, ud.Variable("O", (0, 1), ("A",), table=[[0.5, 0.5], [1 - p, p]])]).ate({"A": 1}, "O")

    np.testing.assert_allclose(jax.grad(lambda p: effect(p).value)(0.7), 1, rtol=1e-5)


def test_an_effect_shows_what_else_is_seen_and_done():
    model = random_tables(np.random.default_rng(1), hidden=False)
    shown = str(model.ate({"A": 1}, "O", see={"M": 1}, do={"N": 0})).splitlines()[0]
    assert shown.startswith("E[O | do(A=1), do(N=0), M=1] - E[O | do(A=0), do(N=0), M=1] = ")
