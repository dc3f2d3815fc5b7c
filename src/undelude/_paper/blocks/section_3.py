"""Section 3: a theta that is sampled in every round given the history."""

import numpy as np

from undelude._paper.blocks.models import OBSERVED, game
from undelude._paper.blocks.processes import game_process, tiring_bandit
from undelude._paper.item import Block, Settings, equal, holds


def block(settings: Settings) -> Block:
    """Check two processes whose theta changes from round to round."""
    model, tiring = game(), tiring_bandit().causal_model(num_rounds=2)
    again = game_process(model).causal_model()
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
    items = [
        holds(
            "section-3/spread-of-P(Theta_2=1)-over-histories",
            by_history,
            "thetas are generated as the process unfolds",
            by_history.min() > 0,
        ),
        equal(
            "section-3/P(best-arm-stays | A_1)",
            stays,
            [1 / 2, 9 / 10],
            "1/2 if it was pulled, 9/10 if not",
            ours=True,
        ),
        equal(
            "section-3/largest-difference/theta-as-a-path", gap, 0, "the same marginal process over A and O", ours=True
        ),
    ]
    return Block("section-3", "Section 3: the sequential case", text, items)
