"""The next experiment: its numbers against closed forms, and its ranking against experiments that were carried out."""

import dataclasses

import jax
import numpy as np
import pytest

import undelude as ud
from undelude import offline
from undelude.offline import Demos, Episode, Fit, Hypotheses, LatentSpec, Network, Probe
from undelude.offline._diagnosing.plans import play
from undelude.offline._diagnosing.probes import Effect
from undelude.tasks.tables import from_tables

KEY = jax.random.key(0)
EFFECTS = [Effect(a, 1) for a in range(3)]
PROBES = [Probe(f"P(paid | do({a}))", effect) for a, effect in enumerate(EFFECTS)]

# Under the first theta the expert never pulls the last arm.
PAYS = np.array([[0.2, 0.7, 0.95], [0.6, 0.3, 0.3]])
WORLD = from_tables(
    prior=[0.5, 0.5],
    expert=[[0.5, 0.5, 0.0], [0.2, 0.2, 0.6]],
    task=np.stack([1 - PAYS, PAYS], -1),
    num_rounds=6,
    name="three arms",
)


def fitted(demos: Demos, K: int) -> Fit:
    return offline.fit(demos, LatentSpec(Episode(K)), key=KEY, starts=4, select="bic")


@pytest.fixture(scope="module")
def demos() -> Demos:
    episodes = ud.rollout(WORLD, None, key=KEY, num_episodes=300, executor="expert")
    return Demos.from_episodes(episodes, WORLD)


@pytest.fixture(scope="module")
def fit(demos: Demos) -> Fit:
    return fitted(demos, 2)


def test_without_a_theta_the_errors_are_those_of_binomial_shares() -> None:
    """`p (1 - p) / (N + 1)` now, the 1 for what one observation tells, and `p (1 - p) / (N + n + 1)` after n more."""
    actions, paid = np.repeat([0, 1, 2], [70, 40, 10]), np.arange(120) % 3 == 0
    demos = Demos.from_arrays(actions[:, None], paid[:, None].astype(int))
    found = offline.next_experiment(fitted(demos, 1), demos, num_episodes=30, probes=PROBES)
    N = np.bincount(actions, minlength=3)
    p = np.bincount(actions, paid, minlength=3) / N
    now, later = p * (1 - p) / (N + 1), p * (1 - p) / (N + 31)
    assert found.actions == (2,)
    assert found.probe == PROBES[2].name
    assert found.now == pytest.approx(np.sqrt(now.mean()), rel=0.03)
    for trial in found.trials:
        (a,) = trial.actions
        after = np.where(np.arange(3) == a, later, now)
        assert trial.score == pytest.approx(np.sqrt(after.mean()), rel=0.03)


@pytest.mark.slow
def test_what_a_theta_never_does_comes_first_and_trying_it_proves_right(fit: Fit, demos: Demos) -> None:
    plans = [(0,), (1,), (2,), (2, 2, 2)]
    found = offline.next_experiment(fit, demos, num_episodes=60, probes=PROBES, plans=plans)
    assert found.actions[0] == 2
    assert found.trials[-1].score > 0.9 * found.now > 0.1
    assert found.trials[0].score < 0.4 * found.now
    assert str(found).splitlines()[3].startswith("  do(")
    truth = np.asarray([float(effect(WORLD)) for effect in EFFECTS])
    errors = {}
    for plan in plans[1:3]:
        squares = []
        for seed in range(3):
            new = Demos.from_episodes(play(WORLD, plan, key=jax.random.key(seed), num_episodes=60), WORLD)
            assert new.intervened.all()
            assert (new.action.values == plan).all()
            again = fitted(Demos.concat(demos, new), 2)
            squares.append(np.square([float(effect(again.process)) for effect in EFFECTS] - truth).mean())
        errors[plan] = float(np.sqrt(np.mean(squares)))
    predicted = {trial.actions: trial.score for trial in found.trials}
    # An arm that is known already teaches nothing; the one that is not, as much as was predicted.
    assert errors[(1,)] > 2 * errors[(2,)]
    assert errors[(2,)] < 2 * predicted[(2,)]


def test_drawn_outcomes_tell_what_enumerated_ones_do(fit: Fit, demos: Demos, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"num_episodes": 30, "probes": PROBES[2:], "plans": [(2, 1, 2)]}
    exact = offline.next_experiment(fit, demos, **options)
    monkeypatch.setattr("undelude.offline._diagnosing.plans.MAX_ENUMERATED", 1)
    drawn = offline.next_experiment(fit, demos, **options)
    assert drawn.trials[0].score == pytest.approx(exact.trials[0].score, rel=0.1)
    assert drawn.now == exact.now


@pytest.mark.slow
def test_a_boundary_does_not_pass_for_knowledge() -> None:
    """Prize or frog: the best fit is sure that every box has a prize, and its standard errors are 0."""
    frog = ud.tasks.prize_or_frog()
    logs = ud.rollout(frog, None, key=KEY, num_episodes=200, executor="expert")
    demos = Demos.from_episodes(logs, frog)
    found = offline.next_experiment(fitted(demos, 2), demos, num_episodes=10, probes=PROBES[:2])
    assert found.now > 0.1
    assert found.trials[0].score < 0.75 * found.now


def test_proposition_10_the_box_that_separates_the_hypotheses() -> None:
    """Both orders say the same of the logs and of the first box; of the second, one has a prize whoever opens it.

    A prize has probability 3/4 after do(second), and its odds of the second order are then 2 to 1; a frog ends it.
    """
    knows = ud.tasks.prize_or_frog()
    task = np.array([[[0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    makes = from_tables(prior=[0.5, 0.5], expert=np.eye(2), task=task, num_rounds=1, name="makes")
    levels = {"action": range(2), "observation": range(2)}
    logs = Demos.from_arrays([[0]] * 20 + [[1]] * 20, [[1]] * 40, levels=levels)
    fit = offline.fit(logs, LatentSpec(Hypotheses([knows, makes])), key=KEY)
    assert fit.weights == pytest.approx({"frog": 0.5, "makes": 0.5})
    found = offline.next_experiment(fit, logs)
    assert found.actions == (1,)
    assert found.now == pytest.approx(np.log(2), abs=1e-5)
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert [trial.score for trial in found.trials] == pytest.approx([np.log(2) - 0.75 * entropy, 0.0], abs=1e-5)
    assert "0.2158" in str(found)
    with pytest.raises(ValueError, match="Hypotheses have no probes"):
        offline.next_experiment(fit, logs, probes=PROBES)


def test_default_plans_are_each_action_each_two_in_turn_and_all(fit: Fit, demos: Demos) -> None:
    found = offline.next_experiment(fit, demos, num_rounds=3, probes=PROBES[2:])
    plans = {(0, 0, 0), (1, 1, 1), (2, 2, 2), (0, 1, 0), (0, 2, 0), (1, 2, 1), (0, 1, 2)}
    assert {trial.actions for trial in found.trials} == plans
    assert "do(3 x 2)" in str(found)


def test_what_it_cannot_rank_is_refused(fit: Fit, demos: Demos) -> None:
    with pytest.raises(ValueError, match="of other data"):
        offline.next_experiment(fit, demos.subset([0, 1]))
    with pytest.raises(ValueError, match="a plan has the action 7"):
        offline.next_experiment(fit, demos, plans=[(0, 7)])
    with pytest.raises(ValueError, match="num_rounds must be"):
        offline.next_experiment(fit, demos, num_rounds=0)
    network = dataclasses.replace(fit.layout.factors[0], mechanism=Network(given=["x"]))
    other = dataclasses.replace(fit, layout=dataclasses.replace(fit.layout, factors=(network, *fit.layout.factors[1:])))
    with pytest.raises(ValueError, match="has a Network"):
        offline.next_experiment(other, demos)
