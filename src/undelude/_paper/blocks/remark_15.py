"""Remarks 14 and 15: one net for every mixture of own and others' symbols; stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.svg import DO, INK, MUTED, SEE, STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, holds
from undelude._paper.results import load, origin

ROLES = ("acting", "taking turns", "looking on")
LOOKS = {
    "mixed": ("Mixed(.5)", INK, "D"),
    "counterfactual": ("Counterfactual()", DO, "o"),
    "factual": ("Factual()", SEE, "s"),
    "dagger": ("DAgger(.5), no marks", MUTED, "v"),
}


def block(settings: Settings) -> Block:
    """Either party may produce a symbol, and one net, taught with both, knows what to make of either."""
    study = load("remark_15")
    kl = {name: _mean(study["rows"], name) for name in LOOKS}
    name = "remark-15"
    mixed, counterfactual, factual, dagger = (kl[key] for key in LOOKS)
    items = [
        holds(
            f"{name}/KL/mixed-teaching/acting-taking-turns-looking-on",
            mixed,
            "both forms of each symbol have to be amortized; then one net answers all",
            mixed.max() < 0.006,
        ),
        holds(
            f"{name}/KL/counterfactual-teaching/acting-and-looking-on",
            counterfactual[[0, 2]],
            "right where it acts; other conditionals are not captured",
            counterfactual[0] < 0.006 < 0.03 < counterfactual[2],
        ),
        holds(
            f"{name}/KL/factual-teaching/acting-and-looking-on",
            factual[[0, 2]],
            "right where it looks on; other conditionals are not captured",
            factual[2] < 0.006 < 0.03 < factual[0],
        ),
        holds(
            f"{name}/KL/without-marks",
            dagger,
            "not distinguished, a model deludes itself (Remark 16): wrong in every role",
            (dagger > 5 * mixed).all(),
        ),
    ]
    text = [
        "Who will produce which part of a conversation is not known ahead of time, so that each symbol has to be "
        "learned in both forms, seen and done. Four nets played the bandit, each action executed by the expert or "
        "by the agent: by either at random and truly marked, by the agent alone, by the expert alone, and by either "
        "with one symbol for both. Then each was asked as an actor, as an onlooker, and where it takes turns with "
        "the expert; what is shown is how far its prediction of the next action is from the exact answer for that "
        "history and its marks.",
        origin(study, "the mean of two seeds"),
    ]
    caption = "KL(exact answer ‖ net) in three roles, nats per action; logarithmic."
    return Block(name, "Remark 15: either party may produce a symbol", text, items, [(_roles_figure(kl), caption)])


def _mean(rows: list[dict], teaching: str) -> np.ndarray:
    found = [[row["action_kl"][role] for role in ROLES] for row in rows if row["teaching"] == teaching]
    return np.mean(found, 0)


def _roles_figure(kl: dict[str, np.ndarray]) -> Svg:
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = canvas.subplots()
        for name, (label, colour, marker) in LOOKS.items():
            axes.semilogy(range(3), kl[name], marker, color=colour, ms=6, mew=0, label=label)
        axes.set(xlim=(-0.5, 2.5), title="nats from the exact answer")
        axes.set_xticks(range(3), list(ROLES))
        axes.set_yticks([1e-3, 1e-2, 1e-1], ["0.001", "0.01", "0.1"])
        canvas.legend(frameon=False, loc="outside lower center", ncols=2, handletextpad=0.2, columnspacing=1.2)
        words = "; ".join(f"{label}: {np.round(kl[name], 4).tolist()}" for name, (label, *_) in LOOKS.items())
        return to_figure(canvas, "roles", f"Distances acting, taking turns and looking on. {words}.")
