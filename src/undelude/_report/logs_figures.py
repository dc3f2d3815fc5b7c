"""The figures of the page of a fit to logs."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from undelude import offline
from undelude._drawing.colours import DO, DO_TEXT, INK, MUTED, PAPER, RULE, SEE, SEE_TEXT
from undelude._drawing.strips import shade
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._report.logs_words import TIME_SCALES, interval, number
from undelude.offline._diagnosing.diagnose import ProbeReport
from undelude.offline._model.mechanisms import Factor, Table

# Probes, and rows and columns of a heat map, that a figure shows.
MAX_PROBES, MAX_ROWS, MAX_COLUMNS = 14, 40, 24
# Columns in which the numbers are written into the cells, and opacity from which they are in the colour of the paper.
MAX_WRITTEN, DARK = 6, 0.55
# Characters of a level, and of a probe.
MAX_LEVEL, MAX_NAME = 12, 62
# Lines and markers of the time scales.
LINES = {"Episode": (DO, DO_TEXT, "-", "o"), "Markov": (SEE, SEE_TEXT, "--", "s")}


def selection(fit: "offline.Fit") -> Svg | None:
    """Draw how far each candidate is behind the best on held-out episodes; None if there is nothing to compare."""
    known = [(c, c.behind) for c in fit.candidates if c.behind is not None]
    if len(known) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        for latent in dict.fromkeys(c.latent for c, _ in known):
            own = [(c.K, *behind) for c, behind in known if c.latent == latent]
            colour, text, dash, marker = LINES[latent]
            K, behind, errors = np.array(own, float).T
            look: dict[str, Any] = {"color": colour, "ls": dash, "marker": marker, "mfc": PAPER, "mec": colour}
            errors = np.where(np.isfinite(errors), errors, 0)
            axes.errorbar(K, -behind, errors, ms=5, lw=1.4, elinewidth=1, **look)
            beside = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
            axes.annotate(TIME_SCALES[latent], (K[-1], -behind[-1]), color=text, **beside)
        c, behind = next((c, behind) for c, behind in known if (c.latent, c.K) == (fit.latent, fit.K))
        axes.plot([c.K], [-behind[0]], LINES[c.latent][3], color=LINES[c.latent][0], ms=7, zorder=5)
        axes.axhline(0, color=RULE, lw=0.8, zorder=0)
        axes.set(title="held-out log-likelihood, nats an episode, less the best", xlabel="K, values of theta")
        axes.set_xticks(sorted({c.K for c, _ in known}))
        text = "; ".join(f"{c.latent}, K = {c.K}: {-x[0]:.3f} ± {x[1]:.3f}" for c, x in known)
        return to_figure(figure, "selection", f"Held-out log-likelihood less the best: {text}.")


def gaps(diagnosis: "offline.Diagnosis | None") -> Svg | None:
    """Draw the delusion gap under each time scale as bars."""
    if diagnosis is None or diagnosis.structure is None:
        return None
    found = diagnosis.structure
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.75), layout="constrained")
        axes = figure.subplots()
        most = max(x.gap[0] + 2 * x.gap[1] for x in found.alternatives)
        for y, one in enumerate(found.alternatives):
            is_chosen = one.latent == found.chosen
            colour = SEE if is_chosen else MUTED
            value, margin = one.gap[0], 2 * one.gap[1]
            axes.barh(y, value, height=0.3, color=colour, xerr=margin, ecolor=INK)
            name = TIME_SCALES[one.latent] + (f", K = {one.K}" if one.K > 1 else "") + (", chosen" if is_chosen else "")
            axes.text(0, y - 0.27, name, color=SEE_TEXT if is_chosen else MUTED, va="bottom")
            axes.annotate(number(value), (value + margin, y), xytext=(6, 0), textcoords="offset points",
                          va="center_baseline")  # fmt: skip
        axes.set(xlim=(0, 1.3 * max(most, 1e-9)), ylim=(len(found.alternatives) - 0.7, -0.8))
        axes.axis("off")
        text = ", ".join(f"{TIME_SCALES[x.latent]} {number(x.gap[0])}" for x in found.alternatives)
        return to_figure(figure, "gaps", f"Delusion gap, mean total variation: {text}.")


def bounds(diagnosis: "offline.Diagnosis | None") -> Svg | None:
    """Draw each probe with its bounds; None if there are no probes."""
    probes = [] if diagnosis is None else _some(diagnosis.probes)
    if not probes:
        return None
    are_probabilities = all(p.name.startswith("P(") for p in probes)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.7 + 0.45 * len(probes)), layout="constrained")
        axes = figure.subplots()
        for y, probe in enumerate(probes):
            low, high = (0.0, 1.0) if probe.name.startswith("P(") else (-np.inf, np.inf)
            thin = np.clip([probe.value - probe.two_se, probe.value + probe.two_se], low, high)
            if probe.manski:
                axes.plot(probe.manski, [y, y], color=MUTED, lw=0.7, ls=":", marker="|", ms=8, mew=1.1)
            axes.plot(thin, [y, y], color=INK, lw=0.9)
            if probe.profile:
                axes.plot(probe.profile, [y, y], color=DO, lw=4, solid_capstyle="butt")
            axes.plot([probe.value], [y], "o", color=INK, ms=4.5)
            axes.annotate(_shorten(probe.name, MAX_NAME), (0, y), xycoords=("axes fraction", "data"), xytext=(0, 6),
                          textcoords="offset points", color=MUTED, fontsize=STYLE["font.size"] - 1.5)  # fmt: skip
        axes.set(ylim=(len(probes) - 0.6, -0.9))
        if are_probabilities:
            axes.set_xlim(-0.02, 1.02)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=RULE, lw=0.6, zorder=0)
        axes.set_axisbelow(True)
        text = "; ".join(f"{p.name} {number(p.value)}, profile {interval(p.profile) or 'not computed'}" for p in probes)
        return to_figure(figure, "bounds", f"Probes: {text}.")


def _some(probes: Sequence[ProbeReport]) -> list[ProbeReport]:
    """Return the probes to draw: those with profile bounds first, the others by their standard errors."""
    chosen = sorted(probes, key=lambda p: (p.profile is None, -p.two_se))[:MAX_PROBES]
    return [p for p in probes if p in chosen]


def mechanisms(fit: "offline.Fit") -> list[tuple[Svg, str]]:
    """Draw the mechanism of each field: probabilities as shades, means as points with their scales.

    Returns:
        Each figure, with its caption. Tables that are too large for a figure are left out.
    """
    drawn = [(_mechanism(fit, factor), _caption(fit, factor)) for factor in fit.layout.factors]
    if fit.fitted.log_transition is not None:
        P = np.exp(np.asarray(fit.fitted.log_transition[0]))
        names = [f"theta {k}" for k in range(fit.K)]
        figure = _heat("transition", "P(next theta | theta)", P, names, [str(k) for k in range(fit.K)], ())
        drawn.append((figure, "How theta changes from round to round."))
    return [(figure, caption) for figure, caption in drawn if figure is not None]


def _caption(fit: "offline.Fit", factor: Factor) -> str:
    if factor.field == "action":
        return "What the demonstrators do under each theta. The number after a theta is its probability."
    if factor.field.startswith("opening "):
        text = "What an episode opens with"
    elif factor.field in fit.columns.hidden:
        text = "In the logs, and hidden from the agent: no evidence while it acts"
    else:
        text = "What comes back after the action"
    if factor.mechanism.tied:
        return f"{text}; declared not to depend on theta."
    return (
        f"{text}, under each theta."
        if factor.field in fit.columns.hidden
        else f"{text}, under each theta: evidence of it."
    )


def _mechanism(fit: "offline.Fit", factor: Factor) -> Svg | None:
    name = fit.columns.action.name if factor.field == "action" else factor.field
    prior = np.exp(np.asarray(fit.fitted.log_prior[0], float))
    thetas = (
        ["" if factor.contexts else "any theta"]
        if factor.mechanism.tied
        else [f"theta {k}, {prior[k]:.2f}" for k in range(fit.K)]
    )
    cells = [
        ", ".join(_shorten(f"{c.label} {c.levels[i]}" if len(factor.contexts) > 1 else c.levels[i], 2 * MAX_LEVEL)
                  for c, i in zip(factor.contexts, np.unravel_index(cell, factor.sizes), strict=True))
        for cell in range(factor.num_cells)
    ] if factor.contexts else [""]  # fmt: skip
    given = " and ".join(c.label for c in factor.contexts)
    conditions = ", ".join([*([] if factor.mechanism.tied else ["theta"]), *(c.label for c in factor.contexts)])
    bar = f" | {conditions}" if conditions else ""
    if not isinstance(factor.mechanism, Table):
        mean, scale = (np.asarray(x, float).reshape(len(thetas), len(cells), -1) for x in fit.tables[factor.field])
        return _points(name, given, mean, scale, thetas, cells)
    table = np.exp(np.asarray(fit.tables[factor.field], float)).reshape(len(thetas), len(cells), -1)
    levels = [_shorten(str(x), MAX_LEVEL) for x in _levels(fit, factor)]
    if len(levels) == 2:  # One number a cell: a column for each combination of contexts.
        title = f"P({name} = {levels[1]}{bar})"
        return _heat(name, title, table[..., 1], thetas, cells, ())
    rows = [f"{theta} {cell}".strip() for theta in thetas for cell in cells] if given else thetas
    title = f"P({name}{bar})"
    groups = tuple(range(len(cells), len(rows), len(cells))) if given else ()
    return _heat(name, title, table.reshape(len(rows), -1), rows, levels, groups)


def _levels(fit: "offline.Fit", factor: Factor) -> Sequence[object]:
    columns = {"action": fit.columns.action} | fit.columns.observations | fit.columns.hidden
    columns |= {f"opening {name}": column for name, column in fit.columns.opening.items()}
    return columns[factor.field].levels or ()


def _heat(
    name: str,
    title: str,
    table: Float[np.ndarray, "rows columns"],
    rows: Sequence[str],
    columns: Sequence[str],
    groups: Sequence[int],
) -> Svg | None:
    """Draw probabilities as shades, with a line before each of the rows `groups`; None if there are too many."""
    if table.shape[0] > MAX_ROWS or table.shape[1] > MAX_COLUMNS:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.24 * len(rows)), layout="constrained")
        axes = figure.subplots()
        shade(axes, table.T, DO)
        if len(columns) <= MAX_WRITTEN:
            for (i, j), p in np.ndenumerate(table):
                colour = PAPER if p > DARK else INK
                axes.text(j + 0.5, i, f"{p:.2f}", color=colour, ha="center", va="center", fontsize=8)
        for row in groups:
            axes.axhline(row - 0.5, color=RULE, lw=0.8)
        axes.set_xlim(0, len(columns))
        axes.set_title(_shorten(title, MAX_NAME))
        every = 1 if len(rows) <= 24 else 2
        axes.set_yticks(range(0, len(rows), every), rows[::every])
        every = max(1, int(np.ceil(sum(len(x) + 2 for x in columns) / 48)))
        axes.set_xticks(np.arange(0, len(columns), every) + 0.5, columns[::every])
        axes.tick_params(length=0)
        most = [f"{row}: {columns[int(p.argmax())]} {p.max():.2f}" for row, p in zip(rows, table, strict=True)]
        return to_figure(figure, f"mechanism {name}", f"{title}. The largest of each row: {'; '.join(most)}.")


def _points(
    name: str,
    given: str,
    mean: Float[np.ndarray, "thetas cells d"],
    scale: Float[np.ndarray, "thetas cells d"],
    thetas: Sequence[str],
    cells: Sequence[str],
) -> Svg | None:
    """Draw means with their scales, a row for each theta and combination of contexts; None if there are too many."""
    rows = [f"{theta} {cell}".strip() for theta in thetas for cell in cells]
    if len(rows) > MAX_ROWS or mean.shape[-1] > len(MARKERS):
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.24 * len(rows)), layout="constrained")
        axes = figure.subplots()
        y = np.arange(len(rows))
        for d, marker in zip(range(mean.shape[-1]), MARKERS, strict=False):
            x, sd = (part[..., d].ravel() for part in (mean, scale))
            axes.errorbar(x, y, xerr=sd, ls="", marker=marker, color=(DO, SEE, INK, MUTED)[d], ms=4, elinewidth=1)
        axes.set(ylim=(len(rows) - 0.5, -0.5))
        axes.set_title(_shorten(f"{name}{', given ' + given if given else ''}: mean ± scale", MAX_NAME))
        axes.set_yticks(y, rows)
        text = "; ".join(
            f"{row} {np.round(m, 2).tolist()}" for row, m in zip(rows, mean.reshape(len(rows), -1), strict=True)
        )
        return to_figure(figure, f"mechanism {name}", f"{name}, means: {text}.")


# Markers of the dimensions of a real field.
MARKERS = ("o", "s", "^", "D")


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
