"""What experts return, as distributions and actions: an action, a mean and a scale, or probabilities."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jaxtyping import Bool, PyTree

from undelude._checks import check_probabilities
from undelude._distributions import AbstractDistribution, Categorical, Normal, Reals, Spec, Symbols
from undelude.gym._host.spaces import from_action

# Of a normal distribution, to make one of arrays of NumPy.
_STRUCTURE = jax.tree.structure(jax.eval_shape(lambda: Normal(0.0, 1.0)))


class MeansAndScales(NamedTuple):
    """Normal distributions of many episodes, as one array of means and one of scales, leading axis B."""

    means: np.ndarray
    scales: np.ndarray

    def filled(self, is_open: Bool[np.ndarray, " B"]) -> "MeansAndScales":
        """Return the same with a copy of another row where an episode has ended, since nothing is known of these."""
        rows = np.where(is_open, np.arange(len(is_open)), np.argmax(is_open))
        return MeansAndScales(self.means[rows], self.scales[rows])


def batched(
    advice: Sequence[Any] | MeansAndScales, space: Any, spec: Spec
) -> tuple[AbstractDistribution | None, PyTree | None]:
    """Return `(distributions, None)`, or `(None, actions)` if the expert returned actions; leading axis B.

    Args:
        advice: of the expert, one for each episode, or all in arrays.
        space: of the actions.
        spec: of the actions.

    Raises:
        ValueError: the answers are of different kinds, or not finite, or no probabilities.
    """
    if isinstance(advice, MeansAndScales):
        return _normal(*(np.asarray(x, np.float32) for x in advice)), None
    kinds = {kind_of(x, spec) for x in advice}
    if len(kinds) > 1:
        raise ValueError(f"the expert returned {' and '.join(sorted(kinds))}: return one of them always.")
    (kind,) = kinds
    if kind == "a mean and a scale":
        loc, scale = (np.stack([np.asarray(x[i], np.float32) for x in advice]) for i in (0, 1))
        return _normal(loc, scale), None
    if kind == "probabilities":
        probs = np.stack([np.asarray(x, np.float64) for x in advice])
        check_probabilities(probs, "the expert's probabilities")
        with np.errstate(divide="ignore"):
            return Categorical(log_probs=jnp.asarray(np.log(probs), float)), None
    actions = [from_action(space, x) for x in advice]
    stacked = {key: np.stack([a[key] for a in actions]) for key in actions[0]} if isinstance(actions[0], dict) else None
    values = np.stack(actions) if stacked is None else stacked
    spec.check("the expert's actions", values)
    return None, values


def _normal(loc: np.ndarray, scale: np.ndarray) -> Normal:
    if not (np.isfinite(loc).all() and np.isfinite(scale).all()):
        raise ValueError("the expert returned a mean or a scale that is not finite.")
    scale = np.broadcast_to(scale.reshape(*scale.shape, *[1] * (loc.ndim - scale.ndim)), loc.shape)
    if (scale <= 0).any():
        raise ValueError("the expert returned a scale that is not positive.")
    # Without the constructor, whose copies to the device take longer than a step of a fast simulator.
    dtype = dtypes.canonicalize_dtype(float)
    return jax.tree.unflatten(_STRUCTURE, [loc.astype(dtype), scale.astype(dtype)])


def kind_of(x: Any, spec: Spec) -> str:
    """Return what an expert returned, in words."""
    if isinstance(spec, Reals) and isinstance(x, tuple) and len(x) == 2:
        return "a mean and a scale"
    if isinstance(spec, Symbols) and np.shape(x) == (spec.n,):
        return "probabilities"
    return "an action"
