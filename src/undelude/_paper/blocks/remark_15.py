"""Remark 15: one network for every mixture of own and others' symbols; stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, INK, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
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
    """Compare networks taught with do, with see and with both, in three roles."""
    study = load("remark_15")
    kl = {name: _mean(study["rows"], name) for name in LOOKS}
    name = "remark-15"
    mixed, counterfactual, factual, dagger = (kl[key] for key in LOOKS)
    items = [
        holds(
            f"{name}/KL/mixed-teaching/acting-taking-turns-looking-on",
            mixed,
            "both forms of each symbol must be amortized: one network is right in all roles",
            mixed.max() < 0.006,
        ),
        holds(
            f"{name}/KL/counterfactual-teaching/acting-and-looking-on",
            counterfactual[[0, 2]],
            "right when it acts; other conditionals are not captured",
            counterfactual[0] < 0.006 < 0.03 < counterfactual[2],
        ),
        holds(
            f"{name}/KL/factual-teaching/acting-and-looking-on",
            factual[[0, 2]],
            "right when it looks on; other conditionals are not captured",
            factual[2] < 0.006 < 0.03 < factual[0],
        ),
        holds(
            f"{name}/KL/without-marks",
            dagger,
            "without the distinction a model deludes itself (Remark 16): wrong in every role",
            (dagger > 5 * mixed).all(),
        ),
    ]
    text = [
        "It is not known ahead of time which party will produce which part of a conversation, so that each symbol must "
        "be learned in both its standard and its intervened form. Four networks were taught on the bandit: actions "
        "executed by either party at random and marked correctly, by the agent alone, by the expert alone, and by "
        "either party without marks. Each was evaluated as an actor, as an onlooker, and taking turns with the expert. "
        "Listed is the KL divergence of its prediction of the next action from the exact one for the history and its "
        "marks.",
        origin(study, "the mean of two seeds"),
    ]
    caption = "KL(exact ‖ network) in three roles, nats per action; logarithmic."
    return Block(name, "Remark 15: either party may produce a symbol", text, items, [(_roles_figure(kl), caption)])


def _mean(rows: list[dict], teaching: str) -> np.ndarray:
    found = [[row["action_kl"][role] for role in ROLES] for row in rows if row["teaching"] == teaching]
    return np.mean(found, 0)


def _roles_figure(kl: dict[str, np.ndarray]) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        for name, (label, colour, marker) in LOOKS.items():
            axes.semilogy(range(3), kl[name], marker, color=colour, ms=6, mew=0, label=label)
        axes.set(xlim=(-0.5, 2.5), title="KL(exact ‖ network), nats")
        axes.set_xticks(range(3), list(ROLES))
        axes.set_yticks([1e-3, 1e-2, 1e-1], ["0.001", "0.01", "0.1"])
        figure.legend(frameon=False, loc="outside lower center", ncols=2, handletextpad=0.2, columnspacing=1.2)
        words = "; ".join(f"{label}: {np.round(kl[name], 4).tolist()}" for name, (label, *_) in LOOKS.items())
        return to_figure(figure, "roles", f"KL divergences acting, taking turns and looking on. {words}.")
