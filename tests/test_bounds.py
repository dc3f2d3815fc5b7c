"""Bounds on effects: Manski's and Balke and Pearl's formulas, the truth of random models, and estimands."""

import itertools

import numpy as np
import pytest

import undelude as ud
from causal_oracle import random_model
from undelude.causal import ate_bounds, bounds

INSTRUMENT = {"Z": (), "U": (), "A": ("Z", "U"), "O": ("A", "U")}


def instrument(rng, sizes=(2, 2, 2, 6)):
    """Return a model with an instrument Z, whose hidden cause U has many values."""
    num_z, num_a, num_o, num_u = sizes

    def rows(n, *shape):
        return rng.dirichlet(np.full(n, 0.4), size=shape)

    return ud.CausalModel(
        [
            ud.Variable("Z", range(num_z), table=rows(num_z)),
            ud.Variable("U", range(num_u), table=rows(num_u)),
            ud.Variable("A", range(num_a), ("Z", "U"), table=rows(num_a, num_z, num_u)),
            ud.Variable("O", range(num_o), ("A", "U"), table=rows(num_o, num_a, num_u)),
        ]
    )


def balke_pearl(p):
    """Return their bounds of P(O = 1 | do(A = 0)) and P(O = 1 | do(A = 1)); p[o, a, z] = P(o, a | z)."""
    low_0 = max(
        p[1, 0, 1],
        p[1, 0, 0],
        p[1, 0, 0] + p[1, 1, 0] - p[0, 0, 1] - p[1, 1, 1],
        p[0, 1, 0] + p[1, 0, 0] - p[0, 0, 1] - p[0, 1, 1],
    )
    high_0 = min(
        1 - p[0, 0, 1],
        1 - p[0, 0, 0],
        p[0, 1, 0] + p[1, 0, 0] + p[1, 0, 1] + p[1, 1, 1],
        p[1, 0, 0] + p[1, 1, 0] + p[0, 1, 1] + p[1, 0, 1],
    )
    low_1 = max(
        p[1, 1, 0],
        p[1, 1, 1],
        -p[0, 0, 0] - p[0, 1, 0] + p[0, 0, 1] + p[1, 1, 1],
        -p[0, 1, 0] - p[1, 0, 0] + p[1, 0, 1] + p[1, 1, 1],
    )
    high_1 = min(
        1 - p[0, 1, 1],
        1 - p[0, 1, 0],
        p[0, 0, 0] + p[1, 1, 0] + p[1, 0, 1] + p[1, 1, 1],
        p[1, 0, 0] + p[1, 1, 0] + p[0, 0, 1] + p[1, 1, 1],
    )
    return (low_0, high_0), (low_1, high_1)


def test_instrument_has_the_bounds_of_balke_and_pearl():
    rng = np.random.default_rng(0)
    beyond_manski = 0
    for _ in range(15):
        model = instrument(rng)
        joint = np.asarray(model.query(("O", "A", "Z")), float)
        p = joint / joint.sum((0, 1))
        for a, (low, high) in enumerate(balke_pearl(p)):
            found = model.bounds("O", do={"A": a}, latent="U")
            assert found.is_sharp
            assert found.low[1] == pytest.approx(low, abs=1e-6)
            assert found.high[1] == pytest.approx(high, abs=1e-6)
            beyond_manski += low > max(p[1, a]) + 1e-3
    assert beyond_manski  # The instrument says more than the best of its values by itself.


def test_without_other_variables_the_bounds_are_manskis():
    rng = np.random.default_rng(1)
    for _ in range(10):
        P = rng.dirichlet(np.ones(6)).reshape(2, 3)  # A, O
        for a in range(2):
            found = bounds(
                {"U": (), "A": "U", "O": ("A", "U")}, "O", do={"A": a}, joint=P, names=("A", "O"), latent="U"
            )
            np.testing.assert_allclose(found.low, P[a], atol=1e-6)
            np.testing.assert_allclose(found.high, P[a] + 1 - P[a].sum(), atol=1e-6)


def test_truth_lies_between_the_bounds():
    """Of random graphs with one or two hidden causes of random variables."""
    rng = np.random.default_rng(2)
    open_effects = refused = 0
    for _ in range(200):
        model = random_model(rng, 5, density=0.5, sizes=(2,))
        names = [str(x) for x in rng.permutation(model.names)]
        latent, (a, o) = names[: rng.integers(1, 3)], names[-2:]
        try:
            found = model.bounds(o, do={a: 1}, latent=latent)
        except ValueError:  # Of several groups of variables.
            refused += 1
            continue
        truth = np.asarray(model.query(o, do={a: 1}))
        assert (found.low - 1e-6 <= truth).all()
        assert (truth <= found.high + 1e-6).all()
        try:
            model.identify(o, do=a, latent=latent)
        except ud.NotIdentifiable:
            open_effects += found.low.sum() < 1 - 1e-4
        else:
            np.testing.assert_allclose(found.low, truth, atol=1e-5)
            np.testing.assert_allclose(found.high, truth, atol=1e-5)
    assert open_effects > 5
    assert refused < 40


def test_a_front_door_settles_the_effect():
    rng = np.random.default_rng(3)
    graph = {"U": (), "A": ("U",), "M": ("A",), "O": ("M", "U")}
    model = ud.CausalModel(
        ud.Variable(x, (0, 1), p, table=rng.dirichlet(np.ones(2), size=[2] * len(p))) for x, p in graph.items()
    )
    found = model.bounds("O", do={"A": 1}, latent="U")
    np.testing.assert_allclose(found.low, model.query("O", do={"A": 1}), atol=1e-6)
    np.testing.assert_allclose(found.high, found.low, atol=1e-6)


def test_bounds_are_reached_by_models():
    """A model in which the hidden cause is the response of both variables, chosen to give the bound."""
    P = np.array([[0.3, 0.2], [0.1, 0.4]])
    found = bounds({"U": (), "A": "U", "O": ("A", "U")}, "O", do={"A": 1}, joint=P, names=("A", "O"), latent="U")
    for bound, o in ((found.low, 0), (found.high, 1)):  # What those with A = 0 would have had under A = 1.
        values = [*itertools.product(range(2), repeat=2)]
        model = ud.CausalModel(
            [
                ud.Variable("U", values, table=[P[u] for u in values]),
                ud.Variable("A", (0, 1), ("U",), table=[np.eye(2)[a] for a, _ in values]),
                ud.Variable(
                    "O", (0, 1), ("A", "U"), table=[[np.eye(2)[y if a == x else o] for x, y in values] for a in (0, 1)]
                ),
            ]
        )
        np.testing.assert_allclose(model.query(("A", "O")), P, atol=1e-6)
        assert model.query("O", do={"A": 1})[1] == pytest.approx(float(bound[1]), abs=1e-6)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do": {"A": 2}}, "A has no value 2; it has 0, 1"),
        ({"joint": np.ones((2, 2))}, "2 axes; it needs one for each of Z, A, O"),
        ({"names": ("A", "O"), "joint": np.ones((2, 2))}, "Z is neither observed nor latent"),
        ({"asked": "A"}, "A is both asked and done"),
        ({"asked": ("O", "O")}, "a name is asked twice"),
        ({"asked": "U"}, "U is both latent and asked"),
        ({"do": {"U": 1}}, "U is both latent and done"),
        ({"do": {"A": "1"}}, "A has no value '1': its value 1 is a number, not str"),
        ({"do": "A"}, "do must be a dict"),
        ({"joint": np.full((2, 2, 2), np.inf)}, "finite, none negative, not all zero"),
        ({"joint": -np.ones((2, 2, 2))}, "finite, none negative"),
        ({"names": None}, "names is missing"),
        ({"joint": {"A": (np.ones((2, 2, 2)), ("Z", "A", "O"))}}, "bounds do not combine experiments"),
        # The instrument decides the outcome while the action stays the same.
        ({"joint": [[[1, 0], [0, 0]], [[0, 1], [0, 0]]], "do": {"A": 0}}, "no model with this graph"),
    ],
)
def test_wrong_questions_are_named(change, message):
    ask = {"asked": "O", "do": {"A": 1}, "joint": np.ones((2, 2, 2)), "names": ("Z", "A", "O"), "latent": "U"} | change
    with pytest.raises(ValueError, match=message):
        bounds(INSTRUMENT, ask.pop("asked"), **ask)


def test_too_many_responses_are_refused():
    with pytest.raises(ValueError, match=r"respond to their parents in too many ways \(A 216, O 46,656"):
        bounds(INSTRUMENT, "O", do={"A": 1}, joint=np.ones((3, 6, 6)), names=("Z", "A", "O"), latent="U")


def test_counts_give_the_value_of_the_estimand():
    """A context with one row weighs one row; the napkin, whose estimand is a fraction."""
    chain, rows = {"Z": (), "A": ("Z",), "O": ("A",)}, [[[5000, 5000], [1000, 9000]], [[1, 0], [1, 0]]]
    found = bounds(chain, "O", do={"A": 1}, joint=rows, names=("Z", "A", "O"))
    np.testing.assert_allclose(found.low, [1001 / 10001, 9000 / 10001], rtol=1e-6)
    rng = np.random.default_rng(4)
    napkin = {"U": (), "V": (), "W": ("U", "V"), "Z": ("W",), "X": ("Z", "U"), "Y": ("X", "V")}
    model = ud.CausalModel(
        ud.Variable(x, (0, 1), p, table=rng.dirichlet(np.ones(2), size=[2] * len(p))) for x, p in napkin.items()
    )
    found = model.bounds("Y", do={"X": 1}, latent=("U", "V"))
    np.testing.assert_allclose(found.low, model.query("Y", do={"X": 1}), atol=1e-6)
    np.testing.assert_allclose(found.high, found.low)


def test_an_instrument_that_only_shares_a_cause_is_no_reason_to_call_bounds_sharp():
    graph = {"U2": (), "U": (), "D": ("U2",), "A": ("U2", "U"), "O": ("A", "U")}
    joint = np.zeros((2, 2, 2))
    joint[0, 0], joint[1, 1] = [0.4, 0.1], [0.15, 0.35]
    found = bounds(graph, "O", do={"A": 1}, joint=joint, names=("D", "A", "O"), latent=("U", "U2"))
    assert not found.is_sharp
    assert (np.asarray(found.low) <= [0.3, 0.7]).all()
    assert (np.asarray(found.high) >= [0.3, 0.7]).all()


def named(rng):
    """Return a model with an instrument, whose variables have values that are no positions."""
    return ud.CausalModel(
        [
            ud.Variable("Z", (2, 1), table=rng.dirichlet(np.ones(2))),
            ud.Variable("U", range(4), table=rng.dirichlet(np.ones(4))),
            ud.Variable("A", (1, 0), ("Z", "U"), table=rng.dirichlet(np.ones(2), (2, 4))),
            ud.Variable("O", ("well", "ill"), ("A", "U"), table=rng.dirichlet(np.ones(2), (2, 4))),
        ]
    )


def test_an_answer_says_its_names_and_values():
    """The value A=1 is at position 0, and the order of the axes does not matter."""
    model = named(np.random.default_rng(5))
    for names in (("Z", "A", "O"), ("O", "Z", "A")):
        joint = model.query(names)
        for a, place in ((1, 0), (0, 1)):
            plain = np.asarray(joint).transpose([names.index(x) for x in ("Z", "A", "O")])
            right = bounds(INSTRUMENT, "O", do={"A": place}, joint=plain, names=("Z", "A", "O"), latent="U")
            for found in (
                bounds(INSTRUMENT, "O", do={"A": a}, joint=joint, latent="U"),
                bounds(INSTRUMENT, "O", do={"A": a}, joint=joint, names=names, latent="U"),
                model.bounds("O", do={"A": a}, latent="U"),
            ):
                np.testing.assert_allclose(found.low, right.low, atol=1e-6)
                np.testing.assert_allclose(found.high, right.high, atol=1e-6)
    with pytest.raises(ValueError, match="joint has the axes O, Z, A, not Z, A, O: leave names out"):
        bounds(INSTRUMENT, "O", do={"A": 1}, joint=joint, names=("Z", "A", "O"), latent="U")
    with pytest.raises(ValueError, match="A has no value 2; it has 1, 0"):
        bounds(INSTRUMENT, "O", do={"A": 2}, joint=joint, latent="U")


def test_bounds_are_labelled_and_print_as_a_table():
    model = named(np.random.default_rng(5))
    found = model.bounds("O", do={"A": 1}, latent="U")
    low, high, is_sharp = found
    assert is_sharp
    assert low.values_of == high.values_of == {"O": ("well", "ill")}
    text = f"""
           low    high
O=well  {low[0]:.4f}  {high[0]:.4f}
O=ill   {low[1]:.4f}  {high[1]:.4f}"""
    assert str(found) == repr(found) == text[1:]
    page = found._repr_html_()
    assert "not sharp" not in page
    for part in ("O=well", "O=ill", '<th scope="col">low</th>', f"<td>{high[1]:.4f}</td>"):
        assert part in page
    plain = bounds({"U": (), "A": "U", "O": "U"}, "O", do={"A": 0}, joint=np.ones((2, 3)), names=("A", "O"), latent="U")
    assert plain.low.values == ((0, 1, 2),)
    both = bounds(INSTRUMENT, ("O", "Z"), do={"A": 1}, joint=np.ones((2, 2, 2)), names=("Z", "A", "O"), latent="U")
    assert str(both).splitlines()[2].split() == ["O=0,", "Z=1", "0.125", "0.375"]


def test_bounds_that_are_not_sharp_say_so():
    graph = {"U2": (), "U": (), "D": ("U2",), "A": ("U2", "U"), "O": ("A", "U")}
    found = bounds(graph, "O", do={"A": 1}, joint=np.ones((2, 2, 2)), names=("D", "A", "O"), latent=("U", "U2"))
    assert str(found).splitlines()[-1] == "not sharp: tighter bounds may hold"
    assert "not sharp" in found._repr_html_()


def ace_of_balke_and_pearl(p):
    """Return their bounds of E[O | do(A = 1)] - E[O | do(A = 0)], eight terms each; p[o, a, z] = P(o, a | z)."""
    low = max(
        p[1, 1, 1] + p[0, 0, 0] - 1,
        p[1, 1, 0] + p[0, 0, 1] - 1,
        p[1, 1, 0] - p[1, 1, 1] - p[1, 0, 1] - p[0, 1, 0] - p[1, 0, 0],
        p[1, 1, 1] - p[1, 1, 0] - p[1, 0, 0] - p[0, 1, 1] - p[1, 0, 1],
        -p[0, 1, 1] - p[1, 0, 1],
        -p[0, 1, 0] - p[1, 0, 0],
        p[0, 0, 1] - p[0, 1, 1] - p[1, 0, 1] - p[0, 1, 0] - p[0, 0, 0],
        p[0, 0, 0] - p[0, 1, 0] - p[1, 0, 0] - p[0, 1, 1] - p[0, 0, 1],
    )
    high = min(
        1 - p[0, 1, 1] - p[1, 0, 0],
        1 - p[0, 1, 0] - p[1, 0, 1],
        -p[0, 1, 0] + p[0, 1, 1] + p[0, 0, 1] + p[1, 1, 0] + p[0, 0, 0],
        -p[0, 1, 1] + p[1, 1, 1] + p[0, 0, 1] + p[0, 1, 0] + p[0, 0, 0],
        p[1, 1, 1] + p[0, 0, 1],
        p[1, 1, 0] + p[0, 0, 0],
        -p[1, 0, 1] + p[1, 1, 1] + p[0, 0, 1] + p[1, 1, 0] + p[1, 0, 0],
        -p[1, 0, 0] + p[1, 1, 0] + p[0, 0, 0] + p[1, 1, 1] + p[1, 0, 1],
    )
    return low, high


def test_the_average_effect_has_the_bounds_of_balke_and_pearl():
    rng = np.random.default_rng(6)
    for _ in range(15):
        model = instrument(rng)
        joint = np.asarray(model.query(("O", "A", "Z")), float)
        low, high = ace_of_balke_and_pearl(joint / joint.sum((0, 1)))
        found = model.ate_bounds({"A": 1}, "O", latent="U")
        assert found.is_sharp
        assert float(found.low) == pytest.approx(low, abs=1e-6)
        assert float(found.high) == pytest.approx(high, abs=1e-6)
        back = model.ate_bounds({"A": 0}, "O", latent="U", instead=1)
        assert (float(back.low), float(back.high)) == pytest.approx((-high, -low), abs=1e-6)
        assert low - 1e-6 <= float(model.ate({"A": 1}, "O")) <= high + 1e-6


def test_the_bounds_of_a_difference_are_tighter_than_the_difference_of_bounds():
    """Nobody with A=2 has M=1. That P(O | A=2, M=1) is unknown moves both expectations by the same amount."""
    P_A, P_M, r = np.array([0.3, 0.3, 0.4]), np.array([0.3, 0.6, 0.0]), np.array([[0.2, 0.7], [0.5, 0.4], [0.1, 0.0]])
    m, o = np.stack([1 - P_M, P_M], -1), np.stack([1 - r, r], -1)  # P(M | A), P(O | A, M)
    ask = {"joint": P_A[:, None, None] * m[..., None] * o, "names": ("A", "M", "O"), "latent": "U"}
    graph = {"U": (), "A": "U", "M": "A", "O": ("M", "U")}
    found = ate_bounds(graph, {"A": 1}, "O", instead=0, **ask)
    without = P_A @ r[:, 0]  # E[O | do(M = 0)]
    with_m = np.array([P_A[:2] @ r[:2, 1] + P_A[2] * x for x in (0, 1)])
    low, high = (P_M[1] - P_M[0]) * (with_m - without)
    assert (float(found.low), float(found.high)) == pytest.approx((low, high), abs=1e-6)
    zero, one = (bounds(graph, "O", do={"A": a}, **ask) for a in (0, 1))
    apart = float(one.high[1] - zero.low[1]) - float(one.low[1] - zero.high[1])
    assert apart == pytest.approx((P_M[1] + P_M[0]) * P_A[2], abs=1e-6)  # three times as wide
    assert high - low == pytest.approx((P_M[1] - P_M[0]) * P_A[2], abs=1e-9)


def test_a_function_scales_the_bounds_of_an_effect():
    """Of named values at other places than 0 and 1."""
    model = named(np.random.default_rng(5))
    well = model.bounds("O", do={"A": 1}, latent="U"), model.bounds("O", do={"A": 0}, latent="U")
    found = model.ate_bounds({"A": 1}, "O", latent="U", function=lambda o: 10 * (o == "well"))
    assert 10 * float(well[0].low[0] - well[1].high[0]) - 1e-5 <= float(found.low)
    turned = ate_bounds(
        INSTRUMENT, {"A": 0}, "O", joint=model.query(("O", "A", "Z")), latent="U", function=lambda o: 10 * (o == "ill")
    )
    np.testing.assert_allclose([turned.low, turned.high], [found.low, found.high], atol=1e-5)
    with pytest.raises(ValueError, match="the function of O must return numbers: the value 'well' is a string"):
        model.ate_bounds({"A": 1}, "O", latent="U")


def test_bounds_of_an_effect_that_is_identifiable_are_its_value():
    model = named(np.random.default_rng(5))
    found = model.ate_bounds({"A": 1}, "O", function=lambda o: o == "well")
    truth = float(model.ate({"A": 1}, "O", function=lambda o: o == "well"))
    assert (float(found.low), float(found.high)) == pytest.approx((truth, truth), abs=1e-6)
    at = {"do": {"U": 2}, "function": lambda o: o == "well"}
    found, truth = model.ate_bounds({"A": 1}, "O", **at), float(model.ate({"A": 1}, "O", **at))
    assert (float(found.low), float(found.high)) == pytest.approx((truth, truth), abs=1e-6)


def test_wrong_questions_of_effects_are_named():
    ask = {"joint": np.ones((2, 3, 2)), "names": ("Z", "A", "O"), "latent": "U"}
    for arguments, more, message in (
        (({"A": 1}, "O"), {}, "A has the values 0, 1, 2: say which one stands instead, such as instead=0"),
        (({"A": 1}, "O"), {"instead": 3}, "A has no value 3"),
        (({"A": 1}, "A"), {}, "A is both the cause and the outcome"),
        (({"A": 1}, "O"), {"do": {"A": 1}}, "A is both the cause and done"),
        (({"U": 1}, "O"), {}, "U is both latent and the cause"),
        (({"A": 1, "Z": 1}, "O"), {}, "cause must be a dict of one name and its value"),
    ):
        with pytest.raises(ValueError, match=message):
            ate_bounds(INSTRUMENT, *arguments, **ask, **more)


def test_a_refused_effect_points_to_its_bounds():
    model = named(np.random.default_rng(5))
    for ask in (
        lambda: model.ate({"A": 1}, "O", latent="U"),
        lambda: model.marginal(("Z", "A", "O")).ate({"A": 1}, "O", function=lambda o: o == "well"),
    ):
        with pytest.raises(ud.NotIdentifiable) as caught:
            ask()
        assert "`ate_bounds`" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("child", [False, True])
def test_another_effect_of_the_hidden_cause_tightens_the_bounds(child):
    """D tells the hidden cause, so that the lottery Z determines the effect within each value of D."""
    table = np.zeros((2, 2, 2, 2))  # Of D, Z, A and O.
    for d, z in np.ndindex(2, 2):
        table[d, z, z ^ d, z ^ d] = 25
    graph = {"U": (), "Z": (), "A": ("Z", "U"), "O": ("A", "U"), "D": ("U", "O") if child else "U"}
    arguments = {"joint": table, "names": ("D", "Z", "A", "O"), "latent": "U"}
    found = bounds(graph, "O", do={"A": 1}, **arguments)
    both = bounds(graph, ("D", "O"), do={"A": 1}, **arguments)
    if child:  # The effect of O on D is open too, so that only an inequality is known.
        assert np.all(both.low.sum(0) <= found.high + 1e-6)
    else:
        np.testing.assert_allclose([found.low, found.high], [[0, 1], [0, 1]], atol=1e-6)
        np.testing.assert_allclose(both.low.sum(0), found.low, atol=1e-6)
    assert found.is_sharp


def test_data_frames_are_no_tables_of_probabilities():
    pandas = pytest.importorskip("pandas")
    bow = ud.Graph({"A": (), "O": "A"}, bidirected=[("A", "O")])
    frame = pandas.DataFrame({"A": [0, 1, 1, 0, 1], "O": [1, 1, 0, 0, 1]})
    for ask in (
        lambda: bounds(bow, "O", do={"A": 1}, joint=frame, names=("A", "O")),
        lambda: ud.identify({"A": (), "O": "A"}, "O", do="A").evaluate(frame, ("A", "O")),
    ):
        with pytest.raises(ValueError, match=r"is a data frame: pass ud\.causal\.frequencies"):
            ask()
