"""The certificate: its values for exact agents, and the reasons for missing values."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import arm, opening
from undelude._certificate.baselines import BASELINES
from undelude._certificate.certificate import QUANTITIES
from undelude._certificate.example_episode import example_episode
from undelude._certificate.per_episode import implied_belief

KEY = jax.random.key(0)
# With the rewards of other policies a certificate takes three times as long.
with_and_without_baselines = pytest.mark.parametrize("baselines", [False, pytest.param(True, marks=pytest.mark.slow)])


def certify(process, agent, num_episodes=64, **options):
    """The certificate without baselines."""
    return ud.certify(process, agent, key=KEY, num_episodes=num_episodes, baselines=False, **options)


@pytest.fixture(scope="module")
def reports(bandit):
    """The certificates of the exact agents on the paper's bandit."""
    return {mark: ud.certify(bandit, ud.ExactAgent(bandit, mark), key=KEY) for mark in ("do", "see")}


# Estimates by independent NumPy code from 100,000 episodes, standard error .001.
REFERENCE = {
    "do": {"action_kl_do": 0.0, "action_kl_see": 0.109, "observation_kl_see": 0.047, "deluded_fraction": 0.0095},
    "see": {"action_kl_do": 0.239, "action_kl_see": 0.0, "observation_kl_do": 0.149, "deluded_fraction": 0.52},
}
REWARD = {"do": 0.434, "see": 0.397}
GAP = {"do": (0.0, 0.0), "see": (0.378, 0.172)}


@pytest.mark.parametrize("mark", ["do", "see"])
def test_exact_agents_on_bandit(reports, mark):
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


def test_sober_agent_has_the_smaller_log_loss(reports):
    """`E[-log P] = E[H(Q)] + E[KL(Q || P)]`, and its divergence is zero."""
    for report in reports.values():
        assert report.action_log_loss > 0
    assert reports["see"].action_log_loss > reports["do"].action_log_loss


def test_delusion_gap_certifies_the_deluded_agent(bandit, reports):
    """Its rewards give the cost of delusion in reward."""
    gap = ud.delusion_gap(bandit, key=KEY)
    assert gap.action_kl_do == reports["see"].action_kl_do
    assert gap.reward_exact_do - gap.reward > 0.02


def test_infinite_divergence(no_type_checks):
    """In the frog the deluded agent rules out what then happens: the KL is infinite, the total variation is not."""
    frog = ud.tasks.prize_or_frog()
    report = certify(frog, ud.ExactAgent(frog, "see"))
    assert report.observation_kl_do == math.inf
    assert "infinite" in report.notes["observation_kl_do"]
    assert report.observation_kl_do_se is None
    assert report.observation_tv_do == pytest.approx(0.5)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["observation_kl_do"] == "inf"
    assert data["observation_calibration_gap"] == "inf"


def test_missing_quantities_have_a_reason():
    """With fewer actions than thetas a policy implies no belief."""
    process = ud.tasks.from_tables(
        prior=[0.4, 0.3, 0.3], expert=[[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], task=np.full((3, 2, 2), 0.5), num_rounds=2
    )
    report = certify(process, ud.LSTMAgent(process, 4, key=KEY), num_episodes=16)
    assert report.deluded_fraction is None
    assert "implies no belief" in report.notes["deluded_fraction"]
    assert report.reward_expert is None
    assert "baselines" in report.notes["reward_expert"]
    missing = {name for name, quantity in report.quantities.items() if quantity.value is None}
    assert missing == report.notes.keys() == {"deluded_fraction", *BASELINES}
    assert all(report.quantities[name].why_none == note for name, note in report.notes.items())


@pytest.fixture(scope="module")
def of_arm():
    """The arm, and the certificate of its sober agent."""
    process = arm(num_rounds=3)
    return process, certify(process, ud.ExactAgent(process), num_episodes=1024)


def test_continuous_actions_and_joint_observations(of_arm):
    """Divergences are sampled: zero for the exact agent from its own answer, positive for a network."""
    process, exact = of_arm
    assert exact.action_kl_do == pytest.approx(0.0, abs=1e-5)
    assert exact.action_kl_see > 0.05
    learned = certify(process, ud.LSTMAgent(process, 4, key=KEY))
    assert learned.action_kl_do > 10 * learned.action_kl_do_se > 0


def test_longer_episodes_and_openings():
    """T is an argument; an opening is one more observation to predict."""
    process = opening(telling=0.8)
    report = certify(process, ud.ExactAgent(process), num_episodes=256, num_rounds=5)
    assert report.num_rounds == 5
    assert report.action_kl_do == pytest.approx(0.0, abs=1e-6)
    # Every observation is a fair coin.
    assert report.observation_log_loss == pytest.approx(math.log(2), abs=4 * report.observation_log_loss_se + 1e-5)


def test_example_episode(bandit):
    """The belief that the exact agent's policy implies is its belief."""
    episode = example_episode(bandit, ud.ExactAgent(bandit, "see"), key=KEY, num_episodes=8)
    assert episode["said"] == [str(o) for o in episode["observations"]]
    assert np.shape(episode["policy"]["agent"]) == (21, 5)
    np.testing.assert_allclose(episode["policy"]["agent"], episode["policy"]["exact_see"], atol=1e-5)
    np.testing.assert_allclose(episode["belief"]["agent"], episode["belief"]["exact_see"], atol=1e-4)
    assert np.abs(np.subtract(episode["belief"]["agent"], episode["belief"]["exact_do"])).max() > 0.3
    json.dumps(episode, allow_nan=False)


def test_belief_is_that_after_the_last_round(bandit):
    """After one round none is certain: an arm seen to pay is best with .6 * .75 / (.6 * .75 + 4 * .1 * .25) = .82."""
    assert certify(bandit, ud.ExactAgent(bandit, "see"), num_rounds=1).deluded_fraction == 0.0


@with_and_without_baselines
def test_pieces_have_no_effect(bandit, monkeypatch, baselines):
    """The number of episodes that a program plays and scores at a time changes time and memory alone."""
    agent = ud.ExactAgent(bandit)
    one = ud.certify(bandit, agent, key=KEY, num_episodes=50, baselines=baselines)
    monkeypatch.setattr("undelude._pieces.PIECE", 16)
    monkeypatch.setattr("undelude._certificate.per_episode.MAX_WORK", 7 * 20 * 5)
    other = ud.certify(bandit, agent, key=KEY, num_episodes=50, baselines=baselines)
    for name, quantity in one.quantities.items():
        assert quantity.value == pytest.approx(other.quantities[name].value, abs=1e-6), name


def test_sober_agent_is_calibrated_on_the_arm(of_arm):
    """Entropies of mixtures of normals are sampled; the standard error of the gap includes this noise."""
    _, report = of_arm
    assert abs(report.action_calibration_gap) < 4 * report.action_calibration_gap_se
    assert abs(report.observation_calibration_gap) < 4 * report.observation_calibration_gap_se


def test_belief_is_about_the_next_theta():
    """Theta goes round and Nature reveals it: the sober agent is certain of the next theta, and right."""
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
    assert certify(process, ud.ExactAgent(process)).deluded_fraction < 0.1


@pytest.fixture(scope="module")
def grid():
    """A task whose policies imply no belief."""
    return ud.tasks.grid(size=3, num_rounds=8)


@pytest.mark.slow
def test_belief_of_agents_that_keep_one(grid):
    """At temperature 1 the tempered agent is the exact agent."""
    deluded = ud.ExactAgent(grid, own_actions="see")
    own, tempered = (certify(grid, agent).deluded_fraction for agent in (deluded, ud.TemperedAgent(deluded, 1.0)))
    assert own == tempered > 0.3


def test_belief_of_an_agent_that_commits(grid):
    assert certify(grid, ud.ThompsonAgent(grid, own_actions="see")).deluded_fraction > 0.3


def test_impossible_readings_are_noted():
    """Over two rounds of the frog a sober agent sometimes acts as no expert would."""
    frog = ud.tasks.prize_or_frog(num_rounds=2)
    report = certify(frog, ud.ExactAgent(frog))
    assert "impossible" in report.notes["impossible_see"]
    assert "infinite" in report.notes["action_kl_see"]
    assert not {"action_kl_do", "impossible_do"} & report.notes.keys()


def test_exact_agent_with_reordered_thetas(bandit: ud.InteractionProcess):
    """Theta is an index into the values of the process. The belief of such an agent is the one its policy implies."""
    other = ud.InteractionProcess(np.full(5, 0.2), bandit.thetas[::-1], bandit.task, bandit.expert, 20)
    same, turned = (certify(bandit, ud.ExactAgent(x), 300).deluded_fraction for x in (bandit, other))
    assert same is not None
    assert turned == pytest.approx(same, abs=0.02)


@pytest.mark.slow
def test_belief_of_exact_drivers():
    """The belief is that of the filter, as merging policies imply none; the deluded driver is wrong more often."""
    merge, fractions = ud.tasks.merge(), {}
    for mark in ("do", "see"):
        agent = ud.ExactAgent(merge, mark)
        fractions[mark] = certify(merge, agent, num_episodes=256).deluded_fraction
        episodes = ud.rollout(merge, agent, key=KEY, num_episodes=256)
        belief = np.exp(ud.posterior(merge, episodes)[:, -1])
        deluded = (belief.max(-1) > 0.9) & (belief.argmax(-1) != np.asarray(episodes.theta))
        assert fractions[mark] == pytest.approx(deluded.mean(), abs=1e-6)
    assert fractions["see"] > fractions["do"]


@with_and_without_baselines
def test_strict_promotion(frog, baselines):
    """Many users of Equinox develop with it: teaching, rollouts and certificates promote no types implicitly."""
    with jax.numpy_dtype_promotion("strict"):
        agent = ud.TransformerAgent(frog, hidden_size=4, key=KEY)
        agent = ud.teach(frog, agent, ud.Mixed(0.5), key=KEY, steps=1, batch_size=2).agent
        assert ud.certify(frog, agent, key=KEY, num_episodes=4, baselines=baselines).action_kl_do > 0


def test_a_belief_is_implied_by_one_decomposition():
    """It holds the weights of the mixture. Two decompositions in a program waited for each other for ever."""
    experts, weights = jnp.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), jnp.array([0.25, 0.75])

    def belief(experts, policy):
        return implied_belief(ud.Categorical(log_probs=jnp.log(experts)), ud.Categorical(log_probs=jnp.log(policy)))

    assert str(jax.make_jaxpr(belief)(experts, weights @ experts)).count(" svd[") == 1
    np.testing.assert_allclose(belief(experts, weights @ experts), weights, atol=1e-6)
    assert np.isnan(belief(jnp.stack([experts[0]] * 2), experts[0])).all()
