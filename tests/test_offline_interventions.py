"""Interventions among the logs: an action that was done has no factor of the demonstrators, and all else stays."""

import csv
import dataclasses
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude import offline
from undelude._cli import main
from undelude.offline import Demos, Episode, Hypotheses, Last, LatentSpec, Markov, Network, Table, Training
from undelude.offline._diagnosing.manski import manski
from undelude.offline._diagnosing.passive import passive
from undelude.offline._diagnosing.probes import Effect, Probe
from undelude.offline._fitting import em
from undelude.offline._fitting.parameters import Parameters
from undelude.offline._model import statistics
from undelude.offline._model.evidence import log_evidence
from undelude.offline._model.logs import logged_episodes, logged_process
from undelude.offline._model.spec import layout
from undelude.tasks.tables import from_tables

KEY = jax.random.key(0)
FAST = {"key": KEY, "starts": 4, "select": "bic", "max_iterations": 60}


def mixed_demos(N: int = 60, T: int = 4, seed: int = 0) -> Demos:
    """Ragged logs of a bandit with three arms; of a third of the episodes some actions, or all, are interventions."""
    rng = np.random.default_rng(seed)
    theta = rng.integers(3, size=(N, 1))
    done = (rng.random((N, T)) < 0.6) & (np.arange(N) % 3 == 0)[:, None]
    done[:6] |= (np.arange(6) % 3 == 0)[:, None]
    random = rng.integers(3, size=(N, T))
    actions = np.where(done | (rng.random((N, T)) < 0.3), random, theta)
    outcomes = (rng.random((N, T)) < np.where(actions == theta, 0.8, 0.2)).astype(int)
    return Demos.from_arrays(actions, {"outcome": outcomes}, lengths=rng.integers(2, T + 1, N), intervened=done)


DEMOS = mixed_demos()


@pytest.mark.parametrize("latent", [pytest.param(Episode(3), marks=pytest.mark.slow), Markov(2)])
def test_equation_1_without_the_factor_of_an_action_that_was_done(latent: Episode | Markov) -> None:
    """A sum over all paths of theta; both sides remember the last action, whoever took it."""
    spec = LatentSpec(latent, Table(given=[Last("action")]), Table("outcome", ["action", Last("action")]))
    fit = offline.fit(DEMOS, spec, **FAST)
    expert, task = (np.exp(np.asarray(fit.tables[name], np.float64)) for name in ("action", "outcome"))
    prior = np.asarray(fit.process.prior, np.float64)
    change = np.eye(fit.K) if isinstance(latent, Episode) else np.exp(np.asarray(fit.process.transition.log_probs))
    total = 0.0
    for n in range(DEMOS.num_episodes):
        probability = 0.0
        for path in itertools.product(range(fit.K), repeat=int(DEMOS.lengths[n])):
            p, last = prior[path[0]], 3
            for t, k in enumerate(path):
                a, o = DEMOS.action.values[n, t], DEMOS.observations["outcome"].values[n, t]
                p *= (change[path[t - 1], k] if t else 1) * task[k, a, last, o]
                p *= 1 if DEMOS.intervened[n, t] else expert[k, last, a]
                last = a
            probability += p
        total += np.log(probability)
    assert fit.log_likelihood == pytest.approx(total, abs=0.01)


def test_without_a_theta_policies_are_counted_in_demonstrators_rounds_and_outcomes_in_all() -> None:
    fit = offline.fit(DEMOS, LatentSpec(Episode(1)), **FAST)
    actions, outcomes = DEMOS.action.values, DEMOS.observations["outcome"].values
    own = np.bincount(actions[DEMOS.mask & ~DEMOS.intervened], minlength=3) + 0.5
    all_rounds = np.full((3, 2), 0.5)
    np.add.at(all_rounds, (actions[DEMOS.mask], outcomes[DEMOS.mask]), 1)
    np.testing.assert_allclose(np.exp(fit.tables["action"])[0], own / own.sum(), atol=1e-5)
    expected = all_rounds / all_rounds.sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(fit.tables["outcome"])[0], expected, atol=1e-5)


def test_theta_changes_in_a_round_without_evidence_too() -> None:
    """The expected changes of theta are those of a sum over all paths, also through a round that says nothing of it.

    Such is an intervention if Nature's answer does not depend on theta.
    """
    done = np.asarray([[False, True, False, True]])
    data = {"actions": [[0, 0, 1, 0]], "observations": {"o": [[0, 0, 0, 0]]}, "levels": {"o": [0, 1], "action": [0, 1]}}
    demos = Demos.from_arrays(**data, intervened=done)
    plan = layout(LatentSpec(Markov(2), Table(), Table("o", tied=True)), demos)
    prior, change, expert = np.array([0.3, 0.7]), np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([[0.9, 0.1], [0.3, 0.7]])
    logs = (jnp.log(jnp.asarray(x, jnp.float32))[None] for x in (prior, expert, change))
    found = em.expectation(Parameters(*logs), em.in_blocks(statistics.of_steps(plan, demos), 1, 2))
    expected, total = np.zeros((2, 2)), 0.0
    for path in itertools.product(range(2), repeat=3):  # After the third round there is no more evidence.
        p = (
            prior[path[0]]
            * change[path[0], path[1]]
            * change[path[1], path[2]]
            * expert[path[0], 0]
            * expert[path[2], 1]
        )
        total += p
        for step in itertools.pairwise(path):
            expected[step] += p
    np.testing.assert_allclose(found.transitions[0], expected / total, atol=1e-5)
    assert float(found.log_likelihood[0]) == pytest.approx(np.log(total), abs=1e-5)


def test_a_network_never_learns_an_action_that_was_done() -> None:
    """Nature does not read the action here, so that other interventions are the same data."""
    rng = np.random.default_rng(0)
    actions, done = rng.integers(2, size=(40, 3)), rng.random((40, 3)) < 0.4
    outcomes = rng.integers(2, size=(40, 3))
    found = []
    for flipped in (actions, np.where(done, 1 - actions, actions)):
        demos = Demos.from_arrays(flipped, {"o": outcomes}, intervened=done)
        spec = LatentSpec(Episode(2), Network(given=[Last("o")], width=8), Network("o", [Last("o")], width=8))
        fit = offline.fit(demos, spec, key=KEY, starts=1, training=Training(epochs=4, warm_up=1))
        found.append(fit.log_likelihood)
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    demos = Demos.from_arrays(actions, {"o": outcomes})
    seen = offline.fit(demos, spec, key=KEY, starts=1, training=Training(epochs=4, warm_up=1))
    assert abs(seen.log_likelihood - found[0]) > 1


def test_proposition_10_interventions_separate_what_logs_cannot() -> None:
    """Prize or frog, in both orders of Remark 1: three prizes of own choices are worth 2 ** 3, whatever the logs."""
    knows = ud.tasks.prize_or_frog()
    makes = from_tables(prior=[0.5, 0.5], expert=np.eye(2), task=np.full((2, 2, 2), [0.0, 1.0]), name="makes")
    levels = {"action": range(2), "observation": range(2)}
    logs = Demos.from_arrays([[0]] * 20 + [[1]] * 20, [[1]] * 40, levels=levels)
    own = Demos.from_arrays([[0]] * 3, [[1]] * 3, intervened=True, levels=levels)
    for process, chance in ((knows, 0.5), (makes, 1.0)):
        np.testing.assert_allclose(log_evidence(process, own), np.log(chance), atol=1e-6)
        np.testing.assert_allclose(log_evidence(process, logs), np.log(0.5), atol=1e-6)
    spec = LatentSpec(Hypotheses([knows, makes]))
    before = offline.fit(logs, spec, key=KEY)
    assert before.weights == pytest.approx({"frog": 0.5, "makes": 0.5})
    after = offline.fit(Demos.concat(logs, own), spec, key=KEY)
    assert after.weights == pytest.approx({"frog": 1 / 9, "makes": 8 / 9}, abs=1e-5)
    alone = offline.fit(own, spec, key=KEY)
    assert alone.weights == pytest.approx(after.weights, abs=1e-5)


BANDIT = ud.tasks.bandit(3, expert_accuracy=1.0, num_rounds=6)


@pytest.mark.slow
def test_interventions_identify_what_an_expert_that_never_errs_does_not() -> None:
    """Random pulls complete the tables; taken for the expert's, they are a fourth kind of expert."""
    logs = ud.rollout(BANDIT, None, key=KEY, num_episodes=300, executor="expert")
    blind = ud.ExactAgent(ud.tasks.bandit(3, expert_accuracy=1 / 3, num_rounds=6))  # Pulls every arm as often.
    tried = ud.rollout(BANDIT, blind, key=jax.random.key(1), num_episodes=400)
    old, new = Demos.from_episodes(logs, BANDIT), Demos.from_episodes(tried, BANDIT)
    assert new.intervened.all()
    assert not old.has_interventions
    fits = [offline.fit(x, LatentSpec(Episode(3)), **FAST) for x in (old, Demos.concat(old, new))]
    wrong = []
    for fit in fits:
        pays = np.exp(np.asarray(fit.tables["observation"]))[..., 1]
        best = np.asarray(fit.tables["action"]).argmax(-1)
        assert sorted(best) == [0, 1, 2]
        wrong.append(np.abs(pays - np.where(best[:, None] == np.arange(3), 0.75, 0.25)).max())
    assert wrong[0] > 0.2
    assert wrong[1] < 0.12
    probes = [Probe("P(paid | do(0))", Effect(0, 1))]
    report = offline.diagnose(fits[1], Demos.concat(old, new), probes=probes, passive=False, structure=False)
    assert report.support.least > 10
    assert report.verdict in ("weak", "identified")
    assert report.assumptions[-1] == "interventions were chosen without knowing theta"


def test_nothing_scores_an_action_that_was_done_as_the_demonstrators() -> None:
    fit = offline.fit(DEMOS, LatentSpec(Episode(2)), **FAST)
    # Manski's bounds are those of the demonstrators' rounds.
    own = DEMOS.mask & ~DEMOS.intervened
    did, paid = DEMOS.action.values == 1, DEMOS.observations["outcome"].values == 1
    both, share = (did & paid)[own].mean(), did[own].mean()
    assert manski(fit, DEMOS, Probe("", Effect(1, 1))) == pytest.approx((both, both + 1 - share))
    for refuses in (logged_process, logged_episodes, lambda x: passive(fit, x, key=KEY, steps=1, starts=1)):
        with pytest.raises(ValueError, match="without_interventions"):
            refuses(DEMOS)
    logs = DEMOS.without_interventions()
    assert 30 < logs.num_episodes < 60
    assert not logs.has_interventions
    agent = ud.LSTMAgent(fit.process, 4, key=KEY)
    with pytest.warns(UserWarning, match=rf"clone: {60 - logs.num_episodes} episodes with interventions are left out"):
        one = offline.clone(DEMOS, agent, key=KEY, steps=2)
    other = offline.clone(logs, agent, key=KEY, steps=2)
    assert jax.tree.all(
        jax.tree.map(lambda x, y: bool((x == y).all()), *(jax.tree.leaves(x.agent) for x in (one, other)))
    )
    blind = dataclasses.replace(DEMOS, intervened=DEMOS.mask)
    for act in (lambda: offline.fit(blind, **FAST), lambda: offline.clone(blind, agent, key=KEY, steps=1)):
        with pytest.raises(ValueError, match=r"interventions, from arrays\)"):
            act()


def test_all_readers_keep_the_marks(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    episode, _ = np.nonzero(DEMOS.mask)
    table = {
        "session": episode.tolist(),
        "arm": DEMOS.action.values[DEMOS.mask].tolist(),
        "outcome": DEMOS.observations["outcome"].values[DEMOS.mask].tolist(),
        "done": DEMOS.intervened[DEMOS.mask].tolist(),
    }
    roles = {"episode": "session", "action": "arm", "observation": "outcome", "intervened": "done"}
    with (tmp_path / "logs.csv").open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(table)
        rows.writerows(zip(*table.values(), strict=True))
    read = [Demos.from_frame(table, **roles), Demos.from_csv(tmp_path / "logs.csv", **roles)]
    read.append(Demos.from_frame(table | {"done": [int(x) for x in table["done"]]}, **roles))
    lists = (
        [x[:n].tolist() for x, n in zip(y, DEMOS.lengths, strict=True)]
        for y in (
            DEMOS.action.values,
            DEMOS.observations["outcome"].values,
            DEMOS.intervened,
        )
    )
    actions, outcomes, done = lists
    read.append(Demos.from_arrays(actions, {"outcome": outcomes}, intervened=done))
    for demos in read:
        assert demos.digest() == DEMOS.digest()
        np.testing.assert_array_equal(demos.demonstrated, DEMOS.demonstrated)
    unmarked = dataclasses.replace(DEMOS, intervened=np.zeros_like(DEMOS.intervened))
    assert unmarked.digest() != DEMOS.digest()
    assert f"{int((DEMOS.intervened & DEMOS.mask).sum())} rounds in" in DEMOS.summary()
    with pytest.raises(ValueError, match=r"'done' in row 3 .* is 2; intervened= needs truth values"):
        Demos.from_frame(table | {"done": [0, 1, 0, 2] + [0] * (len(episode) - 4)}, **roles)
    with pytest.raises(ValueError, match=r"intervened must be truth values"):
        Demos.from_arrays(actions, {"outcome": outcomes}, intervened=actions)
    fit = ["offline", "fit", str(tmp_path / "logs.csv"), "--episode", "session", "--action", "arm"]
    fit += ["--observation", "outcome", "--K", "2", "--starts", "2", "--intervened", "done"]
    assert main([*fit, "--out", str(tmp_path / "mine")]) == 0
    loaded = offline.load(tmp_path / "mine")
    assert loaded.digest == DEMOS.digest()


def test_concat_joins_levels_and_lengths() -> None:
    one = Demos.from_arrays([["b", "c"], ["c", "b"]], {"o": [[0, 1], [1, 1]]}, opening={"o": [1, 1]}, labels=[1, -1])
    other = Demos.from_arrays([["a", "b", "a"]], {"o": [[0, 2, 2]]}, opening={"o": [2]}, intervened=True)
    both = Demos.concat(one, other)
    assert both.action.levels == ("b", "c", "a")
    assert both.action.values.tolist() == [[0, 1, 0], [1, 0, 0], [2, 0, 2]]
    assert both.opening["o"].levels == both.observations["o"].levels == (0, 1, 2)
    assert both.opening["o"].values.tolist() == [1, 1, 2]
    assert both.lengths.tolist() == [2, 2, 3]
    assert both.labels.tolist() == [1, -1, -1]
    assert both.demonstrated.tolist() == [[True, True, False], [True, True, False], [False] * 3]
    assert Demos.concat(one).digest() == one.digest()
    assert both.subset([0, 1]).intervened.sum() == 0
    with pytest.raises(ValueError, match="the same columns"):
        Demos.concat(one, Demos.from_arrays([[0, 1]], {"p": [[0, 1]]}))
    named = Demos.from_arrays([["b", "c"]], {"o": [[0, 1]]}, opening={"o": [1]}, demonstrator=["me"])
    assert Demos.concat(named, other).demonstrator.values.tolist() == [0, 0]
    with pytest.raises(ValueError, match="does not say who acted"):
        Demos.concat(named, one)
