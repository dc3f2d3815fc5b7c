"""Replicates over seeds, and their intervals."""

import dataclasses
import math

import jax
import numpy as np
import pytest

import undelude as ud
from undelude._certificate.quantity import Quantity
from undelude._certificate.replicates import interval

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def process():
    return ud.tasks.bandit(num_arms=2, num_rounds=2)


@pytest.fixture(scope="module")
def replicates_and_counts(process, all_compilations):
    """Replicates, and the programs compiled before each agent was made and after the last run."""
    counts = []

    def make_agent(key):
        counts.append(all_compilations())
        return ud.GRUAgent(process, 3, key=key)

    return ud.replicate(process, make_agent, ud.Counterfactual(), **SETTINGS), [*counts, all_compilations()]


@pytest.fixture(scope="module")
def replicates(replicates_and_counts):
    return replicates_and_counts[0]


SETTINGS = {"key": KEY, "num_seeds": 3, "num_episodes": 32, "steps": 4, "batch_size": 4}


def test_each_seed_is_its_own_run(process, replicates):
    """Seed 1 by hand, from its own keys, has the same weights and the same certificate."""
    key_agent, key_teach, key_certify = jax.random.split(jax.random.fold_in(KEY, 1), 3)
    agent = ud.GRUAgent(process, 3, key=key_agent)
    run = ud.teach(process, agent, ud.Counterfactual(), key=key_teach, steps=4, batch_size=4)
    for have, want in zip(jax.tree.leaves(replicates.runs[1].agent), jax.tree.leaves(run.agent), strict=True):
        np.testing.assert_array_equal(have, want)
    report = ud.certify(process, run.agent, key=key_certify, num_episodes=32, baselines=False)
    assert replicates.certificates[1].action_kl_do == report.action_kl_do
    values = replicates.interval("action_kl_do").values
    assert values[1] == report.action_kl_do
    assert len(set(values)) == 3


def test_interval_is_students_t():
    """Against the textbook's t(.975, 2) = 4.3027; it covers the mean as often as it says."""
    mean, low, high, _ = interval([1.0, 2.0, 6.0])
    half = 4.3027 * np.sqrt(7) / np.sqrt(3)
    np.testing.assert_allclose([mean, low, high], [3, 3 - half, 3 + half], rtol=1e-4)
    samples = np.random.default_rng(0).normal(size=(2000, 4))
    ends = np.array([interval(x)[1:3] for x in samples])
    covered = ((ends[:, 0] < 0) & (ends[:, 1] > 0)).mean()
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


def test_interval_of_one_value():
    with pytest.raises(ValueError, match="at least two"):
        interval([1.0])


def test_unknown_option(process):
    with pytest.raises(TypeError, match="no option stepz"):
        ud.replicate(process, lambda key: ud.GRUAgent(process, 3, key=key), ud.Factual(), key=KEY, stepz=1)


def test_error_of_two_episodes():
    """s / sqrt(2), with s over n - 1."""
    assert Quantity.over_episodes([1.0, 3.0]).standard_error == pytest.approx(1.0)
    assert Quantity.over_episodes([1.0]).standard_error is None


def test_all_seeds_share_one_program(replicates_and_counts):
    """The second and third seeds compile nothing."""
    start, second, third, end = replicates_and_counts[1]
    assert start < second == third == end


def test_impossible_intervals(process, replicates):
    with pytest.raises(ValueError, match=r"num_seeds must be at least 2.*use ud\.teach"):
        ud.replicate(process, lambda key: ud.GRUAgent(process, 3, key=key), ud.Factual(), key=KEY, num_seeds=1)
    with pytest.raises(ValueError, match="a certificate has no 'kl'; it has action_kl_do"):
        replicates.interval("kl")
    with pytest.raises(ValueError, match=r"reward_expert has no interval: not measured \(baselines=False\)"):
        replicates.interval("reward_expert")
    assert "GRUAgent on bandit, 3 seeds" in str(replicates)
    first, second = replicates.certificates[:2]
    one = dataclasses.replace(second, quantities=second.quantities | {"action_kl_do": Quantity(math.inf)})
    infinite = dataclasses.replace(replicates, certificates=[first, one])
    with pytest.raises(ValueError, match="action_kl_do has no interval: it is infinite for seed 1"):
        infinite.interval("action_kl_do")
    assert "action_kl_do" not in str(infinite)
    assert "action_tv_do" in str(infinite)
    assert "action_kl_do" in str(replicates)
