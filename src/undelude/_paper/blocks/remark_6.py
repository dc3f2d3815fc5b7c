"""Remark 6: conditioning on the goal."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import chance
from undelude._paper.item import Block, Settings, equal


def goals() -> ud.CausalModel:
    """Luck, which the expert knows of and the agent does not, decides whether the risky action reaches the goal."""
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
    """Goal-conditioned planning."""
    model = goals()
    reached = np.array([chance(model, "G", 1, do={"A": a}) for a in ("risky", "safe")])
    imitation, conditioned = np.asarray(model.query("A")), np.asarray(model.query("A", see={"G": 1}))
    weighed = imitation * reached / (imitation @ reached)
    return Block(
        "remark-6",
        "Remark 6: conditioning on the goal",
        [
            "The paper gives no figures here; these are of an example. One time in ten the agent is lucky. A risky "
            "action reaches the goal with .95 if it is lucky and with .05 if not, a safe one with .3. The expert "
            "knows, and takes the risk with .9 when lucky and .1 when not. The agent does not know.",
            "Among demonstrations that reached the goal, risky ones are frequent, as the lucky are among them. To act "
            "on `P(A | G=1)` is to believe, for having a goal, that one is lucky: it reaches the goal less often than "
            "plain imitation. What an action does is `P(G | do(A))`; to weigh imitation by that, or to take the "
            "best, is better than either. As the remark has it, to choose a goal is an action: entered as an "
            "intervention on G, it tells nothing.",
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
                "false information about theta: 59/224 where the prior is 1/10",
                ours=True,
            ),
            equal(
                "remark-6/P(lucky | do(G=1))",
                chance(model, "Theta", "lucky", do={"G": 1}),
                1 / 10,
                "the choice of a goal is an action: 1/10 as before",
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
