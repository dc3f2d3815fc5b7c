"""Policies from elsewhere (`ud.HostAgent`): what they say is measured as if they were ours."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import arm, opening
from undelude._certificate.certificate import QUANTITIES
from undelude._process.inference import expert_distributions, init
from undelude._rollout.host import play

KEY = jax.random.key(0)
T, B = 4, 16


@pytest.fixture(scope="module")
def small():
    return ud.tasks.bandit(num_arms=3, num_rounds=T)


def bayes(process, own_actions):
    """Exact inference over tables, written down once more in NumPy."""
    beliefs = init(process)
    pi = np.exp(np.asarray(expert_distributions(process, beliefs).log_probs))
    pays = np.exp(np.asarray(process.task.log_probs))

    def predict(m, a, o):
        if a is not None:
            m = m * pays[:, a, o].T * (pi[:, a].T if own_actions == "see" else 1)
            m = m / m.sum(1, keepdims=True)
        return m @ pi, m

    def predict_observation(m, a):
        m = m * (pi[:, a].T if own_actions == "see" else 1)
        return np.einsum("bk,kbo->bo", m / m.sum(1, keepdims=True), pays[:, a])

    return ud.HostAgent(
        lambda n: np.tile(np.asarray(process.prior), (n, 1)),
        predict,
        predict_observation=predict_observation,
        own_actions=own_actions,
    )


@pytest.mark.parametrize("mark", ["do", pytest.param("see", marks=pytest.mark.slow)])
def test_numpy_exact_agent_has_exact_certificate(small, mark):
    """The same episodes from the same key, round by round, and the same certificate."""
    host, exact = bayes(small, mark), ud.ExactAgent(small, mark)
    size = {"key": KEY, "num_episodes": B}
    one, other = (ud.rollout(small, agent, **size) for agent in (host, exact))
    for name in ("theta", "actions", "observations", "expert_actions", "executor", "intervened", "mask"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.reward, other.reward)
    reports = [ud.certify(small, agent, baselines=False, **size) for agent in (host, exact)]
    for name in QUANTITIES:
        have, want = (getattr(report, name) for report in reports)
        assert (have is None) == (want is None), name
        assert want is None or have == pytest.approx(want, abs=2e-5), name
    assert getattr(reports[0], f"action_kl_{mark}") < 1e-6


def test_opening_is_read_first(no_type_checks):
    """With `O_0` it is what `predict` is told before any action, and what `predict_observation` is asked for first."""
    process, seen = opening(telling=0.8), []

    def predict(m, a, o):
        seen.append((a is None, np.shape(o)))
        return np.full((m, 2), 0.5), m

    host = ud.HostAgent(lambda n: n, predict, predict_observation=lambda m, a: np.full((m, 2), 0.5))
    episodes, P_A, P_O = play(process, host, key=KEY, num_episodes=B, theta=1)
    assert seen == [(True, (B,)), (False, (B,)), (False, (B,))]
    assert P_A.log_probs.shape == P_O.log_probs.shape == (B, 3, 2)
    assert bool((episodes.theta == 1).all())
    report = ud.certify(process, host, key=KEY, num_episodes=64, baselines=False)
    # H = log 2 whatever comes: that is the log-loss, and there is no gap.
    assert report.observation_log_loss == pytest.approx(np.log(2), abs=1e-5)
    assert report.action_calibration_gap == pytest.approx(0, abs=1e-5)


def test_continuous_actions():
    """A distribution over commands, drawn by us or chosen by the policy."""
    process = arm(num_rounds=2)
    distribution = ud.Normal(jnp.zeros((B, 1)), jnp.ones((B, 1)))
    host = ud.HostAgent(lambda n: None, lambda m, a, o: (distribution, m))
    episodes = ud.rollout(process, host, key=KEY, num_episodes=B)
    assert episodes.actions.shape == (B, 2, 1)
    assert float(jnp.std(episodes.actions)) > 0.5
    report = ud.certify(process, host, key=KEY, num_episodes=B, baselines=False)
    assert report.action_kl_do > 0
    chosen = ud.HostAgent(
        lambda n: 0,
        lambda m, a, o: (None, m),
        act=lambda m, distribution, rng: (np.full((B, 1), 0.1 * m, np.float32), m + 1),
    )
    episodes = ud.rollout(process, chosen, key=KEY, num_episodes=B)
    np.testing.assert_allclose(episodes.actions[:, :, 0], np.tile([0, 0.1], (B, 1)), atol=1e-7)


def test_acting_policy_has_its_reward(small):
    """And the certificate says why nothing else is."""
    host = ud.HostAgent(
        lambda n: n, lambda m, a, o: (None, m), act=lambda m, distribution, rng: (rng.integers(3, size=m), m)
    )
    report = ud.certify(small, host, key=KEY, num_episodes=512, baselines=False)
    # Uniform over three arms: (.75 + .25 + .25) / 3.
    assert abs(report.reward - 1.25 / 3) < 4 * report.reward_se
    assert report.action_kl_do is None
    assert report.notes["action_kl_do"] == "the HostAgent does not predict actions."
    assert report.notes["observation_kl_do"] == "the HostAgent does not predict observations."


def says(distribution, **more):
    return ud.HostAgent(lambda n: None, lambda m, a, o: (distribution, m), **more)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (says(np.full((B, 2), 0.5)), r"predict \(round 0\) returned probabilities of shape \[16, 2\], not \[16, 3\]"),
        (says(np.full((B, 3), 0.5)), r"predict \(round 0\), probabilities\[0\] does not sum to one"),
        (says(None), "predict returned None instead of a distribution"),
        (says(ud.Categorical(log_probs=jnp.zeros((2, 3)))), "no leading axis of 16"),
        (
            says(None, act=lambda m, distribution, rng: (np.full(B, 3), m)),
            r"act \(round 0\), actions must be integers from 0 to 2",
        ),
        (
            says(None, act=lambda m, distribution, rng: (np.zeros(3, int), m)),
            r"act \(round 0\) returned actions of shape \(3,\)",
        ),
        (says(None, act=lambda m, distribution, rng: 1), r"act \(round 0\) must return a pair \(a, m\)"),
        (ud.HostAgent(lambda n: 0, lambda m, a, o: 1), r"predict \(round 0\) must return a pair \(distribution, m\)"),
        (
            ud.HostAgent(
                lambda n: 0,
                lambda m, a, o: (np.full((B, 3), 1 / 3) if m == 0 else None, m + 1),
                act=lambda m, distribution, rng: (np.zeros(B, int), m),
            ),
            "a distribution in some rounds and None in others, such as 1",
        ),
    ],
)
def test_bad_answers_are_named(small, host, message, no_type_checks):
    with pytest.raises(ValueError, match=message):
        ud.rollout(small, host, key=KEY, num_episodes=B)


def test_host_agent_is_refused_elsewhere(small, no_type_checks, tmp_path):
    """It learns nothing from us, is not traced, and is not ours to keep."""
    host = says(np.full((B, 3), 1 / 3))
    for teaching, agent in ((ud.Counterfactual(), host), (ud.Blind(host), ud.LSTMAgent(small, 2, key=KEY))):
        with pytest.raises(TypeError, match="HostAgent"):
            ud.teach(small, agent, teaching, key=KEY, steps=1, batch_size=2)
    with pytest.raises(TypeError, match="HostAgent cannot be saved"):
        ud.save(host, tmp_path / "agent")
    with pytest.raises(TypeError, match="predict must be a function"):
        ud.HostAgent(lambda n: 0, None)


def test_missing_predictions_are_explained(small):
    host = ud.HostAgent(lambda n: n, lambda m, a, o: (np.full((m, 3), 1 / 3), m))
    report = ud.certify(small, host, key=KEY, num_episodes=64, baselines=False)
    assert report.action_kl_do is not None
    assert report.notes["observation_kl_do"] == "the HostAgent does not predict observations."


def test_functions_with_other_arguments_are_refused():
    with pytest.raises(TypeError, match=r"HostAgent.predict takes \(m, o, a\), but it is called as predict\(m, a, o\)"):
        ud.HostAgent(lambda n: None, lambda m, o, a: (None, m))
    with pytest.raises(TypeError, match=r"HostAgent.reset takes \(\), but it is called as reset\(num_episodes\)"):
        ud.HostAgent(lambda: None, lambda m, a, o: (None, m))


def test_certificate_of_functions_can_be_pickled(bandit):
    host = ud.HostAgent(lambda n: None, lambda m, a, o: (None, m), act=lambda m, P, rng: (np.zeros(4, int), m))
    report = ud.certify(bandit, host, key=jax.random.key(0), num_episodes=4, num_rounds=1, baselines=False)
    assert pickle.loads(pickle.dumps(report)) == report
