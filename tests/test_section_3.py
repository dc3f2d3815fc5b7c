"""Section 3: the sequential case, equation 3, Remarks 9 to 12, and Remark 5 on sequences."""

from fractions import Fraction
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import undelude as ud
from answers import MARKS, belief, policy_after_round, predictions
from undelude import inference


def bandit_posterior(arms: list[int], rewards: list[int], mark: str) -> list[Fraction]:
    """Remark 11's mechanisms in fractions: the product of the likelihoods, that of the actions where they are seen."""
    weights = []
    for theta in range(5):
        weight = Fraction(1, 5)
        for a, o in zip(arms, rewards, strict=True):
            pays = Fraction(3, 4) if a == theta else Fraction(1, 4)
            weight *= pays if o else 1 - pays
            if mark == "see":
                weight *= Fraction(6, 10) if a == theta else Fraction(1, 10)
        weights.append(weight)
    return [w / sum(weights) for w in weights]


def bandit_policy(arms: list[int], rewards: list[int], mark: str) -> list[Fraction]:
    posterior = bandit_posterior(arms, rewards, mark)
    expert = [[Fraction(6, 10) if a == theta else Fraction(1, 10) for theta in range(5)] for a in range(5)]
    return [sum((p * q for p, q in zip(posterior, row, strict=True)), Fraction()) for row in expert]


def test_eq_3(bandit: ud.InteractionProcess):
    """`P(A_2 | do(A_1 = 2), O_1 = 1)` against `P(A_2 | A_1 = 2, O_1 = 1)`, in fractions.

    do: the posterior is 3/7 on arm 2 and 1/7 on the others, so arm 2 has 3/7 6/10 + 4/7 1/10 = 11/35, another 6/35.
    see: the action counts for another factor of 6, so 18/22 and 1/22, and 56/110 = .5091 and 27/220 = .1227.
    """
    by_hand = {"do": (Fraction(11, 35), Fraction(6, 35)), "see": (Fraction(56, 110), Fraction(27, 220))}
    for mark, (same, other) in by_hand.items():
        assert bandit_policy([2], [1], mark) == [other, other, same, other, other]
        policy = policy_after_round(ud.ExactAgent(bandit, own_actions=mark), 2, 1)
        np.testing.assert_allclose(policy, [float(p) for p in bandit_policy([2], [1], mark)], rtol=1e-6)
    assert round(float(by_hand["see"][0]), 4) == 0.5091
    assert round(float(by_hand["see"][1]), 4) == 0.1227


# One trajectory of each column of the table of Remark 11, as printed.
PRINTED = {
    "see": ("34333333333333333333", "10000001000010001010"),
    "do": ("14431115311141111111", "00011100011101111101"),
}


@pytest.mark.parametrize("mark", MARKS)
def test_remark_10(bandit: ud.InteractionProcess, mark: str):
    """The recursion on a printed trajectory: posterior and predictive at each of the 20 rounds, against fractions."""
    arms, rewards = ([int(x) for x in digits] for digits in PRINTED[mark])
    arms = [a - 1 for a in arms]
    history = ud.Episodes.of(bandit, actions=arms, observations=rewards, intervened=mark == "do")
    posterior = np.exp(ud.posterior(bandit, history))
    P_A, _ = predictions(ud.ExactAgent(bandit), history)
    for t in range(21):
        exact = bandit_posterior(arms[:t], rewards[:t], mark)
        np.testing.assert_allclose(posterior[t], [float(p) for p in exact], atol=2e-6)
        if t < 20:
            exact = bandit_policy(arms[:t], rewards[:t], mark)
            np.testing.assert_allclose(P_A.probs[t], [float(p) for p in exact], atol=2e-6)
    # As printed: conditioning ends certain of arm 3, which is not the best; intervening, of arm 1, which is.
    assert posterior[-1].argmax() == {"see": 2, "do": 0}[mark]


class Switch(eqx.Module):
    """Theta moves to the other value with probability 1/4 where the last action was 0, with 1/2 where it was 1."""

    def __call__(self, theta, w):
        p = jnp.where(w == 0, 0.25, 0.5)
        return ud.Categorical(probs=jnp.where(jnp.arange(2) == theta, 1 - p, p))


def test_remark_10_with_moving_theta(frog: ud.InteractionProcess):
    """`P(theta_2 | do(a_1), o_1) ~ sum_theta_1 P(theta_2 | theta_1, a_1, o_1) P(o_1 | theta_1, a_1) P(theta_1)`.

    Prize or frog, twice, with Theta moving between: box 1 opened (do), a frog. So theta_1 = 2, and theta_2 = 2 with
    3/4; after box 2 and a frog, theta_1 = 1, and theta_2 = 1 with 1/2.
    """
    process = ud.InteractionProcess(frog.prior, frog.thetas, frog.task, frog.expert, num_rounds=2, transition=Switch())
    np.testing.assert_allclose(belief(process, "do", [0], [0]), [1 / 4, 3 / 4])
    np.testing.assert_allclose(belief(process, "do", [1], [0]), [1 / 2, 1 / 2])
    # The policy of round 2 imitates the expert under theta_2, and a prize tells theta_2 before it moves once more.
    np.testing.assert_allclose(policy_after_round(ud.ExactAgent(process), 0, 0), [1 / 4, 3 / 4])
    np.testing.assert_allclose(belief(process, "do", [0, 0], [0, 1]), [3 / 4, 1 / 4])


# ------------------------------------------------------------------------------------------------ Remark 11, the bandit

NUM_EPISODES = 20_000
# The reference values come from 100,000 episodes and are good to .002; ours, to 4 of their standard errors.
REFERENCE_ERROR = 0.002
SIGMAS = 4
REMARK_11 = {
    "do": {"first_5": 0.239, "last_5": 0.476, "reward": 0.434, "wrong": 0.0095, "truth": 0.806},
    "see": {"first_5": 0.240, "last_5": 0.323, "reward": 0.397, "wrong": 0.52, "truth": 0.45},
    "expert": {"first_5": 0.599, "last_5": 0.600, "reward": 0.550, "wrong": 0.0001, "truth": 0.999},
}
# Two of the rows are printed with two digits only.
ROUNDING = {("see", "wrong"): 0.005, ("see", "truth"): 0.005}


@pytest.fixture(scope="module")
def rows(bandit: ud.InteractionProcess) -> dict[str, dict[str, np.ndarray]]:
    """Each quantity of the table for each episode, from the library's rollouts."""
    result = {}
    for name in REMARK_11:
        agent = None if name == "expert" else ud.ExactAgent(bandit, own_actions=name)
        executor = "expert" if name == "expert" else "agent"
        episodes = ud.rollout(bandit, agent, key=jax.random.key(11), num_episodes=NUM_EPISODES, executor=executor)
        P = np.exp(ud.posterior(bandit, episodes)[:, -1])
        theta = np.asarray(episodes.theta)
        best = np.asarray(episodes.actions) == theta[:, None]
        result[name] = {
            "first_5": best[:, :5].mean(1),
            "last_5": best[:, -5:].mean(1),
            "reward": np.asarray(episodes.reward).mean(1),
            "wrong": (P.max(1) > 0.9) & (P.argmax(1) != theta),
            "truth": P[np.arange(NUM_EPISODES), theta],
        }
    return result


@pytest.mark.parametrize("name", REMARK_11)
def test_remark_11(rows: dict[str, dict[str, np.ndarray]], name: str):
    """How often the best arm is pulled, the reward, and the belief at the end, of do, see and the expert."""
    for quantity, reference in REMARK_11[name].items():
        x = rows[name][quantity]
        error = REFERENCE_ERROR + ROUNDING.get((name, quantity), 0) + SIGMAS * x.std() / np.sqrt(NUM_EPISODES)
        assert abs(x.mean() - reference) < error, (name, quantity, x.mean(), reference, error)


def test_remark_11_conclusions(rows: dict[str, dict[str, np.ndarray]]):
    """Conditioning often converges to the wrong arm and hardly improves; intervening identifies the best arm."""
    assert rows["see"]["wrong"].mean() > 20 * rows["do"]["wrong"].mean()
    assert rows["do"]["last_5"].mean() - rows["do"]["first_5"].mean() > 0.2
    assert rows["see"]["last_5"].mean() - rows["see"]["first_5"].mean() < 0.1


# ------------------------------------------------------------------------------------------ Remark 5, Thompson sampling


def test_remark_5_exact(bandit: ud.InteractionProcess):
    """`a ~ P(a | theta)` after `theta ~ P(theta)` has the law `sum_theta P(a | theta) P(theta)`: f_A, of both agents.

    The two draws of `act`, summed out by hand from the agent's own belief and the expert's own laws.
    """
    thompson, exact = ud.ThompsonAgent(bandit), ud.ExactAgent(bandit)

    @eqx.filter_jit
    def live(agent: ud.AbstractAgent) -> tuple[Any, Array]:
        m = agent.init(num_rounds=20)
        for a, o in ((2, 1), (2, 1), (0, 0)):
            m = agent.g_O(jnp.array(o), agent.g_A(jnp.array(a), m, intervened=True))
        return m, agent.f_A(m).probs

    m, thompson_f_A = live(thompson)
    _, exact_f_A = live(exact)
    two_draws = np.exp(m.belief.log_posterior) @ np.asarray(inference.expert_laws(bandit, m.belief).probs)
    np.testing.assert_allclose(exact_f_A, two_draws, rtol=1e-5)
    np.testing.assert_allclose(thompson_f_A, two_draws, rtol=1e-5)
    # ... and the actions come with that law, within 4 standard errors of a frequency.
    keys = jax.random.split(jax.random.key(5), NUM_EPISODES)
    actions, held = jax.jit(jax.vmap(lambda key: (lambda a, m: (a, m.held))(*thompson.act(m, key=key))))(keys)
    for drawn, law in ((actions, two_draws), (held, np.exp(m.belief.log_posterior))):
        frequency = np.bincount(np.asarray(drawn), minlength=5) / NUM_EPISODES
        assert (np.abs(frequency - law) < SIGMAS * np.sqrt(law * (1 - law) / NUM_EPISODES)).all()


def test_remark_5_over_episodes(bandit: ud.InteractionProcess, rows: dict[str, dict[str, np.ndarray]]):
    """Drawing theta anew each round, it lives as the exact agent does."""
    episodes = ud.rollout(bandit, ud.ThompsonAgent(bandit), key=jax.random.key(5), num_episodes=NUM_EPISODES)
    best = np.asarray(episodes.actions) == np.asarray(episodes.theta)[:, None]
    for quantity, x in (("first_5", best[:, :5].mean(1)), ("last_5", best[:, -5:].mean(1))):
        y = rows["do"][quantity]
        error = np.sqrt((x.var() + y.var()) / NUM_EPISODES)
        assert abs(x.mean() - y.mean()) < SIGMAS * error


def pointing(flip: float, num_rounds: int) -> ud.InteractionProcess:
    """Four thetas; the expert's action *is* theta, so that an action shows the theta held; observations hint at it."""
    hint = np.where(np.eye(4) == 1, 1 - flip, flip / 3)
    task = np.repeat(hint[:, None, :], 4, axis=1)
    return ud.tasks.from_tables(prior=np.full(4, 0.25), expert=np.eye(4), task=task, num_rounds=num_rounds)


def held(resample: Any, process: ud.InteractionProcess) -> tuple[np.ndarray, np.ndarray]:
    """`[B, T]`, the theta held in each round, and `[B, T, K]`, the belief before it."""
    agent = ud.ThompsonAgent(process, resample=resample)
    episodes = ud.rollout(process, agent, key=jax.random.key(6), num_episodes=2000)
    return np.asarray(episodes.actions), np.exp(ud.posterior(process, episodes))[:, :-1]


@pytest.mark.parametrize(("resample", "due"), [(3, [0, 3, 6]), ("episode", [0])])
def test_remark_5_held_for_longer(resample: Any, due: list[int]):
    """`resample=k` holds theta for k rounds, "episode" for all; when it is due, theta is drawn from the belief."""
    process = pointing(flip=0.75, num_rounds=8)
    theta, P = held(resample, process)
    for t in range(1, 8):
        if t not in due:
            assert (theta[:, t] == theta[:, t - 1]).all()
    # Observations that hint at nothing leave the belief uniform: at a draw, three in four change.
    np.testing.assert_allclose(P, 0.25, atol=1e-6)
    for t in due[1:]:
        changed = (theta[:, t] != theta[:, t - 1]).mean()
        assert abs(changed - 0.75) < SIGMAS * np.sqrt(0.75 * 0.25 / 2000)


def test_remark_5_redrawn_by_belief():
    """`resample="belief"`: theta is kept while it has half of the most probable one's belief, else drawn anew."""
    theta, P = held("belief", pointing(flip=0.5, num_rounds=8))
    before, after = theta[:, :-1], theta[:, 1:]
    P = P[:, 1:]
    ratio = np.take_along_axis(P, before[..., None], -1)[..., 0] / P.max(-1)
    # The ratios are powers of 3, so that none lies near 1/2.
    assert (np.abs(ratio - 0.5) > 0.1).all()
    due = ratio < 0.5
    assert (after == before)[~due].all()
    # When due, the new theta follows the belief: its own expected frequency of change, within 4 standard errors.
    stays = np.take_along_axis(P, before[..., None], -1)[..., 0][due]
    assert due.sum() > 1000
    error = np.sqrt((stays * (1 - stays)).sum())
    assert abs((after == before)[due].sum() - stays.sum()) < SIGMAS * error
