"""Figures 1 to 3: drawn from the models, and checked against their captions."""

import numpy as np

from undelude._paper import figures
from undelude._paper.blocks.models import OBSERVED, frog, game, refusal
from undelude._paper.game_tree import extensive_form
from undelude._paper.item import Block, Settings, equal, holds


def figure_1(settings: Settings) -> Block:
    """Draw and check Figure 1, the prize-or-frog problem."""
    model = frog()
    moves = [node for node in extensive_form(model.variables, model.names) if len(node.moves) > 1]
    taken = [node for node in moves if node.is_possible]
    arrows = [f"{parent} -> {name}" for name, parents in model.graph.items() for parent in parents]
    expected = {"Theta -> A", "Theta -> O", "A -> O"}
    text = [
        "Panel a is the tree of all values of the variables of a `CausalModel`: a branch is solid if its conditional "
        "probability is positive, and dotted if it is 0. Panel b is the graph of the same model.",
    ]
    captions = (
        "Figure 1a: the two configurations. Solid: possible given the moves before it; dotted: impossible. A solid "
        "branch may follow a dotted one: two of the leaves at solid branches have probability 0.",
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
    """Draw and check Figure 2, the flow of information."""
    model = frog()
    panels = {
        "a": ({"given": ()}, "A <- Theta -> O; A -> O", "conditioning on A also gives evidence about its causal past"),
        "b": ({"do": "A"}, "A -> O", "intervening on A gives evidence about its causal future only"),
        "c": ({"given": "Theta"}, "A -> O", "given Theta, the path through it is blocked"),
    }
    items = []
    for panel, (query, expected, paper) in panels.items():
        paths = "; ".join(str(path) for path in model.paths("A", "O", **query) if path.is_open)
        items.append(holds(f"figure-2/{panel}/open-paths", paths, paper, paths == expected))
    after, before = (model.d_separated("Theta", "A", do=do) for do in ("A", ()))
    independent = f"{'independent' if after else 'dependent'}; before, {'independent' if before else 'dependent'}"
    items.append(holds("figure-2/b/Theta-and-A", independent, "independent after surgery", after and not before))
    text = [
        "The graph alone, without the tables, determines which paths between `A` and `O` are open: "
        "`CausalModel.paths` lists the paths after surgery, and the nodes that block them.",
    ]
    captions = (
        "Figure 2a: conditioning on the self-generated action lets information flow back to Theta.",
        "Figure 2b: intervening removes the arrow into A; information only flows forward.",
        "Figure 2c: if Theta is observed, the path through it is blocked: conditioning and intervening agree.",
    )
    drawn = list(zip(figures.figure_2(model), captions, strict=True))
    return Block("figure-2", "Figure 2: where information flows", text, items, drawn)


def figure_3(settings: Settings) -> Block:
    """Draw and check Figure 3, the game of two rounds and its marginal process."""
    model = game()
    marginal = model.marginal(OBSERVED)
    see, do = {"A_1": 1, "O_1": 1}, {"A_1": 1}
    reason = refusal(marginal, "A_2", do=do, see={"O_1": 1})
    conditional = model.query("A_2", see=see)
    kept = np.abs(marginal.query("A_2", see=see) - conditional).max()
    lost = np.abs(model.query("A_2", do=do, see={"O_1": 1}) - conditional).max()
    text = [
        "The game has six binary variables. Each depends on all variables before it, with random tables. Panel d is "
        "the marginal process, `model.marginal(...)`: the distribution of actions and observations, which any amount "
        "of recorded interactions without theta can determine at best. It predicts the expert's next action by "
        "conditioning. A query for the effect of an own action raises an error, because models with other hidden moves "
        "have the same marginal distribution and another answer. The error message is below the figure.",
    ]
    captions = (
        "Figure 3a: the game in extensive form; nodes of an information set have the same marker.",
        "Figure 3b: its causal Bayesian network.",
        "Figure 3c: the network after interventions on the actions.",
        "Figure 3d: the game of the marginal process.",
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
            "the interventional answer is not the conditional",
            lost > 0.01,
            ours=True,
        ),
    ]
    drawn = list(zip(figures.figure_3(model), captions, strict=True))
    return Block("figure-3", "Figure 3: a game of two rounds", text, items, drawn, reason)
