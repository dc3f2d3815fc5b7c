"""The figures of a run's report."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from undelude._certificate.numbers import short
from undelude._drawing.charts import (
    COLOURS,
    NAMES,
    STEPS,
    SYMBOLS,
    TEXT,
    dash,
    dots,
    integers,
    interval,
    kl_over_updates,
    last,
    no_left,
)
from undelude._drawing.charts import distances as by_answer
from undelude._drawing.colours import DO, INK, MUTED, RULE, SEE
from undelude._drawing.strips import frame_truth, listed, mark_actions, round_ticks, shade, symbol_ticks
from undelude._drawing.svg import FONT, STYLE, WIDTH, Svg, to_figure
from undelude._runs.contents import RunContents
from undelude._runs.example_episode import READERS, ExampleEpisode

# Largest number of rows in a strip, and of rounds in which the observation is written as a number.
MAX_ROWS, MAX_WRITTEN = 24, 24
# Largest number of characters that explain the observations of an episode.
MAX_KEY = 48
# Largest number of lines for the numbers of an action, and their dashes.
MAX_NUMBERS, DASHES = 4, ("-", "--", ":", "-.")


def distances(run: RunContents) -> Svg | None:
    """Draw the two distances of the headline as bars; None if a distance is missing or infinite."""
    bars = [("exact_do", run.quantity("action_kl_do")), ("exact_see", run.quantity("action_kl_see"))]
    if any(q.value is None or math.isinf(q.value) for _, q in bars):
        return None
    bars.sort(key=lambda bar: bar[1].value or 0.0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.3), layout="constrained")
        axes = figure.subplots()
        for y, (name, q) in enumerate(bars):
            value, margin = q.value or 0.0, 2 * (q.standard_error or 0.0)
            axes.barh(y, value, height=0.3, color=COLOURS[name], xerr=margin, ecolor=INK)
            axes.text(0, y - 0.28, f"to the {NAMES[name]}", color=TEXT[name], va="bottom")
            beside = {"textcoords": "offset points", "xytext": (6, 0), "va": "center_baseline"}
            axes.annotate(f"{short(value)} nats", (value + margin, y), color=TEXT[name], **beside)
        axes.set(xlim=(0, 1.35 * max(bars[-1][1].value or 0.0, 1e-9)), ylim=(1.25, -0.8))
        axes.axis("off")
        values = ", ".join(f"to the {NAMES[name]} {short(q.value)}" for name, q in bars)
        return to_figure(figure, "distances", f"Two bars, in nats per action: {values}.")


def learning_curve(run: RunContents) -> Svg | None:
    """Draw the KL to both answers over updates, on a log scale; None if training did not measure it."""
    update = run.series("update")
    curves = {"exact_do": run.series("action_kl_do"), "exact_see": run.series("action_kl_see")}
    curves = {name: y for name, y in curves.items() if not np.isnan(y).all()}
    if not curves:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.subplots()
        kl_over_updates(axes, update, curves)
        ends = ", ".join(f"from the {NAMES[name]} {short(last(y))} nats" for name, y in curves.items())
        alt = f"Learning curve over {int(update[-1])} updates, log scale. At the last measurement: {ends}."
        return to_figure(figure, "learning", alt)


def losses(run: RunContents) -> Svg | None:
    """Draw the two log-losses over updates; None if neither was measured."""
    update = run.series("update")
    parts = [(part, y) for part in ("action", "observation") if np.isfinite(y := run.series(f"{part}_loss")).any()]
    if not parts:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        for axes, (part, y) in zip(np.atleast_1d(figure.subplots(len(parts), sharex=True)), parts, strict=True):
            y = np.where(np.isfinite(y), y, np.nan)
            axes.plot(update, y, color=INK, lw=1.3, marker="o" if len(y) == 1 else None, ms=3)
            axes.set(title=f"{part} log-loss, nats", xlim=(0, None))
            axes.margins(y=0.12)
            axes.yaxis.set_major_locator(MaxNLocator(3, steps=STEPS))
        axes.set_xlabel("update")
        integers(axes)
        ends = ", ".join(f"{part} {short(last(y))}" for part, y in parts)
        alt = f"Log-losses in training over {int(update[-1])} updates. At the end, in nats: {ends}."
        return to_figure(figure, "losses", alt)


def certificate(run: RunContents) -> Svg | None:
    """Draw distances to both answers and calibration gaps as dots, with intervals of two standard errors."""
    gaps = {x: {"agent": run.quantity(f"{x}_calibration_gap")} for x in SYMBOLS}
    panels = [
        ("KL(answer ‖ agent), nats", by_answer(run.quantity, "kl"), True),
        ("total variation", by_answer(run.quantity, "tv"), False),
        ("calibration gap, nats", {x: row for x, row in gaps.items() if row["agent"].value is not None}, False),
    ]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return None
    spaced: dict[Any, Any] = STYLE | {"figure.constrained_layout.h_pad": 0.09}
    with matplotlib.rc_context(spaced):
        figure = Figure(figsize=(WIDTH, 0.35 + 1.02 * len(panels)), layout="constrained")
        values = []
        for axes, (title, rows, log) in zip(np.atleast_1d(figure.subplots(len(panels))), panels, strict=True):
            dots(axes, rows, title, log=log)
            values += [
                f"{symbol} {title}, {NAMES[x]}: {short(q.value)}"
                for symbol, row in rows.items()
                for x, q in row.items()
            ]
        return to_figure(figure, "certificate", f"Dot chart of the certificate: {'; '.join(values)}.")


def returns(run: RunContents) -> Svg | None:
    """Draw the reward per round of the agent, the expert and both exact agents, each on its own histories."""
    names = (("reward_expert", "expert", MUTED, "D"), ("reward_exact_do", NAMES["exact_do"], DO, "o"))
    names += (("reward", "agent", INK, "v"), ("reward_exact_see", NAMES["exact_see"], SEE, "s"))
    rows = [(label, colour, marker, run.quantity(name)) for name, label, colour, marker in names]
    rows = [row for row in rows if row[3].value is not None]
    if not rows:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.27 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for y, (_, colour, marker, q) in enumerate(rows):
            interval(axes, y, q, colour, marker)
        axes.set(yticks=range(len(rows)), yticklabels=[label for label, *_ in rows], ylim=(len(rows) - 0.4, -0.6))
        axes.set_xlabel("reward per round")
        axes.grid(axis="y", color=RULE, lw=0.6)
        axes.set_axisbelow(True)
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        no_left(axes)
        values = "; ".join(f"{label} {short(q.value)}" for label, _, _, q in rows)
        return to_figure(figure, "returns", f"Dot chart of the reward per round: {values}.")


def strips(episode: ExampleEpisode) -> Svg:
    """Draw an episode over its rounds: actions and observations, three strips of probabilities, and a comparison."""
    variable, distributions = episode.distributions
    shown = _rows_to_show(distributions, episode.theta if variable == "theta" else episode.actions)
    T, names = episode.num_rounds, [name for name in READERS if name in distributions]
    row = float(np.clip(0.85 / len(shown), 0.05, 0.14))
    written = T <= MAX_WRITTEN and (episode.observations is None or int(episode.observations.max()) < 100)
    named = _named_actions(episode)
    track = 0.6 if named is None else float(np.clip(0.85 / len(named[0]), 0.05, 0.14)) * len(named[0])
    num_values = distributions["exact_do"].shape[1]
    rows = f"each {variable}" if len(shown) == num_values else f"{len(shown)} of {num_values} {variable}s"
    heights = [track, 0.16 if written else 0.45] + [row * len(shown)] * len(names) + [0.85]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.27 * len(heights) + 0.35), layout="constrained")
        grid = figure.subplots(len(heights), sharex=True, gridspec_kw={"height_ratios": heights})
        _action_track(grid[0], episode, named)
        _observation_track(grid[1], episode, written)
        for axes, name in zip(grid[2:-1], names, strict=True):
            shade(axes, distributions[name][:, shown], COLOURS[name])
            axes.set_title(f"{NAMES[name]}: probability of {rows}", color=TEXT[name])
            labels = episode.theta_descriptions if variable == "theta" else None
            symbol_ticks(axes, shown if labels is None else [labels[k] for k in shown])
            if variable == "theta":
                frame_truth(axes, episode.theta, shown)
        comparison = _compare(grid[-1], episode, variable, distributions)
        round_ticks(grid[-1], T)
        for axes in grid[:-1]:
            axes.tick_params(axis="x", length=0, labelbottom=False)
        alt = f"One episode of {T} rounds, read {'three' if 'agent' in distributions else 'two'} ways. "
        alt += "" if named is None else f"Actions: {listed(np.array(named[0])[named[1]])}. "
        alt += "" if episode.observations is None else f"Observations: {listed(episode.observations)}. "
        return to_figure(figure, "episode", alt + comparison)


def _named_actions(episode: ExampleEpisode) -> tuple[Sequence[Any], Int[np.ndarray, " T"]] | None:
    """Return the rows of actions to show, and the row of each action; None if the actions are numbers.

    Symbols have a row each. Other actions that the task describes in words have a row for each description.
    """
    if episode.policy is not None:
        return range(episode.policy["agent"].shape[1]), episode.actions
    if episode.action_descriptions is None:
        return None
    names = list(dict.fromkeys(episode.action_descriptions))
    return names, np.array([names.index(name) for name in episode.action_descriptions])


def _action_track(
    axes: Axes, episode: ExampleEpisode, named: tuple[Sequence[Any], Int[np.ndarray, " T"]] | None
) -> None:
    if named is None:
        _number_track(axes, episode.actions.reshape(episode.num_rounds, -1))
        return
    rows, row_of = named
    least = mark_actions(axes, row_of, episode.rewards)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    above = "filled: reward above" if (episode.rewards > least).any() else "reward always"
    axes.set_title(f"action taken ({above} {short(least)})")
    symbol_ticks(axes, rows)
    axes.grid(axis="y", color=RULE, lw=0.6)
    axes.spines[["left", "bottom"]].set_visible(False)


def _number_track(axes: Axes, actions: Float[np.ndarray, "T D"]) -> None:
    """Draw a line for each number of the actions, and name it at its end."""
    shown = min(actions.shape[1], MAX_NUMBERS)
    for d, y in enumerate(actions.T[:shown]):
        axes.plot(np.arange(len(y)) + 0.5, y, DASHES[d], color=INK, lw=1.1, label=f"{d + 1}")
    kept = "" if shown == actions.shape[1] else f", the first {shown} of {actions.shape[1]}"
    axes.set_title(f"action taken{kept and f' ({kept[2:]} numbers)'}")
    if shown > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="number", handlelength=1.6)
    axes.yaxis.set_major_locator(MaxNLocator(2))


def _observation_track(axes: Axes, episode: ExampleEpisode, written: bool) -> None:
    axes.set_title(f"observation{_key_to_observations(episode)}")
    axes.spines[["left", "bottom"]].set_visible(False)
    if episode.observations is None:
        axes.set_title("observation (not a symbol: not shown)")
        axes.set_yticks([])
    elif written:
        axes.set(yticks=[], ylim=(0, 1))
        for t, o in enumerate(episode.observations):
            axes.text(t + 0.5, 0.5, str(o), ha="center", va="center", size=FONT - 1)
    else:
        axes.plot(np.arange(episode.num_rounds) + 0.5, episode.observations, ".", color=INK, ms=3)
        axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))


def _key_to_observations(episode: ExampleEpisode) -> str:
    """Return the task's words for each observation, if they are few and say more than its number."""
    if episode.observations is None or episode.descriptions is None:
        return ""
    words = {int(o): text for o, text in zip(episode.observations, episode.descriptions, strict=True)}
    key = ", ".join(f"{o} {words[o]}" for o in sorted(words))
    says_more = any(text != str(o) for o, text in words.items())
    return f": {key}" if says_more and len(key) <= MAX_KEY else ""


def _compare(axes: Axes, episode: ExampleEpisode, variable: str, distributions: dict[str, np.ndarray]) -> str:
    """Draw the beliefs in the truth, or the distances of both policies from the agent's; return a sentence."""
    x = np.arange(len(episode.theta)) + 0.5
    if variable == "theta":
        lines = {name: distribution[np.arange(len(x)), episode.theta] for name, distribution in distributions.items()}
        constant = len(set(episode.theta)) == 1
        axes.set_title(
            "belief in the truth" + (f" ({episode.name('theta', int(episode.theta[-1]))})" if constant else "")
        )
        sentence = "Belief in the truth at the end: "
    else:
        lines = {name: np.abs(distributions[name] - distributions["agent"]).sum(-1) / 2 for name in READERS[1:]}
        axes.set_title("total variation from the policy of the agent")
        sentence = "Total variation from the policy of the agent, mean over the rounds: "
    for name in [n for n in ("exact_do", "exact_see", "agent") if n in lines]:
        width = 1.1 if name == "agent" else 2.6
        axes.plot(x, lines[name], dash(name), color=COLOURS[name], lw=width, solid_capstyle="butt")
    axes.set(ylim=(-0.04, 1.04), yticks=[0, 0.5, 1])
    values = {name: y[-1] if variable == "theta" else y.mean() for name, y in lines.items()}
    return sentence + ", ".join(f"{NAMES[name]} {value:.2f}" for name, value in values.items()) + "."


def _rows_to_show(distributions: dict[str, np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Return all values; of many, the true ones and then those with the highest probability in any strip."""
    peak = np.max([distribution.max(0) for distribution in distributions.values()], axis=0)
    peak[truth] = np.inf
    return np.sort(np.argsort(-peak, kind="stable")[:MAX_ROWS])
