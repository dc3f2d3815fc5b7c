"""Remark 17: the bias of cloning for any amount of data and any size of the network; stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, INK, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, holds
from undelude._paper.results import load, origin

LOOKS = {"counterfactual": ("counterfactual", DO, "o", "-"), "cloning": ("cloning", SEE, "s", "--")}


def block(settings: Settings) -> Block:
    """Compare cloning and counterfactual teaching by data and size, and DAgger with its limits."""
    study = load("remark_17")
    sizes = sorted({row["hidden_size"] for row in study["rows"] if row["theta"] == "hidden"})
    hidden = {name: np.array([_mean(study["rows"], name, size, "hidden") for size in sizes]) for name in LOOKS}
    shown = {name: _mean(study["rows"], name, None, "shown") for name in LOOKS}
    updates = study["settings"]["updates"]
    cloning, ours = hidden["cloning"], hidden["counterfactual"]
    name = "remark-17"
    items = [
        holds(
            f"{name}/KL/cloning-by-data",
            cloning[-1],
            "the bias always exists, no matter how much data is available",
            cloning[-1].min() > 0.15,
        ),
        holds(
            f"{name}/KL/cloning-by-size",
            cloning[:, -1],
            "... nor how expressive the agent model is",
            cloning[:, -1].min() > 0.15,
        ),
        holds(
            f"{name}/KL/counterfactual-by-data",
            ours[-1],
            "with counterfactual signals it decreases with data",
            ours[-1][-1] < 0.2 * ours[-1][0] and ours[-1][-1] < 0.01,
            ours=True,
        ),
        holds(
            f"{name}/KL/counterfactual-by-size",
            ours[:, -1],
            "and with size",
            ours[-1, -1] < 0.5 * ours[0, -1],
            ours=True,
        ),
        holds(
            f"{name}/KL/theta-shown/cloning-and-counterfactual",
            [shown["cloning"][-1], shown["counterfactual"][-1]],
            "without latents both are right",
            max(x[-1] for x in shown.values()) < 0.01,
        ),
    ]
    dagger = load("dagger")["largest_total_variation"]
    for per in ("per step", "per episode"):
        own, others = dagger[per][per], [x for distribution, x in dagger[per].items() if distribution != per]
        items.append(
            holds(
                f"{name}/DAgger-{per.replace(' ', '-')}/total-variation-from-its-limit-and-the-nearest-other",
                [own, min(others)],
                "without marks the limit is neither do nor see, and depends on how turns are drawn",
                own < 0.015 and own < min(others),
                ours=True,
            )
        )
    text = [
        "LSTMs of three sizes were taught on the bandit by cloning and by counterfactual teaching. Listed is the KL "
        "divergence of their policy from the interventional one on their own histories, during training. The expert "
        "and the number of its answers are the same; the episodes in which it answers differ.",
        "Two further networks observe theta in the opening: without a latent the two teachings agree.",
        "The networks taught by DAgger were evaluated after all 36 histories of two rounds of a bandit with three "
        "arms. Expert and agent take turns, sampled per step or per episode. Without marks each action is evidence in "
        "proportion to the expert's share: the limit `Q(A | h)` has the weight `prod_t [beta Q(a_t | theta) + (1 - "
        "beta) P(a_t | h_t)]` per step, and the products within the bracket per episode. The networks converge to "
        "these limits (`studies/dagger.py`).",
        origin(study, "the mean of two seeds"),
    ]
    caption = (
        "KL(interventional ‖ network) by updates, nats per action, for 4, 16 and 64 units; dotted: theta observed."
    )
    figure = _data_figure(updates, sizes, hidden, shown)
    figures = [(figure, caption)]
    figures.append(
        (
            _dagger_figure(dagger),
            "DAgger with beta = 1/2: largest total variation of two networks from four distributions.",
        )
    )
    return Block(name, "Remark 17: cloning, DAgger and latents", text, items, figures)


def _mean(rows: list[dict], teaching: str, size: int | None, theta: str) -> np.ndarray:
    found = [
        row["action_kl_do"]
        for row in rows
        if row["teaching"] == teaching and row["theta"] == theta and size in (None, row["hidden_size"])
    ]
    return np.mean(found, 0)


def _data_figure(updates: list[int], sizes: list[int], hidden: dict, shown: dict) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        for name, (label, colour, marker, line) in LOOKS.items():
            for i in range(len(sizes)):
                own = {"label": label} if i == len(sizes) - 1 else {}
                axes.loglog(
                    updates, hidden[name][i], line, marker=marker, color=colour, lw=0.8 + 0.5 * i, ms=3 + i, **own
                )
            axes.loglog(updates, np.maximum(shown[name], 1e-5), ":", color=colour, lw=1.2, label=f"{label}, no latent")
        axes.set(title="KL(interventional ‖ network), nats", xlabel="updates", ylim=(1e-4, 1))
        axes.set_xticks(updates, [f"{u:,}" for u in updates])
        axes.set_xticks([], minor=True)
        axes.set_yticks([1e-4, 1e-3, 1e-2, 1e-1], ["0.0001", "0.001", "0.01", "0.1"])
        figure.legend(frameon=False, loc="outside lower center", ncols=2, handlelength=1.6, columnspacing=1.0)
        ends = ", ".join(f"{label} {hidden[name][-1][-1]:.3f}" for name, (label, *_) in LOOKS.items())
        return to_figure(
            figure,
            "data",
            f"KL divergence from the interventional policy by updates; with 64 units, at the end: {ends}.",
        )


def _dagger_figure(dagger: dict[str, dict[str, float]]) -> Svg:
    distributions = ("do", "per step", "per episode", "see")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.1), layout="constrained")
        axes = figure.subplots()
        for per, marker, colour in (("per step", "o", INK), ("per episode", "D", MUTED)):
            axes.plot(
                [dagger[per][distribution] for distribution in distributions],
                range(4),
                marker,
                color=colour,
                ms=6,
                mew=0,
                label=f"network, {per}",
            )
        axes.set(xlim=(0, None), ylim=(3.5, -0.5), title="largest total variation from the distribution")
        axes.set_yticks(range(4), ["Q(A | do(a), o)", "limit per step", "limit per episode", "Q(A | a, o)"])
        figure.legend(frameon=False, loc="outside lower center", ncols=2, handletextpad=0.2)
        words = "; ".join(f"{per}: {[dagger[per][distribution] for distribution in distributions]}" for per in dagger)
        return to_figure(
            figure, "dagger", f"Total variation of two networks from do, the two limits, and see. {words}."
        )
