"""Remark 1: an intervention needs the causal structure."""

from typing import Any

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import BOXES, CONTENT, CONTENTS, IDENTITY, chance, frog
from undelude._paper.item import Block, Settings, equal


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
            equal(
                "remark-1/P(Theta=1 | do(A))",
                [chance(models[1], "Theta", 1, do={"A": a}) for a in BOXES],
                [1, 0],
                "a point mass on the action",
            ),
            equal(
                "remark-1/largest-difference/P(Theta | do(A)) - P(Theta | A)",
                np.abs([_between(models[1], "Theta", a) for a in BOXES]).max(),
                0,
                "P(theta | do(a)) = P(theta | a)",
            ),
            equal(
                "remark-1/first-order/P(Theta=1 | do(A))",
                [chance(models[0], "Theta", 1, do={"A": a}) for a in BOXES],
                [1 / 2, 1 / 2],
                "1/2 in the first order",
            ),
            equal(
                "remark-1/largest-difference-of-the-joints",
                np.abs(joints[0] - joints[1]).max(),
                0,
                "equal joint distributions",
                ours=True,
            ),
            equal(
                "remark-1/hypotheses/after-demonstrations",
                [weights(see={"A": a, "O": 1})[1] for a in BOXES],
                [1 / 2, 1 / 2],
                "1/2: demonstrations do not distinguish the orders",
                ours=True,
            ),
            equal("remark-1/hypotheses/P(O=+1 | do(A=1))", predicted, 3 / 4, "3/4", ours=True),
            equal(
                "remark-1/hypotheses/after-prize-and-frog",
                experiment,
                [2 / 3, 0],
                "2/3 for the reversed arrow after a prize, 0 after a frog",
                ours=True,
            ),
        ],
    )


def _between(model: ud.CausalModel, asked: str, a: Any) -> np.ndarray:
    """Return `P(asked | do(a)) - P(asked | a)`."""
    return np.asarray(model.query(asked, do={"A": a}) - model.query(asked, see={"A": a}))
