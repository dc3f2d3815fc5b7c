"""Films of simulators, compared with the environment stepped by hand, and with Bayes' rule over the cues."""

import gymnasium
import jax
import numpy as np
import pytest
from PIL import ImageColor

import environments
import undelude as ud
import undelude.gym as ug
from undelude._drawing.frame import DO, HEADER, SEE
from undelude._report.actors import film_of_actors

KEY = jax.random.key(3)
WANTED = [0.1, 0.5, 0.9]


def lamp(env=environments.Lamp, **options):
    return ug.HostWorld(
        env,
        num_rounds=6,
        num_envs=None if hasattr(env, "num_envs") else 4,
        contexts=WANTED,
        hide=[1],
        cue=ug.WarmerColder(lambda o, wanted: abs(o[0] - wanted), right=0.8),
        expert=lambda o, wanted: (np.clip(wanted - o[:1], -0.1, 0.1), 0.05),
        reward_observed=False,
        at_end="end",
        **options,
    )


@pytest.fixture(scope="module")
def world():
    return lamp()


def levels_of(episode):
    return np.concatenate([episode.opening["state"], episode.observations["state"][:, 0]])


def belief_after(episodes, i, mark):
    """Bayes' rule by hand, from levels, cues and actions."""
    level = np.asarray(levels_of(jax.tree.map(lambda x: x[i], episodes)), float)
    belief = np.full((len(level), 3), 1 / 3)
    for t, (cue, a) in enumerate(zip(episodes.observations["cue"][i], episodes.actions[i, :, 0], strict=True), 1):
        nearer = np.abs(level[t] - WANTED) < np.abs(level[t - 1] - WANTED)
        belief[t] = belief[t - 1] * np.where(nearer == bool(cue), 0.8, 0.2)
        if mark == "see":
            belief[t] *= np.exp(-0.5 * ((float(a) - np.clip(WANTED - level[t - 1], -0.1, 0.1)) / 0.05) ** 2)
        belief[t] /= belief[t].sum()
    return belief


@pytest.mark.parametrize(("mark", "accent"), [("do", DO), ("see", SEE)])
def test_film_shows_what_the_environment_renders_and_the_exact_belief(world, mark, accent):
    """The colour of the lamp is its level, and the bars have the heights of the belief, in every round."""
    episodes = ud.rollout(world, world.exact_agent(mark), key=KEY, num_episodes=3)
    film = ud.film(world, episodes, episode=2, size=200, key=KEY).frames
    below = film[:, round(200 * HEADER) :]
    levels = levels_of(jax.tree.map(lambda x: x[2], episodes))
    np.testing.assert_array_equal(below[:, 75, 100], [[round(200 * float(x)), 0, 50] for x in levels])
    columns = [round(200 * (0.05 + 0.9 * (k + 0.425) / 3)) for k in range(3)]
    filled = (np.abs(below[:, 160:, columns].astype(int) - ImageColor.getrgb(accent)).sum(-1) < 30).sum(1)
    np.testing.assert_allclose(filled, belief_after(episodes, 2, mark) * 0.12 * 200, atol=2)


def test_own_drawing_is_told_context_observation_and_belief():
    told = []
    world = lamp(draw=lambda frame, context, observation, belief: told.append((context, observation.copy(), belief)))
    episodes = ud.rollout(world, world.exact_agent("do"), key=KEY, num_episodes=2)
    ud.film(world, episodes, episode=1, key=KEY)
    contexts, observations, beliefs = zip(*told, strict=True)
    assert set(contexts) == {WANTED[int(episodes.theta[1])]}
    np.testing.assert_array_equal([o[0] for o in observations], levels_of(jax.tree.map(lambda x: x[1], episodes)))
    assert all([value for value, _ in belief] == WANTED for belief in beliefs)
    found = [[p for _, p in belief] for belief in beliefs]
    np.testing.assert_allclose(found, belief_after(episodes, 1, "do"), atol=1e-5)


@pytest.mark.slow
def test_film_of_actors_shows_the_expert_the_agent_and_both_exact_agents(world):
    film = film_of_actors(world, ud.GRUAgent(world, 4, key=KEY), key=KEY)
    assert film.frames.shape == (7, 200 + round(200 * HEADER), 4 * 200 + 3 * 6, 3)
    first = film.frames[0, round(200 * HEADER) + 75, [100, 306, 512, 718]]
    assert (first == first[0]).all()  # One beginning.


def test_film_that_cannot_be_true_is_refused(world):
    episodes = ud.rollout(world, world.exact_agent("do"), key=KEY, num_episodes=2)
    with pytest.raises(ValueError, match="give key=, that of the rollout"):
        ud.film(world, episodes)
    with pytest.raises(ValueError, match=r"another state \(number 0\) from round 0 on.*key= is not that"):
        ud.film(world, episodes, key=jax.random.key(4))
    with pytest.raises(ValueError, match="one frame a round, not 2"):
        ud.film(world, episodes, key=KEY, frames_per_round=2)
    flicker = lamp(environments.Flicker)
    episodes = ud.rollout(flicker, None, executor="expert", key=KEY, num_episodes=1)
    with pytest.raises(ValueError, match=r"from round 1 on.*draws random numbers that the seed of reset does not set"):
        ud.film(flicker, episodes, key=KEY)
    dark = lamp(lambda: environments.Lamp())
    with pytest.raises(ValueError, match=r"renders no pictures\. Give a factory with the argument render_mode"):
        ud.film(dark, ud.rollout(dark, None, executor="expert", key=KEY, num_episodes=1), key=KEY)
    bandit = ud.tasks.bandit(num_rounds=2)
    episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=KEY, num_episodes=1)
    with pytest.raises(ValueError, match="key= is for worlds in Python"):
        ud.film(bandit, episodes, key=KEY)


def test_vector_environment_has_no_film_and_stays_open():
    envs = gymnasium.vector.SyncVectorEnv([environments.Lamp] * 2)

    def set_context(envs, contexts):
        rows = np.stack([env.unwrapped.row for env in envs.envs])
        rows[:, 1] = contexts
        return rows

    world = lamp(envs, set_context=set_context)
    assert "step together" in world.no_film
    assert film_of_actors(world, ud.GRUAgent(world, 4, key=KEY), key=KEY) is None
    assert ud.rollout(world, None, executor="expert", key=KEY, num_episodes=2).mask.all()
