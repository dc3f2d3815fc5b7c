"""Section 3: a theta that is sampled in every round given the history."""

import numpy as np

from undelude._paper.blocks.models import OBSERVED
from undelude._paper.blocks.processes import game_twice, tiring_twice
from undelude._paper.criterion import at_least, near
from undelude._paper.item import Block, Rows, Settings


def block(settings: Settings) -> Block:
    """Check two processes whose theta changes from round to round."""
    (model, _, again), (_, tiring) = game_twice(), tiring_twice()
    stays = [tiring.query("Theta_2", see={"Theta_1": 0, "A_1": a})[0] for a in (0, 1)]
    by_history = np.ptp(np.asarray(model["Theta_2"].table)[..., 1], axis=(1, 2))
    gap = np.abs(again.query(OBSERVED) - model.query(OBSERVED)).max()
    text = [
        "The game of Figure 3 has two rounds and six binary variables. Each depends on all variables before it, with "
        "random tables, so that there are no independences beyond those of the figure. It is implemented twice: as a "
        "`CausalModel`, and as an `InteractionProcess` whose hidden state is the path of thetas so far and whose "
        "transition depends on the history.",
        "The second example is a bandit whose best arm moves, more often if it is pulled: Nature's hidden move depends "
        "on the action.",
    ]
    rows = Rows("section-3", "Section 3, p. 7", {"game": "that of Figure 3, tables from seed 139"})
    items = [
        rows.paper(
            "spread-of-P(Theta_2=1)-over-histories",
            'thetas "are generated as the process unfolds": Theta_2 depends on the moves before it',
            by_history,
            at_least(0.01),
        ),
        rows.example(
            "P(best-arm-stays | A_1)",
            "Nature's hidden move depends on the action",
            stays,
            near(["1/2", "9/10"]),
            game="bandit of three arms; the best one moves with probability 1/2 if it was pulled, else 1/10",
        ),
        rows.example(
            "largest-difference/theta-as-a-path",
            "both implementations have the same marginal process over A and O",
            gap,
            near(0),
        ),
    ]
    return Block("section-3", "Section 3: the sequential case", text, items)
