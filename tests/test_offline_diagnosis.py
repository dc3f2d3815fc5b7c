"""What the diagnosis of a fit sees: identified cases, others, and bounds that hold whatever the confounder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude.offline import Demos, Diagnosis, Episode, Fit, Last, LatentSpec, PerStep, Table, diagnose, fit
from undelude.offline._diagnosing.diagnose import stuck
from undelude.offline._diagnosing.likelihood import Likelihood
from undelude.offline._diagnosing.sensitivity import sensitivity
from undelude.offline._diagnosing.support import kruskal


def demonstrations(process: ud.InteractionProcess, num_episodes: int, seed: int = 0) -> Demos:
    """Return demonstrations of the process's expert."""
    episodes = ud.rollout(process, None, key=jax.random.key(seed), num_episodes=num_episodes, executor="expert")
    return Demos.from_episodes(episodes, process)


def diagnosed(process: ud.InteractionProcess, num_episodes: int, K: int) -> tuple[Fit, Demos, Diagnosis]:
    demos = demonstrations(process, num_episodes)
    found = fit(demos, LatentSpec(Episode(K)), key=jax.random.key(1), starts=8, select="bic")
    return found, demos, diagnose(found, demos, passive=False, structure=False)


@pytest.fixture(scope="module")
def long() -> tuple[Fit, Demos, Diagnosis]:
    """A bandit with three arms, logged for ten rounds."""
    return diagnosed(ud.tasks.bandit(num_arms=3, num_rounds=10), 500, 3)


@pytest.fixture(scope="module")
def single() -> tuple[Fit, Demos, Diagnosis]:
    """The same bandit, logged for one round."""
    return diagnosed(ud.tasks.bandit(num_arms=3, num_rounds=1), 800, 3)


def test_ten_rounds_identify_the_bandit(long: tuple[Fit, Demos, Diagnosis]) -> None:
    found, _, report = long
    assert report.verdict == "identified", str(report)
    assert str(report).startswith("identified given: theta lasts the episode and has 3 values; action depends on theta")
    # P(O = 1 | do(a)) = (.75 + 2 * .25) / 3, whatever the arm.
    effects = [probe for probe in report.probes if not probe.is_policy]
    assert len(effects) == 3
    for probe in effects:
        assert abs(probe.value - 1.25 / 3) < probe.two_se + 0.01
        low, high = probe.profile or (probe.value - probe.two_se, probe.value + probe.two_se)
        assert low <= 1.25 / 3 <= high
    assert found.K == 3


def test_profile_bounds_agree_with_the_delta_method_where_the_model_is_identified(
    long: tuple[Fit, Demos, Diagnosis],
) -> None:
    """Near an inner maximum, a fall of 2 nats is a distance of two standard errors."""
    profiled = [probe for probe in long[2].probes if probe.profile]
    assert len(profiled) == 4
    for probe in profiled:
        assert probe.profile is not None
        width = probe.profile[1] - probe.profile[0]
        assert width == pytest.approx(2 * probe.two_se, rel=0.25), probe


def test_a_range_far_below_its_standard_error_is_not_taken_for_knowledge(long: tuple[Fit, Demos, Diagnosis]) -> None:
    assert stuck(long[2].probes) == []
    probe = next(probe for probe in long[2].probes if probe.profile)
    (note,) = stuck([dataclasses.replace(probe, profile=(probe.value, probe.value))])
    assert probe.name in note
    assert "hardly moved" in note


def test_bounds_after_one_round_are_manskis(single: tuple[Fit, Demos, Diagnosis]) -> None:
    """With one round an episode, nothing but Manski's bounds is known, and the profile finds both ends."""
    report = single[2]
    assert report.verdict == "not identified"
    compared = [probe for probe in report.probes if probe.manski and probe.profile]
    assert len(compared) == 2
    for probe in compared:
        # The profile's own tolerance of 2 nats is worth .03 at these sizes.
        np.testing.assert_allclose(probe.profile, probe.manski, atol=0.04)


def test_all_starts_agree_where_nothing_is_identified(single: tuple[Fit, Demos, Diagnosis]) -> None:
    """Why the spread over starts is no measure of uncertainty: here it is nothing, and the bounds are wide."""
    found, _, report = single
    assert max(found.starts) - min(found.starts) < 0.05
    assert max(high - low for low, high in (p.profile for p in report.probes if p.profile)) > 0.5


def test_kruskals_condition_needs_three_rounds() -> None:
    sums = []
    for T in (1, 2, 3):
        demos = demonstrations(ud.tasks.bandit(num_arms=3, num_rounds=T), 400)
        found = fit(demos, LatentSpec(Episode(3)), key=jax.random.key(1), starts=2, select="bic")
        sums.append(kruskal(found, demos))
    assert [total >= needed for total, needed in sums] == [False, False, True]


def test_an_expert_that_never_errs_leaves_no_support() -> None:
    """Kruskal's condition holds; but what would happen after another arm, the data never say."""
    _, _, report = diagnosed(ud.tasks.bandit(num_arms=3, expert_accuracy=1.0, num_rounds=10), 500, 3)
    assert report.kruskal[0] >= report.kruskal[1]
    assert report.support.least < 1
    assert report.verdict == "not identified"


def test_prize_or_frog_is_not_identified() -> None:
    """The best fit is at the boundary, where standard errors are 0; rival models find the interval."""
    _, demos, report = diagnosed(ud.tasks.prize_or_frog(), 1000, 2)
    assert report.verdict == "not identified"
    effects = [probe for probe in report.probes if not probe.is_policy]
    share = float(np.asarray(demos.action.values == 0).mean())
    assert effects[0].manski is not None
    assert effects[0].manski == pytest.approx((share, 1.0))
    low, high = next(p.profile for p in effects if p.profile)
    assert low < 0.6
    assert high > 0.97


def test_a_theta_of_each_round_is_never_identified(long: tuple[Fit, Demos, Diagnosis]) -> None:
    """The tests inside the model class see nothing wrong; the declaration alone decides."""
    found, demos, _ = long
    declared = dataclasses.replace(found, spec=LatentSpec(PerStep()))
    report = diagnose(declared, demos, passive=False, structure=False)
    assert report.verdict == "not identified"
    assert "Manski" in report.reasons[0]


def test_without_a_theta_effects_are_what_the_logs_show(long: tuple[Fit, Demos, Diagnosis]) -> None:
    """With K = 1 nothing is hidden, and P(O | do(a)) is P(O | a)."""
    demos = long[1]
    found = fit(demos, LatentSpec(Episode(1)), key=jax.random.key(1), select="bic")
    assert kruskal(found, demos) == (4, 4)
    assert kruskal(found, dataclasses.replace(demos, lengths=np.ones_like(demos.lengths))) == (3, 4)
    done = np.asarray(demos.action.values == 0)
    share = demos.observations["observation"].values[done].mean()
    assert np.exp(found.tables["observation"])[0, 0, 1] == pytest.approx(share, abs=2e-3)


def test_log_likelihood_in_free_parameters_is_that_of_the_fit(long: tuple[Fit, Demos, Diagnosis]) -> None:
    found, demos, _ = long
    with jax.enable_x64(True):
        likelihood = Likelihood.of(found.layout, demos, found.K, markov=False)
        x = likelihood.pack(found.parameters)
        assert float(likelihood(jnp.asarray(x))) == pytest.approx(found.log_likelihood, abs=1e-2)
        # A constant added to the logits of one softmax changes nothing.
        moved = x + 3.0 * likelihood.gauges.sum(-1)
        assert float(likelihood(jnp.asarray(moved))) == pytest.approx(float(likelihood(jnp.asarray(x))), abs=1e-6)


def test_verdict_does_not_depend_on_the_order_of_demonstrations(long: tuple[Fit, Demos, Diagnosis]) -> None:
    found, demos, report = long
    shuffled = demos.subset(np.random.default_rng(0).permutation(demos.num_episodes))
    with pytest.raises(ValueError, match="other data"):
        diagnose(found, shuffled)
    again = diagnose(dataclasses.replace(found, digest=shuffled.digest()), shuffled, passive=False, structure=False)
    assert again.verdict == report.verdict
    for one, two in zip(again.probes, report.probes, strict=True):
        assert one.value == pytest.approx(two.value, abs=1e-4)


def test_a_shorter_report_says_what_was_left_out(long: tuple[Fit, Demos, Diagnosis]) -> None:
    assert any("nothing could refute" in note for note in long[2].notes)
    assert dataclasses.replace(long[2], verdict="weak").verdict == "weak"


def test_an_assumption_that_is_wrong_has_a_price() -> None:
    """Nature pays for the action of the round before, which the spec does not declare; the rest of it holds."""
    rng = np.random.default_rng(0)
    theta = rng.integers(0, 2, 400)
    actions = (rng.random((400, 8)) < np.where(theta, 0.8, 0.2)[:, None]).astype(int)
    before = np.concatenate([np.zeros((400, 1), int), actions[:, :-1]], 1)
    paid = (rng.random((400, 8)) < np.where(actions == before, 0.9, 0.1)).astype(int)
    # With labels, the number of values of theta and its time scale are not relaxed.
    demos = Demos.from_arrays(actions, {"paid": paid}, labels=theta)
    found = fit(demos, LatentSpec(Episode(2), reward="paid"), key=jax.random.key(0), starts=3, select="bic")
    report = sensitivity(found, demos, key=jax.random.key(1), starts=3, num_episodes=256)
    rows = {row.name: row for row in report.relaxed}
    assert len(rows) == 3
    true = rows.pop("paid depends on the last action and the last paid, too")
    assert true.bic < -500
    assert all(row.bic > true.bic + 500 for row in rows.values())
    # What the agent earns where the assumption is wrong is what the certificate says of it there.
    spec = LatentSpec(Episode(2), task=Table("paid", ["action", Last("action"), Last("paid")]), reward="paid")
    world = fit(demos, spec, key=jax.random.key(0), starts=3, select="bic").process
    for process, told in ((found.process, true.reward), (world, true.attainable)):
        known = ud.certify(world, ud.ExactAgent(process), key=jax.random.key(2), num_episodes=1024, baselines=False)
        assert abs(float(known.reward) - told[0]) < 4 * np.hypot(told[1], known.reward_se)
    assert str(report).count("\n") == len(report.relaxed) + 1
