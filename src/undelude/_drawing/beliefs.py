"""One episode of a bandit: the belief of an agent, round by round, and its pulls."""

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, withStroke

from undelude._drawing.colours import DO, MUTED, PAPER, RULE, SEE
from undelude._drawing.strips import frame_truth, listed, mark_actions, round_ticks, shade, symbol_ticks
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure

# Heights of an arm's row and of the lines below, in inches.
ROW, LINE = 0.24, 0.8
COLOURS = {"do": DO, "see": SEE}
NAMES = {"do": "own actions are interventions", "see": "own actions are evidence"}
DASHES = {"do": "-", "see": "--"}


def belief_plot(
    belief: Float[np.ndarray, "T1 K"],
    theta: int | np.integer,
    actions: Int[np.ndarray, " T"],
    rewards: Float[np.ndarray, " T"],
    *,
    own_actions: Literal["do", "see"],
    arms: Sequence[Any] | None = None,
    title: str = "",
) -> Svg:
    """Draw an episode of a bandit whose theta is the best arm: belief as shades, a frame for the truth, dots for pulls.

    Filled dots are pulls that paid. Lines below show the belief in the best arm and in the favourite arm.

    Args:
        belief: `[T + 1, K]` over the best arm, before each round and after the last.
        theta: index of the best arm.
        actions: `[T]`, indices of the arms pulled.
        rewards: `[T]`.
        own_actions: how the agent reads its own actions; sets the colour.
        arms: names of the arms; 1 to K by default.
        title: text above the figure; by default how the agent reads its own actions.
    """
    T, K = len(actions), belief.shape[1]
    arms = range(1, K + 1) if arms is None else arms
    names, colour = np.array([str(arm) for arm in arms]), COLOURS[own_actions]
    heights = [ROW * K, LINE]
    truth = np.full(T + 1, int(theta))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.95), layout="constrained")
        strip, lines = figure.subplots(2, sharex=True, gridspec_kw={"height_ratios": heights})
        shade(strip, belief, colour)
        frame_truth(strip, truth, np.arange(K))
        halo = [withStroke(linewidth=2.4, foreground=PAPER), Normal()]
        mark_actions(strip, actions, rewards, hollow=PAPER, path_effects=halo, ms=float(np.clip(110 / T, 2, 4.6)))
        symbol_ticks(strip, names)
        strip.set(title=f"{title or NAMES[own_actions]}; filled dots paid", ylabel="arm")
        strip.tick_params(axis="x", length=0, labelbottom=False)
        rounds = np.arange(T + 1) + 0.5
        lines.plot(rounds, belief.max(1), color=MUTED, lw=0.9)
        lines.plot(rounds, belief[:, theta], DASHES[own_actions], color=colour, lw=2.2)
        lines.axhline(1 / K, color=RULE, lw=0.8, zorder=0)
        lines.set(title=f"belief in the best arm, {names[theta]}; thin: in the favourite", ylim=(-0.04, 1.04))
        lines.set_yticks([0, 0.5, 1])
        round_ticks(lines, T)
        alt = _alt(belief, theta, actions, rewards, names, own_actions)
        return to_figure(figure, f"belief {title} {alt}", alt)


def _alt(
    belief: np.ndarray, theta: Any, actions: np.ndarray, rewards: np.ndarray, names: np.ndarray, own_actions: str
) -> str:
    favourite = int(belief[-1].argmax())
    end = f"At the end the truth has probability {belief[-1, theta]:.2f}"
    end += "" if favourite == theta else f", arm {names[favourite]} has {belief[-1, favourite]:.2f}"
    return (
        f"One episode of {len(actions)} rounds of an agent to which {NAMES[own_actions].replace('own', 'its own')}. "
        f"The best arm is {names[theta]}. Arms pulled: {listed(names[actions])}. "
        f"Rewards: {listed(np.array([f'{x:g}' for x in rewards]))}. {end}."
    )
