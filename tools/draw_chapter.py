"""Draws docs/figures/chapter.svg, the three graphs of docs/causal.md with latent common causes.

    python tools/draw_chapter.py    two seconds

`ud.plot.graph` draws each on matplotlib axes. The file is one SVG for light and dark: its colours are variables, and a
media query replaces them.
"""

import re
from importlib.resources import files
from pathlib import Path

from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.colours import ON_WHITE
from undelude._drawing.svg import VIEW_BOX, to_figure

FILE = Path(__file__).parent.parent / "docs" / "figures" / "chapter.svg"
GRAPHS = {
    "front door": ud.Graph({"A": (), "M": "A", "O": "M"}, bidirected=[("A", "O")]),
    "instrument": ud.Graph({"Z": (), "A": "Z", "O": "A"}, bidirected=[("A", "O")]),
    "napkin": ud.Graph({"W": (), "Z": "W", "A": "Z", "O": "A"}, bidirected=[("W", "A"), ("W", "O")]),
}
# Inches, and points.
WIDTH, HEIGHT, TITLE = 3.4, 2.0, 11
# Colours that a graph without roles has.
USED = ("ink", "muted", "rule")
KEPT = ("paper", *USED)


def draw() -> str:
    """Return the picture as an SVG document."""
    figure = Figure(figsize=(WIDTH * len(GRAPHS), HEIGHT))
    for i, (axes, (name, graph)) in enumerate(zip(figure.subplots(1, len(GRAPHS)), GRAPHS.items(), strict=True)):
        ud.plot.graph(graph, axes=axes)
        figure.text((i + 0.5) / len(GRAPHS), 0.88, name, ha="center", size=TITLE, color=ON_WHITE["ink"])
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.84, wspace=0.04)
    alt = "; ".join(f"{name}: {str(graph).removeprefix('Graph')}" for name, graph in GRAPHS.items())
    drawn = to_figure(figure, "chapter", f"Three causal graphs with latent common causes. {alt}.").svg
    for name in USED:
        drawn = drawn.replace(ON_WHITE[name], f"var(--{name})")
    (width, height), names = VIEW_BOX.findall(drawn)[0], 'xmlns="http://www.w3.org/2000/svg"'
    names += ' xmlns:xlink="http://www.w3.org/1999/xlink"'
    card = f'<rect width="{width}" height="{height}" rx="8" fill="var(--paper)"/>'
    head, body = re.split(r"(?<=>)", drawn, maxsplit=1)
    return f"{head.replace('<svg', f'<svg {names}', 1)}<style>{style()}</style>{card}{body}\n"


def style() -> str:
    """Return the CSS variables of the colours of a report, light and dark."""
    css = files("undelude").joinpath("_report", "style.css").read_text()
    light, dark = (
        "".join(f"--{name}:{value};" for name, value in re.findall(r"--([\w-]+): (#\w+);", block) if name in KEPT)
        for block in re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)[:2]
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def main() -> None:
    """Write the picture."""
    FILE.write_text(draw())
    print(f"Written to {FILE}.")


if __name__ == "__main__":
    main()
