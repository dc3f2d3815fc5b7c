"""Remark 17: the bias of cloning, in the limit of data and size; and for networks, by stored results."""

import itertools
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.colours import DO, INK, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks import episodes
from undelude._paper.criterion import at_least, at_most, falls, near
from undelude._paper.item import Block, Item, Rows, Settings, mean
from undelude._paper.results import load, origin, stored

LOOKS = {"counterfactual": ("counterfactual", DO, "o", "-"), "cloning": ("cloning", SEE, "s", "--")}


def block(settings: Settings) -> Block:
    """Compare cloning and counterfactual teaching by data and size, and DAgger with its limits."""
    study = load("remark_17")
    sizes = sorted({row["hidden_size"] for row in study["rows"] if row["theta"] == "hidden"})
    runs = {teaching: _rows(study["rows"], teaching, "hidden", sizes) for teaching in LOOKS}
    without = {teaching: _rows(study["rows"], teaching, "shown", [16])[0] for teaching in LOOKS}
    hidden, shown = ({name: x.mean(-2) for name, x in found.items()} for found in (runs, without))
    updates = study["settings"]["updates"]
    name = "remark-17"
    rows = Rows(name, "Remark 17, p. 13", study["settings"], stored(study))
    cloned, taught = runs["cloning"], runs["counterfactual"]
    items = [
        *_exact_items(settings),
        rows.example(
            "network/KL/cloning-by-data",
            f"64 units, after {updates[0]:,} to {updates[-1]:,} updates; the better of two seeds: no decrease below",
            cloned[-1].min(0),
            at_least(0.15),
        ),
        rows.example(
            "network/KL/cloning-by-size",
            "4, 16 and 64 units, at the end; the better of two seeds: no decrease below",
            cloned[:, :, -1].min(1),
            at_least(0.15),
        ),
        rows.example(
            "network/KL/counterfactual-by-data",
            "with counterfactual signals it decreases with data; the worse of two seeds, 64 units",
            taught[-1].max(0),
            falls(0.001),
        ),
        rows.example(
            "network/KL/counterfactual-at-the-end",
            "to almost nothing; the worse of two seeds",
            taught[-1, :, -1].max(),
            at_most(0.01),
        ),
        rows.example(
            "network/KL/counterfactual-by-size",
            "and with size; the worse of two seeds",
            taught[:, :, -1].max(1),
            falls(0.001),
        ),
        rows.example(
            "network/KL/theta-shown/cloning-and-counterfactual",
            "without latents both teachings are right; the worse of two seeds",
            [without[teaching][:, -1].max() for teaching in ("cloning", "counterfactual")],
            at_most(0.01),
        ),
    ]
    limits_of_turns = load("dagger")
    dagger = limits_of_turns["largest_total_variation"]
    turns = Rows(name, "Remark 17, p. 13", limits_of_turns["settings"], stored(limits_of_turns))
    for per in ("per step", "per episode"):
        own, others = dagger[per][per], [x for distribution, x in dagger[per].items() if distribution != per]
        label = f"network/DAgger-{per.replace(' ', '-')}/total-variation-from"
        items += [
            turns.example(
                f"{label}-its-limit", "it converges to the limit of its way of taking turns", own, at_most(0.015)
            ),
            turns.example(
                f"{label}-the-nearest-other",
                "and to none of do, see and the other limit, which are farther away than its own",
                min(others) - own,
                at_least(0.001),
            ),
        ]
    text = [
        "Cloning teaches the conditional `P(A | a, o)`: this is the minimum of its loss with a free distribution for "
        "each "
        "history and unlimited data (Appendix A, in the expert's episodes). Its bias on its own histories is that of "
        "the "
        "exact deluded agent. With theta observed there is none.",
        "LSTMs of three sizes were taught on the bandit by cloning and by counterfactual teaching. Listed is the KL "
        "divergence of their policy from the interventional one on their own histories, during training. The expert "
        "and the number of its answers are the same; the episodes in which it answers differ.",
        "Two further networks observe theta in the opening: without a latent the two teachings agree.",
        "The networks taught by DAgger were evaluated after all 36 histories of two rounds of a bandit with three "
        "arms. Expert and agent take turns, sampled per step or per episode. Without marks each action is evidence in "
        "proportion to the expert's share: the limit `Q(A | h)` has the weight `prod_t [beta Q(a_t | theta) + (1 - "
        "beta) P(a_t | h_t)]` per step, and the products within the bracket per episode. The networks converge to "
        "these limits (`studies/dagger.py`).",
        origin(study),
        origin(limits_of_turns),
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


def _exact_items(settings: Settings) -> list[Item]:
    """Return the bias of cloning with a distribution for each history and unlimited data: its limit is P(A | a, o)."""
    seen = episodes.play(settings, "see")
    bias = mean(episodes.kl_do_see(seen)[:, : episodes.SHORT].mean(1))
    model = ud.tasks.bandit(num_rounds=2).causal_model()
    shown = 0.0
    for theta, a, o in itertools.product(range(5), range(5), range(2)):
        told = {"Theta": theta, "O_1": o}
        cloned, right = model.query("A_2", see={**told, "A_1": a}), model.query("A_2", see=told, do={"A_1": a})
        shown = max(shown, float(np.abs(cloned - right).max()))
    rows = Rows("remark-17", "Remark 17, p. 13", {"task": "bandit"})
    return [
        rows.paper(
            "KL/limit-of-cloning",
            '"The bias always exists in this case no matter how expressive the agent model is and how much data is '
            'available": KL of P(A | a, o), the limit of both, from P(A | do(a), o) on its own histories, nats per '
            "action",
            bias,
            at_least(0.05, errors=4),
            **seen.parameters,
            rounds=episodes.SHORT,
        ),
        rows.paper(
            "theta-shown/cloning-and-do",
            "\"The benefit of Dagger over vanilla imitation learning diminishes if a student can predict the expert's "
            "action "
            'distribution exactly": with theta observed, largest difference after all histories of one round',
            shown,
            near(0),
        ),
    ]


def _rows(rows: list[dict], teaching: str, theta: str, sizes: Sequence[int]) -> np.ndarray:
    """Return the KL divergences of a teaching, `[size, seed, updates]`."""
    return np.array(
        [
            [
                row["action_kl_do"]
                for row in rows
                if (row["teaching"], row["theta"], row["hidden_size"]) == (teaching, theta, size)
            ]
            for size in sizes
        ]
    )


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
