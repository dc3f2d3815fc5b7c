"""The paper's equations, remarks and tables, from the library's own answers and rollouts (Sections 2 and 3)."""

from fractions import Fraction
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import undelude as ud
from undelude import inference
from undelude.agent import scan

MARKS = ("do", "see")


def belief(process: ud.InteractionProcess, mark: str, actions: list[int], observations: list[int]) -> np.ndarray:
    """`P(Theta | history)`, the actions marked alike."""
    history = ud.Episodes.of(process, actions=actions, observations=observations, intervened=mark == "do")
    return np.exp(ud.posterior(process, history)[-1])


predictions = eqx.filter_jit(scan)


@eqx.filter_jit
def after_action(process: ud.InteractionProcess, mark: ud.agent.Mark, a: int) -> tuple[Array, Array]:
    """`P(Theta | A_1)` and `P(O_1 | A_1)`."""
    agent = ud.ExactAgent(process, own_actions=mark)
    m = agent.g_A(jnp.array(a), agent.init(num_rounds=1), intervened=mark == "do")
    return jnp.exp(m.log_posterior), agent.f_O(m).probs


@eqx.filter_jit
def policy_after_round(agent: ud.ExactAgent, a: int, o: int) -> Array:
    """`P(A_2 | A_1, O_1)`, the action marked as the agent reads its own."""
    m = agent.g_A(jnp.array(a), agent.init(num_rounds=2), intervened=agent.own_actions == "do")
    return agent.f_A(agent.g_O(jnp.array(o), m)).probs


# -------------------------------------------------------------------------------------------- Section 2, prize or frog


def test_eq_1(frog: ud.InteractionProcess):
    """`P(a) = sum_theta P(a | theta) P(theta) = 1/2`."""
    P_A, _ = predictions(ud.ExactAgent(frog), ud.Episodes.of(frog, actions=[0], observations=[0]))
    np.testing.assert_allclose(P_A.probs, [[1 / 2, 1 / 2]])


@pytest.mark.parametrize("a", [0, 1])
def test_section_2_self_delusion(frog: ud.InteractionProcess, a: int):
    """Conditioning on the action: `P(theta | a)` is certain, and so is the prize: `P(O = 1 | a) = 1` for either box."""
    P_theta, P_O = after_action(frog, "see", a)
    np.testing.assert_allclose(P_theta, np.arange(2) == a)
    np.testing.assert_allclose(P_O, [0, 1])


@pytest.mark.parametrize("a", [0, 1])
def test_section_2_addressing_the_delusion(frog: ud.InteractionProcess, a: int):
    """`P(theta | do(a)) = P(theta)`, and by the back-door adjustment `P(O | do(a)) = 1/2`."""
    P_theta, P_O = after_action(frog, "do", a)
    np.testing.assert_allclose(P_theta, [1 / 2, 1 / 2])
    np.testing.assert_allclose(P_O, [1 / 2, 1 / 2])


class ShownTask(ud.AbstractTask[Array]):
    """Prize or frog whose opening shows theta: symbols 0 and 1 for the box, then 2 for the frog and 3 for the prize."""

    theta_free_memory: ClassVar[bool] = True

    def init(self, theta):
        return jnp.array(-1)

    def Q_O(self, theta, w):
        shown = jnp.where(w < 0, theta, 2 + (w == theta))
        return ud.Categorical(log_probs=jnp.log(jax.nn.one_hot(shown, 4)))

    def g_A(self, theta, a, w):
        return jnp.asarray(a)

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return jnp.where(o == 3, 1.0, -1.0)


@pytest.mark.parametrize("theta", [0, 1])
def test_section_2_fully_observable(frog: ud.InteractionProcess, theta: int):
    """Where Theta is seen, acting imitates the expert, and `P(O | Theta, A) = P(O | Theta, do(A))`."""
    shown = ud.InteractionProcess(frog.prior, frog.thetas, ShownTask(), frog.expert, num_rounds=1, opening=True)
    for a in (0, 1):
        for mark in (True, False) if a == theta else (True,):
            history = ud.Episodes.of(
                shown, opening=theta, actions=[a], observations=[2 + (a == theta)], intervened=mark
            )
            P_A, P_O = predictions(ud.ExactAgent(shown), history)
            np.testing.assert_allclose(P_A.probs[0], np.arange(2) == theta)
            np.testing.assert_allclose(P_O.probs[0], [1 / 2, 1 / 2, 0, 0])
            np.testing.assert_allclose(P_O.probs[1], [0, 0, a != theta, a == theta])


def test_eq_2(frog: ud.InteractionProcess):
    """Both posteriors of equation 2 for box 1: after a prize both are certain; after a frog, see is impossible."""
    np.testing.assert_allclose(belief(frog, "see", [0], [1]), [1, 0])
    np.testing.assert_allclose(belief(frog, "do", [0], [1]), [1, 0])
    np.testing.assert_allclose(belief(frog, "do", [0], [0]), [0, 1])
    with pytest.raises(ValueError, match="impossible evidence"):
        belief(frog, "see", [0], [0])


def test_remark_2():
    """The same where the expert's choices and the outcomes are stochastic.

    Expert right with 4/5, content right with 2/3. P(theta = 1 | a = 1) = 4/5; P(O = 1 | a = 1) = 4/5 2/3 + 1/5 1/3 =
    3/5; under do, 1/2 and 1/2.
    """
    right = np.eye(2)
    pays = np.where(right == 1, 2 / 3, 1 / 3)
    process = ud.tasks.from_tables(
        prior=[0.5, 0.5], expert=np.where(right == 1, 4 / 5, 1 / 5), task=np.stack([1 - pays, pays], -1), num_rounds=1
    )
    (seen_theta, seen_O), (done_theta, done_O) = (after_action(process, mark, 0) for mark in ("see", "do"))
    np.testing.assert_allclose(seen_theta, [4 / 5, 1 / 5], rtol=1e-6)
    np.testing.assert_allclose(seen_O, [2 / 5, 3 / 5], rtol=1e-6)
    np.testing.assert_allclose(done_theta, [1 / 2, 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(done_O, [1 / 2, 1 / 2], rtol=1e-6)


@pytest.mark.parametrize(("a", "o"), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)])
def test_remark_3(a: int, o: int):
    """The two posteriors differ by the evidence of the action: `P(theta | a, o) ~ P(theta | do(a), o) P(a | theta)`."""
    rng = np.random.default_rng(3)
    prior, expert, task = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3), 4), rng.dirichlet(np.ones(2), (4, 3))
    process = ud.tasks.from_tables(prior=prior, expert=expert, task=task, num_rounds=1)
    seen, done = (belief(process, mark, [a], [o]) for mark in ("see", "do"))
    by_hand = prior * task[:, a, o]
    np.testing.assert_allclose(done, by_hand / by_hand.sum(), rtol=1e-5)
    by_hand = by_hand * expert[:, a]
    np.testing.assert_allclose(seen, by_hand / by_hand.sum(), rtol=1e-5)
    np.testing.assert_allclose(seen, done * expert[:, a] / (done * expert[:, a]).sum(), rtol=1e-5)


def test_remark_7(frog: ud.InteractionProcess):
    """Observations that hold the task identifier bring the problem back to the fully observable case: do = see.

    On its own histories the deluded agent's predictions are those of the sober one, once theta was shown.
    """
    shown = ud.InteractionProcess(frog.prior, frog.thetas, ShownTask(), frog.expert, num_rounds=3, opening=True)
    deluded = ud.ExactAgent(shown, own_actions="see")
    episodes = ud.rollout(shown, deluded, key=jax.random.key(0), num_episodes=16)
    as_do, as_see = (ud.posterior(shown, episodes, own_actions=mark) for mark in MARKS)
    np.testing.assert_allclose(np.exp(as_do), np.exp(as_see))


# --------------------------------------------------------------------------------------- Section 3, the sequential case


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
