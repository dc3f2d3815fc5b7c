"""Remedies of a refused query: each suffices, none contains another, and none is missing."""

from itertools import chain, combinations

import numpy as np
import pytest

import undelude as ud
from test_experiments import is_identified
from test_identification import FROG, FRONT_DOOR, World, random_query

M_BIAS = {"U": (), "V": (), "M": ("U", "V"), "A": ("U",), "O": ("V", "A")}
TWO_CAUSES = {"U": (), "V": (), "A": ("U", "V"), "O": ("A", "U", "V")}


def subsets(names):
    return map(frozenset, chain.from_iterable(combinations(names, size) for size in range(len(names) + 1)))


def minimal(found):
    found = set(found)
    return {x for x in found if not any(y < x for y in found)}


def test_remedies_are_the_minimal_sets_that_suffice():
    """Against all subsets, by the criterion over sets; their estimands against surgery."""
    rng = np.random.default_rng(40)
    observed = set_together = 0
    for _ in range(60):
        query = random_query(rng, most_seen=0)
        y, x = set(query.y), set(query.x)
        found = ud.causal.remedies(query.graph, query.y, do=query.x, latent=query.latent)
        names = [name for name in query.graph if name not in query.latent]
        hides = (query._replace(latent=tuple(set(query.latent) - more)) for more in subsets(query.latent))
        enough = (set(query.latent) - set(q.latent) for q in hides if is_identified(q, y, x, [()]))
        assert set(map(frozenset, found.observe)) == minimal(map(frozenset, enough)), query
        enough = (more for more in subsets(names) if is_identified(query, y, x, [(), tuple(more)]))
        assert set(map(frozenset, found.experiment)) == minimal(enough), query
        assert found.is_complete
        world = World(query.graph, rng)
        for more, answer in found.observe.items():
            axes = tuple(name for name in world.names if name in (*names, *more))
            value = answer.evaluate(world.table(world.joint(), axes), axes)
            np.testing.assert_allclose(value, world.surgery(query), rtol=0, atol=1e-9)
            observed += len(more)
        for done, answer in found.experiment.items():
            axes = tuple(name for name in world.names if name in names)
            known = {(): (world.table(world.joint(), axes), axes), done: (world.table(world.joint(done), axes), axes)}
            np.testing.assert_allclose(answer.evaluate(known), world.surgery(query), rtol=0, atol=1e-9)
            set_together += len(done) > 1
    assert observed > 10
    assert set_together > 3


def test_remedies_read_as_text():
    assert str(ud.causal.remedies(FROG, "O", do="A", latent="Theta")).splitlines() == [
        "observe Theta: sum_Theta P(O | A, Theta) P(Theta)",
        "set A: P(O | do(A))",
    ]


def test_two_hidden_causes_are_observed_together():
    found = ud.causal.remedies(TWO_CAUSES, "O", do="A", latent=("U", "V"))
    assert list(found.observe) == [("U", "V")]
    assert list(found.experiment) == [("A",)]


def test_a_query_with_evidence_has_remedies():
    found = ud.causal.remedies(M_BIAS, "O", do="A", see="M", latent=("U", "V"))
    assert set(found.observe) == {("U",), ("V",)}
    assert ("A",) in found.experiment


def test_an_identifiable_effect_needs_nothing():
    found = ud.causal.remedies(FRONT_DOOR, "O", do="A", latent="U")
    assert (list(found.observe), list(found.experiment)) == ([()], [()])
    assert str(found).startswith("observe nothing more: sum_M")


def test_limit_is_said():
    found = ud.causal.remedies(TWO_CAUSES, "O", do="A", latent=("U", "V"), limit=3)
    assert (found.observe, found.is_complete) == ({}, False)
    assert "Not all sets were tried" in str(found)
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        ud.causal.remedies(FROG, "O", do="A", limit=0)
    with pytest.raises(ValueError, match="nothing is asked"):
        ud.causal.remedies(FROG, ())


@pytest.mark.parametrize(
    ("graph", "see", "latent", "says"),
    [
        (FROG, (), "Theta", " Observing Theta alone would identify it."),
        (M_BIAS, "M", ("U", "V"), " Observing U or V alone would identify it."),
        (TWO_CAUSES, (), ("U", "V"), None),
    ],
)
def test_refusal_names_a_sufficient_hidden_variable(graph, see, latent, says):
    with pytest.raises(ud.NotIdentifiable) as caught:
        ud.identify(graph, "O", do="A", see=see, latent=latent)
    assert str(caught.value).endswith(says or "`bounds` returns what the data do tell.")


def test_latent_variables_of_a_graph_are_honoured():
    """A bidirected edge is a hidden cause for every question, and the effect of A on O is not identifiable with it."""
    bow = ud.Graph({"A": (), "O": ("A",)}, bidirected=[("A", "O")])
    assert list(ud.causal.remedies(bow, "O", do="A").observe) == [bow.latent]
    with pytest.raises(ud.NotIdentifiable):
        ud.causal.identify_counterfactual(bow, {"O": 1}, do={"A": 0}, experiments=[()])
    assert "do(A)" in str(ud.identify(bow, "O", do="A", experiments=["A"]))
