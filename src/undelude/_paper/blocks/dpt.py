"""Section 4.1: the bandit of decision-pretrained transformers, as two settings of `ud.teach`; stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, INK, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, holds
from undelude._paper.results import load, origin

LOOKS = {
    "thompson": ("Thompson sampling", INK, "-"),
    "ucb": ("UCB", MUTED, "--"),
    "greedy": ("greedy", MUTED, ":"),
    "linear_counterfactual": ("Counterfactual()", DO, "-"),
    "linear_blind": ("Blind(their policy)", SEE, "--"),
}


def block(settings: Settings) -> Block:
    """Compare networks taught on two kinds of episodes with Thompson sampling, UCB and greedy."""
    study = load("dpt")
    regret, theirs, seconds = study["regret"], study["their_recipe"], study["training_seconds"]
    ends = {name: regret[name]["500"]["mean"] for name in LOOKS}
    ours = seconds["counterfactual"] / 3600
    name = "section-4-1-dpt"
    items = [
        holds(
            f"{name}/regret-at-500/Thompson-UCB-greedy",
            [ends[x] for x in ("thompson", "ucb", "greedy")],
            "9.35, 10.56, 18.23 by an independent implementation",
            abs(ends["thompson"] - 9.35) < 0.5 and abs(ends["ucb"] - 10.56) < 0.4 and abs(ends["greedy"] - 18.23) < 3,
            ours=True,
        ),
        holds(
            f"{name}/regret-at-500/net-by-its-own-episodes-and-by-theirs",
            [ends["linear_counterfactual"], ends["linear_blind"]],
            "at convergence that of Thompson sampling; at this budget above it, lower with own episodes",
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
            "none: episodes are sampled when they are needed",
            True,
            ours=True,
        ),
    ]
    text = [
        "Lee et al. (2023, arXiv:2306.14892) pretrain a transformer to predict the best action from data of a policy "
        "that does not depend on the task. In the paper's terms this is counterfactual teaching in episodes of another "
        "policy, `Blind(policy)`; `Counterfactual()` uses the agent's own episodes. The bandit has five arms with "
        "uniform means and Gaussian noise. The exact imitator of an expert who names the best arm is Thompson "
        "sampling. Listed is the cumulative regret over 500 rounds.",
        f"The costs of their recipe were measured with their code on two cores and extrapolated: "
        f"{theirs['seconds_per_task']:.3f} s and {theirs['bytes_per_task'] / 1000:.0f} kB for each of "
        f"{theirs['num_tasks']:,} tasks, {theirs['seconds_per_batch']:g} s for each of "
        f"{theirs['num_epochs'] * 1250:,} batches. Our runs shared the cores with other jobs.",
        origin(study, "one seed"),
    ]
    caption = "Cumulative regret, mean over 2,000 bandits."
    title = "Section 4.1: the bandit of decision-pretrained transformers"
    return Block(name, title, text, items, [(_regret_figure(regret), caption)])


def _regret_figure(regret: dict) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        for name, (label, colour, line) in LOOKS.items():
            curve = regret[name]["curve"]
            axes.plot(curve["rounds"], curve["regret"], line, color=colour, lw=1.5, label=label)
        axes.set(xlabel="round", title="cumulative regret", xlim=(0, None), ylim=(0, None))
        figure.legend(frameon=False, loc="outside lower center", ncols=2, columnspacing=1.2)
        ends = ", ".join(f"{label} {regret[name]['500']['mean']:.2f}" for name, (label, *_) in LOOKS.items())
        assert np.isfinite([regret[name]["500"]["mean"] for name in LOOKS]).all()
        return to_figure(figure, "regret", f"Cumulative regret over 500 rounds; at the end: {ends}.")
