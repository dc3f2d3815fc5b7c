"""Remark 9: information sets."""

import numpy as np

from undelude._paper.blocks.models import GAME, game
from undelude._paper.criterion import at_least, near
from undelude._paper.game_tree import extensive_form, information_sets
from undelude._paper.item import Block, Rows, Settings


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
    rows = Rows("remark-9", "Remark 9, p. 8", {"game": "that of Figure 3, tables from seed 139"})
    p7 = "Section 3, p. 7"
    items = [
        rows.paper(
            "spread-of-Q(A=1)-within-each-set",
            'states that "do not admit the same state-specific actions that the expert would choose"',
            spread,
            at_least(0.01),
            p7,
        ),
        rows.paper(
            "largest-difference-in-each-set/do-and-average",
            "P(a_t+1 | do(a_1:t), o_1:t) = sum_theta P(a_t+1 | theta, a, o) P(theta | do(a_1:t), o_1:t): one policy "
            "for each set",
            average,
            near([0] * 5),
            "Remark 10, p. 8",
        ),
        rows.example("number-of-decision-nodes", "2 + 16 of the expert", sum(map(len, sets.values())), near(18, 0)),
        rows.example("number-of-information-sets", "1 + 4 of the agent", len(sets), near(5, 0)),
        rows.example("number-of-leaves", "2 to the 6th", leaves, near(64, 0)),
        rows.example(
            "total-variation-in-the-first-set/belief-of-see-and-do",
            "before its first action the agent has no own action to be deluded by",
            other[0],
            near(0),
        ),
        rows.example(
            "total-variation-in-later-sets/belief-of-see-and-do",
            "after it, conditioning weighs the nodes wrongly",
            other[1:],
            at_least(0.01),
        ),
    ]
    return Block("remark-9", "Remark 9: information sets", text, items)
