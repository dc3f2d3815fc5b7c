"""The best reward without theta, and whether imitation is the right goal (Weihs et al., 2021)."""

import itertools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyspiel
import pytest
from open_spiel.python import policy
from open_spiel.python.algorithms import best_response

import undelude as ud
from processes import arm
from undelude._agents.planning import num_nodes
from undelude._certificate.baselines import advise
from undelude._certificate.quantity import Quantity

KEY = jax.random.key(0)
RNG = np.random.default_rng(1)
PRIOR = RNG.dirichlet(np.ones(3))
EXPERT = RNG.dirichlet(np.ones(2), 3)
TASK = RNG.dirichlet(np.ones(2), (3, 2))
REWARDS = np.array([-0.4, 1.0])


@pytest.fixture(scope="module")
def process():
    return ud.tasks.from_tables(prior=PRIOR, expert=EXPERT, task=TASK, rewards=REWARDS, num_rounds=3)


def best(joint, left):
    """The best return of `left` rounds, and that of each first action; `joint` is P(theta, observations so far)."""
    if left == 0:
        return 0.0, np.zeros(2)
    values = []
    for a in range(2):
        after = joint[:, None] * TASK[:, a]  # [K, O]
        values.append(sum(after[:, o].sum() * REWARDS[o] + best(after[:, o], left - 1)[0] for o in range(2)))
    return max(values), np.array(values)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_values_by_backward_induction(process, depth):
    """Against backward induction over unnormalised joints in NumPy; rounds past the end bring no reward."""
    agent = ud.PlanningAgent(process, depth)
    values = eqx.filter_jit(lambda agent, m: agent.values(m))
    m = agent.init(num_rounds=3)
    np.testing.assert_allclose(values(agent, m), best(PRIOR, min(depth, 3))[1], atol=1e-6)
    for a, o in itertools.product(range(2), repeat=2):
        after = agent.g_O(jnp.array(o), agent.g_A(jnp.array(a), m, intervened=True))
        joint = PRIOR * TASK[:, a, o]
        np.testing.assert_allclose(values(agent, after), best(joint / joint.sum(), min(depth, 2))[1], atol=1e-6)


def test_whole_plan_is_optimal(process):
    """The mean return of a whole plan is the value of the tree; imitator and deluded agent have no more."""
    size = {"key": KEY, "num_episodes": 4000}
    returns = {
        name: np.asarray(ud.rollout(process, agent, **size).reward).sum(1)
        for name, agent in {
            "plan": ud.PlanningAgent(process, 3),
            "do": ud.ExactAgent(process),
            "see": ud.ExactAgent(process, "see"),
        }.items()
    }
    value, error = best(PRIOR, 3)[0], returns["plan"].std() / 4000**0.5
    assert abs(returns["plan"].mean() - value) < 4 * error
    for name in ("do", "see"):
        assert returns[name].mean() < value + 4 * error
    plan = ud.PlanningAgent(process, 1)
    np.testing.assert_allclose(plan.f_A(plan.init(num_rounds=3)).probs, PRIOR @ EXPERT, atol=1e-6)


def test_impossible_plans(process):
    assert num_nodes(process, 3) == 2 * 4**2
    with pytest.raises(ValueError, match=r"10 rounds ahead in tables has 5e\+05 nodes.*smaller depth"):
        ud.PlanningAgent(process, 10)
    with pytest.raises(TypeError, match=r"actions that are .*, but a plan needs symbols"):
        ud.PlanningAgent(arm(), 1)


def certify(process, **size):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ud.certify(process, ud.ExactAgent(process), key=KEY, num_episodes=400, **size)


def test_poisoned_doors_warn():
    """The imitator opens a door at random although another action pays 1 for sure, and `certify` warns."""
    process = ud.tasks.doors(expert_accuracy=0.97)
    with pytest.warns(UserWarning, match=r"doors: imitation is the wrong goal.*imitator earns -0\.\d+.*theta 1\.000"):
        report = ud.certify(process, ud.ExactAgent(process), key=KEY, num_episodes=400)
    # 1 with probability .01, and else 2 for one door in three and -2 for two.
    assert abs(report.reward_exact_do - (0.01 - 0.99 * 2 / 3)) < 4 * report.reward_exact_do_se
    assert report.reward_best == report.reward_constant == 1.0
    # 2 with probability .97, 1 behind the lock with .01, and -2 with .02.
    assert abs(report.reward_expert - (2 * 0.97 + 0.01 - 2 * 0.02)) < 4 * report.reward_expert_se + 1e-6
    assert report.imitation_gap_first == pytest.approx(report.imitation_gap_last)
    assert report.notes["imitation"] in str(report)
    assert "Bayes-optimal" in report.notes["reward_best"]


@pytest.mark.slow
def test_imitator_never_looks():
    """If a look costs a tenth, the plan looks first, and the expert's imitator never does."""
    process = ud.tasks.doors(num_doors=3, look=0.9, num_rounds=2, expert_accuracy=0.97)
    episodes = ud.rollout(process, ud.PlanningAgent(process, 2), key=KEY, num_episodes=400)
    assert bool((episodes.actions[:, 0] == 3).all())
    # It then opens the door that it saw: .9 * 2 - .1 * 2 - .1, over two rounds.
    report = certify(process)
    assert abs(report.reward_best - 1.5 / 2) < 4 * report.reward_best_se
    assert "imitation" in report.notes


@pytest.mark.slow
def test_no_warning_if_imitation_works(bandit, frog):
    """The bandit's imitator learns by acting as the expert does; about the boxes no policy can learn."""
    for process in (bandit, frog):
        report = ud.certify(process, ud.ExactAgent(process), key=KEY, num_episodes=400)  # Warnings are errors.
        assert "imitation" not in report.notes
        assert report.imitation_gap_first > 0.3
    assert report.reward_best == pytest.approx(0, abs=4 * report.reward_best_se)


def advice(values):
    """Return the advice on the values and standard errors of a certificate."""
    return advise({name: Quantity(x, values.get(f"{name}_se")) for name, x in values.items()})


def test_conditions_of_advice():
    """Advice is given only if all of its conditions hold."""
    values = {"imitation_gap_first": 0.5, "imitation_gap_last": 0.49}
    values |= {"reward_exact_do": 0.1, "reward_best": 0.5, "reward_expert": 0.9, "reward_constant": 0.0}
    values |= {f"{name}_se": 0.01 for name in ("reward_exact_do", "reward_best", "reward_expert", "reward_constant")}
    assert "0.500 nats" in advice(values)
    for name, better in (
        ("imitation_gap_last", 0.4),
        ("imitation_gap_last", 0.5),
        ("reward_best", 0.15),
        ("reward_expert", None),
    ):
        assert advice(values | {name: better}) is None
    assert advice(values | {"imitation_gap_last": 0.1, "reward_constant": 0.3}) is not None
    assert advice(values | {"imitation_gap_last": 0.1, "reward_constant": 0.3, "reward_expert": 0.3}) is None


def test_opening_is_not_a_round():
    """Against OpenSpiel's best response in Kuhn poker, for a player who sees only its own card."""
    from undelude.tasks.cards import _load

    game = pyspiel.load_game("kuhn_poker")
    table = dict(zip(_load("kuhn")["states"], np.array(_load("kuhn")["nash"]), strict=True))

    def probabilities(state):
        row = table[state.information_state_string()]
        return {a: row[a] / row[state.legal_actions()].sum() for a in state.legal_actions()}

    opponent = policy.tabular_policy_from_callable(game, probabilities)
    want = sum(
        best_response.BestResponsePolicy(game, seat, opponent).value(game.new_initial_state()) for seat in (0, 1)
    )
    kuhn = ud.tasks.kuhn()
    paid = ud.rollout(kuhn, ud.PlanningAgent(kuhn, depth=2), key=jax.random.key(0), num_episodes=20_000).reward.sum(1)
    assert abs(float(paid.mean()) - want / 2) < 4 * float(paid.std()) / np.sqrt(20_000)


def test_infinite_tree_is_refused():
    with pytest.raises(ValueError, match="inf nodes"):
        ud.PlanningAgent(ud.tasks.bandit(), depth=400)


def test_advice_names_the_cause():
    """The causes: the imitator never learns; a constant action is better; a policy without theta beats the expert."""
    values = {"reward_exact_do": 0.1, "reward_expert": 0.5, "reward_best": 0.4, "reward_constant": 0.1}
    values |= {"imitation_gap_first": 0.5, "imitation_gap_last": 0.49} | {f"{name}_se": 0.001 for name in values}
    never = advice(values)
    assert never is not None
    assert "never gathers" in never
    assert "more than the expert" not in never
    always = advice(values | {"imitation_gap_last": 0.1, "reward_constant": 0.3})
    assert always is not None
    assert "never gathers" not in always
    assert "always taking the same action earns more (0.300 per round)" in always
    better = advice(values | {"reward_best": 0.6})
    assert better is not None
    assert "more than the expert itself earns" in better
    assert advice(values | {"imitation_gap_last": 0.1}) is None
