"""ID* and IDC*: answers against functional models, refusals against the derivatives of all experiments."""

import itertools
import pickle
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

import undelude as ud
from test_identification import FROG, FRONT_DOOR, random_query
from undelude.causal._graphs.graph import Parents, topological_order

identify_counterfactual = ud.causal.identify_counterfactual
Worlds = list[tuple[dict[str, int], dict[str, int]]]


class Functions:
    """A functional model: each variable is a random function of its parents and of a noise of its own."""

    def __init__(
        self,
        graph: Parents,
        rng: np.random.Generator,
        sizes: dict[str, int],
        noises: dict[str, int],
        zeros: float = 0.0,
    ):
        self.graph, self.sizes = graph, sizes
        self.order = topological_order(graph)
        self.noise = dict(zip(graph, np.indices([noises[x] for x in graph]).reshape(len(graph), -1), strict=True))
        self.noise_of = {x: rng.dirichlet(np.ones(noises[x])) for x in graph}
        self.weight = np.prod([self.noise_of[x][self.noise[x]] for x in graph], axis=0)
        self.tables = {
            x: rng.integers(0, sizes[x], [sizes[p] for p in parents] + [noises[x]]) for x, parents in graph.items()
        }

    def world(self, do: dict[str, int]) -> dict[str, np.ndarray]:
        """Return the value of each variable under an intervention, for each combination of the noises."""
        found: dict[str, np.ndarray] = {}
        for x in self.order:
            found[x] = self.tables[x][(*(found[p] for p in self.graph[x]), self.noise[x])]
            if x in do:
                found[x] = np.full_like(found[x], do[x])
        return found

    def event(self, worlds: Worlds) -> np.ndarray:
        """Return for each combination of the noises whether all of the values are seen in their worlds."""
        seen = np.ones(len(self.weight), bool)
        for values, do in worlds:
            world = self.world(do)
            for name, value in values.items():
                seen &= world[name] == value
        return seen

    def regimes(self, names: tuple[str, ...], done: tuple[str, ...]) -> list[np.ndarray]:
        """Return the place in the joint of `names`, for each value of `done` and combination of the noises."""
        found = []
        for values in itertools.product(*(range(self.sizes[x]) for x in done)):
            world = self.world(dict(zip(done, values, strict=True)))
            found.append(np.ravel_multi_index([world[x] for x in names], [self.sizes[x] for x in names]))
        return found

    def table(self, names: tuple[str, ...], done: tuple[str, ...]) -> np.ndarray:
        """Return the joint distribution of `names` in an experiment, summed over its values."""
        shape = [self.sizes[x] for x in names]
        size = int(np.prod(shape))
        return sum(np.bincount(x, self.weight, size) for x in self.regimes(names, done)).reshape(shape)


class Asked(NamedTuple):
    graph: Parents
    latent: tuple[str, ...]
    claim: Worlds
    given: Worlds

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(x for x in self.graph if x not in self.latent)

    def answer(self, experiments="all"):
        try:
            return identify_counterfactual(
                self.graph, self.claim, given=self.given, latent=self.latent, experiments=experiments
            )
        except ud.NotIdentifiable as error:
            return error

    def truth(self, model: Functions) -> float:
        seen = model.event(self.given)
        with np.errstate(invalid="ignore"):
            return (model.weight * model.event([*self.claim, *self.given])).sum() / (model.weight * seen).sum()


def random_asked(rng: np.random.Generator, most: int) -> Asked:
    """Return a query of one to three worlds; graphs have three to `most` observed variables."""
    while True:
        query = random_query(rng, most_seen=0)
        names = [x for x in topological_order(query.graph) if x not in query.latent]
        if len(names) <= most:
            break
    x = names[int(rng.integers(len(names) - 1))]
    worlds = [{x: int(value)} for value in rng.permutation(2)]
    if rng.random() < 0.3:
        worlds[1] = {str(rng.choice(names)): int(rng.integers(2))}

    def values(most: int) -> dict[str, int]:
        count = int(rng.integers(1, most + 1))
        return {name: int(rng.integers(2)) for name in rng.choice(names, count, replace=False).tolist()}

    claim = [(values(1), worlds[0])]
    if rng.random() < 0.3:
        claim.append((values(1), worlds[1]))
    given = [(values(2), {})] if rng.random() < 0.6 else []
    if rng.random() < 0.2:
        given.append((values(1), worlds[1]))
    return Asked(query.graph, query.latent, claim, given)


def is_impossible(asked: Asked) -> bool:
    try:
        asked.answer()
    except ValueError as error:
        return "impossible evidence" in str(error)
    return False


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_answers_equal_functional_models(count):
    rng = np.random.default_rng(50)
    counts = Counter()
    for _ in range(count):
        asked = random_asked(rng, 4)
        sizes = {x: int(rng.integers(2, 4)) for x in asked.graph}
        model = Functions(asked.graph, rng, sizes, {x: 3 if len(asked.graph) < 8 else 2 for x in asked.graph})
        truth = asked.truth(model)
        if is_impossible(asked):
            assert np.isnan(truth)
            counts["impossible"] += 1
            continue
        answer = asked.answer()
        if isinstance(answer, ud.NotIdentifiable):
            assert answer.conflict is not None
            counts["refused"] += 1
            continue
        joint = {done: (model.table(asked.names, done), asked.names) for done in answer.experiments}
        found = answer.evaluate(joint)
        if not np.isnan(truth) and not np.isnan(found):
            np.testing.assert_allclose(found, truth, rtol=0, atol=1e-9, err_msg=f"{asked} {answer!r}")
            counts["zero" if answer.expression is None else "equal"] += 1
    assert counts["refused"] > 0.12 * count, counts
    assert counts["equal"] > 0.3 * count, counts
    assert counts["zero"] > 0.02 * count, counts
    assert counts["impossible"] > 0.01 * count, counts


@pytest.mark.parametrize("count", [200, pytest.param(5_000, marks=pytest.mark.slow)])
def test_answers_from_given_experiments_equal_functional_models(count):
    """With observation and at most one experiment; no other table is needed."""
    rng = np.random.default_rng(51)
    counts = Counter()
    for _ in range(count):
        asked = random_asked(rng, 4)
        experiments = [(), tuple(rng.choice(asked.names, int(rng.integers(1, 3)), replace=False).tolist())]
        if is_impossible(asked):
            continue
        answer = asked.answer(experiments[: int(rng.integers(1, 3))])
        if isinstance(answer, ud.NotIdentifiable):
            counts["conflict" if answer.conflict else "thicket" if answer.thicket else "hedge"] += 1
            continue
        sizes = {x: int(rng.integers(2, 4)) for x in asked.graph}
        model = Functions(asked.graph, rng, sizes, {x: 3 if len(asked.graph) < 8 else 2 for x in asked.graph})
        truth = asked.truth(model)
        joint = {done: (model.table(asked.names, done), asked.names) for done in answer.experiments}
        found = answer.evaluate(joint)
        if not np.isnan(truth) and not np.isnan(found):
            np.testing.assert_allclose(found, truth, rtol=0, atol=1e-9, err_msg=f"{asked} {answer!r}")
            counts["equal"] += 1
    assert counts["equal"] > 0.15 * count, counts
    assert min(counts["hedge"], counts["thicket"]) > 0.02 * count, counts


def changes_alone(asked: Asked, rng: np.random.Generator, experiments: list[tuple[str, ...]], noise: int = 40) -> bool:
    """Return whether other noises keep all experiments to first order, and change the counterfactual.

    Two such models agree in what experiments show and differ in the answer. Variables have three values, as a
    counterfactual of a binary cause may be a difference of probabilities of experiments. A noise with too few values
    leaves no freedom.
    """
    joined = {x for x in asked.graph for u in asked.graph[x] if u in asked.latent}
    noises = {x: 1 if x in joined else noise // 2 for x in asked.graph} | dict.fromkeys(asked.latent, noise)
    sizes = dict.fromkeys(asked.graph, 3) | dict.fromkeys(asked.latent, noise)
    model = Functions(asked.graph, rng, sizes, noises)
    for u in asked.latent:
        if not asked.graph[u]:
            model.tables[u] = np.arange(noise)
    size = 3 ** len(asked.names)
    places = [x for done in experiments for x in model.regimes(asked.names, done)]
    above, below = model.event([*asked.claim, *asked.given]), model.event(asked.given)
    joint, evidence = (model.weight * above).sum(), (model.weight * below).sum()
    rows, target = [], []
    for x, p in model.noise_of.items():
        weight, at = model.weight / p[model.noise[x]], model.noise[x]
        jacobian = [np.bincount(at * size + place, weight, len(p) * size).reshape(len(p), size) for place in places]
        rows.append(np.diff(np.concatenate(jacobian, 1), axis=0))
        slopes = [np.diff(np.bincount(at, weight * event, len(p))) for event in (above, below)]
        target.append((slopes[0] * evidence - slopes[1] * joint) / evidence**2)
    jacobian, gradient = np.concatenate(rows), np.concatenate(target)
    solution = np.linalg.lstsq(jacobian, gradient, rcond=1e-11)[0]
    return bool(np.abs(jacobian @ solution - gradient).max() > 1e-6 * max(1, np.abs(gradient).max()))


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        (Asked({"U": (), "A": ("U",), "O": ("A", "U")}, ("U",), [({"O": 1}, {"A": 0})], [({"A": 1}, {})]), True),
        (Asked({"U": (), "A": ("U",), "O": ("A", "U")}, ("U",), [({"O": 1}, {"A": 0})], [({"A": 0}, {})]), False),
        (Asked({"A": (), "O": ("A",)}, (), [({"O": 1}, {"A": 0}), ({"O": 0}, {"A": 1})], []), True),
        (Asked(FRONT_DOOR, ("U",), [({"O": 1}, {"A": 0})], [({"A": 1}, {})]), False),
    ],
)
def test_refused_counterfactuals_change_alone(asked, refused):
    answer = asked.answer()
    assert isinstance(answer, ud.NotIdentifiable) == refused
    every = [x for n in range(len(asked.names) + 1) for x in itertools.combinations(asked.names, n)]
    assert changes_alone(asked, np.random.default_rng(54), every, 40) == refused


@pytest.mark.slow
def test_refusals_and_answers_agree_with_all_experiments():
    """A refused counterfactual changes alone in one of several random models, an answered one in none."""
    rng = np.random.default_rng(52)
    counts, count = Counter(), 30
    while min(counts[False], counts[True]) < count:
        asked = random_asked(rng, 3)
        if len(asked.graph) > 5 or is_impossible(asked):
            continue
        answer = asked.answer()
        refused = isinstance(answer, ud.NotIdentifiable)
        if counts[refused] >= count or (not refused and answer.expression is None):
            continue
        every = [x for n in range(len(asked.names) + 1) for x in itertools.combinations(asked.names, n)]
        counts[refused] += 1
        assert any(changes_alone(asked, rng, every, noise) for noise in (40, 80)) == refused, (asked, answer)


# ------------------------------------------------------------------------------------------------------ named cases

# Shpitser & Pearl 2008, Figure 9a.
FIGURE_9A = {"U": (), "D": (), "X": ("U",), "W": ("X",), "Z": ("D",), "Y": ("W", "Z", "U")}
MEDIATION = {"A": (), "M": ("A",), "O": ("A", "M")}


@pytest.mark.parametrize(
    ("graph", "latent", "arguments", "text"),
    [
        (FROG, "Theta", {"events": {"O": 1}, "do": {"A": 0}}, "P(O=1 | do(A=0))"),
        (FROG, "Theta", {"events": {"O": 1}, "do": {"A": 0}, "given": {"A": 0}}, "P(O=1 | A=0)"),  # Consistency.
        (
            FIGURE_9A,
            "U",
            {"events": {"Y": 1}, "do": {"X": 1}, "given": [({"X": 0, "D": 0}, {}), ({"Z": 1}, {"D": 0})]},
            "[sum_W P(X=0, Y=1 | do(W), do(Z=1)) P(W | do(X=1))] / P(X=0)",
        ),
        (
            FRONT_DOOR,
            "U",
            {"events": {"O": 1}, "do": {"A": 0}, "given": {"A": 1}},
            "[sum_M P(A=1, O=1 | do(M)) P(M | do(A=0))] / P(A=1)",
        ),
        (
            FRONT_DOOR,
            "U",
            {"events": {"O": 1}, "do": {"A": 0}, "given": {"A": 1}, "experiments": [()]},
            "sum_M P(O=1 | M, A=1) P(M | A=0)",
        ),
        # The effect of treatment on the treated, adjusted.
        (
            FROG,
            (),
            {"events": {"O": 1}, "do": {"A": 0}, "given": {"A": 1}, "experiments": [()]},
            "sum_Theta P(O=1 | A=0, Theta) P(Theta | A=1)",
        ),
        # The cross-world term of the natural direct effect (Pearl 2001).
        (
            MEDIATION,
            (),
            {"events": [({"O": 1}, {"A": 1, "M": 0}), ({"M": 0}, {"A": 0})], "experiments": [()]},
            "P(O=1 | M=0, A=1) P(M=0 | A=0)",
        ),
        # Effectiveness and composition: 1, and 0.
        (FROG, "Theta", {"events": {"A": 1}, "do": {"A": 1}}, "1"),
        (FROG, "Theta", {"events": {"A": 1}, "do": {"A": 0}}, "0"),
        (FROG, "Theta", {"events": [({"O": 1}, {"A": 1}), ({"O": 0}, {"A": 1})]}, "0"),
        (FROG, "Theta", {"events": {"O": 0}, "do": {"A": 1}, "given": {"A": 1, "O": 1}}, "0"),
        # O does not cause A, so that A is the same in both worlds.
        (FROG, "Theta", {"events": {"A": 1}, "do": {"O": 0}, "given": {"A": 1}}, "1"),
    ],
)
def test_estimands_are_those_of_the_literature(graph, latent, arguments, text):
    assert str(identify_counterfactual(graph, latent=latent, **arguments)) == text


def test_two_outcomes_of_one_case_are_never_seen_together():
    """Necessity and sufficiency need both (Pearl 2009, Section 9.2)."""
    with pytest.raises(ud.NotIdentifiable, match="where A has two values at once") as caught:
        identify_counterfactual({"A": (), "O": ("A",)}, [({"O": 1}, {"A": 1}), ({"O": 0}, {"A": 0})])
    conflict = caught.value.conflict
    assert (conflict.variable, conflict.values) == ("A", ("0", "1"))
    assert conflict.component == ("O=1 under do(A=1)", "O=0 under do(A=0)")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.conflict) == (str(caught.value), conflict)


def test_effect_on_the_treated_with_a_hidden_cause_is_refused():
    with pytest.raises(ud.NotIdentifiable, match=r"requires P\(A=1, O=1 under do\(A=0\)\)"):
        identify_counterfactual(FROG, {"O": 1}, do={"A": 0}, given={"A": 1}, latent="Theta")


def test_a_missing_experiment_is_named():
    """The counterfactual needs the experiment on M; that on A, or observation, does not replace it."""
    graph = {"U": (), "V": (), "A": ("U",), "M": ("A", "V"), "O": ("U", "M", "V")}
    arguments = {"do": {"A": 0}, "given": {"A": 1}, "latent": ("U", "V")}
    with pytest.raises(ud.NotIdentifiable, match="requires another effect") as caught:
        identify_counterfactual(FRONT_DOOR, {"O": 1}, do={"A": 0}, given={"A": 1}, latent="U", experiments=["A"])
    assert caught.value.thicket.component == {"A", "O"}
    with pytest.raises(ud.NotIdentifiable, match="two values at once"):
        identify_counterfactual(graph, {"O": 1}, **arguments)


def test_all_experiments_are_the_default():
    question = {"do": {"A": 0}, "given": {"A": 1}, "latent": "U"}
    answer = identify_counterfactual(FRONT_DOOR, {"O": 1}, **question)
    assert answer == identify_counterfactual(FRONT_DOOR, {"O": 1}, **question, experiments="all")
    assert ("M",) in answer.experiments


def test_evaluate_takes_values_of_a_model():
    """The case of treatment and recovery of the page on causal models, by its own functions."""
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    answer = identify_counterfactual(frog.graph, {"O_1": 0}, do={"A_1": 1}, given={"A_1": 0}, experiments=[()])
    noisy = frog.replace(ud.Variable("A_1", (0, 1), ("Theta",), table=[[0.9, 0.1], [0.2, 0.8]]))
    joint = noisy.query(noisy.names)
    values = {name: noisy[name].values for name in noisy.names}
    expected = noisy.counterfactual("O_1", do={"A_1": 1}, given={"A_1": 0})[0]
    assert answer.evaluate(joint, noisy.names, values=values) == pytest.approx(float(expected), abs=1e-6)
    with pytest.raises(ValueError, match="A_1 has no value 7; it has 0, 1"):
        identify_counterfactual(frog.graph, {"O_1": 0}, given={"A_1": 7}, experiments=[()]).evaluate(joint, noisy.names)


def test_evaluate_is_nan_without_mass():
    answer = identify_counterfactual(FRONT_DOOR, {"O": 1}, do={"A": 0}, given={"A": 1}, latent="U", experiments=[()])
    table = np.zeros((2, 2, 2))  # [A, M, O]
    table[0] = 0.25
    assert np.isnan(answer.evaluate(table, ("A", "M", "O")))
    with pytest.raises(ValueError, match="no axis for M"):
        answer.evaluate(np.ones((2, 2)), ("A", "O"))


def test_latex_of_a_counterfactual():
    answer = identify_counterfactual(FRONT_DOOR, {"O": 1}, do={"A": 0}, given={"A": 1}, latent="U", experiments=[()])
    assert answer._repr_latex_() == r"$\displaystyle \sum_{M} P(O=1 \mid M, A=1) \, P(M \mid A=0)$"
    assert repr(answer) == ("CounterfactualEstimand: P(O=1 under do(A=0) | A=1) = sum_M P(O=1 | M, A=1) P(M | A=0)")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"events": "O"}, TypeError, "events must be a dict of values by name"),
        ({"events": {}}, ValueError, "nothing is asked"),
        ({"events": {"B": 1}}, ValueError, "'B' is not in the graph"),
        ({"events": {"Theta": 1}}, ValueError, "Theta is both latent and asked"),
        ({"events": {"O": 1}, "do": {"Theta": 1}}, ValueError, "Theta is both latent and done"),
        ({"events": [({"O": 1}, {"A": 1})], "do": {"A": 1}}, ValueError, "events lists several worlds"),
        ({"events": {"O": 1}, "given": [({"A": 1}, {"A": 0})]}, ValueError, "impossible evidence: no model allows A=1"),
        ({"events": {"O": 1}, "experiments": "A"}, TypeError, "a list with the variables of each experiment"),
        ({"events": {"O": 1}, "experiments": None}, TypeError, 'must be "all", or a list'),
    ],
)
def test_wrong_counterfactuals_raise(arguments, error, message):
    with pytest.raises(error, match=message):
        identify_counterfactual(FROG, latent="Theta", **arguments)


def test_answers_of_queries_know_the_values():
    """A value is that of the answer's axis, and not a place: the boxes are called 1 and 2."""
    expert = ud.Variable("A", (1, 2), ("Theta",), table=[[0.9, 0.1], [0.1, 0.9]])
    prize = ud.Variable("O", (-1, 1), ("Theta", "A"), table=[[[0, 1], [1, 0]], [[1, 0], [0, 1]]])
    frog = ud.CausalModel([ud.Variable("Theta", (1, 2), table=[0.5, 0.5]), expert, prize])
    worlds = {"do": {"A": 2}, "given": {"A": 1}}
    estimand = identify_counterfactual(frog.graph, {"O": 1}, **worlds, experiments=[()])
    observed, truth = frog.query(("Theta", "A", "O")), frog.counterfactual("O", **worlds)[1]
    for joint in (observed, {(): observed}, {(): (observed, observed.names)}):
        np.testing.assert_allclose(estimand.evaluate(joint), truth, rtol=1e-6)
    with pytest.raises(ValueError, match="A has no value 2; it has 0, 1"):
        estimand.evaluate(np.asarray(observed), observed.names)
    np.testing.assert_allclose(
        estimand.evaluate(np.asarray(observed), observed.names, values=observed.values_of), truth, rtol=1e-6
    )
