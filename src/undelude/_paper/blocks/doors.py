"""Related work: the doors of Swamy et al. (2022), with trained networks; stored results."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.criterion import at_most
from undelude._paper.item import Block, Rows, Settings
from undelude._paper.results import load, origin, stored

MARKERS = {"lstm": "o", "linear": "s", "transformer": "D"}
WORDS = {"counterfactual": "counterfactual", "cloning": "cloned"}


def block(settings: Settings) -> Block:
    """Compare networks taught counterfactually and by cloning with the exact agents."""
    study = load("doors")
    right = {name: np.array(table["1000"]).reshape(3, 5) for name, table in study["right_door"].items()}
    eps_exp = np.array([cell["eps_exp"] for cell in study["cells"]]).reshape(3, 5)
    nets = [name for name in MARKERS if f"{name}_counterfactual" in right]
    off = {name: {t: _off(study, name, t) for t in ("190", "1000")} for name in nets}
    taught = ", ".join(f"{rounds} rounds ({net})" for net, rounds in study["settings"]["taught_rounds"].items())
    name = "related-doors"
    rows = Rows(name, "Swamy et al. (2022), arXiv:2208.02225; Remark 17", study["settings"], stored(study))
    items = [
        rows.related(
            "exact-do-from-1-eps_exp",
            "intervening finds the right door as often as the expert does, in all 15 cells; largest difference",
            np.abs(right["exact_do"] - (1 - eps_exp)).max(),
            at_most(0.02),
        ),
        rows.related(
            "exact-see-where-the-expert-is-good",
            "conditioning is little better than one door in five, if eps_exp is .1; three eps_obs",
            right["exact_see"][:, 0],
            at_most(0.35),
        ),
    ]
    for net in nets:
        items += [
            rows.related(
                f"{net}/counterfactual/largest-difference-from-exact-do/round-190",
                "taught counterfactually it is on the exact curve in all 15 cells, at the length of training",
                off[net]["190"].max(),
                at_most(0.05),
            ),
            rows.related(
                f"{net}/counterfactual/largest-difference-from-exact-do/round-1000",
                "and after five times as many rounds",
                off[net]["1000"].max(),
                at_most(0.05),
            ),
            rows.related(
                f"{net}/cloned/largest-difference-from-exact-see/round-1000",
                "cloned it is as deluded as the exact agent that conditions on its actions, in all 15 cells",
                _off(study, net, "1000", "cloning").max(),
                at_most(0.05),
            ),
        ]
    text = [
        "One of five doors is right. The observation tells whether the chosen door was right, and is flipped with "
        "probability eps_obs. The expert takes the right door, or another one with probability eps_exp. Agents act by "
        "the rule of Swamy et al. (2022, arXiv:2208.02225): the most probable door, or with probability eps_exp "
        "another one. Swamy et al. computed exact posteriors; we add networks. One network of each architecture "
        f"learns all noise levels, which it observes, and is taught for {taught}. Listed is the share of right doors "
        "in rounds 900 to 1,000, in 15 cells. If the expert is mostly wrong, its policy carries little information, "
        "and an error that is small in nats changes the argmax: in such a cell the transformer is "
        f"{off['transformer']['1000'].max():.2f} off after 1,000 rounds, but not after 200.",
        origin(study),
    ]
    caption = (
        "Share of right doors in rounds 900 to 1,000 by eps_exp, for three eps_obs. Lines: exact; markers: networks."
    )
    figure = _doors_figure(right, nets, eps_exp[0], sorted({cell["eps_obs"] for cell in study["cells"]}))
    by_round = _rounds_figure(study, nets)
    words = "The same by round in every cell: around rounds 20, 100 and 190, and over rounds 900 to 1,000."
    return Block(name, "Related work: the doors of Swamy et al.", text, items, [(figure, caption), (by_round, words)])


def _off(study: dict[str, Any], net: str, t: str, teaching: str = "counterfactual") -> np.ndarray:
    """Return the difference from the exact answer of a teaching around round `t`, `[eps_obs, eps_exp]`."""
    right, exact = study["right_door"], {"counterfactual": "exact_do", "cloning": "exact_see"}[teaching]
    return np.abs(np.subtract(right[f"{net}_{teaching}"][t], right[exact][t])).reshape(3, 5)


def _rounds_figure(study: dict[str, Any], nets: list[str]) -> Svg:
    """Plot the share of right doors by round, with a row for each eps_obs and a column for each eps_exp."""
    rounds = {"20": 20, "100": 100, "190": 190, "1000": 950}
    right = {name: np.array([table[t] for t in rounds]) for name, table in study["right_door"].items()}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        panels = figure.subplots(3, 5, sharex=True, sharey=True)
        for i, axes in enumerate(panels.flat):
            for mark, colour, dash in (("do", DO, "-"), ("see", SEE, "--")):
                taught = {"do": "counterfactual", "see": "cloning"}[mark]
                axes.plot(rounds.values(), right[f"exact_{mark}"][:, i], dash, color=colour, label=f"exact, {mark}")
                for net in nets:
                    look: dict[str, Any] = {"ms": 3.5, "mew": 0.8, "mfc": "none", "marker": MARKERS[net], "mec": colour}
                    label = f"{net}, {WORDS[taught]}"
                    axes.plot(rounds.values(), right[f"{net}_{taught}"][:, i], ls="none", label=label, **look)
            axes.axhline(0.2, lw=0.6, ls=":", color=MUTED)
            axes.set(xscale="log", ylim=(0, 1), xlim=(15, 1300))
            axes.set_xticks([20, 200, 1000], ["20", "", "1,000"])
            axes.minorticks_off()
        for axes, cell in zip(panels[0], study["cells"], strict=False):
            axes.set_title(f"{cell['eps_exp']:g}")
        for axes, cell in zip(panels[:, 0], study["cells"][::5], strict=True):
            axes.set_ylabel(f"eps_obs {cell['eps_obs']:g}")
        for axes in panels[-1]:
            axes.set_xlabel("round")
        figure.suptitle("eps_exp", fontsize=STYLE["axes.titlesize"])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2, columnspacing=1.2)
        alt = "By round in 15 cells: networks taught counterfactually follow exact do, cloned ones exact see."
        return to_figure(figure, "doors-by-round", alt)


def _doors_figure(right: dict[str, Any], nets: list[str], eps_exp: np.ndarray, eps_obs: list[float]) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True)
        for i, axes in enumerate(panels):
            axes.plot(eps_exp, right["exact_do"][i], "-", color=DO, lw=1.4, label="exact, do")
            axes.plot(eps_exp, right["exact_see"][i], "--", color=SEE, lw=1.4, label="exact, see")
            for net in nets:
                look: dict[str, Any] = {"ms": 5, "mew": 1, "mfc": "none", "ls": "none", "marker": MARKERS[net]}
                axes.plot(eps_exp, right[f"{net}_counterfactual"][i], mec=DO, label=f"{net}, counterfactual", **look)
                axes.plot(eps_exp, right[f"{net}_cloning"][i], mec=SEE, label=f"{net}, cloned", **look)
            axes.set(title=f"eps_obs {eps_obs[i]:g}", ylim=(0, 1), xlabel="eps_exp")
            axes.set_xticks([0.1, 0.5, 0.9], [".1", ".5", ".9"])
            axes.axhline(0.2, lw=0.6, ls=":", color=MUTED)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2, columnspacing=1.2)
        words = ", ".join(
            f"{net} {np.abs(right[f'{net}_counterfactual'] - right['exact_do']).max():.2f}" for net in nets
        )
        alt = f"Right doors in 15 cells; largest difference of counterfactually taught networks from exact do: {words}."
        return to_figure(figure, "doors", alt)
