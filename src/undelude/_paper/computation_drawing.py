"""Figure 4, the computation graph of meta-training, as a drawing of the paper's three panels."""

import dataclasses
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from undelude._drawing.colours import INK, MUTED
from undelude._drawing.svg import FONT, STYLE, WIDTH, Svg, symbol, to_figure

PanelName = Literal["a", "b", "c"]
# Column and row.
Place = tuple[float | int, float | int]


@dataclasses.dataclass(frozen=True)
class Panel:
    """One step of meta-training.

    Attributes:
        title: the name of the step.
        places: column and row of each node. Inputs are on the left and updated memories on the right; the rows of
            expert, task and agent follow each other from the top.
        arrows: `"M -> P_A"` for a deterministic function, `"P_A ~> A"` for a sample; `" ~> Theta"` for a sample whose
            distribution is not in the figure.
    """

    title: str
    places: dict[str, Place]
    arrows: tuple[str, ...]

    @property
    def edges(self) -> tuple[tuple[str, str, bool], ...]:
        """`(source, target, whether the target is sampled)` of each arrow."""
        return tuple((source, target, sign == "~>") for source, sign, target in (x.split(" ") for x in self.arrows))


# A memory has one prime after the round's action and two after its observation.
PANELS: dict[PanelName, Panel] = {
    "a": Panel(
        title="initialization",
        places={"Theta": (1, 1), "E": (2, 0), "W": (2, 2), "M": (2, 3)},
        arrows=(" ~> Theta", "Theta -> E", "Theta -> W"),
    ),
    "b": Panel(
        title="observation step with factual teaching",
        places={
            **{"E'": (0, 0), "Theta": (0, 1), "W'": (0, 2), "M'": (0, 4)},
            **{"O": (1.25, 1), "P_O": (1, 3), "loss_O": (2, 3)},
            **{"E''": (3, 0), "W''": (3, 2), "M''": (3, 4)},
        },
        arrows=(
            *("M' -> P_O", "Theta ~> O", "W' ~> O", "P_O -> loss_O", "O -> loss_O"),
            *("E' -> E''", "O -> E''", "W' -> W''", "O -> W''", "M' -> M''", "O -> M''"),
        ),
    ),
    "c": Panel(
        title="action step with counterfactual teaching",
        places={
            **{"E": (0, 0), "Theta": (0, 1), "W": (0, 2), "M": (0, 4)},
            **{"A_bar": (1, 1), "loss_A": (2, 1), "P_A": (1, 3), "A": (2, 3)},
            **{"E'": (3, 0), "W'": (3, 2), "M'": (3, 4)},
        },
        arrows=(
            *("M -> P_A", "P_A ~> A", "Theta ~> A_bar", "E ~> A_bar", "P_A -> loss_A", "A_bar -> loss_A"),
            *("E -> E'", "A -> E'", "W -> W'", "A -> W'", "M -> M'", "A -> M'"),
        ),
    ),
}
OWNERS = {"E": "expert", "W": "task", "M": "agent"}
LABELS = {"A_bar": "\u0100", "loss_A": "\u2113(\u0101)", "loss_O": "\u2113(o)", "P_A": "P_A", "P_O": "P_O"}

# Points.
LEFT, COLUMN, ROW, TOP, FOOT = 25.0, 84.0, 44.0, 46.0, 40.0
RADIUS, HALF, LOSS = 13.0, 12.0, 17.0
HEAD, GAP, WAVE = 6.0, 2.5, 2.4


def draw_computation(name: PanelName) -> Svg:
    """Draw one panel of Figure 4; a wavy arrow ends in a variable that is sampled."""
    panel = PANELS[name]
    height, width = TOP + ROW * max(row for _, row in panel.places.values()) + FOOT, 72 * WIDTH
    places = {node: np.array([LEFT + COLUMN * x, height - TOP - ROW * y]) for node, (x, y) in panel.places.items()}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.axis("off")
        axes.text(2, height - 10, f"{name}  {panel.title}", va="center", color=INK)
        for source, target, sampled in panel.edges:
            end = places[target]
            start = places[source] if source else end - (0.75 * COLUMN, 0)
            along = (end - start) / np.linalg.norm(end - start)
            start = start + along * (_reach(source, along) + 1)
            _draw_arrow(axes, start, end - along * (_reach(target, along) + GAP), wavy=sampled)
        for node, place in places.items():
            _draw_node(axes, node, place)
        for memory, owner in OWNERS.items():
            # Above the memory before the step.
            x, y = min(tuple(places[node]) for node in places if node.rstrip("'") == memory)
            axes.text(x - HALF, y + HALF + 3, owner, va="bottom", color=MUTED, size=FONT - 0.5)
        _draw_arrow(axes, np.array([4.0, 8.0]), np.array([26.0, 8.0]), wavy=True)
        axes.text(31, 8, "sampled", va="center_baseline", color=MUTED, size=FONT - 0.5)
        return to_figure(figure, f"computation {name}", describe(panel))


def _draw_node(axes: Axes, node: str, place: np.ndarray) -> None:
    look: dict[str, Any] = {"fc": "none", "ec": INK, "lw": 1.1}
    if _is_round(node):
        axes.add_patch(Circle(tuple(place), RADIUS, **look))
    else:
        half = _half(node)
        rounding = {"P": "round,pad=0,rounding_size=5", "l": f"round,pad=0,rounding_size={HALF}"}
        style = rounding.get(node[0], "square,pad=0")
        axes.add_patch(FancyBboxPatch(tuple(place - half), *(2 * half), boxstyle=style, **look))
    letter, _, subscript = label(node).partition("_")
    x, y = place
    text: dict[str, Any] = {"va": "center_baseline", "size": FONT + 1.5}
    if subscript:
        axes.text(x + 1.6, y, letter, ha="right", **text)
        axes.text(x + 1.6, y - 3, subscript, ha="left", va="center_baseline", size=FONT - 1.5)
    else:
        axes.text(x, y, letter, ha="center", **text)


def label(node: str) -> str:
    """Return the letter of a node as the paper prints it.

    >>> label("A_bar"), label("M''")
    ('Ā', 'M″')
    """
    return LABELS.get(node) or symbol(node).replace("''", "\u2033").replace("'", "\u2032")


def _is_round(node: str) -> bool:
    return node in ("Theta", "A", "A_bar", "O")


def _half(node: str) -> np.ndarray:
    """Return half the width and height of a box."""
    return np.array([LOSS if node.startswith("loss") else HALF, HALF])


def _reach(node: str, along: np.ndarray) -> float:
    """Return the distance from the middle of a node to its outline in the direction `along`."""
    if _is_round(node):
        return RADIUS
    return float((_half(node) / np.maximum(np.abs(along), 1e-9)).min()) if node else 0.0


def _draw_arrow(axes: Axes, start: np.ndarray, end: np.ndarray, *, wavy: bool) -> None:
    length = float(np.linalg.norm(end - start))
    along = (end - start) / length
    aside = np.array([-along[1], along[0]])
    line, base = start[None], end - HEAD * along
    if wavy:
        wavy_length = length - HEAD - 4
        num_waves = max(round(wavy_length / 8), 1)
        t = np.linspace(0, 1, 12 * num_waves + 1)
        line = start + np.outer(wavy_length * t, along) + np.outer(WAVE * np.sin(2 * np.pi * num_waves * t), aside)
    axes.plot(*np.vstack([line, base]).T, color=INK, lw=0.9, solid_capstyle="butt", zorder=1)
    axes.add_patch(Polygon([end, base + 0.42 * HEAD * aside, base - 0.42 * HEAD * aside], fc=INK, ec="none"))


def describe(panel: Panel) -> str:
    """Return a panel in words: which nodes are sampled, and which are computed, from which others."""
    sources: dict[tuple[str, bool], list[str]] = {}
    for source, target, sampled in panel.edges:
        sources.setdefault((target, sampled), []).append(label(source))
    sentences = [f"Computation graph of the {panel.title}."]
    for sampled, verb in ((True, "Sampled"), (False, "Computed")):
        parts = [
            label(target) + (f" from {' and '.join(names)}" if names[0] else "")
            for (target, is_sampled), names in sources.items()
            if is_sampled == sampled
        ]
        sentences += [f"{verb}: {'; '.join(parts)}."]
    return " ".join(sentences)
