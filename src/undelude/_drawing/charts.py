"""Charts on given axes: distances from both exact answers, and how these change in training."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from undelude._certificate.numbers import LONG, short
from undelude._certificate.quantity import Quantity
from undelude._drawing.colours import DO, DO_TEXT, INK, RULE, SEE, SEE_TEXT

NAMES = {"agent": "agent", "exact_do": "interventional answer", "exact_see": "deluded answer"}
# The answers by the mark with which they read the agent's actions.
ANSWERS = {"do": "exact_do", "see": "exact_see"}
SYMBOLS = "action", "observation"
COLOURS = {"agent": INK, "exact_do": DO, "exact_see": SEE}
TEXT = {"agent": INK, "exact_do": DO_TEXT, "exact_see": SEE_TEXT}
# Distances between ticks, times a power of ten.
STEPS = [1, 2, 5, 10]


def kl_over_updates(axes: Axes, update: Float[np.ndarray, " n"], curves: Mapping[str, Float[np.ndarray, " n"]]) -> None:
    """Draw `KL(answer || agent)` over updates on a log scale.

    An infinite value, or one that is 0, becomes an arrow at the end of the scale.

    Args:
        axes: to draw on.
        update: `[n]`.
        curves: by the keys of `NAMES`, `[n]`; NaN where nothing was measured.
    """
    axes.set_yscale("log")
    _log_ticks(axes, "y", np.concatenate(list(curves.values())), margin=1.25)
    for name, y in curves.items():
        drawn = np.where(np.isfinite(y) & (y > 0), y, np.nan)
        axes.plot(update, drawn, dash(name), color=COLOURS[name], lw=1.6, marker=marker(name), ms=3.2, mew=0)
    arrows(axes, update, {COLOURS[name]: y for name, y in curves.items()})
    axes.set(title="KL(answer ‖ agent), nats per action", xlabel="update", xlim=(0, None))
    _label_ends(axes, curves)
    integers(axes)


def arrows(axes: Axes, x: Float[np.ndarray, " n"], curves: Mapping[str, Float[np.ndarray, " n"]]) -> None:
    """Mark infinite numbers by arrows at the top, and on a log scale those that are not positive at the bottom.

    Args:
        axes: with their scale and limits, which stay.
        x: `[n]`.
        curves: by colour, `[n]`.
    """
    low, high = axes.get_ylim()
    is_log = axes.get_yscale() == "log"
    top = high / 1.03 if is_log else high - 0.02 * (high - low)
    for colour, y in curves.items():
        below = (y <= 0) & is_log
        for outside, place, arrow in ((y == np.inf, top, "^"), (below, low * 1.03, "v")):
            axes.plot(x[outside], np.full(outside.sum(), place), arrow, color=colour, ms=6, mew=0)
    axes.set_ylim(low, high)


def distances(quantity: Callable[[str], Quantity], measure: str) -> dict[str, dict[str, Quantity]]:
    """Return the distances to both answers for `dots`, of the symbols of which any was measured.

    Args:
        quantity: returns a quantity of a certificate by its name.
        measure: `"kl"` or `"tv"`.
    """
    rows = {x: {name: quantity(f"{x}_{measure}_{mark}") for mark, name in ANSWERS.items()} for x in SYMBOLS}
    return {x: row for x, row in rows.items() if any(q.value is not None for q in row.values())}


def dots(axes: Axes, rows: Mapping[str, Mapping[str, Quantity]], title: str, *, log: bool) -> None:
    """Draw the quantities of each row as dots, with intervals of two standard errors.

    Args:
        axes: to draw on.
        rows: by the kind of symbol, "action" or "observation": quantities by the keys of `NAMES`.
        title: of the axes.
        log: whether the scale is logarithmic; otherwise it has 0.
    """
    if log:
        axes.set_xscale("log")
        values = [math.nan if q.value is None else q.value for row in rows.values() for q in row.values()]
        _log_ticks(axes, "x", np.array(values), margin=1.6)
    for y, row in enumerate(rows.values()):
        _dots(axes, y, row)
    if not log:
        _from_zero(axes)
    axes.set(yticks=range(len(rows)), yticklabels=[f"{x}s" for x in rows], ylim=(len(rows) - 0.5, -0.5))
    axes.set_title(title)
    no_left(axes)


def _dots(axes: Axes, y: int, row: Mapping[str, Quantity]) -> None:
    """Draw the quantities of a row, joined by a line; a value outside a log axis becomes an arrow at its end."""
    at = {}
    lo, hi = axes.get_xlim()
    for name, q in row.items():
        if q.value is None:
            continue
        if axes.get_xscale() == "log" and not lo < q.value < hi:
            below = q.value <= lo
            at[name] = lo * (hi / lo) ** (0.02 if below else 0.98)
            axes.plot([at[name]], [y], "<" if below else ">", color=COLOURS[name], ms=6, mew=0)
            beside = {"textcoords": "offset points", "xytext": (0, -5), "ha": "center", "va": "top"}
            axes.annotate(short(q.value), (at[name], y), color=TEXT[name], **beside)
        elif math.isfinite(q.value):
            at[name] = q.value
            interval(axes, y, q, COLOURS[name], marker(name))
    if len(at) == 2:
        axes.plot(list(at.values()), [y, y], color=RULE, lw=1, zorder=0)


def interval(axes: Axes, y: int, q: Quantity, colour: str, fmt: str) -> None:
    """Draw a quantity with an interval of two standard errors."""
    if q.value is None or not math.isfinite(q.value):
        return
    look = {"color": colour, "ms": 5, "mew": 0, "elinewidth": 1.6, "zorder": 2}
    axes.errorbar([q.value], [y], xerr=None if q.standard_error is None else 2 * q.standard_error, fmt=fmt, **look)


def _label_ends(axes: Axes, curves: Mapping[str, np.ndarray]) -> None:
    """Write the last value next to the end of each line, moved apart if the labels would touch."""
    lo, hi = (math.log(v) for v in axes.get_ylim())
    logs = {name: math.log(max(last(y), 1e-300)) for name, y in curves.items()}
    ends = {name: min(max((x - lo) / (hi - lo), 0.0), 1.0) for name, x in logs.items()}
    order = sorted(ends, key=lambda name: ends[name])
    if len(order) == 2 and (overlap := 0.2 - (ends[order[1]] - ends[order[0]])) > 0:
        ends[order[0]] -= overlap / 2
        ends[order[1]] += overlap / 2
    for name, height in ends.items():
        label = f"{NAMES[name].split()[0]}\n{short(last(curves[name]))}"
        axes.annotate(label, (1.02, height), xycoords="axes fraction", color=TEXT[name], va="center", linespacing=1.15)


def _log_ticks(axes: Axes, which: Literal["x", "y"], values: np.ndarray, *, margin: float) -> None:
    """Set ticks written as decimals, more than one per decade if there are few decades."""
    values = values[np.isfinite(values) & (values > 1e-7)]
    lo, hi = (values.min(), values.max()) if len(values) else (1e-3, 1.0)
    lo, hi = lo / margin, hi * margin
    span = math.log10(hi / lo)
    decades = range(math.floor(math.log10(lo)), math.ceil(math.log10(hi)) + 1, max(1, round(span / 8)))
    steps = (1, 2, 5) if span < 1.7 else (1, 3) if span < 3 else (1,)
    ticks = [m * 10.0**d for d in decades for m in steps if lo <= m * 10.0**d <= hi]
    axis, set_limits = (axes.xaxis, axes.set_xlim) if which == "x" else (axes.yaxis, axes.set_ylim)
    set_limits(lo, hi)
    axis.set_major_formatter(FuncFormatter(lambda v, _: _decimal(v)))
    axis.set_ticks(ticks)
    axis.set_ticks([], minor=True)


def _decimal(v: float) -> str:
    return f"{v:.10f}".rstrip("0").rstrip(".") if v < LONG else f"{v:.0e}"


def _from_zero(axes: Axes) -> None:
    lo, hi = axes.dataLim.intervalx
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    margin = 0.06 * (hi - lo or 1.0)
    axes.set_xlim(lo - margin, hi + margin)
    axes.axvline(0, color=RULE, lw=0.8, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))


def integers(axes: Axes) -> None:
    """Set whole numbers as ticks."""
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))


def no_left(axes: Axes) -> None:
    """Remove the line of the vertical axis."""
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def dash(name: str) -> str:
    """Return the line style of an answer."""
    return "--" if name == "exact_see" else "-"


def marker(name: str) -> str:
    """Return the marker of an answer, or of the agent."""
    return {"agent": "v", "exact_do": "o", "exact_see": "s"}[name]


def last(y: np.ndarray) -> float:
    """Return the last number that was measured, which may be infinite."""
    return float(y[~np.isnan(y)][-1])
