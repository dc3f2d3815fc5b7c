"""Related work: the bandit of decision-pretrained transformers, as two settings of `ud.teach`; stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, INK, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.criterion import at_least, sampled
from undelude._paper.item import Block, Measured, Rows, Settings
from undelude._paper.results import load, origin, stored

LOOKS = {
    "thompson": ("Thompson sampling", INK, "-"),
    "ucb": ("UCB", MUTED, "--"),
    "greedy": ("greedy", MUTED, ":"),
    "linear_counterfactual": ("Counterfactual()", DO, "-"),
    "linear_blind": ("Blind(their policy)", SEE, "--"),
}
# Regret at 500 by an independent implementation, and its standard error.
REFERENCE = {"thompson": (9.35, 0.13), "ucb": (10.56, 0.09), "greedy": (18.23, 0.78)}


def block(settings: Settings) -> Block:
    """Compare networks taught on two kinds of episodes with Thompson sampling, UCB and greedy."""
    study = load("dpt")
    regret = study["regret"]
    ends = {name: Measured(regret[name]["500"]["mean"], regret[name]["500"]["se"]) for name in LOOKS}
    own, blind = ends["linear_counterfactual"], ends["linear_blind"]
    name = "related-dpt"
    rows = Rows(name, "Lee et al. (2023), arXiv:2306.14892", study["settings"], stored(study))
    items = [
        *(
            rows.related(
                f"regret-at-500/{agent}",
                "the regret of an independent implementation",
                ends[agent],
                sampled(reference, error=error),
            )
            for agent, (reference, error) in REFERENCE.items()
        ),
        rows.related(
            "regret-at-500/network-by-its-own-episodes",
            "a network that has converged has the regret of Thompson sampling, which it imitates",
            own,
            sampled(ends["thompson"].value, error=ends["thompson"].standard_error),
        ),
        rows.related(
            "regret-at-500/network-by-their-policy",
            "a network that has converged has the regret of Thompson sampling, which it imitates",
            blind,
            sampled(ends["thompson"].value, error=ends["thompson"].standard_error),
        ),
        rows.related(
            "regret-at-500/saved-by-own-episodes",
            "with equal numbers of updates, own episodes teach more than those of the other policy",
            Measured(blind.value - own.value, float(np.hypot(blind.standard_error, own.standard_error))),
            at_least(0, errors=4),
        ),
    ]
    text = [
        "Lee et al. (2023, arXiv:2306.14892) pretrain a transformer to predict the best action from data of a policy "
        "that does not depend on the task. In the paper's terms this is counterfactual teaching in episodes of another "
        "policy, `Blind(policy)`; `Counterfactual()` uses the agent's own episodes. The bandit has five arms with "
        "uniform means and Gaussian noise. The exact imitator of an expert who names the best arm is Thompson "
        "sampling. Listed is the cumulative regret over 500 rounds.",
        "The networks of this budget have not converged. The published network was not trained here.",
        origin(study),
    ]
    caption = "Cumulative regret, mean over 2,000 bandits."
    title = "Related work: the bandit of decision-pretrained transformers"
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
