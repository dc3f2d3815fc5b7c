"""Acting on an induced model: agents, dreams, clones, and the two diagnoses that compare it with other models."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

import undelude as ud
from undelude._agents.base import predict_stepwise
from undelude.offline import Demos, Episode, Last, LatentSpec, Round, Table
from undelude.offline._diagnosing.counting import losses_of_alike, losses_of_counting
from undelude.offline._diagnosing.passive import Passive, additions, losses_of_lstm, passive
from undelude.offline._diagnosing.playing import play
from undelude.offline._diagnosing.structure import do_predictions, structure
from undelude.offline._fitting.fit import refit
from undelude.offline._fitting.result import Fit
from undelude.offline._model.logs import logged_episodes, logged_process
from undelude.offline._model.process import ObservedFields

BANDIT = ud.tasks.bandit()


def logs(*, num_episodes: int, adaptive: bool = False) -> Demos:
    """Return demonstrations of Remark 11's expert, or of an agent that is not shown theta."""
    agent = ud.ExactAgent(BANDIT) if adaptive else None
    executor = "agent" if adaptive else "expert"
    episodes = ud.rollout(BANDIT, agent, key=jax.random.key(0), num_episodes=num_episodes, executor=executor)
    return Demos.from_episodes(episodes, BANDIT, intervened=False)


@pytest.fixture(scope="module")
def demos() -> Demos:
    return logs(num_episodes=1000)


@pytest.fixture(scope="module")
def fit(demos: Demos) -> Fit:
    return refit(demos, LatentSpec(reward="observation"), Episode(5), key=jax.random.key(1), starts=6)


@dataclasses.dataclass
class Diagnosed:
    verdict: str

    def __str__(self) -> str:
        return "support: theta 0 never takes action 3"


# ------------------------------------------------------------------------------------------------ the logs as a process


def mixed_logs(rng: np.random.Generator, *, real: bool) -> Demos:
    """Return episodes of 2 to 4 rounds with two finite fields; an opening of one, or real actions and a real field."""
    N, T = 8, 4
    x, y, lengths = rng.integers(0, 2, (N, T)), rng.integers(0, 3, (N, T)), rng.integers(2, T + 1, N)
    x[0, :2], y[0, :3], lengths[0] = (0, 1), (0, 1, 2), T
    if not real:
        a = np.concatenate([np.arange(3).repeat(4)[None, :T], rng.integers(0, 3, (N - 1, T))])
        a[0] = 0, 1, 2, 0
        return Demos.from_arrays(a, {"x": x, "y": y}, lengths=lengths, opening={"x": rng.integers(0, 2, N)})
    z = rng.normal(3, 2, (N, T, 2)).astype(np.float32)
    return Demos.from_arrays(rng.normal(size=(N, T, 2)).astype(np.float32), {"x": x, "y": y, "z": z}, lengths=lengths)


@pytest.mark.parametrize("real", [False, True])
def test_the_logged_process_repeats_the_logs(real: bool):
    """Ragged logs, with an opening of one field or with real numbers."""
    demos = mixed_logs(np.random.default_rng(0), real=real)
    process, episodes = logged_process(demos), logged_episodes(demos)
    played = ud.rollout(process, None, key=jax.random.key(1), num_episodes=6, executor="expert")
    n, exists = np.asarray(played.theta), np.asarray(played.mask)
    np.testing.assert_array_equal(exists.sum(1), demos.lengths[n])
    assert len(set(n)) > 1
    pairs = [(played.actions, episodes.actions)]
    pairs += zip(*map(jax.tree.leaves, (played.observations["observation"], episodes.observations)), strict=True)
    for repeated, logged in pairs:
        np.testing.assert_allclose(np.asarray(repeated)[exists], np.asarray(logged)[n][exists], atol=1e-4)
    if not real:
        np.testing.assert_array_equal(played.opening["observation"], np.asarray(episodes.opening)[n])


def test_observations_are_encoded_as_the_induced_process_decodes_them():
    demos = mixed_logs(np.random.default_rng(0), real=True)
    fields = ObservedFields.of(demos)
    values = {name: column.values for name, column in demos.observations.items()}
    decoded = fields.values(fields.observation(values))
    assert fields.num_symbols == 6
    assert set(decoded) == {"x", "y", "z"}
    for name, x in values.items():
        np.testing.assert_array_equal(decoded[name], x)


# --------------------------------------------------------------------------------------------------------------- acting


def test_the_verdict_decides_whether_to_act(fit: Fit):
    for verdict in ("refuted", "not identified"):
        with pytest.warns(UserWarning, match=f"(?s){verdict}.*theta 0 never takes action 3"):
            agent = ud.offline.agent(fit, Diagnosed(verdict))
        assert agent.own_actions == "do"
        with pytest.raises(ValueError, match="theta 0 never takes"):
            ud.offline.agent(fit, Diagnosed(verdict), strict=True)
        with pytest.raises(ValueError, match=r"dream.*do not rely"):
            ud.offline.dream(fit, agent, Diagnosed(verdict), key=jax.random.key(0), strict=True)
    with pytest.warns(UserWarning, match="has not been diagnosed"):
        ud.offline.agent(fit)
    with pytest.raises(ValueError, match="has not been diagnosed"):
        ud.offline.agent(fit, strict=True)
    for resample, kind in (("step", ud.ExactAgent), (4, ud.ThompsonAgent), ("episode", ud.ThompsonAgent)):
        assert type(ud.offline.agent(fit, Diagnosed("weak"), resample=resample, strict=True)) is kind


def distances(agent: ud.AbstractAgent) -> ud.Certificate:
    return ud.certify(BANDIT, agent, key=jax.random.key(5), num_episodes=512, baselines=False)


def test_the_agent_of_a_fit_is_sober_in_the_true_bandit(fit: Fit):
    report = distances(ud.offline.agent(fit, Diagnosed("identified")))
    assert report.verdict == "sober"
    assert report.action_kl_do < 0.004


@pytest.mark.slow
def test_a_dream_teaches_to_act_and_a_clone_of_the_logs_deludes_itself(demos: Demos, fit: Fit):
    """Section 4.2: both students have seen the logs alone, and are certified in the bandit that the logs are from."""
    student = ud.LSTMAgent(fit.process, 32, key=jax.random.key(2))
    settings = {"key": jax.random.key(3), "steps": 250, "learning_rate": 2e-2}
    dreamt = ud.offline.dream(fit, student, Diagnosed("identified"), **settings)
    cloned = ud.offline.clone(demos, student, **settings)
    sober, deluded = distances(dreamt.agent), distances(cloned.agent)
    assert sober.action_kl_do < 0.04 < sober.action_kl_see
    assert deluded.action_kl_see < deluded.action_kl_do / 3


def test_logs_of_ragged_episodes_train_an_agent_of_the_induced_process():
    demos = Demos.from_arrays([[0, 1, 1], [1], [0, 1]], [[1, 0, 1], [0], [1, 1]])
    process = logged_process(demos)
    specs = process.specs[0], process.specs[1].tree["observation"]
    agent = ud.LSTMAgent(specs, 4, key=jax.random.key(0))
    run = ud.offline.clone(demos, agent, key=jax.random.key(1), steps=40, batch_size=8, optimizer=optax.adam(3e-2))
    assert type(run.agent) is ud.LSTMAgent
    assert run.agent.own_actions == "see"
    assert run.metrics[-1]["action_loss"] < np.log(2)


# ----------------------------------------------------------------------------------------------------------- diagnosing


@pytest.mark.slow
def test_a_sequence_model_refutes_the_confounder_of_demonstrators_who_learn():
    """Proposition 2: demonstrators who read their own past, fitted as if they knew theta; and Remark 11's, who do."""
    found = {}
    for adaptive in (True, False):
        demos = logs(num_episodes=300, adaptive=adaptive)
        fit = refit(demos, LatentSpec(), Episode(5), key=jax.random.key(1), starts=4)
        found[adaptive] = passive(fit, demos, key=jax.random.key(2), starts=4, lstm=False, memory=adaptive)
    assert found[True].refuted
    assert "refute" in str(found[True])
    assert found[True].wanted_memory
    assert not found[False].refuted
    assert found[False].action[0] > 2 * found[False].action[1]


@pytest.mark.slow
def test_one_scorer_for_all_actions_needs_fewer_logs():
    """Demonstrators who learn, 60 logs: the actual policy has the least loss, and the shared scorer is next to it."""
    process = ud.tasks.bandit(num_rounds=20)
    agent = ud.ExactAgent(process)
    episodes = ud.rollout(process, agent, key=jax.random.key(0), num_episodes=160)
    demos = Demos.from_episodes(episodes, process, intervened=False)
    parts = [demos.subset(x) for x in (range(45), range(45, 60), range(60, 160))]
    counted = losses_of_counting(*parts, key=jax.random.key(1))[0][1].mean()
    alike = losses_of_alike(*parts, key=jax.random.key(1))[1].mean()
    policies = jax.vmap(lambda episode: predict_stepwise(agent, episode)[0].log_probs)(episodes)[60:]
    best = -np.take_along_axis(np.asarray(policies), np.asarray(episodes.actions)[60:, :, None], 2).sum() / 100
    assert best < alike < counted - 0.02 * 20


@pytest.mark.slow
def test_an_lstm_predicts_demonstrators_whose_order_counts_do_not_show():
    """Ragged logs of demonstrators who mostly repeat their action of two rounds ago."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, (240, 10))
    for t in range(2, 10):
        a[:, t] = np.where(rng.random(240) < 0.95, a[:, t - 2], 1 - a[:, t - 2])
    demos = Demos.from_arrays(a, rng.integers(0, 2, (240, 10)), lengths=rng.integers(8, 11, 240))
    parts = [demos.subset(range(n, n + 80)) for n in (0, 80, 160)]
    found = losses_of_lstm(*parts, hidden_size=16, steps=200, key=jax.random.key(0))
    counted = losses_of_counting(*parts, key=jax.random.key(0))
    for (_, losses), (_, by_counts) in zip(found, counted, strict=True):
        assert losses.shape == by_counts.shape == (80,)
    assert found[0][1].sum() < min(0.5 * parts[2].num_steps, counted[0][1].sum())


def test_a_passive_comparison_says_which_memory_the_logs_ask_for():
    x = Passive((-0.03, 0.01), (0.0, 0.1), (1.0, 1.0), (0.97, 1.0), {"the last action": -9.0, "all": 3.0}, 100)
    assert x.refuted
    assert x.wanted_memory == ("the last action",)
    assert not dataclasses.replace(x, action=(-0.03, 0.02)).refuted
    assert dataclasses.replace(x, action=(-np.inf, np.nan)).refuted


def test_declared_memory_is_not_tried_again(fit: Fit, demos: Demos):
    tried = additions(fit.layout.factors[0], demos)
    assert set(tried.values()) == {(Round(10),), (Last("action"), Last("observation"))}
    with_last = LatentSpec(expert=Table(given=[Last("action"), Round(3)]))
    more = refit(demos.subset(range(50)), with_last, Episode(1), key=jax.random.key(0))
    assert list(additions(more.layout.factors[0], demos).values()) == [(Last("observation"),)]


@pytest.mark.slow
def test_time_scales_of_theta_disagree_about_interventions(fit: Fit, demos: Demos):
    """Without a theta, P(o | do(a)) is the confounded P(o | a) of the logs; with one, it is near the true .35."""
    found = structure(fit, demos, key=jax.random.key(4), starts=2, num_episodes=128)
    none, episode, markov = (x.do["observation"][:, 1] for x in found.alternatives)
    a, o = demos.action.values, demos.observations["observation"].values
    pooled = [o[a == i].mean() for i in range(5)]
    np.testing.assert_allclose(none, pooled, atol=1e-3)
    np.testing.assert_allclose(episode, 0.35, atol=0.05)
    assert found.alternatives[0].gap[0] < 1e-6 < found.gap[0]
    assert found.matters
    assert np.argmin([x.bic for x in found.alternatives]) == 1
    assert found.alternatives[1].reward[0] > found.alternatives[0].reward[0] - 0.2
    assert abs(markov - episode).max() < 0.1
    assert "delusion gap" in str(found)


def test_do_predictions_are_those_of_the_causal_model():
    demos = mixed_logs(np.random.default_rng(1), real=False)
    demos = dataclasses.replace(demos, opening={})
    spec = LatentSpec(task=[Table("x", given=["action"]), Table("y", given=["x", "action"])])
    process = refit(demos, spec, Episode(2), key=jax.random.key(0), starts=2, max_iterations=9).process
    found = do_predictions(process, demos, key=jax.random.key(1))
    model = process.causal_model(num_rounds=1)
    for a in range(3):
        both = np.asarray(model.query("O_1", do={"A_1": a})).reshape(2, 3)
        np.testing.assert_allclose(found["x"][a], both.sum(1), atol=1e-5)
        np.testing.assert_allclose(found["y"][a], both.sum(0), atol=1e-5)


def test_remark_7_experts_who_know_nothing_leave_nothing_to_be_deluded_about():
    process = ud.tasks.bandit(expert_accuracy=0.2, num_rounds=5)
    agent = ud.ExactAgent(process)
    _, gap = play(process, agent, agent, jax.random.key(0), 64, "see")
    assert float(np.asarray(gap).max()) < 1e-5
