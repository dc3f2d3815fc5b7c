"""Section 2: prize or frog, passive and interactive, with Theta observed and hidden."""

from collections.abc import Sequence

import numpy as np

from undelude._paper.blocks.models import BOXES, chance, frog, refusal
from undelude._paper.item import Block, Settings, equal, holds


def block(settings: Settings) -> Block:
    """Compute the four cases of the section from one model."""
    model = frog()
    hidden = model.marginal(("A", "O"))
    prize = "O", 1
    see_A, do_A = ([{mark: {"A": a}} for a in BOXES] for mark in ("see", "do"))
    right = [(a, a) for a in BOXES]
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
            equal("section-2/passive-seen/P(Theta=1)", model.query("Theta")[0], 1 / 2, "1/2"),
            equal(
                "section-2/passive-seen/P(A=theta | Theta=theta)",
                [chance(model, "A", x, see={"Theta": x}) for x in BOXES],
                [1, 1],
                "predicted with certainty",
            ),
            equal(
                "section-2/passive-seen/P(O=+1 | Theta=theta, A=theta)",
                [chance(model, *prize, see={"Theta": x, "A": a}) for x, a in right],
                [1, 1],
                "predicted with certainty",
            ),
            equal("section-2/passive-hidden/P(A=1)", hidden.query("A")[0], 1 / 2, "1/2 (equation 1)"),
            equal(
                "section-2/passive-hidden/P(Theta=a | A=a)",
                [chance(model, "Theta", a, **mark) for a, mark in zip(BOXES, see_A, strict=True)],
                [1, 1],
                "1: the expert's choice reveals the configuration",
            ),
            equal(
                "section-2/passive-hidden/P(O=+1 | A=a)",
                [chance(hidden, *prize, **mark) for mark in see_A],
                [1, 1],
                "1",
            ),
            equal(
                "section-2/interactive-seen/P(A=1 | Theta)",
                [chance(model, "A", 1, see={"Theta": x}) for x in BOXES],
                [1, 0],
                "1 and 0: acting is imitating",
            ),
            equal(
                "section-2/interactive-seen/P(O=+1 | Theta, do(A))",
                [chance(model, *prize, see={"Theta": x}, do={"A": a}) for x in BOXES for a in BOXES],
                [chance(model, *prize, see={"Theta": x, "A": a}) if x == a else 0 for x in BOXES for a in BOXES],
                "P(O | Theta, do(A)) = P(O | Theta, A)",
            ),
            equal(
                "section-2/interactive-hidden/self-delusion/P(Theta=a | A=a)",
                [chance(model, "Theta", a, **mark) for a, mark in zip(BOXES, see_A, strict=True)],
                [1, 1],
                "1: certain of the configuration for either choice",
            ),
            equal(
                "section-2/interactive-hidden/self-delusion/P(O=+1 | A=a)",
                [chance(hidden, *prize, **mark) for mark in see_A],
                [1, 1],
                "1 for either box",
            ),
            equal(
                "section-2/interactive-hidden/P(Theta=1 | do(A=a))",
                [chance(model, "Theta", 1, **mark) for mark in do_A],
                [1 / 2, 1 / 2],
                "P(Theta), 1/2",
            ),
            equal(
                "section-2/interactive-hidden/P(O=+1 | do(A=a))",
                [chance(model, *prize, **mark) for mark in do_A],
                [1 / 2, 1 / 2],
                "1/2",
            ),
            equal(
                "section-2/back-door/sum_theta P(O=+1 | theta, a) P(theta)",
                np.einsum("ka,k->a", model["O"].table[..., 1], model["Theta"].table),
                [chance(model, *prize, **mark) for mark in do_A],
                "P(O=+1 | do(a)), the back-door adjustment formula",
            ),
            holds(
                "section-2/back-door/sets",
                _sets(model.back_door("A", "O")),
                "Theta is the confounder",
                model.back_door("A", "O") == (frozenset({"Theta"}),),
            ),
            holds(
                "section-2/back-door/estimand",
                str(model.identify("O", do="A")),
                "sum_theta P(o | theta, a) P(theta)",
                str(model.identify("O", do="A")) == "sum_Theta P(O | A, Theta) P(Theta)",
            ),
            holds(
                "section-2/back-door/sets-with-Theta-hidden",
                _sets(model.back_door("A", "O", latent="Theta")),
                "none: with Theta hidden the effect is not identifiable",
                not model.back_door("A", "O", latent="Theta") and refusal(hidden, "O", do={"A": 1}),
            ),
        ],
        listing=refusal(hidden, "O", do={"A": 1}),
    )


def _sets(sets: Sequence[frozenset[str]]) -> str:
    return "; ".join(", ".join(sorted(s)) or "the empty set" for s in sets) or "none"
