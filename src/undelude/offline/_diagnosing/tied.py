"""How little is known of tied mechanisms: the variance that they add to a probe.

The likelihood is a product of a factor of theirs and one of all else, so that the variances add up:

    sum over cells of  (sum_i g_i^2 / p_i) / n,      g the gradient in the logits of the cell, n its data

n has the pseudo-counts, and is 1 at least: what was never tried has the standard error of one observation.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from undelude._compiled import compiled_for
from undelude._process.process import InteractionProcess
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.likelihood import Likelihood
from undelude.offline._fitting.result import Fit
from undelude.offline._model import statistics as stats
from undelude.offline._model.mechanisms import Factor, Table


def tied_variances(
    fit: Fit, demos: Demos, likelihood: Likelihood, values: tuple, fixed: dict[str, Any], x: Float[Array, " P"]
) -> Float[np.ndarray, " probes"]:
    """Return the variance of each probe by the delta method, from the tied mechanisms alone.

    Args:
        fit: with tables and normal mechanisms alone.
        demos: of the fit.
        likelihood: of the demonstrations.
        values: the probes.
        fixed: the tables of the tied factors.
        x: the other parameters.
    """
    total = np.zeros(len(values))
    if not fit.layout.tied:
        return total
    exact = {name: jax.tree.map(lambda one: jnp.asarray(one, jnp.float64), table) for name, table in fixed.items()}
    slopes = _slopes(likelihood, values, fit.process, exact, x)
    for factor in fit.layout.tied:
        n = np.maximum(data_of_cells(factor, stats.of_tied(fit.layout, factor, demos)) + _prior_count(factor), 1.0)
        if isinstance(factor.mechanism, Table):
            g = np.asarray(slopes[factor.field]).reshape(len(total), factor.num_cells, factor.width)
            p = np.exp(np.asarray(exact[factor.field])).reshape(factor.num_cells, factor.width)
            total += ((g**2 / np.maximum(p, 1e-12)).sum(-1) / n).sum(-1)
            continue
        _, scale = exact[factor.field]
        variance = np.asarray(scale).reshape(factor.num_cells, -1) ** 2 / n[:, None]
        for g, share in zip(slopes[factor.field], (1.0, 0.5), strict=True):  # Of the mean, and of the scale.
            own = np.asarray(g).reshape(len(total), factor.num_cells, -1)
            total += (share * own**2 * variance).sum((-2, -1))
    return total


def data_of_cells(factor: Factor, statistics: Float[np.ndarray, "*k columns"]) -> Float[np.ndarray, "*k cells"]:
    """Return the number of data of each combination of contexts, from the statistics of a factor."""
    if isinstance(factor.mechanism, Table):
        return statistics.reshape(*statistics.shape[:-1], factor.num_cells, factor.width).sum(-1)
    return statistics.reshape(*statistics.shape[:-1], factor.num_cells, factor.width, 3)[..., 0, 0]


def _prior_count(factor: Factor) -> float:
    return factor.mechanism.pseudo_count * factor.width if isinstance(factor.mechanism, Table) else 0.0


@compiled_for(runs=1)
def _slopes(
    likelihood: Likelihood, values: tuple, process: InteractionProcess, fixed: dict[str, Any], x: Array
) -> dict[str, Any]:
    """Return the gradients of the probes in the logits, the means and the scales of the tied factors."""

    def f(tables: dict[str, Any]) -> Array:
        probabilities = {
            name: table if isinstance(table, tuple) else jax.nn.log_softmax(table) for name, table in tables.items()
        }
        own = likelihood.process(x, process, probabilities)
        return jnp.stack([value(own) for value in values])

    return jax.jacrev(f)(fixed)
