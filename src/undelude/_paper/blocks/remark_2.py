"""Remark 2: stochastic choices and outcomes."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import BOXES, chance, frog, random_model
from undelude._paper.item import Block, Settings, equal, holds

ACCURACIES = (1 / 2, 3 / 4, 9 / 10, 1)


def block(settings: Settings) -> Block:
    """Check Section 2 on random stochastic models."""
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
            "One hundred models with three values for each variable and random tables. In each, we condition on one "
            "action and intervene on it. The first three items are the largest deviation from the section's formulas "
            "over all models. The next two measure the delusion: the total variation by which conditioning on the own "
            "action changes the belief and the prediction of the outcome.",
            "The last item is for the two boxes, with experts that open the right one with probability 1/2, 3/4, 9/10 "
            "and 1. The better the expert, the stronger the delusion; without expertise there is none.",
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
                "equal if Theta is observed",
            ),
            holds(
                "remark-2/total-variation/P(Theta | A) and P(Theta)",
                [tenth, np.mean(deluded), max(deluded)],
                "the problem holds in general: shift of the belief, 10 % quantile, mean and maximum",
                tenth > 0.01,
            ),
            holds(
                "remark-2/total-variation/P(O | A) and P(O | do(A))",
                [np.mean(outcome), max(outcome)],
                "shift of the prediction, mean and maximum",
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
