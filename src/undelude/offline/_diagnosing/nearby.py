"""Models that explain the data nearly as well as the best: from the fit, and from rivals whose thetas own actions."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from undelude._compiled import compiled_for
from undelude._process.process import InteractionProcess
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.likelihood import Likelihood
from undelude.offline._diagnosing.profile import polish, rivals
from undelude.offline._fitting.result import Fit

NUM_RIVALS = 6
Values = tuple[Callable[[InteractionProcess], Array], ...]


class Nearby(NamedTuple):
    """Models near the best one.

    Attributes:
        likelihood: of the demonstrations.
        fixed: the tables of the tied factors.
        xs: `[S, P]`, parameters within `delta` nats of the best, the best first; some probe differs from each to each,
            except that the best may be repeated up to a power of two.
        best: the log-likelihood of the best, nats.
        behind: nats by which the likelihood near the fit is less: a rival model that is better shows that the search
            for the fit ended in a local maximum.
    """

    likelihood: Likelihood
    fixed: dict[str, Any]
    xs: Float[Array, "S P"]
    best: float
    behind: float


def nearby(fit: Fit, demos: Demos, values: Values, delta: float, key: Key[Array, ""]) -> Nearby:
    """Return the models near the best one; call it under `jax.enable_x64(True)`.

    Args:
        fit: with tables and normal mechanisms alone.
        demos: of the fit.
        values: the probes.
        delta: nats below the best.
        key: of the rivals.
    """
    likelihood = Likelihood.of(fit.layout, demos, fit.K, markov=fit.latent == "Markov")
    fixed = {f.field: jax.tree.map(np.asarray, fit.tables[f.field]) for f in fit.layout.tied}
    first = likelihood.pack(fit.fitted)
    starts = np.concatenate([first[None], rivals(likelihood, jnp.asarray(first), NUM_RIVALS, key)])
    polished, totals = _polish(likelihood, jnp.asarray(starts))
    best = float(totals.max())
    x = polished[int(totals.argmax())]
    near = _distinct(likelihood, values, fit.process, fixed, polished[totals > best - delta], x)
    return Nearby(likelihood, fixed, near, best, best - float(totals[0]))


@compiled_for(runs=2)
def _polish(likelihood: Likelihood, starts: Array) -> tuple[Array, Array]:
    return polish(likelihood, starts)


def vector(likelihood: Likelihood, values: tuple, process: InteractionProcess, fixed: dict) -> jax.stages.Wrapped:
    """Return the probes as a function of the parameters."""
    return jax.jit(lambda x: jnp.stack([value(likelihood.process(x, process, fixed)) for value in values]))


@compiled_for(runs=2)
def _at(likelihood: Likelihood, values: tuple, process: InteractionProcess, fixed: dict, xs: Array) -> Array:
    return jax.lax.map(vector(likelihood, values, process, fixed), xs)


def _distinct(
    likelihood: Likelihood, values: tuple, process: InteractionProcess, fixed: dict, xs: Array, x: Array
) -> Array:
    """Return the best point and those of the others at which some probe differs from all points before."""
    seen = np.asarray(_at(likelihood, values, process, fixed, jnp.concatenate([x[None], xs])))
    kept = [0]
    for i in range(1, len(seen)):
        if np.abs(seen[kept] - seen[i]).max(-1).min() > 1e-2:
            kept.append(i)
    # To a power of two, so that data sets share compiled programs.
    kept += kept[:1] * (2 ** math.ceil(math.log2(len(kept))) - len(kept))
    return jnp.concatenate([x[None], xs])[np.asarray(kept)]
