"""Figures 1 to 3 are drawn from the model: tree, information sets, arrows and paths of information."""

import itertools
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import pytest

import undelude as ud
from undelude._drawing.beliefs import belief_plot
from undelude._drawing.colours import VARIABLES
from undelude._drawing.dag import RADIUS, draw_dag, route
from undelude._drawing.panel import Panel
from undelude._drawing.svg import Svg, symbol
from undelude._paper.figures import figure_1, figure_2, figure_3
from undelude._paper.game_tree import Node, children, extensive_form, information_sets
from undelude._paper.tree_drawing import draw_tree
from undelude.causal._graphs import graph
from undelude.causal._mixed.layout import layout
from undelude.causal._names import Parents

GAME = ("Theta_1", "A_1", "O_1", "Theta_2", "A_2", "O_2")
THETAS, ACTIONS, SEEN = ("Theta_1", "Theta_2"), ("A_1", "A_2"), ("A_1", "O_1", "A_2", "O_2")
FROG = {"Theta": (), "A": ("Theta",), "O": ("Theta", "A")}


@pytest.fixture(scope="module")
def frog() -> ud.CausalModel:
    right = np.eye(2)
    return ud.CausalModel(
        [
            ud.Variable("Theta", (1, 2), table=[0.5, 0.5]),
            ud.Variable("A", (1, 2), parents=("Theta",), table=right),
            ud.Variable("O", (-1, 1), parents=("Theta", "A"), table=np.stack([1 - right, right], -1)),
        ]
    )


@pytest.fixture(scope="module")
def game() -> ud.CausalModel:
    """A game in which each variable depends on all before it; some moves have probability 0."""
    rng = np.random.default_rng(0)
    variables = []
    for i, name in enumerate(GAME):
        p = rng.uniform(0.1, 0.9, [2] * i)
        p = np.where(rng.random([2] * i) < 0.2, 0.0, p) if i > 1 else p
        variables.append(ud.Variable(name, (0, 1), parents=GAME[:i], table=np.stack([1 - p, p], -1)))
    return ud.CausalModel(variables)


def joint(model: ud.CausalModel, names: tuple[str, ...]) -> dict[tuple, float]:
    """Return the joint distribution of some variables, by summing over histories."""
    total: dict[tuple, float] = {}
    tables = {v.name: np.asarray(v.table) for v in model.variables}
    values_of = {v.name: v.values for v in model.variables}
    for values in itertools.product(*values_of.values()):
        at = dict(zip(model.graph, values, strict=True))
        p = math.prod(
            tables[child][tuple(values_of[name].index(at[name]) for name in (*parents, child))]
            for child, parents in model.graph.items()
        )
        key = tuple(at[name] for name in names)
        total[key] = total.get(key, 0.0) + p
    return total


def history(node: Node) -> tuple:
    return tuple(value for _, value in node.moves)


def elements(figure: Svg, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(figure.svg).iter(tag))


def styles(figure: Svg) -> list[str]:
    return [path.attrib.get("style", "") for path in elements(figure, "path")]


def texts(figure: Svg) -> list[str]:
    return [element.text or "" for element in elements(figure, "text")]


def dotted(figure: Svg) -> int:
    return sum("stroke-dasharray" in style for style in styles(figure))


# The tree -----------------------------------------------------------------------------------------------------------


def test_ends_have_the_joint_distribution(game: ud.CausalModel) -> None:
    ends = {history(node): node.reach for node in extensive_form(game.variables, GAME) if node.next is None}
    expected = joint(game, GAME)
    assert len(ends) == 64
    assert ends.keys() == expected.keys()
    np.testing.assert_allclose([ends[key] for key in expected], list(expected.values()), atol=1e-6)


def test_marginal_tree_has_conditional_probabilities(game: ud.CausalModel) -> None:
    nodes = extensive_form(game.variables, SEEN)
    assert sum(node.next is None for node in nodes) == 16
    marginals = [joint(game, SEEN[:n]) for n in range(5)]
    for node in nodes[1:]:
        n = len(node.moves)
        expected = marginals[n][history(node)] / marginals[n - 1][history(node)[:-1]]
        assert node.probability == pytest.approx(expected, abs=1e-5)


def test_reversed_tree_has_the_posterior(frog: ud.CausalModel) -> None:
    belief = {history(node): node.probability for node in extensive_form(frog.variables, ("A", "Theta"))}
    assert belief[1, 1] == 1
    assert belief[1, 2] == 0
    assert belief[2, 2] == 1


def test_mechanism_after_impossible_move(frog: ud.CausalModel) -> None:
    causal = {history(node): node.probability for node in extensive_form(frog.variables, ("Theta", "A", "O"))}
    assert causal[1, 2, -1] == 1  # the expert never opens this box, but its content is defined
    marginal = {history(node): node.probability for node in extensive_form(frog.variables, ("A", "O", "Theta"))}
    assert marginal[1, -1] == 0
    assert marginal[1, -1, 1] is None


def test_reach_is_product_of_branches() -> None:
    rng = np.random.default_rng(1)
    parents = {"X": (), "Y": (), "Z": ("Y", "X"), "V": ("Z", "X"), "W": ("V", "X", "Y")}
    size = {"X": 2, "Y": 3, "Z": 2, "V": 3, "W": 2}
    variables = [
        ud.Variable(name, range(size[name]), above, table=rng.dirichlet(np.ones(size[name]), [size[p] for p in above]))
        for name, above in parents.items()
    ]
    nodes = extensive_form(variables, tuple(parents))
    probability = {node.moves: node.probability for node in nodes}
    for node in nodes:
        way = [probability[node.moves[:n]] for n in range(len(node.moves) + 1)]
        assert math.prod(way) == pytest.approx(node.reach, abs=1e-6)


def test_unknown_variable_named(frog: ud.CausalModel) -> None:
    with pytest.raises(ValueError, match=r"'B' is not in the game; it has Theta, A, O"):
        extensive_form(frog.variables, ("Theta", "B"))


def test_information_sets_are_states_with_equal_memories(game: ud.CausalModel) -> None:
    nodes = extensive_form(game.variables, GAME, hidden=THETAS)
    found = {key: {history(node) for node in states} for key, states in information_sets(nodes, ACTIONS).items()}
    # Of theta_1, a_1, o_1, theta_2 the agent remembers a_1 and o_1.
    expected = {("A_1", ()): {(0,), (1,)}}
    for a, o in itertools.product((0, 1), repeat=2):
        memory = (("A_1", a), ("O_1", o))
        expected["A_2", memory] = {(i, a, o, j) for i in (0, 1) for j in (0, 1)}
    assert found == expected


def test_marginal_game_has_one_state_per_set(game: ud.CausalModel) -> None:
    whole = information_sets(extensive_form(game.variables, GAME, hidden=THETAS), ACTIONS)
    left = information_sets(extensive_form(game.variables, SEEN), ACTIONS)
    assert list(whole) == list(left)
    assert {len(states) for states in left.values()} == {1}
    for key, (state,) in left.items():
        assert sum(node.reach for node in whole[key]) == pytest.approx(state.reach, abs=1e-6)


def test_visible_moves_separate_states(game: ud.CausalModel) -> None:
    sets = information_sets(extensive_form(game.variables, GAME), ACTIONS)
    assert {len(states) for states in sets.values()} == {1}


def test_every_state_has_one_parent(game: ud.CausalModel) -> None:
    nodes = extensive_form(game.variables, GAME)
    below = children(nodes)
    assert Counter(len(found) for found in below.values()) == {2: 63, 0: 64}
    assert {node for found in below.values() for node in found} == set(nodes[1:])


# Its drawing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [GAME, SEEN], ids=["whole", "marginal"])
def test_dotted_branches_have_probability_zero(game: ud.CausalModel, order: tuple[str, ...]) -> None:
    nodes = extensive_form(game.variables, order)
    never = sum(node.probability == 0 for node in nodes)
    assert dotted(draw_tree(nodes)) == never
    assert (never > 0) == (order == GAME)


def test_figure_1a_dotted_branch(frog: ud.CausalModel) -> None:
    tree = figure_1(frog)[0]
    # In each of two configurations: the other box, and the other content of each box.
    assert dotted(tree) == 6
    assert "6 of its 14 branches have probability 0" in tree.alt
    assert "Θ = 1, A = 1, O = 1: .50; Θ = 2, A = 2, O = 1: .50." in tree.alt


def test_states_bear_number_of_their_set(game: ud.CausalModel) -> None:
    tree = figure_3(game)[0]
    numbers = Counter(text for text in texts(tree) if text.isdigit())
    # One more of each in the legend.
    assert numbers == {"1": 2 + 1, "2": 4 + 1, "3": 4 + 1, "4": 4 + 1, "5": 4 + 1}
    assert "A₂ after A₁ = 0, O₁ = 1" in texts(tree)


def test_marginal_game_has_same_legend(game: ud.CausalModel) -> None:
    whole, _, _, left = figure_3(game)

    def legend(figure: Svg) -> list[str]:
        return [text for text in texts(figure) if " after " in text]

    assert legend(whole) == legend(left)
    assert len(legend(whole)) == 4


# Networks -----------------------------------------------------------------------------------------------------------


def random_graph(seed: int, size: int = 7) -> dict[str, tuple[str, ...]]:
    rng = np.random.default_rng(seed)
    names = [f"X_{i}" for i in range(size)]
    return {name: tuple(n for n in names[:i] if rng.random() < 0.4) for i, name in enumerate(names)}


GRAPHS = [FROG, {name: GAME[:i] for i, name in enumerate(GAME)}, *map(random_graph, range(4))]


@pytest.mark.parametrize("model", GRAPHS)
def test_every_arrow_is_drawn(model: Parents) -> None:
    heads = [style for style in styles(draw_dag(Panel(model))) if "fill: var(--ink)" in style]
    assert len(heads) == sum(map(len, model.values()))


def test_surgery_removes_arrows(game: ud.CausalModel) -> None:
    after = draw_dag(Panel(game.graph, done=ACTIONS))
    heads = [style for style in styles(after) if "fill: var(--ink)" in style]
    assert len(heads) == sum(map(len, graph.mutilate(game.graph, ACTIONS).values())) == 10
    assert {"do(A₁)", "do(A₂)"} <= set(texts(after))
    assert "Surgery removed Θ₁ → A₁" in after.alt


@pytest.mark.parametrize("model", GRAPHS)
def test_arrows_pass_clear_of_other_nodes(model: Parents) -> None:
    places = {name: np.array(place) * (84.0, 72.0) for name, place in layout(model).items()}
    assert len({tuple(place) for place in places.values()}) == len(model)
    for child, parents in model.items():
        for parent in parents:
            others = [place for name, place in places.items() if name not in (parent, child)]
            line = route(places[parent], places[child], np.array(others), np.zeros(2))
            np.testing.assert_allclose(line[[0, -1]], [places[parent], places[child]])
            assert all(np.linalg.norm(line - other, axis=1).min() > RADIUS for other in others), (parent, child)


def test_frog_layout_of_the_paper() -> None:
    place = layout(FROG)
    assert place["Theta"][1] < place["A"][1] == place["O"][1]  # rows count downwards
    assert place["A"][0] < place["Theta"][0] < place["O"][0]


def test_rounds_are_ordered_below_thetas(game: ud.CausalModel) -> None:
    place = layout(game.graph, THETAS)
    assert sorted(SEEN, key=lambda name: place[name]) == list(SEEN)
    assert place["A_1"] < place["Theta_1"] < place["O_1"] < place["A_2"] < place["Theta_2"] < place["O_2"]
    assert {place[name][1] for name in THETAS} == {0}


def test_figure_2_paths(frog: ud.CausalModel) -> None:
    seen, done, both = figure_2(frog)
    assert "Information flows along A ← Θ → O. Information flows along A → O." in seen.alt
    assert "blocked" not in seen.alt
    assert "Surgery removed Θ → A. Information flows along A → O." in done.alt
    assert "A ← Θ → O" not in done.alt
    assert "A ← Θ → O is blocked at Θ. Information flows along A → O." in both.alt


def test_blocked_paths_are_dashed(frog: ud.CausalModel) -> None:
    seen, _, both = figure_2(frog)

    def flows(figure: Svg) -> Counter:
        """Count arrow heads (open paths) and dashes (blocked paths), with those of the legend."""
        return Counter(
            f"{kind} {colour}"
            for style in styles(figure)
            for colour in ("do", "see")
            for kind, sign in (("head", f"fill: var(--{colour})"), ("dashes", "stroke-dasharray"))
            if sign in style and f"var(--{colour})" in style
        )

    assert flows(seen) == {"head see": 2, "head do": 2}
    assert flows(both) == {"dashes see": 2, "head do": 2}


def test_roles_have_distinct_shapes(game: ud.CausalModel) -> None:
    after = figure_3(game)[2]
    # Plus one of each in the legend; an intervened variable has two outlines.
    assert dotted(after) == 2 + 1
    assert sum("fill: var(--rule)" in style for style in styles(after)) == 2 + 1
    assert sum("fill: none; stroke: var(--ink)" in style and "dash" not in style for style in styles(after)) >= 4 + 2
    assert "Latent: Θ₁ and Θ₂. Seen: O₁ and O₂. Done: A₁ and A₂." in after.alt


# Beliefs ------------------------------------------------------------------------------------------------------------


def test_belief_plot_marks_pulls_and_truth() -> None:
    rng = np.random.default_rng(0)
    belief = rng.dirichlet(np.ones(3), size=9)
    actions, rewards = rng.integers(3, size=8), np.array([0, 1, 1, 0, 1, 0, 0, 0.0])
    figure = belief_plot(belief, 2, actions, rewards, own_actions="see")
    halos = Counter(re.findall(r"fill: var\(--(ink|paper)\); stroke: var\(--paper\)", figure.svg))
    assert halos == {"ink": 3, "paper": 5}  # paid, and not
    assert len(re.findall(r"fill: none; stroke: var\(--ink\)", figure.svg)) == 1
    assert f"Arms pulled: {' '.join(str(a + 1) for a in actions)}." in figure.alt
    assert f"the truth has probability {belief[-1, 2]:.2f}" in figure.alt


# All of them --------------------------------------------------------------------------------------------------------


def test_figures_have_text_and_page_colours(frog: ud.CausalModel, game: ud.CausalModel) -> None:
    for figure in (*figure_1(frog), *figure_2(frog), *figure_3(game)):
        assert not any(placeholder in figure.svg for placeholder in VARIABLES)
        assert ET.fromstring(figure.svg).attrib["aria-label"] == figure.alt
        names = {name for name in ("Θ", "A", "O", "A₁", "O₂", "Θ₂") if re.search(rf"{name}\b", figure.alt)}
        assert len(names) >= 2
        assert names <= set(re.findall(r"[ΘAO][₁₂]?", " ".join(texts(figure))))


def test_symbols_have_subscripts() -> None:
    assert [symbol(name) for name in ("Theta", "Theta_12", "A_1", "W", "lucky")] == ["Θ", "Θ₁₂", "A₁", "W", "lucky"]
