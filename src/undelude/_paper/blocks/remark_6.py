"""Remark 6: conditioning on the goal."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import chance
from undelude._paper.criterion import at_least, near
from undelude._paper.item import Block, Rows, Settings


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
    rows = Rows(
        "remark-6",
        "Remark 6, p. 6",
        {
            "P(lucky)": 0.1,
            "P(risky | lucky, unlucky)": [0.9, 0.1],
            "P(G=1 | risky; lucky, unlucky)": [0.95, 0.05],
            "P(G=1 | safe)": 0.3,
        },
    )
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
            rows.paper(
                "P(lucky | G=1) - P(lucky)",
                '"conditioning on it will reveal false information about the latent task parameter": the belief shifts',
                chance(model, "Theta", "lucky", see={"G": 1}) - chance(model, "Theta", "lucky"),
                at_least(0.05),
            ),
            rows.paper(
                "success-lost-by-conditioning-on-the-goal",
                '"goal-conditioned planning does not work in the general case": here worse than plain imitation',
                (imitation - conditioned) @ reached,
                at_least(0.01),
            ),
            rows.paper(
                "P(lucky | do(G=1))",
                '"the choice of the goal G = g is an action": as an intervention it leaves the prior',
                chance(model, "Theta", "lucky", do={"G": 1}),
                near("1/10"),
            ),
            rows.example(
                "P(lucky | G=1)",
                "against the prior 1/10",
                chance(model, "Theta", "lucky", see={"G": 1}),
                near("59/224"),
            ),
            rows.example("P(risky | G=1)", "the policy that conditions on the goal", conditioned[0], near("15/56")),
            rows.example(
                "P(G=1 | do(A))", "the effect of the risky and of the safe action", reached, near([0.14, 0.3])
            ),
            rows.example(
                "success-of-conditioning-on-the-goal", "15/56 .14 + 41/56 .30", conditioned @ reached, near("9/35")
            ),
            rows.example("success-of-plain-imitation", ".18 .14 + .82 .30", imitation @ reached, near(0.2712)),
            rows.example(
                "success-of-imitation-by-effect",
                "Q(a) P(G=1 | do(a)), normalised",
                weighed @ reached,
                near("77328/271200"),
            ),
            rows.example("success-of-argmax", "the best action by its effect", reached.max(), near(0.3)),
        ],
    )
