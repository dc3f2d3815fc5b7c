"""Figures 1 to 4: drawn from the models and from the code, and checked against what their captions say."""

import numpy as np

from undelude._paper import figures
from undelude._paper.blocks.models import OBSERVED, frog, game, refusal
from undelude._paper.game_tree import extensive_form
from undelude._paper.item import Block, Settings, equal, holds


def figure_1(settings: Settings) -> Block:
    """The prize-or-frog problem."""
    model = frog()
    moves = [node for node in extensive_form(model.variables, model.names) if len(node.moves) > 1]
    taken = [node for node in moves if node.is_possible]
    arrows = [f"{parent} -> {name}" for name, parents in model.graph.items() for parent in parents]
    expected = {"Theta -> A", "Theta -> O", "A -> O"}
    text = [
        "Panel a is the tree of everything that the tables of `CausalModel` allow: a branch is solid where its "
        "probability is above zero, dotted where it is zero. Panel b is the graph of the same model.",
    ]
    captions = (
        "Figure 1a: the two configurations. Solid: possible after the moves before it; dotted: not. A branch "
        "after a dotted one may be solid: two of the ends at solid branches have probability 0 overall.",
        "Figure 1b: the causal Bayesian network.",
    )
    items = [
        equal(
            "figure-1/probability-of-each-move-taken",
            [node.probability for node in taken],
            [1] * len(taken),
            "deterministic",
        ),
        equal("figure-1/number-of-moves-not-taken", len(moves) - len(taken), 6, "6 dotted branches"),
        holds("figure-1/arrows", "; ".join(arrows), "Theta precedes A and O, A precedes O", set(arrows) == expected),
    ]
    drawn = list(zip(figures.figure_1(model), captions, strict=True))
    return Block("figure-1", "Figure 1: prize or frog", text, items, drawn)


def figure_2(settings: Settings) -> Block:
    """Where information flows."""
    model = frog()
    panels = {
        "a": ({"given": ()}, "A <- Theta -> O; A -> O", "seen, A also tells about its past"),
        "b": ({"do": "A"}, "A -> O", "done, A tells only about what comes after it"),
        "c": ({"given": "Theta"}, "A -> O", "given Theta, the way through it is blocked"),
    }
    items = []
    for panel, (query, expected, paper) in panels.items():
        paths = "; ".join(str(path) for path in model.paths("A", "O", **query) if path.is_open)
        items.append(holds(f"figure-2/{panel}/open-paths", paths, paper, paths == expected))
    after, before = (model.d_separated("Theta", "A", do=do) for do in ("A", ()))
    independent = f"{'independent' if after else 'dependent'}; before, {'independent' if before else 'dependent'}"
    items.append(holds("figure-2/b/Theta-and-A", independent, "independent after surgery", after and not before))
    text = [
        "Which paths between `A` and `O` carry information follows from the graph alone, without the tables: "
        "`CausalModel.paths` lists them after surgery, and where each is blocked.",
    ]
    captions = (
        "Figure 2a: conditioning on the own action lets information flow back into Theta.",
        "Figure 2b: doing it cuts the arrow; what is left flows forward.",
        "Figure 2c: where Theta is seen, the way through it is blocked: see and do agree.",
    )
    drawn = list(zip(figures.figure_2(model), captions, strict=True))
    return Block("figure-2", "Figure 2: where information flows", text, items, drawn)


def figure_3(settings: Settings) -> Block:
    """The game of two rounds, and what is left of it for who sees no theta."""
    model = game()
    marginal = model.marginal(OBSERVED)
    see, do = {"A_1": 1, "O_1": 1}, {"A_1": 1}
    reason = refusal(marginal, "A_2", do=do, see={"O_1": 1})
    conditional = model.query("A_2", see=see)
    kept = np.abs(marginal.query("A_2", see=see) - conditional).max()
    lost = np.abs(model.query("A_2", do=do, see={"O_1": 1}) - conditional).max()
    text = [
        "The game has six binary variables, each of which listens to all that came before it, with tables drawn at "
        "random. Panel d is the marginal process, `model.marginal(...)`: what somebody has who recorded every action "
        "and observation, however many, and never a theta. It still predicts the next action of the expert from what "
        "was seen. Asked for the effect of an own action it refuses, because models with other hidden moves would "
        "have left the same records and would answer otherwise. Below the figure is the refusal, with its reason.",
    ]
    captions = (
        "Figure 3a: the game in extensive form; what the agent cannot tell apart is marked alike.",
        "Figure 3b: its causal Bayesian network.",
        "Figure 3c: the network once the actions were done.",
        "Figure 3d: the game of who sees no theta.",
    )
    answer = "refused: not identifiable" if reason else "answered"
    items = [
        equal(
            "figure-3/d/largest-difference/see-and-see-with-theta-in-the-model",
            kept,
            0,
            "conditioning needs the marginal only",
        ),
        holds("figure-3/d/the-effect-of-an-own-action", answer, "incapable of evaluating interventions", reason),
        holds(
            "figure-3/d/largest-difference/do-and-see",
            lost,
            "the right answer is not the conditional",
            lost > 0.01,
            ours=True,
        ),
    ]
    drawn = list(zip(figures.figure_3(model), captions, strict=True))
    return Block("figure-3", "Figure 3: a game of two rounds", text, items, drawn, reason)
