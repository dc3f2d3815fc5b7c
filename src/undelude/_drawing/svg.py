"""Figures as inline SVG: real text, and colours by the CSS variables of the page."""

import dataclasses
import io
import re
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from undelude._drawing.colours import INK, MUTED, VARIABLES

# Width in inches and font size in points; small, so that a phone hardly shrinks a figure.
WIDTH, FONT = 4.2, 9.5
GREEK = {"Theta": "\N{GREEK CAPITAL LETTER THETA}", "theta": "\N{GREEK SMALL LETTER THETA}"}
SUBSCRIPTS = {ord("0") + i: 0x2080 + i for i in range(10)}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": FONT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": FONT,
    "axes.titlelocation": "left",
    "axes.titlepad": 4.0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": FONT - 0.5,
    "ytick.labelsize": FONT - 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}


@dataclasses.dataclass(frozen=True)
class Svg:
    """An inline `svg` element with its alternative text."""

    svg: str
    alt: str


def to_figure(figure: Figure, name: str, alt: str) -> Svg:
    """Render a figure as an `svg` element for HTML: no prologue, no URL, unique ids, colours by variable."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"undelude {name}"}):
        figure.savefig(out, format="svg", transparent=True)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"| version="1.1"| width="[^"]*pt"| height="[^"]*pt"', "", svg)
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return Svg(svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1).strip(), alt)


def symbol(name: str) -> str:
    """Return a variable's name as the paper writes it.

    >>> symbol("Theta_1")
    'Θ₁'
    """
    stem, _, index = name.partition("_")
    return GREEK.get(stem, stem) + index.translate(SUBSCRIPTS)
