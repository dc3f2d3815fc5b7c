"""Worlds: episodes that end early, simulators that can only be sampled, and every pairing of agent and world."""

import dataclasses
import itertools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import arm
from undelude._certificate.baselines import measure_baselines
from undelude._distributions import Symbols
from undelude._process.host_world import AbstractHostWorld
from undelude._process.world import AbstractWorld, EpisodeKeys, RoundKeys
from undelude._rollout.host import play
from undelude._rollout.scan import run_episode
from undelude._teaching.updates import collect

KEY = jax.random.key(0)
T = 4
# P(o | theta, a) for o in survive-bad, survive-good, over; and the expert's P(a | theta).
Q_O = np.array([[[0.5, 0.2, 0.3], [0.3, 0.6, 0.1]], [[0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]])
Q_A = np.array([[0.8, 0.2], [0.3, 0.7]])
PRIOR = np.array([0.4, 0.6])
OVER = 2


class Hazard(ud.AbstractTask):
    """The episode ends with the observation `over`, whose probability depends on theta."""

    theta_free_memory: ClassVar[bool] = True

    def init(self, theta):
        return jnp.zeros((), jnp.int32)

    def Q_O(self, theta, w):
        return ud.Categorical(probs=jnp.asarray(Q_O, float)[theta, w])

    def g_A(self, theta, a, w):
        return jnp.asarray(a, jnp.int32)

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return jnp.where(o == OVER, -1.0, jnp.asarray(o, float))

    def ends(self, o):
        return o == OVER


class Absorbed(Hazard):
    """The same world written without an end: after `over`, only `over` comes, whatever theta is."""

    def init(self, theta):
        return jnp.zeros((), jnp.int32), jnp.zeros((), bool)

    def Q_O(self, theta, w):
        over = jnp.array([0.0, 0.0, 1.0])
        return ud.Categorical(probs=jnp.where(w[1], over, jnp.asarray(Q_O, float)[theta, w[0]]))

    def g_A(self, theta, a, w):
        return jnp.asarray(a, jnp.int32), w[1]

    def g_O(self, theta, o, w):
        return w[0], w[1] | (o == OVER)

    def reward(self, theta, w, a, o):
        return jnp.where(w[1], 0.0, Hazard.reward(self, theta, w, a, o))

    def ends(self, o):
        return jnp.zeros((), bool)


class Expert(ud.AbstractExpert):
    """Acts by theta alone."""

    theta_free_memory: ClassVar[bool] = True

    def init(self, theta):
        return ()

    def Q_A(self, theta, e):
        return ud.Categorical(probs=jnp.asarray(Q_A, float)[theta])

    def g_A(self, theta, a, e):
        return e

    def g_O(self, theta, o, e):
        return e


def process(task):
    return ud.InteractionProcess(PRIOR, jnp.arange(2), task, Expert(), T, name="hazard")


@pytest.fixture(scope="module")
def hazard():
    return process(Hazard())


@pytest.fixture(scope="module")
def episodes(hazard):
    return ud.rollout(hazard, ud.ExactAgent(hazard), key=KEY, num_episodes=4096)


def brute_force(actions, observations, done):
    """P(theta | history), by Bayes' rule over the rounds that exist."""
    weights = PRIOR.copy()
    for a, o, is_done in zip(actions, observations, done, strict=True):
        weights = weights * (1 if is_done else Q_A[:, a]) * Q_O[:, a, o]
        if o == OVER:
            break
    return weights / weights.sum()


def test_mask_ends_with_the_first_over(episodes):
    over = np.asarray(episodes.observations) == OVER
    before = np.cumsum(over, axis=1) - over
    np.testing.assert_array_equal(episodes.mask, before == 0)
    assert not np.asarray(episodes.mask).all()
    np.testing.assert_array_equal(np.asarray(episodes.reward)[~np.asarray(episodes.mask)], 0)


@pytest.mark.parametrize("mark", ["do", "see"])
def test_end_of_an_episode_is_evidence(hazard, mark):
    """Every history of three rounds: the belief is Bayes' rule over the rounds that exist, and stays from there on."""
    rounds = list(itertools.product(range(2), range(3)))
    histories = np.array(list(itertools.product(rounds, repeat=3)))
    actions, observations = histories[..., 0], histories[..., 1]
    over = observations == OVER
    mask = (np.cumsum(over, 1) - over) == 0
    stored = ud.Episodes.of(
        hazard, actions=actions, observations=observations, intervened=np.full(mask.shape, mark == "do"), mask=mask
    )
    belief = np.exp(np.asarray(ud.posterior(hazard, stored)))[:, -1]
    expected = [brute_force(a, o, [mark == "do"] * 3) for a, o in zip(actions, observations, strict=True)]
    np.testing.assert_allclose(belief, expected, atol=1e-5)


def test_absorbing_process_has_the_same_beliefs(hazard, episodes):
    """Ending and being absorbed are one world, written twice."""
    absorbed = process(Absorbed())
    frozen = np.where(np.asarray(episodes.mask), np.asarray(episodes.observations), OVER)
    same = ud.Episodes.of(absorbed, actions=episodes.actions, observations=frozen)
    np.testing.assert_allclose(ud.posterior(hazard, episodes), ud.posterior(absorbed, same), atol=1e-5)


def test_padding_is_never_read(hazard, episodes):
    """Symbols after the end, even impossible ones, change no belief, no loss and no gradient."""
    mask = np.asarray(episodes.mask)
    padded = dataclasses.replace(
        episodes,
        actions=jnp.where(mask, episodes.actions, 99),
        observations=jnp.where(mask, episodes.observations, -7),
        expert_actions=jnp.where(mask, episodes.expert_actions, 99),
    )
    np.testing.assert_array_equal(ud.posterior(hazard, episodes), ud.posterior(hazard, padded))
    agent = ud.LSTMAgent(hazard, hidden_size=4, key=KEY)

    @jax.jit
    @jax.value_and_grad
    def loss(agent, episodes):
        action, observation = jax.vmap(lambda e: ud.log_losses(agent, e, target="sample"))(episodes)
        return action.mean() + observation.mean()

    first = jax.tree.map(lambda x: x[:64], (episodes, padded))
    values = [loss(agent, e) for e in first]
    assert values[0][0] == values[1][0]
    jax.tree.map(np.testing.assert_array_equal, values[0][1], values[1][1])


def test_lifetimes_follow_the_hazard(episodes):
    """P(round t exists) for the exact agent on its first two rounds, against the enumeration."""
    survive_1 = sum(PRIOR[k] * p_a * (1 - Q_O[k, a, OVER]) for k in range(2) for a, p_a in enumerate(PRIOR @ Q_A))
    exists = np.asarray(episodes.mask)[:, 1]
    assert abs(exists.mean() - survive_1) < 4 * math.sqrt(0.25 / len(exists))


def test_causal_model_refuses_early_ends(hazard):
    with pytest.raises(TypeError, match="may end early"):
        hazard.causal_model(num_rounds=2)


def test_plans_end_with_the_episode(hazard):
    """Expectimax earns nothing after the end, as in the process that is absorbed without reward."""
    absorbed = process(Absorbed())
    plans = [ud.PlanningAgent(p, depth=3) for p in (hazard, absorbed)]
    values = [jax.jit(lambda plan: plan.values(plan.init(num_rounds=T)))(plan) for plan in plans]
    np.testing.assert_allclose(*values, atol=1e-5)


class Spent(Absorbed):
    """A hazard whose distribution and reward are not numbers once it is over."""

    def Q_O(self, theta, w):
        return ud.Categorical(probs=jnp.where(w[1], jnp.nan, jnp.asarray(Q_O, float)[theta, w[0]]))

    def reward(self, theta, w, a, o):
        return jnp.where(w[1], jnp.nan, Hazard.reward(self, theta, w, a, o))

    def ends(self, o):
        return o == OVER


@pytest.mark.slow
def test_check_task_stops_at_the_end():
    assert ud.check_task(process(Spent()), num_episodes=64).action_kl_do > 0


class Exit(Hazard):
    """Action 0 pays 1 and ends the episode; action 1 pays .6, and the episode goes on."""

    def Q_O(self, theta, w):
        return ud.Categorical(probs=jnp.where(w == 0, jnp.array([0.0, 0.0, 1.0]), jnp.array([0.5, 0.5, 0.0])))

    def reward(self, theta, w, a, o):
        return jnp.where(o == OVER, 1.0, 0.6)


def test_best_policy_earns_most():
    """Rewards are totals over T: two rounds of action 1 and one of action 0 earn 1.2 + 1, and leaving at once 1."""
    world = ud.InteractionProcess(PRIOR, jnp.arange(2), Exit(), Expert(), num_rounds=3)
    found, _ = measure_baselines(world, key=KEY, num_episodes=64, num_rounds=None)
    assert found["reward_best"].value == pytest.approx((0.6 + 0.6 + 1.0) / 3)
    assert found["reward_constant"].value == pytest.approx(0.6)


def test_metrics_are_means_over_existing_symbols(hazard):
    agent, teaching = ud.LSTMAgent(hazard, 4, key=KEY), ud.Factual(target="sample")
    run = ud.teach(hazard, agent, teaching, key=KEY, steps=1, batch_size=8, log_every=1)
    keys = [jax.random.fold_in(jax.random.fold_in(KEY, 0), i) for i in range(8)]
    draw = jax.jit(lambda key: collect(hazard, agent, teaching, key))
    score = jax.jit(lambda e: ud.log_losses(agent, e, target="sample"))
    episodes = [draw(key) for key in keys]
    losses = [score(e) for e in episodes]
    num_symbols = sum(int(e.mask.sum()) for e in episodes)
    for i, name in enumerate(("action_loss", "observation_loss")):
        assert run.metrics[0][name] == pytest.approx(sum(float(x[i].sum()) for x in losses) / num_symbols, rel=1e-5)


@pytest.mark.parametrize("ended", [3, 1.0, [True]])
def test_end_must_be_a_boolean(ended):
    class Odd(Hazard):
        def ends(self, o):
            return jnp.asarray(ended)

    with pytest.raises(ValueError, match="ends must return one boolean"):
        process(Odd())


def test_padding_without_a_mask_is_refused(hazard):
    with pytest.raises(ValueError, match="mask="):
        ud.Episodes.of(hazard, actions=[[0, 0], [0, 0]], observations=[[0, OVER], [OVER, 0]])
    ud.Episodes.of(
        hazard, actions=[[0, 0], [0, 0]], observations=[[0, OVER], [OVER, 0]], mask=[[True] * 2, [True, False]]
    )
    ud.Episodes.of(hazard, actions=[[0, 0], [0, 0]], observations=[[OVER, 0], [OVER, 0]], mask=[True, False])


def test_host_agent_may_return_nan_after_the_end(hazard):
    """Which episodes have ended is known from the observations; their rows are not read."""

    def predict(over, a, o):
        over = over if o is None else over | (o == OVER)
        return np.where(over_before[-1][:, None], np.nan, 0.5) * np.ones((len(over), 2)), note(over)

    over_before = []

    def note(over):
        over_before.append(over)
        return over

    def reset(num_episodes):
        return note(np.zeros(num_episodes, bool))

    report = ud.certify(hazard, ud.HostAgent(reset, predict), key=KEY, num_episodes=64, baselines=False)
    assert np.isfinite(report.action_kl_do)


class Coin(ud.AbstractAgent):
    """An agent without memory."""

    def init(self, *, num_rounds):
        return ()

    def f_A(self, m):
        return ud.Categorical(probs=jnp.full(2, 0.5))

    def f_O(self, m):
        return ud.Categorical(probs=jnp.full(3, 1 / 3))

    def g_A(self, a, m, *, intervened):
        return m

    def g_O(self, o, m):
        return m


def test_agent_without_memory_in_a_host_world():
    episodes = ud.rollout(HostSimulator(), Coin(), key=KEY, num_episodes=8)
    assert episodes.actions.shape == (8, T)


def test_network_for_a_simulator():
    """A network needs the specs of a world, and no distributions."""
    for world in (Simulator(), HostSimulator()):
        agent = ud.GRUAgent(world, 4, key=KEY)
        assert ud.rollout(world, agent, key=KEY, num_episodes=8).mask.shape == (8, T)


def test_units_ignore_padding():
    """`normalise` measures the rounds that exist: values after the end change nothing."""
    world = arm(num_rounds=3)
    episodes = ud.rollout(world, None, key=KEY, num_episodes=8, executor="expert")
    mask = jnp.arange(3)[None] < jnp.array([1, 2, 3, 3, 3, 3, 3, 3])[:, None]
    masked = dataclasses.replace(episodes, mask=mask)
    spoiled = dataclasses.replace(masked, actions=jnp.where(mask[..., None], episodes.actions, 1e6))
    agent = ud.LSTMAgent(world, 4, key=KEY)
    first, second = (ud.normalise(agent, e) for e in (masked, spoiled))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_gap_in_a_mask_is_refused(hazard):
    with pytest.raises(ValueError, match="mask"):
        ud.Episodes.of(hazard, actions=[0, 0], observations=[0, 0], mask=[False, True])


@pytest.mark.slow
def test_teaching_learns_from_episodes_that_end(hazard):
    """Counterfactual teaching brings an LSTM near the interventional answer here too."""
    agent = ud.LSTMAgent(hazard, hidden_size=8, key=KEY)
    run = ud.teach(hazard, agent, ud.Counterfactual(), key=KEY, steps=200, batch_size=64, log_every=200)
    before = ud.certify(hazard, agent, key=KEY, num_episodes=512, baselines=False)
    after = ud.certify(hazard, run.agent, key=KEY, num_episodes=512, baselines=False)
    assert after.action_kl_do < 0.2 * before.action_kl_do
    assert after.observation_kl_do < 0.2 * before.observation_kl_do


# ------------------------------------------------------------------------------------------------------- simulators


class Simulator(AbstractWorld):
    """The hazard, sampled without a single distribution: what a simulator in JAX can offer."""

    name: ClassVar[str] = "simulator"
    num_rounds: ClassVar[int] = T
    specs: ClassVar[tuple] = (Symbols(2), Symbols(3))
    opening: ClassVar[bool] = False
    theta_changes: ClassVar[bool] = False
    ends_early: ClassVar[bool] = True
    finite: ClassVar[bool] = False

    def begin(self, key, theta=None):
        drawn = jax.random.bernoulli(EpisodeKeys.of(key).theta, PRIOR[1]).astype(jnp.int32)
        return (drawn if theta is None else theta), None

    def theta(self, state):
        return state

    def consult(self, state, key):
        p = jnp.asarray(Q_A, float)[state]
        return None, jax.random.choice(RoundKeys.of(key).expert, 2, p=p).astype(jnp.int32)

    def respond(self, state, a, key):
        o = jax.random.choice(RoundKeys.of(key).observation, 3, p=jnp.asarray(Q_O, float)[state, a]).astype(jnp.int32)
        return state, o, jnp.where(o == OVER, -1.0, o * 1.0), o == OVER


class HostSimulator(AbstractHostWorld):
    """The same simulator as a batch in NumPy."""

    name, num_rounds, specs = "host", T, (Symbols(2), Symbols(3))

    def begin(self, keys, theta=None):
        rngs = [np.random.default_rng(np.asarray(jax.random.key_data(key))) for key in keys]
        thetas = np.array([rng.choice(2, p=PRIOR) if theta is None else theta for rng in rngs])
        return (rngs, thetas), None

    def theta(self, state):
        return jnp.asarray(state[1])

    def consult(self, state, keys):
        return None, jnp.array([rng.choice(2, p=Q_A[k]) for rng, k in zip(*state, strict=True)], jnp.int32)

    def respond(self, state, a, keys):
        o = np.array([rng.choice(3, p=Q_O[k, x]) for rng, k, x in zip(*state, np.asarray(a), strict=True)])
        return state, jnp.asarray(o, jnp.int32), np.where(o == OVER, -1.0, o), o == OVER


def uniform(num_actions):
    return ud.HostAgent(
        lambda num_episodes: num_episodes, lambda m, a, o: (np.full((m, num_actions), 1 / num_actions), m)
    )


def test_samples_are_scored_if_the_expert_has_no_known_distribution():
    """They have the same expected gradient. The other direction needs the distribution, which is missing by name."""
    world, agent = Simulator(), ud.LSTMAgent(process(Hazard()), hidden_size=8, key=KEY)
    episodes = ud.rollout(world, agent, key=KEY, num_episodes=8)
    assert episodes.expert is None
    losses = jax.jit(jax.vmap(lambda e: ud.log_losses(agent, e, target="sample")))(episodes)
    assert np.isfinite(losses).all()
    default = jax.jit(jax.vmap(lambda e: ud.log_losses(agent, e)))(episodes)
    np.testing.assert_array_equal(default, losses)
    with pytest.raises(ValueError, match='target="reverse"'):
        ud.log_losses(agent, jax.tree.map(lambda x: x[0], episodes), target="reverse")


def test_simulator_has_no_exact_agent(no_type_checks):
    with pytest.raises(TypeError, match="can only be sampled"):
        ud.ExactAgent(Simulator())
    with pytest.raises(TypeError, match="can only be sampled"):
        ud.posterior(Simulator(), None)
    with pytest.raises(TypeError, match="can only be sampled"):
        ud.teach(Simulator(), None, ud.Counterfactual(target="posterior"), key=KEY)


@pytest.mark.parametrize("make_world", [Simulator, HostSimulator, lambda: process(Hazard())])
@pytest.mark.parametrize("kind", ["host agent", "traced agent", "expert"])
def test_every_pairing_has_the_same_distribution(make_world, kind):
    """Compiled, Python, and mixed: the share of episodes that survive the first round is that of the enumeration."""
    world, B = make_world(), 400
    agent = {"host agent": uniform(2), "traced agent": ud.LSTMAgent(process(Hazard()), 4, key=KEY), "expert": None}[
        kind
    ]
    if kind == "traced agent":  # A policy of known probabilities: all weights zero.
        agent = jax.tree.map(lambda x: 0 * x, agent)
    executor = "expert" if agent is None else "agent"
    episodes = ud.rollout(world, agent, key=KEY, num_episodes=B, executor=executor)
    p_a = Q_A if kind == "expert" else np.full((2, 2), 0.5)
    survive = sum(PRIOR[k] * p_a[k, a] * (1 - Q_O[k, a, OVER]) for k in range(2) for a in range(2))
    assert abs(np.asarray(episodes.mask)[:, 1].mean() - survive) < 4 * math.sqrt(0.25 / B)
    over = np.asarray(episodes.observations) == OVER
    np.testing.assert_array_equal(episodes.mask, (np.cumsum(over, 1) - over) == 0)


def test_python_loop_equals_the_compiled_one(hazard):
    """A traced agent in a traced world: same key, same episodes, same predictions, by either loop."""
    agent = ud.LSTMAgent(hazard, 4, key=KEY)
    compiled = ud.rollout(hazard, agent, key=KEY, num_episodes=16)
    stepped, P_A, P_O = play(hazard, agent, key=KEY, num_episodes=16)
    for name in ("theta", "actions", "observations", "expert_actions", "mask", "intervened", "executor"):
        np.testing.assert_array_equal(getattr(compiled, name), getattr(stepped, name), err_msg=name)
    key = jax.random.fold_in(KEY, 3)
    _, predictions = jax.jit(lambda key: run_episode(hazard, agent, key, num_rounds=T, predicts=True))(key)
    n = int(np.asarray(stepped.mask)[3].sum())
    np.testing.assert_allclose(predictions[0].log_probs[:n], P_A.log_probs[3, :n], atol=1e-5)
    np.testing.assert_allclose(predictions[1].log_probs[:n], P_O.log_probs[3, :n], atol=1e-5)
