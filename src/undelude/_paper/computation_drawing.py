"""Svg 4 as a drawing: the nodes have their places, everything else comes from the graph."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from undelude._drawing.svg import DO, FONT, INK, MUTED, SEE, STYLE, WIDTH, Svg, to_figure
from undelude._paper.computation import ComputationGraph, Edge, Node, Panel

TITLES: dict[Panel, str] = {"a": "initialization", "b": "observation step", "c": "action step"}
# Column and row.
Place = tuple[int | float, int | float]
# What there was on the left, what comes of it on the right; expert, task and agent from the top.
PLACES: dict[Panel, dict[str, Place]] = {
    "a": {"Theta": (1, 1), "E": (2, 0), "W": (2, 2), "M": (2, 3)},
    "b": {
        **{"E'": (0, 0), "Theta": (0, 1), "W'": (0, 2), "M'": (0, 4)},
        **{"O": (1.25, 1), "P_O": (1, 3), "loss_O": (2, 3)},
        **{"E''": (3, 0), "W''": (3, 2), "M''": (3, 4)},
    },
    "c": {
        **{"E": (0, 0), "Theta": (0, 1), "W": (0, 2), "M": (0, 4)},
        **{"A_bar": (1, 1), "loss_A": (2, 1), "P_A": (1, 3), "A": (2, 3)},
        **{"E'": (3, 0), "W'": (3, 2), "M'": (3, 4)},
    },
}
# Where the expert executes, and where the expert's distribution is a node too.
EXECUTED: dict[str, Place] = {"A_bar": (1.25, 1), "loss_A": (2, 3)}
LAW: dict[str, Place] = {"Q_A": (1, 1), "A_bar": (1.55, 0.45)}
LAW_EXECUTED: dict[str, Place] = {"Q_A": (1, 1), "A_bar": (2, 1), "loss_A": (2, 3)}
OWNERS = {"E": "expert", "W": "task", "M": "agent"}
SYMBOLS = {"Theta": "\u0398", "A_bar": "\u0100", "loss_A": "\u2113(\u0101)", "loss_O": "\u2113(o)"}
PRIMES = {"'": "\u2032", "''": "\u2033"}

# Points.
LEFT, COLUMN, ROW, TOP, FOOT, LINE = 25.0, 84.0, 44.0, 46.0, 24.0, 15.0
RADIUS, HALF, LOSS, GAP = 13.0, 12.0, 17.0, 2.5
HEAD, BESIDE, DOTTED = 6.0, 4.5, (0, (0.8, 1.8))
Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class _Sheet:
    """Axes in points, and where the nodes are on them."""

    axes: Axes
    places: dict[str, Point]


def draw_computation(graph: ComputationGraph, panel: Panel) -> Svg:
    """One panel of Svg 4.

    Squiggly arrows end in what is drawn at random; thick ones beside an edge are the gradient that comes back along it
    from a loss, and a double bar is where it stops; what the agent is not shown has a dotted outline.

    Args:
        graph: of the whole round.
        panel: "a" initialization, "b" observation step, "c" action step.
    """
    part = graph.panel(panel)
    stops = [edge for edge in graph.stops if edge in part.edges]
    names = {node.name for node in part.nodes}
    grid = _grid(names, panel)
    bottom = max(row for _, row in grid.values())
    entries = _legend_entries(part, stops)
    legend = LINE * math.ceil(len(entries) / 2)
    height, width = TOP + ROW * bottom + FOOT + legend, 72 * WIDTH
    places = {name: (LEFT + COLUMN * x, height - TOP - ROW * y) for name, (x, y) in grid.items()}
    with matplotlib.rc_context(STYLE):
        frame = Figure(figsize=(WIDTH, height / 72))
        axes = frame.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.axis("off")
        axes.text(2, height - 10, f"{panel}  {_title(part, panel)}", va="center", color=INK)
        sheet = _Sheet(axes, places)
        for edge in part.edges:
            _draw_edge(sheet, edge, part, stopped=edge in stops)
        for node in part.nodes:
            _draw_node(sheet, node)
            if node.drawn and node.panel == panel and not any(edge.target == node.name for edge in part.edges):
                x, y = places[node.name]
                _arrow(axes, (x - 0.75 * COLUMN, y), (x - RADIUS - GAP, y), stochastic=True)
        for i, (label, draw) in enumerate(entries):
            x, y = 4 + (i % 2) * width / 2, legend - LINE * (i // 2) - LINE / 2
            draw(axes, x, y)
            axes.text(x + 27, y, label, va="center_baseline", color=MUTED, size=FONT - 0.5)
        return to_figure(frame, f"computation {panel} {'A' in names}", _alt(part, panel, stops))


def _grid(names: set[str], panel: Panel) -> dict[str, Place]:
    """Column and row of each node."""
    places = PLACES[panel]
    if panel == "c" and "A" not in names:
        places = places | (LAW_EXECUTED if "Q_A" in names else EXECUTED)
    elif "Q_A" in names:
        places = places | LAW
    return {name: places[name] for name in names}


def _title(part: ComputationGraph, panel: Panel) -> str:
    if panel == "a":
        return TITLES[panel]
    # Factual where the agent goes on with the symbols that it is scored on.
    factual = all(node.shown for node in part.nodes if node.kind == "symbol")
    return f"{TITLES[panel]}, {'factual' if factual else 'counterfactual'} teaching"


def _is_hidden(node: Node) -> bool:
    return not node.shown and node.kind != "loss"


def _label(name: str) -> tuple[str, str]:
    """What is written in a node, and its subscript."""
    base = name.rstrip("'")
    symbol, _, index = (SYMBOLS[base], "", "") if base in SYMBOLS else base.partition("_")
    return symbol + PRIMES.get(name[len(base) :], ""), index


def _written(name: str) -> str:
    symbol, index = _label(name)
    return f"{symbol}_{index}" if index else symbol


def _draw_node(sheet: _Sheet, node: Node) -> None:
    axes, (x, y) = sheet.axes, sheet.places[node.name]
    look: dict[str, Any] = {"fc": "none", "ec": INK, "lw": 1.1, "zorder": 3}
    if _is_hidden(node):
        look |= {"ls": DOTTED, "lw": 1.5, "capstyle": "round"}
    hx, hy = _half(node)
    if node.kind in ("symbol", "parameter"):
        axes.add_patch(Circle((x, y), RADIUS, **look))
    else:
        rounding = {"memory": 0.0, "distribution": 5.0, "loss": HALF}[node.kind]
        style = f"round,pad=0,rounding_size={rounding}" if rounding else "square,pad=0"
        axes.add_patch(FancyBboxPatch((x - hx, y - hy), 2 * hx, 2 * hy, boxstyle=style, **look))
    symbol, index = _label(node.name)
    text: dict[str, Any] = {"va": "center_baseline", "size": FONT + 1.5, "zorder": 4}
    small: dict[str, Any] = text | {"size": FONT - 1.5}
    if index:
        axes.text(x + 1.6, y, symbol, ha="right", **text)
        axes.text(x + 1.6, y - 3, index, ha="left", **small)
    else:
        axes.text(x, y, symbol, ha="center", **text)
    if node.kind == "memory" and x == min(sheet.places[name][0] for name in sheet.places if name[0] == node.name[0]):
        axes.text(x - hx, y + hy + 3, OWNERS[node.name[0]], va="bottom", color=MUTED, size=FONT - 0.5)


def _half(node: Node) -> tuple[float, float]:
    """Half of a node's width and height."""
    return (LOSS if node.kind == "loss" else HALF), HALF


def _draw_edge(sheet: _Sheet, edge: Edge, part: ComputationGraph, *, stopped: bool) -> None:
    nodes = {node.name: node for node in part.nodes}
    start, end = (np.array(sheet.places[name]) for name in (edge.source, edge.target))
    along = (end - start) / np.linalg.norm(end - start)
    start = start + along * (_reach(nodes[edge.source], along) + 1)
    end = end - along * (_reach(nodes[edge.target], along) + GAP)
    _arrow(sheet.axes, start, end, stochastic=edge.stochastic)
    if edge.gradient:
        _gradient(sheet.axes, start, end)
    if stopped:
        _bars(sheet.axes, (start + end) / 2, along)


def _reach(node: Node, along: np.ndarray) -> float:
    """How far a node's outline is from its middle in some direction."""
    if node.kind in ("symbol", "parameter"):
        return RADIUS
    return min(h / max(abs(a), 1e-9) for h, a in zip(_half(node), along, strict=True))


def _arrow(axes: Axes, start: Any, end: Any, *, stochastic: bool) -> None:
    a, along, aside, length = _frame(start, end)
    if stochastic:
        wavy = length - HEAD - 4
        waves = max(round(wavy / 8), 1)
        t = np.linspace(0, 1, 12 * waves + 1)
        points = a + np.outer(t * wavy, along) + np.outer(2.4 * np.sin(2 * np.pi * waves * t), aside)
    else:
        points = a[None]
    _line(axes, np.vstack([points, a + length * along]), INK, 0.9, HEAD)


def _gradient(axes: Axes, start: Any, end: Any) -> None:
    """Beside an arrow from `start` to `end`, the way back."""
    a, along, aside, length = _frame(start, end)
    beside = a - BESIDE * aside
    _line(axes, np.array([beside + (length - 3) * along, beside + 3 * along]), DO, 2.2, 1.3 * HEAD)


def _line(axes: Axes, points: np.ndarray, colour: str, width: float, head: float) -> None:
    """A line with a head at its end."""
    tip, (_, along, aside, _) = points[-1], _frame(points[-2], points[-1])
    base = tip - head * along
    axes.plot(*np.vstack([points[:-1], base]).T, color=colour, lw=width, solid_capstyle="butt", zorder=2)
    corners = [tip, base + 0.42 * head * aside, base - 0.42 * head * aside]
    axes.add_patch(Polygon(corners, fc=colour, ec="none", zorder=2))


def _frame(start: Any, end: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The start, unit vectors along and to the left, and the length of the way."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    length = float(np.linalg.norm(b - a))
    along = (b - a) / length
    return a, along, np.array([-along[1], along[0]]), length


def _bars(axes: Axes, middle: Any, along: np.ndarray, size: float = 9.0) -> None:
    """A double bar across an arrow."""
    aside = np.array([-along[1], along[0]])
    for shift in (-2.2, 2.2):
        at = np.asarray(middle) + shift * along
        axes.plot(
            *np.array([at - size * aside, at + size * aside]).T, color=SEE, lw=2.2, solid_capstyle="butt", zorder=3
        )


def _legend_entries(
    part: ComputationGraph, stops: list[Edge]
) -> list[tuple[str, Callable[[Axes, float, float], None]]]:
    """What of the signs the panel uses, with a sample of each."""

    def squiggle(axes: Axes, x: float, y: float) -> None:
        _arrow(axes, (x, y), (x + 22, y), stochastic=True)

    def ring(axes: Axes, x: float, y: float) -> None:
        axes.add_patch(Circle((x + 11, y), 5, fc="none", ec=INK, lw=1.5, ls=DOTTED, capstyle="round"))

    def back(axes: Axes, x: float, y: float) -> None:
        _gradient(axes, (x - 3, y + BESIDE), (x + 25, y + BESIDE))

    def bars(axes: Axes, x: float, y: float) -> None:
        _bars(axes, (x + 11, y), np.array([1.0, 0.0]), size=5.0)

    entries: list[tuple[bool, str, Callable[[Axes, float, float], None]]] = [
        (any(n.drawn for n in part.nodes), "drawn at random", squiggle),
        (any(map(_is_hidden, part.nodes)), "not shown to the agent", ring),
        (any(e.gradient for e in part.edges), "gradient of a loss", back),
        (bool(stops), "gradient stops", bars),
    ]
    return [(label, draw) for used, label, draw in entries if used]


def _alt(part: ComputationGraph, panel: Panel, stops: list[Edge]) -> str:
    """The panel in words."""
    of = {n.name: [e.source for e in part.edges if e.target == n.name] for n in part.nodes}
    drawn = [n.name for n in part.nodes if n.drawn and n.panel == panel]
    computed = [n.name for n in part.nodes if not n.drawn and of[n.name]]
    said = [f"Computation graph of the {_title(part, panel)}."]
    for what, names in (("Drawn at random", drawn), ("Computed", computed)):
        parts = [_written(v) + (f" from {_listed(of[v])}" if of[v] else "") for v in names]
        said += [f"{what}: {'; '.join(parts)}."] if parts else []
    if back := [f"{_written(e.target)} to {_written(e.source)}" for e in part.edges if e.gradient]:
        said.append(f"The gradient of a loss comes back from {', '.join(back)}.")
    said += [f"It stops between {_written(e.target)} and {_written(e.source)}." for e in stops]
    if hidden := [n.name for n in part.nodes if _is_hidden(n)]:
        said.append(f"Not shown to the agent: {_listed(hidden)}.")
    return " ".join(said)


def _listed(names: list[str]) -> str:
    *most, last = map(_written, names)
    return f"{', '.join(most)} and {last}" if most else last
