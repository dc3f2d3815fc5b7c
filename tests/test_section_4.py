"""Section 4: Remark 14 and the naive repair of Section 4.2, against brute force in NumPy and in fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np

import undelude as ud
from undelude._paper.blocks import epigraph, processes, remark_14, section_4_2

# ---------------------------------------------------------------------------------------------------------- Remark 14


def test_remark_14():
    """Predictions and beliefs of the exact agent after all 64 marked pasts, against sums of the joint of the tables."""
    process = remark_14.four_symbols()
    tables = np.asarray(process.expert.probs, float)  # theta, t, past, x
    distributions = [tables[:, t, : 2**t].reshape(-1, *[2] * t, 2) for t in range(4)]
    symbols, done, histories = remark_14.pasts(process)
    P_A, posterior = processes.exact(process, histories).P_A, np.exp(ud.posterior(process, histories))
    for i, x in enumerate(symbols):
        weight = np.full(len(tables), 1 / len(tables))
        for t in range(3):
            if not done[i, t]:
                weight = weight * distributions[t][:, *x[: t + 1]]
        weight = weight / weight.sum()
        np.testing.assert_allclose(posterior[i, 3], weight, atol=1e-5)
        np.testing.assert_allclose(P_A[i, 3], weight @ distributions[3][:, *x], atol=1e-5)


# -------------------------------------------------------------------------------------- Section 4.2, the naive repair

HISTORIES = list(itertools.product(range(5), range(2)))


def bandit_joint() -> dict[tuple[int, int, int, int], Fraction]:
    """Return `P(theta, a_1, o_1, a_2)` of Remark 11's bandit and its expert in fractions."""

    def expert(a: int, theta: int) -> Fraction:
        return Fraction(6, 10) if a == theta else Fraction(1, 10)

    def pays(o: int, a: int, theta: int) -> Fraction:
        p = Fraction(3, 4) if a == theta else Fraction(1, 4)
        return p if o else 1 - p

    return {
        (theta, a_1, o_1, a_2): Fraction(1, 5) * expert(a_1, theta) * pays(o_1, a_1, theta) * expert(a_2, theta)
        for theta, a_1, o_1, a_2 in itertools.product(range(5), range(5), range(2), range(5))
    }


def lesson(*, same_theta: bool) -> dict[tuple[int, int], list[Fraction]]:
    """Return what is taught after `(a_1, o_1)`, summed over all trajectories, own actions and switches.

    Args:
        same_theta: switch only to trajectories that have the theta of the one before, as if theta were known.
    """
    joint = bandit_joint()
    begins: dict[tuple[int | None, int], Fraction] = {}
    for (theta, a_1, _, _), p in joint.items():
        key = (theta if same_theta else None, a_1)
        begins[key] = begins.get(key, Fraction()) + p
    weights = {history: [Fraction()] * 5 for history in HISTORIES}
    starts: dict[tuple[int, int], Fraction] = {}
    for (theta, a_bar, o_1, a_2), p in joint.items():
        weights[a_bar, o_1][a_2] += p * Fraction(1, 5)  # The agent, uniform, takes the action of tau.
        starts[theta, a_bar] = starts.get((theta, a_bar), Fraction()) + p
    for (theta, a_bar), p in starts.items():
        for (theta_2, a_1, o_1, a_2), q in joint.items():
            if a_1 != a_bar and (not same_theta or theta_2 == theta):
                begin = begins[(theta if same_theta else None, a_1)]
                weights[a_1, o_1][a_2] += p * Fraction(1, 5) * q / begin
    return {history: [w / sum(ws) for w in ws] for history, ws in weights.items()}


def test_naive_repair_by_enumeration():
    """Lessons after switching trajectories, with and without the same theta, against enumeration in fractions."""
    joint = np.asarray(ud.tasks.bandit().causal_model(num_rounds=2).query(("Theta", "A_1", "O_1", "A_2")), float)
    _, taught = section_4_2.taught_by_switching(joint.sum(0))
    with_theta = section_4_2.taught_with_same_theta(joint)
    for same_theta, lessons in ((False, taught), (True, with_theta)):
        exact = lesson(same_theta=same_theta)
        for history in HISTORIES:
            np.testing.assert_allclose(lessons[history], [float(p) for p in exact[history]], atol=1e-6)


# ------------------------------------------------------------------------------------------------ Remark 16, the menu


def test_remark_16_dialogue():
    """The model's first two sentences by enumeration: what it believes, repeats, and how far it is from do."""
    K = len(epigraph.DISHES)

    def says(a: int, theta: int) -> float:
        return 0.9 if a == theta else 0.1 / 4

    def replies(o: int, a: int, theta: int) -> float:
        yes = 0.8 * (0.75 if a == theta else 0.25)
        return (0.8 - yes, yes, 0.2)[o]

    kl, beliefs = 0.0, {}
    for o in range(3):  # After the first dish; all dishes are alike.
        weight = {
            "do": [replies(o, 0, theta) for theta in range(K)],
            "see": [replies(o, 0, theta) * says(0, theta) for theta in range(K)],
        }
        beliefs[o] = {mark: [w / sum(ws) for w in ws] for mark, ws in weight.items()}
        predicted = {
            mark: [sum(p * says(a, theta) for theta, p in enumerate(b)) for a in range(K)]
            for mark, b in beliefs[o].items()
        }
        met = sum(weight["do"]) / K
        kl += met * sum(p * math.log(p / q) for p, q in zip(predicted["do"], predicted["see"], strict=True))
    model = epigraph.dialogue().causal_model(num_rounds=2)
    for o, by_mark in beliefs.items():
        np.testing.assert_allclose(model.query("Theta", see={"A_1": 0, "O_1": o}), by_mark["see"], atol=1e-6)
        np.testing.assert_allclose(model.query("Theta", do={"A_1": 0}, see={"O_1": o}), by_mark["do"], atol=1e-6)
    talk = epigraph.transcripts(epigraph.dialogue(), 4000, 0, mark="see")
    sampled, right = talk.kl, talk.right
    assert np.abs(sampled[:, 0]).max() < 1e-9  # Before its first sentence there is nothing to be deluded by.
    assert abs(sampled[:, 1].mean() - kl) < 4 * sampled[:, 1].std() / np.sqrt(len(sampled))
    assert abs(right[:, 0].mean() - 1 / K) < 4 * np.sqrt(0.16 / len(right))
