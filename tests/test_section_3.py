"""Section 3: the sequential case, equation 3, Figure 3d, Remarks 9 to 12, and Remark 5 on sequences."""

import itertools
import re
from fractions import Fraction
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import undelude as ud
from answers import MARKS, belief, policies, policy_after_round, predictions
from oracle import Machine, enumerate_joint
from undelude._paper.blocks import convergence, models, processes, remark_11, remark_12
from undelude._paper.item import Settings
from undelude._process import inference


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


# The table of Remark 11 as printed: actions, rewards, the arm that each trajectory ends on.
PRINTED = {
    "see": [
        ("34333333333333333333", "10000001000010001010", 3),
        ("21212111111111111111", "01010111101111111011", 1),
        ("55222252412222222225", "00101000111100100000", 2),
    ],
    "do": [
        ("14431115311141111111", "00011100011101111101", 1),
        ("54534533231115511111", "10010001001011011101", 1),
        ("21115454145111114111", "01100000001111100111", 1),
    ],
}


def printed(mark: str, i: int) -> tuple[list[int], list[int]]:
    """Arms from 0, and rewards."""
    actions, rewards, _ = PRINTED[mark][i]
    return [int(x) - 1 for x in actions], [int(x) for x in rewards]


@pytest.mark.parametrize("mark", MARKS)
def test_remark_10(bandit: ud.InteractionProcess, mark: str):
    """The recursion on a printed trajectory: posterior and predictive at each of the 20 rounds, against fractions."""
    arms, rewards = printed(mark, 0)
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


# ------------------------------------------------------------------------------------------- the game of Figure 3

GAME = "Theta_1", "A_1", "O_1", "Theta_2", "A_2", "O_2"


@pytest.fixture(scope="module")
def game() -> ud.CausalModel:
    return models.game()


def game_joint(model: ud.CausalModel, *, done: str = "") -> np.ndarray:
    """`[theta_1, a_1, o_1, theta_2, a_2, o_2]`, the product of the tables; without those of what is done (surgery)."""
    joint = np.ones([2] * 6)
    for i, name in enumerate(GAME):
        if name not in done.split():
            joint = joint * np.asarray(model[name].table, float).reshape([2] * (i + 1) + [1] * (5 - i))
    return joint


def test_figure_3_has_no_independence_but_those_of_the_figure(game: ud.CausalModel):
    """Each variable listens to all before it, and every one of them makes a difference."""
    for i, name in enumerate(GAME):
        assert game[name].parents == GAME[:i]
        for axis in range(i):
            assert np.ptp(np.asarray(game[name].table), axis=axis).max() > 0.05


def test_remark_9(game: ud.CausalModel):
    """In an information set the expert's policy differs, and equation 3's is the same: the belief's average.

    Against the joint, summed; the sets are found by what the agent remembers at each place where it must act.
    """
    mutilated = game_joint(game, done="A_1")
    weight = mutilated.sum((4, 5))  # theta_1, a_1, o_1, theta_2, the action done
    expert = game_joint(game).sum(5) / game_joint(game).sum((4, 5))[..., None]
    process = processes.game_process(game)
    episodes = ud.rollout(process, ud.ExactAgent(process), key=jax.random.key(9), num_episodes=500)
    # What the agent says at every place where it came: by what it remembers.
    places, said = {}, np.asarray(policies(process, episodes))[:, 1]
    a, o, path = (np.asarray(x) for x in (episodes.actions[:, 0], episodes.observations[:, 0], episodes.theta[:, 1]))
    for b in range(500):
        place = processes.PATHS[path[b]]
        places.setdefault((a[b], o[b]), {}).setdefault(place, []).append(said[b])
        np.testing.assert_allclose(episodes.expert.probs[b, 1], expert[place[0], a[b], o[b], place[1]], atol=1e-6)
    assert len(places) == 4
    assert all(len(in_set) == 4 for in_set in places.values())
    for (a_1, o_1), in_set in places.items():
        belief = weight[:, a_1, o_1] / weight[:, a_1, o_1].sum()
        average = np.einsum("ij,ijx->x", belief, expert[:, a_1, o_1])
        np.testing.assert_allclose(game.query("A_2", do={"A_1": a_1}, see={"O_1": o_1}), average, atol=1e-6)
        np.testing.assert_allclose(
            np.concatenate(list(in_set.values())),
            average[None].repeat(len(a), 0)[: sum(map(len, in_set.values()))],
            atol=1e-5,
        )
        assert np.ptp(expert[:, a_1, o_1, :, 1]) > 0.1


def test_figure_3d(game: ud.CausalModel):
    """The marginal refuses `do`, with good reason: another game has the same marginal, and another answer.

    The other: no hidden moves at all, every variable listening to what was seen before it.
    """
    marginal = game_joint(game).sum((0, 3))  # a_1, o_1, a_2, o_2
    names = ("A_1", "O_1", "A_2", "O_2")
    seen = game.marginal(names)
    np.testing.assert_allclose(seen.query(names), marginal, atol=1e-6)
    with pytest.raises(ud.NotIdentifiable, match=r"(?s)P\(A_2 \| do\(A_1\), O_1\).*Theta_1, hidden"):
        seen.query("A_2", do={"A_1": 1}, see={"O_1": 0})
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
    """`P(theta_1:2 | do(a_1), o_1)`, and after both rounds under all marks: the recursion against the joint, summed."""
    process = processes.game_process(game)
    rows = np.array(list(itertools.product((0, 1), repeat=6)))
    a, o, done = rows[:, :2], rows[:, 2:4], rows[:, 4:] == 1
    histories = ud.Episodes.of(process, actions=a, observations=o, intervened=done)
    posterior, P_A = np.exp(ud.posterior(process, histories)), policies(process, histories)
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


def test_remark_10_with_a_theta_that_answers_actions():
    """The bandit whose best arm moves, with 1/2 when pulled and 1/10 otherwise, against every trajectory there is."""
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
    posterior, P_A = np.exp(ud.posterior(process, histories)), policies(process, histories)
    for i, t in itertools.product(range(12), range(4)):
        history = a[i, :t], done[i, :t], o[i, :t]
        np.testing.assert_allclose(posterior[i, t], joint.theta(*history), atol=1e-5)
        if t < 3:
            np.testing.assert_allclose(P_A[i, t], joint.next_action(*history), atol=1e-5)


# ------------------------------------------------------------------------------------------ convergence to the expert


def test_section_3_converges_to_the_expert(bandit: ud.InteractionProcess):
    """`KL(Q(A | theta) || P(A | do(a), o))` goes to 0 round by round, not so when own actions are evidence.

    Before anything happened it is .6 log(.6/.2) + .4 log(.1/.2), and stays that where rewards tell nothing.
    """
    first = 0.6 * np.log(3) + 0.4 * np.log(0.5)
    expert = np.full((5, 5), 0.1) + 0.5 * np.eye(5)
    kl = {}
    cases = {"do": (bandit, "do"), "see": (bandit, "see"), "blind": (convergence.without_feedback(bandit), "do")}
    for name, (process, mark) in cases.items():
        agent = ud.ExactAgent(process, own_actions=mark)
        episodes = ud.rollout(process, agent, key=jax.random.key(3), num_episodes=100, num_rounds=200)
        row = expert[np.asarray(episodes.theta)][:, None]
        P_A = np.exp(ud.posterior(process, episodes)[:, :-1]) @ expert
        kl[name] = (row * np.log(row / P_A)).sum(-1).mean(0)
        np.testing.assert_allclose(kl[name][0], first, rtol=1e-4)
    assert kl["do"][49] < 0.05
    assert kl["do"][-1] < 1e-4
    # Of 100 deluded agents about half end on a wrong arm, at a distance of .5 log 6 each.
    assert abs(kl["see"][-1] / (0.5 * np.log(6)) - 0.52) < SIGMAS * np.sqrt(0.52 * 0.48 / 100)
    np.testing.assert_allclose(kl["blind"], first, rtol=1e-4)


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


@pytest.mark.parametrize("mark", MARKS)
def test_remark_11_printed(bandit: ud.InteractionProcess, mark: str):
    """The printed trajectories read as their own reader would: where they end, and that the column fits that reader.

    Beliefs and the probabilities of the actions in fractions; conditioning ends on wrong arms, twice out of three.
    """
    ratio = 0.0
    for i, (_, _, arm) in enumerate(PRINTED[mark]):
        arms, rewards = printed(mark, i)
        exact = [float(p) for p in bandit_posterior(arms, rewards, mark)]
        np.testing.assert_allclose(belief(bandit, mark, arms, rewards), exact, atol=2e-6)
        assert np.argmax(exact) == arm - 1
        assert max(exact) > 0.9
        for reading, sign in (("do", 1), ("see", -1)):
            history = ud.Episodes.of(bandit, actions=arms, observations=rewards, intervened=reading == "do")
            P_A, _ = predictions(ud.ExactAgent(bandit), history)
            log_p = np.log([float(bandit_policy(arms[:t], rewards[:t], reading)[a]) for t, a in enumerate(arms)])
            np.testing.assert_allclose(np.log(P_A.probs[np.arange(20), np.array(arms)]), log_p, atol=1e-4)
            ratio += sign * log_p.sum()
    assert ratio > 3 if mark == "do" else ratio < -40


def test_remark_11_table():
    """The table in the paper's own format, read back: each belief under a trajectory is the one in fractions."""
    settings = Settings(num_episodes=300)
    lines = remark_11.table({mark: remark_11.live(settings, mark) for mark in MARKS}).splitlines()
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
        arms = [int(x) - 1 for x in rows[2 * i][column].replace(" ", "")]
        rewards = [int(x) for x in rows[2 * i + 1][column].replace(" ", "")]
        exact = [float(p) for p in bandit_posterior(arms, rewards, ("see", "do")[column])]
        probability, arm = ends[i][column]
        assert int(arm) == np.argmax(exact) + 1
        assert abs(float(probability) - max(exact)) < 0.0051


def test_remark_11_episodes():
    """The pair for the belief plots: a deluded agent sure of a wrong arm, a sober one of the best; in fractions."""
    lived = remark_11.remark_11_episodes(Settings(num_episodes=300))
    for mark in MARKS:
        arms, rewards = lived[mark].actions.tolist(), lived[mark].rewards.tolist()
        for t in (0, 7, 20):
            exact = [float(p) for p in bandit_posterior(arms[:t], rewards[:t], mark)]
            np.testing.assert_allclose(lived[mark].belief[t], exact, atol=1e-5)
    assert lived["see"].belief[-1, 1:].max() > 0.9
    assert lived["do"].belief[-1, 0] > 0.9


# --------------------------------------------------------------------------------------- Remark 12, language models


def words(model: ud.CausalModel) -> tuple[np.ndarray, ...]:
    """The tables of theta and the four words."""
    return tuple(np.asarray(model[name].table, float) for name in ("Theta", "X_1", "X_2", "X_3", "X_4"))


def test_remark_12():
    """Equations 4 to 8 for all 27 texts, against products and sums of the tables."""
    model = remark_12.dialogue()
    Theta, X_1, X_2, X_3, X_4 = words(model)  # noqa: N806
    for x_1, x_2, x_3 in itertools.product(range(3), repeat=3):
        see = Theta * X_1[:, x_1] * X_2[:, x_1, x_2] * X_3[:, x_1, x_2, x_3]  # (5)
        do = Theta * X_1[:, x_1] * X_3[:, x_1, x_2, x_3]  # (7)
        predictions = []
        for posterior, given in (
            (see, {"see": {"X_1": x_1, "X_2": x_2, "X_3": x_3}}),
            (do, {"see": {"X_1": x_1, "X_3": x_3}, "do": {"X_2": x_2}}),
        ):
            posterior = posterior / posterior.sum()
            np.testing.assert_allclose(model.query("Theta", **given), posterior, atol=1e-6)
            predictions.append(posterior @ X_4[:, x_1, x_2, x_3])  # (4), (6)
            np.testing.assert_allclose(model.query("X_4", **given), predictions[-1], atol=1e-6)
        assert np.abs(predictions[0] - predictions[1]).max() > 1e-3  # (8)
    # "The back-door criterion": theta and the first word; nothing where theta is hidden.
    assert model.back_door("X_2", "X_4") == (frozenset({"Theta", "X_1"}),)
    assert model.back_door("X_2", "X_4", latent="Theta") == ()


def see_do_weight(model: ud.CausalModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both predictions of the fourth word, `[x_1, x_2, x_3, x_4]`, and how often the machine's dialogues get there."""
    Theta, X_1, X_2, X_3, X_4 = words(model)  # noqa: N806
    see = np.einsum("i,ia,iab,iabc,iabcx->abcx", Theta, X_1, X_2, X_3, X_4)
    do = np.einsum("i,ia,iabc,iabcx->abcx", Theta, X_1, X_3, X_4)
    x_2 = see.sum((2, 3)) / see.sum((1, 2, 3))[:, None]
    weight = x_2[..., None] * do.sum(-1)
    return see / see.sum(-1, keepdims=True), do / do.sum(-1, keepdims=True), weight


def test_remark_12_informative_words():
    """The more people's words tell of theta, the less the two predictions differ."""
    distances = []
    for informative in (0.0, 0.5, 0.9, 0.99):
        model = remark_12.dialogue(informative)
        exact = see_do_weight(model)
        for x, y in zip(remark_12.readings(model), exact, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)
        see, do, weight = exact
        np.testing.assert_allclose(weight.sum(), 1)
        distances.append((weight * np.abs(see - do).sum(-1) / 2).sum())
    assert (np.diff(distances) < 0).all()
    assert distances[0] > 0.1
    assert distances[-1] < 0.01


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_remark_12_relearning(share: float):
    """Text that the machine wrote, mixed into the corpus, teaches what it said already; a bias stays in proportion.

    Only where people write the fourth word after a word of the machine, the corpus tends to the interventional answer.
    """
    model = remark_12.dialogue()
    Theta, X_1, X_2, X_3, X_4 = words(model)  # noqa: N806
    see, do, weight = see_do_weight(model)
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
    # Nearer by as much as there are dialogues with the machine among the texts that begin so: all of them at the end.
    people_only = (1 - share) * people.sum(-1) / corpus.sum(-1)
    np.testing.assert_allclose(exact - do, people_only[..., None] * (see - do), atol=1e-9)
    assert share < 1 or people_only.max() == 0


# ------------------------------------------------------------------------------------------ Remark 5, Thompson sampling


def test_remark_5_exact(bandit: ud.InteractionProcess):
    """`a ~ P(a | theta)` after `theta ~ P(theta)` has the distribution `sum_theta P(a | theta) P(theta)`: f_A, of
    both agents.

    The two draws of `act`, summed out by hand from the agent's own belief and the expert's own distributions.
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
    two_draws = np.exp(m.belief.log_posterior) @ np.asarray(inference.expert_distributions(bandit, m.belief).probs)
    np.testing.assert_allclose(exact_f_A, two_draws, rtol=1e-5)
    np.testing.assert_allclose(thompson_f_A, two_draws, rtol=1e-5)
    # ... and the actions come with that distribution, within 4 standard errors of a frequency.
    keys = jax.random.split(jax.random.key(5), NUM_EPISODES)
    actions, held = jax.jit(jax.vmap(lambda key: (lambda a, m: (a, m.held))(*thompson.act(m, key=key))))(keys)
    for drawn, distribution in ((actions, two_draws), (held, np.exp(m.belief.log_posterior))):
        frequency = np.bincount(np.asarray(drawn), minlength=5) / NUM_EPISODES
        assert (
            np.abs(frequency - distribution) < SIGMAS * np.sqrt(distribution * (1 - distribution) / NUM_EPISODES)
        ).all()


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
