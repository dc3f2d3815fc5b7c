"""Section 4.1: the forward divergence is minimised by the posterior predictive, the reverse one is not."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.colours import DO, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.criterion import at_least, near
from undelude._paper.item import Block, Rows, Settings
from undelude._process.episodes import AGENT
from undelude._teaching.losses import score
from undelude._teaching.settings import Target

BELIEF = np.array([0.7, 0.2, 0.1])
# Probability of each action other than theta's.
SLIP = 1e-4
SHARP = np.full((3, 3), SLIP) + (1 - 3 * SLIP) * np.eye(3)


def answers() -> dict[Target, np.ndarray]:
    """Return the minima of `E_theta KL(Q_theta || P)` and `E_theta KL(P || Q_theta)`: mean and geometric mean."""
    geometric = np.exp(BELIEF @ np.log(SHARP))
    return {"distribution": BELIEF @ SHARP, "reverse": geometric / geometric.sum()}


@eqx.filter_jit
def minimise(targets: tuple[Target, Target], steps: int = 2000) -> Float[Array, "2 A"]:
    """Return the policies at which gradient descent on the library's losses ends, from the uniform one."""
    # One round for each theta: the expert's distribution, and a prediction that does not depend on theta.
    episode = ud.Episodes(
        theta=None,
        opening=None,
        actions=jnp.zeros(3, int),
        observations=jnp.zeros(3, int),
        executor=jnp.full(3, AGENT),
        intervened=jnp.ones(3, bool),
        expert=ud.Categorical(log_probs=jnp.log(jnp.asarray(SHARP))),
        expert_actions=jnp.zeros(3, int),
        reward=None,
        mask=jnp.ones(3, bool),
    )

    def loss(logits: Array, target: Target) -> Array:
        P_A, P_O = (ud.Categorical(log_probs=jax.nn.log_softmax(x)) for x in (logits, jnp.zeros((3, 2))))
        action, _ = score((P_A, P_O), episode, target, None)
        return jnp.asarray(BELIEF) @ action

    def descend(target: Target) -> Array:
        def step(_: Any, logits: Array) -> Array:
            return logits - jax.grad(lambda x: loss(jnp.broadcast_to(x, (3, 3)), target))(logits)

        return jax.nn.softmax(jax.lax.fori_loop(0, steps, step, jnp.zeros(3)))

    return jnp.stack([descend(target) for target in targets])


def block(settings: Settings) -> Block:
    """Compare the minima of the forward and the reverse divergence from an expert who knows theta."""
    want = answers()
    have = dict(zip(want, np.asarray(minimise(("distribution", "reverse")), float), strict=True))
    forward, reverse = want["distribution"], want["reverse"]
    text = [
        "An expert who knows theta takes the action of that theta, and each other action with probability .0001. The "
        "agent has no observations; its belief is .7, .2, .1. The paper's loss is `-log P(a_bar)`: up to a constant "
        "the average of `KL(Q(A | theta) || P)` over theta, with the posterior predictive as minimum. The minimum of "
        "the reverse divergence, `KL(P || Q(A | theta))`, is the normalised geometric mean of the expert's "
        "distributions. It is over-confident, the more so the sharper the expert. An agent distilled that way from a "
        "teacher with privileged information copies the teacher's confidence.",
        'Gradient descent on both losses of `ud.teach` starts from the uniform policy; `target="reverse"` exists for '
        "this "
        "comparison.",
    ]
    name = "section-4-1-direction"
    rows = Rows(name, "Section 4.1, p. 11", {"belief": BELIEF.tolist(), "P(another action | theta)": SLIP})
    items = [
        rows.paper(
            "forward/minimum-of-the-loss",
            '"the action probabilities regress the posterior predictive": where descent on the loss of `ud.teach` ends',
            have["distribution"],
            near(forward, 1e-3),
            steps=2000,
        ),
        rows.example(
            "forward/posterior-predictive", "the belief, but for slips", forward, near([0.70, 0.20, 0.10], 1e-3)
        ),
        rows.example(
            "reverse/minimum/log-odds",
            "(.7 - .2) and (.7 - .1) times the expert's log-odds",
            np.log(reverse[0] / reverse[1:]),
            near(np.array([0.7 - 0.2, 0.7 - 0.1]) * np.log(SHARP[0, 0] / SLIP), 1e-4),
        ),
        rows.example("reverse/minimum", "nearly certain of a theta with belief .7", reverse[0], at_least(0.98)),
        rows.example(
            "reverse/minimum-of-the-loss",
            "descent ends at the geometric mean",
            have["reverse"],
            near(reverse, 1e-3),
            steps=2000,
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
            axes.plot(x, have[target], "o", color=colour, ms=5, mew=0, label=f"{label}: by descent")
        axes.set(ylim=(0, 1.05), title="P(A)")
        axes.set_xticks(range(3), [f"theta {k + 1}'s action" for k in range(3)])
        axes.set_yticks([0, 0.5, 1], ["0", "1/2", "1"])
        axes.axhline(0, color=MUTED, lw=0.6)
        axes.legend(frameon=False, loc="upper right")
        words = "; ".join(f"{label}: {np.round(have[target], 3).tolist()}" for target, (label, *_) in looks.items())
        return to_figure(figure, "directions", f"Policies by two losses over three actions. {words}.")
