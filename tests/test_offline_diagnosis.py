"""What the diagnosis of a fit sees: identified cases, others, and bounds that hold whatever the confounder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude.offline import (
    Demos,
    Diagnosis,
    Episode,
    Fit,
    Gaussian,
    Last,
    LatentSpec,
    Markov,
    PerStep,
    Table,
    diagnose,
    fit,
)
from undelude.offline._diagnosing import profile
from undelude.offline._diagnosing.diagnose import _verdict, _views, stuck
from undelude.offline._diagnosing.likelihood import Likelihood
from undelude.offline._diagnosing.manski import manski
from undelude.offline._diagnosing.nearby import nearby
from undelude.offline._diagnosing.passive import is_worse
from undelude.offline._diagnosing.probes import Effect, Probe, Reward, default_probes
from undelude.offline._diagnosing.sensitivity import not_relaxed, relaxations, sensitivity
from undelude.offline._diagnosing.support import Support, _rank, _views_of_the_middle, kruskal, support
from undelude.offline._diagnosing.tied import tied_variances
from undelude.offline._fitting.fit import refit
from undelude.offline._fitting.result import search_notes
from undelude.offline._fitting.runs import run_em


def demonstrations(process: ud.InteractionProcess, num_episodes: int, seed: int = 0) -> Demos:
    """Return demonstrations of the process's expert."""
    episodes = ud.rollout(process, None, key=jax.random.key(seed), num_episodes=num_episodes, executor="expert")
    return Demos.from_episodes(episodes, process)


def diagnosed(process: ud.InteractionProcess, num_episodes: int, K: int) -> tuple[Fit, Demos, Diagnosis]:
    demos = demonstrations(process, num_episodes)
    found = fit(demos, LatentSpec(Episode(K)), key=jax.random.key(1), starts=4, select="bic")
    return found, demos, diagnose(found, demos, passive=False, structure=False)


@pytest.fixture(scope="module")
def long() -> tuple[Fit, Demos, Diagnosis]:
    """A bandit with three arms, logged for ten rounds. Its likelihood has one maximum, which a short search finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile, "POLISH", 40)
        patch.setattr(profile, "CLIMB", 30)
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


@pytest.mark.slow
def test_bounds_after_one_round_are_manskis(single: tuple[Fit, Demos, Diagnosis]) -> None:
    """With one round an episode, nothing but Manski's bounds is known, and the profile finds both ends."""
    report = single[2]
    assert report.verdict == "not identified"
    compared = [probe for probe in report.probes if probe.manski and probe.profile]
    assert len(compared) == 2
    for probe in compared:
        # The profile's own tolerance of 2 nats is worth .03 at these sizes.
        np.testing.assert_allclose(probe.profile, probe.manski, atol=0.04)


@pytest.mark.slow
def test_all_starts_agree_where_nothing_is_identified(single: tuple[Fit, Demos, Diagnosis]) -> None:
    """Why the spread over starts is no measure of uncertainty: here it is nothing, and the bounds are wide."""
    found, _, report = single
    assert max(found.starts) - min(found.starts) < 0.05
    assert max(high - low for low, high in (p.profile for p in report.probes if p.profile)) > 0.5


def test_kruskals_condition_needs_three_rounds() -> None:
    sums = []
    for T in (2, 3):
        demos = demonstrations(ud.tasks.bandit(num_arms=3, num_rounds=T), 400)
        found = fit(demos, LatentSpec(Episode(3)), key=jax.random.key(1), starts=2, select="bic")
        sums.append(kruskal(found, demos))
    assert [total >= needed for total, needed in sums] == [False, True]


def test_kruskals_condition_for_a_theta_that_changes() -> None:
    """The views are of theta in the middle round, with a column for each course of the rounds before or after."""
    emissions, prior = np.asarray([[0.6, 0.3, 0.1], [0.1, 0.6, 0.3]]), np.asarray([0.3, 0.7])
    transition = np.asarray([[0.9, 0.1], [0.4, 0.6]])
    before, one, after = _views_of_the_middle(emissions @ emissions.T, prior, transition, 5)
    # Brute force: two rounds after theta, and two before it, backwards in time.
    ahead = np.einsum("ij,jx,jk,ky->ixy", transition, emissions, transition, emissions).reshape(2, -1)
    past = np.einsum("i,ix,ij,jy,jk->kxy", prior, emissions, transition, emissions, transition).reshape(2, -1)
    past = past / past.sum(1, keepdims=True)
    for found, rows in ((before, past), (one, emissions), (after, ahead)):
        np.testing.assert_allclose(found / found.max(), rows @ rows.T / (rows @ rows.T).max())
    for P, ranks in ((transition, [2, 2, 2]), (np.full((2, 2), 0.5), [1, 2, 1])):
        assert [_rank(x) for x in _views_of_the_middle(emissions @ emissions.T, prior, P, 2001)] == ranks


@pytest.mark.slow
def test_an_expert_that_never_errs_leaves_no_support() -> None:
    """Kruskal's condition holds; but what would happen after another arm, the data never say."""
    _, _, report = diagnosed(ud.tasks.bandit(num_arms=3, expert_accuracy=1.0, num_rounds=10), 500, 3)
    assert report.kruskal[0] >= report.kruskal[1]
    assert report.support.least < 1
    assert report.verdict == "not identified"


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_assumption_that_is_wrong_has_a_price() -> None:
    """Nature pays best if theta is pulled twice in a row; the spec declares no memory of actions."""
    rng = np.random.default_rng(0)
    theta = rng.integers(0, 2, 400)
    actions = (rng.random((400, 8)) < np.where(theta, 0.8, 0.2)[:, None]).astype(int)
    before = np.concatenate([np.zeros((400, 1), int), actions[:, :-1]], 1)
    twice = (actions == theta[:, None]) & (before == theta[:, None])
    paid = (rng.random((400, 8)) < np.where(twice, 0.9, 0.1)).astype(int)
    # With labels, the number of values of theta and its time scale are not relaxed.
    demos = Demos.from_arrays(actions, {"paid": paid}, labels=theta)
    found = fit(demos, LatentSpec(Episode(2), reward="paid"), key=jax.random.key(0), starts=3, select="bic")
    report = sensitivity(found, demos, key=jax.random.key(1), starts=3, num_episodes=512)
    rows = {row.name: row for row in report.relaxed}
    assert len(rows) == 3
    true = rows.pop("paid depends on the last action and the last paid, too")
    assert all(row.bic > true.bic + 300 for row in rows.values())
    assert true.attainable[0] - true.reward[0] > 2 * np.hypot(true.attainable[1], true.reward[1])
    # What the agent earns where the assumption is wrong is what the certificate says of it there.
    spec = LatentSpec(Episode(2), task=Table("paid", ["action", Last("action"), Last("paid")]), reward="paid")
    world = fit(demos, spec, key=jax.random.key(0), starts=3, select="bic").process
    for process, told in ((found.process, true.reward), (world, true.attainable)):
        known = ud.certify(world, ud.ExactAgent(process), key=jax.random.key(2), num_episodes=1024, baselines=False)
        assert abs(float(known.reward) - told[0]) < 4 * np.hypot(told[1], known.reward_se)
    assert str(report).count("\n") == len(report.relaxed) + 2
    assert str(report).endswith("because labels name its values")


def test_a_model_that_contains_the_fit_is_not_less_likely() -> None:
    """All starts may end at a poor maximum, and then the price would be of the search and not of the assumption."""
    rng = np.random.default_rng(0)
    theta, who = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    actions = (rng.random((200, 5)) < np.where(theta, 0.8, 0.2)[:, None]).astype(int)
    paid = (rng.random((200, 5)) < np.where(actions == theta[:, None], 0.8, 0.3)).astype(int)
    demos = Demos.from_arrays(actions, {"paid": paid}, demonstrator=who)
    spec = LatentSpec(Episode(2), Table(given=["demonstrator"]), reward="paid")
    declared = refit(demos, spec, Episode(2), key=jax.random.key(0), starts=8)
    for latent in (Markov(2), Episode(3)):
        for seed in range(2):
            key = jax.random.key(seed)
            found = refit(demos, spec, latent, key=key, starts=1, contains=declared)
            assert found.log_likelihood > declared.log_likelihood - 1.0


def test_assumptions_that_are_not_relaxed_are_named() -> None:
    rng = np.random.default_rng(0)
    actions, paid, x = (rng.integers(0, n, (40, 3)) for n in (2, 2, 60))
    more = {"demonstrator": np.arange(40) % 2, "intervened": x == 0, "lengths": 1 + np.arange(40) % 3}
    demos = Demos.from_arrays(
        actions, {"x": x, "heat": rng.standard_normal((40, 3))}, hidden={"paid": paid}, levels={"x": range(60)}, **more
    )
    task = [Table("x", ["action"]), Gaussian("heat"), Table("paid")]
    found = fit(demos, LatentSpec(Episode(2), Table(tied=True), task), key=jax.random.key(0), starts=1, select="bic")
    names = " ".join(relaxations(found, demos))
    assert "the expert depends on theta, too" in names
    assert "x depends on" not in names
    kept = " ".join(not_relaxed(found, demos))
    for text in (
        "x does not depend on",
        "paid does not depend on",
        "demonstrators act alike",
        "interventions",
        "ends of",
    ):
        assert text in kept
    assert "last value of heat" in kept


def confounded(num_episodes: int, num_rounds: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return thetas, actions that know them, and outcomes of two thetas."""
    rng = np.random.default_rng(0)
    theta = rng.integers(2, size=(num_episodes, 1))
    actions = (rng.random((num_episodes, num_rounds)) < 0.2 + 0.6 * theta).astype(int)
    return theta, actions, (rng.random(actions.shape) < np.where(actions == theta, 0.8, 0.3)).astype(int)


def test_a_tied_outcome_is_known_as_well_as_its_data_tell() -> None:
    """One trial of an action is no knowledge of its effect, although theta changes nothing about it."""
    _, actions, outcomes = confounded(60)
    actions[0, 0] = 2
    demos = Demos.from_arrays(actions, outcomes)
    spec = LatentSpec(Episode(1), task=Table("observation", ["action"], tied=True))
    found = fit(demos, spec, key=jax.random.key(0), select="bic")
    values = tuple(Effect(a, 1) for a in range(3))
    with jax.enable_x64(True):
        likelihood = Likelihood.of(found.layout, demos, 1, markov=False)
        fixed = {"observation": np.asarray(found.tables["observation"])}
        x = jnp.asarray(likelihood.pack(found.fitted))
        variances = tied_variances(found, demos, likelihood, values, fixed, x)
    p = np.exp(np.asarray(found.tables["observation"], np.float64))[0, :, 1]
    data = np.bincount(actions.ravel()) + 2 * 0.5  # And the pseudo-counts.
    np.testing.assert_allclose(variances, p * (1 - p) / data, rtol=1e-5)
    told = support(found, demos, key=jax.random.key(1))
    assert told.num_cells in (2, 3)  # The agent takes the rare action in one round of 360.
    assert (told.where == "any theta, observation given action 2") == (told.num_cells == 3)


@pytest.mark.slow
def test_support_of_memory_and_of_real_fields() -> None:
    """What an expert does after an action that it never took, and what a real field is then, no data say."""
    rng = np.random.default_rng(0)
    theta = rng.integers(2, size=(80, 1))
    actions = np.where(theta == 1, rng.integers(2, size=(80, 6)), 0)  # The first theta never does 1. The agent does.
    heat = theta + 0.3 * rng.standard_normal(actions.shape)
    demos = Demos.from_arrays(actions, {"heat": heat}, labels=theta[:, 0])
    for spec, where in (
        (LatentSpec(Episode(2), Table(given=[Last("action")]), Gaussian("heat")), "action given last action 1"),
        (LatentSpec(Episode(2), Table(), Gaussian("heat", ["action"])), "heat given action 1"),
    ):
        told = support(fit(demos, spec, key=jax.random.key(0), starts=2, select="bic"), demos, key=jax.random.key(1))
        assert told.least < 1, told
        assert told.where == f"theta 0, {where}"


def test_manskis_bounds_are_those_of_the_probe() -> None:
    theta, actions, outcomes = confounded(400)
    rng = np.random.default_rng(1)
    opening = (rng.random(400) < 0.1 + 0.8 * theta[:, 0]).astype(int)
    demos = Demos.from_arrays(actions, outcomes, opening=opening)
    found = fit(demos, LatentSpec(Episode(2)), key=jax.random.key(0), starts=3, select="bic")
    probe = default_probes(found, key=jax.random.key(1))[0]
    first = int(np.bincount(opening).argmax())
    assert probe.name == f"P(O_1 = observation 1 | opening observation {first}, do(A_1 = 0))"
    did, paid = actions[opening == first] == 0, outcomes[opening == first] == 1
    expected = (did & paid).mean(), (did & paid).mean() + 1 - did.mean()
    assert manski(found, demos, probe) == pytest.approx(expected)
    assert expected[0] <= float(probe.value(found.process)) <= expected[1]


@pytest.mark.slow
def test_what_has_no_bounds_of_manski() -> None:
    """A real reward has no least value, and one that remembers is another in the first round than on average."""
    _, actions, outcomes = confounded(400)
    rng = np.random.default_rng(1)
    for reward, memory in ((rng.standard_normal(actions.shape), []), (outcomes, [Last("action")])):
        logs = Demos.from_arrays(actions, {"o": outcomes}, hidden={"reward": reward})
        kind = Gaussian if reward.dtype == float else Table
        spec = LatentSpec(Episode(1), task=[Table("o", ["action"]), kind("reward", ["action", *memory])])
        assert manski(fit(logs, spec, key=jax.random.key(0), select="bic"), logs, Probe("", Reward(0))) is None


@pytest.mark.slow
def test_a_fit_at_a_local_maximum_is_named() -> None:
    """Three kinds of demonstrators and two thetas: each kind may be the one that is told apart."""
    rng = np.random.default_rng(0)
    kind = rng.choice(3, 150, p=[0.5, 0.3, 0.2])[:, None]
    actions = np.where(rng.random((150, 8)) < 0.7, kind, rng.integers(3, size=(150, 8)))
    demos = Demos.from_arrays(actions, (rng.random(actions.shape) < 0.5).astype(int))
    found = fit(demos, LatentSpec(Episode(2)), key=jax.random.key(0), starts=8, select="bic")
    options = {"init": "random", "max_iterations": 300, "tolerance": 1e-8}
    runs = run_em(found.layout, demos, Episode(2), key=jax.random.key(0), starts=8, **options)
    worst = runs.pick([int(runs.objective.argmin())])
    assert runs.objective.max() - runs.objective.min() > 10  # All of them have converged.
    with jax.enable_x64(True):
        behind = [
            nearby(one, demos, (Effect(0, 1),), 2.0, jax.random.key(0)).behind
            for one in (found, dataclasses.replace(found, parameters=worst))
        ]
    assert behind[0] < 1
    assert behind[1] > 10
    reasons, verdict = _verdict(Support(99, "", 1, 0), (6, 6), [], views="decides", local=behind[1])
    assert verdict == "weak"
    assert "local maximum: fit again with more starts" in reasons[0]


def test_labels_of_all_thetas_tell_them_apart_without_three_rounds() -> None:
    theta, actions, outcomes = confounded(100, 1)
    verdicts = []
    for known in (np.full(100, -1), np.where(theta[:, 0] == 1, 1, -1), theta[:, 0]):
        demos = Demos.from_arrays(actions, outcomes, labels=known)
        found = fit(demos, LatentSpec(Episode(2)), key=jax.random.key(0), starts=2, select="bic")
        ranks = kruskal(found, demos)
        assert ranks[0] < ranks[1]
        verdicts.append(_verdict(Support(99, "", 1, 0), ranks, [], views=_views(found, demos), local=None)[1])
    assert verdicts == ["not identified", "weak", "identified"]


def test_a_reader_is_told_of_a_poor_search() -> None:
    _, actions, outcomes = confounded(40)
    options = {"key": jax.random.key(0), "starts": 3, "max_iterations": 2}
    found = fit(Demos.from_arrays(actions, outcomes), LatentSpec(Episode([1, 2])), **options)
    one, two = found.candidates
    notes = search_notes(dataclasses.replace(found, K=2))
    assert any("greatest K that was tried, 2" in note for note in notes)
    assert any("3 of 3 starts were still rising" in note for note in notes)
    lonely = dataclasses.replace(two, reached_best=1, num_unconverged=0)
    notes = search_notes(dataclasses.replace(found, K=2, candidates=(one, lonely, dataclasses.replace(two, K=3))))
    assert notes == [
        "only one of 3 starts reached the best likelihood: fit again with more starts before you believe it"
    ]
    for K, said in ((1, "in which nothing is hidden, K = 1, predicts as well"), (2, "K = 2 predicts as well")):
        near = dataclasses.replace(one, K=K, behind=(0.01, 0.02))
        notes = search_notes(dataclasses.replace(found, K=3, candidates=(near, dataclasses.replace(two, K=3))))
        assert sum(said in note for note in notes) == 1
    assert any("no theta was found" in note for note in search_notes(dataclasses.replace(found, K=1)))


def test_few_episodes_refute_nothing_by_chance() -> None:
    """Of logs that the model predicts as well as the rival does, one in 44 may be refuted, however few there are."""
    rng = np.random.default_rng(0)
    for n in (2, 4, 30):
        advantages = rng.standard_normal((20_000, n))
        errors = advantages.std(-1, ddof=1) / np.sqrt(n)
        refuted = [is_worse(x, n) for x in zip(advantages.mean(-1).tolist(), errors.tolist(), strict=True)]
        assert np.mean(refuted) == pytest.approx(0.0228, abs=0.004)


@pytest.mark.slow
@pytest.mark.parametrize("latent", [Episode(2), Markov(2)])
def test_scores_of_rows_are_the_jacobian(latent):
    demos = demonstrations(ud.tasks.bandit(num_rounds=4), 20)
    fit = refit(demos, LatentSpec(), latent, key=jax.random.key(1), starts=1)
    with jax.enable_x64(True):
        likelihood = Likelihood.of(fit.layout, demos, fit.K, markov=fit.latent == "Markov")
        x = jnp.asarray(likelihood.pack(fit.fitted))
        np.testing.assert_allclose(likelihood.scores(x), jax.jacrev(likelihood.rowwise)(x), atol=1e-12)
