"""Derivations of `identify`: each equation by itself against surgery, and the steps as the literature prints them."""

import numpy as np
import pytest

import undelude as ud
from test_identification import BACK_DOOR, FROG, FRONT_DOOR, NAPKIN, World, random_query
from undelude.causal._expressions.expression import Expression, Fraction, Probability, Product, Sum


def numbers(world: World, x: Expression) -> np.ndarray:
    """Return the value of an expression in a model, `[*world.names]`; axes that do not matter have length one."""
    axis = {name: i for i, name in enumerate(world.names)}
    match x:
        case Probability(of, given, do):
            kept = of | given | do
            both = world.joint(tuple(do)).sum(tuple(i for name, i in axis.items() if name not in kept), keepdims=True)
            return both / both.sum(tuple(axis[name] for name in of), keepdims=True)
        case Product(factors):
            value = np.ones((1,) * len(axis))
            for factor in factors:
                value = value * numbers(world, factor)
            return value
        case Sum(over, body):
            value = numbers(world, body)
            assert all(value.shape[axis[name]] == world.sizes[name] for name in over)
            return value.sum(tuple(axis[name] for name in over), keepdims=True)
        case Fraction(numerator, denominator):
            return numbers(world, numerator) / numbers(world, denominator)


@pytest.mark.parametrize("most_seen", [0, 2])
def test_each_equation_holds_in_random_models(most_seen):
    """Refused queries too: up to the failure on line 5 every step is true."""
    rng = np.random.default_rng(20 + most_seen)
    rules = dict.fromkeys(["conditional probability", "back-door adjustment", "rule 2", "rule 3"], 0)
    rules |= {f"ID, line {i}": 0 for i in range(1, 8)}
    for _ in range(400):
        query = random_query(rng, most_seen=most_seen)
        answer = query.ask()
        world = World(query.graph, rng)
        for step in answer.derivation.steps:
            rules[step.rule] += 1
            if step.result is None:
                assert isinstance(answer, ud.NotIdentifiable)
                assert step is answer.derivation.steps[-1]
                continue
            left, right = (numbers(world, x) for x in (step.query, step.result))
            np.testing.assert_allclose(*np.broadcast_arrays(left, right), rtol=1e-8, err_msg=f"{query} {step}")
    assert all(count > 5 or (most_seen == 0 and rule == "conditional probability") for rule, count in rules.items()), (
        rules
    )


def test_the_first_step_asks_the_query_and_observed_ones_answer():
    rng = np.random.default_rng(22)
    for _ in range(200):
        query = random_query(rng, most_seen=1)
        answer = query.ask()
        if isinstance(answer, ud.causal.Estimand) and answer.derivation.steps:
            first = answer.derivation.steps[0].query
            assert (first.of, first.do, first.given) == tuple(map(frozenset, (query.y, query.x, query.z)))


def test_front_door_is_derived_as_printed():
    """Shpitser & Pearl's lines for the front door, in the order of the recursion."""
    steps = ud.identify(FRONT_DOOR, "O", do="A", latent="U").derivation.steps
    assert [step.rule for step in steps] == [f"ID, line {i}" for i in (4, 2, 6, 7, 2, 1)]


def test_derivation_reads_as_text():
    assert str(ud.identify(NAPKIN, "O", do="A", latent=("U", "V")).derivation).splitlines() == [
        "P(O | do(A)) = P(O | do(W), do(R), do(A))",
        "    ID, line 3: doing {W, R} as well has no effect on {O}",
        "P(W, A, O | do(R)) = P(O | A, R, W) P(A | R, W) P(W)",
        "    ID, line 7: {O} lies in the c-component {W, A, O}, whose factor is the product of the conditionals; "
        "ID continues in it",
        "P(O | do(W), do(R), do(A)) = P(O | do(R), do(A))",
        "    ID, line 2: no member of {W} is an ancestor of {O}",
        "P(O | do(R), do(A)) = [sum_W P(A, O | R, W) P(W)] / [sum_W P(A | R, W) P(W)]",
        "    ID, line 6: {O} is a c-component, and its factor is the product of the conditionals",
    ]


@pytest.mark.parametrize(
    ("graph", "outcome", "do", "see", "text"),
    [
        (FROG, "O", "A", "Theta", "    rule 2: without the arrows out of Theta, A, no open path joins O and Theta, A"),
        (FROG, "Theta", "A", (), "    rule 3: A has no effect on Theta"),
        (
            FROG | {"Z": ("O",)},
            "Z",
            "A",
            "O",
            "    rule 2: without the arrows into A and out of O, no open path joins Z and O given A",
        ),
    ],
)
def test_rules_name_the_separation(graph, outcome, do, see, text):
    assert text in str(ud.identify(graph, outcome, do=do, see=see).derivation).splitlines()


def test_an_observed_query_needs_no_step():
    assert str(ud.identify(FROG, "O", see="A").derivation) == ""


def test_refusal_tells_its_steps():
    with pytest.raises(ud.NotIdentifiable) as caught:
        ud.identify(FROG, "O", do="A", latent="Theta")
    assert str(caught.value.derivation).splitlines()[-1] == (
        "    ID, line 5: hidden causes join all of {A, O}, and join {O} within it: a hedge"
    )


def test_derivation_in_a_notebook():
    derivation = ud.identify(BACK_DOOR, "O", do="A").derivation
    html = derivation._repr_html_()
    assert "prefers-color-scheme: dark" in html
    assert "P(O | do(A)) = sum_Z P(O | A, Z) P(Z)" in html
    assert "back-door adjustment" in html
    assert derivation._repr_latex_() == (
        r"$\displaystyle \begin{aligned} P(O \mid \mathrm{do}(A)) &= \sum_{Z} P(O \mid A, Z) \, P(Z) "
        r"&& \text{back-door adjustment} \end{aligned}$"
    )
    assert "No step" in ud.identify(FROG, "O").derivation._repr_html_()
