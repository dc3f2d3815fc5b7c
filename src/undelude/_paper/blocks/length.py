"""Beyond the paper: agents in episodes longer than those of their training; stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.criterion import at_least, at_most
from undelude._paper.item import Block, Rows, Settings
from undelude._paper.results import load, origin, stored

# Nats per action below which an agent counts as accurate; the conditioning agent has .2 or more.
HOLDS = 0.02
TRUNCATED = ("transformer, window 40", "markov, order 40", "predictor, order 40")


def block(settings: Settings) -> Block:
    """List the architectures that stay accurate beyond the rounds of their training."""
    study = load("length")
    kls = [(_label(row), {int(T): x for T, x in row["kl_do_last_fifth"].items()}) for row in study["rows"]]
    means = [(label, {T: float(np.mean(x)) for T, x in kl.items()}) for label, kl in kls]
    name = "related-length"
    rows = Rows(name, "Section 4.1, p. 12: what a taught agent approximates", study["settings"], stored(study))
    items = []
    for row, (label, kl) in zip(study["rows"], kls, strict=True):
        item = f"KL/{label.replace(', ', '-').replace(' ', '-')}/round"
        taught = row["taught_rounds"]
        items.append(
            rows.related(
                f"{item}s-to-20",
                "accurate in episodes of 20 rounds; the worst of three seeds",
                max(kl[20]),
                at_most(HOLDS),
            )
        )
        if row["agent"] in TRUNCATED:
            claim = (
                "a truncated memory is taught on windows that hold the beginning: wrong later; the best of three seeds"
            )
            items.append(rows.related(f"{item}-1000", claim, min(kl[1000]), at_least(HOLDS)))
        else:
            claim = f"with the whole history it stays accurate, taught for {taught}; the worst of three seeds"
            items.append(rows.related(f"{item}-1000", claim, max(kl[1000]), at_most(HOLDS)))
    text = [
        "Teaching makes predictions right for the histories that occur during training. On the bandit, agents of "
        "every architecture were taught for 20 rounds and then played 100 and 1,000 rounds; one was taught for 200. "
        "Listed is the KL divergence of their policy from the interventional distribution in the last fifth of the "
        f"rounds. We call an agent accurate below {HOLDS:g} nats; the agent that conditions on its actions has .2 or "
        "more.",
        origin(study),
    ]
    caption = "KL(interventional ‖ agent), nats, in the last fifth of 20, 100 and 1,000 rounds; mean of three seeds."
    figure = _lengths_figure(means)
    return Block(name, "Beyond the paper: longer than in training", text, items, [(figure, caption)])


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
