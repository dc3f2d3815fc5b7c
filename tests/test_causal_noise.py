"""The noise of equations is latent in questions of a graph, and a variable like others in queries."""

import itertools

import jax
import numpy as np
import pytest

import undelude as ud

BITS = (0, 1)
EQUATIONS = [
    ud.Variable("G", BITS, table=[0.4, 0.6]),
    ud.Equation("S", BITS, lambda g, u: g ^ u, "G", noise=[0.7, 0.3]),
    ud.Equation("T", BITS, lambda s, u: s ^ u, "S", noise=[0.9, 0.1]),
    ud.Equation("C", BITS, lambda g, t, u: (g & t) ^ u, ("G", "T"), noise=[0.8, 0.2]),
]
MODEL = ud.CausalModel(EQUATIONS)
# The same distributions, without noise.
TABLES = ud.CausalModel(
    [
        ud.Variable("G", BITS, table=[0.4, 0.6]),
        ud.Variable("S", BITS, "G", table=[[0.7, 0.3], [0.3, 0.7]]),
        ud.Variable("T", BITS, "S", table=[[0.9, 0.1], [0.1, 0.9]]),
        ud.Variable("C", BITS, ("G", "T"), table=[[[0.8, 0.2]] * 2, [[0.8, 0.2], [0.2, 0.8]]]),
    ]
)
FRONT_DOOR = "sum_T P(T | S) sum_S' P(C | S', T) P(S')"


def test_the_front_door_of_equations_has_the_textbook_formula():
    assert MODEL.graph.latent == ("U_S", "U_T", "U_C")
    estimand = MODEL.identify("C", do="S", latent="G")
    assert str(estimand) == FRONT_DOOR == str(MODEL.marginal(("S", "T", "C")).identify("C", do="S"))
    joint = MODEL.query(("S", "T", "C"))
    for s in BITS:
        np.testing.assert_allclose(estimand.evaluate(joint)[:, s], MODEL.query("C", do={"S": s}), atol=1e-6)


def test_questions_of_the_graph_do_without_noise():
    graph, plain = MODEL.graph, TABLES.graph
    latents = [(), ("G",), ("T",), ("G", "T")]
    for (cause, outcome), latent in itertools.product(itertools.permutations("GSTC", 2), latents):
        if not {cause, outcome}.isdisjoint(latent):
            continue
        for ask in ("back_door", "adjustment_sets", "efficient_adjustment", "front_door", "instruments"):
            found, expected = (getattr(g, ask)(cause, outcome, latent=latent) for g in (graph, plain))
            assert found == expected, (ask, cause, outcome, latent)
        found, expected = (ud.causal.remedies(g, outcome, do=cause, latent=latent) for g in (graph, plain))
        assert str(found) == str(expected)
        found, expected = (ud.causal.remedies(g, outcome, do=cause, latent=latent, limit=4) for g in (graph, plain))
        assert (str(found), found.is_complete) == (str(expected), expected.is_complete)
    assert graph.markov_blanket("S") == plain.markov_blanket("S")
    assert graph.c_components() == plain.c_components()
    assert graph.cpdag() == plain.cpdag()
    assert graph.equivalent(plain)


def test_effects_and_bounds_do_without_noise():
    for latent in ((), ("G",)):
        one, two = (m.ate({"S": 1}, "C", latent=latent) for m in (MODEL, TABLES))
        assert str(one.estimand) == str(two.estimand)
        assert float(one) == pytest.approx(float(two))
    found, expected = (m.bounds("C", do={"S": 1}, latent=("G", "T")) for m in (MODEL, TABLES))
    np.testing.assert_allclose(found.low, expected.low, atol=1e-6)
    np.testing.assert_allclose(found.high, expected.high, atol=1e-6)
    assert found.low[0] < found.high[0] - 0.1


def test_queries_can_name_noise():
    assert "U_S" in MODEL.names
    np.testing.assert_allclose(MODEL.query("U_S", see={"S": 1, "G": 1}), [1, 0])
    np.testing.assert_allclose(MODEL.counterfactual("S", do={"U_S": 1}, given={"S": 1, "G": 1}), [1, 0])
    assert set(ud.causal.sample(MODEL, jax.random.key(0), 5)) >= {"U_S", "S"}
    effect = MODEL.ate({"U_T": 1}, "T")
    assert effect.estimand is None
    assert float(effect) == pytest.approx(MODEL.query("T", do={"U_T": 1})[1] - MODEL.query("T", do={"U_T": 0})[1])
    with pytest.raises(ValueError, match="U_S is both done and latent"):
        MODEL.identify("C", do="U_S")


def test_a_marginal_observes_the_noise_that_it_names():
    informed = MODEL.marginal(("U_S", "S", "C"))
    assert "U_S" in informed.graph.observed
    np.testing.assert_allclose(informed.query("C", do={"U_S": 1}), MODEL.query("C", do={"U_S": 1}), atol=1e-6)


def test_noise_stays_noise_in_models_made_from_the_model():
    again = ud.CausalModel(MODEL.variables)
    shifted = MODEL.replace(ud.Variable("U_S", BITS, table=[0.5, 0.5]))
    whole = ud.CausalModel(MODEL.marginal("S").variables)
    assert again.graph == shifted.graph == whole.graph == MODEL.graph
    assert MODEL["U_S"].is_noise
    assert not MODEL["S"].is_noise


def test_questions_without_numbers_are_asked_of_the_graph():
    for name in ("d_separated", "paths", "back_door", "front_door", "instruments"):
        assert not hasattr(MODEL, name)
        assert hasattr(MODEL.graph, name)


def test_a_refusal_offers_no_noise():
    bow = [
        ud.Variable("G", BITS, table=[0.4, 0.6]),
        *EQUATIONS[1:2],
        ud.Equation("C", BITS, lambda g, s: g & s, ("G", "S")),
    ]
    with pytest.raises(ud.NotIdentifiable, match="Observing G alone would identify it") as caught:
        ud.CausalModel(bow).identify("C", do="S", latent="G")
    assert "U_" not in str(caught.value)
