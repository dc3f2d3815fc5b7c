"""Remark 6: conditioning on the goal."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import chance
from undelude._paper.item import Block, Settings, equal


def goals() -> ud.CausalModel:
    """Return a model in which luck, known only to the expert, determines whether a risky action reaches the goal."""
    return ud.CausalModel(
        [
            ud.Variable("Theta", ("lucky", "unlucky"), table=[0.1, 0.9]),
            ud.Variable("A", ("risky", "safe"), parents="Theta", table=[[0.9, 0.1], [0.1, 0.9]]),
            ud.Variable(
                "G", (0, 1), parents=("Theta", "A"), table=[[[0.05, 0.95], [0.7, 0.3]], [[0.95, 0.05], [0.7, 0.3]]]
            ),
        ]
    )


def block(settings: Settings) -> Block:
    """Compute the success of goal-conditioned planning in an example."""
    model = goals()
    reached = np.array([chance(model, "G", 1, do={"A": a}) for a in ("risky", "safe")])
    imitation, conditioned = np.asarray(model.query("A")), np.asarray(model.query("A", see={"G": 1}))
    weighed = imitation * reached / (imitation @ reached)
    return Block(
        "remark-6",
        "Remark 6: conditioning on the goal",
        [
            "The paper gives no numbers here; these are for an example. The agent is lucky with probability .1. A "
            "risky action reaches the goal with probability .95 if the agent is lucky and .05 if not; a safe one with "
            "probability .3. The expert knows, and takes the risk with probability .9 if lucky and .1 if not.",
            "Risky actions are frequent among demonstrations that reached the goal, because lucky cases are frequent "
            "among them. Acting on `P(A | G=1)` infers luck from the choice of a goal, and reaches the goal less often "
            "than plain imitation. The effect of an action is `P(G | do(A))`: weighting imitation by it, or taking the "
            "best action, is better than both. As the remark says, the choice of a goal is an action: an intervention "
            "on G gives no information about luck.",
        ],
        [
            equal(
                "remark-6/P(risky | G=1)",
                conditioned[0],
                15 / 56,
                "conditioning on the goal misleads; here 15/56",
                ours=True,
            ),
            equal(
                "remark-6/P(lucky | G=1)",
                chance(model, "Theta", "lucky", see={"G": 1}),
                59 / 224,
                "false information about theta: 59/224, with prior 1/10",
                ours=True,
            ),
            equal(
                "remark-6/P(lucky | do(G=1))",
                chance(model, "Theta", "lucky", do={"G": 1}),
                1 / 10,
                "the choice of a goal is an action: 1/10, the prior",
                ours=True,
            ),
            equal("remark-6/P(G=1 | do(A))", reached, [0.14, 0.3], ".14 risky, .30 safe", ours=True),
            equal("remark-6/success-of-conditioning-on-the-goal", conditioned @ reached, 9 / 35, ".257", ours=True),
            equal("remark-6/success-of-plain-imitation", imitation @ reached, 0.2712, ".271", ours=True),
            equal(
                "remark-6/success-of-imitation-by-effect",
                weighed @ reached,
                0.077328 / 0.2712,
                ".285, by Q(a) P(G=1 | do(a))",
                ours=True,
            ),
            equal("remark-6/success-of-argmax", reached.max(), 0.3, ".30", ours=True),
        ],
    )
