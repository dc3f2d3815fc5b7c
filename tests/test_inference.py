"""Exact inference against brute force over random processes, its stability, and what it says of bad input."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import processes
import undelude as ud
from machines import KINDS, process_of
from oracle import Machine, enumerate_joint, random_machine
from undelude._agents.base import predict_stepwise
from undelude._process import inference

NUM_HISTORIES = 24


def random_histories(machine: Machine, T: int, rng: np.random.Generator) -> dict[str, Any]:
    """Symbols and marks at random; one half wholly done or wholly seen, as agents and experts leave them."""
    _, A, O = machine.sizes
    marks = rng.random((NUM_HISTORIES, T)) < 0.5
    marks[: NUM_HISTORIES // 4], marks[NUM_HISTORIES // 4 : NUM_HISTORIES // 2] = True, False
    return {
        "actions": rng.integers(A, size=(NUM_HISTORIES, T)),
        "observations": rng.integers(O, size=(NUM_HISTORIES, T)),
        "intervened": marks,
        "opening": rng.integers(O, size=NUM_HISTORIES) if machine.opening else None,
    }


@eqx.filter_jit
def filter_batch(process: ud.InteractionProcess, episodes: ud.Episodes) -> inference.Belief:
    return jax.vmap(inference.filter, in_axes=(None, 0))(process, episodes)


@eqx.filter_jit
def scan_batch(agent: ud.ExactAgent, episodes: ud.Episodes) -> tuple[Any, Any]:
    return jax.vmap(lambda e: predict_stepwise(agent, e))(episodes)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_posterior_equals_mutilated_joint(kind: str, seed: int):
    rng = np.random.default_rng(seed)
    machine = random_machine(rng, **KINDS[kind])
    T = 2 if machine.transition is not None else 3
    joint = enumerate_joint(machine, T)
    symbols = random_histories(machine, T, rng)

    with jax.enable_x64(True):
        process = process_of(machine, num_rounds=T, theta_free=KINDS[kind].get("theta_free", False))
        episodes = ud.Episodes.of(process, **symbols)
        posterior = np.exp(ud.posterior(process, episodes))
        P_A, P_O = (np.asarray(distribution.probs) for distribution in scan_batch(ud.ExactAgent(process), episodes))
        assert posterior.dtype == np.float64

    for i, t in itertools.product(range(NUM_HISTORIES), range(T + 1)):
        o_0 = int(symbols["opening"][i]) if machine.opening else None
        history = (symbols["actions"][i], symbols["intervened"][i], symbols["observations"][i, :t], o_0)
        np.testing.assert_allclose(posterior[i, t], joint.theta(*history), atol=1e-6)
        if t < T:
            np.testing.assert_allclose(P_A[i, t], joint.next_action(*history), atol=1e-6)
            np.testing.assert_allclose(P_O[i, t + machine.opening], joint.next_observation(*history), atol=1e-6)


def test_zeros_are_certainties_not_nan():
    """Distributions with zeros: the same sums where the history is possible, and `impossible` where it is not."""
    rng = np.random.default_rng(7)
    possible = []
    for _ in range(6):
        machine = random_machine(rng, zeros=0.3)
        joint = enumerate_joint(machine, 3)
        process = process_of(machine, num_rounds=3, theta_free=False)
        symbols = random_histories(machine, 3, rng)
        last = jax.tree.map(lambda x: x[:, -1], filter_batch(process, ud.Episodes.of(process, **symbols)))
        assert not np.isnan(last.log_posterior).any()
        for i in range(NUM_HISTORIES):
            reference = joint.theta(symbols["actions"][i], symbols["intervened"][i], symbols["observations"][i])
            possible.append(reference is not None)
            assert last.impossible[i] == (reference is None)
            if reference is not None:
                np.testing.assert_allclose(np.exp(last.log_posterior[i]), reference, atol=1e-5)
    assert 0.1 < np.mean(possible) < 0.9, "both cases have to occur"


def test_own_actions_rereads_the_marks(bandit: ud.InteractionProcess):
    """`own_actions=` changes the marks of the agent's actions, never those of the expert's."""
    mixed = ud.Episodes.of(bandit, actions=[0, 1, 2], observations=[1, 0, 1], intervened=[True, False, True])
    done = dataclasses.replace(mixed, intervened=jnp.array([True, False, True]))
    seen = dataclasses.replace(mixed, intervened=jnp.array([False, False, False]))
    np.testing.assert_array_equal(ud.posterior(bandit, mixed, own_actions="do"), ud.posterior(bandit, done))
    np.testing.assert_array_equal(ud.posterior(bandit, mixed, own_actions="see"), ud.posterior(bandit, seen))


def test_batch_equals_episodes(bandit: ud.InteractionProcess):
    episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=jax.random.key(3), num_episodes=4)
    batch = ud.posterior(bandit, episodes)
    assert batch.shape == (4, bandit.num_rounds + 1, 5)
    for i in range(4):
        one = jax.tree.map(lambda x, i=i: np.asarray(x)[i], episodes)
        np.testing.assert_allclose(ud.posterior(bandit, one), batch[i], atol=1e-6)


@pytest.mark.parametrize(
    ("num_episodes", "spread", "settled"),
    [(1002, True, False), (1002, True, True), (1101, False, True), (0, False, False)],
)
def test_blocks_and_devices_change_nothing(
    bandit: ud.InteractionProcess, num_episodes: int, spread: bool, settled: bool
):
    """In blocks with a remainder, over two devices, and of no episode at all; some actions seen, some done.

    Also where the process has been put on one device.
    """
    bandit = jax.device_put(bandit, jax.local_devices()[0]) if settled else bandit
    rng = np.random.default_rng(0)
    shape = num_episodes, bandit.num_rounds
    histories = {"actions": rng.integers(5, size=shape), "observations": rng.integers(2, size=shape)}
    episodes = ud.Episodes.of(bandit, **histories, intervened=rng.random(shape) < 0.5)
    want = filter_batch(bandit, episodes).log_posterior
    if spread:
        mesh = Mesh(np.asarray(jax.local_devices()), ("lives",))
        episodes = jax.device_put(episodes, NamedSharding(mesh, PartitionSpec("lives")))
    log_posterior = ud.posterior(bandit, episodes)
    assert log_posterior.devices() == episodes.mask.devices()
    np.testing.assert_allclose(log_posterior, want, rtol=1e-5, atol=1e-6)


def test_impossible_evidence_in_late_block():
    sure = ud.tasks.bandit(expert_accuracy=1.0, reward=(1.0, 0.0))
    actions, observations = np.zeros((inference.BLOCK + 3, 2), int), np.ones((inference.BLOCK + 3, 2), int)
    observations[-1, 1] = 0
    with pytest.raises(ValueError, match=f"impossible evidence in episode {inference.BLOCK + 2}, round 1"):
        ud.posterior(sure, ud.Episodes.of(sure, actions=actions, observations=observations))


@pytest.mark.parametrize("batch", [(), (4,)])
def test_posterior_compiles_once(
    bandit: ud.InteractionProcess, compilations: Callable[[], int], batch: tuple[int, ...]
):
    symbols = np.zeros((*batch, 7), int)
    first = ud.posterior(bandit, ud.Episodes.of(bandit, actions=symbols, observations=symbols))
    assert compilations() > 0
    again = ud.posterior(bandit, ud.Episodes.of(bandit, actions=symbols, observations=symbols))
    assert compilations() == 0
    np.testing.assert_array_equal(first, again)


# ---------------------------------------------------------------------------------------------------------- stability


@pytest.mark.parametrize("own_actions", ["do", "see"])
def test_stable_at_ten_thousand_rounds(own_actions: str):
    """At T = 10,000 the belief is finite, normalised, and that of a float64 sum of log-likelihoods.

    Arms and expert that hardly tell theta apart, so that the belief is still moving at the end.
    """
    T, rng = 10_000, np.random.default_rng(0)
    process = ud.tasks.bandit(num_arms=3, expert_accuracy=0.335, reward=(0.505, 0.495), num_rounds=T)
    actions, observations = rng.integers(3, size=T), rng.integers(2, size=T)
    history = ud.Episodes.of(process, actions=actions, observations=observations, intervened=own_actions == "do")
    log_posterior = np.asarray(ud.posterior(process, history), np.float64)

    hit = actions[:, None] == np.arange(3)
    pays = np.where(hit, 0.505, 0.495)
    log_likelihood = np.log(np.where(observations[:, None] == 1, pays, 1 - pays))
    if own_actions == "see":
        log_likelihood = log_likelihood + np.log(np.where(hit, 0.335, 0.3325))
    reference = np.vstack([np.zeros(3), np.cumsum(log_likelihood, 0)])
    reference -= _logsumexp(reference)

    assert np.isfinite(log_posterior).all()
    np.testing.assert_allclose(np.exp(log_posterior).sum(-1), 1, atol=1e-5)
    assert np.exp(reference[-1]).min() > 0.01, "the reference is no test if it has settled"
    # float32 rounds by 6e-8 of numbers about 1, T times: at worst 6e-4, and 6e-6 as a random walk.
    np.testing.assert_allclose(log_posterior, reference, atol=6e-4)


def test_certainty_stays_finite(bandit: ud.InteractionProcess):
    """Where the evidence is overwhelming (thousands of nats) nothing overflows, and the truth has all the mass."""
    process = dataclasses.replace(bandit, num_rounds=10_000)
    episodes = ud.rollout(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=1, theta=2)
    log_posterior = ud.posterior(process, episodes)[0]
    assert jnp.isfinite(log_posterior).all()
    assert log_posterior[-1, 2] == 0
    assert log_posterior[-1, 0] < -1000


def _logsumexp(x: np.ndarray) -> np.ndarray:
    top = x.max(-1, keepdims=True)
    return top + np.log(np.exp(x - top).sum(-1, keepdims=True))


# ------------------------------------------------------------------------------------------------ impossible evidence


def test_impossible_evidence_is_located(frog: ud.InteractionProcess):
    process = ud.tasks.prize_or_frog(num_rounds=3)
    # Box 1 held a frog, and then box 2 as well: no theta allows it.
    history = {"actions": [[0, 1, 1], [0, 1, 1]], "observations": [[0, 1, 1], [0, 0, 1]]}
    with pytest.raises(ValueError, match=r"frog: impossible evidence in episode 1, round 1 .*observations\[1, 1\]"):
        ud.posterior(process, ud.Episodes.of(process, **history))
    single = {name: x[1] for name, x in history.items()}
    with pytest.raises(ValueError, match=r"impossible evidence in round 1 .*observations\[1\]"):
        ud.posterior(process, ud.Episodes.of(process, **single))
    # A frog in a box that was seen to be opened by the expert is impossible at once.
    with pytest.raises(ValueError, match=r"impossible evidence in round 0 "):
        ud.posterior(frog, ud.Episodes.of(frog, actions=[0], observations=[0], intervened=False))


def test_impossible_opening_is_named():
    machine = random_machine(np.random.default_rng(0), opening=True)
    machine.Q_O[..., 0], machine.Q_O[..., 1:] = 0, 0.5
    process = process_of(machine, num_rounds=1, theta_free=False)
    with pytest.raises(
        ValueError, match=r"impossible evidence in the opening .* no theta gives opening any probability"
    ):
        ud.posterior(process, ud.Episodes.of(process, opening=0, actions=[0], observations=[1]))
    with pytest.raises(ValueError, match=r"impossible evidence in episode 1, the opening .*opening\[1\]"):
        ud.posterior(process, ud.Episodes.of(process, opening=[1, 0], actions=[[0], [0]], observations=[[1], [1]]))


@pytest.mark.parametrize("own_actions", ["do", "see"])
def test_given_range_is_drawn_and_conditioned_on(own_actions: str):
    """Bayes' rule in NumPy, with the noise that was drawn and shown; it is itself no evidence."""
    process = processes.noisy()
    agent = ud.ExactAgent(process, own_actions=own_actions)
    episodes = ud.rollout(process, agent, key=jax.random.key(0), num_episodes=64)
    noise, a, bit = (np.asarray(x) for x in (episodes.opening["noise"], episodes.actions, episodes.observations["bit"]))
    assert noise.min() < 0.15 < 0.35 < noise.max()
    np.testing.assert_array_equal(episodes.observations["noise"], np.repeat(noise[:, None], 6, 1))

    belief = np.tile([0.7, 0.3], (64, 1))
    for t in range(6):
        right = np.where(a[:, t, None] == [0, 1], 1 - noise[:, None], noise[:, None])
        belief = belief * np.where(bit[:, t, None] == 1, right, 1 - right)
        if own_actions == "see":
            belief *= np.where(a[:, t, None] == [0, 1], 0.9, 0.1)
        belief /= belief.sum(-1, keepdims=True)
        found = np.exp(ud.posterior(process, episodes))[:, t + 1]
        np.testing.assert_allclose(found, belief, atol=1e-5)


def test_jitted_filter_flags_the_impossible():
    process = ud.tasks.prize_or_frog(num_rounds=3)
    history = ud.Episodes.of(process, actions=[0, 1, 0], observations=[0, 0, 0])
    beliefs = jax.jit(inference.filter)(process, history)
    np.testing.assert_array_equal(np.exp(beliefs.log_posterior), [[0.5, 0.5], [0, 1], [0, 1], [0, 1]])
    np.testing.assert_array_equal(beliefs.impossible, [False, False, True, True])


def test_deluded_agent_survives_impossible():
    """The deluded agent is certain of the box that it opened; when the frog jumps out, its belief stays as it was."""
    process = ud.tasks.prize_or_frog(num_rounds=4)
    deluded = ud.ExactAgent(process, own_actions="see")
    episodes = ud.rollout(process, deluded, key=jax.random.key(0), num_episodes=64)
    wrong = np.asarray(episodes.observations[:, 0] == 0)
    assert wrong.any()
    assert not wrong.all()
    P_A, P_O = scan_batch(deluded, episodes)
    assert np.isfinite(P_A.probs).all()
    assert np.isfinite(P_O.probs).all()
    # It never opens another box, whatever comes out of it.
    assert (episodes.actions == episodes.actions[:, :1]).all()
    np.testing.assert_array_equal(filter_batch(process, episodes).impossible[:, -1], wrong)
    with pytest.raises(ValueError, match="impossible evidence in episode"):
        ud.posterior(process, episodes)


def test_bad_distribution_makes_no_nan(bandit: ud.InteractionProcess):
    """NaN in a distribution that cannot be checked beforehand is refused like impossible evidence."""
    broken = eqx.tree_at(lambda p: p.task.log_probs, bandit, bandit.task.log_probs.at[1].set(jnp.nan))
    history = ud.Episodes.of(broken, actions=[0], observations=[1])
    assert jnp.isfinite(jax.jit(inference.filter)(broken, history).log_posterior).all()
    with pytest.raises(ValueError, match="impossible evidence in round 0"):
        ud.posterior(broken, history)
