"""The figures of docs/studies.md, from the stored results: docs/figures/NAME.svg.

python studies/draw.py    a few seconds
"""

import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas

from undelude.paper.blocks import doors, dpt, length, remark_14, remark_15, remark_17, remark_18
from undelude.paper.item import Settings
from undelude.paper.results import load
from undelude.report.svg import DO, INK, MUTED, SEE, STYLE, WIDTH, Figure, to_figure

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


def when() -> Figure:
    """By the quality of the feedback: what delusion costs in nats, and in what one sees, for tasks with a dial."""
    rows = [row for row in load("when")["rows"] if isinstance(row["quality"], float)]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    words = {"merge": "crashes", "grid": "on the goal", "arm": "at the target"}
    looks: dict[str, dict[str, Any]] = {
        "expert": {"color": MUTED, "ls": ":", "label": "expert"},
        "do": {"color": DO, "ls": "-", "label": "exact, do"},
        "see": {"color": SEE, "ls": "--", "label": "exact, see"},
        "committed": {"color": INK, "ls": "-.", "lw": 0.8, "label": "exact, committed"},
        "counterfactual": {
            "ls": "none",
            "marker": "o",
            "mfc": "none",
            "mec": DO,
            "clip_on": False,
            "label": "net, counterfactual",
        },
        "factual": {"ls": "none", "marker": "o", "mfc": "none", "mec": SEE, "label": "net, factual"},
    }
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, 0.6 + 1.7 * len(tasks)), layout="constrained")
        panels = canvas.subplots(len(tasks), 2, squeeze=False, sharex=True)
        for (left, right), task in zip(panels, tasks, strict=True):
            for name, look in looks.items():
                line = [row for row in rows if row["task"] == task and row["agent"] == name]
                cues = [row["quality"] for row in line]
                right.plot(cues, [row["outcome"] for row in line], **look)
                if any(row["action_kl_do"] is not None for row in line):
                    left.plot(cues, [row["action_kl_do"] for row in line], **look)
            left.set_title(f"{task}: nats from do")
            right.set_title(f"{task}: {words[task]}")
            left.set_ylim(bottom=0)
        for axes in panels[-1]:
            axes.set_xlabel("cue")
        handles, labels = panels[0, 1].get_legend_handles_labels()
        canvas.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2, columnspacing=1.2)
        alt = "The cost of delusion rises and falls with the quality of feedback; nets lie on the exact curves."
        return to_figure(canvas, "when", alt)


def main() -> None:
    """Draw them all, on white."""
    FOLDER.mkdir(exist_ok=True)
    figures = {name: block.block(Settings()).figures[i][0] for name, (block, i) in DRAWN.items()}
    for name, figure in {**figures, "when": when()}.items():
        svg = re.sub(r"var\(--([\w-]+)\)", lambda m: COLOURS[m[1]], figure.svg)
        names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
        assert box is not None
        ground = f'<rect width="{box[1]}" height="{box[2]}" fill="#ffffff"/>'
        svg = re.sub(r"<svg ([^>]*)>", rf"<svg {names}\1>{ground}", svg, count=1)
        (FOLDER / f"{name}.svg").write_text(svg + "\n")


if __name__ == "__main__":
    main()
