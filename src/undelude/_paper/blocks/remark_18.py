"""Remark 18: the loss of observations is optional, exactly; and for a network, by stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._certificate.replicates import interval
from undelude._drawing.colours import DO, MUTED
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks import limits
from undelude._paper.criterion import at_least, at_most, near
from undelude._paper.item import Block, Rows, Settings
from undelude._paper.results import load, origin, stored


def block(settings: Settings) -> Block:
    """Compare three weights of the observation loss."""
    study = load("remark_18")
    weights = sorted({row["observation_weight"] for row in study["runs"]})
    actions, observations = (
        {w: [row[q] for row in study["runs"] if row["observation_weight"] == w] for w in weights}
        for q in ("action_kl_do", "observation_kl_do")
    )
    intervals = [interval(actions[w]) for w in weights]
    # `limits.limit` has a derivative for each of the two losses.
    done = list(limits.histories(1))
    learned = limits.limit(0.0).P_A[[h.index for h in done]]
    exact = Rows("remark-18", "Remark 18, p. 13", limits.PARAMETERS)
    rows = Rows("remark-18", "Remark 18, p. 13", study["settings"], stored(study))
    least, most = weights[0], weights[-1]
    items = [
        exact.paper(
            "minimum-of-the-action-loss-alone",
            '"training our model on the loss on f_A(m) might be enough": largest difference from Q(A | do(a), o)',
            np.abs(learned - np.stack([limits.answer_A(h) for h in done])).max(),
            near(0),
        ),
        rows.example(
            "network/KL-of-actions/weight-0",
            "the worst of three seeds, without the observation loss",
            max(actions[least]),
            at_most(0.006),
        ),
        rows.example(
            "network/KL-of-actions/gap-between-intervals",
            "the weight makes no difference beyond that between seeds: the 95 % intervals of all weights overlap",
            max(x.low for x in intervals) - min(x.high for x in intervals),
            at_most(0),
        ),
        rows.example(
            "network/KL-of-observations/weight-0-over-weight-1",
            "it improves the prediction of observations: the best seed without it over the worst with it",
            min(observations[least]) / max(observations[most]),
            at_least(10),
        ),
    ]
    text = [
        "In the small process of Appendix A, the minimum of the action loss alone is compared with surgery on the "
        "graph.",
        f"Then the same network was taught on the bandit with weights {', '.join(f'{w:g}' for w in weights)} of the "
        "observation loss, with the same number of updates and three seeds each. With finite size and time a shared "
        '"auxiliary loss" could help; at this budget it does not.',
        origin(study),
    ]
    caption = "KL(interventional ‖ network), nats per action, by the weight of the observation loss; dots are seeds."
    figure = _weights_figure(weights, actions)
    return Block("remark-18", "Remark 18: is the observation loss needed?", text, items, [(figure, caption)])


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
