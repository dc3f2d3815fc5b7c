"""`ud.Policy`: an agent in a loop of the user's own acts as in rollouts, and refuses what does not fit."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import arm, opening
from undelude._tree import index

KEY = jax.random.key(3)
BANDIT = ud.tasks.bandit(num_rounds=4)


def played(policy: ud.Policy, process: ud.InteractionProcess, episodes: ud.Episodes, rows: object) -> list:
    """Return the actions of a policy that sees the observations of stored episodes: the first seed is that of `KEY`."""
    first = None if episodes.opening is None else index(episodes.opening, rows)
    actions = [policy.reset(seed=3 if np.ndim(rows) or rows == 0 else None, opening=first)]
    for t in range(process.num_rounds - 1):
        actions.append(policy.step(jax.tree.map(lambda x, t=t: np.asarray(x)[rows][..., t], episodes.observations)))
    return actions


@pytest.mark.parametrize(
    ("process", "mark"),
    [
        pytest.param(BANDIT, "do", marks=pytest.mark.slow),
        (BANDIT, "see"),
        (opening(num_rounds=3), "do"),
        pytest.param(opening(num_rounds=3), "see", marks=pytest.mark.slow),
    ],
    ids=["bandit-do", "bandit-see", "opening-do", "opening-see"],
)
def test_policy_acts_as_in_rollouts(process: ud.InteractionProcess, mark: ud.Reading):
    """Same seed, same actions; it reads its own as the agent does."""
    agent = ud.ExactAgent(process, mark)
    episodes = ud.rollout(process, agent, key=KEY, num_episodes=3)
    policy = ud.Policy(agent)
    beliefs = np.exp(ud.posterior(process, episodes, own_actions=mark))
    for i in range(3):
        assert [int(a) for a in played(policy, process, episodes, i)] == episodes.actions[i].tolist()
        np.testing.assert_allclose(policy.belief, beliefs[i, -2], atol=1e-5)


def test_batches_are_the_episodes_of_a_rollout():
    """A sampled network: row i is episode i, and the next reset goes on with the next episodes."""
    agent = ud.LSTMAgent(BANDIT, hidden_size=4, key=KEY)
    episodes = ud.rollout(BANDIT, agent, key=KEY, num_episodes=6)
    policy = ud.Policy(agent, num_envs=3)
    assert policy.num_envs == 3
    for rows, seed in ((slice(0, 3), 3), (slice(3, 6), None)):
        actions = [policy.reset(seed=seed)]
        for t in range(3):
            actions.append(policy.step(np.asarray(episodes.observations[rows, t])))
        np.testing.assert_array_equal(np.stack(actions, 1), episodes.actions[rows])
    assert policy.belief is None


def test_transformer_needs_its_rounds():
    """Its memory has as many places as there are rounds; the actions are those of a rollout of as many."""
    agent = ud.TransformerAgent(BANDIT, hidden_size=8, num_layers=1, num_heads=1, key=KEY)
    with pytest.raises(ValueError, match=r"memory of this TransformerAgent depends on the number of rounds"):
        ud.Policy(agent)
    policy = ud.Policy(agent, num_rounds=4)
    episodes = ud.rollout(BANDIT, agent, key=KEY, num_episodes=1)
    assert [int(a) for a in played(policy, BANDIT, episodes, 0)] == episodes.actions[0].tolist()
    with pytest.raises(RuntimeError, match=r"given num_rounds=4 and has chosen as many actions"):
        policy.step(np.int32(0))
    policy.reset()


def test_parts_and_reals():
    """Observations of parts, with numbers of another precision; actions of the agent's shape."""
    process = arm()
    policy = ud.Policy(ud.ExactAgent(process))
    a = policy.reset(seed=0)
    example = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), process.observation_spec.value)
    wide = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype.kind == "f" else x.astype(np.int64), example)
    assert (a.shape, a.dtype) == (policy.action_spec.value.shape, np.float32)
    assert policy.step(wide).shape == a.shape


# ------------------------------------------------------------------------------------------------- Stable-Baselines3


def test_predict_acts_as_step_does():
    agent = ud.ThompsonAgent(BANDIT)
    one, two = ud.Policy(agent, num_envs=2), ud.Policy(agent)
    blank, state, actions = np.array([2, 2]), None, [one.reset(seed=0)]
    observations = [np.array([1, 0]), np.array([1, 1])]
    actions += [one.step(o) for o in observations]
    for a, o in zip(actions, [blank, *observations], strict=True):
        b, state = two.predict(o, state)
        np.testing.assert_array_equal(a, b)
    single, _ = two.predict(np.int64(2))
    assert np.shape(single) == ()


def test_predict_begins_where_episodes_start():
    """Row 0 starts over: its belief is the prior, whatever came before, and row 1 goes on."""
    agent = ud.ExactAgent(BANDIT)
    policy = ud.Policy(agent)
    _, state = policy.predict(np.array([2, 2]))
    before = []
    for _ in range(3):
        a, state = policy.predict(np.array([1, 1]), state, np.array([False, False]))
        before.append(a[1])
    last = state
    _, state = policy.predict(np.array([2, 1]), state, np.array([True, False]))
    np.testing.assert_allclose(jnp.exp(state.m.log_posterior[0]), 0.2, atol=1e-6)
    # The belief of row 1 is that after one more round.
    m = agent.g_O(jnp.int32(1), agent.g_A(last.a[1], index(last.m, 1), intervened=True))
    np.testing.assert_allclose(state.m.log_posterior[1], m.log_posterior, atol=1e-6)
    assert state.t.tolist() == [1, 5]


def test_predict_reads_openings():
    """The first observation of an episode is evidence, unless it is the blank."""
    process = opening(num_rounds=3)
    policy = ud.Policy(ud.ExactAgent(process))
    assert [int(policy.predict(np.int32(o))[1].m.log_posterior[0].argmax()) for o in (0, 1)] == [0, 1]
    _, state = policy.predict(np.array([0, 1]))
    _, state = policy.predict(np.array([1, 1]), state, np.array([True, False]))
    assert state.m.log_posterior.argmax(-1).tolist() == [1, 1]


def test_deterministic_takes_the_mode():
    agent = ud.ExactAgent(BANDIT)
    policy = ud.Policy(agent, deterministic=True)
    a, o = policy.reset(seed=0), np.int32(1)
    for _ in range(3):
        before = a
        a = policy.step(o)
    # An arm that paid each time is the best one of all.
    assert a == before == policy.belief.argmax()
    process = arm()
    loc = ud.ExactAgent(process)
    with pytest.raises(TypeError, match="the most probable action of a Mixture is not known"):
        ud.Policy(loc, deterministic=True)
    with pytest.raises(TypeError, match="the most probable action of a Mixture is not known"):
        ud.Policy(loc).predict(process.observation_spec.value, deterministic=True)


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("o", "message"),
    [
        (np.int32(7), "from 0 to 1"),
        (np.int32(2), "is blank, which begins an episode"),
        (np.zeros(3, int), r"shape \[\], not \[3\]"),
        (0.5, "must be of integers"),
    ],
)
def test_observations_that_do_not_fit(o: object, message: str):
    policy = ud.Policy(ud.ExactAgent(BANDIT))
    policy.reset()
    with pytest.raises(ValueError, match=message):
        policy.step(o)


@pytest.mark.parametrize("use", [lambda policy: policy.step(np.int32(0)), operator.attrgetter("belief")])
def test_step_before_reset(use: object):
    with pytest.raises(RuntimeError, match="no episode is under way; call reset"):
        use(ud.Policy(ud.ExactAgent(BANDIT)))


def test_what_is_not_an_agent():
    with pytest.raises(TypeError, match=r"Policy needs an agent such as|AbstractAgent"):
        ud.Policy(BANDIT)
    with pytest.raises(ValueError, match="num_envs must be a whole number of at least 1"):
        ud.Policy(ud.ExactAgent(BANDIT), num_envs=0)


def test_predict_refuses_what_cannot_go_on():
    policy = ud.Policy(ud.ExactAgent(BANDIT))
    with pytest.raises(ValueError, match="needs the state that the last call returned"):
        policy.predict(np.int32(1), None, False)
    _, state = policy.predict(np.array([2, 2]))
    with pytest.raises(ValueError, match="3 observations, but a state of 2 episodes"):
        policy.predict(np.array([1, 1, 1]), state)
    with pytest.raises(ValueError, match="is blank, which begins an episode; give episode_start"):
        policy.predict(np.array([1, 2]), state)


def test_evaluate_policy_of_stable_baselines():
    """Its loop pairs observations, states and starts of episodes: the reward is that of a rollout."""
    evaluate_policy = pytest.importorskip("stable_baselines3.common.evaluation").evaluate_policy
    DummyVecEnv = pytest.importorskip("stable_baselines3.common.vec_env").DummyVecEnv  # noqa: N806
    agent = ud.ExactAgent(BANDIT)
    envs = DummyVecEnv([lambda: ud.gym.TaskEnv(BANDIT)] * 4)
    envs.seed(0)
    returns, lengths = evaluate_policy(
        ud.Policy(agent), envs, n_eval_episodes=200, deterministic=False, return_episode_rewards=True, warn=False
    )
    expected = np.asarray(ud.rollout(BANDIT, agent, key=KEY, num_episodes=4000).reward).sum(-1)
    assert {*lengths} == {4}
    assert abs(np.mean(returns) - expected.mean()) < 4 * expected.std() / 200**0.5


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(number: float):
    """An agent would return an action to them, and its memory be spoiled."""
    policy = ud.Policy(ud.GRUAgent(ud.tasks.arm(num_targets=2, num_rounds=2), 2, key=KEY))
    policy.reset(seed=0)
    o = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), policy.observation_spec.value)
    with pytest.raises(ValueError, match=r"the observation, part joints, must be finite numbers"):
        policy.step(o | {"joints": np.full_like(o["joints"], number)})
    with pytest.raises(ValueError, match=r"the observation, part cue, must be integers from 0 to 1, not 5"):
        policy.step(o | {"cue": np.int32(5)})
