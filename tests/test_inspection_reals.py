"""The numbers of the inspector where actions or outcomes are real: by Bayes' rule in NumPy, and step by step."""

import itertools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import FIRST, LATER, THETAS, TURN, Coin, Turner, dial
from undelude._inspector.history import History, Round
from undelude._inspector.inspection import DO, MARKED, SEE, TOLD, Inspection
from undelude._inspector.inspector import history_of as history_of_rollout
from undelude._inspector.view import compare, densities, describe, view


@pytest.fixture(scope="module")
def in_dial():
    return Inspection(dial())


@pytest.fixture(scope="module")
def in_arm():
    arm = ud.tasks.arm(num_rounds=4)
    return Inspection(arm, [ud.LSTMAgent(arm, 8, key=jax.random.key(1))])


def normal(x, mean, deviation):
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))


def bayes(history, reads_as_do):
    """Return the belief before each action and after the last outcome, and after each action, in NumPy."""
    belief = np.array([0.2, 0.5, 0.3]) * normal(history.opening, THETAS, FIRST)
    before, after = [belief / belief.sum()], []
    for r, done in zip(history.rounds, reads_as_do, strict=True):
        belief = belief if done else belief * normal(r.action, THETAS, TURN)
        after.append(belief / belief.sum())
        belief = belief * normal(r.observation, THETAS * r.action, LATER)
        before.append(belief / belief.sum())
    return np.array(before), np.array(after)


def moments_of(weights, means, deviation):
    mean = weights @ means
    return mean, np.sqrt(weights @ (deviation**2 + means**2) - mean**2)


def test_every_mark_pattern_of_real_numbers_matches_bayes_rule(in_dial):
    """Beliefs, and the moments of both predictions, for each pattern of marks, with executors mixed."""
    played = [(0.4, 0.3, "agent"), (-0.7, 1.1, "expert"), (1.2, 0.9, "agent")]
    for marks in itertools.product(("do", "see"), repeat=3):
        rounds = [Round(np.float32(a), mark, by, np.float32(o)) for (a, o, by), mark in zip(played, marks, strict=True)]
        history = History((1,), tuple(rounds), np.float32(0.5))
        state = in_dial.read(history)
        do = {MARKED: [x == "do" for x in marks], DO: [True, False, True], SEE: [False] * 3}
        for party, read in do.items():
            account, (before, after) = state.accounts[party], bayes(history, read)
            np.testing.assert_allclose(account.belief, before, atol=1e-5)
            np.testing.assert_allclose(account.acted_belief, after, atol=1e-5)
            np.testing.assert_allclose(account.opening.mean[0], 0.5 * 0 - 0.2 + 0.6, atol=1e-5)
            for t in range(4):
                mean, deviation = moments_of(before[t], THETAS, TURN)
                np.testing.assert_allclose(account.actions.mean[t], mean, atol=1e-4)
                np.testing.assert_allclose(account.actions.deviation[t], deviation, atol=1e-4)
            for t, r in enumerate(rounds):
                mean, deviation = moments_of(after[t], THETAS * r.action, LATER)
                np.testing.assert_allclose(account.observations.mean[t], mean, atol=1e-4)
                np.testing.assert_allclose(account.observations.deviation[t], deviation, atol=1e-4)


def test_kl_and_density_are_those_of_the_mixtures(in_dial):
    """The density at each point of the grid; KL by quadrature, within four standard errors of 128 draws."""
    rounds = (Round(np.float32(0.9), "see", "agent", np.float32(0.1)),)
    history = History((1,), rounds, np.float32(0.5))
    state = in_dial.read(history)
    (before, after), (seen, acted) = bayes(history, [True]), bayes(history, [False])
    x = np.linspace(-6, 7, 20_001)
    for weights, other, means, deviation, found in (
        (before[1], seen[1], THETAS, TURN, state.divergence(DO, SEE).actions[1]),
        (after[0], acted[0], THETAS * 0.9, LATER, state.divergence(DO, SEE).observations[0]),
    ):
        p, q = (normal(x[:, None], means, deviation) @ w for w in (weights, other))
        kl = np.trapezoid(p * np.log(p / q), x)
        spread = np.sqrt(np.trapezoid(p * (np.log(p / q) - kl) ** 2, x) / 128)
        assert abs(found - kl) < 4 * spread
    for outcome, t, weights, means, deviation in (
        (False, 1, seen[1], THETAS, TURN),
        (True, 0, acted[0], THETAS * 0.9, LATER),
    ):
        drawn = densities(in_dial, history, t, outcome=outcome)
        grid = np.array(drawn["grid"][0])
        expected = normal(grid[:, None], means, deviation) @ weights
        np.testing.assert_allclose(drawn["parties"][SEE][0], expected, atol=2e-4)


@pytest.mark.slow
def test_parties_of_the_arm_are_the_agents_of_the_library(in_arm):
    """Step by step through f_A, g_A, f_O, g_O; the density that the page draws is that of f_A."""
    arm, network = in_arm.process, in_arm.agents["agent"]
    history = in_arm.play(in_arm.begin(seed=2), rounds=2, actor=SEE).flip(1)
    state, scenes = in_arm.read(history), in_arm._scenes(in_arm._symbols(history))
    readers = {
        MARKED: (ud.ExactAgent(arm), lambda mark: mark == "do"),
        "agent": (network, lambda mark: mark == "do"),
    }
    for party, (agent, reads) in readers.items():
        account, m = state.accounts[party], agent.init(num_rounds=4)
        f_A, f_O, g_A, g_O = (eqx.filter_jit(x) for x in (agent.f_A, agent.f_O, agent.g_A, agent.g_O))
        for t, r in enumerate(history.rounds):
            drawn = densities(in_arm, history, t, outcome=False)
            Q, grid = f_A(m), np.array(drawn["grid"])
            weights, loc, scale = map(np.asarray, (jnp.exp(Q.log_weights), Q.components.loc, Q.components.scale))
            np.testing.assert_allclose(account.actions.mean[t], weights @ loc, atol=1e-4)
            expected = np.einsum("k,kdg->dg", weights, normal(grid, loc[:, :, None], scale[:, :, None]))
            np.testing.assert_allclose(drawn["parties"][party], expected, atol=2e-3)
            m = g_A(jnp.asarray(r.action), m, intervened=jnp.asarray(reads(r.mark)))
            np.testing.assert_allclose(account.observations[t], f_O(m).parts["cue"].probs, atol=1e-5)
            o = jax.tree.map(lambda x, t=t: x[t], scenes.observations)
            m = g_O(o, m)
        assert len(account.actions.mean) == 3


def test_playing_the_arm_on_is_a_rollout(in_arm):
    played = in_arm.play(in_arm.begin(seed=7), rounds=99, actor=SEE, label=True)
    rolled = ud.rollout(in_arm.process, ud.ExactAgent(in_arm.process, "see"), key=jax.random.key(7), num_episodes=1)
    same = history_of_rollout(in_arm, rolled)
    for r, s in zip(played.rounds, same.rounds, strict=True):
        np.testing.assert_allclose(r.action, s.action, atol=1e-6)
        np.testing.assert_allclose(r.expert_action, s.expert_action, atol=1e-6)
        assert (r.observation, r.mark, r.by) == (s.observation, s.mark, s.by)
    state = in_arm.read(played)
    np.testing.assert_allclose(state.rewards, rolled.reward[0])
    np.testing.assert_allclose(state.accounts[SEE].belief, np.exp(ud.posterior(in_arm.process, rolled)[0]), atol=1e-5)


def test_labels_of_real_numbers_have_the_loss_of_their_density(in_arm):
    """-log of the expert's own normal density, in closed form, for the party that is told theta."""
    history = in_arm.play(in_arm.begin(seed=3), rounds=2, actor=DO, label=True)
    account, label = in_arm.read(history).accounts[TOLD], history.rounds[1].expert_action
    z = (label - account.actions.mean[1]) / 0.05
    expected = 0.5 * (z**2).sum() + 2 * np.log(0.05 * np.sqrt(2 * np.pi))
    assert account.losses[1] == pytest.approx(expected, abs=1e-3)
    assert np.isnan(in_arm.read(history.edit(0, expert_action=None)).accounts[TOLD].losses[0])


def test_edited_number_moves_the_arm(in_arm):
    """The pose is given: what the arm shows after an edit follows from the edited turn, and so does the expert."""
    history = in_arm.play(in_arm.begin(seed=1), rounds=3, actor=DO)
    edited = history.edit(0, action=np.array([0.3, -0.2], np.float32))
    scenes = in_arm._scenes(in_arm._symbols(edited))
    joints = np.array([0.3, np.pi / 2 - 0.2])
    np.testing.assert_allclose(scenes.observations["joints"][0][:4], [*np.cos(joints), *np.sin(joints)], atol=1e-5)
    means = [in_arm.read(x).accounts[TOLD].actions.mean[1] for x in (history, edited)]
    assert np.abs(means[0] - means[1]).max() > 0.01


def test_real_numbers_travel_as_json_and_compile_nothing(in_arm, compilations):
    """An episode comes back as it was; a flip of it compiles nothing; the page's numbers have no NaN in them."""
    history = in_arm.play(in_arm.begin(seed=4), rounds=3, actor=SEE)
    stored = json.loads(json.dumps(in_arm.to_json(history)))
    again = in_arm.from_json(stored)
    assert all((r.action == s.action).all() for r, s in zip(history.rounds, again.rounds, strict=True))
    json.dumps([compare(in_arm, history), describe(in_arm, notes={})], allow_nan=False)
    shown = view(in_arm, in_arm.read(history), task="arm")
    compilations()
    flipped = view(in_arm, in_arm.read(again.flip(0)), task="arm")
    assert compilations() == 0
    assert shown["actions"] == flipped["actions"]
    assert shown["actions"][0]["value"] == stored["rounds"][0]["action"]
    row = flipped["parties"][MARKED]["actions"][1]
    assert np.shape(row) == (2, 2)
    for wrong in ([0.1], 0.1, [0.1, None], [1e60, 0.0], ["0", "0"]):
        bad = stored | {"rounds": [stored["rounds"][0] | {"action": wrong}]}
        with pytest.raises(ValueError, match=r"rounds\[0\].action"):
            in_arm.from_json(bad)


def test_bounded_numbers_keep_their_bounds():
    """In a box, a number outside it is refused, the grid ends at it, and the density is that of the squashed normal."""
    inspection = Inspection(dial(low_high=(-1.0, 3.0)))
    history = History((0,), (Round(np.float32(0.5), "do", observation=np.float32(0.2)),), np.float32(1.0))
    stored = inspection.to_json(history)
    bad = stored | {"rounds": [stored["rounds"][0] | {"action": 3.5}]}
    with pytest.raises(ValueError, match=r"rounds\[0\].action must be from -1.0 to 3.0"):
        inspection.from_json(bad)
    drawn = densities(inspection, history, 0, outcome=False)
    grid = np.array(drawn["grid"][0])
    assert -1 <= grid[0] < grid[-1] <= 3
    inside = grid[5:-5]
    z = np.arctanh((inside - 1) / 2)
    weights = inspection.read(history).accounts[DO].belief[0]
    expected = (normal(z[:, None], THETAS, TURN) @ weights) / (2 * (1 - np.tanh(z) ** 2))
    np.testing.assert_allclose(drawn["parties"][DO][0][5:-5], expected, rtol=2e-2, atol=2e-3)


def test_policy_in_python_predicts_real_numbers(in_dial):
    """Exact do in NumPy: its moments are those of exact do, at distance 0; one that predicts nothing is not shown."""

    def reset(num_episodes):
        return np.tile([0.2, 0.5, 0.3], (num_episodes, 1))

    def predict(belief, a, o):
        shown = normal(np.asarray(o)[:, None], THETAS, FIRST) if a is None else None
        later = normal(np.asarray(o)[:, None], THETAS * np.asarray(a)[:, None], LATER) if a is not None else shown
        belief = belief * later
        belief = belief / belief.sum(-1, keepdims=True)
        mixture = ud.Mixture(
            ud.Normal(jnp.tile(jnp.asarray(THETAS), (len(belief), 1)), TURN), log_weights=jnp.log(jnp.asarray(belief))
        )
        return mixture, belief

    inspection = Inspection(in_dial.process, {"host": ud.HostAgent(reset, predict)})
    history = inspection.play(inspection.begin(seed=2), rounds=3, actor="host")
    state = inspection.read(history)
    np.testing.assert_allclose(state.accounts["host"].actions.mean, state.accounts[DO].actions.mean, atol=1e-4)
    np.testing.assert_allclose(state.divergence(DO, "host").actions, 0, atol=1e-4)
    assert np.isnan(state.accounts["host"].observations.mean).all()
    json.dumps(view(inspection, state, task=None), allow_nan=False)


def test_numbers_that_do_not_fit_on_the_page_are_refused():
    coin = ud.tasks.bandit(num_arms=3)
    process = ud.InteractionProcess(coin.prior, THETAS.astype(np.float32), Coin(), Turner(size=13), 2)
    with pytest.raises(TypeError, match=r"actions of numbers \[13\], .* at most 12 real numbers"):
        Inspection(process)
