"""gID: estimands from several experiments against surgery; refusals against the criterion by sets and in numbers."""

import pickle
from collections import Counter

import numpy as np
import pytest

import undelude as ud
from test_derivation import numbers
from test_identification import FROG, FRONT_DOOR, Query, World, is_hedge, projection, random_query
from undelude.causal._names import Parents

# Z moves A; hidden causes join A and Z, and Z and O (Bareinboim & Pearl 2012).
SURROGATE = {"U": (), "V": (), "Z": ("U", "V"), "A": ("Z", "U"), "O": ("A", "V")}


def random_experiments(rng: np.random.Generator, query: Query) -> list[tuple[str, ...]]:
    """Return one to three sets of at most two observed variables, seldom the intervention itself."""
    names = [name for name in query.graph if name not in query.latent]
    found: list[tuple[str, ...]] = []
    for _ in range(rng.integers(1, 4)):
        size = int(rng.integers(0, 3))
        chosen = tuple(sorted(rng.choice(names, size, replace=False).tolist()))
        if chosen not in found and (set(chosen) != set(query.x) or rng.random() < 0.2):
            found.append(chosen)
    return found or [()]


def ask(query: Query, experiments: list[tuple[str, ...]]) -> ud.causal.Estimand | ud.NotIdentifiable:
    graph, latent, y, x, z = query
    try:
        return ud.identify(graph, y, do=x, see=z, latent=latent, experiments=experiments)
    except ud.NotIdentifiable as error:
        return error


def tables(world: World, query: Query, experiments: list[tuple[str, ...]]) -> dict:
    """Return the joint of the observed variables in each experiment."""
    names = tuple(x for x in world.names if x not in query.latent)
    return {done: (world.table(world.joint(done), names), names) for done in experiments}


def without(graph: Parents, names: frozenset[str]) -> Parents:
    return {x: tuple(p for p in parents if p not in names) for x, parents in graph.items() if x not in names}


# ------------------------------------------------------------------------------------- the criterion, by sets alone


def closure(start: set[str], near: dict[str, set[str]]) -> set[str]:
    found = set(start)
    while more := set().union(*(near[x] for x in found)) - found:
        found |= more
    return found


def is_identified(query: Query, y: set[str], x: set[str], experiments: list[tuple[str, ...]]) -> bool:
    """Lee, Correa & Bareinboim's criterion, each factor by Tian and Pearl's recursion over sets (2002, Figure 7)."""
    arrows, pairs = projection(query.graph, query.latent)
    names = {name for name in query.graph if name not in query.latent}

    def ancestral(targets: set[str], within: set[str]) -> set[str]:
        return closure(targets & within, {v: {u for u, w in arrows if w == v and u in within} for v in within})

    def component(name: str, within: set[str]) -> set[str]:
        return closure({name}, {v: {u for u in within if frozenset((u, v)) in pairs} for v in within})

    def shrinks(part: set[str], within: set[str]) -> bool:
        smaller = ancestral(part, within)
        if smaller in (part, within):
            return smaller == part
        return shrinks(part, component(min(part), smaller))

    relevant = ancestral(y, names - x)
    for part in {frozenset(component(name, relevant)) for name in relevant}:
        if not any(
            not part & set(done) and shrinks(set(part), component(min(part), names - set(done))) for done in experiments
        ):
            return False
    return True


@pytest.mark.parametrize(("count", "most_seen"), [(250, 0), (250, 1), pytest.param(10_000, 1, marks=pytest.mark.slow)])
def test_estimand_from_experiments_equals_surgery(count, most_seen):
    """An estimand equals surgery; a refusal has a thicket, and the criterion agrees."""
    rng = np.random.default_rng(30 + most_seen)
    counts = Counter()
    for _ in range(count):
        query = random_query(rng, most_seen=most_seen)
        experiments = random_experiments(rng, query)
        answer = ask(query, experiments)
        if isinstance(answer, ud.NotIdentifiable):
            check_refusal(query, experiments, answer)
        else:
            world = World(query.graph, rng)
            assert set(answer.experiments) <= {tuple(x for x in answer.order if x in done) for done in experiments}
            assert frozenset().union(*answer.experiments.values()) == {*answer.names}  # Their axes are all it needs.
            found = answer.evaluate(tables(world, query, experiments))
            np.testing.assert_allclose(found, world.surgery(query), rtol=0, atol=1e-9, err_msg=f"{query} {answer}")
            if not query.z:
                assert is_identified(query, set(query.y), set(query.x), experiments)
        kind = "refused" if isinstance(answer, ud.NotIdentifiable) else f"of {len(answer.experiments)}"
        counts[kind] += 1
    assert counts["refused"] > 0.25 * count, counts
    assert counts["of 1"] > 0.2 * count, counts
    assert counts["of 2"] > 0.003 * count, counts


def check_refusal(query: Query, experiments: list[tuple[str, ...]], error: ud.NotIdentifiable) -> None:
    if error.thicket is None:
        assert set(experiments) == {()}
        assert is_hedge(error.hedge, query.graph, query.latent)
        return
    component = error.thicket.component
    for done, hedge in error.thicket.hedges:
        assert not done & component
        assert hedge.subforest == component
        assert is_hedge(hedge, without(query.graph, done), query.latent)
    assert all(done & component for done in error.thicket.setting)
    assert {done for done, _ in error.thicket.hedges} | {*error.thicket.setting} == set(map(frozenset, experiments))
    if not query.z:
        assert not is_identified(query, set(query.y), set(query.x), experiments)


def is_locally_determined(query: Query, experiments: list[tuple[str, ...]], rng: np.random.Generator) -> bool:
    """Return whether no small change of the mechanisms keeps the experiments, and changes the effect.

    The derivative of the effect in the entries of all tables is then a combination of those of the experiments.
    """
    world = World(query.graph, rng, size=lambda name: 4 if name in query.latent else 2)
    observed = [i for i, name in enumerate(world.names) if name not in query.latent]
    hidden = tuple(i for i in range(len(world.names)) if i not in observed)
    gone = tuple(i for i, name in enumerate(world.names) if name not in (*query.y, *query.x))
    rows, targets = [], []
    for name, table in world.tables.items():
        for place in np.ndindex(table.shape):
            change = np.zeros_like(table)
            change[place] = 1
            change -= table * change.sum(world.names.index(name), keepdims=True)
            world.tables[name] = change  # The joint is linear in each table.
            rows.append([world.joint(done).sum(hidden).ravel() * (name not in done) for done in experiments])
            targets.append(world.joint(query.x).sum(gone).ravel() * (name not in query.x))
            world.tables[name] = table
    jacobian, target = np.array([np.concatenate(row) for row in rows]), np.array(targets)
    solution = np.linalg.lstsq(jacobian, target, rcond=1e-10)[0]
    return bool(np.abs(jacobian @ solution - target).max() < 1e-7)


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_refusals_and_answers_agree_with_derivatives(count):
    """If refused, other mechanisms with the same experiments have another effect; if answered, none has."""
    rng = np.random.default_rng(33)
    counts = Counter()
    while min(counts[False], counts[True]) < count:
        query = random_query(rng, most_seen=0)
        if len(query.graph) > 6:
            continue
        experiments = random_experiments(rng, query)
        answered = isinstance(ask(query, experiments), ud.causal.Estimand)
        if counts[answered] < count:
            assert is_locally_determined(query, experiments, rng) == answered, (query, experiments)
            counts[answered] += 1


def test_each_equation_of_a_derivation_holds():
    rng = np.random.default_rng(34)
    factors = 0
    for _ in range(200):
        query = random_query(rng, most_seen=1)
        experiments = random_experiments(rng, query)
        world = World(query.graph, rng)
        for step in ask(query, experiments).derivation.steps:
            factors += step.rule == "gID, factors"
            if step.result is not None:
                left, right = (numbers(world, x) for x in (step.query, step.result))
                np.testing.assert_allclose(*np.broadcast_arrays(left, right), rtol=1e-8, err_msg=f"{query} {step}")
    assert factors > 40


# ------------------------------------------------------------------------------------------------------ named cases


@pytest.mark.parametrize(
    ("graph", "outcome", "do", "see", "latent", "experiments", "text"),
    [
        (FROG, "O", "A", (), "Theta", ["A"], "P(O | do(A))"),
        (FROG, "O", "A", (), "Theta", [(), "A"], "P(O | do(A))"),
        (FROG, "Theta", "A", "O", (), ["A"], "P(Theta | do(A), O)"),
        (SURROGATE, "O", "A", (), ("U", "V"), ["Z"], "P(O | do(Z), A)"),
        (FRONT_DOOR, "O", "A", (), "U", ["M", ()], "sum_M P(O | do(M)) P(M | A)"),
        (FRONT_DOOR, "O", "A", (), "U", ["M", "A"], "P(O | do(A))"),
        # Two experiments, each on one side of a chain (Lee, Correa & Bareinboim 2019, Section 1).
        (
            {"U": (), "V": (), "A": ("U",), "M": ("A", "U"), "B": ("V",), "O": ("M", "B", "V")},
            "O",
            ("A", "B"),
            (),
            ("U", "V"),
            ["A", "B"],
            "sum_M P(O | do(B), M) P(M | do(A))",
        ),
    ],
)
def test_estimands_name_their_experiments(graph, outcome, do, see, latent, experiments, text):
    assert str(ud.identify(graph, outcome, do=do, see=see, latent=latent, experiments=experiments)) == text


def test_z_identification_is_all_subsets_of_z():
    """Experiments on Z in all combinations; a surrogate that leaves the confounding in place does not help."""
    assert ud.identify(SURROGATE, "O", do="A", latent=("U", "V"), experiments=[(), "Z"]).experiments == {
        ("Z",): ("Z", "A", "O")
    }
    instrument = FROG | {"Z": (), "A": ("Theta", "Z")}
    with pytest.raises(ud.NotIdentifiable, match=r"do\(Z\) has the hedge F = {A, O}, F' = {O}"):
        ud.identify(instrument, "O", do="A", latent="Theta", experiments=[(), "Z"])


def test_an_experiment_on_the_outcome_says_nothing():
    with pytest.raises(ud.NotIdentifiable, match=r"requires P\(O \| do\(A\)\).*do\(O\) sets O") as caught:
        ud.identify(FROG, "O", do="A", latent="Theta", experiments=["O"])
    assert (caught.value.hedge, caught.value.thicket.setting) == (None, (frozenset("O"),))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.thicket) == (str(caught.value), caught.value.thicket)


def test_latex_names_the_experiment():
    answer = ud.identify(SURROGATE, "O", do="A", latent=("U", "V"), experiments=["Z"])
    assert answer.latex() == r"P(O \mid \mathrm{do}(Z), A)"


def test_observation_alone_is_the_default():
    for graph, latent in ((FROG, ()), (FRONT_DOOR, "U")):
        default = ud.identify(graph, "O", do="A", latent=latent)
        assert default == ud.identify(graph, "O", do="A", latent=latent, experiments=[()])


def test_model_identifies_from_experiments():
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    answer = frog.identify("O_1", do="A_1", latent="Theta", experiments=["A_1"])
    table = np.array([frog.query("O_1", do={"A_1": a}) for a in (0, 1)])
    np.testing.assert_allclose(answer.evaluate({"A_1": (table, ("A_1", "O_1"))}), 0.5)
    with pytest.raises(ValueError, match="its axis for A_1 has length 3"):
        answer.evaluate({"A_1": (np.ones((3, 2)), ("A_1", "O_1"))})


# ------------------------------------------------------------------------------------------------------- evaluation


def test_counts_of_an_experiment_are_normalised_for_each_value_set():
    answer = ud.identify(FROG, "O", do="A", latent="Theta", experiments=["A"])
    found = answer.evaluate({"A": ([[30, 10], [1, 1], [0, 0]], ("A", "O"))})
    np.testing.assert_allclose(found, [[0.75, 0.5, np.nan], [0.25, 0.5, np.nan]])


def test_values_that_no_experiment_set_are_left_out_of_an_average():
    """The value of Z does not matter; Z = 1 was never set."""
    answer = ud.identify(SURROGATE, "O", do="A", latent=("U", "V"), experiments=["Z"])
    assert answer.free == ("Z",)
    table = np.array([[[3, 1], [1, 3]], [[0, 0], [0, 0]]])  # [Z, A, O]
    np.testing.assert_allclose(answer.evaluate({"Z": (table, ("Z", "A", "O"))}), [[0.75, 0.25], [0.25, 0.75]])


@pytest.mark.parametrize(
    ("joint", "names", "message"),
    [
        ({"A": ([[1, 1], [1, 1]], ("A", "O"))}, None, r"no table of P\(A, O \| do\(Z\)\)"),
        ({"Z": (np.ones((2, 2)), ("A", "O"))}, None, r"joint of do\(Z\) has no axis for Z, which the experiment sets"),
        ({"Z": (np.ones((2, 2)), ("Z", "O"))}, None, "no axis for A"),
        ({"Z": np.ones((2, 2, 2))}, None, "must be a table and its names"),
        ({"Z": (np.ones((2, 2, 2)), ("Z", "A", "O"))}, ("Z", "A", "O"), "leave names out"),
        ({"Z": (np.zeros((2, 2, 2)), ("Z", "A", "O"))}, None, r"joint of do\(Z\) must hold .* not all zero"),
        ({"Z": (np.ones((2, 2, 2)), ("Z", "A", "O")), (): (np.ones(3), "A")}, None, "A has length 3, but A has 2"),
        ({"Z": (np.ones((2, 2, 2)), ("Z", "A", "O")), ("Z",): (np.ones(2), "Z")}, None, "is given twice"),
        (np.ones((2, 2, 2)), ("Z", "A", "O"), r"no table of P\(A, O \| do\(Z\)\)"),
        (np.ones((2, 2, 2)), None, "names is missing"),
    ],
)
def test_wrong_tables_raise(joint, names, message):
    answer = ud.identify(SURROGATE, "O", do="A", latent=("U", "V"), experiments=["Z"])
    with pytest.raises(ValueError, match=message):
        answer.evaluate(joint, names)


@pytest.mark.parametrize(
    ("experiments", "error", "message"),
    [
        ("A", TypeError, "a list with the variables of each experiment"),
        (3, TypeError, "a list with the variables of each experiment"),
        ([], ValueError, r"\[\(\)\] is observation alone"),
        (["Theta"], ValueError, "Theta is both latent and set"),
        (["B"], ValueError, "'B' is not in the graph"),
    ],
)
def test_wrong_experiments_raise(experiments, error, message):
    with pytest.raises(error, match=message):
        ud.identify(FROG, "O", do="A", latent="Theta", experiments=experiments)


def test_any_table_tells_the_values_of_a_variable_that_does_not_matter():
    graph = {"W": (), "U": (), "A": ("U",), "O": ("A", "U")}
    effect = ud.identify(graph, "O", do=("A", "W"), latent="U", experiments=["A", ()])
    table = np.array([[0.4, 0.1], [0.2, 0.3]])
    joint = {"A": (table, ("A", "O")), (): ([0.2, 0.3, 0.5], "W")}
    expected = np.repeat((table / table.sum(1, keepdims=True)).T[..., None], 3, -1)
    np.testing.assert_allclose(effect.evaluate(joint), expected)
    with pytest.raises(ValueError, match="no axis for W"):
        effect.evaluate({"A": (table, ("A", "O"))})
