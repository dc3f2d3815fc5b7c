"""Section 2: prize or frog, passive and interactive, with Theta observed and hidden."""

from collections.abc import Sequence

import numpy as np

from undelude._paper.blocks.models import BOXES, chance, frog, refusal
from undelude._paper.criterion import equal, near
from undelude._paper.item import Block, Rows, Settings


def block(settings: Settings) -> Block:
    """Compute the four cases of the section from one model."""
    model = frog()
    hidden = model.marginal(("A", "O"))
    prize = "O", 1
    see_A, do_A = ([{mark: {"A": a}} for a in BOXES] for mark in ("see", "do"))
    shown = [{"Theta": x, "A": x} for x in BOXES]
    rows = Rows("section-2", "Section 2, p. 3", {"model": "prize or frog, the paper's tables"})
    p4, p5 = "Section 2, p. 4", "Section 2, p. 5"
    return Block(
        "section-2",
        "Section 2: prize or frog",
        [
            "One `CausalModel` with the paper's tables gives all results of this section. Its variables are the box "
            "with the prize (`Theta`), the opened box (`A`) and its content (`O`). The four cases differ in the query. "
            "Passive: the expert opens a box, and we condition on it. Interactive: the user of the model opens a box, "
            "and we intervene. If Theta is hidden, predictions come from the marginal model of `A` and `O`.",
            "The self-delusion is conditioning on the own action: the prize becomes certain for either box. "
            "Intervening leaves the belief about Theta unchanged, and the prize has probability 1/2.",
            "Below is the error of the marginal model for a query about the effect of an own action.",
        ],
        [
            rows.paper(
                "passive-seen/P(Theta)",
                "P(Theta = 1) = P(Theta = 2) = 1/2",
                model.query("Theta"),
                near(["1/2", "1/2"]),
            ),
            rows.paper(
                "passive-seen/P(A=theta | Theta=theta)",
                '"can be predicted with certainty"',
                [chance(model, "A", x, see={"Theta": x}) for x in BOXES],
                near([1, 1]),
            ),
            rows.paper(
                "passive-seen/P(O=+1 | Theta=theta, A=theta)",
                '"can be predicted with certainty"',
                [chance(model, *prize, see=x) for x in shown],
                near([1, 1]),
            ),
            rows.paper(
                "passive-hidden/P(A=1)",
                "P(a) = 1/2",
                hidden.query("A")[0],
                near("1/2"),
                "Section 2, equation 1, p. 4",
            ),
            rows.paper(
                "passive-hidden/P(Theta=a | A=a)",
                '"we can infer the unique value of Theta = theta compatible with this choice"',
                [chance(model, "Theta", a, **mark) for a, mark in zip(BOXES, see_A, strict=True)],
                near([1, 1]),
                p4,
            ),
            rows.paper(
                "passive-hidden/P(O=+1 | A=a)",
                "P(o | a) = 1 if o = +1",
                [chance(hidden, *prize, **mark) for mark in see_A],
                near([1, 1]),
                p4,
            ),
            rows.paper(
                "interactive-seen/P(A=1 | Theta)",
                "P(a | theta) = 1 if a = theta, 0 otherwise",
                [chance(model, "A", 1, see={"Theta": x}) for x in BOXES],
                near([1, 0]),
                p4,
            ),
            rows.paper(
                "interactive-seen/P(O | Theta, do(A)) - P(O | Theta, A)",
                "P(O | Theta, A) = P(O | Theta, do(A))",
                [
                    np.abs(
                        model.query("O", see={"Theta": x["Theta"]}, do={"A": x["A"]}) - model.query("O", see=x)
                    ).max()
                    for x in shown
                ],
                near([0, 0]),
                "Section 2, p. 6",
            ),
            rows.paper(
                "delusion/P(Theta=a | A=a)",
                '"whichever action we choose will convince ourselves of the box configuration"',
                [chance(model, "Theta", a, **mark) for a, mark in zip(BOXES, see_A, strict=True)],
                near([1, 1]),
                p4,
            ),
            rows.paper(
                "delusion/P(O=+1 | A=a)",
                'P(O = 1 | a) = 1 "no matter which action we took"',
                [chance(hidden, *prize, **mark) for mark in see_A],
                near([1, 1]),
                p4,
            ),
            rows.paper(
                "remedy/P(Theta=1 | do(A=a))",
                "P(theta | do(a)) = P(theta)",
                [chance(model, "Theta", 1, **mark) for mark in do_A],
                near(["1/2", "1/2"]),
                p5,
            ),
            rows.paper(
                "remedy/P(O=+1 | do(A=a))",
                "P(o | do(a)) = 1/2",
                [chance(model, *prize, **mark) for mark in do_A],
                near(["1/2", "1/2"]),
                p5,
            ),
            rows.paper(
                "back-door/sum_theta P(O=+1 | theta, a) P(theta)",
                "P(o | do(a)) = sum_theta P(o | theta, a) P(theta); the sum, in NumPy",
                np.einsum("ka,k->a", model["O"].table[..., 1], model["Theta"].table),
                near([chance(model, *prize, **mark) for mark in do_A]),
                p5,
            ),
            rows.paper(
                "back-door/sets", '"Theta is a confounder"', _sets(model.graph.back_door("A", "O")), equal("Theta"), p5
            ),
            rows.paper(
                "back-door/estimand",
                '"the back-door adjustment formula"',
                str(model.identify("O", do="A")),
                equal("sum_Theta P(O | A, Theta) P(Theta)"),
                p5,
            ),
            rows.example(
                "back-door/sets-with-Theta-hidden",
                "with Theta hidden there is nothing to adjust for",
                _sets(model.graph.back_door("A", "O", latent="Theta")),
                equal("none"),
                p5,
            ),
            rows.example(
                "back-door/query-with-Theta-hidden",
                "and the marginal model refuses the query",
                refusal(hidden, "O", do={"A": 1}).partition(" from ")[0],
                equal("P(O | do(A)) cannot be computed"),
                p5,
            ),
        ],
        listing=refusal(hidden, "O", do={"A": 1}),
    )


def _sets(sets: Sequence[frozenset[str]]) -> str:
    return "; ".join(", ".join(sorted(s)) or "the empty set" for s in sets) or "none"
