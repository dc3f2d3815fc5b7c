"""Mistakes in an environment, an expert or a cue of the user's own are refused, by name, before they cost an hour."""

import gymnasium
import jax
import numpy as np
import pytest

import undelude as ud
from undelude import gym as ug

KEY = jax.random.key(0)
SET_POINTS = [17.0, 19.0, 21.0, 23.0]


class Switch(gymnasium.Env):
    """A heater that is on or off; the observation is the temperature and the set point."""

    observation_space = gymnasium.spaces.Box(0, 40, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.set, self.at = options["context"], 20.0
        return self.observe(), {}

    def observe(self):
        return np.array([self.at, self.set], np.float32)

    def step(self, action):
        self.at += action - 0.5
        return self.observe(), -abs(self.at - self.set), False, False, {}


def by_context(o, context):
    return [0.1, 0.9] if context > o[0] else [0.9, 0.1]


def by_observation(o, context):
    return [0.1, 0.9] if o[1] > o[0] else [0.9, 0.1]


def off(o, context):
    return abs(o[0] - context)


def switch(env=Switch, *, distance=off, **options):
    options = {
        "num_rounds": 6,
        "num_envs": 8,
        "contexts": SET_POINTS,
        "hide": [1],
        "expert": by_context,
        "cue": ug.WarmerColder(distance, right=0.8),
        "reward_observed": False,
        "at_end": "end",
    } | options
    return ug.HostWorld(env, **options)


def play(world):
    return ud.rollout(world, None, executor="expert", key=KEY, num_episodes=4)


# What expert and cue may read -----------------------------------------------------------------------------------------

REMEDY = r"hide=\[1\]\) are NaN. Take theta from the context .* o\[\[1\]\] = context"


def test_expert_that_reads_a_hidden_number_is_refused():
    """Hidden numbers are NaN in exact answers: a comparison with NaN gives a valid answer, and a wrong one."""
    world = switch(expert=by_observation)
    for ask in (ud.check_task, lambda world: world.exact_agent("see")):
        message = (
            rf"(?s)Switch.*round \d, context 19 \(number 1\): the expert answered .*0.9\].*0.1\] in exact.*{REMEDY}"
        )
        with pytest.raises(ValueError, match=message):
            ask(world)


def test_stored_labels_are_compared_with_exact_answers():
    """In the rounds that were played, which a few random actions may not reach."""
    world = switch(expert=by_observation)
    world.no_advice = None  # As if random actions had not shown it.
    with pytest.raises(ValueError, match=rf"Switch, round \d, context .*: the expert answered .*{REMEDY}"):
        world.evidence(play(world))
    sound = switch()
    assert not isinstance(sound.evidence(play(sound)), str)


def test_distance_that_reads_a_hidden_number_is_refused():
    world = switch(distance=lambda o, context: 1.0 if o[1] > o[0] else 2.0 - o[0])
    with pytest.raises(ValueError, match=rf"(?s)Switch, round \d.*: the cue answered .*{REMEDY}"):
        world.exact_agent()


def test_expert_whose_answer_is_nan_without_hidden_numbers_is_named_with_the_round():
    world = switch(expert=lambda o, context: [o[1] / 100, 1 - o[1] / 100])
    with pytest.raises(ValueError, match=rf"(?s)Switch, round 0: .*the expert failed with ValueError.*{REMEDY}"):
        world.exact_agent()


def test_expert_of_actions_alone_has_no_exact_agent():
    world = switch(expert=lambda o, context: int(context > o[0]))
    assert world.no_exact_agent == "the expert returns actions and no distribution."
    with pytest.raises(TypeError, match="Switch has no exact agents: the expert returns actions"):
        world.exact_agent()
    assert ud.check_task(world).inexact == world.no_exact_agent
