"""Remark 1: an intervention needs the causal structure."""

from typing import Any

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import BOXES, CONTENT, CONTENTS, IDENTITY, chance, frog
from undelude._paper.criterion import near
from undelude._paper.item import Block, Rows, Settings


def other_order() -> ud.CausalModel:
    """Return the model in which A causes Theta: the prize is put into the chosen box."""
    return ud.CausalModel(
        [
            ud.Variable("A", BOXES, table=[1 / 2, 1 / 2]),
            ud.Variable("Theta", BOXES, parents="A", table=IDENTITY),
            ud.Variable("O", CONTENTS, parents=("Theta", "A"), table=CONTENT),
        ]
    )


def block(settings: Settings) -> Block:
    """Compare interventions in two models with the same joint distribution and different causal orders."""
    models = frog(), other_order()
    joints = [np.asarray(model.query(("Theta", "A", "O"))) for model in models]

    def weights(**evidence: Any) -> np.ndarray:
        """Return the posterior of the two causal orders, with prior 1/2 each."""
        x = np.exp([float(model.log_prob(**evidence)) for model in models]) / 2
        return x / x.sum()

    rows = Rows(
        "remark-1", "Remark 1, p. 5", {"models": "prize or frog, and the same with A -> Theta", "prior": "1/2 on each"}
    )
    experiment = [weights(do={"A": 1}, see={"O": o})[1] for o in (1, -1)]
    predicted = np.mean([chance(model, "O", 1, do={"A": 1}) for model in models])
    return Block(
        "remark-1",
        "Remark 1: an intervention needs the causal structure",
        [
            "In a second `CausalModel` the arrow between Theta and `A` is reversed: the prize is put into the chosen "
            "box. The joint distributions of the two models are equal. The effects of an own action differ: in the "
            "second model it determines the configuration.",
            "The order can be learned, though not from demonstrations. With a prior of 1/2 on each model, the evidence "
            "`log_prob(see=, do=)` gives the posterior: any number of demonstrations leaves it at 1/2, and one own "
            "action with its outcome changes it.",
        ],
        [
            rows.paper(
                "P(Theta=1 | do(A))",
                "P(theta | do(a)) = delta[theta = a]",
                [chance(models[1], "Theta", 1, do={"A": a}) for a in BOXES],
                near([1, 0]),
            ),
            rows.paper(
                "largest-difference/P(Theta | do(A)) - P(Theta | A)",
                "P(theta | do(a)) = P(theta | a)",
                np.abs([_between(models[1], "Theta", a) for a in BOXES]).max(),
                near(0),
            ),
            rows.paper(
                "first-order/P(Theta=1 | do(A))",
                '"to evaluate an intervention we need to know the causal structure": in the other order it is P(theta)',
                [chance(models[0], "Theta", 1, do={"A": a}) for a in BOXES],
                near(["1/2", "1/2"]),
            ),
            rows.example(
                "largest-difference-of-the-joints",
                "the two models have the same joint distribution",
                np.abs(joints[0] - joints[1]).max(),
                near(0),
            ),
            rows.example(
                "hypotheses/after-demonstrations",
                "demonstrations do not distinguish the orders",
                [weights(see={"A": a, "O": 1})[1] for a in BOXES],
                near(["1/2", "1/2"]),
            ),
            rows.example(
                "hypotheses/P(O=+1 | do(A=1))",
                "1/2 under the first order and 1 under the second, averaged",
                predicted,
                near("3/4"),
            ),
            rows.example(
                "hypotheses/after-prize-and-frog",
                "one own action and its outcome change the belief in the reversed arrow",
                experiment,
                near(["2/3", 0]),
            ),
        ],
    )


def _between(model: ud.CausalModel, asked: str, a: Any) -> np.ndarray:
    """Return `P(asked | do(a)) - P(asked | a)`."""
    return np.asarray(model.query(asked, do={"A": a}) - model.query(asked, see={"A": a}))
