"""Section 4.1: the forward divergence is minimised by the posterior predictive, the reverse one is not."""

import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._distributions import as_categorical
from undelude._drawing.colours import DO, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, equal, holds
from undelude._teaching.settings import Target

BELIEF = np.array([0.7, 0.2, 0.1])
# Probability of each action other than theta's.
SLIP = 1e-4
SHARP = np.full((3, 3), SLIP) + (1 - 3 * SLIP) * np.eye(3)


def answers() -> dict[Target, np.ndarray]:
    """Return the minima of `E_theta KL(Q_theta || P)` and `E_theta KL(P || Q_theta)`: mean and geometric mean."""
    geometric = np.exp(BELIEF @ np.log(SHARP))
    return {"distribution": BELIEF @ SHARP, "reverse": geometric / geometric.sum()}


def taught(target: Target, seed: int) -> np.ndarray:
    """Return the policy of a network taught with `target`, without any observation of theta."""
    process = ud.tasks.from_tables(
        prior=BELIEF, expert=SHARP, task=np.full((3, 3, 2), 0.5), num_rounds=1, name="one choice"
    )
    key_agent, key_teach = jax.random.split(jax.random.key(seed))
    agent = ud.GRUAgent(process, 4, key=key_agent)
    teaching = ud.Counterfactual(target=target, observation_weight=0.0)
    run = ud.teach(process, agent, teaching, key=key_teach, steps=300, batch_size=256, learning_rate=0.1, log_every=300)
    distribution = as_categorical(run.agent.f_A(run.agent.init(num_rounds=1)))
    return np.asarray(distribution.probs, float)


def block(settings: Settings) -> Block:
    """Compare the minima of the forward and the reverse divergence from an expert who knows theta."""
    want = answers()
    have: dict[Target, np.ndarray] = {target: taught(target, settings.seed) for target in want}
    forward, reverse = want["distribution"], want["reverse"]
    text = [
        "An expert who knows theta takes the action of that theta, and each other action with probability .0001. The "
        "agent has no observations; its belief is .7, .2, .1. The paper's loss is `-log P(a_bar)`: up to a constant "
        "the average of `KL(Q(A | theta) || P)` over theta, with the posterior predictive as minimum. The minimum of "
        "the reverse divergence, `KL(P || Q(A | theta))`, is the normalised geometric mean of the expert's "
        "distributions. It is over-confident, the more so the sharper the expert. An agent distilled that way from a "
        "teacher with privileged information copies the teacher's confidence.",
        'Two networks were taught, one with each; `target="reverse"` exists in `ud.teach` for this comparison.',
    ]
    name = "section-4-1-direction"
    items = [
        equal(
            f"{name}/forward/minimum",
            forward,
            [0.70, 0.20, 0.10],
            ".70, .20, .10: the belief",
            tolerance=1e-3,
            ours=True,
        ),
        equal(
            f"{name}/reverse/minimum/log-odds",
            np.log(reverse[0] / reverse[1:]),
            np.array([0.7 - 0.2, 0.7 - 0.1]) * np.log(SHARP[0, 0] / SLIP),
            "(.7 - .2) and (.7 - .1) times the expert's log-odds",
            ours=True,
        ),
        holds(
            f"{name}/reverse/minimum", reverse, "nearly certain of a theta with belief .7", reverse[0] > 0.98, ours=True
        ),
        holds(
            f"{name}/forward/net",
            have["distribution"],
            "at the posterior predictive",
            np.abs(have["distribution"] - forward).max() < 0.03,
            ours=True,
        ),
        holds(
            f"{name}/reverse/net",
            have["reverse"],
            "at the geometric mean",
            np.abs(have["reverse"] - reverse).max() < 0.02,
            ours=True,
        ),
    ]
    caption = "Policies learned from a belief of .7, .2, .1 with the two directions of the divergence."
    title = "Section 4.1: the direction of the divergence"
    return Block(name, title, text, items, [(_directions_figure(want, have), caption)])


def _directions_figure(want: dict[Target, np.ndarray], have: dict[Target, np.ndarray]) -> Svg:
    looks: dict[Target, tuple[str, str, float]] = {
        "distribution": ("forward", DO, -0.18),
        "reverse": ("reverse", SEE, 0.18),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.0), layout="constrained")
        axes = figure.subplots()
        for target, (label, colour, offset) in looks.items():
            x = np.arange(3) + offset
            axes.bar(x, want[target], 0.32, color=colour, alpha=0.35, label=f"{label}: minimum")
            axes.plot(x, have[target], "o", color=colour, ms=5, mew=0, label=f"{label}: network")
        axes.set(ylim=(0, 1.05), title="P(A)")
        axes.set_xticks(range(3), [f"theta {k + 1}'s action" for k in range(3)])
        axes.set_yticks([0, 0.5, 1], ["0", "1/2", "1"])
        axes.axhline(0, color=MUTED, lw=0.6)
        axes.legend(frameon=False, loc="upper right")
        words = "; ".join(f"{label}: {np.round(have[target], 3).tolist()}" for target, (label, *_) in looks.items())
        return to_figure(figure, "directions", f"Policies of two networks over three actions. {words}.")
