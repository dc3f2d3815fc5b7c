"""Section 3, independently of the page: brute force for Figure 3 and Remarks 10 to 12, and Remark 5 on sequences."""

import itertools
import re
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest

import undelude as ud
from oracle import Machine, enumerate_joint
from undelude._paper.blocks import episodes, models, processes, remark_5, remark_11, remark_12
from undelude._paper.item import Settings
from undelude._process import inference


def bandit_posterior(arms: list[int], rewards: list[int], mark: str) -> list[Fraction]:
    """Return the posterior of Remark 11's bandit in fractions; only if marked "see", actions have a likelihood."""
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
    """Return the posterior predictive distribution of the next action in fractions."""
    posterior = bandit_posterior(arms, rewards, mark)
    expert = [[Fraction(6, 10) if a == theta else Fraction(1, 10) for theta in range(5)] for a in range(5)]
    return [sum((p * q for p, q in zip(posterior, row, strict=True)), Fraction()) for row in expert]


# ------------------------------------------------------------------------------------------- the game of Figure 3

SIGMAS = 4
MARKS = "do", "see"
GAME = "Theta_1", "A_1", "O_1", "Theta_2", "A_2", "O_2"


@pytest.fixture(scope="module")
def game() -> ud.CausalModel:
    return models.game()


def game_joint(model: ud.CausalModel, *, done: str = "") -> np.ndarray:
    """Return the product of the tables, `[theta_1, a_1, o_1, theta_2, a_2, o_2]`, without those of `done` (surgery)."""
    joint = np.ones([2] * 6)
    for i, name in enumerate(GAME):
        if name not in done.split():
            joint = joint * np.asarray(model[name].table, float).reshape([2] * (i + 1) + [1] * (5 - i))
    return joint


def test_figure_3_is_a_complete_graph(game: ud.CausalModel):
    """Each variable has all variables before it as parents, and its distribution depends on every one of them."""
    for i, name in enumerate(GAME):
        assert game[name].parents == GAME[:i]
        for axis in range(i):
            assert np.ptp(np.asarray(game[name].table), axis=axis).max() > 0.05


def test_figure_3d_marginal_is_ambiguous(game: ud.CausalModel):
    """A game without hidden moves has the same marginal distribution and another effect of the action.

    In the other game each variable depends on all observed variables before it.
    """
    names = ("A_1", "O_1", "A_2", "O_2")
    marginal = game_joint(game).sum((0, 3))
    tables = [marginal.sum(tuple(range(i + 1, 4))) for i in range(4)]
    other = ud.CausalModel(
        [
            ud.Variable(name, (0, 1), parents=names[:i], table=table / table.sum(-1, keepdims=True))
            for i, (name, table) in enumerate(zip(names, tables, strict=True))
        ]
    )
    np.testing.assert_allclose(other.query(names), game.query(names), atol=1e-6)
    answers = [model.query("A_2", do={"A_1": 1}, see={"O_1": 0}) for model in (game, other)]
    by_hand = game_joint(game, done="A_1")[:, 1, 0].sum((0, 1, 3))
    np.testing.assert_allclose(answers[0], by_hand / by_hand.sum(), atol=1e-6)
    assert np.abs(answers[0] - answers[1]).max() > 0.02


def test_remark_10_with_theta_as_a_path(game: ud.CausalModel):
    """`P(theta_1:2 | do(a_1), o_1)`, and the posterior of both rounds under all marks, against sums of the joint."""
    process = processes.game_process(game)
    rows = np.array(list(itertools.product((0, 1), repeat=6)))
    a, o, done = rows[:, :2], rows[:, 2:4], rows[:, 4:] == 1
    histories = ud.Episodes.of(process, actions=a, observations=o, intervened=done)
    posterior, P_A = np.exp(ud.posterior(process, histories)), processes.exact(process, histories).P_A
    for i in range(len(rows)):
        joint = game_joint(game, done=" ".join(np.array(["A_1", "A_2"])[done[i]]))
        after_1 = (joint if done[i, 1] else joint.sum((4, 5)))[:, a[i, 0], o[i, 0]]
        if done[i, 1]:  # O_2 summed out, under any action.
            after_1 = game_joint(game, done="A_1" if done[i, 0] else "").sum((4, 5))[:, a[i, 0], o[i, 0]]
        np.testing.assert_allclose(posterior[i, 1], [0, 0, *(after_1 / after_1.sum()).ravel()], atol=1e-5)
        expert = np.asarray(game["A_2"].table)[:, a[i, 0], o[i, 0]]
        np.testing.assert_allclose(P_A[i, 1], np.einsum("ij,ijx->x", after_1 / after_1.sum(), expert), atol=1e-5)
        after_2 = joint[:, a[i, 0], o[i, 0], :, a[i, 1], o[i, 1]]
        np.testing.assert_allclose(posterior[i, 2], [0, 0, *(after_2 / after_2.sum()).ravel()], atol=1e-5)


def test_remark_10_with_moving_theta():
    """The best arm moves with probability 1/2 if it is pulled, else 1/10: against enumeration of all trajectories."""
    eye, past = np.eye(3), np.arange(3)
    moves = np.where(eye[:, :, None] == 1, 1 / 2, 1 / 10)  # theta, last action
    machine = Machine(
        prior=np.full(3, 1 / 3),
        task_start=np.zeros(3, int),
        task_reads_a=np.broadcast_to(past[None, :, None], (3, 3, 3)),
        task_reads_o=np.broadcast_to(past, (3, 2, 3)),
        Q_O=np.stack([1 - np.where(eye == 1, 0.75, 0.25), np.where(eye == 1, 0.75, 0.25)], -1),
        expert_start=np.zeros(3, int),
        expert_reads_a=np.zeros((3, 3, 1), int),
        expert_reads_o=np.zeros((3, 2, 1), int),
        Q_A=np.where(eye == 1, 0.6, 0.2)[:, None],
        transition=np.where(eye[:, None] == 1, 1 - moves, moves * np.roll(eye, 1, 1)[:, None]),
    )
    joint, process = enumerate_joint(machine, 3), processes.tiring_bandit()
    rng = np.random.default_rng(10)
    a, o, done = rng.integers(3, size=(12, 3)), rng.integers(2, size=(12, 3)), rng.random((12, 3)) < 0.5
    histories = ud.Episodes.of(process, actions=a, observations=o, intervened=done)
    posterior, P_A = np.exp(ud.posterior(process, histories)), processes.exact(process, histories).P_A
    for i, t in itertools.product(range(12), range(4)):
        history = a[i, :t], done[i, :t], o[i, :t]
        np.testing.assert_allclose(posterior[i, t], joint.theta(*history), atol=1e-5)
        if t < 3:
            np.testing.assert_allclose(P_A[i, t], joint.next_action(*history), atol=1e-5)


# ------------------------------------------------------------------------------------------------ Remark 11, the bandit


@pytest.mark.parametrize("mark", MARKS)
def test_remark_11_printed(bandit: ud.InteractionProcess, mark: str):
    """Beliefs and predictions of the three printed trajectories at each of the 20 rounds, against fractions."""
    trajectories = [(remark_11.digits(a), remark_11.digits(o)) for a, o, _ in remark_11.PRINTED[mark]]
    arms, rewards = np.array(trajectories).swapaxes(0, 1)
    histories = ud.Episodes.of(bandit, actions=arms - 1, observations=rewards, intervened=mark == "do")
    beliefs, P_A = np.exp(ud.posterior(bandit, histories)), processes.exact(bandit, histories).P_A
    for i, t in itertools.product(range(3), range(21)):
        past = (arms[i, :t] - 1).tolist(), rewards[i, :t].tolist(), mark
        np.testing.assert_allclose(beliefs[i, t], [float(p) for p in bandit_posterior(*past)], atol=2e-6)
        if t < 20:
            np.testing.assert_allclose(P_A[i, t], [float(p) for p in bandit_policy(*past)], atol=2e-6)


@pytest.fixture(scope="module")
def played() -> remark_11.Shown:
    return {mark: remark_11.labelled(episodes.play(Settings(num_episodes=300), mark)) for mark in MARKS}


def test_remark_11_table(played: remark_11.Shown):
    """The table in the paper's format, parsed: the belief of each trajectory is the one in fractions."""
    lines = remark_11.table(played).splitlines()
    assert lines[0].split() == ["Conditioning:", "Intervening:"]
    distributions = r"a_t\+1 ~ P\(a_t\+1 \| a_1:t, o_1:t\) +a_t\+1 ~ P\(a_t\+1 \| do\(a_1:t\), o_1:t\)"
    assert re.fullmatch(distributions, lines[1])
    blocks = r"((?:\d{5} ){3}\d{5})"
    rows = [
        re.findall(rf"{word}: +{blocks}", line) for line in lines for word in ("Actions", "Rewards") if word in line
    ]
    ends = [re.findall(r"([01]\.\d\d) in arm (\d)", line) for line in lines if "Belief" in line]
    assert [len(row) for row in rows] == [2] * 6
    for i, column in itertools.product(range(3), range(2)):
        arms = [x - 1 for x in remark_11.digits(rows[2 * i][column])]
        rewards = remark_11.digits(rows[2 * i + 1][column])
        exact = [float(p) for p in bandit_posterior(arms, rewards, ("see", "do")[column])]
        probability, arm = ends[i][column]
        assert int(arm) == np.argmax(exact) + 1
        assert abs(float(probability) - max(exact)) < 0.0051


@pytest.mark.parametrize("mark", MARKS)
def test_remark_11_belief_plots(played: remark_11.Shown, mark: str):
    """One agent certain of a wrong arm, one of the best arm; their beliefs against fractions."""
    belief, actions, rewards = remark_11.first_confident(mark, *played[mark])
    for t in (0, 7, 20):
        exact = [float(p) for p in bandit_posterior(actions[:t].tolist(), rewards[:t].tolist(), mark)]
        np.testing.assert_allclose(belief[t], exact, atol=1e-5)
    assert (belief[-1, 1:].max() if mark == "see" else belief[-1, 0]) > 0.9


# --------------------------------------------------------------------------------------- Remark 12, language models


def words(model: ud.CausalModel) -> tuple[np.ndarray, ...]:
    """Return the tables of theta and the four words."""
    return tuple(np.asarray(model[name].table, float) for name in ("Theta", "X_1", "X_2", "X_3", "X_4"))


def see_do_weight(model: ud.CausalModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both predictions of x_4, `[x_1, x_2, x_3, x_4]`, and `P(x_1:3)` in dialogues with the model."""
    Theta, X_1, X_2, X_3, X_4 = words(model)  # noqa: N806
    see = np.einsum("i,ia,iab,iabc,iabcx->abcx", Theta, X_1, X_2, X_3, X_4)
    do = np.einsum("i,ia,iabc,iabcx->abcx", Theta, X_1, X_3, X_4)
    x_2 = see.sum((2, 3)) / see.sum((1, 2, 3))[:, None]
    weight = x_2[..., None] * do.sum(-1)
    return see / see.sum(-1, keepdims=True), do / do.sum(-1, keepdims=True), weight


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_remark_12_relearning(share: float):
    """A model relearns its own predictions from generated text; a bias shrinks with the share of human text.

    If people write the fourth word after a generated word, the corpus tends to the interventional answer.
    """
    model = remark_12.dialogue()
    Theta, X_1, X_2, X_3, X_4 = words(model)  # noqa: N806
    see, do, weight = see_do_weight(model)
    for x, y in zip(remark_12.readings(model), (see, do, weight), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    people = np.einsum("i,ia,iab,iabc,iabcx->abcx", Theta, X_1, X_2, X_3, X_4)
    biased = (see + 1 / 3) / 2
    for generated in (see, biased):
        corpus = (1 - share) * people + share * weight[..., None] * generated
        exact = corpus / corpus.sum(-1, keepdims=True)
        np.testing.assert_allclose(remark_12.relearned(model, share, generated), exact, atol=1e-6)
        if generated is see:
            np.testing.assert_allclose(exact, see, atol=1e-9)
        elif share == 1:
            np.testing.assert_allclose(exact, biased, atol=1e-9)
        else:
            assert (np.abs(exact - see) <= np.abs(biased - see) + 1e-12).all()
    corpus = (1 - share) * people + share * weight[..., None] * do
    exact = corpus / corpus.sum(-1, keepdims=True)
    np.testing.assert_allclose(remark_12.relearned(model, share, see, fourth="human"), exact, atol=1e-6)
    # The distance to `do` is proportional to the share of human text among the texts that begin alike.
    human_share = (1 - share) * people.sum(-1) / corpus.sum(-1)
    np.testing.assert_allclose(exact - do, human_share[..., None] * (see - do), atol=1e-9)
    assert share < 1 or human_share.max() == 0


# ------------------------------------------------------------------------------------------ Remark 5, Thompson sampling


def test_remark_5_samples_from_the_belief(bandit: ud.InteractionProcess):
    """`f_A` is `sum_theta P(a | theta) P(theta | h)` for Thompson's and the exact agent; `act` holds `theta ~ P`."""
    history = ud.Episodes.of(bandit, actions=[2, 2, 0], observations=[1, 1, 0], intervened=True)
    thompson, exact = ud.ThompsonAgent(bandit), ud.ExactAgent(bandit)
    m = remark_5.after(thompson, history)
    belief = np.exp(m.belief.log_posterior)
    two_draws = belief @ np.asarray(inference.expert_distributions(bandit, m.belief).probs)
    np.testing.assert_allclose(thompson.f_A(m).probs, two_draws, rtol=1e-5)
    np.testing.assert_allclose(exact.f_A(remark_5.after(exact, history)).probs, two_draws, rtol=1e-5)
    keys = jax.random.split(jax.random.key(5), 20_000)
    held = jax.jit(jax.vmap(lambda key: thompson.act(m, key=key)[1].held))(keys)
    frequency = np.bincount(np.asarray(held), minlength=5) / len(keys)
    assert (np.abs(frequency - belief) < SIGMAS * np.sqrt(belief * (1 - belief) / len(keys))).all()


@pytest.mark.slow
def test_remark_5_over_episodes(bandit: ud.InteractionProcess):
    """Over whole episodes Thompson sampling pulls the best arm as often as the exact agent does."""
    episodes = ud.rollout(bandit, ud.ThompsonAgent(bandit), key=jax.random.key(5), num_episodes=20_000)
    best = np.asarray(episodes.actions) == np.asarray(episodes.theta)[:, None]
    for quantity, rounds in (("first-5", slice(0, 5)), ("last-5", slice(-5, None))):
        x = best[:, rounds].mean(1)
        error = x.std() * np.hypot(1 / np.sqrt(len(x)), 1 / np.sqrt(remark_11.REFERENCE_EPISODES))
        assert abs(x.mean() - remark_11.REFERENCE["do"][quantity]) < SIGMAS * error + 0.0005


def pointing(flip: float, num_rounds: int) -> ud.InteractionProcess:
    """Return a process whose expert plays theta, so that an action shows the held theta; observations are hints."""
    hint = np.where(np.eye(4) == 1, 1 - flip, flip / 3)
    task = np.repeat(hint[:, None, :], 4, axis=1)
    return ud.tasks.from_tables(prior=np.full(4, 0.25), expert=np.eye(4), task=task, num_rounds=num_rounds)


def held(resample: Any, process: ud.InteractionProcess) -> tuple[np.ndarray, np.ndarray]:
    """Return the theta held in each round, `[B, T]`, and the belief before it, `[B, T, K]`."""
    agent = ud.ThompsonAgent(process, resample=resample)
    episodes = ud.rollout(process, agent, key=jax.random.key(6), num_episodes=2000)
    return np.asarray(episodes.actions), np.exp(ud.posterior(process, episodes))[:, :-1]


@pytest.mark.parametrize(("resample", "due"), [(3, [0, 3, 6]), ("episode", [0])])
def test_remark_5_resample_every_k(resample: Any, due: list[int]):
    """`resample=k` holds theta for k rounds and "episode" for all; then theta is sampled from the belief."""
    process = pointing(flip=0.75, num_rounds=8)
    theta, P = held(resample, process)
    for t in range(1, 8):
        if t not in due:
            assert (theta[:, t] == theta[:, t - 1]).all()
    # With flip=.75 observations are uninformative and the belief stays uniform: a new sample differs with 3/4.
    np.testing.assert_allclose(P, 0.25, atol=1e-6)
    for t in due[1:]:
        changed = (theta[:, t] != theta[:, t - 1]).mean()
        assert abs(changed - 0.75) < SIGMAS * np.sqrt(0.75 * 0.25 / 2000)


def test_remark_5_resample_by_belief():
    """`resample="belief"` keeps theta while its belief is at least half of the largest, and else samples again."""
    theta, P = held("belief", pointing(flip=0.5, num_rounds=8))
    before, after = theta[:, :-1], theta[:, 1:]
    P = P[:, 1:]
    ratio = np.take_along_axis(P, before[..., None], -1)[..., 0] / P.max(-1)
    # The ratios are powers of 3: none is near 1/2.
    assert (np.abs(ratio - 0.5) > 0.1).all()
    due = ratio < 0.5
    assert (after == before)[~due].all()
    # A new theta is a sample of the belief: the number of unchanged thetas is within 4 standard errors of its mean.
    stays = np.take_along_axis(P, before[..., None], -1)[..., 0][due]
    assert due.sum() > 1000
    error = np.sqrt((stays * (1 - stays)).sum())
    assert abs((after == before)[due].sum() - stays.sum()) < SIGMAS * error
