"""Section 2: prize or frog, equations 1 and 2, and Remarks 1 to 8, from the library's own objects."""

import itertools
from fractions import Fraction
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import processes
import undelude as ud
from answers import MARKS, after_action, all_predictions, belief, beliefs, predictions
from machines import process_of
from oracle import enumerate_joint, random_machine

SIGMAS = 4
BOXES = (1, 2)
BOTH = tuple(itertools.product(BOXES, BOXES))


@pytest.fixture(scope="module")
def boxes() -> ud.CausalModel:
    """Figure 1: prize or frog, with the paper's values."""
    return ud.CausalModel(
        [
            ud.Variable("Theta", BOXES, table=[1 / 2, 1 / 2]),
            ud.Variable("A", BOXES, parents="Theta", table=[[1, 0], [0, 1]]),
            ud.Variable("O", (-1, 1), parents=("Theta", "A"), table=[[[0, 1], [1, 0]], [[1, 0], [0, 1]]]),
        ]
    )


def three(prior: Any, expert: Any, content: Any, *, names: str = "Theta A O") -> ud.CausalModel:
    """Theta, A and O in the order of Figure 1, values counted from 0."""
    theta, a, o = names.split()
    tables = [np.asarray(x, float) for x in (prior, expert, content)]
    values = [range(table.shape[-1]) for table in tables]
    return ud.CausalModel(
        ud.Variable(name, v, parents=parents, table=table)
        for name, v, parents, table in zip((theta, a, o), values, ((), (theta,), (theta, a)), tables, strict=True)
    )


@pytest.mark.parametrize("a", BOXES)
def test_section_2_passive(boxes: ud.CausalModel, a: int):
    """Watching the expert: where Theta is seen only it is uncertain; where it is hidden, the action gives it away."""
    np.testing.assert_allclose(boxes.query("Theta"), [1 / 2, 1 / 2])
    np.testing.assert_allclose(boxes.query("A", see={"Theta": a}), np.equal(BOXES, a))
    np.testing.assert_allclose(boxes.query("O", see={"Theta": a, "A": a}), [0, 1])
    hidden = boxes.marginal(("A", "O"))
    np.testing.assert_allclose(hidden.query(("A", "O")), [[0, 1 / 2], [0, 1 / 2]])
    np.testing.assert_allclose(hidden.query("A"), [1 / 2, 1 / 2])
    np.testing.assert_allclose(hidden.query("O", see={"A": a}), [0, 1])
    np.testing.assert_allclose(boxes.query("Theta", see={"A": a}), np.equal(BOXES, a))


@pytest.mark.parametrize(("theta", "a"), BOTH)
def test_section_2_interactive(boxes: ud.CausalModel, theta: int, a: int):
    """Acting: where Theta is seen the outcome is known; where it is hidden, `P(Theta | do(a)) = P(Theta)`."""
    np.testing.assert_allclose(boxes.query("O", see={"Theta": theta}, do={"A": a}), [theta != a, theta == a])
    np.testing.assert_allclose(boxes.query("Theta", do={"A": a}), [1 / 2, 1 / 2])
    np.testing.assert_allclose(boxes.query("O", do={"A": a}), [1 / 2, 1 / 2])
    # The expert never takes the other box, so that there is nothing to condition on.
    if theta == a:
        np.testing.assert_allclose(boxes.query("O", see={"Theta": theta, "A": a}), [0, 1])
    else:
        with pytest.raises(ValueError, match=r"impossible evidence: the model gives Theta=., A=. no"):
            boxes.query("O", see={"Theta": theta, "A": a})


def test_section_2_back_door(boxes: ud.CausalModel):
    """`P(o | do(a)) = sum_theta P(o | theta, a) P(theta)`: found from the graph, and lost where Theta is hidden."""
    assert boxes.back_door("A", "O") == (frozenset({"Theta"}),)
    assert boxes.back_door("A", "O", latent="Theta") == ()
    estimand = boxes.identify("O", do="A")
    assert str(estimand) == "sum_Theta P(O | A, Theta) P(Theta)"
    # From the joint of an expert who errs, as the estimand asks for mass everywhere: the content stays the paper's.
    joint = np.zeros((2, 2, 2))
    for theta, a in itertools.product(range(2), repeat=2):
        joint[theta, a, int(theta == a)] = 9 / 20 if theta == a else 1 / 20
    np.testing.assert_allclose(estimand.evaluate(joint, ("Theta", "A", "O")), np.full((2, 2), 1 / 2), atol=1e-12)
    with pytest.raises(ud.NotIdentifiable) as refused:
        boxes.identify("O", do="A", latent="Theta")
    hedge = refused.value.hedge
    assert (hedge.forest, hedge.subforest, hedge.roots) == ({"A", "O"}, {"O"}, {"O"})
    assert hedge.bidirected == ((frozenset({"A", "O"}), frozenset({"Theta"})),)
    with pytest.raises(ud.NotIdentifiable, match="Theta, hidden, reaches A and O"):
        boxes.marginal(("A", "O")).query("O", do={"A": 1})


@pytest.mark.parametrize(
    ("given", "do", "open_paths", "independent"),
    [
        ((), (), ["A <- Theta -> O", "A -> O"], False),  # a, conditioning
        ((), "A", ["A -> O"], True),  # b, intervening
        ("Theta", (), ["A -> O"], None),  # c, fully observed
        ("Theta", "A", ["A -> O"], None),
    ],
)
def test_figure_2_paths(boxes: ud.CausalModel, given: Any, do: Any, open_paths: list[str], independent: bool | None):
    """Which way information flows between the action and the outcome, and whether it flows back to Theta."""
    paths = boxes.paths("A", "O", given=given, do=do)
    assert [str(path) for path in paths if path.is_open] == open_paths
    if independent is not None:
        assert boxes.d_separated("Theta", "A", do=do) is independent


def test_eq_1(frog: ud.InteractionProcess):
    """`P(a) = sum_theta P(a | theta) P(theta) = 1/2`."""
    P_A, _ = predictions(ud.ExactAgent(frog), ud.Episodes.of(frog, actions=[0], observations=[0]))
    np.testing.assert_allclose(P_A.probs, [[1 / 2, 1 / 2]])


@pytest.mark.parametrize("a", [0, 1])
def test_section_2_self_delusion(frog: ud.InteractionProcess, a: int):
    """Conditioning on the action: `P(theta | a)` is certain, and so is the prize: `P(O = 1 | a) = 1` for either box."""
    P_theta, P_O = after_action(frog, "see", a)
    np.testing.assert_allclose(P_theta, np.arange(2) == a)
    np.testing.assert_allclose(P_O, [0, 1])


@pytest.mark.parametrize("a", [0, 1])
def test_section_2_addressing_the_delusion(frog: ud.InteractionProcess, a: int):
    """`P(theta | do(a)) = P(theta)`, and by the back-door adjustment `P(O | do(a)) = 1/2`."""
    P_theta, P_O = after_action(frog, "do", a)
    np.testing.assert_allclose(P_theta, [1 / 2, 1 / 2])
    np.testing.assert_allclose(P_O, [1 / 2, 1 / 2])


class ShownTask(ud.AbstractTask[Array]):
    """Prize or frog whose opening shows theta: symbols 0 and 1 for the box, then 2 for the frog and 3 for the prize."""

    theta_free_memory: ClassVar[bool] = True

    def init(self, theta):
        return jnp.array(-1)

    def Q_O(self, theta, w):
        shown = jnp.where(w < 0, theta, 2 + (w == theta))
        return ud.Categorical(log_probs=jnp.log(jax.nn.one_hot(shown, 4)))

    def g_A(self, theta, a, w):
        return jnp.asarray(a)

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return jnp.where(o == 3, 1.0, -1.0)


@pytest.mark.parametrize("theta", [0, 1])
def test_section_2_fully_observable(frog: ud.InteractionProcess, theta: int):
    """Where Theta is seen, acting imitates the expert, and `P(O | Theta, A) = P(O | Theta, do(A))`."""
    shown = ud.InteractionProcess(frog.prior, frog.thetas, ShownTask(), frog.expert, num_rounds=1, opening=True)
    for a in (0, 1):
        for mark in (True, False) if a == theta else (True,):
            history = ud.Episodes.of(
                shown, opening=theta, actions=[a], observations=[2 + (a == theta)], intervened=mark
            )
            P_A, P_O = predictions(ud.ExactAgent(shown), history)
            np.testing.assert_allclose(P_A.probs[0], np.arange(2) == theta)
            np.testing.assert_allclose(P_O.probs[0], [1 / 2, 1 / 2, 0, 0])
            np.testing.assert_allclose(P_O.probs[1], [0, 0, a != theta, a == theta])


def test_eq_2(frog: ud.InteractionProcess):
    """Both posteriors of equation 2 for box 1: after a prize both are certain; after a frog, see is impossible."""
    np.testing.assert_allclose(belief(frog, "see", [0], [1]), [1, 0])
    np.testing.assert_allclose(belief(frog, "do", [0], [1]), [1, 0])
    np.testing.assert_allclose(belief(frog, "do", [0], [0]), [0, 1])
    with pytest.raises(ValueError, match="impossible evidence"):
        belief(frog, "see", [0], [0])


@pytest.mark.parametrize("a", BOXES)
def test_eq_2_by_surgery(boxes: ud.CausalModel, a: int):
    """The same from the causal model; what cannot be conditioned on is an error that says so."""
    np.testing.assert_allclose(boxes.query("Theta", see={"A": a, "O": 1}), np.equal(BOXES, a))
    np.testing.assert_allclose(boxes.query("Theta", do={"A": a}, see={"O": 1}), np.equal(BOXES, a))
    np.testing.assert_allclose(boxes.query("Theta", do={"A": a}, see={"O": -1}), np.not_equal(BOXES, a))
    with pytest.raises(ValueError, match=f"impossible evidence: the model gives A={a}, O=-1 no probability"):
        boxes.query("Theta", see={"A": a, "O": -1})


def other_order(p: Any = 0.5) -> ud.CausalModel:
    """Remark 1: A is chosen first, and the prize is put into that box."""
    return ud.CausalModel(
        [
            ud.Variable("A", BOXES, table=[p, 1 - p]),
            ud.Variable("Theta", BOXES, parents="A", table=[[1, 0], [0, 1]]),
            ud.Variable("O", (-1, 1), parents=("Theta", "A"), table=[[[0, 1], [1, 0]], [[1, 0], [0, 1]]]),
        ]
    )


@pytest.mark.parametrize("a", BOXES)
def test_remark_1(boxes: ud.CausalModel, a: int):
    """The same joint, the arrow between Theta and A turned round: `P(theta | do(a)) = P(theta | a)`, a point mass."""
    names = ("Theta", "A", "O")
    turned = other_order()
    np.testing.assert_allclose(turned.query(names), boxes.query(names))
    for x in ({"do": {"A": a}}, {"see": {"A": a}}):
        np.testing.assert_allclose(turned.query("Theta", **x), np.equal(BOXES, a))
        np.testing.assert_allclose(turned.query("O", **x), [0, 1])
    np.testing.assert_allclose(boxes.query("Theta", do={"A": a}), [1 / 2, 1 / 2])
    assert turned.back_door("A", "O") == (frozenset(),)


@pytest.mark.parametrize(
    ("evidence", "turned"),
    [
        ([], Fraction(1, 2)),
        ([("do", 1, 1)], Fraction(2, 3)),
        ([("do", 2, 1)], Fraction(2, 3)),
        ([("do", 1, -1)], Fraction(0)),
        ([("see", 1, 1), ("see", 2, 1), ("see", 1, 1)], Fraction(1, 2)),
        ([("do", 1, 1), ("see", 2, 1), ("do", 1, 1), ("do", 2, 1)], Fraction(8, 9)),
    ],
)
def test_remark_1_which_order(boxes: ud.CausalModel, evidence: list[tuple[str, int, int]], turned: Fraction):
    """From 1/2 on each order: boxes that the expert opens say nothing, a prize in a box of one's own doubles the odds.

    A prize after do(a) has 1/2 under Theta -> A and 1 under A -> Theta; watched, box and prize have 1/2 under both.
    """
    weights = []
    for model in (boxes, other_order()):
        log_evidence = 0.0
        for mark, a, o in evidence:
            x = {"see": {"O": o}, "do": {"A": a}} if mark == "do" else {"see": {"A": a, "O": o}}
            log_evidence += float(model.log_prob(**x))
        weights.append(np.exp(log_evidence) / 2)
    assert weights[1] / sum(weights) == pytest.approx(float(turned))
    # Of the next box of one's own: P(O = +1 | do(a)) is 1/2 or 1.
    prize = sum(
        w * float(model.query("O", do={"A": 1})[1]) for w, model in zip(weights, (boxes, other_order()), strict=True)
    )
    assert prize / sum(weights) == pytest.approx(float((1 + turned) / 2))


def test_remark_2():
    """The same where the expert's choices and the outcomes are stochastic.

    Expert right with 4/5, content right with 2/3. P(theta = 1 | a = 1) = 4/5; P(O = 1 | a = 1) = 4/5 2/3 + 1/5 1/3 =
    3/5; under do, 1/2 and 1/2.
    """
    right = np.eye(2)
    pays = np.where(right == 1, 2 / 3, 1 / 3)
    process = ud.tasks.from_tables(
        prior=[0.5, 0.5], expert=np.where(right == 1, 4 / 5, 1 / 5), task=np.stack([1 - pays, pays], -1), num_rounds=1
    )
    (seen_theta, seen_O), (done_theta, done_O) = (after_action(process, mark, 0) for mark in ("see", "do"))
    np.testing.assert_allclose(seen_theta, [4 / 5, 1 / 5], rtol=1e-6)
    np.testing.assert_allclose(seen_O, [2 / 5, 3 / 5], rtol=1e-6)
    np.testing.assert_allclose(done_theta, [1 / 2, 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(done_O, [1 / 2, 1 / 2], rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_remark_2_in_general(seed: int):
    """Whatever the tables: seeing moves the belief by Bayes' rule, doing leaves it, the back-door formula is right."""
    rng = np.random.default_rng(seed)
    K, A, O = rng.integers(2, 5, 3)  # noqa: E741
    prior, expert, content = rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(A), K), rng.dirichlet(np.ones(O), (K, A))
    model = three(prior, expert, content)
    for a in range(A):
        seen = prior * expert[:, a] / (prior @ expert[:, a])
        np.testing.assert_allclose(model.query("Theta", see={"A": a}), seen, atol=1e-6)
        np.testing.assert_allclose(model.query("Theta", do={"A": a}), prior, atol=1e-6)
        np.testing.assert_allclose(model.query("O", see={"A": a}), seen @ content[:, a], atol=1e-6)
        np.testing.assert_allclose(model.query("O", do={"A": a}), prior @ content[:, a], atol=1e-6)
        assert np.abs(seen - prior).max() > 1e-3
        for theta in range(K):
            see, do = ({"Theta": theta, "A": a}, {}), ({"Theta": theta}, {"A": a})
            for s, d in (see, do):
                np.testing.assert_allclose(model.query("O", see=s, do=d), content[theta, a], atol=1e-6)


@pytest.mark.parametrize(("a", "o"), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)])
def test_remark_3(a: int, o: int):
    """The two posteriors differ by the evidence of the action: `P(theta | a, o) ~ P(theta | do(a), o) P(a | theta)`."""
    rng = np.random.default_rng(3)
    prior, expert, task = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3), 4), rng.dirichlet(np.ones(2), (4, 3))
    process = ud.tasks.from_tables(prior=prior, expert=expert, task=task, num_rounds=1)
    seen, done = (belief(process, mark, [a], [o]) for mark in ("see", "do"))
    by_hand = prior * task[:, a, o]
    np.testing.assert_allclose(done, by_hand / by_hand.sum(), rtol=1e-5)
    by_hand = by_hand * expert[:, a]
    np.testing.assert_allclose(seen, by_hand / by_hand.sum(), rtol=1e-5)
    np.testing.assert_allclose(seen, done * expert[:, a] / (done * expert[:, a]).sum(), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------ Remark 4


def controller(machine: Any, actions: np.ndarray, observations: np.ndarray) -> np.ndarray:
    """A belief filter `[T + 1, K]` in which an action picks the distribution of what follows, and no policy occurs."""
    theta, b, x = np.arange(len(machine.prior)), machine.prior, machine.task_start
    history = [b]
    for u, y in zip(actions, observations, strict=True):
        x = machine.task_reads_a[theta, u, x]
        b = b * machine.Q_O[theta, x, y]
        b = b / b.sum()
        x = machine.task_reads_o[theta, y, x]
        history.append(b)
    return np.stack(history)


@pytest.mark.parametrize("seed", [0, 1])
def test_remark_4(seed: int):
    """The controller's belief is `P(theta | do(a), o)` after every history, and so whatever brought its actions about.

    For behaviours that do not know theta it is also what Bayes' rule says of the loop that they close: by brute force
    over all trajectories, for one drawn at random, one that defies the expert, and one that always does the same. For
    the expert's own actions it is not: these are evidence, `P(theta | a, o)`.
    """
    rng = np.random.default_rng(seed)
    T, K, A = 3, 3, 2
    machine = random_machine(rng, K=K, A=A)
    joint = enumerate_joint(machine, T)
    # Theta is the slowest index: the same histories for each.
    actions, observations = (x.reshape(K, -1, T)[0] for x in (joint.actions, joint.observations))
    nature, expert = joint.nature.reshape(K, -1), joint.expert.prod(1).reshape(K, -1)
    filtered = np.stack([controller(machine, a, o) for a, o in zip(actions, observations, strict=True)])

    process = process_of(machine, num_rounds=T, theta_free=False)
    done, seen = (beliefs(process, actions, observations, intervened=mark == "do") for mark in MARKS)
    np.testing.assert_allclose(done, filtered, atol=1e-5)

    tables: dict[Any, np.ndarray] = {}

    def at_random(a: np.ndarray, o: np.ndarray, b: np.ndarray, advice: np.ndarray) -> np.ndarray:
        return tables.setdefault((*a, *o), rng.dirichlet(np.ones(A)))

    def adversary(a: np.ndarray, o: np.ndarray, b: np.ndarray, advice: np.ndarray) -> np.ndarray:
        return np.eye(A)[advice.argmin()]

    def stubborn(a: np.ndarray, o: np.ndarray, b: np.ndarray, advice: np.ndarray) -> np.ndarray:
        return np.eye(A)[0]

    for behaviour in (at_random, adversary, stubborn):
        acted = np.ones(len(actions))
        for h, (a, o) in enumerate(zip(actions, observations, strict=True)):
            for t in range(T):
                advice = joint.next_action(a[:t], np.ones(t, bool), o[:t])
                acted[h] *= behaviour(a[:t], o[:t], filtered[h, t], advice)[a[t]]
        loop = nature * acted
        assert loop.sum() == pytest.approx(1)
        met = acted > 0
        np.testing.assert_allclose(done[met, -1], (loop / loop.sum(0, where=met, initial=1e-300)).T[met], atol=1e-5)
    loop = nature * expert
    np.testing.assert_allclose(seen[:, -1], (loop / loop.sum(0)).T, atol=1e-5)
    assert np.abs(seen - filtered).max() > 0.05


# ------------------------------------------------------------------------------------------------------------ Remark 5

PRIOR, AIM, NOISE, GAIN = (0.5, 1.2), 0.7, 0.9, 2.0


class Miss(ud.AbstractTask[Array]):
    """Theta is a number; the outcome is by how much the action missed it, and noise."""

    def init(self, theta):
        return jnp.zeros(())

    def Q_O(self, theta, w):
        return ud.Normal(theta - w, NOISE)

    def g_A(self, theta, a, w):
        return jnp.asarray(a, float)

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return -jnp.abs(theta - a)


class Pointing(ud.AbstractExpert[None]):
    """Points at `GAIN * theta`."""

    def init(self, theta):
        return None

    def Q_A(self, theta, e):
        return ud.Normal(GAIN * theta, AIM)

    def g_A(self, theta, a, e):
        return None

    def g_O(self, theta, o, e):
        return None


def on_a_line() -> ud.InteractionProcess:
    return ud.InteractionProcess(ud.Normal(*PRIOR), None, Miss(), Pointing(), num_rounds=3, name="line")


def conjugate(actions: Any, outcomes: Any, seen: Any) -> tuple[float, float]:
    """Mean and variance of Theta: `a + o ~ N(theta, NOISE)`; where it was seen, `a / GAIN ~ N(theta, AIM / GAIN)`."""
    terms = [(PRIOR[0], PRIOR[1] ** -2)]
    for a, o, s in zip(actions, outcomes, seen, strict=True):
        terms += [(a + o, NOISE**-2), (a / GAIN, s * (GAIN / AIM) ** 2)]
    precision = sum(p for _, p in terms)
    return sum(x * p for x, p in terms) / precision, 1 / precision


@pytest.fixture(scope="module")
def particles() -> ud.InteractionProcess:
    return on_a_line().particles(20_000, key=jax.random.key(0))


@pytest.mark.parametrize("seen", [(True, True, True), (True, False, True)], ids=["equation 4", "equation 6"])
def test_remark_5(particles: ud.InteractionProcess, seen: tuple[bool, ...]):
    """Where Theta is a number: the predictive distributions of equations 4 and 6 by particles, and Thompson's draws
    from them.

    All is normal, so the posterior and the distribution of the next action have closed forms; the standard errors are
    those of
    self-normalised importance sampling, and of a mean and a mean square of independent draws.
    """
    actions, outcomes = [0.6, 2.0, 1.4], [0.7, -1.5, -0.2]
    mean, variance = conjugate(actions, outcomes, seen)
    other, _ = conjugate(actions, outcomes, (True, not seen[1], True))
    history = ud.Episodes.of(particles, actions=actions, observations=outcomes, intervened=[not x for x in seen])
    p, theta = np.exp(np.asarray(ud.posterior(particles, history)[-1], float)), np.asarray(particles.thetas, float)
    for f, expected in ((theta, mean), ((theta - mean) ** 2, variance)):
        estimate = p @ f
        assert abs(estimate - expected) < SIGMAS * np.sqrt(p**2 @ (f - estimate) ** 2)
    # The other equation's answer is out of reach of that error.
    assert abs(p @ theta - other) > 2 * SIGMAS * np.sqrt(p**2 @ (theta - p @ theta) ** 2)

    distribution = GAIN * mean, GAIN**2 * variance + AIM**2
    thompson = ud.ThompsonAgent(particles)

    @eqx.filter_jit
    def act(history: ud.Episodes, keys: Array) -> tuple[Array, Array]:
        m = thompson.init(num_rounds=3)
        for t in range(3):
            m = thompson.g_A(history.actions[t], m, intervened=history.intervened[t])
            m = thompson.g_O(history.observations[t], m)
        grid = jnp.linspace(distribution[0] - 1.5, distribution[0] + 1.5, 7)
        return jax.vmap(lambda key: thompson.act(m, key=key)[0])(keys), jax.vmap(thompson.f_A(m).log_prob)(grid)

    a, log_density = (np.asarray(x, float) for x in act(history, jax.random.split(jax.random.key(1), 2000)))
    grid = np.linspace(distribution[0] - 1.5, distribution[0] + 1.5, 7)
    # A density is a mean over the particles too.
    components = np.exp(-((grid[:, None] - GAIN * theta) ** 2) / (2 * AIM**2)) / np.sqrt(2 * np.pi * AIM**2)
    error = np.sqrt((components - np.exp(log_density)[:, None]) ** 2 @ p**2)
    exact = np.exp(-((grid - distribution[0]) ** 2) / (2 * distribution[1])) / np.sqrt(2 * np.pi * distribution[1])
    assert (np.abs(np.exp(log_density) - exact) < SIGMAS * error).all()
    # Actions are no better than the particles that they come from.
    spread = GAIN * np.sqrt(p**2 @ (theta - mean) ** 2)
    assert abs(a.mean() - distribution[0]) < SIGMAS * (a.std() / np.sqrt(len(a)) + spread)
    square = (a - distribution[0]) ** 2
    spread = GAIN**2 * np.sqrt(p**2 @ ((theta - mean) ** 2 - variance) ** 2)
    assert abs(square.mean() - distribution[1]) < SIGMAS * (square.std() / np.sqrt(len(a)) + spread)


def test_particles_of_a_tree_keep_what_belongs_together(bandit: ud.InteractionProcess):
    """Theta may have parts: each particle is one draw of all of them, and the same key gives the same particles."""

    class Both(Miss):
        def Q_O(self, theta, w):
            return ud.Normal(theta["x"] - w, jnp.exp(theta["log_scale"]))

    class Point(Pointing):
        def Q_A(self, theta, e):
            return ud.Normal(theta["x"], AIM)

    class Together(ud.AbstractDistribution[dict]):
        """`log_scale` is `x` negated."""

        def sample(self, key):
            x = jax.random.normal(key)
            return {"x": x, "log_scale": -x}

        def log_prob(self, x):
            return jnp.zeros(())

        def entropy(self):
            return jnp.zeros(())

    process = ud.InteractionProcess(Together(), None, Both(), Point(), num_rounds=2, opening=True, name="both")
    finite = process.particles(50, key=jax.random.key(3))
    assert (finite.num_thetas, finite.num_rounds, finite.opening, finite.name) == (50, 2, True, "both")
    np.testing.assert_array_equal(finite.thetas["log_scale"], -finite.thetas["x"])
    assert len(np.unique(finite.thetas["x"])) == 50
    np.testing.assert_allclose(finite.prior, 1 / 50, rtol=1e-6)
    np.testing.assert_array_equal(process.particles(50, key=jax.random.key(3)).thetas["x"], finite.thetas["x"])


@pytest.mark.parametrize("number", [0, -1, 2.5, "ten"])
def test_particles_need_a_number(number: Any, no_type_checks: None):
    with pytest.raises(ValueError, match="num_particles must be a whole number of at least 1"):
        on_a_line().particles(number, key=jax.random.key(0))


def test_particles_are_refused_where_they_do_not_serve(bandit: ud.InteractionProcess):
    """A finite Theta needs none; one that is drawn anew in each round is not what a particle holds."""
    with pytest.raises(TypeError, match=r"bandit has a finite Theta, .* use it as it is"):
        bandit.particles(10, key=jax.random.key(0))

    class Stateless(Miss):
        theta_free_memory: ClassVar[bool] = True

    class Points(Pointing):
        theta_free_memory: ClassVar[bool] = True

    def walk(theta: Array, w: Array) -> ud.Normal:
        return ud.Normal(theta, 1.0)

    walking = ud.InteractionProcess(ud.Normal(0.0, 1.0), None, Stateless(), Points(), 2, transition=walk, name="walk")
    with pytest.raises(TypeError, match="walk draws Theta anew in each round"):
        walking.particles(10, key=jax.random.key(0))


# ------------------------------------------------------------------------------------------------------------ Remark 6


def test_remark_6():
    """Acting on `P(A | G = 1)` believes oneself lucky for having a goal, and does worse than plain imitation.

    Lucky 1/10; the expert is risky with 9/10 if lucky and 1/10 if not; a risk pays 19/20 or 1/20, safety 3/10.
    """
    luck, risky = (Fraction(1, 10), Fraction(9, 10)), (Fraction(9, 10), Fraction(1, 10))
    pays = {"risky": (Fraction(19, 20), Fraction(1, 20)), "safe": (Fraction(3, 10), Fraction(3, 10))}
    joint = {
        (theta, a): luck[theta] * (risky[theta] if a == "risky" else 1 - risky[theta])
        for theta, a in itertools.product(range(2), pays)
    }
    goal = sum(p * pays[a][theta] for (theta, a), p in joint.items())
    imitate = sum(p for (_, a), p in joint.items() if a == "risky")
    conditioned = sum(joint[theta, "risky"] * pays["risky"][theta] for theta in range(2)) / goal
    lucky = sum(joint[0, a] * pays[a][0] for a in pays) / goal
    effect = {a: sum(luck[theta] * pays[a][theta] for theta in range(2)) for a in pays}
    assert (conditioned, lucky) == (Fraction(15, 56), Fraction(59, 224))
    assert effect == {"risky": Fraction(7, 50), "safe": Fraction(3, 10)}

    content = [[[float(1 - p[theta]), float(p[theta])] for p in pays.values()] for theta in range(2)]
    model = three(luck, [[p, 1 - p] for p in risky], content, names="Theta A G")
    np.testing.assert_allclose(model.query("A", see={"G": 1}), [float(conditioned), float(1 - conditioned)], atol=1e-6)
    np.testing.assert_allclose(model.query("Theta", see={"G": 1})[0], float(lucky), atol=1e-6)
    # To choose a goal is an action: done, it says nothing about luck, and nothing about what to do.
    np.testing.assert_allclose(model.query("Theta", do={"G": 1})[0], 0.1, atol=1e-6)
    np.testing.assert_allclose(model.query("A", do={"G": 1})[0], float(imitate), atol=1e-6)
    done = np.array([model.query("G", do={"A": a})[1] for a in range(2)])
    np.testing.assert_allclose(done, [float(p) for p in effect.values()], atol=1e-6)

    def success(policy: Any) -> float:
        return float(np.asarray(policy) @ done / np.sum(policy))

    by_goal, plain = success(model.query("A", see={"G": 1})), success(model.query("A"))
    weighed = success(np.asarray(model.query("A")) * done)
    np.testing.assert_allclose([by_goal, plain, weighed, done.max()], [9 / 35, 0.2712, 0.285133, 0.3], atol=1e-6)


# ------------------------------------------------------------------------------------------------------------ Remark 7


def test_remark_7(frog: ud.InteractionProcess):
    """Observations that hold the task identifier bring the problem back to the fully observable case: do = see.

    On its own histories the deluded agent's predictions are those of the sober one, once theta was shown.
    """
    shown = ud.InteractionProcess(frog.prior, frog.thetas, ShownTask(), frog.expert, num_rounds=3, opening=True)
    deluded = ud.ExactAgent(shown, own_actions="see")
    episodes = ud.rollout(shown, deluded, key=jax.random.key(0), num_episodes=16)
    as_do, as_see = (ud.posterior(shown, episodes, own_actions=mark) for mark in MARKS)
    np.testing.assert_allclose(np.exp(as_do), np.exp(as_see))


def gap_by_enumeration(telling: float) -> float:
    """`E KL(do || see)` of the second action, nats, of `processes.opening`, over a deluded agent's histories.

    Its expert is right with 9/10, and only the opening tells of theta: one own action is taken for the expert's.
    """
    expert = np.array([[0.9, 0.1], [0.1, 0.9]])
    total = 0.0
    for told, a in itertools.product(range(2), repeat=2):
        do = np.where(np.arange(2) == told, telling, 1 - telling)
        see = do * expert[:, a]
        P_do, P_see = do @ expert, see / see.sum() @ expert
        total += (do @ expert)[a] / 2 * (P_do * np.log(P_do / P_see)).sum()
    return total


@pytest.mark.parametrize("telling", [0.5, 0.8, 1.0])
def test_remark_7_dial(telling: float):
    """The more an observation tells of theta, the smaller the gap between the two readings; 0 where it tells all."""
    process = processes.opening(telling=telling)
    opening, a, o = (x.reshape(-1, *[1] * (i > 0)) for i, x in enumerate(np.indices((2, 2, 2))))
    # Two rounds, of which the second is only predicted.
    actions, observations = (np.concatenate([x, 0 * x], 1) for x in (a, o))
    done, seen = (
        all_predictions(
            ud.ExactAgent(process),
            ud.Episodes.of(process, opening=opening, actions=actions, observations=observations, intervened=mark),
        )
        for mark in (True, False)
    )
    (P_A_do, P_O), (P_A_see, _) = (
        [np.asarray(x.probs, float) for x in distributions] for distributions in (done, seen)
    )
    rows = np.arange(8)
    weight = P_O[rows, 0, opening] * P_A_see[rows, 0, a[:, 0]] * P_O[rows, 1, o[:, 0]]
    assert weight.sum() == pytest.approx(1)
    gap = weight @ (P_A_do * np.log(P_A_do / P_A_see)).sum(-1)
    np.testing.assert_allclose(gap, [0, gap_by_enumeration(telling)], atol=1e-6)
    gaps = [gap_by_enumeration(x) for x in np.linspace(0.5, 1, 11)]
    assert (np.diff(gaps) < 0).all()
    assert gaps[-1] < 1e-12 < 0.1 < gaps[0]


# ------------------------------------------------------------------------------------------------------------ Remark 8


def test_remark_8():
    """The mark of its own actions cut at some round, a sober agent is the deluded one from there on.

    Over all histories of three rounds: before the cut it predicts as it did with the mark; after it, as a deluded agent
    that starts from the belief held at the cut. Cut before the first round, it is the deluded agent. On the histories
    that it brings about itself it then expects more of its actions than comes; with the mark it does not.
    """
    T, rng = 3, np.random.default_rng(8)
    prior = rng.dirichlet(np.ones(2))
    expert, pays = np.array([[0.8, 0.2], [0.1, 0.9]]), np.array([[0.7, 0.2], [0.3, 0.9]])
    tables = {"expert": expert, "task": np.stack([1 - pays, pays], -1), "num_rounds": T}
    process = ud.tasks.from_tables(prior=prior, **tables)
    actions, observations = np.indices([2] * 2 * T).reshape(2, T, -1).swapaxes(1, 2)

    def histories(of: ud.InteractionProcess, marks: Any, after: int = 0) -> tuple[np.ndarray, np.ndarray]:
        x = ud.Episodes.of(of, actions=actions[:, after:], observations=observations[:, after:], intervened=marks)
        P_A, P_O = all_predictions(ud.ExactAgent(of, own_actions="do"), x)
        return np.asarray(P_A.probs, float), np.asarray(P_O.probs, float)

    sober, cut_at_once = histories(process, [True] * T), histories(process, [False] * T)
    deluded = all_predictions(
        ud.ExactAgent(process, own_actions="see"),
        ud.Episodes.of(process, actions=actions, observations=observations, intervened=False),
    )
    for x, y in zip(cut_at_once, deluded, strict=True):
        np.testing.assert_array_equal(x, y.probs)

    cut = 1
    P_A, P_O = histories(process, [t < cut for t in range(T)])
    np.testing.assert_array_equal(P_A[:, : cut + 1], sober[0][:, : cut + 1])
    np.testing.assert_array_equal(P_O[:, :cut], sober[1][:, :cut])
    for a, o in itertools.product(range(2), repeat=2):
        # Of the first round, whose action was marked, only the outcome counts.
        held = prior * tables["task"][:, a, o]
        later = ud.tasks.from_tables(prior=held / held.sum(), **tables)
        here = (actions[:, 0] == a) & (observations[:, 0] == o)
        for x, y in zip(histories(later, [False] * (T - cut), cut), (P_A, P_O), strict=True):
            np.testing.assert_allclose(x[here], y[here, cut:], atol=1e-6)

    def surplus(P_A: np.ndarray, P_O: np.ndarray) -> np.ndarray:
        """`E[P(O_t = 1 | m) - O_t]` by round, over the histories that these predictions bring about."""
        rows = np.arange(len(actions))[:, None], np.arange(T)
        by_theta = tables["task"][:, actions, observations].prod(-1)
        weight = prior @ by_theta * P_A[*rows, actions].prod(1)
        assert weight.sum() == pytest.approx(1)
        return weight @ (P_O[..., 1] - observations)

    np.testing.assert_allclose(surplus(*sober), 0, atol=1e-6)
    cut_surplus = surplus(P_A, P_O)
    np.testing.assert_allclose(cut_surplus[:cut], 0, atol=1e-6)
    assert (cut_surplus[cut:] > 0.05).all()
    assert (surplus(*cut_at_once) > 0.05).all()


def test_remark_8_boxes(frog: ud.InteractionProcess):
    """The agent that hears its own action unmarked is sure of a prize that comes half of the time."""
    for a, marked in itertools.product(range(2), (True, False)):
        history = ud.Episodes.of(frog, actions=[a], observations=[1], intervened=marked)
        _, P_O = predictions(ud.ExactAgent(frog), history)
        np.testing.assert_allclose(P_O.probs, [[1 / 2, 1 / 2]] if marked else [[0, 1]])
