"""Figures as inline SVG: real text, and colours by the CSS variables of the page."""

import dataclasses
import io
import re
from html import escape
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from undelude._drawing.colours import INK, MUTED, ON_WHITE, VARIABLES

# Width in inches and font size in points; small, so that a phone hardly shrinks a figure.
WIDTH, FONT = 4.2, 9.5
GREEK = {"Theta": "\N{GREEK CAPITAL LETTER THETA}", "theta": "\N{GREEK SMALL LETTER THETA}"}
SUBSCRIPTS = {ord("0") + i: 0x2080 + i for i in range(10)}

VIEW_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')

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
    """Render a figure as an `svg` element for HTML: no prologue, no URL, unique ids, colours by variable.

    The figure has no background after it.
    """
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"undelude {name}"}):
        # `savefig(transparent=True)` writes the same and draws the figure twice, the first time for its layout.
        for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
            patch.set(facecolor="none", edgecolor="none")
        FigureCanvasSVG(figure).print_svg(out)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"| version="1.1"| width="[^"]*pt"| height="[^"]*pt"', "", svg)
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return Svg(svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1).strip(), alt)


def to_file(*figures: Svg) -> str:
    """Return figures side by side as an SVG document on white, with the colours in place of the page's variables."""
    boxes = [(float(w), float(h)) for figure in figures for w, h in VIEW_BOX.findall(figure.svg)[:1]]
    width, height = sum(w for w, _ in boxes), max(h for _, h in boxes)
    label = f'role="img" aria-label="{escape(" ".join(figure.alt for figure in figures))}"'
    parts, x = [], 0.0
    for figure, (w, h) in zip(figures, boxes, strict=True):
        inner = re.sub(r' role="img" aria-label="[^"]*"', "", figure.svg, count=1)
        parts.append(inner.replace("<svg ", f'<svg x="{x:g}" width="{w:g}" height="{h:g}" ', 1))
        x += w
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    background = f'<rect width="{width:g}" height="{height:g}" fill="{ON_WHITE["paper"]}"/>'
    svg = f'<svg {names} {label} viewBox="0 0 {width:g} {height:g}">{background}{"".join(parts)}</svg>\n'
    return re.sub(r"var\(--([\w-]+)\)", lambda m: ON_WHITE[m[1]], svg)


def symbol(name: str) -> str:
    """Return a variable's name as the paper writes it.

    >>> symbol("Theta_1")
    'Θ₁'
    """
    stem, _, index = name.partition("_")
    return GREEK.get(stem, stem) + index.translate(SUBSCRIPTS)
