"""Draw the stored results for the docs: figures, docs/figures/NAME.svg, and the tables of two pages.

python studies/draw.py    a few seconds
"""

import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from undelude._certificate.numbers import with_error
from undelude._cli.tasks import LSTM_UNITS
from undelude._drawing.colours import DO, INK, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure, to_file
from undelude._named_tasks import SETTINGS, TASKS
from undelude._paper.blocks import (
    doors,
    dpt,
    generations,
    interventional,
    length,
    remark_14,
    remark_15,
    remark_17,
    remark_18,
    shares,
)
from undelude._paper.item import Settings
from undelude._paper.results import load
from undelude._runs.config import Config

DOCS = Path(__file__).parent.parent / "docs"
FOLDER = DOCS / "figures"
# Pages with tables.
PAGES = ("when.md", "tasks.md", "offline.md")
# Figure files: the block that draws them, and the index of the figure.
DRAWN = {
    "dagger": (remark_17, 1),
    "doors": (doors, 0),
    "doors_by_round": (doors, 1),
    "dpt": (dpt, 0),
    "generations": (generations, 0),
    "interventional": (interventional, 0),
    "length": (length, 0),
    "remark_14": (remark_14, 1),
    "remark_15": (remark_15, 0),
    "remark_17": (remark_17, 0),
    "remark_18": (remark_18, 0),
    "shares": (shares, 0),
}

# Outcomes in the tables of docs/when.md.
OUTCOMES = {
    "bandit": "reward a round",
    "switching_bandit": "reward a round",
    "merge": "crashes",
    "grid": "on the goal at the end",
    "arm": "at the target at the end",
    "menu": "right at the end",
    "leduc": "chips per hand",
    "kuhn": "chips per hand",
    "doors": "reward an episode",
}
FEEDBACK = {None: "pays .75 or .25", "nash": "opponent near Nash", "random": "opponent at random"}
# What bounds an effect, from studies/offline_cases.py.
INTERVALS = {
    "starts": "starts",
    "two_se": "\N{PLUS-MINUS SIGN} 2 SE",
    "profile": "profile, fit",
    "with_rivals": "profile, rivals",
    "manski": "Manski",
}
AGENTS = ("expert", "do", "see", "committed", "counterfactual", "factual")


def when() -> Svg:
    """Plot KL divergence, outcome and cost of delusion by the quality of the feedback, with a row for each task."""
    rows = [row for row in load("when")["rows"] if isinstance(row["quality"], float)]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
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
            "label": "network, counterfactual",
        },
        "factual": {"ls": "none", "marker": "o", "mfc": "none", "mec": SEE, "label": "network, factual"},
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + 1.7 * len(tasks)), layout="constrained")
        panels = figure.subplots(len(tasks), 3, squeeze=False, sharex=True)
        for (left, right, lost), task in zip(panels, tasks, strict=True):
            outcomes = {(row["agent"], row["quality"]): row["outcome"] for row in rows if row["task"] == task}
            cues = sorted({cue for _, cue in outcomes})
            sign = -1 if OUTCOMES[task] == "crashes" else 1
            cost = [sign * (outcomes["do", cue] - outcomes["see", cue]) for cue in cues]
            lost.plot(cues, cost, color=INK)
            lost.axhline(0, color=MUTED, lw=0.6)
            lost.set_title("cost of delusion")
            for name, look in looks.items():
                line = [row for row in rows if row["task"] == task and row["agent"] == name]
                cues = [row["quality"] for row in line]
                right.plot(cues, [row["outcome"] for row in line], **look)
                if any(row["action_kl_do"] is not None for row in line):
                    left.plot(cues, [row["action_kl_do"] for row in line], **look)
            left.set_title(f"{task}: nats")
            right.set_title(OUTCOMES[task].removesuffix(" at the end"))
            left.set_ylim(bottom=0)
        for axes in panels[-1]:
            axes.set_xlabel("cue")
        handles, labels = panels[0, 1].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2, columnspacing=1.2)
        alt = "KL divergence from the interventional policy, outcome, and cost of delusion, by the quality of feedback."
        return to_figure(figure, "when", alt)


def offline_cases() -> Svg:
    """Plot the intervals for an effect in each data set, by test, with a panel for each case."""
    part = load("offline_cases")["parts"]["cases"]
    num, words = part["data_sets"], []
    with matplotlib.rc_context(STYLE):
        lines = -(-len(part["rows"]) // 2)
        figure = Figure(figsize=(WIDTH, 1.5 * lines), layout="constrained")
        panels = figure.subplots(lines, 2, sharex=True, sharey=True)
        for axes, (name, row) in zip(panels.flat, part["rows"].items(), strict=False):
            axes.axvline(row["truth"], color=INK, lw=0.8, zorder=3)
            for place, (test, ends) in enumerate(row["intervals"].items()):
                for i, (low, high) in enumerate(ends):
                    holds = low <= row["truth"] <= high
                    look = {"color": DO if holds else SEE, "ls": "-" if holds else (0, (2, 0.6)), "lw": 1.2}
                    at = place + 0.62 * ((i + 0.5) / num - 0.5)
                    axes.plot([max(low, 0), min(high, 1)], [at, at], **look, solid_capstyle="round", clip_on=False)
                    if high - low < 0.02:
                        axes.plot(
                            (low + high) / 2,
                            at,
                            "o" if holds else "x",
                            color=look["color"],
                            ms=2.2,
                            mew=0.8,
                            clip_on=False,
                        )
                axes.text(1.05, place, f"{row['held'][test]}", va="center", color=INK)
            axes.set(xlim=(0, 1), ylim=(len(INTERVALS) - 0.5, -0.5), title=name.removesuffix(" of rounds"))
            axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
            axes.set_yticks(range(len(INTERVALS)), INTERVALS.values())
            axes.tick_params(axis="y", length=0, labelcolor=INK)
            axes.tick_params(axis="x", labelbottom=True)
            axes.spines["left"].set_visible(False)
            held = ", ".join(f"{INTERVALS[test]} {number}" for test, number in row["held"].items())
            words.append(f"{name}: {held}")
        for axes in panels.flat[len(part["rows"]) :]:
            axes.set_axis_off()
            for y, (look, what) in enumerate([((DO, "-"), "holds the truth"), ((SEE, "--"), "misses it")]):
                axes.plot([0, 0.2], [y, y], color=look[0], ls=look[1])
                axes.text(0.28, y, what, va="center")
            axes.plot([0.1, 0.1], [1.6, 2.4], color=INK, lw=0.8)
            axes.text(0.28, 2, "the truth", va="center")
            axes.text(0.1, 3, "n", va="center", ha="center")
            axes.text(0.28, 3, f"of {num} hold it", va="center")
        alt = f"Intervals for an effect in {num} data sets of each case. How many hold the truth: {'; '.join(words)}."
        return to_figure(figure, "offline_cases", alt)


def settings() -> str:
    """Return the table of the settings with which `undelude train TASK` teaches, and of the agents that they give."""
    head = ("task", "units", "updates", "batch", "learning rate", "weight", "KL to do", "KL to see", "seconds")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    found = {row["task"]: row for row in load("tasks")["rows"]}
    for task in TASKS:
        config, row = Config(task, **SETTINGS.get(task, {})), found.get(task)
        kl = [number(row, name) for name in ("action_kl_do", "action_kl_see")]
        cells = [config.hidden_size or LSTM_UNITS, config.steps, config.batch_size, f"{config.learning_rate:g}"]
        cells += [f"{config.observation_weight:g}", *kl, f"{row['seconds']:.0f}" if row else ""]
        lines.append(f"| {task} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def cases() -> str:
    """Return the table of the tests of `diagnose` by case."""
    head = ("case", *INTERVALS.values(), "least support, rounds", "Kruskal passes", "flat directions", "verdicts")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    part = load("offline_cases")["parts"]["cases"]
    for name, row in part["rows"].items():
        cells = [f"{_short(row['width'][test][0])} ({row['held'][test]})" for test in INTERVALS]
        cells += [f"{row['least_support'][0]:,.0f}", f"{row['kruskal_passes']} of {part['data_sets']}"]
        cells += [f"{row['flat'][0]:.0f} of {row['directions']}"]
        cells += [", ".join(f"{verdict} {number}" for verdict, number in row["verdicts"].items())]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(width: float) -> str:
    return f"{width:.3f}".lstrip("0") if width < 1 else f"{width:.2g}"


def tables() -> dict[str, str]:
    """Return the tables by name.

    `nats` and `seen` are for all tasks; one is named after each task; then there are `settings`, and `cases` of logs.
    """
    found = {(row["task"], row["quality"], row["agent"]): row for row in load("when")["rows"]}
    lines = list(dict.fromkeys(key[:2] for key in found))
    nats = ["| task | feedback | see | counterfactual | factual |", "|---|---|---|---|---|"]
    seen = ["| task | feedback | | expert | do | see | committed | counterfactual | factual |", "|" + "---|" * 9]
    each = {task: ["| feedback | expert | do | see | committed |", "|---|---|---|---|---|"] for task, _ in lines}
    for task, quality in lines:
        rows = {name: found.get((task, quality, name)) for name in AGENTS}
        feedback = f"cue {quality:g}" if isinstance(quality, float) else FEEDBACK.get(quality, quality)
        kl = [number(rows[name], "action_kl_do") for name in ("see", "counterfactual", "factual")]
        outcomes = [number(row, "outcome") for row in rows.values()]
        nats.append(f"| {task} | {feedback} | {' | '.join(kl)} |")
        each[task].append(f"| {feedback} | {' | '.join(outcomes[:4])} |")
        if rows["counterfactual"] is not None:
            seen.append(f"| {task} | {feedback} | {OUTCOMES[task]} | {' | '.join(outcomes)} |")
    joined = {name: "\n".join(lines) for name, lines in {"nats": nats, "seen": seen, **each}.items()}
    return joined | {"settings": settings(), "cases": cases()}


def number(row: dict[str, Any] | None, name: str) -> str:
    """Return a value of a row with the digits that its standard error allows; empty if there is no row."""
    if row is None or row[name] is None:
        return ""
    error = row.get("se" if name == "outcome" else f"{name}_se")
    return with_error(row[name], error).replace("\N{NO-BREAK SPACE}", " ")


def with_tables(text: str) -> str:
    """Return a page with its tables, which are between comments, replaced by those of the stored results."""
    for name, table in tables().items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, x=f"{begin}\n\n{table}\n\n{end}": x, text, flags=re.DOTALL)
    return text


def main() -> None:
    """Write all tables, and all figures on a white background."""
    for name in PAGES:
        (DOCS / name).write_text(with_tables((DOCS / name).read_text()))
    FOLDER.mkdir(exist_ok=True)
    figures = {name: block.block(Settings(num_episodes=100)).figures[i][0] for name, (block, i) in DRAWN.items()}
    for name, figure in {**figures, "when": when(), "offline_cases": offline_cases()}.items():
        (FOLDER / f"{name}.svg").write_text(to_file(figure))


if __name__ == "__main__":
    main()
