"""Gymnasium's environments as worlds: every label belongs to its state, theta and episode, and exact answers exist."""

import jax
import numpy as np
import pytest

import undelude as ud
from environments import CONTEXTS, Ledger, Make
from undelude import gym as ug
from undelude._process.episodes import EXPERT
from undelude._teaching.host_updates import collect_in

KEY = jax.random.key(0)


def label(observation, context):
    """The expert's probabilities code what it was asked about."""
    assert observation[0] == context
    weights = np.array([context, 1 + observation[1], 1 + observation[2], 1 + observation[3]], float)
    return weights / weights.sum()


def ledger(**options):
    options = {
        "num_rounds": 12,
        "contexts": CONTEXTS,
        "expert": label,
        "reward_observed": True,
        "num_envs": 7,
    } | options
    return ug.HostWorld(Ledger, **options)


def fixed(world):
    """An agent that does the same in all worlds."""
    return ud.HostAgent(lambda n: 0, lambda m, a, o: (np.full((len(next(iter(o.values()))), 4), 0.25), m))


@pytest.fixture(scope="module")
def episodes():
    world = ledger()
    return ud.rollout(world, fixed(world), key=KEY, num_episodes=20)


def test_every_label_belongs_to_its_state_theta_and_episode(episodes):
    seen = np.concatenate([np.asarray(episodes.opening["state"])[:, None], episodes.observations["state"]], 1)
    context = CONTEXTS[np.asarray(episodes.theta)]
    assert len(set(context)) == 3
    np.testing.assert_array_equal(seen[..., 0], np.broadcast_to(context[:, None], seen.shape[:2]))
    asked = [[label(x, c) for x in row[:-1]] for row, c in zip(seen, context, strict=True)]
    np.testing.assert_allclose(episodes.expert.probs, asked, atol=1e-6)


def test_end_belongs_to_the_action_and_the_observation_to_the_next_episode(episodes):
    seen, ended = np.asarray(episodes.observations["state"]), np.asarray(episodes.observations["ended"])
    reward, actions = np.asarray(episodes.reward), np.asarray(episodes.actions)
    before = np.concatenate([np.asarray(episodes.opening["state"])[:, None], seen[:, :-1]], 1)
    np.testing.assert_array_equal(reward, before[..., 2] + 1)  # Also the last reward of an episode.
    np.testing.assert_array_equal(episodes.observations["reward"], reward)
    goes_on = ended == 0
    np.testing.assert_array_equal(seen[goes_on][:, 2], before[goes_on][:, 2] + 1)
    np.testing.assert_array_equal(seen[goes_on][:, 3], actions[goes_on] + 1)  # start=1
    np.testing.assert_array_equal(
        seen[~goes_on][:, 1:], np.stack([before[~goes_on][:, 1] + 1, *2 * [0 * reward[~goes_on]]], -1)
    )
    np.testing.assert_array_equal(ended[~goes_on] == 1, reward[~goes_on] % 2 == 0)
    assert {1, 2} <= set(ended.ravel())
    assert np.asarray(episodes.mask).all()


def test_lifetime_that_ends_with_the_episode():
    world = ledger(at_end="end")
    episodes = ud.rollout(world, fixed(world), key=KEY, num_episodes=20)
    mask, reward = np.asarray(episodes.mask), np.asarray(episodes.reward)
    lengths = mask.sum(1)
    assert set(lengths) <= {2, 3, 4, 5}
    np.testing.assert_array_equal(reward.max(1), lengths)
    assert "ended" not in episodes.observations


def test_same_key_gives_the_same_episodes_in_any_number_of_environments():
    pairs = [ud.rollout(ledger(num_envs=n), fixed(None), key=KEY, num_episodes=9, executor="agent") for n in (3, 9)]
    # The agent draws its actions from the keys of rounds, and the environments from the keys of episodes.
    for x, y in zip(*map(jax.tree.leaves, pairs), strict=True):
        np.testing.assert_array_equal(x, y)


def test_expert_and_agent_take_turns_as_in_the_compiled_loop():
    world = ledger()
    agent = ud.GRUAgent(world, 4, key=KEY)
    teaching = ud.Mixed(0.5)
    episodes = collect_in(world, agent, teaching, KEY, 0, 7)
    by_expert = np.asarray(episodes.executor) == EXPERT
    assert 0.3 < by_expert.mean() < 0.7
    np.testing.assert_array_equal(episodes.intervened, ~by_expert)
    np.testing.assert_array_equal(
        np.asarray(episodes.actions)[by_expert], np.asarray(episodes.expert_actions)[by_expert]
    )
    assert (np.asarray(episodes.actions) != np.asarray(episodes.expert_actions))[~by_expert].any()


# Failures -------------------------------------------------------------------------------------------------------------


def coin_expert(observation, context):
    return [0.25, 0.75] if context else [0.75, 0.25]


def faulty(fault, share, **options):
    size = {"num_rounds": 4, "num_envs": 10, "max_failures": 1.0, "contexts": [0, 1], "reward_observed": False}
    return ug.HostWorld(Make(fault, share), expert=coin_expert, **size | options)


def check_whole(world, num_lost, num_episodes):
    episodes = ud.rollout(world, None, executor="expert", key=KEY, num_episodes=num_episodes)
    assert sum(world.failures.values()) >= num_lost
    assert np.asarray(episodes.mask).all()
    np.testing.assert_array_equal(episodes.reward, 1)
    return episodes


@pytest.mark.parametrize("fault", ["error", "not finite"])
def test_fifty_failures_cost_their_episodes_alone(fault):
    """The others are what they are without failures, and the lost ones are played again."""
    world = faulty(fault, 0.3)
    episodes = check_whole(world, 50, 200)
    assert {cause for cause, _ in world.failures} == {fault}
    sound = ud.rollout(faulty(fault, 0.0), None, executor="expert", key=KEY, num_episodes=200)
    same = (np.asarray(episodes.observations["state"]) == np.asarray(sound.observations["state"])).all(1)
    assert 0.6 < same.mean() < 0.9  # Those that failed have other keys.


def test_environments_that_die_are_replaced():
    """A worker has one environment here, so that its death costs one episode."""
    world = faulty("died", 0.2, vectorization="async", num_envs=5, num_workers=5)
    try:
        check_whole(world, 8, 50)
        assert {cause for cause, _ in world.failures} == {"died"}
    finally:
        world.close()


def test_environment_that_hangs_is_given_up():
    world = faulty("timeout", 0.2, vectorization="async", num_envs=5, num_workers=5, timeout=1.0)
    try:
        check_whole(world, 1, 10)
        assert {cause for cause, _ in world.failures} == {"timeout"}
    finally:
        world.close()


def test_too_many_failures_are_an_error_that_counts_them():
    with pytest.raises(
        RuntimeError, match=r"\d+ of \d+ episodes were lost.*\d+ by error.*ZeroDivisionError: no ground"
    ):
        ud.rollout(faulty("error", 0.5, max_failures=0.1), None, executor="expert", key=KEY, num_episodes=200)


def test_workers_give_the_same_episodes():
    here, there = ledger(), ledger(vectorization="async", num_workers=2)
    try:
        x, y = (ud.rollout(world, fixed(world), key=KEY, num_episodes=10) for world in (here, there))
        jax.tree.map(np.testing.assert_array_equal, x, y)
    finally:
        there.close()
