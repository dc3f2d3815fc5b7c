"""Drawings of causal Bayesian networks, laid out from the graph, with the paths on which information flows."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from undelude._drawing.colours import DO, INK, MUTED, RULE, SEE
from undelude._drawing.panel import Panel, describe
from undelude._drawing.svg import FONT, STYLE, WIDTH, Svg, symbol, to_figure
from undelude.causal._graphs.path import Path
from undelude.causal._mixed.layout import layout

# Sizes of nodes, of the layout, and of arrows and flows, in points; a dash pattern in line widths.
RADIUS, HALF, LETTER = 13.0, 12.0, 6.2
COLUMN, ROW, MARGIN, TITLE, LINE = 84.0, 72.0, 8.0, 22.0, 15.0
# Number of letters up to which a circle holds a name, and the room between longer names for an arrow, in points.
SHORT, BETWEEN = 3, 28.0
HEAD, GAP, BESIDE = 6.0, 2.0, 5.5
DASHED = (0, (2.2, 1.4))
# Bends of an arrow to try, as fractions of its length.
BENDS = (0.0, 0.22, -0.22, 0.3, -0.3, 0.4, -0.4, 0.55, -0.55)
# Those of a bidirected edge, which runs beside the arrow between its ends.
ARCS = (0.3, -0.3, 0.4, -0.4, 0.55, -0.55)
# Number of removed edges up to which they are drawn.
MAX_CUT = 4

Point = Float[np.ndarray, " 2"]
Points = Float[np.ndarray, "_ 2"]


def route(start: Point, end: Point, others: Points, inside: Point, bends: Sequence[float] = BENDS) -> Points:
    """Return a line from `start` to `end`, bent just enough to clear `others`, preferably away from `inside`."""
    along = end - start
    aside = np.array([-along[1], along[0]])
    if aside @ (inside - (start + end) / 2) > 0:
        aside = -aside
    t = np.linspace(0, 1, 61)[:, None]
    best, clearance = None, -math.inf
    for bend in bends:
        # A quadratic Bezier curve reaches half as far as its control point.
        line = start + t * along + 4 * bend * t * (1 - t) * aside
        clear = float(np.linalg.norm(line[:, None] - others, axis=-1).min()) if len(others) else math.inf
        if clear >= RADIUS + 6:
            return line
        if clear > clearance:
            best, clearance = line, clear
    assert best is not None
    return best


# ------------------------------------------------------------------------------------------------------------ drawing


@dataclasses.dataclass(frozen=True)
class _Sheet:
    """Axes in points, with the places and sizes of the nodes of a panel and the routes between them."""

    axes: Axes
    places: Mapping[str, np.ndarray]
    halves: Mapping[str, tuple[float, float]]
    routes: Mapping[tuple[str, str], Points]
    arcs: Mapping[tuple[str, str], Points]

    def outside(self, line: Points, name: str, gap: float) -> np.ndarray:
        """Return a mask of the points that are further than `gap` from a node."""
        x, y = np.abs(line - self.places[name]).T
        width, height = self.halves[name]
        if width == RADIUS:
            return np.hypot(x, y) > RADIUS + gap
        return (x > width + gap) | (y > height + gap)

    def between(self, line: Points, a: str, b: str, gap: float) -> Points:
        """Return the part of a line outside both nodes."""
        return line[self.outside(line, a, gap) & self.outside(line, b, gap)]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Where everything in a panel stands, in points, and how large it is."""

    panel: Panel
    places: Mapping[str, np.ndarray]
    halves: Mapping[str, tuple[float, float]]
    routes: Mapping[tuple[str, str], Points]
    arcs: Mapping[tuple[str, str], Points]
    size: tuple[float, float]

    @classmethod
    def of(cls, panel: Panel) -> "_Plan":
        """Lay out a panel."""
        halves = {name: _half(name, panel) for name in panel.graph}
        widest = max(2 * w for name, (w, _) in halves.items()) if any(map(_is_long, halves)) else 0.0
        scale = (max(COLUMN, widest + BETWEEN), -ROW)
        places = {name: np.array(p) * scale for name, p in layout(panel.graph, panel.above).items()}
        middle = np.mean(list(places.values()), axis=0)

        def line(a: str, b: str, bends: Sequence[float]) -> Points:
            others = [x for name in places if name not in (a, b) for x in _inside(places[name], halves[name], name)]
            others = np.array(others).reshape(-1, 2)
            return route(places[a], places[b], others, middle, bends)

        routes = {edge: line(*edge, BENDS) for edge in panel.all_edges}
        arcs = {pair: line(*pair, ARCS) for pair in panel.bidirected}
        ends = [p + sign * np.array(halves[name]) for name, p in places.items() for sign in (-1, 1)]
        drawn = np.vstack([*ends, *routes.values(), *arcs.values()])
        ring = BESIDE + 4 if panel.paths else 2
        low, high = drawn.min(0) - ring, drawn.max(0) + ring
        below = _height_of_legend(panel)
        width = max(72 * WIDTH, high[0] - low[0] + 2 * MARGIN)
        height = high[1] - low[1] + below + (TITLE if panel.title else 0)
        shift = np.array([(width - low[0] - high[0]) / 2, below - low[1]])
        places = {name: p + shift for name, p in places.items()}
        routes, arcs = ({edge: way + shift for edge, way in lines.items()} for lines in (routes, arcs))
        return cls(panel, places, halves, routes, arcs, (width, height))

    def draw(self, axes: Axes) -> None:
        """Draw the panel on axes, whose units become points."""
        panel, (width, height) = self.panel, self.size
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.axis("off")
        sheet = _Sheet(axes, self.places, self.halves, self.routes, self.arcs)
        if panel.title:
            axes.text(2, height - 9, panel.title, va="center", color=INK)
        for edge in panel.edges:
            arrow(axes, sheet.between(sheet.routes[edge], *edge, GAP), INK, 1.0)
        for edge in panel.undirected:
            axes.plot(*sheet.between(sheet.routes[edge], *edge, GAP).T, color=INK, lw=1.0, zorder=2)
        for pair in panel.arcs:
            _draw_arc(sheet, pair, INK)
        if len(panel.removed) + len(panel.removed_arcs) <= MAX_CUT:
            for edge in panel.removed:
                arrow(axes, sheet.between(sheet.routes[edge], *edge, GAP), RULE, 1.0)
                _cross_out(axes, sheet.between(sheet.routes[edge], *edge, GAP))
            for pair in panel.removed_arcs:
                _draw_arc(sheet, pair, RULE)
                _cross_out(axes, sheet.between(sheet.arcs[pair], *pair, GAP))
        for name in self.places:
            _draw_node(sheet, name, panel)
        for path in panel.paths:
            _draw_flow(sheet, path)
        for i, (label, draw) in enumerate(_legend(panel)):
            x, y = 4 + (i % 2) * width / 2, _height_of_legend(panel) - MARGIN - LINE * (i // 2 + 0.5)
            draw(axes, x, y)
            axes.text(x + 27, y, label, va="center_baseline", color=MUTED)


def draw_dag(panel: Panel) -> Svg:
    """Draw a causal Bayesian network as the paper does: latent variables dashed, seen ones shaded, done ones boxed.

    The flow of information runs along the arrows: a solid line for an open path, a dashed line up to a bar for a
    blocked one. It is orange if it starts against an arrow, into causes, and blue if it goes to effects only.

    Args:
        panel: the graph and the roles of its variables.
    """
    plan = _Plan.of(panel)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(plan.size[0] / 72, plan.size[1] / 72))
        plan.draw(figure.add_axes((0, 0, 1, 1)))
        return to_figure(figure, f"network {panel.title} {' '.join(plan.places)}", describe(panel))


def draw_dag_on(panel: Panel, axes: Callable[[float, float], Axes]) -> Axes:
    """Draw a panel as `draw_dag` does, on the axes that `axes` returns for its width and height in inches."""
    plan = _Plan.of(panel)
    found = axes(plan.size[0] / 72, plan.size[1] / 72)
    plan.draw(found)
    found.set_aspect("equal")
    return found


def _height_of_legend(panel: Panel) -> float:
    legend = _legend(panel)
    return LINE * math.ceil(len(legend) / 2) + (MARGIN if legend else 0)


def _half(name: str, panel: Panel) -> tuple[float, float]:
    """Return half of a node's width and height."""
    width = LETTER * len(_label(name, panel)) / 2
    if name in panel.done:
        return width + 4, HALF
    return (width + 8, RADIUS) if _is_long(name) else (RADIUS, RADIUS)


def _inside(at: np.ndarray, half: tuple[float, float], name: str) -> list[np.ndarray]:
    """Return points of a node from which a line keeps its distance: its middle, and both ends of a long one."""
    shift = np.array([half[0] - RADIUS, 0.0])
    return [at, at - shift, at + shift] if _is_long(name) else [at]


def _is_long(name: str) -> bool:
    """Return whether a name does not fit into a circle."""
    return len(symbol(name)) > SHORT


def _label(name: str, panel: Panel) -> str:
    return f"do({symbol(name)})" if name in panel.done else symbol(name)


def _draw_node(sheet: _Sheet, name: str, panel: Panel) -> None:
    for shape in _shapes(sheet.places[name], sheet.halves[name], name, panel):
        sheet.axes.add_patch(shape)
    x, y = sheet.places[name]
    size = FONT + (0.5 if name in panel.done else 1.5)
    sheet.axes.text(x, y, _label(name, panel), ha="center", va="center_baseline", size=size, zorder=4)


def _shapes(
    at: np.ndarray, half: tuple[float, float], name: str, panel: Panel
) -> list[Rectangle] | list[Circle] | list[FancyBboxPatch]:
    """Return the outline of a node: a circle, stretched if its name is long, or a double box for a done variable."""
    look: dict[str, Any] = {"fc": RULE if name in panel.seen else "none", "ec": INK, "lw": 1.1, "zorder": 3}
    if name in panel.done:
        (x, y), (w, h), look["lw"] = at, half, 0.9
        return [Rectangle((x - w + d, y - h + d), 2 * (w - d), 2 * (h - d), **look) for d in (0.0, 2.4)]
    if name in panel.latent:
        look |= {"ls": DASHED, "capstyle": "butt"}
    (x, y), (w, h) = at, half
    if w > h:
        return [FancyBboxPatch((x - w, y - h), 2 * w, 2 * h, boxstyle=f"round,pad=0,rounding_size={h:g}", **look)]
    return [Circle((x, y), w, **look)]


def _cross_out(axes: Axes, line: Points) -> None:
    """Draw two bars across the middle of a line."""
    tick = np.array([line[len(line) // 2 - 1], line[len(line) // 2 + 1]])
    for shift in (-1.6, 1.6):
        _bar(axes, tick.mean(0) + shift * _unit(tick), _unit(tick), MUTED, 4.5, 1.1)


def _draw_arc(sheet: _Sheet, pair: tuple[str, str], colour: str) -> None:
    """Draw a bidirected edge: from its middle, an arrow to either end."""
    line = sheet.between(sheet.arcs[pair], *pair, GAP)
    middle = len(line) // 2
    for half in (line[middle:], line[: middle + 1][::-1]):
        arrow(sheet.axes, half, colour, 1.0, dashes=DASHED)


def _draw_flow(sheet: _Sheet, path: Path) -> None:
    """Draw a flow along the arrows of a path, on the outer side of the figure, up to the first node that blocks it."""
    last = next((i for i, name in enumerate(path.nodes) if name in path.blocked_by), len(path.nodes) - 1)
    nodes = path.nodes[: last + 1]
    ways = []
    for (a, b), pointing in zip(itertools.pairwise(nodes), path.arrows, strict=False):
        ways.append(sheet.routes[a, b] if pointing == "->" else sheet.routes[b, a][::-1])
    middle = np.mean(list(sheet.places.values()), axis=0)

    def shifted(side: int) -> list[Points]:
        lines = [line + side * BESIDE * _asides(line) for line in ways]
        return [
            sheet.between(line, a, b, BESIDE - 1) for line, (a, b) in zip(lines, itertools.pairwise(nodes), strict=True)
        ]

    # The side, left or right of the path, that is further from the middle.
    side = max((1, -1), key=lambda side: np.linalg.norm(np.vstack(shifted(side)) - middle, axis=1).mean())
    lines = shifted(side)
    points = [lines[0]]
    for name, before, after in zip(nodes[1:-1], lines, lines[1:], strict=False):
        points += [_around(sheet.places[name], before[-1], after[0], side), after]
    colour, whole = flow_colour(path), np.vstack(points)
    if path.is_open:
        arrow(sheet.axes, whole, colour, 2.2, head=1.4 * HEAD)
    else:
        sheet.axes.plot(*whole.T, color=colour, lw=2.0, ls=DASHED, dash_capstyle="butt", zorder=2)
        _bar(sheet.axes, whole[-1], _unit(whole[-2:]), colour, 7.0, 2.6)


def flow_colour(path: Path) -> str:
    """Return the colour of a path: orange if it starts against an arrow, blue if it goes to effects."""
    return SEE if path.arrows[0] == "<-" else DO


def _around(center: np.ndarray, a: np.ndarray, b: np.ndarray, side: int) -> Points:
    """Return an arc round a node, right of the path if `side` is 1; no points if the path goes straight on."""
    start, end = (math.atan2(*(p - center)[::-1]) for p in (a, b))
    sweep = (side * (start - end)) % (2 * math.pi)
    if sweep > 1.5 * math.pi:
        return np.zeros((0, 2))
    angles = start - side * np.linspace(0, sweep, 25)
    radius = np.linspace(np.linalg.norm(a - center), np.linalg.norm(b - center), 25)
    return center + radius[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])


def arrow(
    axes: Axes, line: Points, colour: str, width: float, *, head: float = HEAD, dashes: str | tuple = "-"
) -> None:
    """Draw a line with a head at its end."""
    # The head covers the end of the line, and points along it.
    left = np.append(np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1)[::-1])[::-1], 0)
    shaft = line[left >= head]
    along = _unit(np.array([shaft[-1], line[-1]]))
    base, aside = line[-1] - head * along, np.array([-along[1], along[0]])
    axes.plot(*np.vstack([shaft, base]).T, color=colour, lw=width, ls=dashes, solid_capstyle="butt", zorder=2)
    corners = [line[-1], base + 0.42 * head * aside, base - 0.42 * head * aside]
    axes.add_patch(Polygon(corners, fc=colour, ec="none", zorder=2))


def _bar(axes: Axes, at: np.ndarray, along: np.ndarray, colour: str, size: float, width: float) -> None:
    """Draw a bar across the direction `along`."""
    aside = size * np.array([-along[1], along[0]])
    axes.plot(*np.array([at - aside, at + aside]).T, color=colour, lw=width, solid_capstyle="butt", zorder=3)


def _unit(line: Points) -> np.ndarray:
    way = line[-1] - line[0]
    return way / np.linalg.norm(way)


def _asides(line: Points) -> Points:
    """Return the unit vector to the left of each point of a line."""
    along = np.gradient(line, axis=0)
    return np.column_stack([-along[:, 1], along[:, 0]]) / np.linalg.norm(along, axis=1, keepdims=True)


def _legend(panel: Panel) -> list[tuple[str, Callable[[Axes, float, float], None]]]:
    """Return the signs that a panel uses: a label, and a function that draws a sample."""

    def node(role: str) -> Callable[[Axes, float, float], None]:
        def draw(axes: Axes, x: float, y: float) -> None:
            sample = dataclasses.replace(Panel({"X": ()}), **{role: ("X",)})
            for shape in _shapes(np.array([x + 11, y]), (5.0, 5.0), "X", sample):
                axes.add_patch(shape)

        return draw

    def flow(colour: str) -> Callable[[Axes, float, float], None]:
        def draw(axes: Axes, x: float, y: float) -> None:
            arrow(axes, np.array([(x, y), (x + 11, y), (x + 22, y)]), colour, 2.2, head=1.4 * HEAD)

        return draw

    def stopped(axes: Axes, x: float, y: float) -> None:
        colour = flow_colour(blocked[0])
        axes.plot([x, x + 20], [y, y], color=colour, lw=2.0, ls=DASHED, dash_capstyle="butt")
        _bar(axes, np.array([x + 20, y]), np.array([1.0, 0.0]), colour, 4.0, 2.4)

    def joined(axes: Axes, x: float, y: float) -> None:
        for end in (x, x + 22):
            arrow(axes, np.linspace((x + 11, y), (end, y), 12), INK, 1.0, dashes=DASHED)

    def either(axes: Axes, x: float, y: float) -> None:
        axes.plot([x, x + 22], [y, y], color=INK, lw=1.0)

    flows = {flow_colour(path) for path in panel.paths if path.is_open}
    blocked = [path for path in panel.paths if not path.is_open]
    entries = [
        (panel.latent, "latent", node("latent")),
        (panel.bidirected, "latent common cause", joined),
        (panel.undirected, "arrow of either direction", either),
        (panel.seen, "seen", node("seen")),
        (panel.done, "done", node("done")),
        (SEE in flows, "flows back into causes", flow(SEE)),
        (DO in flows, "flows to effects", flow(DO)),
        (blocked, "is blocked", stopped),
    ]
    return [(label, draw) for used, label, draw in entries if used]
