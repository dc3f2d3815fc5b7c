"""BabyAI's bot as an expert beside its level: right also where the agent went, and the mission stays hidden."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("minigrid")

import undelude as ud
from undelude import gym as ug
from undelude._teaching.host_updates import collect_in

KEY = jax.random.key(0)
LEVEL = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "babyai.py"))


@pytest.fixture(scope="module")
def world():
    return ug.HostWorld(
        LEVEL["make_level"],
        num_rounds=50,
        num_envs=8,
        contexts=LEVEL["COLOURS"],
        hide=ug.HideKeys("mission", "image", "direction"),
        cue=ug.WarmerColder(LEVEL["distance"], right=0.8),
        make_expert=LEVEL["make_bot"],
        reward_observed=False,
        at_end="end",
    )


@pytest.mark.slow
def test_bot_finds_its_way_back(world):
    """An untaught network executes half of the actions: the bot's others bring each episode to the ball."""
    episodes = collect_in(world, ud.GRUAgent(world, 4, key=KEY), ud.Mixed(0.5), KEY, 0, 24)
    assert world.failures_in_words() is None
    own = np.asarray(episodes.executor) == 0
    assert 0.3 < own[episodes.mask].mean() < 0.7
    assert (episodes.reward.sum(1) > 0).all()


def test_labels_lead_to_the_ball_of_the_context(world):
    """A label forward lies on a way to the context's ball: the distance to it shrinks, or it is in front."""
    episodes = ud.rollout(world, None, executor="expert", key=KEY, num_episodes=24)
    seen = np.concatenate([episodes.opening["places"][:, None], episodes.observations["places"]], 1)
    theta = np.asarray(episodes.theta)
    away = np.abs(seen.reshape(*seen.shape[:2], 4, 2)).sum(-1)[np.arange(24), :, theta]
    mask = np.asarray(episodes.mask)
    last = mask.sum(1)
    assert (away[np.arange(24), last] == 1).all()  # The episode ends in front of the ball.
    forward = mask & (np.asarray(episodes.actions) == 2)
    assert np.mean((away[:, 1:] < away[:, :-1])[forward]) > 0.9


def test_mission_is_hidden(world):
    assert set(world.observation_spec.named) == {"cue", "places"}
    assert "lives beside its environment" in world.no_exact_agent
    with pytest.raises(TypeError, match=r"observation mission is in a .* space, which agents cannot read"):
        ug.HostWorld(
            LEVEL["make_level"],
            num_rounds=5,
            contexts=LEVEL["COLOURS"],
            make_expert=LEVEL["make_bot"],
            reward_observed=False,
        )
