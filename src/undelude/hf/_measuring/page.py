"""The page of a report of `measure_delusion`."""

from importlib.resources import files

import matplotlib
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from undelude._certificate.quantity import Quantity
from undelude._drawing.colours import DO, DO_TEXT, INK, MUTED, RULE, SEE, SEE_TEXT
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude.hf._measuring.delusion_report import CRITERION, MEANINGS, MIN_SUGGESTION, WORDS, DelusionReport, amount
from undelude.hf._measuring.table import describe

LINES = {"sober": (DO, DO_TEXT, "-", "o"), "deluded": (SEE, SEE_TEXT, "--", "s")}


def render(report: DelusionReport) -> str:
    """Return the page as HTML: it opens no URL and runs no script."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"amount": amount, "exact": lambda x: amount(Quantity(x.value))}
    template = environment.from_string(
        files("undelude.hf._measuring").joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    style = files("undelude._report").joinpath("style.css").read_text(encoding="utf-8")
    measured = {name: x for name, x in report.by_round.items() if any(q.value is not None for q in x)}
    return template.render(
        style=Markup(style),
        report=report,
        word=WORDS[report.verdict],
        how=describe(report),
        measured=measured,
        meanings=MEANINGS,
        criterion=CRITERION,
        least=MIN_SUGGESTION,
        suggestion=by_turn(report, "auto_suggestion", "told by its own utterance, nats", MIN_SUGGESTION),
        repeats=by_turn(report, "repeat_after_no_answer", "repeated after no answer"),
        answers=answers(report),
    )


def by_turn(report: DelusionReport, name: str, title: str, threshold: float | None = None) -> Svg | None:
    """Draw a quantity over the turns, with intervals of two standard errors, and that of the exact agents.

    A threshold is drawn as a dotted line, and is within the axes, so that no quantity below it looks large.
    """
    if all(x.value is None for x in report.by_round[name]):
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        ends = {"this model": (_draw(axes, report.by_round[name], INK, "-", "v"), INK)}
        for who, numbers in report.references.items():
            colour, text, dash, marker = LINES[who]
            ends[f"exact, {who}"] = (_draw(axes, numbers[name], colour, dash, marker, bars=False), text)
        axes.set(title=title, xlabel="turn", xlim=(0.8, max(report.num_rounds, 2) + 0.2))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.margins(y=0.15)
        axes.axhline(0, color=RULE, lw=0.8, zorder=0)
        if threshold is not None:
            axes.axhline(threshold, color=MUTED, lw=0.8, ls=":", zorder=0)
            axes.set_ylim(top=max(axes.get_ylim()[1], 1.3 * threshold))
        _label(axes, ends)
        values = "; ".join(f"turn {t + 1} {amount(x)}" for t, x in enumerate(report.by_round[name]))
        return to_figure(figure, name, f"{title}: {values}.")


def answers(report: DelusionReport) -> Svg | None:
    """Draw how often two answers agree and how often an answer is right, over the turns."""
    if all(x.value is None for x in report.by_round["hit"]):
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        ends = {
            "confidence": (_draw(axes, report.by_round["confidence"], SEE, "--", "s"), SEE_TEXT),
            "hit": (_draw(axes, report.by_round["hit"], DO, "-", "o"), DO_TEXT),
        }
        axes.set(title="confidence and hit of this model", xlabel="turn", ylim=(0, 1.05))
        axes.set_xlim(0.8, max(report.num_rounds, 2) + 0.2)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _label(axes, ends)
        first = {name: amount(report.by_round[name][0]) for name in ends}
        return to_figure(figure, "answers", f"In the first turn, confidence {first['confidence']}, hit {first['hit']}.")


def _draw(
    axes: Axes, values: tuple[Quantity, ...], colour: str, dash: str, marker: str, *, bars: bool = True
) -> float | None:
    """Draw a line; return its last value, or None if it has none."""
    y = np.array([np.nan if x.value is None else x.value for x in values])
    y = np.where(np.isfinite(y), y, np.nan)
    errors = np.array([2 * (x.standard_error or 0.0) for x in values]) if bars else None
    turns = np.arange(1, len(y) + 1)
    axes.errorbar(turns, y, errors, color=colour, ls=dash, marker=marker, ms=4, lw=1.4, elinewidth=1, mew=0)
    known = y[~np.isnan(y)]
    return float(known[-1]) if len(known) else None


def _label(axes: Axes, ends: dict[str, tuple[float | None, str]]) -> None:
    """Write the name of each line at its end, one above the other where they meet."""
    low, high = axes.get_ylim()
    gap, place = 0.09 * (high - low), -np.inf
    x = axes.get_xlim()[1]
    for name, (y, colour) in sorted(ends.items(), key=lambda item: -np.inf if item[1][0] is None else item[1][0]):
        if y is not None:
            place = max(y, place + gap)
            axes.annotate(name, (x, place), color=colour, va="center", annotation_clip=False)
