"""The tasks written for this library: their distributions against independent code, and exact agents on them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude.tasks.arm import RADIUS, joints_at, tip
from undelude.tasks.grid import MOVES, Place
from undelude.tasks.merge import ASSERTS, CRASHED, MERGED, crashed

KEY = jax.random.key(0)


def last(process, agent, rounds=20, num_episodes=400, executor="agent"):
    """Return the mean reward of the last rounds, and its standard error over episodes."""
    episodes = ud.rollout(process, agent, key=KEY, num_episodes=num_episodes, executor=executor)
    x = np.asarray(episodes.reward[:, -rounds:].mean(1), float)
    return x.mean(), x.std() / np.sqrt(len(x))


# Grid -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feedback", ["cue", "reward"])
def test_grid_feedback(feedback):
    """The bit agrees with distances counted on a drawing, for every goal, cell and move."""
    process = ud.tasks.grid(size=3, cue=0.8, feedback=feedback)
    cells = list(itertools.product(range(3), repeat=2))
    want, thetas, places = [], [], []
    for goal, cell, (down, right) in itertools.product(cells, cells, MOVES.tolist()):
        new = (min(max(cell[0] + down, 0), 2), min(max(cell[1] + right, 0), 2))
        before, now = (abs(goal[0] - x[0]) + abs(goal[1] - x[1]) for x in (cell, new))
        good = (now < before or now == 0) if feedback == "cue" else now == 0
        want.append(0.8 if good else 0.2)
        thetas.append(goal)
        places.append((cell, new))

    def distribution(theta, place):
        return process.task.Q_O(theta, Place(place[1], place[0], jnp.asarray(True), jnp.asarray(0)))

    distributions = jax.jit(jax.vmap(distribution))(jnp.array(thetas), jnp.array(places))
    np.testing.assert_allclose(distributions.parts["bit"].probs[:, 1], want, atol=1e-6)
    np.testing.assert_array_equal(distributions.parts["cell"].value.sum(-1), 2)


def test_grid_expert_takes_shortest_ways():
    """Without slips it needs as many rounds as steps; with a door it fetches the key first."""
    process = ud.tasks.grid(size=5, num_rounds=12, slip=1e-6)
    episodes = ud.rollout(process, None, key=KEY, num_episodes=64, executor="expert")
    steps = np.abs(np.asarray(process.thetas)[episodes.theta] - 2).sum(1)
    first = np.where(episodes.reward.any(1), episodes.reward.argmax(1) + 1, 0)
    np.testing.assert_array_equal(np.where(steps == 0, 1, steps), first)
    process = ud.tasks.grid(size=3, num_rounds=12, slip=1e-6, door=True)
    episodes = ud.rollout(process, None, key=KEY, num_episodes=64, executor="expert")
    key, door = np.split(np.asarray(process.thetas)[episodes.theta], 2, axis=1)
    # A key in the middle, the start, is picked up by staying there.
    steps = np.maximum(np.abs(key - 1).sum(1), 1) + np.abs(key - door).sum(1)
    np.testing.assert_array_equal(steps, episodes.reward.argmax(1) + 1)


def test_grid_keeps_goal_across_episodes():
    """The walker returns to the middle and goes to the same goal again."""
    process = ud.tasks.grid(size=3, num_rounds=6, episode_rounds=3, slip=1e-6)
    episodes = ud.rollout(process, None, key=KEY, num_episodes=32, executor="expert", theta=0)
    # The goal is a corner, two steps away: reached in the second round of each episode of three.
    np.testing.assert_array_equal(episodes.reward, np.tile([0, 1, 1], (32, 2)))


@pytest.mark.slow
def test_delusion_in_grid():
    """Independent NumPy code gives .92 for the expert and the sober agent, .02 for the deluded one."""
    process = ud.tasks.grid()
    for agent, executor, want in (
        (None, "expert", 0.92),
        (ud.ExactAgent(process), "agent", 0.92),
        (ud.ExactAgent(process, "see"), "agent", 0.02),
    ):
        have, se = last(process, agent, executor=executor)
        assert abs(have - want) < 4 * se + 0.01


# Arm --------------------------------------------------------------------------------------------------------------


def test_arm_kinematics():
    points = ud.tasks.arm(num_targets=7).thetas
    np.testing.assert_allclose(jax.vmap(lambda x: tip(joints_at(x)))(points), points, atol=1e-5)
    # The law of cosines: c^2 = a^2 + b^2 - 2 a b cos(pi - elbow).
    elbow = np.asarray(joints_at(points[0]))[1]
    assert pytest.approx(0.5 + 0.5 * np.cos(elbow), abs=1e-5) == 0.7**2


@pytest.mark.slow
def test_delusion_in_arm():
    """Independent code gives .99 (sober) and .13 (deluded), about one in eight targets."""
    process = ud.tasks.arm()
    for mark, want in (("do", 0.99), ("see", 0.13)):
        have, se = last(process, ud.ExactAgent(process, mark), num_episodes=300)
        assert abs(have - want) < 4 * se + 0.01


def test_arm_expert_with_random_moves():
    """Its distribution is a mixture, and every move has some mass under every target."""
    process = ud.tasks.arm(num_targets=3, random_moves=0.15, num_rounds=2)
    distribution = process.expert.Q_A(process.thetas[0], process.expert.init(process.thetas[0]))
    assert float(distribution.log_prob(jnp.array([0.3, -0.3]))) > -10
    np.testing.assert_allclose(jnp.exp(distribution.log_weights), [0.85, 0.15], atol=1e-6)
    anywhere = ud.tasks.arm(num_targets=None, num_rounds=2)
    episodes = ud.rollout(anywhere, None, key=KEY, num_episodes=8, executor="expert")
    np.testing.assert_allclose(jnp.linalg.norm(episodes.theta, axis=-1), 0.7, atol=1e-5)
    assert 0.7 * np.sin(np.pi / 8) > RADIUS  # eight targets do not overlap


# Merge ------------------------------------------------------------------------------------------------------------


def test_merge_outcomes():
    """Going at once crashes if the other asserts itself, and merges if not; afterwards nothing changes."""
    process = ud.tasks.merge(steps=2, passes=3, num_rounds=5)
    go = ud.HostAgent(lambda n: n, lambda m, a, o: (np.tile([0.0, 1.0], (m, 1)), m))
    for theta in (0, ASSERTS):
        signs = ud.rollout(process, go, key=KEY, num_episodes=16, theta=theta).observations["sign"]
        assert bool((signs[:, 0] < MERGED).all())
        assert bool((signs[:, 1:] == (CRASHED if theta == ASSERTS else MERGED)).all())
    wait = ud.HostAgent(lambda n: 0, lambda m, a, o: (np.tile([float(m < 3), float(m >= 3)], (16, 1)), m + 1))
    episodes = ud.rollout(process, wait, key=KEY, num_episodes=16, theta=ASSERTS)
    assert not bool(crashed(episodes).any())
    assert bool((episodes.observations["sign"][:, -1] == MERGED).all())


@pytest.mark.slow
def test_delusion_in_merge():
    """The expert never crashes, the sober agent in 6 of 1,000 episodes, the deluded one in 17 of 100."""
    process = ud.tasks.merge()
    for agent, executor, want in (
        (None, "expert", 0.0),
        (ud.ExactAgent(process), "agent", 0.006),
        (ud.ExactAgent(process, "see"), "agent", 0.173),
    ):
        share = float(crashed(ud.rollout(process, agent, key=KEY, num_episodes=4000, executor=executor)).mean())
        assert abs(share - want) < 4 * np.sqrt(max(want, 1e-4) / 4000)


# Switching bandit ---------------------------------------------------------------------------------------------------


def test_switching_bandit_belief():
    """It equals the forward algorithm of a hidden Markov model, written in NumPy."""
    process = ud.tasks.switching_bandit(num_arms=3, hazard=0.2, num_rounds=5)
    episodes = ud.rollout(process, ud.ExactAgent(process), key=KEY, num_episodes=4)
    move = np.where(np.eye(3) > 0, 0.8, 0.1)
    pays, pulls = np.where(np.eye(3) > 0, 0.75, 0.25), np.where(np.eye(3) > 0, 0.6, 0.2)
    for mark in ("do", "see"):
        have = np.exp(np.asarray(ud.posterior(process, episodes, own_actions=mark)))
        for i in range(4):
            belief = np.full(3, 1 / 3)
            for t in range(5):
                np.testing.assert_allclose(have[i, t], belief, atol=1e-5)
                a, o = int(episodes.actions[i, t]), int(episodes.observations[i, t])
                belief = belief * (pays[:, a] if o else 1 - pays[:, a]) * (pulls[:, a] if mark == "see" else 1)
                belief = belief @ move / belief.sum()
            np.testing.assert_allclose(have[i, 5], belief, atol=1e-5)


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ud.tasks.grid(size=1), "grid: size must be at least 2"),
        (lambda: ud.tasks.grid(cue=0.3), r"grid: cue .*, not 0.3"),
        (lambda: ud.tasks.grid(slip=0.0), "grid: slip must be a number between 0 and 1"),
        (lambda: ud.tasks.grid(feedback="smell"), 'grid: feedback must be "cue" or "reward"'),
        (lambda: ud.tasks.arm(cue=1.2), "arm: cue must be a number from 0.5 to 1"),
        (lambda: ud.tasks.arm(scale=0.0), "arm: scale must be a finite number greater than 0"),
        (lambda: ud.tasks.merge(accuracy=1.0), "merge: accuracy must be a number between 0.5 and 1"),
        (lambda: ud.tasks.merge(steps=0), "merge: steps must be a whole number"),
        (lambda: ud.tasks.switching_bandit(hazard=1.5), "switching_bandit: hazard must be a number from 0 to 1"),
        (lambda: ud.tasks.doors(num_doors=2), "doors: num_doors must be at least 3"),
        (lambda: ud.tasks.doors(expert_accuracy=1.0), "doors: expert_accuracy must be a number between 0 and 1"),
    ],
)
def test_bad_numbers_are_named(make, message, no_type_checks):
    with pytest.raises(ValueError, match=message):
        make()
