"""Remark 2: stochastic choices and outcomes."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import BOXES, chance, frog, random_model
from undelude._paper.item import Block, Settings, equal, holds

ACCURACIES = (1 / 2, 3 / 4, 9 / 10, 1)


def block(settings: Settings) -> Block:
    """The same where everything is stochastic."""
    rng = np.random.default_rng(settings.seed)
    belief, outcome, formula, shown, deluded = [], [], [], [], []
    for _ in range(100):
        model = random_model(rng)
        table, prior = np.asarray(model["O"].table), np.asarray(model["Theta"].table)
        a = int(rng.integers(3))
        done, seen = model.query(("Theta", "O"), do={"A": a}), model.query(("Theta", "O"), see={"A": a})
        belief.append(np.abs(done.sum(1) - prior).max())
        formula.append(np.abs(done.sum(0) - table[:, a].T @ prior).max())
        shown.append(np.abs(done / done.sum(1, keepdims=True) - seen / seen.sum(1, keepdims=True)).max())
        deluded.append(np.abs(seen.sum(1) - prior).sum() / 2)
        outcome.append(np.abs(seen.sum(0) - done.sum(0)).sum() / 2)
    tenth = np.quantile(deluded, 0.1)
    dial = []
    for p in ACCURACIES:
        expert = ud.Variable("A", BOXES, parents="Theta", table=[[p, 1 - p], [1 - p, p]])
        boxes = ud.CausalModel([expert, *(v for v in frog().variables if v.name != "A")])
        dial.append(chance(boxes, "Theta", 1, see={"A": 1}))
    return Block(
        "remark-2",
        "Remark 2: stochastic choices and outcomes",
        [
            "A hundred models with three values for each variable, all tables drawn at random. In each, one action is "
            "entered once as seen and once as done; the first three figures are the largest deviation from what the "
            "section derives, over all hundred. The two after it are the delusion: how far, in total variation, "
            "seeing the own action moves the belief, and the prediction of the outcome.",
            "The last figure has the two boxes again, and experts that open the right one with probability 1/2, 3/4, "
            "9/10 and 1. The delusion is as strong as the expert is good, and there is none where the expert guesses.",
        ],
        [
            equal(
                "remark-2/largest-difference/P(Theta | do(A)) - P(Theta)", max(belief), 0, "P(theta | do(a)) = P(theta)"
            ),
            equal(
                "remark-2/largest-difference/P(O | do(A)) - back-door",
                max(formula),
                0,
                "sum_theta P(o | theta, a) P(theta)",
            ),
            equal(
                "remark-2/largest-difference/P(O | Theta, do(A)) - P(O | Theta, A)",
                max(shown),
                0,
                "the same where Theta is seen",
            ),
            holds(
                "remark-2/total-variation/P(Theta | A) and P(Theta)",
                [tenth, np.mean(deluded), max(deluded)],
                "the problem holds in general: shift of the belief in the tenth least, on average and at most",
                tenth > 0.01,
            ),
            holds(
                "remark-2/total-variation/P(O | A) and P(O | do(A))",
                [np.mean(outcome), max(outcome)],
                "and of the prediction: shift on average and at most",
                np.mean(outcome) > 1e-2,
            ),
            equal(
                "remark-2/P(Theta=1 | A=1)-by-accuracy",
                dial,
                ACCURACIES,
                "the expert's accuracy: 1/2, 3/4, 9/10, 1",
                ours=True,
            ),
        ],
    )
