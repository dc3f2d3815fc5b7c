"""Figures on matplotlib axes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import matplotlib
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from undelude._certificate.certificate import Certificate
from undelude._drawing.charts import (
    ANSWERS,
    COLOURS,
    NAMES,
    arrows,
    distances,
    dots,
    integers,
    kl_over_updates,
    marker,
)
from undelude._drawing.colours import DO, INK, MUTED, ON_WHITE, RULE, SEE, VARIABLES
from undelude._drawing.dag import draw_dag_on
from undelude._drawing.panel import panel_of
from undelude._drawing.strips import frame_truth, round_ticks, shade, symbol_ticks
from undelude._drawing.svg import FONT, STYLE, WIDTH
from undelude._process.episodes import EXPERT, Episodes
from undelude._teaching.loop import Run
from undelude._types import Mark
from undelude.causal._mixed.graph import Graph
from undelude.causal._model.model import CausalModel
from undelude.causal._names import AnyGraph, Names, check_names

# Inches: height of a row, and of a chart.
ROW, CHART = 0.24, 2.9
# Number of rounds up to which each has its label.
FEW = 10
# Properties of artists that are colours.
PROPERTIES = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")
# What a certificate can show: the title, whether the scale is logarithmic, and what the values are measured from.
MEASURES = {"kl": ("KL(answer ‖ agent), nats", True), "tv": ("total variation", False)}


def belief(
    probs: Float[Array | np.ndarray, "T1 K"],
    *,
    theta: int | Int[Array | np.ndarray, "*T1"] | None = None,
    names: Sequence[Any] | None = None,
    own_actions: Mark = "do",
    axes: Axes | None = None,
) -> Axes:
    """Draw a belief over theta, round by round: a row for each value, as dark as it is probable.

    Args:
        probs: `[T + 1, K]`, probabilities before each round and after the last: `jnp.exp(ud.posterior(...)[i])`.
        theta: index of the true value, or `[T + 1]` if it changes, which gets a frame.
        names: of the values; their indices by default.
        own_actions: how the belief reads the own actions, which sets the colour.
        axes: to draw on; new ones by default.

    Raises:
        TypeError: `probs` is not an array of numbers, or `axes` not of matplotlib.
        ValueError: the rows are not probabilities, or the number of names is another.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import undelude as ud
    >>> bandit = ud.tasks.bandit(num_rounds=5)
    >>> episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=jax.random.key(0), num_episodes=1)
    >>> axes = ud.plot.belief(jnp.exp(ud.posterior(bandit, episodes)[0]), theta=episodes.theta[0])
    >>> axes.get_xlabel()
    'round'
    """
    _check_axes("belief", axes)
    probs = _as_belief("belief", "probs", probs)
    if own_actions not in ("do", "see"):
        raise ValueError(f"plot.belief: own_actions must be 'do' or 'see', not {own_actions!r}.")
    T, K = len(probs) - 1, probs.shape[1]
    if names is not None and len(names) != K:
        raise ValueError(f"plot.belief: there are {len(names)} names, and theta has {K} values.")
    truth = np.asarray(0 if theta is None else theta)
    is_index = np.issubdtype(truth.dtype, np.integer) and truth.shape in ((), (T + 1,))
    if not (is_index and truth.min() >= 0 and truth.max() < K):
        raise ValueError(f"plot.belief: theta must be an index from 0 to {K - 1}, or one for each of {T + 1} rows.")
    with matplotlib.rc_context(STYLE):
        axes = _axes(axes, ROW * max(K, 3) + 0.6)
        shade(axes, probs, DO if own_actions == "do" else SEE)
        if theta is not None:
            frame_truth(axes, np.broadcast_to(truth, (T + 1,)), np.arange(K))
        symbol_ticks(axes, range(K) if names is None else names)
        round_ticks(axes, T)
    return _on_white(axes)


def certificate(report: Certificate, *, measure: Literal["kl", "tv"] = "kl", axes: Axes | None = None) -> Axes:
    """Draw the distances of a certificate to both exact answers, with intervals of two standard errors.

    Args:
        report: of `ud.certify`.
        measure: `"kl"`, `KL(answer || agent)` in nats on a log scale, or `"tv"`, the total variation.
        axes: to draw on; new ones by default.

    Raises:
        TypeError: `report` is not a certificate, or `axes` not of matplotlib.
        ValueError: `measure` is neither, or the certificate has no such distances; the message gives the reason.

    >>> import jax
    >>> import undelude as ud
    >>> bandit = ud.tasks.bandit(num_rounds=5)
    >>> deluded = ud.ExactAgent(bandit, "see")
    >>> report = ud.certify(bandit, deluded, key=jax.random.key(0), num_episodes=64)  # doctest: +SKIP
    >>> ud.plot.certificate(report, measure="tv").get_title(loc="left")  # doctest: +SKIP
    'total variation'
    """
    _check_axes("certificate", axes)
    if not isinstance(report, Certificate):
        raise _wrong("certificate", "the certificate that ud.certify returns", report)
    if measure not in MEASURES:
        raise ValueError(f"plot.certificate: measure must be 'kl' or 'tv', not {measure!r}.")
    known = distances(report.quantities.__getitem__, measure)
    if not known:
        why = report.quantities[f"action_{measure}_do"].why_none or "it was not measured."
        raise ValueError(f"plot.certificate: {report.task} has no distance to an exact answer: {why}")
    title, log = MEASURES[measure]
    with matplotlib.rc_context(STYLE):
        axes = _axes(axes, 1.1 + 0.4 * len(known))
        dots(axes, known, title, log=log)
        keys = [
            Line2D([], [], color=COLOURS[x], marker=marker(x), lw=0, label=f"from the {NAMES[x]}")
            for x in ANSWERS.values()
        ]
        axes.legend(handles=keys, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=1)
    return _on_white(axes)


def graph(graph: AnyGraph | CausalModel, *, do: Names = (), see: Names = (), axes: Axes | None = None) -> Axes:
    """Draw a causal graph: latent variables and bidirected edges dashed, seen variables shaded, done ones boxed.

    The arrows and bidirected edges that `do` cuts are crossed out, or left out if there are more than four.

    Args:
        graph: a graph, such as a `ud.Graph`, or a model.
        do: the variables intervened on.
        see: the variables conditioned on.
        axes: to draw on, of which the graph takes all; new ones by default, of the size that fits its letters.

    Raises:
        TypeError: `graph` is neither, or `axes` not of matplotlib.
        ValueError: an unknown name, a name in both roles, a cycle, a graph without variables.

    >>> import undelude as ud
    >>> axes = ud.plot.graph(ud.Graph({"A": (), "O": "A"}, bidirected=[("A", "O")]), do="A")
    >>> [text.get_text() for text in axes.texts]
    ['do(A)', 'O', 'latent common cause', 'done']
    """
    _check_axes("graph", axes)
    drawn = graph.graph if isinstance(graph, CausalModel) else Graph(graph)
    done, seen = check_names(drawn, {"done": do, "seen": see})
    if not drawn:
        raise ValueError("plot.graph: the graph has no variables.")
    with matplotlib.rc_context(STYLE):
        axes = draw_dag_on(panel_of(drawn, done=done, seen=seen), lambda width, height: _axes(axes, height, width))
    return _on_white(axes)


def learning(run: Run | Sequence[Mapping[str, Any]], *, axes: Axes | None = None) -> Axes:
    """Draw how teaching went: the distances to both exact answers if they were measured, otherwise the log-losses.

    Args:
        run: of `ud.teach`, or its metrics: rows with `update` and numbers in nats.
        axes: to draw on; new ones by default.

    Raises:
        TypeError: `run` is neither, or `axes` not of matplotlib.
        ValueError: there are no rows with distances or losses, or a row has no `update`.

    >>> rows = [{"update": 1, "action_loss": 1.6}, {"update": 2, "action_loss": 1.5}]
    >>> learning(rows).get_ylabel()
    'log-loss, nats'
    """
    _check_axes("learning", axes)
    rows = run.metrics if isinstance(run, Run) else run
    if not (isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows)):
        raise _wrong("learning", "the run that ud.teach returns, or its metrics, a list of dictionaries", run)

    def series(name: str) -> Float[np.ndarray, " n"]:
        return np.array([np.nan if row.get(name) is None else float(row[name]) for row in rows], float)

    update = series("update")
    if len(update) == 0 or np.isnan(update).any():
        raise ValueError("plot.learning: there must be rows, and each must have the number of its update.")
    curves = {name: series(f"action_kl_{mark}") for mark, name in ANSWERS.items()}
    curves = {name: y for name, y in curves.items() if not np.isnan(y).all()}
    losses = {x: y for x in ("action", "observation") if not np.isnan(y := series(f"{x}_loss")).all()}
    if not curves and not losses:
        raise ValueError("plot.learning: no row has a number under action_kl_do, action_loss or observation_loss.")
    with matplotlib.rc_context(STYLE):
        axes = _axes(axes, CHART)
        if curves:
            kl_over_updates(axes, update, curves)
        else:
            for dash, (name, y) in zip(("-", ":"), losses.items(), strict=False):
                axes.plot(update, np.where(np.isfinite(y), y, np.nan), dash, color=INK, lw=1.4, label=f"{name}s")
            infinite = np.any([y == np.inf for y in losses.values()], 0)
            arrows(axes, update, {INK: np.where(infinite, np.inf, np.nan)})
            axes.set(xlabel="update", ylabel="log-loss, nats", xlim=(0, None))
            axes.legend(frameon=False)
            integers(axes)
    return _on_white(axes)


def episode(
    one: Episodes,
    *,
    belief: Float[Array | np.ndarray, "T1 K"] | None = None,
    actions: Sequence[Any] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw one episode, round by round: a mark in the row of each action, the observation below it, and a belief.

    A mark is a blue circle if the action is marked do, and an orange square if it is marked see. It is filled if the
    agent executed the action, and hollow if the expert did. A belief is blue if all actions are marked do, orange if
    none is, and grey otherwise; a frame shows the true theta.

    Args:
        one: one episode of symbols: `jax.tree.map(lambda x: x[0], episodes)` is the first of a batch.
        belief: `[T + 1, K]`, probabilities before each round and after the last: `jnp.exp(ud.posterior(...)[0])`.
        actions: names of the actions; by default their numbers, up to the largest that was executed.
        axes: to draw on; new ones by default.

    Raises:
        TypeError: `one` is not of `ud.Episodes`, or `axes` not of matplotlib.
        ValueError: a batch, no round, actions or observations that are not symbols, too few names, a belief of another
            number of rounds, rows that are not probabilities.

    >>> import jax
    >>> import undelude as ud
    >>> bandit = ud.tasks.bandit(num_rounds=5)
    >>> episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=jax.random.key(0), num_episodes=1)
    >>> axes = ud.plot.episode(jax.tree.map(lambda x: x[0], episodes))
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['do, by the agent']
    """
    _check_axes("episode", axes)
    if not isinstance(one, Episodes):
        raise _wrong("episode", "one episode of ud.Episodes, such as jax.tree.map(lambda x: x[0], episodes)", one)
    if np.ndim(one.mask) != 1:
        shape = list(np.shape(one.mask))
        raise ValueError(
            f"plot.episode: episodes of shape {shape} are not one episode: pass jax.tree.map(lambda x: x[0], episodes)."
        )
    T = int(np.asarray(one.mask).sum())
    taken, observed = (_as_symbols(name, getattr(one, name), T) for name in ("actions", "observations"))
    names = range(int(taken.max()) + 1) if actions is None else actions
    if len(names) <= taken.max():
        raise ValueError(f"plot.episode: there are {len(names)} names, and action {taken.max()} was executed.")
    probs = None if belief is None else _as_belief("episode", "belief", belief)
    if probs is not None and len(probs) not in (T + 1, len(one.mask) + 1):
        raise ValueError(f"plot.episode: belief has {len(probs)} rows, and {T} rounds need {T + 1}.")
    done, by_expert = np.asarray(one.intervened)[:T], np.asarray(one.executor)[:T] == EXPERT
    below = len(names) + 1
    with matplotlib.rc_context(STYLE):
        axes = _axes(axes, ROW * (below + (0 if probs is None else probs.shape[1])) + 1.0)
        _mark(axes, taken, done, by_expert)
        for t, o in enumerate(observed):
            axes.text(t + 0.5, below - 1, str(o), ha="center", va="center", size=FONT - 1, color=INK)
        axes.set_ylim(below - 0.5, -0.5)
        ticks = {**{i: f"a={name}" for i, name in _thinned(names)}, below - 1: "o"}
        round_ticks(axes, T)
        if probs is None:
            axes.set_xlim(0, T)
            if T <= FEW:
                axes.set_xticks(np.arange(T) + 0.5, [str(t + 1) for t in range(T)])
        else:
            shade(axes, probs[: T + 1], DO if done.all() else SEE if not done.any() else MUTED, top=below)
            theta = None if one.theta is None else np.asarray(one.theta)
            if theta is not None and np.issubdtype(theta.dtype, np.integer) and theta.ndim < 2:
                theta = np.broadcast_to(theta, (len(one.mask) + 1,))[: T + 1]
                frame_truth(axes, theta, np.arange(probs.shape[1]), top=below)
            ticks |= {below + k: f"\N{GREEK SMALL LETTER THETA}={k}" for k, _ in _thinned(range(probs.shape[1]))}
        axes.set_yticks([*ticks], [*ticks.values()])
        axes.tick_params(axis="y", length=0)
        axes.axhline(below - 1.5, color=RULE, lw=0.6)
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0, handletextpad=0.2)
    return _on_white(axes)


def _mark(
    axes: Axes, taken: Int[np.ndarray, " T"], done: Bool[np.ndarray, " T"], by_expert: Bool[np.ndarray, " T"]
) -> None:
    """Draw the actions: do and see by colour and shape, the executor by the fill."""
    for mark, of_expert in itertools.product((True, False), (False, True)):
        rounds = np.flatnonzero((done == mark) & (by_expert == of_expert))
        if len(rounds):
            colour, shape = (DO, "o") if mark else (SEE, "s")
            label = f"{'do' if mark else 'see'}, by the {'expert' if of_expert else 'agent'}"
            look = {"mec": colour, "mfc": "none" if of_expert else colour, "ms": 5, "mew": 1.2, "clip_on": False}
            axes.plot(rounds + 0.5, taken[rounds], shape, label=label, **look)


def _thinned(names: Sequence[Any]) -> list[tuple[int, Any]]:
    """Return the place and the name of each row that is labelled: all, or evenly spaced ones if there are many."""
    return list(enumerate(names))[:: 1 if len(names) <= 6 else math.ceil(len(names) / 4)]


def _as_symbols(name: str, x: Any, T: int) -> Int[np.ndarray, " T"]:
    """Return the symbols of the rounds that exist; raise `ValueError` if they are not symbols, or none exists."""
    array = np.asarray(x) if eqx.is_array_like(x) else None
    if array is None or array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"plot.episode: the {name} are not symbols, one a round: ud.film draws such a world.")
    if not T:
        raise ValueError("plot.episode: the episode has no round.")
    return array[:T]


def _as_belief(figure: str, name: str, probs: Any) -> Float[np.ndarray, "T1 K"]:
    """Return a belief as an array of NumPy, or raise the error that says why it is not one."""
    try:
        probs = np.asarray(probs, float)
    except (TypeError, ValueError):
        raise _wrong(figure, "probabilities, [T + 1, K], such as jnp.exp(ud.posterior(...)[i])", probs) from None
    if probs.ndim != 2 or 0 in probs.shape:
        raise ValueError(f"plot.{figure}: {name} must be [T + 1, K], of one episode, not of shape {probs.shape}.")
    if not (np.isfinite(probs).all() and probs.min() >= 0 and np.allclose(probs.sum(-1), 1, atol=1e-3)):
        raise ValueError(
            f"plot.{figure}: the rows of {name} must be probabilities. ud.posterior returns their logarithms: pass "
            "jnp.exp(ud.posterior(...)[i])."
        )
    return probs


def _check_axes(name: str, axes: object) -> None:
    """Raise `TypeError` unless `axes` are of matplotlib, or None."""
    if not (axes is None or isinstance(axes, Axes)):
        raise _wrong(name, "axes of matplotlib as axes=, such as plt.subplots()[1]", axes)


def _wrong(name: str, takes: str, given: object) -> TypeError:
    """Return the error that a figure was given another kind of object than it takes."""
    return TypeError(f"plot.{name} takes {takes}, not an object of type {type(given).__name__}.")


def _axes(axes: Axes | None, height: float, width: float = WIDTH) -> Axes:
    """Return the given axes, or those of a new figure; `pyplot` shows these in a notebook."""
    if axes is not None:
        return axes
    from matplotlib import pyplot  # It chooses a backend: only if a figure is asked for.

    _, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    return axes


def _on_white(axes: Axes) -> Axes:
    """Replace the placeholders of the colours of pages by colours on white."""
    for artist in axes.findobj():
        for name in PROPERTIES:
            get, set_ = (getattr(artist, f"{x}_{name}", None) for x in ("get", "set"))
            if get is None or set_ is None:
                continue
            variable = VARIABLES.get(_hex(get()))
            if variable is not None:
                set_(ON_WHITE[variable])
    return axes


def _hex(colour: Any) -> str:
    """Return a single colour as `#rrggbb`, and an empty text for none or several."""
    try:
        return to_hex(colour)
    except (TypeError, ValueError):
        return ""
