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

REMEDY = r"hide=\[1\]\) are NaN. Take theta from the context .* o\[1\] = context"


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


def test_compiled_expert_that_reads_a_hidden_number_is_refused():
    jnp = jax.numpy
    world = ug.FunctionalWorld(
        lambda key, params: (jnp.zeros(2), jnp.zeros(2)),
        lambda key, state, a, params: (state.at[0].add(a - 0.5), state.at[0].add(a - 0.5), 0.0, False, False, {}),
        observe=lambda key, state, params: state,
        observation_space=gymnasium.spaces.Box(-40, 40, (2,), np.float32),
        action_space=Switch.action_space,
        set_context=lambda state, params, context: (state.at[1].set(context), params),
        expert=lambda o, context: jnp.where(o[1] > o[0], jnp.array([0.1, 0.9]), jnp.array([0.9, 0.1])),
        cue=ug.WarmerColder(off, right=0.8),
        hide=[1],
        num_rounds=2,
        contexts=np.array([-1.0, 1.0]),
        reward_observed=False,
        at_end="end",
    )
    with pytest.raises(ValueError, match=r"context 1 \(number 1\): the expert answered .* o = observation.at\["):
        world.exact_agent()
    assert set(world.as_seen(np.zeros(2), cue=1)) == {"cue", "state"}


def test_expert_of_actions_alone_has_no_exact_agent():
    world = switch(expert=lambda o, context: int(context > o[0]))
    assert world.no_exact_agent == "the expert returns actions and no distribution."
    with pytest.raises(TypeError, match="Switch has no exact agents: the expert returns actions"):
        world.exact_agent()
    assert ud.check_task(world).inexact == world.no_exact_agent


# What an environment must keep ----------------------------------------------------------------------------------------


class Own(Switch):
    """It draws a set point of its own."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        self.set = float(self.np_random.choice(SET_POINTS))
        return self.observe(), {}


class Reports(Own):
    """It says so."""

    def reset(self, *, seed=None, options=None):
        o, _ = super().reset(seed=seed, options=options)
        return o, {"context": self.set}


class Keys(Own):
    """The same as a dictionary."""

    observation_space = gymnasium.spaces.Dict({"at": Switch.observation_space, "cell": gymnasium.spaces.Discrete(7)})

    def observe(self):
        return {"at": super().observe(), "cell": 3}


def test_reported_context_is_compared_with_the_one_that_was_given():
    with pytest.raises(ValueError, match=r"Reports: reset\(options=.*under context .*options\[.context.\]"):
        play(switch(Reports))


@pytest.mark.parametrize("options", [{}, {"env": Keys, "hide": {"at": [1]}, "expert": lambda o, c: [0.5, 0.5]}])
def test_environment_that_ignores_the_context_is_noted(options):
    """Its cue and its expert follow the context, so that nothing else shows it."""
    distance = (lambda o, c: abs(o["at"][0] - c)) if options else off
    world = switch(**{"env": Own, "distance": distance} | options)
    assert 'Perhaps reset ignores options["context"]' in str(ud.check_task(world, num_episodes=16))
    assert not switch().on_contexts()


def test_equal_contexts_are_noted():
    (note,) = switch(contexts=[17.0, 20.0, 20.0]).on_contexts()
    assert "Contexts 1 and 2 are the same, 20 (number 2)" in note


class Cells(Switch):
    """A cell beside the temperature, which is the first too many."""

    observation_space = Keys.observation_space

    def observe(self):
        return {"at": super().observe(), "cell": 7}


class Long(Switch):
    def observe(self):
        return np.array([self.at, self.set, 1], np.float32)


class Short(Switch):
    """After a step alone."""

    def step(self, action):
        return self.observe()[:1], *super().step(action)[1:]


class Four(Switch):
    def step(self, action):
        return super().step(action)[:4]


class NoOptions(Switch):
    def reset(self, *, seed=None):
        return super().reset(seed=seed, options={"context": 20.0})


LONG = r"Long: the observation has the shape \(3,\), and Box\(0.0, 40.0, \(2,\), float32\) says \(2,\)"


@pytest.mark.parametrize(
    ("env", "vectorization", "message"),
    [
        (Long, "sync", LONG),
        (Long, "async", LONG),
        (Short, "sync", r"Short: the observation has the shape \(1,\)"),
        (Cells, "sync", r"Cells: the observation, part cell, is 7, which is outside Discrete\(7\)"),
        (Four, "sync", "Four: step must return five values, .* not 4"),
        (NoOptions, "sync", r"NoOptions: reset does not take options=.*seed=None, options=None.*set_context="),
    ],
)
def test_answers_that_an_environment_does_not_declare_are_refused(env, vectorization, message):
    hide = {"at": [1]} if env is Cells else [1]
    world = switch(env, hide=hide, cue=None, vectorization=vectorization, num_envs=4, num_workers=1)
    try:
        with pytest.raises(ValueError, match=message):
            play(world)
    finally:
        world.close()


def test_number_outside_its_box_is_noted():
    class Hot(Switch):
        def observe(self):
            return super().observe() + np.array([100, 0], np.float32)

    said = str(ud.check_task(switch(Hot, cue=None)))
    assert "observation_space: state (number 0) was 120, and the Box is from 0 to 40" in " ".join(said.split())
    assert "observation_space" not in str(ud.check_task(switch(cue=None)))


class Vector:
    """Two environments at once."""

    num_envs, metadata = 2, {"autoreset_mode": "SameStep"}
    single_observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    single_action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 3), np.float32), {}

    def step(self, actions):
        return np.zeros((2, 3), np.float32), np.zeros(2), np.zeros(2, bool), np.zeros(2, bool), {}


@pytest.mark.parametrize("make", ["vector", "compiled"])
def test_vector_and_compiled_environments_keep_their_spaces(make):
    space = Vector.single_observation_space
    options = {
        "num_rounds": 2,
        "contexts": np.array([0.0, 1.0]),
        "expert": lambda o, c: 0,
        "reward_observed": False,
        "at_end": "end",
    }
    if make == "compiled":
        with pytest.raises(ValueError, match=r"the observation has the shape \(3,\), and Box.* says \(2,\)"):
            ug.FunctionalWorld(
                lambda key, params: (jax.numpy.zeros(3), 0.0),
                lambda key, state, a, params: (jax.numpy.zeros(3), state, 0.0, False, False, {}),
                observation_space=space,
                action_space=gymnasium.spaces.Discrete(2),
                set_context=lambda state, params, context: (state, params),
                **options,
            )
        return
    with pytest.raises(ValueError, match=r"the observation has the shape \(3,\), and Box.* says \(2,\)"):
        play(ug.HostWorld(Vector(), **options))


# What an expert must return -------------------------------------------------------------------------------------------


FRACTION = r"the action .*1.5.* in Discrete\(2\) it must be a whole number"


@pytest.mark.parametrize(
    ("answer", "batched", "message"),
    [(1.5, False, FRACTION), (1.5, True, FRACTION), (None, False, "returned None: is a return missing")],
)
def test_answer_that_is_no_action_is_refused(answer, batched, message):
    """A fraction would be cut, and None be replaced by the answer about another episode."""

    def expert(o, context):
        answers = [answer if c == SET_POINTS[0] else 1 for c in np.atleast_1d(context)]
        return np.array(answers) if batched else answers[0]

    cue = ug.WarmerColder(lambda o, c: abs(o[..., 0] - c), right=0.8, batched=batched)
    with pytest.raises(ValueError, match=f"Switch: the expert failed in round 0.*{message}"):
        ud.rollout(switch(expert=expert, batched=batched, cue=cue), None, executor="expert", key=KEY, num_episodes=8)


def test_compiled_symbol_outside_its_space_is_a_problem():
    """A compiled world cannot look at it while it plays."""
    world = ug.FunctionalWorld(
        lambda key, params: (jax.numpy.int32(3), 0.0),
        lambda key, state, a, params: (jax.numpy.int32(7), state, 0.0, False, False, {}),
        observation_space=gymnasium.spaces.Discrete(7),
        action_space=Vector.single_action_space,
        set_context=lambda state, params, context: (state, params),
        expert=lambda o, context: jax.numpy.array([0.5, 0.5]),
        num_rounds=1,
        contexts=np.arange(2.0),
        reward_observed=False,
        at_end="end",
    )
    with pytest.raises(ValueError, match="the observation must be integers from 0 to 6, not 7"):
        ud.check_task(world)


def test_compiled_fraction_is_refused():
    options = {"num_rounds": 2, "contexts": np.arange(2.0), "reward_observed": False}
    with pytest.raises(ValueError, match=r"an action of float32; in Discrete\(2\) it must be an integer"):
        ud.rollout(
            ug.FunctionalWorld(
                lambda key, params: (jax.numpy.zeros(2), 0.0),
                lambda key, state, a, params: (jax.numpy.zeros(2), state, 0.0, False, False, {}),
                observation_space=Vector.single_observation_space,
                action_space=Vector.single_action_space,
                set_context=lambda state, params, context: (state, params),
                expert=lambda o, context: context,
                **options,
            ),
            None,
            executor="expert",
            key=KEY,
            num_episodes=2,
        )


def test_arguments_are_told_what_they_must_be():
    with pytest.raises(TypeError, match=r"called as expert\(observation, context\), and this one takes \(o\)"):
        switch(expert=lambda o: 0)
    with pytest.raises(TypeError, match=r"say reward_observed=True or False. There is no default, because"):
        ug.HostWorld(Switch, num_rounds=2, contexts=SET_POINTS, expert=by_context)


def test_saving_episodes_as_an_agent_is_told_how_to_store_them(no_type_checks):
    with pytest.raises(TypeError, match=r"these are episodes: write them with ug.to_minari"):
        ud.save(play(switch()), "demos")


def test_reprs_are_one_line():
    assert repr(ud.Film(np.zeros((2, 3, 4, 3), np.uint8))) == "Film(2 frames of 4 x 3 pixels, title='')"
    assert repr(switch()) == (
        "HostWorld(Switch: 4 contexts, 6 rounds; the agent sees cue (3 symbols), state (given numbers [1]); actions: "
        "2 symbols)"
    )


# An agent in a loop of one's own --------------------------------------------------------------------------------------


def test_own_loop_plays_the_episode_of_a_rollout():
    """`as_seen` and `as_played` are what the world does: the same seed and cues give the same actions."""
    world = switch()
    agent = ud.GRUAgent(world, 2, key=KEY)
    episodes = jax.tree.map(np.asarray, ud.rollout(world, agent, key=jax.random.key(4), num_episodes=1))
    policy, env = ud.Policy(agent), Switch()
    whole, _ = env.reset(options={"context": SET_POINTS[int(episodes.theta[0])]})
    a = policy.reset(seed=4, opening=world.as_seen(whole))
    for t in range(world.num_rounds):
        assert a == episodes.actions[0, t]
        whole, *_ = env.step(world.as_played(a))
        seen = world.as_seen(whole, cue=episodes.observations["cue"][0, t])
        np.testing.assert_array_equal(seen["state"], episodes.observations["state"][0, t])
        a = policy.step(seen)
    assert world.as_seen(whole)["cue"] == 2
    with pytest.raises(ValueError, match=r"cue=2; after an action it is from 0 to 1. At the opening"):
        world.as_seen(whole, cue=2)
    with pytest.raises(ValueError, match=r"shape \(1,\)"):
        world.as_seen(whole[:1])


class Wide(Switch):
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)


def test_own_loop_clips_and_counts_as_the_world():
    def mean(o, context):
        return np.zeros(1), 0.1

    np.testing.assert_array_equal(switch(Wide, expert=mean).as_played(np.array([3.0])), [1.0])

    class Late(Switch):
        action_space = gymnasium.spaces.Discrete(2, start=5)

    assert switch(Late).as_played(np.int32(1)) == 6
