"""Remark 8: the efference copy."""

import equinox as eqx
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

import undelude as ud
from undelude._distributions import as_categorical
from undelude._drawing.colours import DO, DO_TEXT, MUTED, SEE, SEE_TEXT
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.episodes import CUT, SHORT, CutAgent, belief, expert, play
from undelude._paper.criterion import at_least, near, sampled
from undelude._paper.item import Block, Rows, Settings, mean


@eqx.filter_jit
def expected_prize(boxes: ud.InteractionProcess, cut: Int[Array, ""]) -> Float[Array, ""]:
    """Return `P(O = prize)` after the own action of opening box 1, with the mark if `cut` is 1, without if 0."""
    agent = CutAgent(exact=ud.ExactAgent(boxes), cut=cut)
    m = agent.g_A(jnp.array(0), agent.init(num_rounds=1), intervened=True)
    return as_categorical(agent.f_O(m)).probs[1]


def block(settings: Settings) -> Block:
    """Compare an agent with and without the efference copy of its actions."""
    boxes = ud.tasks.prize_or_frog()
    played, deluded = play(settings, "cut"), play(settings, "see")
    surplus = played.P_reward[:, :SHORT].astype(float) - played.rewards[:, :SHORT]
    prize = [expected_prize(boxes, jnp.array(rounds)) for rounds in (1, 0)]
    off = {
        mark: np.abs(belief(x)[:, :-1] @ expert(x.process) - x.P_A[:, :SHORT]).max()
        for mark, x in (("see", deluded), ("cut", played))
    }
    rows = Rows("remark-8", "Remark 8, p. 6", {**played.parameters, "mark lost after round": CUT})
    return Block(
        "remark-8",
        "Remark 8: the efference copy",
        [
            "In this library the efferent copy of the motor system is one bit for each action, `intervened`. Here an "
            "agent that treats its actions as interventions loses the bit from round 11 of a bandit on: it then reads "
            "its own actions as those of the expert.",
            f"Before the cut the expected reward of its actions equals the actual one, over {settings.num_episodes:,} "
            "episodes. After it the agent takes its own actions for evidence and expects more than it gets. With the "
            "cut "
            "before the first round it is the deluded agent. Its predictions are compared with equation 2, evaluated "
            "in "
            "NumPy with the factors of the unmarked actions.",
        ],
        [
            Rows("remark-8", "Remark 8, p. 6", {"task": "prize or frog"}).paper(
                "boxes/P(O=+1)-with-and-without-the-mark",
                'the efferent copy, "so that these are not mistaken for environmental actions": for the boxes of '
                "Section 2",
                prize,
                near(["1/2", 1]),
            ),
            rows.example(
                "largest-difference-from-equation-2/cut-before-round-1",
                "all actions are evidence: the deluded agent",
                off["see"],
                near(0),
                **{**deluded.parameters, "mark lost after round": 0},
            ),
            rows.example(
                "largest-difference-from-equation-2/cut-before-round-11",
                "actions from the 11th on are evidence, those before are not",
                off["cut"],
                near(0),
            ),
            rows.example(
                "expected-less-actual-reward/rounds-1-10",
                "with the mark it expects what it gets",
                mean(surplus[:, :CUT].mean(1)),
                sampled(0),
            ),
            rows.example(
                "expected-less-actual-reward/rounds-11-20",
                "without it, it is over-confident",
                mean(surplus[:, CUT:].mean(1)),
                at_least(0, errors=4),
            ),
        ],
        figures=[
            (
                _cut_figure(played.P_reward[:, :SHORT].mean(0), played.rewards[:, :SHORT].mean(0), CUT),
                "Expected and actual reward of the agent's actions; the mark is lost at the dotted line.",
            )
        ],
    )


def _cut_figure(predicted: np.ndarray, actual: np.ndarray, cut: int) -> Svg:
    rounds = np.arange(1, len(actual) + 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
        axes = figure.subplots()
        axes.plot(rounds, actual, color=DO, lw=1.6)
        axes.plot(rounds, predicted, color=SEE, lw=1.6, ls="--")
        axes.axvline(cut + 0.5, color=MUTED, lw=0.8, ls=":")
        axes.text(rounds[-1], predicted[-1] + 0.01, "expected", color=SEE_TEXT, ha="right", va="bottom")
        axes.text(rounds[-1], actual[-1] - 0.015, "actual", color=DO_TEXT, ha="right", va="top")
        axes.set(xlabel="round", title="reward of the own action", xlim=(1, len(actual)))
        axes.set_xticks([1, 5, 10, 15, 20])
        axes.margins(y=0.15)
        return to_figure(
            figure,
            "cut",
            f"Expected and actual reward agree until round {cut}; in the last round they are {predicted[-1]:.2f} and "
            f"{actual[-1]:.2f}.",
        )
