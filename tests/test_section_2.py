"""Section 2, independently of the page: exact agents on the boxes, and brute force for Remarks 1, 4, 5, 7 and 8."""

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
from machines import process_of
from oracle import enumerate_joint, random_machine
from undelude._agents.base import predict_stepwise
from undelude._paper.blocks import models, remark_1, remark_5

SIGMAS = 4


def belief(process: ud.InteractionProcess, actions: Any, observations: Any, *, intervened: bool) -> np.ndarray:
    """Return `P(Theta | history)` before each round and after the last."""
    history = ud.Episodes.of(process, actions=actions, observations=observations, intervened=intervened)
    return np.exp(ud.posterior(process, history))


predictions = eqx.filter_jit(predict_stepwise)


@eqx.filter_jit
def all_predictions(agent: ud.AbstractAgent, histories: ud.Episodes) -> tuple[Any, Any]:
    """Return the predictions before each symbol of a batch of histories."""
    return jax.vmap(lambda episode: predict_stepwise(agent, episode))(histories)


def test_back_door_estimand():
    """`sum_theta P(o | theta, a) P(theta)`, evaluated on the joint distribution of an expert who errs."""
    joint = np.zeros((2, 2, 2))
    for theta, a in itertools.product(range(2), repeat=2):
        joint[theta, a, int(theta == a)] = 9 / 20 if theta == a else 1 / 20
    P_O = models.frog().identify("O", do="A").evaluate(joint, ("Theta", "A", "O"))
    np.testing.assert_allclose(P_O, np.full((2, 2), 1 / 2), atol=1e-12)


@pytest.mark.parametrize(("intervened", "P_prize"), [(False, 1), (True, 1 / 2)], ids=["see", "do"])
def test_exact_agent_on_boxes(frog: ud.InteractionProcess, intervened: bool, P_prize: float):
    """`P(A) = 1/2` (equation 1); given its own action, the agent that conditions is certain of the prize."""
    for a in (0, 1):
        history = ud.Episodes.of(frog, actions=[a], observations=[1], intervened=intervened)
        P_A, P_O = predictions(ud.ExactAgent(frog), history)
        np.testing.assert_allclose(P_A.probs, [[1 / 2, 1 / 2]])
        np.testing.assert_allclose(P_O.probs, [[1 - P_prize, P_prize]])


class ShownTask(ud.AbstractTask[Array]):
    """Prize or frog with theta as opening observation: 0 and 1 are the boxes, 2 is the frog and 3 the prize."""

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
def test_fully_observable(frog: ud.InteractionProcess, theta: int):
    """If Theta is observed, acting imitates the expert, and `P(O | Theta, A) = P(O | Theta, do(A))`."""
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


def test_eq_2_on_boxes(frog: ud.InteractionProcess):
    """The posteriors of equation 2 by the recursion: after box 1 and a frog, `P(theta | a, o)` is undefined."""
    for intervened in (False, True):
        np.testing.assert_allclose(belief(frog, [0], [1], intervened=intervened)[-1], [1, 0])
    np.testing.assert_allclose(belief(frog, [0], [0], intervened=True)[-1], [0, 1])
    with pytest.raises(ValueError, match="impossible evidence"):
        belief(frog, [0], [0], intervened=False)


@pytest.mark.parametrize(
    ("evidence", "other_order"),
    [
        ([("see", 1, 1), ("see", 2, 1), ("see", 1, 1)], Fraction(1, 2)),
        ([("do", 1, 1), ("see", 2, 1), ("do", 1, 1), ("do", 2, 1)], Fraction(8, 9)),
    ],
)
def test_remark_1_order_is_learned_by_acting(evidence: list[tuple[str, int, int]], other_order: Fraction):
    """A demonstration leaves the odds of the two causal orders; a prize after an own action doubles them.

    A prize after do(a) has probability 1/2 under Theta -> A and 1 under A -> Theta. The expert's box and its prize
    have probability 1/2 under both.
    """
    orders, weights = (models.frog(), remark_1.other_order()), []
    for model in orders:
        marked = [
            {"see": {"O": o}, "do": {"A": a}} if mark == "do" else {"see": {"A": a, "O": o}} for mark, a, o in evidence
        ]
        weights.append(np.exp(sum(float(model.log_prob(**x)) for x in marked)) / 2)
    assert weights[1] / sum(weights) == pytest.approx(float(other_order))
    prize = [float(model.query("O", do={"A": 1})[1]) for model in orders]
    assert np.average(prize, weights=weights) == pytest.approx(float((1 + other_order) / 2))


# ------------------------------------------------------------------------------------------------------------ Remark 4


def controller(machine: Any, actions: np.ndarray, observations: np.ndarray) -> np.ndarray:
    """Return the beliefs `[T + 1, K]` of a filter in which an action selects a distribution; it has no policy."""
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
    """The controller's belief is `P(theta | do(a), o)` after every history.

    If actions come from a behaviour that does not depend on theta, it is also the posterior of the closed loop by
    Bayes' rule, enumerated over all trajectories: for a random, an adversarial and a constant behaviour. If they come
    from the expert, the posterior is `P(theta | a, o)`.
    """
    rng = np.random.default_rng(seed)
    T, K, A = 3, 3, 2
    machine = random_machine(rng, K=K, A=A)
    joint = enumerate_joint(machine, T)
    # Theta is the first index: every theta has the same histories.
    actions, observations = (x.reshape(K, -1, T)[0] for x in (joint.actions, joint.observations))
    nature, expert = joint.nature.reshape(K, -1), joint.expert.prod(1).reshape(K, -1)
    filtered = np.stack([controller(machine, a, o) for a, o in zip(actions, observations, strict=True)])

    process = process_of(machine, num_rounds=T, theta_free=False)
    done, seen = (belief(process, actions, observations, intervened=mark) for mark in (True, False))
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


@pytest.mark.parametrize("seen", [(True, True, True), (True, False, True)], ids=["equation 4", "equation 6"])
def test_remark_5_predictive_density(seen: tuple[bool, ...]):
    """For a continuous Theta the particles' `f_A` is the normal density of equations 4 and 6, within its error."""
    actions, outcomes = np.array([0.6, 2.0, 1.4]), np.array([0.7, -1.5, -0.2])
    particles = remark_5.line().particles(20_000, key=jax.random.key(0))
    history = ud.Episodes.of(particles, actions=actions, observations=outcomes, intervened=[not x for x in seen])
    agent = ud.ThompsonAgent(particles)
    m = remark_5.after(agent, history)
    mean, sd = remark_5.gaussian(actions, outcomes, np.array(seen))
    variance = sd**2 + remark_5.AIM_SCALE**2
    grid = np.linspace(mean - 1.5, mean + 1.5, 7)
    density = np.exp(np.asarray(eqx.filter_jit(lambda m: jax.vmap(agent.f_A(m).log_prob)(jnp.asarray(grid)))(m), float))
    exact = np.exp(-((grid - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    # A density is a weighted mean over particles too.
    p, theta = np.exp(np.asarray(m.belief.log_posterior, float)), np.asarray(particles.thetas, float)
    components = np.exp(-(((grid[:, None] - theta) / remark_5.AIM_SCALE) ** 2) / 2)
    components = components / np.sqrt(2 * np.pi * remark_5.AIM_SCALE**2)
    error = np.sqrt((components - density[:, None]) ** 2 @ p**2)
    assert (np.abs(density - exact) < SIGMAS * error).all()


def test_particles_of_joint_theta():
    """If Theta has parts, a particle is one joint sample of them; the same key gives the same particles."""

    class Both(remark_5.Error):
        def Q_O(self, theta, w):
            return ud.Normal(theta["x"] - w, jnp.exp(theta["log_scale"]))

    class Point(remark_5.Aim):
        def Q_A(self, theta, e):
            return ud.Normal(theta["x"], 1.0)

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
    with pytest.raises(ValueError, match="num_particles"):
        remark_5.line().particles(number, key=jax.random.key(0))


def test_particles_need_fixed_continuous_theta(bandit: ud.InteractionProcess):
    """A finite Theta needs no particles, and a Theta that changes from round to round cannot be one particle."""
    with pytest.raises(TypeError, match="bandit has a finite Theta"):
        bandit.particles(10, key=jax.random.key(0))

    def walk(theta: Array, w: Array) -> ud.Normal:
        return ud.Normal(theta, 1.0)

    parts = ud.Normal(0.0, 1.0), None, remark_5.Error(), remark_5.Aim()
    walking = ud.InteractionProcess(*parts, num_rounds=2, transition=walk, name="walk")
    with pytest.raises(TypeError, match="walk has a transition"):
        walking.particles(10, key=jax.random.key(0))


# ------------------------------------------------------------------------------------------------------------ Remark 7


def gap_by_enumeration(telling: float) -> float:
    """Return `E KL(do || see)` of the second action of `processes.opening` over a deluded agent's histories, in nats.

    The expert is right with probability 9/10, and only the opening depends on theta.
    """
    expert = np.array([[0.9, 0.1], [0.1, 0.9]])
    total = 0.0
    for told, a in itertools.product(range(2), repeat=2):
        do = np.where(np.arange(2) == told, telling, 1 - telling)
        see = do * expert[:, a]
        P_do, P_see = do @ expert, see / see.sum() @ expert
        total += (do @ expert)[a] / 2 * (P_do * np.log(P_do / P_see)).sum()
    return total


@pytest.mark.parametrize("telling", [0.8, 1.0])
def test_remark_7_gap(telling: float):
    """The gap between the two readings, of exact agents, is the one by enumeration."""
    process = processes.opening(telling=telling)
    opening, a, o = (x.reshape(-1, *[1] * (i > 0)) for i, x in enumerate(np.indices((2, 2, 2))))
    # Two rounds, of which the second is only predicted.
    actions, observations = (np.concatenate([x, 0 * x], 1) for x in (a, o))
    (P_A_do, P_O), (P_A_see, _) = (
        [
            np.asarray(x.probs, float)
            for x in all_predictions(
                ud.ExactAgent(process),
                ud.Episodes.of(process, opening=opening, actions=actions, observations=observations, intervened=mark),
            )
        ]
        for mark in (True, False)
    )
    rows = np.arange(8)
    weight = P_O[rows, 0, opening] * P_A_see[rows, 0, a[:, 0]] * P_O[rows, 1, o[:, 0]]
    assert weight.sum() == pytest.approx(1)
    gap = weight @ (P_A_do * np.log(P_A_do / P_A_see)).sum(-1)
    np.testing.assert_allclose(gap, [0, gap_by_enumeration(telling)], atol=1e-6)


# ------------------------------------------------------------------------------------------------------------ Remark 8


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_remark_8_overconfidence(cut: int):
    """From the round in which the mark is lost, the agent expects more reward of its actions than it gets.

    Exactly, over all histories of three rounds of a process with random tables, each weighted by its probability.
    """
    T, rng = 3, np.random.default_rng(8)
    prior = rng.dirichlet(np.ones(2))
    expert, pays = np.array([[0.8, 0.2], [0.1, 0.9]]), np.array([[0.7, 0.2], [0.3, 0.9]])
    task = np.stack([1 - pays, pays], -1)
    process = ud.tasks.from_tables(prior=prior, expert=expert, task=task, num_rounds=T)
    actions, observations = np.indices([2] * 2 * T).reshape(2, T, -1).swapaxes(1, 2)
    marks = [t < cut for t in range(T)]
    histories = ud.Episodes.of(process, actions=actions, observations=observations, intervened=marks)
    P_A, P_O = (np.asarray(x.probs, float) for x in all_predictions(ud.ExactAgent(process), histories))
    rows = np.arange(len(actions))[:, None], np.arange(T)
    weight = prior @ task[:, actions, observations].prod(-1) * P_A[*rows, actions].prod(1)
    assert weight.sum() == pytest.approx(1)
    surplus = weight @ (P_O[..., 1] - observations)  # E[P(O_t = 1 | m) - O_t]
    np.testing.assert_allclose(surplus[:cut], 0, atol=1e-6)
    assert (surplus[cut:] > 0.05).all()
