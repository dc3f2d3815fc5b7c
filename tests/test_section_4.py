"""Section 4: its opening, Remark 14 and the naive repair of Section 4.2, against brute force in NumPy and fractions."""

import itertools
from fractions import Fraction

import jax
import numpy as np
import pytest

import undelude as ud
from answers import policies
from undelude._paper.blocks import remark_14, section_4, section_4_2

# ------------------------------------------------------------------------------------------------------- the opening


def test_section_4_opening():
    """Three models have the kernel `f(x', x) = P(x' | x)`; `P(x' | do(x))` is f in one, and P(x') in the others.

    By hand: balance holds, .6 * .2 = .4 * .3, so that the kernel backwards is the kernel, and P(x') is (.6, .4).
    """
    f, marginal = [[0.8, 0.2], [0.3, 0.7]], [[0.6, 0.4], [0.6, 0.4]]
    by_hand = {"forwards": f, "backwards": marginal, "common-cause": marginal}
    models = section_4.chains()
    assert set(models) == set(by_hand)
    for name, model in models.items():
        for x in (0, 1):
            np.testing.assert_allclose(model.query("X_t+1", see={"X_t": x}), f[x], atol=1e-6)
            np.testing.assert_allclose(model.query("X_t+1", do={"X_t": x}), by_hand[name][x], atol=1e-6)
        joint = np.array([[0.48, 0.12], [0.12, 0.28]])
        np.testing.assert_allclose(model.query(("X_t", "X_t+1")), joint, atol=1e-6)


def test_section_4_opening_is_refused_where_a_cause_may_be_hidden():
    """What is left of the model when Theta is hidden is f; it gives `see`, and refuses `do` with its reason."""
    model = section_4.with_hidden_cause()
    f = model.marginal(("X_t", "X_t+1"))
    np.testing.assert_allclose(f.query("X_t+1", see={"X_t": 1}), model.query("X_t+1", see={"X_t": 1}), atol=1e-6)
    with pytest.raises(ud.NotIdentifiable, match="Theta, hidden, reaches X_t and X_t"):
        f.query("X_t+1", do={"X_t": 1})
    # By hand: P(x' = 0 | do(x = 1)) = .6 * .3 + .4 * .8 = .5.
    np.testing.assert_allclose(model.query("X_t+1", do={"X_t": 1})[0], 0.5, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------- Remark 14


def test_remark_14():
    """All 64 pasts of three symbols, by the exact agent and by the graph, against the joint of the tables, summed."""
    process = remark_14.four_symbols()
    tables = np.asarray(process.expert.probs, float)  # theta, t, past, x
    distributions = [tables[:, t, : 2**t].reshape(-1, *[2] * t, 2) for t in range(4)]
    model = process.causal_model()
    rows = list(itertools.product(itertools.product((0, 1), repeat=3), itertools.product((False, True), repeat=3)))
    actions = np.array([[*x, 0] for x, _ in rows])
    marks = np.array([[*done, False] for _, done in rows])
    histories = ud.Episodes.of(process, actions=actions, observations=np.zeros_like(actions), intervened=marks)
    P_A, posterior = policies(process, histories), np.exp(ud.posterior(process, histories))
    predictions = {}
    for i, (x, done) in enumerate(rows):
        weight = np.full(len(tables), 1 / len(tables))
        for t in range(3):
            if not done[t]:
                weight = weight * distributions[t][:, *x[: t + 1]]
        weight = weight / weight.sum()
        exact = weight @ distributions[3][:, *x]
        np.testing.assert_allclose(posterior[i, 3], weight, atol=1e-5)
        np.testing.assert_allclose(P_A[i, 3], exact, atol=1e-5)
        roles = {"see": {}, "do": {}}
        for t in range(3):
            roles["do" if done[t] else "see"][f"A_{t + 1}"] = x[t]
        np.testing.assert_allclose(model.query("A_4", **roles), exact, atol=1e-5)
        predictions[x, done] = exact[1]
    # 4 to the third different pasts, and the three distributions of the remark differ, whatever the symbols are.
    assert len(np.unique(np.round(list(predictions.values()), 5))) == 4**3
    named = (True, False, False), (False, True, False), (False, True, True)
    for x in itertools.product((0, 1), repeat=3):
        assert all(abs(predictions[x, a] - predictions[x, b]) > 1e-3 for a, b in itertools.combinations(named, 2))


def test_remark_14_observations_are_of_a_single_symbol():
    """A process of action slots only: nothing is observed; in the graph each X listens to theta and all before it."""
    process = remark_14.four_symbols()
    assert process.observation_spec.n == 1
    graph = process.causal_model().graph
    names = ("A_1", "A_2", "A_3", "A_4")
    for t, name in enumerate(names):
        assert set(graph[name]) == {"Theta", *names[:t]}


# -------------------------------------------------------------------------------------- Section 4.2, the naive repair

HISTORIES = list(itertools.product(range(5), range(2)))


def bandit_joint() -> dict[tuple[int, int, int, int], Fraction]:
    """`P(theta, a_1, o_1, a_2)` of Remark 11's bandit and its expert, in fractions."""

    def expert(a: int, theta: int) -> Fraction:
        return Fraction(6, 10) if a == theta else Fraction(1, 10)

    def pays(o: int, a: int, theta: int) -> Fraction:
        p = Fraction(3, 4) if a == theta else Fraction(1, 4)
        return p if o else 1 - p

    return {
        (theta, a_1, o_1, a_2): Fraction(1, 5) * expert(a_1, theta) * pays(o_1, a_1, theta) * expert(a_2, theta)
        for theta, a_1, o_1, a_2 in itertools.product(range(5), range(5), range(2), range(5))
    }


def lesson(*, same_theta: bool) -> dict[tuple[int, int], list[Fraction]]:
    """What is taught after `(a_1, o_1)`: every trajectory, every own action, every trajectory switched to.

    `same_theta`: only to trajectories with the theta of the one that is left, as if it were known.
    """
    joint = bandit_joint()
    begins: dict[tuple[int | None, int], Fraction] = {}
    for (theta, a_1, _, _), p in joint.items():
        key = (theta if same_theta else None, a_1)
        begins[key] = begins.get(key, Fraction()) + p
    weights = {history: [Fraction()] * 5 for history in HISTORIES}
    starts: dict[tuple[int, int], Fraction] = {}
    for (theta, a_bar, o_1, a_2), p in joint.items():
        weights[a_bar, o_1][a_2] += p * Fraction(1, 5)  # The agent, uniform, does as tau: tau goes on.
        starts[theta, a_bar] = starts.get((theta, a_bar), Fraction()) + p
    for (theta, a_bar), p in starts.items():
        for (theta_2, a_1, o_1, a_2), q in joint.items():
            if a_1 != a_bar and (not same_theta or theta_2 == theta):
                begin = begins[(theta if same_theta else None, a_1)]
                weights[a_1, o_1][a_2] += p * Fraction(1, 5) * q / begin
    return {history: [w / sum(ws) for w in ws] for history, ws in weights.items()}


def test_section_4_2_naive_repair():
    """Switching to a logged trajectory that begins as the agent did teaches see, and not do; exactly.

    After a reward of the own arm, 56/110 and not 11/35; had the other trajectory the same theta, it would be 11/35.
    """
    model = ud.tasks.bandit().causal_model(num_rounds=2)
    _, taught = section_4_2.taught_by_switching(np.asarray(model.query(("A_1", "O_1", "A_2")), float))
    naive, with_theta = lesson(same_theta=False), lesson(same_theta=True)
    assert naive[2, 1][2] == Fraction(56, 110)
    assert with_theta[2, 1][2] == Fraction(11, 35)
    for a, o in HISTORIES:
        exact, right = ([float(p) for p in distribution[a, o]] for distribution in (naive, with_theta))
        np.testing.assert_allclose(taught[a, o], exact, atol=1e-6)
        np.testing.assert_allclose(model.query("A_2", see={"A_1": a, "O_1": o}), exact, atol=1e-6)
        np.testing.assert_allclose(model.query("A_2", do={"A_1": a}, see={"O_1": o}), right, atol=1e-6)
        assert np.abs(np.array(exact) - right).sum() / 2 > 0.05


def test_section_4_2_the_other_trajectory_has_another_theta():
    """Its theta is that of the one left with probability .15, less than the 1/5 of one drawn blindly.

    By hand: the expert chose theta (.6), then the agent chose one of the others, each as telling of theta: 1/10. Or
    it did not (.4), and of four arms left one is theta, 6/10, and three are not, 1/10: 9/40. .06 + .09 = .15.
    """
    assert Fraction(6, 10) * Fraction(1, 10) + Fraction(4, 10) * Fraction(9, 40) == Fraction(15, 100)
    model = ud.tasks.bandit().causal_model(num_rounds=1)
    np.testing.assert_allclose(section_4_2._same_theta(model), 0.15, atol=1e-6)


def test_section_4_2_naive_repair_with_a_data_set(bandit: ud.InteractionProcess):
    """50,000 demonstrations of 3 rounds: lessons are the deluded answer within noise, and far from the right one.

    After a loss and after a reward of the own arm, lessons pooled into those that repeat it and those that do not;
    standard errors of the lessons and of the log add up. Every sequence of two rounds is in the log: it is not sparse.
    """
    size = 50_000
    log = ud.rollout(bandit, None, key=jax.random.key(42), num_episodes=size, num_rounds=3, executor="expert")
    actions, observations = np.asarray(log.actions), np.asarray(log.observations)
    two_rounds = np.stack([actions[:, 0], observations[:, 0], actions[:, 1], observations[:, 1]], 1)
    assert len(np.unique(two_rounds, axis=0)) == 100
    rng = np.random.default_rng(42)
    a, o, taught = section_4_2.simulate_switching(rng, actions, observations, size)
    naive, right = lesson(same_theta=False), lesson(same_theta=True)
    see, do = (np.array([float(distribution[0, o][0]) for o in range(2)]) for distribution in (naive, right))
    again = taught[:, 1] == a[:, 0]
    counts = np.bincount(o[:, 0])
    share = np.bincount(o[:, 0], weights=again) / counts
    error = np.sqrt(share * (1 - share) * 2 / counts)
    assert (np.abs(share - see) < 4 * error).all()
    assert (np.abs(share - do) > 10 * error).all()
    # ... and what it reads after its own action is the log's .55 of rewards, not the arm's .35.
    reads = o[:, 0].mean()
    assert abs(reads - 0.55) < 4 * np.sqrt(2 * 0.55 * 0.45 / size)
    # All T = 3: a lesson of the third round, by the likelihood of both answers given what was lived through.
    model = bandit.causal_model(num_rounds=3)
    history = a[:2000, 0], o[:2000, 0], a[:2000, 1], o[:2000, 1]
    names = ("A_1", "O_1", "A_2", "O_2")
    values = np.stack(history, 1)
    as_see = np.asarray(model.compile("A_3", see=names)(values, []))
    as_do = np.asarray(model.compile("A_3", see=("O_1", "O_2"), do=("A_1", "A_2"))(values[:, 1::2], values[:, ::2]))
    gain = np.log(as_see / as_do)[np.arange(2000), taught[:2000, 2]]
    expected = (as_see * np.log(as_see / as_do)).sum(-1)
    assert expected.mean() > 0.05
    assert abs((gain - expected).mean()) < 4 * gain.std() * np.sqrt(2 / 2000)
