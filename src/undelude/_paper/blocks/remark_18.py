"""Remark 18: the loss of observations is optional; stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._certificate.replicates import interval
from undelude._drawing.colours import DO, MUTED
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, holds
from undelude._paper.results import load, origin


def block(settings: Settings) -> Block:
    """Compare three weights of the observation loss."""
    study = load("remark_18")
    weights = sorted({row["observation_weight"] for row in study["runs"]})
    actions, observations = (
        {w: [row[q] for row in study["runs"] if row["observation_weight"] == w] for w in weights}
        for q in ("action_kl_do", "observation_kl_do")
    )
    intervals = [interval(actions[w]) for w in weights]
    overlap = max(x.low for x in intervals) <= min(x.high for x in intervals)
    name = "remark-18"
    items = [
        holds(
            f"{name}/KL-of-actions/weight-0",
            intervals[0].mean,
            "training on the action loss might be enough: no worse than the others",
            intervals[0].mean < 0.006 and overlap,
        ),
        holds(
            f"{name}/KL-of-actions/by-weight",
            [x.mean for x in intervals],
            "the observation loss could be a useful auxiliary loss: here no difference beyond seeds",
            overlap,
            ours=True,
        ),
        holds(
            f"{name}/KL-of-observations/by-weight",
            [float(np.mean(observations[w])) for w in weights],
            "it improves the prediction of observations",
            np.mean(observations[weights[0]]) > 10 * np.mean(observations[weights[-1]]),
            ours=True,
        ),
    ]
    text = [
        f"The same network on the bandit with weights {', '.join(f'{w:g}' for w in weights)} of the observation loss, "
        "with the same number of updates and three seeds each.",
        origin(study, "of three seeds each, with 95 % intervals"),
    ]
    caption = "KL(interventional ‖ network), nats per action, by the weight of the observation loss; dots are seeds."
    figure = _weights_figure(weights, actions)
    return Block(name, "Remark 18: is the observation loss needed?", text, items, [(figure, caption)])


def _weights_figure(weights: list[float], actions: dict[float, list[float]]) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.9), layout="constrained")
        axes = figure.subplots()
        for y, w in enumerate(weights):
            x = interval(actions[w])
            axes.plot([x.low, x.high], [y, y], color=MUTED, lw=1)
            axes.plot(actions[w], [y] * len(actions[w]), "o", color=DO, ms=5, mew=0)
        axes.set(ylim=(len(weights) - 0.5, -0.5), xlim=(0, None), title="KL(interventional ‖ network), nats per action")
        axes.set_yticks(range(len(weights)), [f"weight {w:g}" for w in weights])
        words = "; ".join(f"weight {w:g}: {np.mean(actions[w]):.4f}" for w in weights)
        return to_figure(figure, "weights", f"KL divergences by weight, mean of three seeds. {words}.")
