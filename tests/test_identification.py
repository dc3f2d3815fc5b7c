"""ID and IDC: estimands against surgery on the full model, refusals against the definition of a hedge and pyAgrum."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import pytest

import undelude as ud
from undelude.causal._expressions.expression import Fraction, Probability, Product, Sum, fraction, product, sum_over
from undelude.causal._identifying.estimand import Estimand
from undelude.causal._identifying.hedge import Hedge, NotIdentifiable
from undelude.causal._identifying.identification import identify
from undelude.causal._model.model import CausalModel
from undelude.causal._names import Parents
from undelude.causal._variables.variable import Variable

FROG = {"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}
BACK_DOOR = {"Z": (), "A": ("Z",), "O": ("Z", "A")}
FRONT_DOOR = {"U": (), "A": ("U",), "M": ("A",), "O": ("U", "M")}
NAPKIN = {"U": (), "V": (), "W": ("U", "V"), "R": ("W",), "A": ("R", "U"), "O": ("A", "V")}
VERMA = {"U": (), "A": (), "B": ("A", "U"), "C": ("B",), "D": ("C", "U")}
M_BIAS = {"U": (), "V": (), "M": ("U", "V"), "A": ("U",), "O": ("V", "A")}


class Query(NamedTuple):
    """`P(y | do(x), z)` in a graph with hidden variables."""

    graph: Parents
    latent: tuple[str, ...]
    y: tuple[str, ...]
    x: tuple[str, ...]
    z: tuple[str, ...]

    def ask(self) -> Estimand | NotIdentifiable:
        try:
            return identify(self.graph, self.y, do=self.x, see=self.z, latent=self.latent)
        except NotIdentifiable as error:
            return error


def random_query(rng: np.random.Generator, *, most_seen: int) -> Query:
    """Return a query with three to five observed variables; a hidden one has two or three effects, rarely a cause."""
    n = int(rng.integers(3, 6))
    names = [f"X{i}" for i in range(n)]
    parents = {
        x: [p for p in names[:i] if rng.random() < (0.8 if p == names[i - 1] else 0.25)] for i, x in enumerate(names)
    }
    hidden = [f"U{i}" for i in range(rng.integers(1, 4))]
    for u in hidden:
        effects = np.sort(rng.choice(n, 2 + (n > 3 and rng.random() < 0.2), replace=False))
        for i in effects:
            parents[names[i]].append(u)
        parents[u] = [x for x in names[: effects[0]] if rng.random() < 0.2]
    y = names[-1 - (rng.random() < 0.3) :] if rng.random() < 0.8 else rng.choice(names, 1).tolist()
    rest = rng.permutation([x for x in names if x not in y]).tolist()
    x = rest[: 1 + (rng.random() < 0.3)]
    z = rest[len(x) :][: rng.integers(most_seen + 1)]
    graph = {x: tuple(parents[x]) for x in rng.permutation(list(parents)).tolist()}
    return Query(graph, tuple(hidden), tuple(y), tuple(x), tuple(z))


class World:
    """Random tables for a graph; the joint distribution before and after surgery is their product."""

    def __init__(
        self,
        graph: Parents,
        rng: np.random.Generator,
        *,
        zeros: float = 0.0,
        size: Callable[[str], int] | None = None,
    ):
        self.names = list(graph)
        self.sizes = {x: size(x) if size else int(rng.integers(2, 4)) for x in graph}
        self.tables = {}
        for x, parents in graph.items():
            shape = tuple(self.sizes[p] for p in parents)
            table = rng.dirichlet(np.ones(self.sizes[x]), size=shape)
            table = np.where(rng.random(table.shape) < zeros, 0, table)
            table[table.sum(-1) == 0] = 1
            axes = [self.names.index(y) for y in (*parents, x)]
            placed = [self.sizes[y] if y in (*parents, x) else 1 for y in self.names]
            self.tables[x] = (table / table.sum(-1, keepdims=True)).transpose(np.argsort(axes)).reshape(placed)

    def joint(self, do: tuple[str, ...] = ()) -> np.ndarray:
        """Return the joint of all variables; it sums to one for each value of the done variables."""
        x = np.ones([self.sizes[name] for name in self.names])
        for name, table in self.tables.items():
            if name not in do:
                x = x * table
        return x

    def table(self, joint: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        places = [self.names.index(x) for x in names]
        kept = joint.sum(tuple(i for i in range(joint.ndim) if i not in places))
        return kept.transpose(np.argsort(np.argsort(places)))

    def observed(self, query: Query) -> tuple[np.ndarray, tuple[str, ...]]:
        names = tuple(x for x in self.names if x not in query.latent)
        return self.table(self.joint(), names), names

    def surgery(self, query: Query) -> np.ndarray:
        joint = self.table(self.joint(query.x), (*query.y, *query.z, *query.x))
        with np.errstate(invalid="ignore"):
            return joint / joint.sum(tuple(range(len(query.y))), keepdims=True)


# ------------------------------------------------------------------------------------ the definition of a hedge


def simple_paths(
    graph: Parents, a: str, b: str, inner: tuple[str, ...], walked: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield the simple paths from `a` to `b` whose nodes in between are in `inner`."""
    walked = (*walked, a)
    if a == b:
        yield walked
    else:
        for x in (*inner, b):
            if x not in walked and (x in graph[a] or a in graph[x]):
                yield from simple_paths(graph, x, b, inner, walked)


def projection(graph: Parents, latent: tuple[str, ...]) -> tuple[set[tuple[str, str]], set[frozenset[str]]]:
    """Return the arrows and bidirected pairs among the observed variables, from the definition by paths."""
    arrows, pairs = set(), set()
    for u, v in combinations([x for x in graph if x not in latent], 2):
        for path in simple_paths(graph, u, v, latent):
            forward = [x in graph[y] for x, y in pairwise(path)]
            if any(into and not out for into, out in pairwise(forward)):  # A collider.
                continue
            if all(forward):
                arrows.add((u, v))
            elif not any(forward):
                arrows.add((v, u))
            elif not forward[0] and forward[-1]:
                pairs.add(frozenset((u, v)))
    return arrows, pairs


def is_c_forest(
    nodes: frozenset[str], arrows: set[tuple[str, str]], pairs: set[frozenset[str]], roots: frozenset[str]
) -> bool:
    """Return whether `nodes` are one c-component, each with at most one child, and `roots` those without a child."""
    joined = {min(nodes)} if nodes else set()
    for _ in nodes:
        joined |= {x for x in nodes for y in joined if frozenset((x, y)) in pairs}
    sources = Counter(x for x, _ in arrows)
    return bool(nodes) and joined == nodes and max(sources.values(), default=1) == 1 and roots == nodes - set(sources)


def is_hedge(hedge: Hedge, graph: Parents, latent: tuple[str, ...]) -> bool:
    """Return whether it is a hedge for `P(hedge.asked | do(hedge.do))` (Shpitser & Pearl 2006, Definition 6)."""
    arrows, pairs = projection(graph, latent)
    causes = set(hedge.asked)
    for _ in graph:
        causes |= {x for x, y in arrows if y in causes and y not in hedge.do}
    inner = {(x, y) for x, y in hedge.arrows if x in hedge.subforest}
    return (
        hedge.arrows <= arrows
        and all(x in hedge.forest and y in hedge.forest for x, y in hedge.arrows)
        and all(y in hedge.subforest for _, y in inner)
        and is_c_forest(hedge.forest, set(hedge.arrows), pairs, hedge.roots)
        and is_c_forest(hedge.subforest, inner, pairs, hedge.roots)
        and hedge.subforest <= hedge.forest
        and bool(hedge.forest & hedge.do)
        and not hedge.subforest & hedge.do
        and hedge.roots <= causes
    )


def test_hedge_checker_rejects_wrong_hedges():
    arrow, pair = frozenset({("A", "O")}), ((frozenset("AO"), frozenset({"Theta"})),)
    right = Hedge(frozenset("O"), frozenset("A"), frozenset("O"), frozenset("AO"), frozenset("O"), arrow, pair)
    assert is_hedge(right, FROG, ("Theta",))
    assert not is_hedge(right, FROG, ())
    assert not is_hedge(right, {"Theta": (), "A": ("Theta",), "O": ("A",)}, ("Theta",))
    wrong = Hedge(frozenset("A"), frozenset("O"), frozenset("O"), frozenset("AO"), frozenset("O"), arrow, pair)
    assert not is_hedge(wrong, FROG, ("Theta",))


# -------------------------------------------------------------------------------------------------- random graphs


@pytest.mark.parametrize("most_seen", [0, 2])
def test_estimand_equals_surgery(most_seen):
    """An estimand equals surgery; a query without an estimand raises a hedge."""
    rng = np.random.default_rng(most_seen)
    counts = Counter()
    for _ in range(500):
        query = random_query(rng, most_seen=most_seen)
        answer = query.ask()
        if isinstance(answer, NotIdentifiable):
            assert is_hedge(answer.hedge, query.graph, query.latent), (query, answer)
            assert answer.hedge.do >= set(query.x)
            assert answer.hedge.asked >= set(query.y)
            assert answer.hedge.do | answer.hedge.asked == {*query.x, *query.y, *query.z}
        else:
            world = World(query.graph, rng)
            found = answer.evaluate(*world.observed(query))
            np.testing.assert_allclose(found, world.surgery(query), rtol=0, atol=1e-9, err_msg=f"{query} {answer}")
        counts[type(getattr(answer, "expression", answer))] += 1
    assert counts[NotIdentifiable] > 100
    assert counts[Sum] + counts[Product] + counts[Fraction] > 40


def test_joint_effect_equals_surgery():
    """The outcome is all other observed variables, so that ID cannot be replaced by conditioning or adjustment."""
    rng = np.random.default_rng(5)
    counts = Counter()
    for _ in range(300):
        query = random_query(rng, most_seen=0)
        query = query._replace(y=tuple(x for x in query.graph if x not in (*query.latent, *query.x)))
        answer = query.ask()
        if isinstance(answer, Estimand):
            world = World(query.graph, rng)
            found = answer.evaluate(*world.observed(query))
            np.testing.assert_allclose(found, world.surgery(query), rtol=0, atol=1e-9, err_msg=f"{query} {answer}")
        counts[type(getattr(answer, "expression", answer))] += 1
    assert counts[Product] > 50


def test_estimand_without_positivity():
    """If positivity fails, an estimand equals surgery or is nan."""
    rng = np.random.default_rng(7)
    counts = Counter()
    for _ in range(300):
        query = random_query(rng, most_seen=1)
        answer = query.ask()
        if isinstance(answer, Estimand):
            world = World(query.graph, rng, zeros=0.35)
            found, true = answer.evaluate(*world.observed(query)), world.surgery(query)
            known = ~np.isnan(found) & ~np.isnan(true)
            np.testing.assert_allclose(found[known], true[known], rtol=0, atol=1e-9, err_msg=f"{query} {answer}")
            counts["known"] += known.sum()
            counts["nan"] += np.isnan(found).sum()
    assert min(counts.values()) > 300


class Peer:
    """Identifiability by pyAgrum, of unconditional queries (it accepts some conditional queries wrongly)."""

    def __init__(self) -> None:
        self.gum = pytest.importorskip("pyagrum")

    def identifiable(self, query: Query, y: Iterable[str], x: Iterable[str]) -> bool:
        arrows, pairs = projection(query.graph, query.latent)
        net = self.gum.BayesNet()
        for name in query.graph:
            if name not in query.latent:
                net.add(self.gum.LabelizedVariable(name, name, 2))
        for arrow in sorted(arrows):
            net.addArc(*arrow)
        net.generateCPTs()
        latents = [(f"L{i}", tuple(sorted(pair))) for i, pair in enumerate(sorted(pairs, key=sorted))]
        model = self.gum.CausalModel(net, latents, True)  # Refers to `net`, which must outlive it.
        return self.gum.causalImpact(model, on=set(y), doing=set(x))[1] is not None


# pyAgrum's wrappers warn, and crash if a warning is an error.
@pytest.mark.filterwarnings("ignore")
def test_identifiability_agrees_with_pyagrum():
    peer = Peer()
    rng = np.random.default_rng(10)
    for _ in range(300):
        query = random_query(rng, most_seen=0)
        assert peer.identifiable(query, query.y, query.x) == isinstance(query.ask(), Estimand), query


@pytest.mark.filterwarnings("ignore")
def test_idc_is_complete():
    """If IDC fails, rule 2 applies no more, and the joint effect on outcome and evidence is not identifiable."""
    peer, nx = Peer(), pytest.importorskip("networkx")
    rng = np.random.default_rng(11)
    failed = 0
    for _ in range(300):
        query = random_query(rng, most_seen=2)
        answer = query.ask()
        if query.z and isinstance(answer, NotIdentifiable):
            done, seen = answer.hedge.do, answer.hedge.asked - set(query.y)
            for name in seen:
                arrows = [(p, x) for x in query.graph for p in query.graph[x] if x not in done and p != name]
                cut = nx.DiGraph(arrows)
                cut.add_nodes_from(query.graph)
                assert not nx.is_d_separator(cut, set(query.y), {name}, set(done | seen) - {name})
            assert not peer.identifiable(query, answer.hedge.asked, done), query
            failed += 1
    assert failed > 50


# ---------------------------------------------------------------------------------------------------- named cases


@pytest.mark.parametrize(
    ("graph", "outcome", "do", "see", "latent", "text"),
    [
        (FROG, "O", (), (), ("Theta",), "P(O)"),
        (FROG, "O", (), "A", ("Theta",), "P(O | A)"),
        (FROG, "Theta", "A", (), (), "P(Theta)"),
        (FROG, ("Theta", "O"), "A", (), (), "P(O | A, Theta) P(Theta)"),
        (FROG, "O", "A", "Theta", (), "P(O | A, Theta)"),
        (FROG, "Theta", "A", "O", (), "[P(O | A, Theta) P(Theta)] / [sum_Theta' P(O | A, Theta') P(Theta')]"),
        ({"A": (), "O": ("A",)}, "O", "A", (), (), "P(O | A)"),
        ({"A": (), "Z": (), "O": ("A", "Z")}, "O", "A", (), (), "P(O | A)"),
        ({"A": (), "M": ("A",), "O": ("M",)}, "O", "A", (), (), "P(O | A)"),
        (BACK_DOOR, "O", "A", (), (), "sum_Z P(O | A, Z) P(Z)"),
        (BACK_DOOR, "A", "O", (), (), "P(A)"),
        (BACK_DOOR | {"D": ("Z", "O")}, ("O", "D"), "A", (), (), "sum_Z P(D | O, Z) P(O | A, Z) P(Z)"),
        (
            {"X": (), "Y": ("X",), "A": ("X", "Y"), "O": ("A", "X", "Y"), "D": ("A", "O")},
            ("O", "D"),
            "A",
            (),
            (),
            "P(D | A, O) sum_{X, Y} P(O | A, Y, X) P(X, Y)",
        ),
        (FRONT_DOOR, "O", "A", (), "U", "sum_M P(M | A) sum_A' P(O | A', M) P(A')"),
        (NAPKIN, "O", "A", (), ("U", "V"), "[sum_W P(A, O | R, W) P(W)] / [sum_W P(A | R, W) P(W)]"),
        (VERMA, ("C", "D"), ("A", "B"), (), "U", "P(C | B) sum_B' P(D | B', A, C) P(B' | A)"),
        (M_BIAS, "O", "A", (), ("U", "V"), "P(O | A)"),
        (
            {"U": (), "V": (), "Z": ("U", "V"), "A": ("Z", "U"), "O": ("A",), "D": ("V",)},
            ("O", "D"),
            "A",
            "Z",
            ("U", "V"),
            "P(D | Z) P(O | A)",
        ),
        (
            {"U": (), "V": (), "A": ("U", "V"), "Z": ("A",), "O": ("Z", "V"), "D": ("O", "U")},
            ("O", "D"),
            "A",
            "Z",
            ("U", "V"),
            "sum_A' P(O, D | A', Z) P(A')",
        ),
        (
            {"X": (), "Y": (), "A": ("X", "Y"), "O": ("A", "X", "Y")},
            "O",
            "A",
            (),
            (),
            "sum_{X, Y} P(O | A, Y, X) P(X, Y)",
        ),
    ],
)
def test_estimands_print_as_in_textbooks(graph, outcome, do, see, latent, text):
    assert str(identify(graph, outcome, do=do, see=see, latent=latent)) == text


def test_division_enters_a_sum():
    """sum_m P(o | a, m) P(m, z) / P(z) = sum_m P(o | a, m) P(m | z)."""
    outcome = Probability(frozenset("O"), frozenset("AM"))
    joint = sum_over(frozenset("M"), product([outcome, Probability(frozenset("MZ"))]))
    expected = Sum(frozenset("M"), Product((outcome, Probability(frozenset("M"), frozenset("Z")))))
    assert fraction(joint, Probability(frozenset("Z"))) == expected


def test_napkin_has_a_free_variable():
    assert identify(NAPKIN, "O", do="A", latent=("U", "V")).free == ("R",)


def test_prize_or_frog_hedge():
    with pytest.raises(NotIdentifiable) as caught:
        identify(FROG, "O", do="A", latent="Theta")
    hedge = caught.value.hedge
    assert (hedge.forest, hedge.subforest, hedge.roots, hedge.do) == ({"A", "O"}, {"O"}, {"O"}, {"A"})
    assert hedge.arrows == {("A", "O")}
    assert hedge.bidirected == ((frozenset("AO"), frozenset({"Theta"})),)


def test_not_identifiable_message():
    with pytest.raises(NotIdentifiable) as caught:
        identify(FROG, "O", do="A", latent="Theta")
    for part in (
        "P(O | do(A))",
        "Theta, hidden, reaches A and O",
        "F = {A, O}, F' = {O}",
        "Observe the hidden variables (Theta), set A in an experiment",
    ):
        assert part in str(caught.value)


def test_hedge_hides_different_effects():
    """Two models, A = Theta with O = (A = Theta) or O = 1: the same observed distribution, different effects."""
    same = [[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]  # [Theta, A, O]
    always = np.broadcast_to([0.0, 1.0], (2, 2, 2))
    distribution = np.array([0.5, 0.5])
    for table, done in ((np.array(same), 0.5), (always, 1.0)):
        seen = np.einsum("t,ta,tao->ao", distribution, np.eye(2), table)
        np.testing.assert_allclose(seen, [[0, 0.5], [0, 0.5]])
        assert np.einsum("t,tao->ao", distribution, table)[0, 1] == done


def test_rule_2_replaces_see_by_do():
    """O is the only cause of Z, so that seeing O equals doing O."""
    graph = FROG | {"Z": ("O",)}
    assert str(identify(graph, "Z", do="A", see="O", latent="Theta")) == "P(Z | O)"


def test_hedge_of_a_conditional_query():
    graph = FROG | {"Z": ("O",)}
    with pytest.raises(NotIdentifiable, match=r"requires P\(O, Z \| do\(A\)\)") as caught:
        identify(graph, "O", do="A", see="Z", latent="Theta")
    assert caught.value.hedge.asked == {"O", "Z"}


def test_collider_in_evidence_prevents_identification():
    assert str(identify(M_BIAS, "O", do="A", latent=("U", "V"))) == "P(O | A)"
    with pytest.raises(NotIdentifiable, match="U, hidden, reaches M and A; V, hidden, reaches M and O"):
        identify(M_BIAS, "O", do="A", see="M", latent=("U", "V"))


def test_hedge_of_a_long_interaction_is_small():
    """Twenty rounds with a hidden Theta; the hedge is in the last round."""
    graph: dict[str, tuple[str, ...]] = {"Theta": ()}
    for t in range(1, 21):
        past = tuple(graph)
        graph |= {f"A_{t}": past, f"O_{t}": (*past, f"A_{t}")}
    with pytest.raises(NotIdentifiable) as caught:
        identify(graph, "O_20", do="A_20", latent="Theta")
    assert caught.value.hedge.forest == {"A_20", "O_20"}
    assert caught.value.hedge.subforest == {"O_20"}
    with pytest.raises(
        NotIdentifiable, match=r"P\(A_20 \| do\(A_1\), do\(A_2\), do\(A_3\), \.\.\., do\(A_19\)\) cannot"
    ):
        identify(graph, "A_20", do=[f"A_{t}" for t in range(1, 20)], latent="Theta")


def test_hidden_causes_are_forks():
    graph = {"T": (), "U": ("T",), "A": ("U",), "O": ("U", "A")}
    with pytest.raises(NotIdentifiable) as caught:
        identify(graph, "O", do="A", latent=("T", "U"))
    assert caught.value.hedge.bidirected == ((frozenset("AO"), frozenset("U")),)


def test_observed_theta_identifies_the_effect():
    answer = identify(FROG, "O", do="A")
    joint = np.zeros((2, 2, 2))  # [Theta, A, O], with an expert that errs
    for theta in range(2):
        for a in range(2):
            joint[theta, a, int(theta == a)] = 0.5 * (0.9 if theta == a else 0.1)
    np.testing.assert_allclose(answer.evaluate(joint, ("Theta", "A", "O")), 0.5)


def test_identify_among_200_variables():
    graph = {f"X{i}": (f"X{i - 1}",) if i else () for i in range(200)}
    assert str(identify(graph, "X150", do="X100")) == "P(X150 | X100)"
    assert str(identify(graph, "X150", do=("X100", "X20"))) == "P(X150 | X100)"


# ------------------------------------------------------------------------------------------------------- evaluation


def test_evaluate_normalises_counts():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, size=(2, 3, 2))
    answer = identify(BACK_DOOR, "O", do="A")
    found = answer.evaluate(counts, ("Z", "A", "O"))
    p = counts / counts.sum()
    expected = np.einsum("zao,z->oa", p / p.sum(2, keepdims=True), p.sum((1, 2)))
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found, answer.evaluate(p, ("Z", "A", "O")))


def test_evaluate_takes_axes_in_any_order():
    p = np.random.default_rng(1).dirichlet(np.ones(24)).reshape(2, 3, 2, 2)
    answer = identify(BACK_DOOR | {"D": ("O",)}, "O", do="A")
    np.testing.assert_allclose(
        answer.evaluate(p, ("Z", "A", "O", "D")), answer.evaluate(p.transpose(3, 1, 0, 2), ("D", "A", "Z", "O"))
    )


def test_evaluate_needs_exactly_names():
    answer = identify(FRONT_DOOR | {"D": ("O",)}, "O", do="A", latent="U")
    assert answer.names == ("A", "M", "O")
    joint = np.full((2, 2, 2), 1 / 8)
    np.testing.assert_allclose(answer.evaluate(joint, answer.names), 0.5)
    for name in answer.names:
        with pytest.raises(ValueError, match=f"no axis for {name}"):
            answer.evaluate(joint[0], [x for x in answer.names if x != name])


def test_estimand_of_a_model_rejects_axes_of_other_lengths():
    """The estimand of a model knows how many values each variable has; that of a graph does not."""
    rng = np.random.default_rng(3)
    sizes, parents = {"Z": 2, "A": 3, "O": 2}, BACK_DOOR
    model = CausalModel(
        Variable(x, range(sizes[x]), above, table=rng.dirichlet(np.ones(sizes[x]), [sizes[p] for p in above]))
        for x, above in parents.items()
    )
    for answer in (model.identify("O", do="A"), model.marginal(model.names).identify("O", do="A")):
        found = answer.evaluate(model.query(answer.names), answer.names)
        for a in range(3):
            np.testing.assert_allclose(found[:, a], model.query("O", do={"A": a}), rtol=1e-5)
        with pytest.raises(ValueError, match="its axis for Z has length 3, but Z has 2 values"):
            answer.evaluate(np.asarray(model.query(("A", "Z", "O"))), ("Z", "A", "O"))
        with pytest.raises(ValueError, match="its axis for A has length 2, but A has 3 values"):
            answer.evaluate(np.asarray(model.query(("Z", "O", "A"))), ("Z", "A", "O"))
    swapped = identify(parents, "O", do="A").evaluate(np.asarray(model.query(("A", "Z", "O"))), ("Z", "A", "O"))
    assert swapped.shape == (2, 2)


def test_evaluate_axes_are_outcome_see_do():
    graph = {"A": (), "Z": (), "O": ("A", "Z")}
    p = np.random.default_rng(2).dirichlet(np.ones(24)).reshape(2, 3, 4)
    found = identify(graph, "O", do="A", see="Z").evaluate(p, ("A", "Z", "O"))
    np.testing.assert_allclose(found, (p / p.sum(2, keepdims=True)).transpose(2, 1, 0))


def test_evaluate_keeps_axis_of_idle_do():
    found = identify(FROG, "Theta", do="A").evaluate(np.full((2, 3, 2), 1 / 12), ("Theta", "A", "O"))
    np.testing.assert_allclose(found, np.full((2, 3), 0.5))


def test_evaluate_is_nan_without_positivity():
    """Theta = 0 never leads to A = 1, so the effect of A = 1 is unknown; that of A = 0 is known."""
    p = np.array([[[0.2, 0.2], [0.0, 0.0]], [[0.1, 0.2], [0.1, 0.2]]])  # [Theta, A, O]
    found = identify(FROG, "O", do="A").evaluate(p, ("Theta", "A", "O"))
    np.testing.assert_allclose(found[:, 0], [0.4 * 0.5 + 0.6 / 3, 0.4 * 0.5 + 0.6 * 2 / 3])
    assert np.isnan(found[:, 1]).all()


def test_evaluate_ignores_values_without_mass():
    """A value of the confounder without mass adds nothing to the sum."""
    p = np.array([[[0.25, 0.25], [0.25, 0.25]], [[0.0, 0.0], [0.0, 0.0]]])  # [Theta, A, O]
    np.testing.assert_allclose(identify(FROG, "O", do="A").evaluate(p, ("Theta", "A", "O")), 0.5)


@pytest.mark.parametrize(
    ("joint", "names", "message"),
    [
        (np.ones((2, 2)), ("Z", "A", "O"), r"shape \(2, 2\).* Z, A, O"),
        (np.ones((2, 2)), ("A", "O"), "joint has no axis for Z"),
        (np.ones((2, 2, 2)), ("A", "O", "A"), "twice: A, O, A"),
        (np.zeros((2, 2, 2)), ("Z", "A", "O"), "not all zero"),
        (-np.ones((2, 2, 2)), ("Z", "A", "O"), "none negative"),
        (np.full((2, 2, 2), np.nan), ("Z", "A", "O"), "finite"),
    ],
)
def test_invalid_joint_raises(joint, names, message):
    with pytest.raises(ValueError, match=message):
        identify(BACK_DOOR, "O", do="A").evaluate(joint, names)


# ---------------------------------------------------------------------------------------------- text and errors


def test_latex():
    assert identify(FRONT_DOOR, "O", do="A", latent="U").latex() == (
        r"\sum_{M} P(M \mid A) \, \sum_{A'} P(O \mid A', M) \, P(A')"
    )
    graph = {"Theta": (), "A_10": ("Theta",), "Out_1": ("Theta", "A_10")}
    assert identify(graph, ("Theta",), do="A_10", see="Out_1").latex() == (
        r"\frac{P(\mathrm{Out}_{1} \mid A_{10}, \Theta) \, P(\Theta)}"
        r"{\sum_{\Theta'} P(\mathrm{Out}_{1} \mid A_{10}, \Theta') \, P(\Theta')}"
    )


def test_notebooks_show_query_and_expression():
    assert identify({"Z": (), "A_1": ("Z",), "O": ("A_1", "Z")}, "O", do="A_1")._repr_latex_() == (
        r"$\displaystyle P(O \mid \mathrm{do}(A_{1})) = \sum_{Z} P(O \mid A_{1}, Z) \, P(Z)$"
    )


def test_repr_shows_the_query():
    assert repr(identify(FROG, "O", do="A", see="Theta")) == "Estimand: P(O | do(A), Theta) = P(O | A, Theta)"


def test_not_identifiable_is_picklable():
    with pytest.raises(NotIdentifiable) as caught:
        identify(FROG, "O", do="A", latent="Theta")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.hedge) == (str(caught.value), caught.value.hedge)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"asked": "o"}, "'o' is not in the graph"),
        ({"asked": "Thta"}, r"'Thta' is not in the graph; did you mean Theta\?"),
        ({"asked": "O", "do": "O"}, "O is both asked and done"),
        ({"asked": "O", "do": "A", "see": ("A",)}, "A is both done and seen"),
        ({"asked": "Theta", "latent": "Theta"}, "Theta is both asked and latent"),
        ({"asked": "O", "do": "Theta", "latent": "Theta"}, "Theta is both done and latent"),
        ({"asked": ()}, "nothing is asked"),
    ],
)
def test_invalid_query_raises(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        identify(FROG, **arguments)
    assert not isinstance(caught.value, NotIdentifiable)


def test_cycle_raises():
    with pytest.raises(ValueError, match="A -> O -> A"):
        identify({"A": ("O",), "O": ("A",)}, "O", do="A")


def test_one_reader_of_questions():
    """`identify` and `remedies` refuse the same questions with the same words."""
    wrong = [
        {"asked": ()},
        {"asked": "X"},
        {"asked": "O", "do": "O"},
        {"asked": {"O", "A"}},
        {"asked": "O", "see": {"A", "Theta"}},
    ]
    graph = ud.Graph(FROG)
    for arguments in wrong:
        messages = set()
        for ask in (partial(identify, graph), partial(ud.causal.remedies, graph), graph.identify):
            with pytest.raises(ValueError, match=r"\.$") as caught:
                ask(**arguments)
            messages.add(str(caught.value))
        assert len(messages) == 1, messages
