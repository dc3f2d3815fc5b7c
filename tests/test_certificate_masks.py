"""Episodes that end early: the content of rounds that do not exist has no effect on a certificate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import Opening, arm, opening
from undelude._agents.base import predict_stepwise
from undelude._certificate import baselines, example_episode
from undelude._certificate.per_episode import measure
from undelude._certificate.rounds import mean_over_rounds
from undelude.tasks.tables import TableTask

KEY = jax.random.key(0)
B, T = 6, 4
ROUNDS = np.array([1, 2, 3, 4, 2, 1])


def end_early(episodes, rounds=ROUNDS):
    """The same episodes, ending after `rounds`."""
    return dataclasses.replace(episodes, mask=jnp.asarray(np.arange(T) < np.broadcast_to(rounds, B)[:, None]))


def spoil(episodes):
    """The same episodes with NaN, or other symbols, in the rounds that do not exist."""

    def garbage(x):
        missing = ~episodes.mask.reshape(B, T, *[1] * (x.ndim - 2))
        is_float = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.where(missing, jnp.nan if is_float else jnp.zeros_like(x) == x, x).astype(x.dtype)

    names = ("actions", "observations", "executor", "intervened", "expert", "expert_actions", "reward")
    rounds = {name: getattr(episodes, name) for name in names}
    return dataclasses.replace(episodes, **jax.tree.map(garbage, rounds))


def values(process, agent, episodes):
    return {name: x.value for name, x in measure(process, agent, episodes, key=KEY)[0].items()}


@pytest.fixture(scope="module")
def process():
    """A process with an opening, which always exists."""
    return opening(telling=0.8, num_rounds=T)


@pytest.fixture(scope="module")
def episodes(process):
    """Episodes of the exact deluded agent."""
    return ud.rollout(process, ud.ExactAgent(process, "see"), key=KEY, num_episodes=B)


@pytest.fixture(scope="module")
def noise():
    return jax.random.normal(KEY, (B, T))


def test_mean_of_existing_rounds(noise):
    exists = np.arange(T) < ROUNDS[:, None]
    want = [row[:n].mean() for row, n in zip(np.asarray(noise), ROUNDS, strict=True)]
    np.testing.assert_allclose(
        mean_over_rounds(jnp.where(exists, noise, jnp.nan), jnp.asarray(exists)), want, rtol=1e-6
    )


@pytest.mark.slow
def test_garbage_has_no_effect(process, episodes):
    agent = ud.ExactAgent(process, "see")
    clean = end_early(episodes)
    assert values(process, agent, clean) == values(process, agent, spoil(clean))
    assert values(process, agent, clean) != values(process, agent, episodes)


def test_short_episodes_as_if_cut(process, episodes):
    """Episodes that end after two of four rounds are measured like episodes of two rounds, at half the reward."""
    agent = ud.ExactAgent(process, "see")
    cut = jax.tree.map(lambda x: x[:, :2] if x.ndim > 1 else x, episodes)
    want = values(process, agent, cut)
    want["reward"] /= 2
    have = values(process, agent, spoil(end_early(episodes, rounds=2)))
    assert have == pytest.approx(want, abs=1e-6)
    assert have["deluded_fraction"] is not None


def test_distances_by_round(process, episodes):
    """NaN stands in rounds that do not exist, and the certificate's distance is the mean of the others."""
    found = measure(process, ud.ExactAgent(process, "see"), spoil(end_early(episodes)), key=KEY)
    assert (np.isnan(found.kl_by_round) == (np.arange(T) >= ROUNDS[:, None])).all()
    assert np.nanmean(found.kl_by_round, 1).mean() == pytest.approx(found.quantities["action_kl_do"].value, rel=1e-5)
    assert found.quantities["action_kl_do"].value > 0.01


@pytest.mark.slow
def test_nan_has_no_effect_in_a_transformer():
    """A transformer reads all rounds at once, so a NaN in one would reach the others."""
    process = arm(num_rounds=T)
    agent = ud.TransformerAgent(process, hidden_size=4, key=KEY)
    clean = end_early(ud.rollout(process, agent, key=KEY, num_episodes=B))
    spoilt = values(process, agent, spoil(clean))
    assert values(process, agent, clean) == spoilt
    assert spoilt["action_kl_do"] > 0


class Ending(Opening):
    """The same task; it pays 1 in each round and ends with the first observation 1."""

    def reward(self, theta, w, a, o):
        return jnp.ones(())

    def ends(self, o):
        return o == 1


class UntilPaid(TableTask):
    """A bandit whose first payment ends the episode."""

    def ends(self, o):
        return o == 1


def test_right_predictions_are_calibrated_whatever_ends_an_episode():
    """A payment ends an episode, so that its last observation is always 1: a mean over its rounds would be off."""
    bandit = ud.tasks.bandit(num_arms=3, num_rounds=6)
    assert isinstance(bandit.task, TableTask)
    ending = dataclasses.replace(bandit, task=UntilPaid(bandit.task.log_probs, bandit.task.rewards))
    agent = ud.ExactAgent(ending)
    report = ud.certify(ending, agent, key=KEY, num_episodes=4096, baselines=False)
    for name in ("action_calibration_gap", "observation_calibration_gap"):
        gap = report.quantities[name]
        assert 0.001 < gap.standard_error < 0.015
        assert abs(gap.value) < 3 * gap.standard_error
    episodes = ud.rollout(ending, agent, key=KEY, num_episodes=512)
    _, P_O = jax.vmap(lambda episode: predict_stepwise(agent, episode))(episodes)
    exists, seen = np.asarray(episodes.mask), np.where(episodes.mask, episodes.observations, 0)
    losses = -np.log(np.take_along_axis(np.asarray(P_O.probs), seen[..., None], -1)[..., 0])[exists]
    measured = measure(ending, agent, episodes, key=KEY)[0]["observation_log_loss"]
    assert measured.value == pytest.approx(losses.mean(), abs=1e-5)


@pytest.mark.slow
def test_baselines_of_episodes_that_end(process):
    """Rewards are totals over T; the last gap is that of the last round that exists."""
    ending = dataclasses.replace(process, task=Ending(*jax.tree.leaves(process.task)))
    found, _ = baselines.measure_baselines(ending, key=KEY, num_episodes=64, num_rounds=None)
    size = {"key": KEY, "num_episodes": 64}
    played = {
        "reward_expert": ud.rollout(ending, None, executor="expert", **size),
        "reward_exact_do": ud.rollout(ending, ud.ExactAgent(ending), **size),
        "reward_exact_see": ud.rollout(ending, ud.ExactAgent(ending, "see"), **size),
    }
    for name, episodes in played.items():
        assert found[name].value == pytest.approx(float(episodes.mask.sum(1).mean()) / T), name
    episodes = played["reward_exact_do"]
    policy, _ = jax.vmap(lambda episode: predict_stepwise(ud.ExactAgent(ending), episode))(episodes)
    p, q = np.asarray(episodes.expert.probs), np.asarray(policy.probs)
    gaps = (p * np.log(p / q)).sum(-1)
    last = np.asarray(episodes.mask).sum(1) - 1
    assert len(set(last)) > 2
    assert found["imitation_gap_first"].value == pytest.approx(gaps[:, 0].mean(), abs=1e-6)
    assert found["imitation_gap_last"].value == pytest.approx(gaps[np.arange(64), last].mean(), abs=1e-6)


def test_no_belief_if_the_experts_are_alike():
    """Policies that are the same for every theta imply no belief; strict JSON has no NaN for it."""
    alike = ud.tasks.from_tables(prior=[0.5, 0.5], expert=[[0.3, 0.7]] * 2, task=np.full((2, 2, 2), 0.5), num_rounds=2)
    agent = ud.LSTMAgent(alike, 2, key=KEY)
    assert example_episode.example_episode(alike, agent, key=KEY, num_episodes=B)["belief"]["agent"] is None


def test_example_is_cut_to_its_rounds(process, monkeypatch):
    def cut(program, *args, **options):
        return spoil(end_early(ud.rollout(*args, **options), 3))

    monkeypatch.setattr(example_episode, "run", cut)
    example = example_episode.example_episode(process, ud.ExactAgent(process, "see"), key=KEY, num_episodes=B)
    assert len(example["actions"]) == len(example["observations"]) == len(example["rewards"]) == 3
    for distributions in (example["policy"], example["belief"]):
        assert {np.shape(x) for x in distributions.values()} == {(4, 2)}
        assert np.isfinite([*distributions.values()]).all()
