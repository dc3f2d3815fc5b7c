"""Sufficient statistics of demonstrations under a layout, as one matrix."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from undelude.offline._data.demos import Demos
from undelude.offline._model.contexts import column
from undelude.offline._model.mechanisms import Factor, Table
from undelude.offline._model.spec import Layout


class Statistics(NamedTuple):
    """The statistics of the factors that depend on theta.

    Attributes:
        rows: `[N, M]`, of each demonstration, or `[N, S, M]` of each step, of which the first is the opening if there
            is one.
        labels: `[N]`, the index of theta, or -1.
        weights: `[N]`, how many demonstrations a row stands for.
    """

    rows: Float[np.ndarray, "..."]
    labels: Int[np.ndarray, " N"]
    weights: Float[np.ndarray, " N"]


def of_demos(layout: Layout, demos: Demos, *, merge: bool = True) -> Statistics:
    """Return the statistics of each demonstration; if they are merged, equal ones are one row with a weight."""
    rows = np.concatenate([_sums(layout, f, demos) for f in layout.free], -1, dtype=np.float32)
    return _merged(rows, demos.labels) if merge else Statistics(rows, demos.labels, np.ones(len(rows), np.float32))


def of_steps(layout: Layout, demos: Demos) -> Statistics:
    """Return the statistics of each step of each demonstration, `[N, S, M]`; zero after its end."""
    steps = demos.num_rounds + bool(demos.opening)
    rows = np.zeros((demos.num_episodes, steps, layout.num_columns), np.float32)
    for factor in layout.free:
        place = layout.columns(factor)
        episode, step, index, value = _entries(layout, factor, demos)
        np.add.at(rows[..., place], (episode, step, index), value)
    return Statistics(rows, demos.labels, np.ones(demos.num_episodes, np.float32))


def of_tied(layout: Layout, factor: Factor, demos: Demos) -> Float[np.ndarray, " columns"]:
    """Return the statistics of a tied factor, summed over all demonstrations."""
    _, _, index, value = _entries(layout, factor, demos)
    return np.bincount(index, value, minlength=factor.num_columns).astype(np.float32)


def tied_log_likelihoods(layout: Layout, factor: Factor, eta: np.ndarray, demos: Demos) -> Float[np.ndarray, " N"]:
    """Return the log-likelihood of each demonstration under a tied factor."""
    episode, _, index, value = _entries(layout, factor, demos)
    return np.bincount(episode, value * eta[index], minlength=demos.num_episodes)


def log_units(layout: Layout, factors: Sequence[Factor], demos: Demos) -> Float[np.ndarray, " N"]:
    """Return what the data's own units add to the log-density of each demonstration under standardised real fields.

    The density of `x` is that of `x / spread`, divided by `spread`.
    """
    total = np.zeros(demos.num_episodes)
    for factor in factors:
        name = factor.field.removeprefix("opening ")
        if name in layout.spread:
            count = 1 if factor.field.startswith("opening ") else _rounds(factor, demos).sum(-1)
            total = total - count * np.log(layout.spread[name]).sum()
    return total


def _sums(layout: Layout, factor: Factor, demos: Demos) -> Float[np.ndarray, "N columns"]:
    episode, _, index, value = _entries(layout, factor, demos)
    shape = (demos.num_episodes, factor.num_columns)
    return np.bincount(episode * shape[1] + index, value, minlength=shape[0] * shape[1]).reshape(shape)


def _rounds(factor: Factor, demos: Demos) -> Bool[np.ndarray, "N T"]:
    """Return the rounds in which a factor is part of the likelihood; the one of the action is not if it was done."""
    return demos.demonstrated if factor.field == "action" else demos.mask


def _entries(layout: Layout, factor: Factor, demos: Demos) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the statistics as a list: episode, step, index within the factor, and value of each.

    A hidden field that the demonstrations lack, because an agent played them, has none.
    """
    if not factor.field.startswith("opening ") and factor.field not in ("action", *demos.observations, *demos.hidden):
        none = np.zeros(0, int)
        return none, none, none, np.zeros(0)
    if factor.field.startswith("opening "):
        values = demos.opening[factor.field.removeprefix("opening ")].values
        episode, step = np.arange(demos.num_episodes), np.zeros(demos.num_episodes, int)
        cell = np.zeros(demos.num_episodes, int)
    else:
        mask = _rounds(factor, demos)
        episode, step = np.nonzero(mask)
        values = column(demos, factor.field).values[mask]
        cell = np.zeros(len(values), int)
        if mask.any():
            cells = factor.cells([context.codes(demos) for context in factor.contexts])
            cell = np.broadcast_to(cells, mask.shape)[mask]
        step = step + bool(demos.opening)
    if isinstance(factor.mechanism, Table):
        return episode, step, cell * factor.width + values, np.ones(len(values))
    name = factor.field.removeprefix("opening ")
    x = (values - layout.centre[name]) / layout.spread[name]
    moments = np.stack([np.ones_like(x), x, x**2], -1)
    index = (cell[:, None] * factor.width + np.arange(factor.width))[..., None] * 3 + np.arange(3)
    copies = index[0].size
    return np.repeat(episode, copies), np.repeat(step, copies), index.ravel(), moments.ravel()


def _merged(rows: Float[np.ndarray, "N M"], labels: Int[np.ndarray, " N"]) -> Statistics:
    """Merge equal rows with equal labels, found by a random projection in double precision."""
    projection = np.random.default_rng(0).standard_normal(rows.shape[1] + 1)
    key = np.concatenate([rows, labels[:, None]], 1, dtype=np.float64) @ projection
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    return Statistics(rows[first], labels[first], count.astype(np.float32))
