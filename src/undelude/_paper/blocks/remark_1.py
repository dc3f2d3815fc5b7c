"""Remark 1: an intervention needs the causal structure."""

from typing import Any

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import BOXES, CONTENT, CONTENTS, IDENTITY, chance, frog
from undelude._paper.item import Block, Settings, equal


def other_order() -> ud.CausalModel:
    """The same, except that A precedes Theta: the prize is put where the choice fell."""
    return ud.CausalModel(
        [
            ud.Variable("A", BOXES, table=[1 / 2, 1 / 2]),
            ud.Variable("Theta", BOXES, parents="A", table=IDENTITY),
            ud.Variable("O", CONTENTS, parents=("Theta", "A"), table=CONTENT),
        ]
    )


def block(settings: Settings) -> Block:
    """An intervention needs the causal structure."""
    models = frog(), other_order()
    joints = [np.asarray(model.query(("Theta", "A", "O"))) for model in models]

    def weights(**evidence: Any) -> np.ndarray:
        """Posterior probabilities of the two orders, from 1/2 each."""
        x = np.exp([float(model.log_prob(**evidence)) for model in models]) / 2
        return x / x.sum()

    experiment = [weights(do={"A": 1}, see={"O": o})[1] for o in (1, -1)]
    predicted = np.mean([chance(model, "O", 1, do={"A": 1}) for model in models])
    return Block(
        "remark-1",
        "Remark 1: an intervention needs the causal structure",
        [
            "A second `CausalModel` has the arrow between Theta and `A` turned round, as if the prize were put where "
            "the choice falls. All probabilities of what is seen are the same. What follows from an own choice is "
            "not: here it fixes the configuration.",
            "Which of the two is true can be learned, though not by watching. With a prior of one half on each, the "
            "evidence `log_prob(see=, do=)` of both models gives the posterior: any number of demonstrations leaves it "
            "at one half, and one own action with its outcome moves it.",
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
                "what is seen is the same",
                ours=True,
            ),
            equal(
                "remark-1/hypotheses/after-demonstrations",
                [weights(see={"A": a, "O": 1})[1] for a in BOXES],
                [1 / 2, 1 / 2],
                "1/2: demonstrations do not tell the orders apart",
                ours=True,
            ),
            equal("remark-1/hypotheses/P(O=+1 | do(A=1))", predicted, 3 / 4, "3/4", ours=True),
            equal(
                "remark-1/hypotheses/after-prize-and-frog",
                experiment,
                [2 / 3, 0],
                "2/3 for the turned arrow after a prize, 0 after a frog",
                ours=True,
            ),
        ],
    )


def _between(model: ud.CausalModel, asked: str, a: Any) -> np.ndarray:
    """`P(asked | do(a)) - P(asked | a)`."""
    return np.asarray(model.query(asked, do={"A": a}) - model.query(asked, see={"A": a}))
