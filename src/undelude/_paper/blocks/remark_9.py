"""Remark 9: information sets."""

import numpy as np

from undelude._paper.blocks.models import GAME, game
from undelude._paper.game_tree import extensive_form, information_sets
from undelude._paper.item import Block, Settings, equal, holds


def block(settings: Settings) -> Block:
    """Compare the expert's policy within each information set with the one policy of equation 3."""
    model = game()
    tree = extensive_form(model.variables, GAME, hidden=("Theta_1", "Theta_2"))
    sets = information_sets(tree, ("A_1", "A_2"))
    spread, average, other = [], [], []
    for (action, visible), nodes in sets.items():
        hidden = {name: value for name, value in nodes[0].moves if name not in dict(visible)}
        done = {name: value for name, value in visible if name.startswith("A")}
        seen = {name: value for name, value in visible if name not in done}
        expert = np.stack([model.query(action, see=dict(node.moves)) for node in nodes])
        belief, deluded = (
            np.asarray(model.query(list(hidden), see=see, do=do)).ravel()
            for see, do in ((seen, done), (dict(visible), {}))
        )
        spread.append(np.ptp(expert[:, 1]))
        average.append(np.abs(belief @ expert - model.query(action, see=seen, do=done)).max())
        other.append(np.abs(belief - deluded).sum() / 2)
    leaves = sum(node.next is None for node in tree)
    text = [
        "In the game of Figure 3 the expert has 18 decision nodes: it observes every theta. An agent that observes "
        "only actions and observations cannot distinguish nodes with equal observed histories. They form an "
        "information set, and the agent has the same policy in all nodes of a set.",
        "The expert's policy cannot be copied, since it differs within each set. Equation 3 gives one policy for each "
        "set: the average of the expert's policies, weighted by the belief in each node. Conditioning averages the "
        "same policies with other weights, which are wrong in the sets that follow an own action.",
    ]
    items = [
        equal(
            "remark-9/number-of-decision-nodes",
            sum(map(len, sets.values())),
            18,
            "2 + 16 decision nodes of the expert",
            ours=True,
        ),
        equal("remark-9/number-of-information-sets", len(sets), 5, "1 + 4 for the agent", ours=True),
        equal("remark-9/number-of-leaves", leaves, 64, "2 to the 6th leaves", ours=True),
        holds(
            "remark-9/spread-of-Q(A=1)-within-each-set",
            spread,
            "the expert's policy differs within each set",
            min(spread) > 0.01,
        ),
        equal(
            "remark-9/largest-difference-in-each-set/do-and-average",
            average,
            [0] * 5,
            "one policy for each set: the average under the belief",
            ours=True,
        ),
        holds(
            "remark-9/total-variation-in-each-set/belief-of-see-and-do",
            other,
            "they differ in round 2",
            other[0] == 0 and min(other[1:]) > 0.01,
            ours=True,
        ),
    ]
    return Block("remark-9", "Remark 9: information sets", text, items)
