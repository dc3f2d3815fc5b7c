"""Processes from Gymnasium's tables against Gymnasium itself: its steps, its resets, and plans made in NumPy."""

import dataclasses
import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import undelude as ud
from oracle import Machine, enumerate_joint
from undelude._agents.base import predict_stepwise
from undelude._types import Mark

SIGMAS = 5
LAKES = (["SFFF", "FHFH", "FFFH", "HFFG"], ["SFFG", "FHFF", "FFFH", "HFFF"], ["SFHF", "FFFF", "HFFH", "GFFF"])


def lake(desc: list[str] | tuple[str, ...], **settings: Any) -> gymnasium.Env:
    return gymnasium.make("FrozenLake-v1", desc=list(desc), max_episode_steps=-1, **settings)


def taxi() -> gymnasium.Env:
    return gymnasium.make("Taxi-v4", max_episode_steps=-1)


@functools.cache
def taxi_initial() -> np.ndarray:
    """Return `[4, 500]`, Taxi's initial distribution given destination k (the last digit of its state, base 4)."""
    own = taxi().unwrapped.initial_state_distrib
    initial = np.where(np.arange(500) % 4 == np.arange(4)[:, None], own, 0)
    return initial / initial.sum(1, keepdims=True)


# --------------------------------------------------------------------------------- a second reading of the same tables


def reachable(P: dict, start: np.ndarray, *, ended: bool = True) -> set[int]:
    """Return the states that can occur in an episode, with those that are seen at its end if `ended`."""
    acting, last, new = set(), set(), {int(s) for s in np.flatnonzero(start)}
    while new:
        acting |= new
        moves = [move for s in new for a in P[s] for move in P[s][a] if move[0] > 0]
        last |= {int(s) for _, s, _, end in moves if end}
        new = {int(s) for _, s, _, end in moves if not end} - acting
    return acting | last if ended else acting


def shown_states(envs: list, observe: Callable[[int], int] = int, starts: Any = None) -> list[int]:
    """Return the shown values of the states that occur under any theta, in the order of the process's rows."""
    starts = [env.unwrapped.initial_state_distrib for env in envs] if starts is None else starts
    return sorted(
        {observe(s) for env, start in zip(envs, starts, strict=True) for s in reachable(env.unwrapped.P, start)}
    )


def distributions(process: ud.InteractionProcess) -> np.ndarray:
    """Return `Q(o | theta, row, a)`, `[K, R, A, O]`, from the task's methods, one memory at a time."""
    task = process.task
    K, S, A, _ = task.log_probs.shape
    ask = lambda k, s, a: task.Q_O(k, task.g_A(k, a, (s, jnp.array(0)))).probs  # noqa: E731
    grid = np.indices((K, S, A)).reshape(3, -1)
    return np.asarray(jax.jit(jax.vmap(ask))(*grid)).reshape(K, S, A, -1)


def policies(process: ud.InteractionProcess) -> np.ndarray:
    """Return `Q(a | theta, row)`, `[K, R, A]`."""
    K, S, A = process.expert.log_probs.shape
    grid = np.indices((K, S)).reshape(2, -1)
    return np.asarray(jax.jit(jax.vmap(lambda k, s: process.expert.Q_A(k, s).probs))(*grid)).reshape(K, S, A)


@pytest.fixture(scope="module")
def lakes() -> ud.InteractionProcess:
    return ud.tasks.tabular_from_gymnasium([lake(desc) for desc in LAKES], num_rounds=3)


@pytest.fixture(scope="module")
def cliff() -> ud.InteractionProcess:
    return ud.tasks.tabular_from_gymnasium([gymnasium.make("CliffWalking-v1")], temperature=1.0)


@pytest.fixture(scope="module")
def taxis() -> ud.InteractionProcess:
    return ud.tasks.tabular_from_gymnasium(
        [taxi()] * 4, observe=lambda s: s // 4, initial=taxi_initial(), temperature=0.02
    )


# ------------------------------------------------------------------------------------- against the steps of Gymnasium


Counts = dict[tuple[int | None, int], Counter]


def stepped(make: Callable[[], gymnasium.Env], *, num_envs: int, num_steps: int) -> Counts:
    """Count `(s', reward, terminated)` after each `(s, a)` in real steps: random actions, next-step autoreset.

    After a terminated step, s is None.
    """
    envs = SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)
    rng, counts = np.random.default_rng(0), defaultdict(Counter)
    states, _ = envs.reset(seed=1)
    s = states.tolist()
    num_actions = envs.single_action_space.n
    for _ in range(num_steps):
        a = rng.integers(num_actions, size=num_envs)
        s_next, reward, terminated, truncated, _ = envs.step(a)
        assert not truncated.any()
        for x in zip(s, a.tolist(), s_next.tolist(), reward.tolist(), terminated.tolist(), strict=True):
            counts[x[:2]][x[2:]] += 1
        s = [None if end else state for state, end in zip(s_next.tolist(), terminated, strict=True)]
    envs.close()
    return counts


def assert_distribution_matches(process: ud.InteractionProcess, k: int, shown: list[int], counts: Counts):
    """Assert that each frequency is within 5 standard errors, and that nothing impossible occurs."""
    distribution, row = distributions(process)[k], {s: x for x, s in enumerate(shown)} | {None: len(shown)}
    symbol = {outcome: o for o, outcome in enumerate(process.task.outcomes)}
    for (s, a), counter in counts.items():
        probs, n = distribution[row[s], a], counter.total()
        observed = np.zeros(len(probs))
        for (s_next, reward, terminated), count in counter.items():
            observed[symbol[s_next, reward, terminated]] = count
        np.testing.assert_allclose(probs.sum(), 1, atol=1e-5)
        assert (probs[observed > 0] > 0).all(), (s, a, counter)
        assert (np.abs(observed / n - probs) <= SIGMAS * np.sqrt(probs * (1 - probs) / n) + 1e-6).all(), (s, a, counter)


@pytest.mark.parametrize("k", [0, 2])
def test_frozen_lake_steps(lakes: ud.InteractionProcess, k: int):
    """Slips, holes, the goal, and the new start after either agree with Gymnasium's steps."""
    shown = shown_states([lake(desc) for desc in LAKES])
    counts = stepped(lambda: lake(LAKES[k]), num_envs=40, num_steps=400)
    assert set(counts[None, 0]) == {(0, 0.0, False)}, "a reset comes with reward 0, at the start"
    assert_distribution_matches(lakes, k, shown, counts)


def test_cliff_walking_steps(cliff: ud.InteractionProcess):
    make = lambda: gymnasium.make("CliffWalking-v1", max_episode_steps=-1)  # noqa: E731
    counts = stepped(make, num_envs=10, num_steps=500)
    assert any((36, -100, False) in counter for counter in counts.values()), "no step fell"
    assert_distribution_matches(cliff, 0, shown_states([make()]), counts)


def test_taxi_steps(taxis: ud.InteractionProcess):
    """Taxi is deterministic: in 2,000 random states the distribution has all its mass on the real step."""
    env, distribution = taxi(), distributions(taxis)
    shown = shown_states([env] * 4, lambda s: s // 4, taxi_initial())
    state, symbol = {x: i for i, x in enumerate(shown)}, {x: o for o, x in enumerate(taxis.task.outcomes)}
    assert len(shown) == 125
    rng, ends = np.random.default_rng(0), 0
    env.reset(seed=0)
    alive = [sorted(s for s in reachable(env.unwrapped.P, start) if (s // 4) % 5 != s % 4) for start in taxi_initial()]
    for _ in range(2000):
        k, a = int(rng.integers(4)), int(rng.integers(6))
        # Half of the states are at the destination with the passenger on board, so that some episodes end.
        s = int(rng.choice(alive[k]))
        if rng.random() < 0.5:
            row, column = env.unwrapped.locs[k]
            s = env.unwrapped.encode(row, column, 4, k)
        env.unwrapped.s = s
        s_next, reward, terminated, _, _ = env.step(a)
        assert distribution[k, state[s // 4], a, symbol[s_next // 4, reward, terminated]] == 1
        ends += terminated
    assert ends > 50


def test_opening_is_first_state(lakes: ud.InteractionProcess, taxis: ud.InteractionProcess):
    openings = ud.rollout(taxis, None, key=jax.random.key(0), num_episodes=2000, num_rounds=1, executor="expert")
    initial = taxi_initial()
    states = np.asarray([state for state, _, _ in taxis.task.outcomes])[np.asarray(openings.opening)]
    for k in range(4):
        drawn = states[np.asarray(openings.theta) == k]
        distribution = initial[k].reshape(125, 4).sum(1)
        frequency = np.bincount(drawn, minlength=125) / len(drawn)
        assert (frequency[distribution == 0] == 0).all()
        assert (
            np.abs(frequency - distribution) < SIGMAS * np.sqrt(distribution * (1 - distribution) / len(drawn)) + 1e-9
        ).all()
    # A lake always starts at the letter S, which is not evidence about theta.
    episodes = ud.rollout(lakes, None, key=jax.random.key(0), num_episodes=8, executor="expert")
    np.testing.assert_allclose(np.exp(ud.posterior(lakes, episodes)[:, 0]), 1 / 3, atol=1e-6)


def test_lifetime_holds_many_attempts():
    """The round after a hole or the goal starts again under the same theta."""
    process = ud.tasks.tabular_from_gymnasium([lake(["SG", "HF"]), lake(["SH", "GF"])], num_rounds=30)
    episodes = ud.rollout(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=64)
    ends = np.asarray([end for _, _, end in process.task.outcomes])[np.asarray(episodes.observations)]
    states = np.asarray([state for state, _, _ in process.task.outcomes])[np.asarray(episodes.observations)]
    assert (ends.sum(1) > 2).all()
    assert (states[:, 1:][ends[:, :-1]] == 0).all()
    assert (np.asarray(episodes.reward)[:, 1:][ends[:, :-1]] == 0).all()
    # The reward of a round is the environment's: 1 at the goal, otherwise 0.
    goal = np.where(np.asarray(episodes.theta)[:, None] == 0, 1, 2)
    np.testing.assert_array_equal(episodes.reward, ends & (states == goal))


# ---------------------------------------------------------------------------------------------------------- the expert


def plan(P: dict, num_states: int, num_actions: int, *, temperature: float, discount: float) -> np.ndarray:
    """Return Q*, `[S, A]`, by soft value iteration, state by state; temperature 0 is hard value iteration."""
    V, Q = np.zeros(num_states), np.zeros((num_states, num_actions))
    for _ in range(3000):
        for s, a in itertools.product(range(num_states), range(num_actions)):
            Q[s, a] = sum(p * (r + discount * (0 if end else V[s_next])) for p, s_next, r, end in P[s][a])
        if temperature == 0:
            new = Q.max(1)
        else:
            top = Q.max(1)
            new = top + temperature * np.log(np.mean(np.exp((Q - top[:, None]) / temperature), axis=1))
        if np.abs(new - V).max() < 1e-10:
            break
        V = new
    return Q


@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_expert_is_soft_value_iteration(temperature: float):
    process = ud.tasks.tabular_from_gymnasium([lake(desc) for desc in LAKES[:2]], temperature=temperature, discount=0.9)
    shown, experts = shown_states([lake(desc) for desc in LAKES[:2]]), policies(process)
    for k, desc in enumerate(LAKES[:2]):
        Q = plan(lake(desc).unwrapped.P, 16, 4, temperature=temperature, discount=0.9)
        policy = np.exp((Q - Q.max(1, keepdims=True)) / temperature)
        policy /= policy.sum(1, keepdims=True)
        for s in reachable(lake(desc).unwrapped.P, lake(desc).unwrapped.initial_state_distrib, ended=False):
            np.testing.assert_allclose(experts[k, shown.index(s)], policy[s], atol=2e-5)


@pytest.mark.parametrize(
    ("make", "sizes"), [(lambda: lake(LAKES[0]), (16, 4)), (lambda: gymnasium.make("CliffWalking-v1"), (48, 4))]
)
def test_cold_expert_is_optimal(make: Callable[[], gymnasium.Env], sizes: tuple[int, int]):
    """At temperature 1e-5 all the mass is on the best actions of hard value iteration."""
    env = make()
    P, start = env.unwrapped.P, env.unwrapped.initial_state_distrib
    process = ud.tasks.tabular_from_gymnasium([env], temperature=1e-5)
    Q = plan(P, *sizes, temperature=0, discount=0.99)
    shown, expert = shown_states([env]), policies(process)[0]
    for s in reachable(P, start, ended=False):
        best = Q[s] > Q[s].max() - 1e-4
        assert expert[shown.index(s), best].sum() > 0.999


def test_cliff_expert_is_optimal():
    """13 steps along the edge and a reset: -13 for each attempt of 14 rounds."""
    process = ud.tasks.tabular_from_gymnasium([gymnasium.make("CliffWalking-v1")], temperature=0.02, num_rounds=28)
    episodes = ud.rollout(process, None, key=jax.random.key(0), num_episodes=16, executor="expert")
    assert (episodes.reward.sum(1) == -26).all()


# --------------------------------------------------------------------------------------------------------- the rewards


def by_what_is_shown(process: ud.InteractionProcess) -> dict[tuple[int, float | None, bool], np.ndarray]:
    """Return the probability `[K, S + 1, A]` of each `(state, reward, terminated)`."""
    return dict(zip(process.task.outcomes, np.moveaxis(distributions(process), -1, 0), strict=True))


def test_hidden_and_noisy_rewards(cliff: ud.InteractionProcess):
    """Hidden sums over rewards; noisy shows the true one with .8, and the other two of -100, -1, 0 with .1 each."""
    env = [gymnasium.make("CliffWalking-v1")]
    seen = by_what_is_shown(cliff)
    hidden = by_what_is_shown(ud.tasks.tabular_from_gymnasium(env, reward="hidden"))
    noisy = by_what_is_shown(ud.tasks.tabular_from_gymnasium(env, reward=0.8))
    values = {-100.0, -1.0, 0.0}
    assert {reward for _, reward, _ in seen} == values
    assert {reward for _, reward, _ in hidden} == {None}
    for (x, _, end), probs in hidden.items():
        true = {v: seen.get((x, v, end), np.zeros_like(probs)) for v in values}
        np.testing.assert_allclose(probs, sum(true.values()), atol=1e-6)
        for v in values:
            expected = 0.8 * true[v] + 0.1 * sum(true[u] for u in values - {v})
            np.testing.assert_allclose(noisy.get((x, v, end), np.zeros_like(probs)), expected, atol=1e-6)


def test_display_does_not_change_reward(cliff: ud.InteractionProcess):
    """The mean reward of a state and an action is the environment's if it is seen, hidden or noisy."""
    env = gymnasium.make("CliffWalking-v1")
    shown = shown_states([env])
    for reward in ("hidden", 0.8):
        process = ud.tasks.tabular_from_gymnasium([env], reward=reward)
        task = process.task
        earned = (distributions(process)[0] * np.asarray(task.rewards)[0]).sum(-1)
        for x, s in enumerate(shown):
            for a in range(4):
                expected = 0 if s == 47 else sum(p * r for p, _, r, _ in env.unwrapped.P[s][a])
                np.testing.assert_allclose(earned[x, a], expected, atol=1e-4)


def test_noisy_reward_is_weak_evidence():
    """Two lakes pay 0 or 1/2 for a step; shown right with 3/4, each wrong value with 1/8, it is evidence of 6 : 1."""
    envs = [lake(["SF", "FG"], is_slippery=False, reward_schedule=(1, 0, step)) for step in (0, 0.5)]
    process = ud.tasks.tabular_from_gymnasium(envs, reward=0.75)
    symbol = {x: o for o, x in enumerate(process.task.outcomes)}
    for shown, odds in ((0.0, [6, 1]), (0.5, [1, 6]), (1.0, [1, 1])):
        history = ud.Episodes.of(
            process, opening=symbol[0, 0.0, False], actions=[1], observations=[symbol[2, shown, False]]
        )
        np.testing.assert_allclose(
            np.exp(ud.posterior(process, history)), [[1 / 2, 1 / 2], np.divide(odds, sum(odds))], atol=1e-6
        )


# ---------------------------------------------------------------------------------------------------- exact inference


def machine_of(envs: list[gymnasium.Env], outcomes: tuple, *, right: float, temperature: float) -> Machine:
    """Build the process as state machines, from `env.P` alone: w is (state, last action), e is the state."""
    K, S, A, O = len(envs), 4, 4, len(outcomes)
    Q_O, Q_A = np.zeros((K, (S + 1) * A, O)), np.full((K, S + 1, A), 1 / A)
    values = sorted(
        {r for env in envs for s in env.unwrapped.P.values() for moves in s.values() for _, _, r, _ in moves}
    )
    for k, env in enumerate(envs):
        P = env.unwrapped.P
        ends = {s_next for s in P for a in P[s] for p, s_next, _, end in P[s][a] if end and p > 0}
        Q = plan(P, S, A, temperature=temperature, discount=0.99)
        for s in range(S):
            Q_A[k, s] = np.exp((Q[s] - Q[s].max()) / temperature) / np.exp((Q[s] - Q[s].max()) / temperature).sum()
        for s, a in itertools.product(range(S + 1), range(A)):
            restart = [(p, x, 0, False) for x, p in enumerate(env.unwrapped.initial_state_distrib)]
            for p, s_next, r, end in restart if s == S or s in ends else P[s][a]:
                for o, (x, label, ending) in enumerate(outcomes):
                    if x == s_next and ending == end:
                        Q_O[k, s * A + a, o] += p * (right if label == r else (1 - right) / (len(values) - 1))
    state = np.array([x for x, _, _ in outcomes])
    w = np.arange((S + 1) * A)
    return Machine(
        prior=np.full(K, 1 / K),
        task_start=np.full(K, S * A),
        task_reads_a=np.broadcast_to((w // A * A)[None, None] + np.arange(A)[None, :, None], (K, A, len(w))),
        task_reads_o=np.broadcast_to((state[:, None] * A + w % A)[None], (K, O, len(w))),
        Q_O=Q_O,
        expert_start=np.full(K, S),
        expert_reads_a=np.broadcast_to(np.arange(S + 1), (K, A, S + 1)),
        expert_reads_o=np.broadcast_to(state[:, None], (K, O, S + 1)),
        Q_A=Q_A,
        opening=True,
    )


@pytest.mark.parametrize("mark", ["do", pytest.param("see", marks=pytest.mark.slow)])
def test_exact_agents_match_enumeration(mark: Mark):
    """Posterior and predictions on their own histories equal sums over all trajectories of 2 rounds."""
    envs = [lake(["SF", "HG"], success_rate=0.6), lake(["SF", "GF"], success_rate=0.6)]
    settings = {"reward": 0.9, "temperature": 0.3}
    process = ud.tasks.tabular_from_gymnasium(envs, num_rounds=2, **settings)
    joint = enumerate_joint(machine_of(envs, process.task.outcomes, right=0.9, temperature=0.3), 2)
    np.testing.assert_allclose((joint.nature * joint.expert.prod(1)).sum(), 1)

    agent = ud.ExactAgent(process, own_actions=mark)
    episodes = ud.rollout(process, agent, key=jax.random.key(0), num_episodes=24)
    posterior = np.exp(ud.posterior(process, episodes))
    P_A, P_O = jax.jit(jax.vmap(lambda e: predict_stepwise(agent, e)))(episodes)
    a, o, o_0, do = (
        np.asarray(x) for x in (episodes.actions, episodes.observations, episodes.opening, episodes.intervened)
    )
    moved = 0
    for i, t in itertools.product(range(24), range(3)):
        history = (a[i], do[i], o[i, :t], o_0[i])
        np.testing.assert_allclose(posterior[i, t], joint.theta(*history), atol=1e-5)
        moved += abs(posterior[i, t, 0] - 0.5) > 0.05
        if t < 2:
            np.testing.assert_allclose(P_A.probs[i, t], joint.next_action(*history), atol=1e-5)
            np.testing.assert_allclose(P_O.probs[i, t + 1], joint.next_observation(*history), atol=1e-5)
    assert moved > 10


def test_own_actions_are_not_evidence(taxis: ud.InteractionProcess):
    """Taxi shows nothing of the destination until the end: the belief moves under see and not under do."""
    process = dataclasses.replace(taxis, num_rounds=6)
    deluded = ud.ExactAgent(process, own_actions="see")
    episodes = ud.rollout(process, deluded, key=jax.random.key(0), num_episodes=64)
    do, see = (np.exp(ud.posterior(process, episodes, own_actions=mark)) for mark in ("do", "see"))
    # The opening rules out at most one destination, the passenger's location.
    after_opening = do[:, 0]
    assert (np.abs(after_opening.max(1) - 1 / 3) < 1e-5).all()
    ends = np.asarray([end for _, _, end in process.task.outcomes])[np.asarray(episodes.observations)]
    quiet = ~ends.any(1)
    assert quiet.sum() > 40
    penalties = np.asarray([r == -10 for _, r, _ in process.task.outcomes])[np.asarray(episodes.observations)].any(1)
    np.testing.assert_allclose(do[quiet & ~penalties, -1], after_opening[quiet & ~penalties], atol=1e-5)
    assert see[quiet & ~penalties, -1].max(1).mean() > do[quiet & ~penalties, -1].max(1).mean() + 0.05


# -------------------------------------------------------------------------------------------------------------- errors


class NoTables(gymnasium.Env):
    pass


@pytest.mark.parametrize(
    ("envs", "settings", "error", "message"),
    [
        ([], {}, ValueError, "envs is empty"),
        (
            [LAKES[0]],
            {"temperature": 0.0},
            ValueError,
            "temperature must be a finite number greater than 0 .*, not 0.0",
        ),
        ([LAKES[0]], {"temperature": np.nan}, ValueError, "temperature must be a finite number"),
        ([LAKES[0]], {"temperature": np.inf}, ValueError, "temperature must be a finite number"),
        ([LAKES[0]], {"discount": 1.5}, ValueError, r"discount must be a number from 0 to 1, not 1.5"),
        ([["SF", "FF"]], {"discount": 1.0}, ValueError, "discount must be less than 1, .* an attempt cannot end"),
        ([LAKES[0]], {"reward": 1.5}, ValueError, 'reward, if not "seen" or "hidden", must be a number from 0 to 1'),
        (
            [LAKES[0]],
            {"initial": np.full(9, 1 / 9)},
            ValueError,
            r"initial has shape \(9,\); it must be .* \(16,\) or \(1, 16\)",
        ),
        ([LAKES[0]], {"initial": np.full(16, 1 / 15)}, ValueError, "initial does not sum to one"),
        ([LAKES[0]], {"initial": np.zeros(16)}, ValueError, "initial has no mass"),
        ([LAKES[0]], {"observe": lambda s: 0}, ValueError, "under theta 0, states 0 and 1 look the same"),
        ([LAKES[0]], {"observe": [0, 1]}, ValueError, "observe gives .* values for 16 states"),
        (LAKES, {"prior": [0.5, 0.5]}, ValueError, r"thetas has shape \(3,\), but the prior has 2 values"),
        (LAKES, {"num_rounds": 0}, ValueError, "num_rounds must be a whole number of at least 1"),
        ((LAKES[0], ["SF", "FG"]), {}, ValueError, "16 states x 4 actions, 4 states x 4 actions"),
    ],
)
def test_misfits_are_named(envs: Any, settings: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        ud.tasks.tabular_from_gymnasium([lake(desc) for desc in envs], **settings)


def test_missing_tables_are_named():
    with pytest.raises(TypeError, match=r"envs\[1\] \(NoTables\) publishes no tables"):
        ud.tasks.tabular_from_gymnasium([lake(LAKES[0]), NoTables()])
    with pytest.raises(TypeError, match=r"envs\[0\] \(BlackjackEnv\) publishes no tables"):
        ud.tasks.tabular_from_gymnasium(gymnasium.make("Blackjack-v1"))


def test_one_transition_may_have_several_rewards():
    """At the cliff a slip leads to the start after a fall (-100) and after a bump into a wall (-1)."""
    env = gymnasium.make("CliffWalkingSlippery-v1")
    row = shown_states([env]).index(36)
    seen = by_what_is_shown(ud.tasks.tabular_from_gymnasium([env]))
    for a in range(4):
        for reward in (-100.0, -1.0):
            expected = sum(p for p, s, r, _ in env.unwrapped.P[36][a] if (s, r) == (36, reward))
            np.testing.assert_allclose(seen[36, reward, False][0, row, a], expected, atol=1e-6)
