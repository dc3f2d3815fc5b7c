"""Drawings of Figures 1 to 4; those of Figures 1 to 3 are drawn from causal models."""

from undelude._drawing.dag import draw_dag
from undelude._drawing.panel import Panel
from undelude._drawing.svg import Svg, symbol
from undelude._paper.computation_drawing import PANELS, draw_computation
from undelude._paper.game_tree import extensive_form, information_sets
from undelude._paper.tree_drawing import draw_tree
from undelude.causal._graphs.graph import topological_order
from undelude.causal._model.model import CausalModel


def figure_1(frog: CausalModel) -> list[Svg]:
    """Draw the prize-or-frog problem.

    Args:
        frog: a model of three variables: configuration, action, observation.

    Returns:
        a) the tree of both configurations, b) the causal Bayesian network.
    """
    order = topological_order(frog.graph)
    tree = extensive_form(frog.variables, order)
    return [
        draw_tree(tree, title="a  possible and impossible moves"),
        draw_dag(Panel(frog.graph, "b  causal Bayesian network")),
    ]


def figure_2(frog: CausalModel) -> list[Svg]:
    """Draw the paths on which information about the action flows to the observation.

    Args:
        frog: a model of three variables: configuration, action, observation.

    Returns:
        a) conditioning on the action, b) intervening on it, c) conditioning on the configuration and the action.
    """
    theta, a, o = topological_order(frog.graph)
    panels = [
        Panel(frog.graph, f"a  {symbol(a)} is seen", latent=(theta,), seen=(a,), paths=tuple(frog.graph.paths(a, o))),
        Panel(
            frog.graph, f"b  {symbol(a)} is done", latent=(theta,), done=(a,), paths=tuple(frog.graph.paths(a, o, do=a))
        ),
        Panel(
            frog.graph,
            f"c  {symbol(theta)} and {symbol(a)} are seen",
            seen=(theta, a),
            paths=tuple(frog.graph.paths(a, o, see=theta)),
        ),
    ]
    return [draw_dag(panel) for panel in panels]


def figure_3(game: CausalModel) -> list[Svg]:
    """Draw the game of two rounds.

    Args:
        game: a model of variables `Theta_t`, `A_t` and `O_t`, or of a single `Theta`.

    Returns:
        a) the extensive form, with the information sets of an agent that does not observe the thetas, b) the causal
        Bayesian network, c) the network after interventions on the actions, d) the game of the marginal process.
    """
    order = topological_order(game.graph)
    thetas, actions, observations = (
        tuple(name for name in order if name.partition("_")[0] == stem) for stem in ("Theta", "A", "O")
    )
    whole = extensive_form(game.variables, order, hidden=thetas)
    left = extensive_form(game.variables, [name for name in order if name not in thetas])
    after = Panel(game.graph, "c  after interaction", latent=thetas, done=actions, seen=observations, above=thetas)
    return [
        draw_tree(whole, title="a  extensive form", sets=information_sets(whole, actions)),
        draw_dag(Panel(game.graph, "b  causal Bayesian network", above=thetas)),
        draw_dag(after),
        draw_tree(left, title="d  marginal process", sets=information_sets(left, actions)),
    ]


def figure_4() -> list[Svg]:
    """Draw the computation graph of meta-training: a) initialization, b) observation step, c) action step."""
    return [draw_computation(panel) for panel in PANELS]
