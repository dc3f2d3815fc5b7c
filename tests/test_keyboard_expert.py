"""A person at the keyboard as the expert, with a pipe in place of the terminal."""

import io
import os
import sys

import gymnasium as gym
import jax
import numpy as np
import pytest

import undelude as ud
from environments import Doors
from undelude import gym as ug

KEY = jax.random.key(0)
KEYS = {"a": 0, "s": 1, "d": 2, "w": 3}
# Two maps, on which the goal lies to the right of the start, or below.
LAKES = [
    lambda desc=desc: gym.make("FrozenLake-v1", desc=desc, is_slippery=False, render_mode="ansi")
    for desc in (["SG", "FF"], ["SF", "GF"])
]


def lake(answers, **options):
    options = {"num_rounds": 3, "num_envs": 1, "contexts": ["right", "below"], "reward_observed": False} | options
    person = ug.KeyboardExpert(KEYS, input=answers, output=io.StringIO())
    return ug.HostWorld(LAKES, expert=person, **options)


def test_answers_are_the_labels_of_the_agents_actions():
    """Two episodes of three rounds: the person is asked once a round, knows the context and sees the drawing."""
    source, sink = os.pipe()
    os.write(sink, b"d\nS\nhello\n a \nw\nd\nd\n")
    os.close(sink)
    with os.fdopen(source) as answers:
        world = lake(answers)
        uniform = ud.HostAgent(lambda n: n, lambda m, a, o: (np.full((m, 4), 0.25), m))
        episodes = ud.rollout(world, uniform, key=KEY, num_episodes=2)
        assert answers.read() == ""
    assert np.asarray(episodes.expert_actions).tolist() == [[2, 1, 0], [3, 2, 2]]
    assert episodes.expert is None
    assert world.expert.num_asked == 6
    shown = world.expert.output.getvalue()
    assert shown.count("Please answer with a, s, d, w or q.") == 1
    for theta in np.asarray(episodes.theta):
        assert f"You know: {world.contexts[theta]}" in shown
    assert "\x1b[41mS" in shown  # The drawing of FrozenLake marks where the agent is.


def test_person_executes_and_is_not_asked_after_the_end():
    world = lake(io.StringIO("d\n" * 10), at_end="end", prior=[1, 0])
    episodes = ud.rollout(world, None, executor="expert", key=KEY, num_episodes=2)
    np.testing.assert_array_equal(episodes.reward, [[1, 0, 0], [1, 0, 0]])
    assert world.expert.num_asked == 2


@pytest.mark.slow
def test_a_person_teaches():
    """The labels of 16 episodes, of which the agent learns what the person always does."""
    world = lake(io.StringIO("s\n" * 48))
    agent = ud.GRUAgent(world, 8, key=KEY)
    demos = ud.rollout(world, agent, key=KEY, num_episodes=16)
    taught = ud.teach(world, agent, ud.Counterfactual(), key=KEY, steps=30, batch_size=16, data=demos).agent
    P_A, _ = jax.vmap(taught.predict)(demos)
    assert np.asarray(P_A.probs)[..., 1].mean() > 0.7  # It was .25.


def test_labels_of_a_person_are_saved(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    pytest.importorskip("pyarrow")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    world = lake(io.StringIO("d\n" * 6))
    demos = ud.rollout(world, ud.GRUAgent(world, 8, key=KEY), key=KEY, num_episodes=2)
    ug.to_minari(world, demos, "lake/person-v0", author="me", data_format="arrow")
    again = ug.from_minari("lake/person-v0", world)
    np.testing.assert_array_equal(again.expert_actions, demos.expert_actions)
    np.testing.assert_array_equal(again.actions, demos.actions)


def test_keys_of_forbidden_actions_are_not_offered():
    person = ug.KeyboardExpert(input=io.StringIO("0\n1\n2\n3\n" * 4), output=io.StringIO())
    world = ug.HostWorld(Doors, num_rounds=4, num_envs=1, contexts=[0, 1], expert=person, reward_observed=False)
    ud.rollout(world, None, executor="expert", key=KEY, num_episodes=1)
    assert "Please answer" in person.output.getvalue()


def test_quitting_and_the_end_of_the_input():
    for text in ("d\nq\n", "d\n"):
        with pytest.raises(KeyboardInterrupt):
            ud.rollout(lake(io.StringIO(text)), None, executor="expert", key=KEY, num_episodes=2)


def test_without_a_terminal_it_says_so(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("d\n"))
    with pytest.raises(ValueError, match="there is no terminal, and so no person to ask"):
        ud.rollout(lake(None), None, executor="expert", key=KEY, num_episodes=1)


def test_what_a_person_cannot_do_is_refused():
    with pytest.raises(ValueError, match="one environment at a time: give num_envs=1"):
        lake(io.StringIO(), num_envs=2)
    with pytest.raises(ValueError, match=r"the keys give the actions \[0, 1\], and the environment has 0 to 3"):
        ug.HostWorld(LAKES, num_rounds=1, num_envs=1, expert=ug.KeyboardExpert({"a": 0, "b": 1}), reward_observed=False)
    with pytest.raises(TypeError, match="is for Discrete actions"):
        ug.HostWorld(
            "Pendulum-v1", num_rounds=1, num_envs=1, contexts=[0], expert=ug.KeyboardExpert(), reward_observed=False
        )
    with pytest.raises(ValueError, match="'q' cannot be a key"):
        ug.KeyboardExpert({"q": 0})
    with pytest.raises(ValueError, match="its expert is a person"):
        ud.check_task(lake(io.StringIO()))
    assert "the expert is a person" in lake(io.StringIO()).no_exact_agent
