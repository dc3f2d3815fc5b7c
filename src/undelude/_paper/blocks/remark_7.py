"""Remark 7: observations that contain the task identifier."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.colours import SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.models import IDENTITY
from undelude._paper.criterion import falls, near
from undelude._paper.item import Block, Rows, Settings

TELLING = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 1.0)
VISIBLE = ("O_0", "A_1", "O_1", "A_2", "O_2", "A_3")


def opening(telling: float) -> ud.CausalModel:
    """Return a bandit of two arms whose opening observation is the better arm with probability `telling`."""
    expert, pays = [[0.9, 0.1], [0.1, 0.9]], np.where(IDENTITY == 1, 0.75, 0.25)
    pays = np.stack([1 - pays, pays], -1)
    variables = [
        ud.Variable("Theta", (0, 1), table=[1 / 2, 1 / 2]),
        ud.Variable("O_0", (0, 1), parents="Theta", table=[[telling, 1 - telling], [1 - telling, telling]]),
    ]
    for t in (1, 2, 3):
        variables.append(ud.Variable(f"A_{t}", (0, 1), parents="Theta", table=expert))
        variables.append(ud.Variable(f"O_{t}", (0, 1), parents=("Theta", f"A_{t}"), table=pays))
    return ud.CausalModel(variables[:-1])


def opening_gap(telling: float) -> float:
    """Return `E KL(P(A_3 | do(a_1:2), o_0:2) || P(A_3 | a_1:2, o_0:2))` over a deluded agent's histories, in nats."""
    model = opening(telling)
    see = np.asarray(model.query(VISIBLE), float)
    do = np.empty_like(see)
    for a_1, a_2 in np.ndindex(2, 2):
        do[:, a_1, :, a_2] = model.query(("O_0", "O_1", "O_2", "A_3"), do={"A_1": a_1, "A_2": a_2})

    def conditional(joint: np.ndarray, i: int) -> np.ndarray:
        """Return the distribution of variable i given those before it."""
        p = joint.sum(tuple(range(i + 1, joint.ndim)), keepdims=True)
        return p / p.sum(i, keepdims=True)

    # The agent's actions follow its deluded predictions; observations follow the true distribution.
    weight = do.sum(-1, keepdims=True) * conditional(see, 1) * conditional(see, 3)
    P_do, P_see = conditional(do, 5), conditional(see, 5)
    return float((weight * P_do * np.log(P_do / P_see)).sum())


def block(settings: Settings) -> Block:
    """Compute the gap between conditioning and intervening by how informative the opening is."""
    gaps = np.array([opening_gap(x) for x in TELLING])
    rows = Rows(
        "remark-7",
        "Remark 7, p. 6",
        {
            "task": "bandit of two arms, expert right with .9, pays .75 or .25, two rounds",
            "average": "over all histories",
        },
    )
    return Block(
        "remark-7",
        "Remark 7: observations that contain the task identifier",
        [
            "A bandit of two arms opens with an observation that names the better arm with a probability from 1/2 "
            "(uninformative) to 1 (the task identifier). A deluded agent then acts for two rounds. The gap is the KL "
            "divergence of its prediction of the third action from the interventional one, in nats, averaged over its "
            "own histories. All histories are enumerated, so that there is no sampling error.",
            "The gap decreases to 0 as the opening becomes the task identifier. A task on which a sequence model shows "
            "no delusion may simply have such observations.",
        ],
        [
            rows.paper(
                "gap-in-nats",
                '"limiting the impact of the delusion": the gap falls with more informative openings',
                gaps,
                falls(1e-4),
                telling=list(TELLING),
            ),
            rows.paper(
                "gap-with-theta-observed",
                '"back to the fully observable case"',
                gaps[-1],
                near(0, 1e-9),
                telling=1.0,
            ),
        ],
        figures=[(_opening_figure(gaps), "The gap by the probability that the opening names the better arm.")],
    )


def _opening_figure(gaps: np.ndarray) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
        axes = figure.subplots()
        axes.plot(TELLING, gaps, color=SEE, lw=1.6, marker="o", ms=3.5, clip_on=False)
        axes.set(
            xlabel="probability that the opening names the better arm",
            title="KL(do ‖ see) of the third action, nats",
            xlim=(0.5, 1),
            ylim=(0, None),
        )
        return to_figure(
            figure,
            "telling",
            f"The gap decreases from {gaps[0]:.3f} nats with an uninformative opening to 0 if it names the arm.",
        )
