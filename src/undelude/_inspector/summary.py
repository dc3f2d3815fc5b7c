"""Predictions of real numbers and of recordings in numbers: moments, densities, distances from the exact answers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude._compiled import compiled
from undelude._distributions import AbstractDistribution, Mixture, Normal, divergences
from undelude._inspector.state import Moments
from undelude._tree import index
from undelude._types import Action

# Draws for a KL between densities, and for the moments of one without a closed form.
DRAWS, MOMENT_DRAWS = 128, 512
# Points at which a density is drawn, and deviations on each side of a mean.
GRID, DEVIATIONS = 97, 3.5


class Summary(NamedTuple):
    """Predictions, `[R]`, in numbers.

    Attributes:
        probs: `[R, n]`, of symbols; None for real numbers.
        mean, deviation: `[R, D]`, of real numbers; None for symbols.
        kl, tv: `[R, 2]`, from both answers, in nats and as total variation; between densities estimates.
    """

    probs: Any
    mean: Any
    deviation: Any
    kl: Any
    tv: Any

    def shown(self, R: int) -> Any:
        """Return probabilities or moments of the first R predictions."""
        if self.probs is not None:
            return np.asarray(self.probs, float)[:R]
        return Moments(np.asarray(self.mean, float)[:R], np.asarray(self.deviation, float)[:R])

    def divergences(self, R: int) -> Float[np.ndarray, "2 2 R"]:
        """Return, from each answer, KL and total variation of the first R predictions."""
        return np.asarray([self.kl, self.tv], float)[:, :R].transpose(2, 0, 1)


def unknown_summary(R: int, num_symbols: int | None, size: int) -> Summary:
    """Return the summary of a party that predicts nothing."""
    no = np.full((R, num_symbols or size), np.nan)
    each = (no, None, None) if num_symbols else (None, no, no)
    return Summary(*each, *np.full((2, R, 2), np.nan))


@compiled
def summarise(
    predictions: AbstractDistribution,
    answers: tuple[AbstractDistribution, ...],
    num_symbols: int | None,
    key: Key[Array, ""],
) -> Summary:
    """Return the numbers of predictions.

    Args:
        predictions: `[R]` distributions.
        answers: of exact do and exact see; empty if there are none.
        num_symbols: n; None for real numbers.
        key: for estimates; the same for all parties.
    """
    num_predictions = len(jax.tree.leaves(predictions)[0])
    keys = jax.random.split(key, num_predictions)

    def distances(answer: AbstractDistribution) -> tuple[Array, Array]:
        def one(p: Any, q: Any, key: Any) -> tuple[Array, Array]:
            return divergences(p, q, key=key, num_samples=DRAWS)

        kl, tv = jax.vmap(one)(answer, predictions, keys)
        return jnp.maximum(0.0, kl), tv

    if answers:
        kl, tv = (jnp.stack(x, -1) for x in zip(*map(distances, answers), strict=True))
    else:
        kl = tv = jnp.full((num_predictions, 2), jnp.nan)
    if num_symbols is not None:
        probs = jnp.exp(jax.vmap(lambda P: jax.vmap(P.log_prob)(jnp.arange(num_symbols)))(predictions))
        return Summary(probs, None, None, kl, tv)
    return Summary(None, *jax.vmap(_moments)(predictions, keys), kl, tv)


@compiled
def log_losses(predictions: AbstractDistribution, values: Action) -> Float[Array, " N"]:
    """Return `-log P(x)` in nats of values, `[N, ...]`, under the first N predictions."""
    before = jax.tree.map(lambda x: x[: len(values)], predictions)
    return -jax.vmap(lambda P, x: P.log_prob(x))(before, values)


def _moments(distribution: AbstractDistribution, key: Key[Array, ""]) -> tuple[Array, Array]:
    """Return means and standard deviations of each number: exact for normals and their mixtures, else of draws."""
    match distribution:
        case Normal():
            return distribution.loc.ravel(), distribution.scale.ravel()
        case Mixture(components=Normal() as components):
            w = jnp.exp(distribution.log_weights)
            loc, scale = (x.reshape(len(w), -1) for x in (components.loc, components.scale))
            mean = w @ loc
            return mean, jnp.sqrt(w @ (scale**2 + (loc - mean[None]) ** 2))
    draws = jax.vmap(distribution.sample)(jax.random.split(key, MOMENT_DRAWS)).reshape(MOMENT_DRAWS, -1)
    return draws.mean(0), draws.std(0)


@compiled
def marginal_densities(
    distributions: AbstractDistribution, t: Int[Array, ""], grid: Float[Array, "D G"]
) -> Float[Array, "D G"] | None:
    """Return the density of each number by itself under distribution `t`; None if it has no closed form."""
    match distribution := index(distributions, t):
        case Normal():
            return _normal(distribution.loc.ravel(), distribution.scale.ravel(), grid)
        case Mixture(components=Normal() as components):
            w = jnp.exp(distribution.log_weights)
            loc, scale = (x.reshape(len(w), -1) for x in (components.loc, components.scale))
            return jnp.einsum("k,kdg->dg", w, jax.vmap(lambda m, s: _normal(m, s, grid))(loc, scale))
    return _by_itself(distribution, grid)


def _normal(loc: Array, scale: Array, grid: Array) -> Array:
    return jax.scipy.stats.norm.pdf(grid, loc[:, None], scale[:, None])


def _by_itself(distribution: AbstractDistribution, grid: Float[Array, "D G"]) -> Float[Array, "D G"] | None:
    """Return the density of an action that is one number; None if it has more."""
    if len(grid) > 1:
        return None
    shape = jax.eval_shape(distribution.sample, jax.random.key(0)).shape
    return jnp.exp(jax.vmap(lambda x: distribution.log_prob(x.reshape(shape)))(grid[0]))[None]


def densities(
    predictions: Mapping[str, tuple[AbstractDistribution, Moments]],
    t: int,
    *,
    wide: Sequence[str],
    taken: Any,
    box: tuple[float, float] | None,
) -> dict[str, Any]:
    """Return the density of each number of one prediction, by party, and the grids, `[D, G]`.

    A party without a closed form is missing. The grids hold the densities of the wide parties, the means of the others,
    and what was taken; they end at the bounds of the numbers.

    Args:
        predictions: by party, `[R]` distributions, R > t, and their moments.
        t: the index of the prediction.
        wide: names of parties.
        taken: what happened; None if it is not yet known.
        box: bounds of the numbers, if they have any.
    """
    if not predictions:
        return {"grid": [], "parties": {}}
    moments = {name: (x.mean[t], x.deviation[t]) for name, (_, x) in predictions.items()}
    ends = [mean for mean, _ in moments.values()] + ([] if taken is None else [np.ravel(taken)])
    for name in {*wide} & moments.keys():
        mean, deviation = moments[name]
        ends += [mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation]
    low, high = np.nanmin(ends, 0), np.nanmax(ends, 0)
    if box is not None:
        low, high = np.clip(low, *box), np.clip(high, *box)
    grid = np.linspace(low, high, GRID, axis=-1)
    curves = {}
    for name, (distributions, _) in predictions.items():
        curve = marginal_densities(distributions, jnp.asarray(t), jnp.asarray(grid))
        if curve is not None:
            curves[name] = np.asarray(curve, float)
    return {"grid": grid, "parties": curves}
