"""Tables of other kinds than Gymnasium's own: where attempts end, how states are numbered, what P does not know."""

import copy
import functools
import re
import threading
import types
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.envs.toy_text import TaxiEnv

import undelude as ud
from undelude._certificate.baselines import ENOUGH, describe_expert
from undelude._certificate.quantity import Quantity
from undelude.tasks.known_mdp import SPARSE, KnownMDP, soft_policy

build = ud.tasks.tabular_from_gymnasium
Rows = dict[int, dict[int, list[tuple]]]


class Steps(gymnasium.Env):
    """An environment that steps as its tables say."""

    def __init__(self, P: Any, start: Any, **attributes: Any):
        self.P, self.initial_state_distrib = P, np.asarray(start, float)
        vars(self).update(attributes)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.s = int(self.np_random.choice(len(self.initial_state_distrib), p=self.initial_state_distrib))
        return self.s, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        moves = [move for move in self.P[self.s][action] if move[0] > 0]
        _, self.s, reward, end = moves[self.np_random.choice(len(moves), p=[move[0] for move in moves])]
        return self.s, reward, end, False, {}


def tables(P: Any, start: Any = (1.0,), **attributes: Any) -> types.SimpleNamespace:
    return types.SimpleNamespace(P=P, initial_state_distrib=start, **attributes)


# Environments whose episodes end in states in which others go on.
BANDIT: Rows = {0: {a: [(p, 0, 1.0, True), (1 - p, 0, 0.0, True)] for a, p in enumerate((0.9, 0.1))}}
CORRIDOR: Rows = {
    0: {0: [(1.0, 0, -100.0, True)], 1: [(1.0, 1, -1.0, False)]},
    1: {0: [(1.0, 0, -1.0, False)], 1: [(1.0, 2, 1.0, True)]},
    2: {0: [(1.0, 2, 0.0, True)], 1: [(1.0, 2, 0.0, True)]},
}
# Whether an attempt is over after half of the steps is chance, in the same state.
COIN: Rows = {
    0: {0: [(0.5, 1, 1.0, True), (0.25, 1, 1.0, False), (0.25, 1, 0.0, False)], 1: [(1.0, 0, 0.5, False)]},
    1: {0: [(0.5, 0, 0.0, True), (0.5, 1, 2.0, False)], 1: [(1.0, 0, -1.0, True)]},
}


def lifetime(P: Rows, start: dict[int, float], num_rounds: int, policy: Callable | None = None) -> float:
    """Return the expected sum of rewards over T rounds, in which a new start takes one; at best without a policy."""
    V, anew = dict.fromkeys(P, 0.0), 0.0
    for _ in range(num_rounds):
        later = {}
        for s, actions in P.items():
            Q = [
                sum(p * (r + (anew if end else V[s_next])) for p, s_next, r, end in moves if p > 0)
                for _, moves in sorted(actions.items())
            ]
            later[s] = max(Q, default=0.0) if policy is None else float(np.dot(policy(s), Q))
        V, anew = later, sum(p * V[s] for s, p in start.items())
    return sum(p * V[s] for s, p in start.items())


def policy_of(process: ud.InteractionProcess) -> Callable[[int], np.ndarray]:
    """Return the expert's policy under theta 0 in a state, by its own number."""
    rows = sorted({state for state, _, _ in process.task.outcomes})
    probs = np.exp(np.asarray(process.expert.log_probs[0], float))
    return lambda s: probs[rows.index(s)]


def starts(env: Any) -> dict[int, float]:
    return {int(s): float(env.initial_state_distrib[s]) for s in np.flatnonzero(env.initial_state_distrib)}


# ------------------------------------------------------------------------------------------------ where attempts end


@pytest.mark.parametrize(
    "P",
    [pytest.param(BANDIT, marks=pytest.mark.slow), CORRIDOR, pytest.param(COIN, marks=pytest.mark.slow)],
    ids=["bandit", "corridor", "coin"],
)
def test_an_end_belongs_to_a_transition(P: Rows):
    """Every outcome of 4,000 real steps has its frequency, with an autoreset after each terminated step."""
    env = Steps(P, np.eye(len(P))[0])
    process = build([env])
    table = np.exp(np.asarray(process.task.log_probs[0], float))
    symbol = {outcome: o for o, outcome in enumerate(process.task.outcomes)}
    counts, rng = np.zeros(table.shape), np.random.default_rng(0)
    s, _ = env.reset(seed=0)
    row, ended = int(process.task.row_of[symbol[s, 0.0, False]]), False
    for _ in range(4000):
        a = int(rng.integers(len(P[0])))
        s, reward, end = (env.reset()[0], 0.0, False) if ended else env.step(a)[:3]
        counts[row, a, symbol[s, reward, end]] += 1
        row, ended = int(process.task.row_of[symbol[s, reward, end]]), end
    n = counts.sum(-1)
    met = n > 0
    assert (counts[table == 0] == 0).all()
    expected, n = table[met], n[met][:, None]
    assert (np.abs(counts[met] / n - expected) <= 5 * np.sqrt(expected * (1 - expected) / n) + 1e-9).all()
    assert met[-1].all(), "no attempt ended"


@pytest.mark.parametrize("P", [BANDIT, CORRIDOR, COIN], ids=["bandit", "corridor", "coin"])
def test_reward_of_lifetimes(P: Rows):
    """The optimum and the expert's rewards are those of dynamic programming on the transitions."""
    process = build([Steps(P, np.eye(len(P))[0])], num_rounds=12)
    assert process.task.optimal_reward(0, 12) == pytest.approx(lifetime(P, {0: 1.0}, 12), rel=1e-5)
    expected = lifetime(P, {0: 1.0}, 12, policy_of(process))
    reward = ud.rollout(process, None, key=jax.random.key(0), num_episodes=4000, executor="expert").reward.sum(1)
    assert abs(reward.mean() - expected) < 5 * reward.std() / np.sqrt(4000) + 1e-4


def test_unreachable_rows_do_not_matter():
    """A wall that nobody enters may have any rows."""
    plain = build([tables(CORRIDOR, [1, 0, 0])])
    for wall in ({0: [(1.0, 0, 0.0, True)], 1: [(1.0, 0, 0.0, True)]}, {0: [(7, "nowhere")]}, {}, None, []):
        walled = build([tables(CORRIDOR | {3: wall}, [1, 0, 0, 0])])
        assert walled.task.outcomes == plain.task.outcomes
        np.testing.assert_array_equal(walled.task.log_probs, plain.task.log_probs)


@pytest.mark.parametrize("last", [{}, {2: {}}, {2: {0: [], 1: []}}, {2: None}], ids=["none", "{}", "[]", "None"])
def test_rows_of_terminal_states_may_be_missing(last: dict):
    P = {s: CORRIDOR[s] for s in (0, 1)} | last
    np.testing.assert_array_equal(
        build([tables(P, [1, 0, 0])]).task.log_probs, build([tables(CORRIDOR, [1, 0, 0])]).task.log_probs
    )


def test_episodes_may_start_where_others_end():
    """The goal as a start: FrozenLake's rows there end the episode at once, without reward."""
    lake = gymnasium.make("FrozenLake-v1", desc=["SG"], is_slippery=False)
    process = build([lake], initial=[0.5, 0.5])
    P, o = np.exp(np.asarray(process.task.log_probs[0], float)), process.task.outcomes.index
    np.testing.assert_allclose(P[-1, :, [o((0, 0.0, False)), o((1, 0.0, False))]], 0.5, atol=1e-6)
    np.testing.assert_allclose(P[1, :, o((1, 0.0, True))], 1)


# ------------------------------------------------------------------------------------------------------- the numbers


def test_states_keep_their_numbers():
    """State 0 of this lake does not occur. A policy by Gymnasium's states walks the four steps to the goal."""
    lake = gymnasium.make("FrozenLake-v1", desc=["FHSF", "HFFF", "FFFF", "FFFG"], is_slippery=False)
    process = build([lake], num_rounds=9)
    state = np.array([state for state, _, _ in process.task.outcomes])
    policy = np.full(16, 1)
    policy[12:] = 2  # Down to the last row, then right; 0 left, 1 down, 2 right, 3 up.
    agent = ud.HostAgent(lambda n: None, lambda m, a, o: (None, state[o]), act=lambda m, _, rng: (policy[m], m))
    episodes = ud.rollout(process, agent, key=jax.random.key(0), num_episodes=4)
    walk = [2, 6, 10, 14, 15]
    np.testing.assert_array_equal(state[np.asarray(episodes.observations)], [[*walk[1:], *walk]] * 4)
    np.testing.assert_array_equal(episodes.reward.sum(1), 2)


def test_outcomes_show_what_observe_gives():
    """Merged states have the number that `observe` gives, and it may be any whole number."""
    lakes = [gymnasium.make("FrozenLake-v1", desc=desc, is_slippery=False) for desc in (["SFFG"], ["SFGF"])]
    process = build(lakes, observe=lambda s: 100 - 10 * min(s, 2))
    assert {state for state, _, _ in process.task.outcomes} == {100, 90, 80}


def test_states_may_be_counted_from_any_number():
    """Tables from 5 on, with a declared space or without, in a dict of NumPy numbers."""
    P = {np.int64(s + 5): {a: [(p, t + 5, r, d) for p, t, r, d in x] for a, x in CORRIDOR[s].items()} for s in CORRIDOR}
    spaces = {"observation_space": gymnasium.spaces.Discrete(3, start=5)}
    for env in (tables(P, [1, 0, 0]), tables(P, [1, 0, 0], **spaces), tables(P, [0, 0, 0, 0, 0, 1, 0, 0])):
        process = build([env])
        np.testing.assert_array_equal(process.task.log_probs, build([tables(CORRIDOR, [1, 0, 0])]).task.log_probs)
        assert {state for state, _, _ in process.task.outcomes} == {5, 6, 7}


def test_forms_of_tables_are_equal():
    """Lists for dicts, NumPy numbers, 0 and 1 for False and True, rewards in single precision, rounded thirds."""
    thirds = {
        0: {0: [(0.333333, 0, 0.1, False), (0.666667, 0, 0.7, True)], 1: [(1.0, 0, 0, False), (0.0, 9, 5.0, True)]}
    }
    plain = build([tables(thirds)])
    assert plain.task.outcomes == ((0, 0.0, False), (0, 0.1, False), (0, 0.7, True))
    other = [[[(np.float64(p), np.int64(t), np.float32(r), int(d)) for p, t, r, d in thirds[0][a]] for a in (0, 1)]]
    both = build([tables(thirds), tables(other, np.ones(1, np.float32))])
    assert both.task.outcomes == plain.task.outcomes
    np.testing.assert_allclose(both.task.log_probs[1], plain.task.log_probs[0], atol=1e-6)
    array = build([tables(np.asarray([[[(1.0, 0, 0.5, 1)]], [[(1.0, 0, 0.5, 1)]]]), [1, 0])])
    assert array.task.outcomes == ((0, 0.0, False), (0, 0.5, True))


def test_start_may_be_given_or_named_isd():
    env = types.SimpleNamespace(P=CORRIDOR)
    expected = build([tables(CORRIDOR, [1, 0, 0])]).task.log_probs
    np.testing.assert_array_equal(build([env], initial=[1, 0, 0]).task.log_probs, expected)
    np.testing.assert_array_equal(build(types.SimpleNamespace(P=CORRIDOR, isd=[1, 0, 0])).task.log_probs, expected)
    with pytest.raises(TypeError, match=r"has tables \(P\), but publishes no distribution .* give it as initial="):
        build([env])


def test_one_environment_stands_for_a_list_of_one():
    lake = gymnasium.make("FrozenLake-v1")
    np.testing.assert_array_equal(build(lake).task.log_probs, build([lake]).task.log_probs)


# ---------------------------------------------------------------------------------------------------- malformed tables

ONE = [(1.0, 0, 0.0, False)]


@pytest.mark.parametrize(
    ("P", "message"),
    [
        ({0: {0: [(0.5, 0, 0, False), (0.4, 0, 0, False)]}}, r"P\[0\]\[0\] does not sum to one \(sum 0.9\)"),
        ({0: {0: [(1.5, 0, 0, False), (-0.5, 0, 0, False)]}}, r"P\[0\]\[0\] has a negative entry"),
        (
            {0: {0: [(1.0, 0, np.nan, False)]}},
            r"P\[0\]\[0\] contains \(1.0, 0, nan, False\), whose reward is not finite",
        ),
        ({0: {0: [(1.0, 0, 0.0)]}}, r"P\[0\]\[0\] contains \(1.0, 0, 0.0\); it must be P\[state\]\[action\] ="),
        ({0: {0: [(1.0, 0, 0.0, "no")]}}, "whether it ends the episode must be True or False"),
        ({0: {0: 0.3}}, r"P\[0\]\[0\] is 0.3; it must be a list"),
        ({0: {0: []}}, r"P\[0\]\[0\] is empty, but an episode goes on there"),
        ({0: {0: [(1.0, 0.5, 0, False)]}}, r"P\[0\]\[0\] leads to 0.5; states must be whole numbers"),
        ({0: {0: [(1.0, 7, 0, False)]}}, "no row for state 7, but action 0 in state 0 leads there without ending"),
        ([[[(1.0, -1, 0, False)]]], "no row for state -1, but action 0 in state 0 leads there"),
        (
            {0: {0: [(1.0, 1, 0, False)], 1: ONE}, 1: {0: ONE}},
            r"P\[1\] has the actions 0, but it needs 0 to 1: every state",
        ),
        ({0: {1: ONE, 2: ONE}}, r"P\[0\] has the actions 1, 2, but it needs 0 to 1"),
        ({(0, 0): {0: ONE}}, r"P has the key \(0, 0\); number states and actions"),
        ({0: {"left": ONE}}, r"P\[0\] has the key 'left'; number states and actions"),
        ({}, "P has no states"),
        ("P", "P is of type str; it must be a dict or a list"),
    ],
)
def test_malformed_tables_are_named(P: Any, message: str):
    with pytest.raises(ValueError, match=r"envs\[0\].*" + message):
        build([tables(P)])


def test_spaces_that_do_not_fit_are_named():
    discrete = gymnasium.spaces.Discrete
    beyond = tables({0: {0: [(1.0, 5, 0.0, True)]}}, observation_space=discrete(1))
    with pytest.raises(ValueError, match="leads to state 5, but the states are 0 to 0"):
        build([beyond])
    with pytest.raises(ValueError, match=r"counts its actions from 1 .*, but a process counts them from 0"):
        build([tables({0: {1: ONE}}, action_space=discrete(1, start=1))])
    with pytest.raises(ValueError, match=r"initial_state_distrib has shape \(1,\), but there are 2 states"):
        build([tables({0: {0: ONE}}, observation_space=discrete(2))])
    with pytest.raises(ValueError, match=r"has the actions 0, but it needs 0 to 1"):
        build([tables({0: {0: ONE}}, action_space=discrete(2))])
    with pytest.raises(ValueError, match="same actions; the numbers of theirs are 1, 2"):
        build([tables({0: {0: ONE}}), tables({0: {0: ONE, 1: ONE}})])


@pytest.mark.parametrize(
    ("envs", "message"),
    [
        ("FrozenLake-v1", "the string 'FrozenLake-v1'; give an environment"),
        ([Steps], "the class Steps; give an environment"),
        (7, "must be a list of environments, not 7"),
        (types.SimpleNamespace(P=None), "P is None: build it first"),
    ],
)
def test_things_that_are_no_environments_are_named(envs: Any, message: str):
    with pytest.raises(TypeError, match=message):
        build(envs)


# ----------------------------------------------------------------------------------------- what is not in the tables


class Penalty(gymnasium.Wrapper):
    def step(self, action: int) -> tuple:
        state, reward, *rest = self.env.step(action)
        return state, reward - 1, *rest


class Named(gymnasium.Wrapper):
    """A wrapper that leaves steps and resets alone."""


def lake() -> gymnasium.Env:
    return gymnasium.make("FrozenLake-v1", desc=["SFFG"], is_slippery=False)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: wrappers.TransformReward(env, lambda r: r - 0.1),
        lambda env: wrappers.ClipReward(env, 0, 0.5),
        lambda env: wrappers.TransformAction(env, lambda a: 3 - a, env.action_space),
        lambda env: wrappers.TransformObservation(env, lambda s: 0, env.observation_space),
        lambda env: wrappers.StickyAction(env, 0.25),
        lambda env: wrappers.TimeAwareObservation(env),
        lambda env: wrappers.FlattenObservation(env),
        lambda env: wrappers.RecordEpisodeStatistics(Penalty(wrappers.OrderEnforcing(env))),
    ],
)
def test_wrappers_that_change_something_are_refused_by_name(wrap: Callable[[gymnasium.Env], gymnasium.Env]):
    with pytest.raises(ValueError, match=r"envs\[0\] has the wrapper (\w+), .* give env.unwrapped") as error:
        build([wrap(lake())])
    assert re.search("wrapper (\\w+)", str(error.value))[1] in str(wrap(lake()))


def test_harmless_wrappers_pass():
    env = Named(wrappers.Autoreset(wrappers.RecordEpisodeStatistics(lake())))
    np.testing.assert_array_equal(build([env]).task.log_probs, build([lake().unwrapped]).task.log_probs)


def test_time_limit_is_mentioned_if_it_has_an_effect():
    """A cut after T steps is not visible in T rounds; the first visible one is after T - 1."""
    limited = [gymnasium.make("FrozenLake-v1", desc=["SFFG"], max_episode_steps=20) for _ in range(2)]
    build(limited, num_rounds=20)
    with pytest.warns(UserWarning, match=r"envs\[0\] cuts episodes off after 20 steps") as caught:
        build(limited, num_rounds=21)
    assert len(caught) == 1


def test_fickle_passenger_is_refused_and_rain_is_not():
    with pytest.raises(ValueError, match=r"envs\[0\] \(TaxiEnv\) has fickle_passenger=True"):
        build([gymnasium.make("Taxi-v4", fickle_passenger=True)])
    env = gymnasium.make("Taxi-v4", is_rainy=True)
    process = build([env], temperature=1.0)
    state = env.unwrapped.encode(2, 2, 0, 1)
    row = sorted({state for state, _, _ in process.task.outcomes}).index(state)
    probs = np.exp(np.asarray(process.task.log_probs[0, row, 1]))
    assert {process.task.outcomes[o][0]: round(float(probs[o]), 3) for o in np.flatnonzero(probs)} == {
        env.unwrapped.encode(1, 2, 0, 1): 0.8,
        env.unwrapped.encode(2, 1, 0, 1): 0.1,
        env.unwrapped.encode(2, 3, 0, 1): 0.1,
    }


class Tired(TaxiEnv):
    """A taxi whose driver is paid double for the last passenger: the tables do not say so."""

    def step(self, action: int) -> tuple:
        state, reward, *rest = super().step(action)
        return state, 2 * reward if reward == 20 else reward, *rest


class Drifting(Steps):
    """A corridor in which steps of the second kind lead elsewhere."""

    def step(self, action: int) -> tuple:
        return super().step(0 if action == 1 and self.s == 1 else action)


class Short(Steps):
    """A corridor whose attempts are cut off after three steps."""

    def reset(self, **options: Any) -> tuple:
        self.length = 0
        return super().reset(**options)

    def step(self, action: int) -> tuple:
        self.length += 1
        state, reward, terminated, _, info = super().step(action)
        return state, reward, terminated, self.length == 3, info


class Elsewhere(Steps):
    """A corridor that begins at its end."""

    def reset(self, **options: Any) -> tuple:
        super().reset(**options)
        self.s = 1
        return 1, {}


class Shown(Steps):
    """A corridor that shows other things than its states."""

    def reset(self, **options: Any) -> tuple:
        return np.eye(3)[super().reset(**options)[0]], {}


class Aliased(Steps):
    """A corridor that shows only whether it is at its end; its tables are about all states."""

    def reset(self, **options: Any) -> tuple:
        return super().reset(**options)[0] // 2, {}

    def step(self, action: int) -> tuple:
        state, *rest = super().step(action)
        return state // 2, *rest


class Outdated(Steps):
    """A corridor whose `s` is where the attempt began."""

    def step(self, action: int) -> tuple:
        state, *rest = super().step(action)
        self.now, self.s = state, 0
        return state, *rest


def test_state_is_compared_and_not_what_is_shown_of_it():
    with pytest.warns(UserWarning, match=r"envs\[0\] shows 0 in state 1, and the process shows the numbers.*observe="):
        build([Aliased(CORRIDOR, [1, 0, 0])])
    build([Aliased({s: CORRIDOR[0] | {1: [(1.0, 2, 0.0, True)]} for s in range(3)}, [1, 0, 0])], observe=[0, 0, 1])
    # The state goes from 0 to 0 or to the end, which `s` does not say.
    build([Outdated({0: {0: [(1.0, 0, 1.0, False)], 1: [(1.0, 1, 0.0, True)]}}, [1.0, 0.0])])


def test_steps_that_the_tables_do_not_know_are_refused():
    with pytest.raises(
        ValueError, match=r"\(Tired\): action 5 in state \d+ led to state \d+ with reward 40, terminated"
    ):
        build([Tired()])
    with pytest.raises(ValueError, match=r"\(Drifting\): action 1 in state 1 led to state 0 with reward -1"):
        build([Drifting(CORRIDOR, [1, 0, 0])])
    with pytest.raises(ValueError, match=r"\(Elsewhere\): an episode began in state 1, .* as initial="):
        build([Elsewhere(CORRIDOR, [1, 0, 0])])
    build([Elsewhere(CORRIDOR, [1, 0, 0])], initial=[0, 1, 0])
    with pytest.warns(UserWarning, match=r"envs\[0\] cuts episodes off after 3 steps"):
        build([Short(COIN, [1, 0])])
    with pytest.warns(UserWarning, match=r"envs\[0\] shows .*, and the process shows the numbers of the states"):
        build([Shown(CORRIDOR, [1, 0, 0])])
    with pytest.warns(UserWarning, match=r"envs\[0\] could not be compared with P by its steps: TypeError"):
        build([Steps(CORRIDOR, [1, 0, 0], lock=threading.Lock())])


def test_environments_stay_as_they_are():
    """State, random numbers and tables of an environment are the same after it was read."""
    env = gymnasium.make("FrozenLake-v1")
    env.reset(seed=3)
    env.step(1)
    bare = env.unwrapped
    before, numbers = copy.deepcopy(vars(bare)), bare.np_random.bit_generator.state
    np.random.seed(0)  # noqa: NPY002
    build([env])
    assert bare.np_random.bit_generator.state == numbers
    assert (bare.s, bare.P) == (before["s"], before["P"])
    assert np.random.random() == np.random.RandomState(0).random()  # noqa: NPY002


# -------------------------------------------------------------------------------------------------------- the expert


def evaluate(P: Rows, start: dict[int, float], policy: Callable[[int], np.ndarray] | None, discount: float) -> float:
    """Return the discounted return of an attempt by value iteration; the optimum without a policy."""
    V = dict.fromkeys(P, 0.0)
    for _ in range(4000):
        change = 0.0
        for s, actions in P.items():
            Q = [sum(p * (r + (0 if end else discount * V[t])) for p, t, r, end in moves) for moves in actions.values()]
            new = max(Q) if policy is None else float(np.dot(policy(s), Q))
            change, V[s] = max(change, abs(new - V[s])), new
        if change < 1e-10:
            break
    return sum(p * V[s] for s, p in start.items())


def test_default_expert_walks_the_slippery_lake():
    """In Gymnasium's own limit of 100 steps .744 of episodes can end at the goal; the expert's share is near."""
    env = gymnasium.make("FrozenLake-v1")
    process = build([env], num_rounds=100)
    P, start = env.unwrapped.P, starts(env.unwrapped)
    still = {s: {a: [(p, t, r, end) for p, t, r, end in x] for a, x in row.items()} for s, row in P.items()}
    once = {-1: {a: [(1.0, -1, 0.0, False)] for a in range(4)}} | {
        s: {a: [(p, -1 if end else t, r, False) for p, t, r, end in x] for a, x in row.items()}
        for s, row in still.items()
    }
    policy, uniform = policy_of(process), np.full(4, 0.25)
    best = lifetime(once, start, 100)
    assert best == pytest.approx(0.744, abs=1e-3)
    assert lifetime(once, start, 100, lambda s: uniform if s < 0 else policy(s)) > 0.9 * best


@pytest.mark.parametrize(
    ("env", "num_rounds"),
    [
        (gymnasium.make("FrozenLake-v1"), 50),
        (gymnasium.make("FrozenLake-v1", is_slippery=False), 50),
        (Steps(CORRIDOR, [1, 0, 0]), 10),
        (Steps(COIN, [1, 0]), 10),
    ],
    ids=["ice", "firm", "corridor", "coin"],
)
def test_default_temperature(env: gymnasium.Env, num_rounds: int):
    """The expert loses at most 5 % at the default temperature, and more at twice as much, if that is tried at all."""
    P, start = env.unwrapped.P, starts(env.unwrapped)
    uniform = lambda s: np.full(len(P[0]), 1 / len(P[0]))  # noqa: E731
    alive = {s: row for s, row in P.items() if not all(move[3] and move[1] == s for x in row.values() for move in x)}
    P = alive | {s: {a: [] for a in P[0]} for s in P if s not in alive}

    def returns(policy: Callable) -> np.ndarray:
        guarded = lambda s: policy(s) if s in alive else uniform(s)  # noqa: E731
        return np.array([evaluate(P, start, guarded, 0.99), lifetime(P, start, num_rounds, guarded)])

    def losses(temperature: float | None) -> tuple[np.ndarray, float]:
        process = build([env], num_rounds=num_rounds, temperature=temperature)
        return best - returns(policy_of(process)), process.expert.temperature

    best = returns(policy_of(build([env], num_rounds=num_rounds, temperature=1e-4)))
    allowed = 0.05 * np.minimum(np.abs(best), best - returns(uniform))
    loss, tau = losses(None)
    assert (loss <= 1.01 * allowed + 1e-6).all()
    assert (losses(2 * tau)[0] > 0.99 * allowed).any() or tau >= 1


class RiverSwim(gymnasium.Env):
    """Six states in a row; to swim right is hard, and pays 1 in the last (Strehl and Littman, 2008)."""

    def __init__(self):
        self.P = {s: {0: [(1.0, max(s - 1, 0), 0.005 if s == 0 else 0.0, False)]} for s in range(6)}
        for s in range(6):
            left, stay, right = (0.0, 0.4, 0.6) if s == 0 else (0.4, 0.6, 0.0) if s == 5 else (0.05, 0.6, 0.35)
            self.P[s][1] = [(left, s - 1, 0.0, False), (stay, s, float(s == 5), False), (right, s + 1, 0.0, False)]
        self.initial_state_distrib = np.eye(6)[0]


@pytest.mark.parametrize("discount", [0.99, 0.99999, 1 - 1e-9])
def test_discounts_near_one_do_not_matter(discount: float):
    """The expert of a continuing environment swims right, with probabilities that tend to a limit."""
    process = build([RiverSwim()], discount=discount, temperature=0.1)
    P_right = np.exp(np.asarray(process.expert.log_probs[0, :6, 1], float))
    assert (P_right > 0.8).all()
    if discount > 0.999:
        limit = np.exp(np.asarray(build([RiverSwim()], discount=0.9999999, temperature=0.1).expert.log_probs[0, :6, 1]))
        np.testing.assert_allclose(P_right, limit, atol=1e-3)


def test_discount_of_one():
    """Without discount, cliff walking costs 13 steps; the expert's policy is that of value iteration."""
    env = gymnasium.make("CliffWalking-v1").unwrapped
    P = {s: {a: [(float(p), int(t), r, end) for p, t, r, end in x] for a, x in row.items()} for s, row in env.P.items()}
    cold = build([env], discount=1.0, temperature=1e-3)
    policy = policy_of(cold)
    onward = {s: row for s, row in P.items() if s in {state for state, _, end in cold.task.outcomes if not end}}
    assert evaluate(onward, starts(env), policy, 1.0) == pytest.approx(-13, abs=1e-3)
    endless = {0: {0: [(1.0, 0, 1.0, False)], 1: [(1.0, 0, 0.0, True)]}}
    with pytest.raises(ValueError, match=r"no finite optimum at discount 1 .* Give a smaller discount"):
        build([tables(endless)], discount=1.0, temperature=0.1)


def test_many_states():
    """With 300 states the equations are solved by sparse elimination: the policy is that of soft value iteration."""
    rng, S, A = np.random.default_rng(0), 300, 3
    s, a, i = (x.ravel() for x in np.indices((S, A, 4)))
    shares = rng.dirichlet(np.ones(4), (S, A)).ravel() * (i < 3)  # The fourth share ends the attempt.
    mdp = KnownMDP(s, a, rng.integers(S, size=len(s)), shares, rng.normal(size=(S, A)), np.eye(S)[0])
    assert S > SPARSE
    V = np.zeros(S)
    for _ in range(300):
        V = 0.5 * np.log(np.exp(mdp.Q(V, 0.95) / 0.5).mean(-1))
    Q = mdp.Q(V, 0.95)
    expected = Q / 0.5 - np.log(np.exp(Q / 0.5).sum(-1, keepdims=True))
    np.testing.assert_allclose(soft_policy(mdp, temperature=0.5, discount=0.95), expected, atol=1e-8)


def test_many_rewards():
    """300 states with four rewards each are quickly read; 26,000 rewards do not fit, and the message counts them."""

    def chain(num_states: int, num_rewards: int) -> types.SimpleNamespace:
        rewards = iter(range(1, 10**6))

        def row(s: int) -> list:
            return [(1 / num_rewards, (s + 1) % num_states, next(rewards), False) for _ in range(num_rewards)]

        return tables({s: {a: row(s) for a in range(2)} for s in range(num_states)}, np.eye(num_states)[0])

    assert build([chain(300, 2)], temperature=0.1).observation_spec.n == 1 + 4 * 300
    with pytest.raises(ValueError, match=r"O = 26,001 outcomes, with 26,001 different rewards\).* Hide the reward"):
        build([chain(1000, 13)], temperature=0.1)
    assert build([chain(1000, 13)], temperature=0.1, reward="hidden").observation_spec.n == 1000


# ------------------------------------------------------------------------------------- is there a better expert?


@pytest.mark.slow
def test_expert_that_could_be_better_is_noted():
    """Two bandits as environments of one step, whose expert pulls the better arm a little more often than the other."""
    other = {0: {0: BANDIT[0][1], 1: BANDIT[0][0]}}
    process = build([Steps(BANDIT, [1.0]), Steps(other, [1.0])], temperature=3.0, num_rounds=2)
    report = ud.check_task(process, num_episodes=512)
    # A pull and a new start take two rounds.
    assert [note for note in report.notes if "the best party that is shown theta earns 0.45" in note]


def test_three_quarters_of_what_is_possible_are_enough():
    """They are counted from uniformly random actions, and an expert must miss them by two standard errors."""
    q = lambda mean: Quantity(mean, 0.01)  # noqa: E731
    note = functools.partial(describe_expert, uniform=q(-1.0))
    assert "earns 0.4 per round, uniformly random actions earn -1, and the best party" in note(
        q(0.4), q(0.0), optimum=1.0
    )
    assert note(q(0.51), q(-1.0), optimum=1.0) is None
    assert note(q(0.48), q(-1.0), optimum=1.0) is None
    assert "a policy that is not shown theta earns 0.5" in note(q(-0.5), q(0.5), optimum=None)
    assert note(q(-0.5), q(-0.4), optimum=None) is None
    assert note(q(-1.0), q(-1.0), optimum=None) is None
    assert "is the sign of the reward right?" in note(q(-1.5), q(-1.5), optimum=None)
    assert "a lower temperature" in note(q(-1.01), q(0.5), optimum=None)
    assert describe_expert(q(0.0), q(9.0), uniform=None, optimum=None) is None


def test_hot_expert_of_the_slippery_lake():
    """At temperature .02 the expert earns less than three quarters of what is possible, by default more than .9."""
    env = gymnasium.make("FrozenLake-v1")
    P, start = env.unwrapped.P, starts(env.unwrapped)
    shares = []
    for temperature in (0.02, None):
        process = build([env], num_rounds=100, temperature=temperature)
        random, best = lifetime(P, start, 100, lambda s: np.full(4, 0.25)), process.task.optimal_reward(0, 100)
        shares.append((lifetime(P, start, 100, policy_of(process)) - random) / (best - random))
    assert shares[0] < ENOUGH < 0.9 < shares[1]
