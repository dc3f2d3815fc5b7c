"""A toy-text environment as a world agrees with its tables as a process, by another path."""

import gymnasium as gym
import jax
import numpy as np
import pytest

import undelude as ud
from undelude import gym as ug
from undelude.gym import tasks as gym_tasks

KEY = jax.random.key(0)
TEMPERATURE, DISCOUNT = {"lake": 0.1, "taxi": 1.0}, {"lake": 0.95, "taxi": 0.97}
MAPS = [["SFF", "FHF", "FFG"], ["SFG", "FHF", "FFF"], ["SFF", "FHF", "GFF"]]
# Standard errors within which two samples of one quantity are equal.
NEAR = 4.0


class Attempts(gym.Wrapper):
    """One attempt after the other under one context, as a process of tables has them.

    Its observation is the symbol of `(state shown, reward, terminated)`. The step after the end of an attempt starts
    the next one.
    """

    def __init__(self, env, outcomes, start=None, show=lambda state: state):
        super().__init__(env)
        self.symbols = {outcome: i for i, outcome in enumerate(outcomes)}
        self.observation_space = gym.spaces.Discrete(len(outcomes))
        self.start, self.show = start, show

    def reset(self, *, seed=None, options=None):
        self.context = (options or {}).get("context")
        return self.begin(seed), {}

    def begin(self, seed=None):
        state, _ = self.env.reset(seed=seed)
        if self.start is not None:
            state = self.start(self.env.unwrapped, self.context)
        self.is_over = False
        return self.symbols[self.show(int(state)), 0.0, False]

    def step(self, action):
        if self.is_over:
            return self.begin(), 0.0, False, False, {}
        state, reward, self.is_over, _, _ = self.env.step(action)
        return self.symbols[self.show(int(state)), round(float(reward), 6), self.is_over], reward, False, False, {}


def soft_optimal(P, temperature, discount):
    """Soft value iteration, `[S, A]`: V(s) = tau log mean_a exp(Q(s, a) / tau)."""
    S, A = len(P), len(P[0])
    V, rewards, goes_on = np.zeros(S), np.zeros((S, A)), np.zeros((S, A, S))
    for s, a in np.ndindex(S, A):
        for p, s1, r, end in P[s][a]:
            rewards[s, a] += p * r
            goes_on[s, a, s1] += p * (not end)
    for _ in range(3000):
        Q = rewards + discount * goes_on @ V
        new = Q.max(-1) + temperature * np.log(np.exp((Q - Q.max(-1, keepdims=True)) / temperature).mean(-1))
        if np.abs(new - V).max() < 1e-10:
            break
        V = new
    return np.exp((Q - V[:, None]) / temperature) / A


def make_expert(policies, outcomes, state_of):
    """The soft-optimal policy of a context; uniform between two attempts."""
    A = policies[0].shape[1]

    def expert(o, context):
        shown, _, is_over = outcomes[o]
        return np.full(A, 1 / A) if is_over else policies[context][state_of(shown, context)]

    return expert


def frozen_lake():
    """Three maps, of which the goal is in another corner; a step goes astray in one of five cases."""
    envs = [gym.make("FrozenLake-v1", desc=desc, success_rate=0.8) for desc in MAPS]
    options = {"temperature": TEMPERATURE["lake"], "discount": DISCOUNT["lake"], "num_rounds": 20}
    process = ug.tabular_from_gymnasium(envs, **options)
    outcomes = process.task.outcomes
    policies = [soft_optimal(env.unwrapped.P, TEMPERATURE["lake"], DISCOUNT["lake"]) for env in envs]
    # An environment for each context.
    makers = [
        lambda desc=desc: Attempts(gym.make("FrozenLake-v1", desc=desc, success_rate=0.8), outcomes) for desc in MAPS
    ]
    return process, makers, make_expert(policies, outcomes, lambda shown, _: shown)


def taxi():
    """One map, on which the passenger's destination is hidden."""
    process = gym_tasks.taxi(num_rounds=20)
    outcomes = process.task.outcomes
    P = gym.make("Taxi-v4").unwrapped.P
    policy = soft_optimal(P, TEMPERATURE["taxi"], DISCOUNT["taxi"])

    def start(env, destination):
        p = np.where(np.arange(500) % 4 == destination, env.initial_state_distrib, 0)
        env.s = int(env.np_random.choice(500, p=p / p.sum()))
        return env.s

    def make():
        return Attempts(gym.make("Taxi-v4"), outcomes, start, lambda state: state // 4)

    return process, make, make_expert([policy] * 4, outcomes, lambda shown, context: shown * 4 + context)


@pytest.fixture(scope="module", params=[frozen_lake, pytest.param(taxi, marks=pytest.mark.slow)])
def twins(request):
    """A process of tables, and the environment that publishes them, as a world."""
    process, make, expert = request.param()
    world = ug.HostWorld(
        make,
        num_rounds=process.num_rounds,
        num_envs=64,
        contexts=np.arange(process.num_thetas),
        expert=expert,
        reward_observed=False,  # It is part of the symbol.
        at_end="end",
        name=process.name,
    )
    assert world.specs == (process.action_spec, process.observation_spec)
    return process, world


@pytest.fixture(scope="module")
def played(twins):
    """Episodes of each kind, from the world and from the process."""
    process, world = twins
    actors = {"expert": None, "do": ud.ExactAgent(process), "see": ud.ExactAgent(process, "see")}
    return {
        who: [
            ud.rollout(each, actor, key=KEY, num_episodes=256, executor="expert" if actor is None else "agent")
            for each in (world, process)
        ]
        for who, actor in actors.items()
    }


def check_near(*samples):
    """The means of two samples are equal within their standard errors."""
    x, y = (np.asarray(sample, float) for sample in samples)
    error = np.hypot(x.std() / np.sqrt(len(x)), y.std() / np.sqrt(len(y)))
    assert abs(x.mean() - y.mean()) < NEAR * error + 1e-9, (x.mean(), y.mean(), error)


@pytest.mark.parametrize("who", ["expert", "do", "see"])
def test_rewards_are_those_of_the_tables(played, who):
    check_near(*(np.asarray(each.reward).sum(1) for each in played[who]))


def test_expert_is_that_of_the_tables(twins, played):
    """On every state that the agent reached, to 1e-6."""
    process, _ = twins
    episodes, _ = played["do"]
    before = np.concatenate([np.asarray(episodes.opening)[:, None], episodes.observations[:, :-1]], 1)
    rows = np.asarray(process.task.row_of)[before]
    want = np.exp(np.asarray(process.expert.log_probs))[np.asarray(episodes.theta)[:, None], rows]
    np.testing.assert_allclose(episodes.expert.probs, want, atol=1e-6)


def test_observations_are_those_of_the_tables(twins, played):
    """Each has the tables' probability: log Q(o | theta, row, a) is on average minus the entropy."""
    process, _ = twins
    episodes, _ = played["do"]
    theta, actions, o = (np.asarray(x) for x in (episodes.theta, episodes.actions, episodes.observations))
    before = np.concatenate([np.asarray(episodes.opening)[:, None], o[:, :-1]], 1)
    log_probs = np.asarray(process.task.log_probs)[theta[:, None], np.asarray(process.task.row_of)[before], actions]
    told = np.take_along_axis(log_probs, o[..., None], -1)[..., 0]
    expected = (np.exp(log_probs) * np.where(np.isfinite(log_probs), log_probs, 0)).sum(-1)
    assert np.isfinite(told).all()
    check_near((told - expected).sum(1), np.zeros(1))


@pytest.mark.parametrize("who", ["do", "see"])
def test_exact_agent_believes_the_same_in_both(twins, played, who):
    """The belief in the true theta after each round, and whether anything happened that the tables exclude."""
    process, _ = twins
    found = []
    for episodes in played[who]:
        log_posterior = np.asarray(ud.posterior(process, episodes))
        assert np.isfinite(log_posterior.max(-1)).all()
        theta = np.asarray(episodes.theta)
        found.append(np.exp(log_posterior)[np.arange(len(theta)), :, theta])
    for t in (1, 10, process.num_rounds):
        check_near(*(x[:, t] for x in found))


@pytest.mark.slow
@pytest.mark.parametrize("twins", [frozen_lake], indirect=True)
def test_certificate_of_a_taught_agent_is_the_same(twins):
    """What a world that can only be sampled has of a certificate, the process has too."""
    process, world = twins
    agent = ud.GRUAgent(process, 8, key=KEY)
    taught = ud.teach(process, agent, ud.Counterfactual(), key=KEY, steps=20, batch_size=32).agent
    size = {"key": KEY, "num_episodes": 256, "baselines": False}
    in_world, in_process = (ud.certify(each, taught, **size) for each in (world, process))
    for name in ("action_log_loss", "observation_log_loss", "action_calibration_gap", "reward"):
        error = np.hypot(*(getattr(each, f"{name}_se") for each in (in_world, in_process)))
        assert abs(getattr(in_world, name) - getattr(in_process, name)) < NEAR * error, name
    assert in_process.action_log_loss < np.log(process.action_spec.n) - 0.005  # It has learned something.
