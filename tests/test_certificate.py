"""The certificate: its values for exact agents, and that it says what it cannot say."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import arm, opening
from undelude._certificate.certificate import QUANTITIES
from undelude._certificate.example_episode import example_episode


@pytest.fixture(scope="module")
def reports(bandit):
    """Of the exact agents on the paper's bandit."""
    return {mark: ud.certify(bandit, ud.ExactAgent(bandit, mark), key=jax.random.key(0)) for mark in ("do", "see")}


# Monte Carlo of independent NumPy code, 100,000 episodes, +-.001.
REFERENCE = {
    "do": {"action_kl_do": 0.0, "action_kl_see": 0.109, "observation_kl_see": 0.047, "deluded_fraction": 0.0095},
    "see": {"action_kl_do": 0.239, "action_kl_see": 0.0, "observation_kl_do": 0.149, "deluded_fraction": 0.52},
}
REWARD = {"do": 0.434, "see": 0.397}
GAP = {"do": (0.0, 0.0), "see": (0.378, 0.172)}


@pytest.mark.parametrize("mark", ["do", "see"])
def test_exact_agents_on_the_bandit(reports, mark):
    """Within four standard errors of independent values."""
    report = reports[mark]
    action_gap, observation_gap = GAP[mark]
    expected = REFERENCE[mark] | {
        "reward": REWARD[mark],
        "reward_exact_do": REWARD["do"],
        "reward_exact_see": REWARD["see"],
        "reward_expert": 0.55,
        "action_calibration_gap": action_gap,
        "observation_calibration_gap": observation_gap,
    }
    for name, want in expected.items():
        have, se = getattr(report, name), getattr(report, f"{name}_se")
        assert abs(have - want) < 4 * se + 0.002, name
    assert all(getattr(report, name) is not None for name in QUANTITIES)


def test_log_loss_is_entropy_and_divergence(reports):
    """`E[-log P] = E[H(Q)] + E[KL(Q || P)]`: the sober agent has the least log-loss of both on its own histories,
    and the deluded agent's gap is its divergence and its over-confidence."""
    for report in reports.values():
        assert report.action_log_loss > 0
    assert reports["see"].action_log_loss > reports["do"].action_log_loss


def test_delusion_gap_is_the_deluded_agent_s_certificate(bandit, reports):
    """And holds what delusion costs in reward."""
    gap = ud.delusion_gap(bandit, key=jax.random.key(0))
    assert gap.action_kl_do == reports["see"].action_kl_do
    assert gap.reward_exact_do - gap.reward > 0.02


def test_an_infinite_divergence_is_said(no_type_checks):
    """Frog: a deluded agent rules out what then happens. KL is infinite, and total variation stands beside it."""
    frog = ud.tasks.prize_or_frog()
    report = ud.certify(frog, ud.ExactAgent(frog, "see"), key=jax.random.key(0), num_episodes=64)
    assert report.observation_kl_do == math.inf
    assert report.observation_kl_do_se is None
    assert report.observation_tv_do == pytest.approx(0.5)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["observation_kl_do"] == "inf"
    assert data["observation_calibration_gap"] == "inf"


def test_what_has_no_reference_is_none_and_says_why():
    """With fewer actions than thetas a policy implies no belief."""
    process = ud.tasks.from_tables(
        prior=[0.4, 0.3, 0.3], expert=[[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], task=np.full((3, 2, 2), 0.5), num_rounds=2
    )
    agent = ud.LSTMAgent(process, 4, key=jax.random.key(0))
    report = ud.certify(process, agent, key=jax.random.key(0), num_episodes=16, baselines=False)
    assert report.deluded_fraction is None
    assert "implies no belief" in report.notes["deluded_fraction"]
    assert report.reward_expert is None
    assert "baselines" in report.notes["reward_expert"]


def test_continuous_actions_and_joint_observations():
    """Sampled divergences: the exact agent's from its own answer is 0, and a net's is positive."""
    process = arm(num_rounds=3)
    exact = ud.certify(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=64, baselines=False)
    assert exact.action_kl_do == pytest.approx(0.0, abs=1e-5)
    assert exact.action_kl_see > 0.05
    agent = ud.LSTMAgent(process, 4, key=jax.random.key(0))
    learned = ud.certify(process, agent, key=jax.random.key(0), num_episodes=64, baselines=False)
    assert learned.action_kl_do > 10 * learned.action_kl_do_se > 0


def test_longer_episodes_and_openings():
    """T is an argument; with an opening there is one observation more to predict."""
    process = opening(telling=0.8)
    report = ud.certify(
        process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=256, num_rounds=5, baselines=False
    )
    assert report.num_rounds == 5
    assert report.action_kl_do == pytest.approx(0.0, abs=1e-6)
    # The opening is a fair coin, and so are all others.
    assert report.observation_log_loss == pytest.approx(math.log(2), abs=4 * report.observation_log_loss_se + 1e-5)


def test_trace_shows_an_episode(bandit):
    """The belief that the exact agent's policy implies is its belief."""
    episode = example_episode(bandit, ud.ExactAgent(bandit, "see"), key=jax.random.key(0), num_episodes=8)
    assert episode["said"] == [str(o) for o in episode["observations"]]
    assert np.shape(episode["policy"]["agent"]) == (21, 5)
    np.testing.assert_allclose(episode["policy"]["agent"], episode["policy"]["exact_see"], atol=1e-5)
    np.testing.assert_allclose(episode["belief"]["agent"], episode["belief"]["exact_see"], atol=1e-4)
    assert np.abs(np.subtract(episode["belief"]["agent"], episode["belief"]["exact_do"])).max() > 0.3
    json.dumps(episode, allow_nan=False)


def test_the_policy_after_the_last_round_is_used(bandit):
    """After one round nobody is sure: seeing arm a and a reward, P(a) = .6 * .75 / (.6 * .75 + 4 * .1 * .25) = .82."""
    report = ud.certify(
        bandit, ud.ExactAgent(bandit, "see"), key=jax.random.key(0), num_episodes=64, num_rounds=1, baselines=False
    )
    assert report.deluded_fraction == 0.0


def test_certify_does_not_change_with_the_chunk(bandit, monkeypatch):
    """How many episodes are scored at a time is a matter of memory alone."""
    agent = ud.ExactAgent(bandit)
    one = ud.certify(bandit, agent, key=jax.random.key(0), num_episodes=50, baselines=False)
    monkeypatch.setattr("undelude._certificate.per_episode.CHUNK", 7)
    jax.clear_caches()
    other = ud.certify(bandit, agent, key=jax.random.key(0), num_episodes=50, baselines=False)
    assert jnp.allclose(one.action_kl_see, other.action_kl_see, atol=1e-6)


def test_a_sober_agent_is_calibrated_where_entropies_are_sampled():
    """Mixtures of normals: the gap is 0 within its standard error, which holds the sampling of the entropy too."""
    process = arm(num_rounds=3)
    report = ud.certify(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=1024, baselines=False)
    assert abs(report.action_calibration_gap) < 4 * report.action_calibration_gap_se
    assert abs(report.observation_calibration_gap) < 4 * report.observation_calibration_gap_se


def test_a_belief_is_compared_with_the_theta_that_it_is_about():
    """Theta goes round and Nature tells it: the sober agent is sure of the next one, and right."""
    told = np.broadcast_to(np.eye(3)[:, None] * 0.97 + 0.01, (3, 3, 3))
    tables = ud.tasks.from_tables(prior=np.full(3, 1 / 3), expert=np.eye(3) * 0.7 + 0.1, task=told)
    process = ud.InteractionProcess(
        prior=tables.prior,
        thetas=tables.thetas,
        task=tables.task,
        expert=tables.expert,
        num_rounds=3,
        transition=lambda theta, w: ud.Categorical(log_probs=jnp.log(jnp.eye(3)[(theta + 1) % 3])),
    )
    report = ud.certify(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=64, baselines=False)
    assert report.deluded_fraction < 0.1


def test_a_belief_is_known_of_whoever_keeps_one():
    """On a task whose policies imply none; a draw at temperature 1 is the exact agent's own."""
    grid = ud.tasks.grid(size=3, num_rounds=8)
    deluded = ud.ExactAgent(grid, own_actions="see")
    agents = deluded, ud.TemperedAgent(deluded, 1.0), ud.ThompsonAgent(grid, own_actions="see")
    size = {"key": jax.random.key(0), "num_episodes": 64, "baselines": False}
    own, tempered, thompson = (ud.certify(grid, agent, **size).deluded_fraction for agent in agents)
    assert own == tempered > 0.3
    assert thompson > 0.3


def test_impossible_readings_are_noted():
    """Frog over two rounds: some of what a sober agent does, no expert would."""
    frog = ud.tasks.prize_or_frog(num_rounds=2)
    report = ud.certify(frog, ud.ExactAgent(frog), key=jax.random.key(0), num_episodes=64, baselines=False)
    assert "impossible" in report.notes["impossible_see"]
    assert "infinite" in report.notes["action_kl_see"]
    assert not {"action_kl_do", "impossible_do"} & report.notes.keys()


def test_an_exact_agent_whose_thetas_are_in_another_order_is_no_more_deluded(bandit: ud.InteractionProcess):
    """Theta is an index into the process's values, not into the agent's; with the same order, the belief is its own."""
    other = ud.InteractionProcess(np.full(5, 0.2), bandit.thetas[::-1], bandit.task, bandit.expert, 20)
    size = {"key": jax.random.key(0), "num_episodes": 300, "baselines": False}
    same, turned = (ud.certify(bandit, ud.ExactAgent(x), **size).deluded_fraction for x in (bandit, other))
    assert same is not None
    assert turned == pytest.approx(same, abs=0.02)


def test_an_exact_agent_has_a_belief_also_where_its_policy_implies_none():
    """The driver's own, by the filter: the deluded one is sure of the wrong intention more often."""
    merge, fractions = ud.tasks.merge(), {}
    for mark in ("do", "see"):
        agent = ud.ExactAgent(merge, mark)
        size = {"key": jax.random.key(0), "num_episodes": 256}
        fractions[mark] = ud.certify(merge, agent, baselines=False, **size).deluded_fraction
        episodes = ud.rollout(merge, agent, **size)
        belief = np.exp(ud.posterior(merge, episodes)[:, -1])
        deluded = (belief.max(-1) > 0.9) & (belief.argmax(-1) != np.asarray(episodes.theta))
        assert fractions[mark] == pytest.approx(deluded.mean(), abs=1e-6)
    assert fractions["see"] > fractions["do"]
