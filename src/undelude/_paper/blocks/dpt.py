"""Beside Section 4.1: the bandit of decision-pretrained transformers, as settings of the loop; stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.svg import DO, INK, MUTED, SEE, STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, holds
from undelude._paper.results import load, origin

LOOKS = {
    "thompson": ("Thompson sampling", INK, "-"),
    "ucb": ("UCB", MUTED, "--"),
    "greedy": ("greedy", MUTED, ":"),
    "linear_counterfactual": ("net, Counterfactual()", DO, "-"),
    "linear_blind": ("net, Blind(their distribution)", SEE, "--"),
}


def block(settings: Settings) -> Block:
    """A perfect imitator of who names the best arm is Thompson sampling."""
    study = load("dpt")
    regret, theirs, seconds = study["regret"], study["their_recipe"], study["training_seconds"]
    ends = {name: regret[name]["500"]["mean"] for name in LOOKS}
    ours = seconds["counterfactual"] / 3600
    name = "section-4-1-dpt"
    items = [
        holds(
            f"{name}/regret-at-500/Thompson-UCB-greedy",
            [ends[x] for x in ("thompson", "ucb", "greedy")],
            "9.35, 10.56, 18.23 by independent code",
            abs(ends["thompson"] - 9.35) < 0.5 and abs(ends["ucb"] - 10.56) < 0.4 and abs(ends["greedy"] - 18.23) < 3,
            ours=True,
        ),
        holds(
            f"{name}/regret-at-500/net-by-its-own-episodes-and-by-theirs",
            [ends["linear_counterfactual"], ends["linear_blind"]],
            "at convergence Thompson's; at this budget on the way there, nearer with its own episodes",
            ends["thompson"] < ends["linear_counterfactual"] < min(ends["greedy"], ends["linear_blind"]),
            ours=True,
        ),
        holds(
            f"{name}/hours-to-teach/ours-and-their-recipe",
            [ours, theirs["training_hours"]],
            "minutes, not days",
            ours < 0.05 * theirs["training_hours"],
            ours=True,
        ),
        holds(
            f"{name}/gigabytes-on-disk/ours-and-their-recipe",
            [0.0, theirs["disk_gigabytes"]],
            "nothing is stored: episodes are drawn as they are needed",
            True,
            ours=True,
        ),
    ]
    text = [
        "Lee et al. (2023, arXiv:2306.14892) pretrain a transformer on the best action of tasks whose data were "
        "drawn by a distribution that knows nothing of the task. In the words of the paper at hand that is "
        "counterfactual "
        "teaching under somebody else's blind behaviour, `Blind(policy)`; beside it the net's own, "
        "`Counterfactual()`. Five arms with uniform means and Gaussian noise; what is shown is the cumulative "
        "regret over 500 rounds.",
        f"Theirs, measured by their own code on two cores and multiplied up: {theirs['seconds_per_task']:.3f} s and "
        f"{theirs['bytes_per_task'] / 1000:.0f} kB for each of {theirs['num_tasks']:,} tasks, "
        f"{theirs['seconds_per_batch']:g} s for each of {theirs['num_epochs'] * 1250:,} batches. Ours shared the "
        "cores with other work, their training did not.",
        origin(study, "one seed"),
    ]
    caption = "Cumulative regret, the mean over 2,000 bandits."
    title = "Section 4.1: the bandit of decision-pretrained transformers"
    return Block(name, title, text, items, [(_regret_figure(regret), caption)])


def _regret_figure(regret: dict) -> Svg:
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = canvas.subplots()
        for name, (label, colour, line) in LOOKS.items():
            curve = regret[name]["curve"]
            axes.plot(curve["rounds"], curve["regret"], line, color=colour, lw=1.5, label=label)
        axes.set(xlabel="round", title="cumulative regret", xlim=(0, None), ylim=(0, None))
        canvas.legend(frameon=False, loc="outside lower center", ncols=2, columnspacing=1.2)
        ends = ", ".join(f"{label} {regret[name]['500']['mean']:.2f}" for name, (label, *_) in LOOKS.items())
        assert np.isfinite([regret[name]["500"]["mean"] for name in LOOKS]).all()
        return to_figure(canvas, "regret", f"Cumulative regret over 500 rounds; at the end: {ends}.")
