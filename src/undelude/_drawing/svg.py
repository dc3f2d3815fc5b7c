"""Figures as inline SVG with real text, whose colours are the page's own variables: light, dark and paper.

Blue and vermillion are Okabe and Ito's, told apart without red-green vision; line style and marker say the same again.
"""

import dataclasses
import io
import re
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Drawn small, so that a phone shrinks them little: inches, points.
WIDTH, FONT = 4.2, 9.5
# Drawn in these, shown in the page's variables: light, dark and paper each have their own.
INK, MUTED, RULE, DO, SEE, DO_TEXT, SEE_TEXT, PAPER = (
    "#010101",
    "#020202",
    "#030303",
    "#040404",
    "#050505",
    "#060606",
    "#070707",
    "#080808",
)
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", DO: "do", SEE: "see", DO_TEXT: "do-text", SEE_TEXT: "see-text"}
VARIABLES |= {PAPER: "paper"}
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
    """An inline `svg` element, and in words what it shows."""

    svg: str
    alt: str


def to_figure(canvas: Figure, name: str, alt: str) -> Svg:
    """The figure as an `svg` element for HTML: no prologue, no address, ids of its own, colours by variable."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"undelude {name}"}):
        canvas.savefig(out, format="svg", transparent=True)
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
    """A variable's name as the paper writes it.

    >>> symbol("Theta_1")
    'Θ₁'
    """
    stem, _, index = name.partition("_")
    return GREEK.get(stem, stem) + index.translate(SUBSCRIPTS)
