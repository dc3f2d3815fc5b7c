"""The figures of docs/studies.md, from the stored results: docs/figures/NAME.svg.

python studies/draw.py    a few seconds
"""

import re
from pathlib import Path

from undelude.paper.blocks import doors, dpt, length, remark_14, remark_15, remark_17, remark_18
from undelude.paper.item import Settings

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
# Where each study is drawn: the block, and which of its figures.
DRAWN = {
    "dagger": (remark_17, 1),
    "doors": (doors, 0),
    "doors_by_round": (doors, 1),
    "dpt": (dpt, 0),
    "length": (length, 0),
    "remark_14": (remark_14, 1),
    "remark_15": (remark_15, 0),
    "remark_17": (remark_17, 0),
    "remark_18": (remark_18, 0),
}
# A picture of its own has no page whose variables it could take.
COLOURS = {"ink": "#222222", "muted": "#777777", "rule": "#dddddd", "do": "#0072b2", "see": "#d55e00"}
COLOURS |= {"do-text": "#0072b2", "see-text": "#b34f00", "paper": "#ffffff"}


def main() -> None:
    """Draw them all, on white."""
    FOLDER.mkdir(exist_ok=True)
    for name, (block, i) in DRAWN.items():
        figure, _ = block.block(Settings()).figures[i]
        svg = re.sub(r"var\(--([\w-]+)\)", lambda m: COLOURS[m[1]], figure.svg)
        names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
        assert box is not None
        ground = f'<rect width="{box[1]}" height="{box[2]}" fill="#ffffff"/>'
        svg = re.sub(r"<svg ([^>]*)>", rf"<svg {names}\1>{ground}", svg, count=1)
        (FOLDER / f"{name}.svg").write_text(svg + "\n")


if __name__ == "__main__":
    main()
