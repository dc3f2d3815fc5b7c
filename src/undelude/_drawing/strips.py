"""Strips of an episode over its rounds: probabilities as shades, a frame around the truth, dots for actions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from undelude._drawing.colours import INK, RULE


def shade(axes: Axes, distribution: Float[np.ndarray, "T K"], colour: str, *, top: float = 0) -> None:
    """Shade rows from `top` down by probability; equal neighbours are one rectangle, to keep the page small."""
    opacity = np.round(np.clip(distribution, 0, 1), 2)
    for k, shades in enumerate(opacity.T):
        for start, stop in stretches(shades):
            if shades[start] > 0:
                look = {"fc": colour, "alpha": shades[start], "ec": "none", "lw": 0}
                box = Rectangle((start, top + k - 0.5), stop - start, 1, **look)
                box.set_antialiased(False)
                axes.add_patch(box)
    axes.set_ylim(top + distribution.shape[1] - 0.5, -0.5)
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE)


def frame_truth(axes: Axes, theta: Int[np.ndarray, " T"], shown: Int[np.ndarray, " R"], *, top: float = 0) -> None:
    """Draw a frame around the row of the true value, if that row is among those shown from `top` down."""
    row_of = {int(k): i for i, k in enumerate(shown)}
    for start, stop in stretches(theta):
        if (i := row_of.get(int(theta[start]))) is not None:
            look = {"fill": False, "ec": INK, "lw": 0.9, "clip_on": False, "zorder": 3}
            frame = Rectangle((start, top + i - 0.5), stop - start, 1, **look)
            axes.add_patch(frame)


def mark_actions(
    axes: Axes, actions: Int[np.ndarray, " T"], rewards: Float[np.ndarray, " T"], *, hollow: str = "none", **look: Any
) -> float:
    """Draw a dot for each action, filled if its reward exceeds the least reward; return the least reward."""
    rounds, least = np.arange(len(actions)) + 0.5, float(rewards.min())
    paid = rewards > least
    look = {"mec": INK, "ms": float(np.clip(160 / len(actions), 1.5, 5)), "mew": 0.8} | look
    axes.plot(rounds[paid], actions[paid], "o", mfc=INK, **look)
    axes.plot(rounds[~paid], actions[~paid], "o", mfc=hollow, **look)
    return least


def stretches(x: np.ndarray) -> list[tuple[int, int]]:
    """Return `(start, stop)` of each run of equal neighbours."""
    ends = [*(np.flatnonzero(x[1:] != x[:-1]) + 1).tolist(), len(x)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def symbol_ticks(axes: Axes, symbols: Sequence[Any] | np.ndarray) -> None:
    """Label the rows by their symbols, or evenly spaced rows if there are many."""
    every = 1 if len(symbols) <= 6 else math.ceil(len(symbols) / 4)
    axes.set_yticks(range(0, len(symbols), every), [str(s) for s in symbols[::every]])
    axes.tick_params(axis="y", length=0)


def round_ticks(axes: Axes, T: int) -> None:
    """Label the rounds from 1, and the end."""
    step = 5 if T <= 30 else 10 if T <= 60 else T // 5
    ticks = [1] * (T > 0) + [*(t for t in range(step, T, step) if t <= T - step / 2)]
    axes.set(xlim=(0, T + 1), xlabel="round")
    axes.set_xticks([t - 0.5 for t in ticks] + [T + 0.5], [*map(str, ticks), "end"])


def listed(symbols: np.ndarray) -> str:
    """Return the first sixty symbols as text."""
    return " ".join(map(str, symbols[:60])) + (" and so on" if len(symbols) > 60 else "")
