"""Drawings of games in extensive form: possible moves solid, moves of probability 0 dotted, information sets marked."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, RegularPolygon

from undelude._drawing.colours import DO, INK, MUTED, OTHERS, PAPER, SEE
from undelude._drawing.svg import FONT, STYLE, WIDTH, Svg, symbol, to_figure
from undelude._paper.game_tree import Moves, Node, children

# Largest number of leaves with labels on the branches, and with a description of each.
MAX_LABELLED, MAX_TOLD = 16, 8
# Points; SPACED and DENSE are the distances between leaves with and without labels.
SPACED, DENSE, LEFT, RIGHT, HEADER, LINE, MARK = 16.0, 5.8, 8.0, 30.0, 20.0, 17.0, 6.2
DOTTED = (0, (0.9, 1.9))
COLOURS = (INK, DO, SEE, *OTHERS)
CORNERS = (0, 4, 3, 6, 5)

Key = tuple[str, Moves]
Sets = Mapping[Key, Sequence[Node]]


def draw_tree(nodes: Sequence[Node], *, title: str = "", sets: Sets | None = None) -> Svg:
    """Draw a tree with its root on the left; the nodes of an information set share colour, shape and number.

    Args:
        nodes: the result of `extensive_form`.
        title: the title of the panel.
        sets: the result of `information_sets`; the sets are numbered in their order.
    """
    sets = sets or {}
    below = children(nodes)
    order = _order(nodes)
    ends = [node for node in nodes if node.next is None]
    labelled = len(ends) <= MAX_LABELLED
    spacing, right = (SPACED, RIGHT) if labelled else (DENSE, LEFT)
    foot = LINE * (math.ceil(len(sets) / 2) + (not labelled)) + (6 if sets or not labelled else 0)
    head = HEADER * (2 if title else 1)
    size = np.array([72 * WIDTH, head + spacing * len(ends) + foot])
    column = (size[0] - LEFT - right) / max(len(order), 1)
    places = _places(below, ends, column, spacing, size[1] - head)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=tuple(size / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, size[0]), ylim=(0, size[1]))
        axes.axis("off")
        if title:
            axes.text(2, size[1] - 9, title, va="center", color=INK)
        for depth, name in enumerate(order):
            axes.text(
                LEFT + (depth + 0.62) * column, size[1] - head + HEADER / 2, symbol(name), ha="center", va="center"
            )
        marked = {node.moves: i for i, found in enumerate(sets.values()) for node in found}
        for node in nodes:
            _draw_state(axes, places[node.moves], marked.get(node.moves))
            for child in below[node.moves]:
                gap = MARK + 1 if node.moves in marked else 0.0
                end = MARK + 1 if child.moves in marked else 0.0
                _draw_move(axes, places[node.moves], places[child.moves], child, (gap, end), labelled)
        if labelled:
            look = {"ha": "right", "size": FONT - 0.5, "color": MUTED}
            axes.text(size[0] - 2, size[1] - head + HEADER / 2, "P", va="center", **look)
            for node in ends:
                axes.text(size[0] - 2, places[node.moves][1], written(node.reach), va="center_baseline", **look)
        else:
            values = [str(node.moves[-1][1]) for node in below[()]]
            legend = f"each fork from the top: {', '.join(values)}; line width is probability"
            axes.text(2, LINE / 2, legend, va="center_baseline", color=MUTED)
        for i, key in enumerate(sets):
            x, y = 2 + (i % 2) * size[0] / 2, foot - 6 - LINE * (i // 2 + 0.5)
            _draw_state(axes, (x + 8, y), i)
            axes.text(x + 20, y, _when(key), va="center_baseline", color=MUTED)
        return to_figure(figure, f"tree {title} {' '.join(order)}", describe(nodes, sets))


def _order(nodes: Sequence[Node]) -> list[str]:
    """Return the names of the variables in the order of play."""
    return [name for name, _ in max((node.moves for node in nodes), key=len)]


def _places(
    below: Mapping[Moves, Sequence[Node]], ends: Sequence[Node], column: float, spacing: float, top: float
) -> dict[Moves, tuple[float, float]]:
    """Place leaves at equal distances, and every other node in the middle of its children."""
    heights = {node.moves: top - (i + 0.5) * spacing for i, node in enumerate(ends)}
    for moves in sorted(below, key=len, reverse=True):
        if moves not in heights:
            heights[moves] = float(np.mean([heights[child.moves] for child in below[moves]]))
    return {moves: (LEFT + column * len(moves), y) for moves, y in heights.items()}


def _draw_state(axes: Axes, at: tuple[float, float], mark: int | None) -> None:
    if mark is None:
        axes.add_patch(Circle(at, 1.4, fc=MUTED, ec="none", zorder=3))
        return
    colour, corners = COLOURS[mark % len(COLOURS)], CORNERS[mark % len(CORNERS)]
    for look in ({"fc": PAPER, "ec": "none"}, {"fc": colour, "alpha": 0.2, "ec": "none"}, {"fc": "none", "ec": colour}):
        look: dict[str, Any] = {"lw": 1.5, "zorder": 3} | look
        if corners:
            # Polygons with few corners look smaller than a circle of the same radius.
            reach = {3: 1.45, 4: 1.3}.get(corners, 1.15)
            shape = RegularPolygon(at, corners, radius=reach * MARK, orientation=math.pi / corners * (corners == 4))
        else:
            shape = Circle(at, MARK)
        shape.set(**look)
        axes.add_patch(shape)
    axes.text(*at, str(mark + 1), ha="center", va="center_baseline", size=FONT - 1.5, zorder=4)


def _draw_move(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    node: Node,
    gaps: tuple[float, float],
    labelled: bool,
) -> None:
    """Draw a branch: an oblique part, then a horizontal one below the label."""
    (x, y), (u, v) = start, end
    bend = x + 0.3 * (u - x)
    look: dict[str, Any] = {"color": INK, "lw": 0.6 + 1.5 * (node.probability or 0.0), "solid_capstyle": "round"}
    if not node.is_possible:
        look = {"color": MUTED, "lw": 1.1, "ls": DOTTED, "dash_capstyle": "round"}
    aslant = np.array([bend - x, v - y])
    first = np.array([x, y]) + gaps[0] * aslant / np.linalg.norm(aslant)
    axes.plot([first[0], bend, u - gaps[1]], [first[1], v, v], zorder=2, **look)
    if labelled:
        text: dict[str, Any] = {"va": "bottom", "size": FONT - 0.5, "zorder": 4}
        axes.text(bend + 1, v + 1.2, value_written(node.moves[-1][1]), ha="left", **text)
        if node.is_possible and node.probability != 1:
            axes.text(u - gaps[1] - 3, v + 1.2, written(node.probability or 0.0), ha="right", color=MUTED, **text)


# --------------------------------------------------------------------------------------------------------------- words


def written(p: float) -> str:
    """Return a probability with two decimals.

    >>> written(0.25), written(1.0)
    ('.25', '1')
    """
    return str(round(p)) if p in (0, 1) else f"{p:.2f}"[p < 0.995 :]


def value_written(value: Any) -> str:
    """Return a value with a minus sign instead of a hyphen."""
    return str(value).replace("-", "\N{MINUS SIGN}")


def moves_written(moves: Moves) -> str:
    """Return moves as text."""
    return ", ".join(f"{symbol(name)} = {value_written(value)}" for name, value in moves)


def _when(key: Key) -> str:
    name, visible = key
    return f"{symbol(name)} after {moves_written(visible)}" if visible else symbol(name)


def describe(nodes: Sequence[Node], sets: Sets) -> str:
    """Return a tree in words: the order of play, the possible leaves, and the information sets."""
    ends = [node for node in nodes if node.next is None]
    never = sum(not node.is_possible for node in nodes)
    sentences = [
        f"Game tree in the order {', '.join(map(symbol, _order(nodes)))}, with {len(ends)} leaves.",
        f"{never} of its {len(nodes) - 1} branches have probability 0 and are dotted."
        if never
        else f"All of its {len(nodes) - 1} branches are possible.",
    ]
    if len(ends) <= MAX_TOLD:
        likely = (f"{moves_written(end.moves)}: {written(end.reach)}" for end in ends if end.reach > 0)
        sentences.append(f"Probabilities of the leaves: {'; '.join(likely)}.")
    if sets:
        sizes = Counter(len(found) for found in sets.values())
        parts = [f"{count} of {_nodes(size)}" for size, count in sorted(sizes.items())]
        sentences.append(f"Information sets: {' and '.join(parts)}.")
    return " ".join(sentences)


def _nodes(size: int) -> str:
    return f"{size} nodes" if size > 1 else "1 node"
