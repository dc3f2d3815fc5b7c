"""Remark 2: stochastic choices and outcomes."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import BOXES, chance, frog, random_model
from undelude._paper.criterion import at_least, near
from undelude._paper.item import Block, Rows, Settings

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
    rows = Rows(
        "remark-2",
        "Remark 2, p. 6",
        {"models": "100, three values each, tables from Dirichlet(1, 1, 1)", "seed": settings.seed},
    )
    general = '"the problem and the solution hold in the general case"'
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
            rows.paper(
                "largest-difference/P(Theta | do(A)) - P(Theta)",
                f"{general}: P(theta | do(a)) = P(theta)",
                max(belief),
                near(0),
            ),
            rows.paper(
                "largest-difference/P(O | do(A)) - back-door",
                f"{general}: P(o | do(a)) = sum_theta P(o | theta, a) P(theta)",
                max(formula),
                near(0),
            ),
            rows.paper(
                "largest-difference/P(O | Theta, do(A)) - P(O | Theta, A)",
                f"{general}: P(O | Theta, A) = P(O | Theta, do(A))",
                max(shown),
                near(0),
            ),
            rows.paper(
                "total-variation/P(Theta | A) and P(Theta)",
                f"{general}: the belief shifts in nine of ten models; 10 % quantile",
                tenth,
                at_least(0.01),
            ),
            rows.paper(
                "total-variation/P(O | A) and P(O | do(A))",
                f"{general}: so does the prediction of the outcome, on average",
                np.mean(outcome),
                at_least(0.01),
            ),
            rows.example(
                "P(Theta=1 | A=1)-by-accuracy",
                "the belief after the own action is the expert's accuracy",
                dial,
                near(["1/2", "3/4", "9/10", 1]),
                model="prize or frog, whose expert is right with probability 1/2, 3/4, 9/10 and 1",
            ),
        ],
    )
