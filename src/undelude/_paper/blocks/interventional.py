"""Interventional fine-tuning (de Freitas and Ortega, 2026), by the writer of the transcripts."""

import dataclasses

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, INK, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.dialogues import WORLDS, interval
from undelude._paper.criterion import at_most, near
from undelude._paper.item import Block, Rows, Settings
from undelude._paper.results import load, origin, stored
from undelude.tasks.menu import YES

WRITERS = {"expert": 1.0, "own": 0.0}
NAME = "related-interventional"
PLACE = "de Freitas and Ortega (2026), Why it is important to understand causality and agency"
# Within which a network is right.
TOLERANCE = 0.02


def block(settings: Settings) -> Block:
    """Compare what is learned of the customer's reply from transcripts of the expert and from the agent's own."""
    study = load("interventional")
    items, names = [], {"default": "default replies", "crisp": "replies that are right, or none in half of the turns"}
    exact, found = {}, {}
    for world, dialogues in WORLDS.items():
        now = Rows(NAME, PLACE, dialogues.parameters)
        then = Rows(NAME, PLACE, study["settings"], stored(study))
        model = dataclasses.replace(dialogues, num_turns=1).process.causal_model()
        truth, seen = (float(model.query("O_1", **{how: {"A_1": 0}})[YES]) for how in ("do", "see"))
        exact[world] = {writer: dialogues.confirms(share) for writer, share in WRITERS.items()}
        found[world] = {
            writer: np.array([r["yes"] for r in study["rows"] if (r["world"], r["writer"]) == (world, writer)])
            for writer in WRITERS
        }
        items += [
            now.related(
                f"{world}/P(yes)/limit-own-transcripts",
                f"{names[world]}: from its own transcripts, written without theta, the agent learns P(yes | do(a))",
                exact[world]["own"],
                near(truth),
            ),
            now.related(
                f"{world}/P(yes)/limit-transcripts-of-the-expert",
                f"{names[world]}: from the expert's transcripts it learns P(yes | a); words that are left out of the "
                "loss are evidence all the same",
                exact[world]["expert"],
                near(seen),
            ),
            *(
                then.related(
                    f"{world}/network/P(yes)/{writer}",
                    f"{names[world]}: networks learn it, {'wrong' if writer == 'expert' else 'right'}; of three seeds "
                    "the largest distance from the limit",
                    np.abs(found[world][writer] - exact[world][writer]).max(),
                    at_most(TOLERANCE),
                )
                for writer in WRITERS
            ),
        ]
    text = [
        "Interventional fine-tuning (iSFT) leaves the agent's own words out of the loss, and in the history. It is the "
        "setting `Interventional()` of `ud.teach`: the loss of the actions has weight 0 and nothing is marked. What is "
        "learned about the customer's reply depends on who wrote the transcripts. If the writer was not shown theta, "
        "the agent learns `P(o | do(a))`, which is right. If an expert who has read the menu wrote them, the agent "
        "learns `P(o | a)`, and expects to be confirmed. To leave an expert's words out of the loss does not make "
        "interventions of them; marks do.",
        "Listed is the probability that the customer says yes to the first dish that the agent names itself, by "
        "queries to the causal model, in the limit of teaching, and for LSTMs. The first two agree in each row.",
        *(
            f"Networks, {names[world]}: "
            + "; ".join(
                f"{writer} transcripts {x.mean():.3f}, 95 % interval of the mean of three seeds "
                f"{interval(x)[0]:.3f} to {interval(x)[1]:.3f}, limit {exact[world][writer]:.2f}"
                for writer, x in found[world].items()
            )
            + "."
            for world in WORLDS
        ),
        origin(study),
    ]
    caption = "Probability of yes to the agent's own first dish: limits (bars) and networks of three seeds (points)."
    title = "Interventional fine-tuning, by the writer of the transcripts"
    return Block(NAME, title, text, items, [(_figure(exact, found), caption)])


def _figure(exact: dict[str, dict[str, float]], found: dict[str, dict[str, np.ndarray]]) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.0), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (world, limits) in zip(panels, exact.items(), strict=True):
            for y, (writer, x) in enumerate(limits.items()):
                axes.barh(y, x, color=SEE if writer == "expert" else DO, height=0.5, alpha=0.4)
                axes.plot(found[world][writer], [y] * len(found[world][writer]), "o", color=INK, ms=4, mew=0)
            axes.set(xlim=(0, 1), title={"default": "default replies", "crisp": "right replies or none"}[world])
        panels[0].set_yticks([0, 1], ["expert's", "own"])
        return to_figure(figure, "interventional", f"Probability of yes by the writer of the transcripts: {exact}.")
