"""Section 4.1: agents in episodes longer than those of their training; stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, holds
from undelude._paper.results import load, origin

# Nats per action below which an agent counts as accurate; the conditioning agent has .2 or more.
HOLDS = 0.02


def block(settings: Settings) -> Block:
    """List the architectures that stay accurate beyond the rounds of their training."""
    study = load("length")
    rows = [
        (_label(row), {int(T): float(np.mean(x)) for T, x in row["kl_do_last_fifth"].items()}) for row in study["rows"]
    ]
    held = {T: [label for label, kl in rows if kl[T] < HOLDS] for T in (20, 100, 1000)}
    lost = [label for label, kl in rows if kl[1000] >= HOLDS]
    name = "section-4-1-length"
    items = [
        holds(
            f"{name}/taught-at-20-asked-at-20",
            f"{len(held[20])} of {len(rows)}",
            "all converged at the length of training",
            len(held[20]) == len(rows),
            ours=True,
        ),
        holds(f"{name}/hold-at-100", ", ".join(held[100]) or "none", "some hold", bool(held[100]), ours=True),
        holds(f"{name}/hold-at-1000", ", ".join(held[1000]) or "none", "some hold", bool(held[1000]), ours=True),
        holds(
            f"{name}/lost-at-1000",
            ", ".join(lost) or "none",
            "no guarantee beyond the length of training",
            True,
            ours=True,
        ),
    ]
    text = [
        "Teaching makes predictions right for the histories that occur during training. On the bandit, agents of "
        "every architecture were taught for 20 rounds and then played 100 and 1,000 rounds; one was taught for 200. "
        "Listed is the KL divergence of their policy from the interventional distribution in the last fifth of the "
        f"rounds. An agent holds if it is below {HOLDS:g} nats.",
        origin(study, "the mean of three seeds"),
    ]
    caption = "KL(interventional ‖ agent), nats per action, in the last fifth of 20, 100 and 1,000 rounds."
    figure = _lengths_figure(rows)
    return Block(name, "Section 4.1: longer than in training", text, items, [(figure, caption)])


def _label(row: dict) -> str:
    return row["agent"] + (f", taught {row['taught_rounds']}" if row["taught_rounds"] != 20 else "")


def _lengths_figure(rows: list[tuple[str, dict[int, float]]]) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.26 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for y, (_, kl) in enumerate(rows):
            axes.plot([kl[T] for T in (20, 100, 1000)], [y] * 3, color="none")
            for T, marker, size in ((20, "o", 4), (100, "s", 5), (1000, "D", 6)):
                axes.plot(
                    max(kl[T], 1e-4),
                    y,
                    marker,
                    color=DO if kl[T] < HOLDS else SEE,
                    ms=size,
                    mew=0,
                    label=f"{T:,} rounds" if y == 0 else None,
                )
        axes.axvline(HOLDS, lw=0.6, ls=":", color=SEE)
        axes.set(xscale="log", ylim=(len(rows) - 0.5, -0.5), title="KL(interventional ‖ agent), nats")
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1], ["0.0001", "0.001", "0.01", "0.1", "1"])
        figure.legend(frameon=False, loc="outside lower center", ncols=3, handletextpad=0.2, columnspacing=1.2)
        words = "; ".join(f"{label}: {kl[20]:.4f}, {kl[100]:.4f}, {kl[1000]:.4f}" for label, kl in rows)
        return to_figure(figure, "lengths", f"KL divergences after 20, 100 and 1,000 rounds. {words}.")
