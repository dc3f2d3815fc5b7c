"""Figures 1 to 3: drawn from the models, and checked against their captions."""

import numpy as np

from undelude._paper import figures
from undelude._paper.blocks.models import OBSERVED, frog, game, refusal
from undelude._paper.criterion import at_least, equal, near
from undelude._paper.game_tree import extensive_form
from undelude._paper.item import Block, Rows, Settings


def figure_1(settings: Settings) -> Block:
    """Draw and check Figure 1, the prize-or-frog problem."""
    model = frog()
    moves = [node for node in extensive_form(model.variables, model.names) if len(node.moves) > 1]
    taken = [node for node in moves if node.is_possible]
    arrows = [f"{parent} -> {name}" for name, parents in model.graph.items() for parent in parents]
    text = [
        "Panel a is the tree of all values of the variables of a `CausalModel`: a branch is solid if its conditional "
        "probability is positive, and dotted if it is 0. Panel b is the graph of the same model.",
    ]
    captions = (
        "Figure 1a: the two configurations. Solid: possible given the moves before it; dotted: impossible. A solid "
        "branch may follow a dotted one: two of the leaves at solid branches have probability 0.",
        "Figure 1b: the causal Bayesian network.",
    )
    rows = Rows("figure-1", "Figure 1a, p. 3", {"model": "prize or frog"})
    items = [
        rows.paper(
            "probability-of-each-move-taken",
            '"Solid transitions are deterministic (taken with probability one)"',
            [node.probability for node in taken],
            near([1] * len(taken)),
        ),
        rows.paper(
            "number-of-moves-not-taken",
            '"dotted ones are possible transitions that aren\'t taken": six are drawn',
            len(moves) - len(taken),
            near(6, 0),
        ),
        rows.paper(
            "arrows",
            '"Theta causally precedes A and O, and A precedes O (Figure 1b)"',
            "; ".join(arrows),
            equal("Theta -> A; Theta -> O; A -> O"),
            "Section 2, p. 4; Figure 1b",
        ),
    ]
    drawn = list(zip(figures.figure_1(model), captions, strict=True))
    return Block("figure-1", "Figure 1: prize or frog", text, items, drawn)


def figure_2(settings: Settings) -> Block:
    """Draw and check Figure 2, the flow of information."""
    model = frog()
    panels = {
        "a": (
            {"see": ()},
            "A <- Theta -> O; A -> O",
            'conditioning gives "evidence about the causal future, but erroneously also about the causal past"',
        ),
        "b": ({"do": "A"}, "A -> O", '"no information can flow backwards from A into Theta"'),
        "c": ({"see": "Theta"}, "A -> O", '"The upward flow of information is blocked"'),
    }
    places = {"a": "Section 2, p. 5; Figure 2a", "b": "Figure 2b, p. 5", "c": "Section 2, p. 6; Figure 2c"}
    rows = Rows("figure-2", "Figure 2, p. 5", {"model": "the graph of prize or frog"})
    items = []
    for panel, (query, expected, claim) in panels.items():
        paths = "; ".join(str(path) for path in model.graph.paths("A", "O", **query) if path.is_open)
        items.append(rows.paper(f"{panel}/open-paths", claim, paths, equal(expected), places[panel]))
    after, before = (model.graph.d_separated("Theta", "A", do=do) for do in ("A", ()))
    independent = f"{'independent' if after else 'dependent'}; before, {'independent' if before else 'dependent'}"
    items.append(
        rows.paper(
            "b/Theta-and-A",
            "Theta is independent of A after surgery",
            independent,
            equal("independent; before, dependent"),
            "Section 2, p. 5",
        )
    )
    text = [
        "The graph alone, without the tables, determines which paths between `A` and `O` are open: "
        "`Graph.paths` lists the paths after surgery, and the nodes that block them.",
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
    rows = Rows("figure-3", "Figure 3d, p. 8", {"game": "six binary variables, tables from seed 139"})
    items = [
        rows.paper(
            "d/the-effect-of-an-own-action",
            '"causally insufficient for evaluating the effects of interventional actions": the query is refused',
            reason.partition(" from ")[0],
            equal("P(A_2 | do(A_1), O_1) cannot be computed"),
        ),
        rows.example(
            "d/largest-difference/see-and-see-with-theta-in-the-model",
            "conditioning needs the marginal process only",
            kept,
            near(0),
        ),
        rows.example(
            "d/largest-difference/do-and-see", "the interventional answer is not the conditional", lost, at_least(0.01)
        ),
    ]
    drawn = list(zip(figures.figure_3(model), captions, strict=True))
    return Block("figure-3", "Figure 3: a game of two rounds", text, items, drawn, reason)
