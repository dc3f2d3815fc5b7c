"""Cues: what a guide says to the agent after each round, with known probabilities under every context."""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from undelude._checks import check_between
from undelude.gym._host.rows import Rows, host


class AbstractCue(abc.ABC):
    """A symbol that follows each action, drawn from a known distribution that depends on the context.

    If the context changes nothing else that the agent sees, then the belief over contexts, both exact answers and the
    whole certificate are known on any simulator.

    Attributes:
        num_symbols: the number of its values.
        words: what films and reports call them; their numbers if it is empty.
    """

    num_symbols: int
    words: Sequence[str] = ()

    @abc.abstractmethod
    def probabilities(self, before: Any, after: Any, context: Any) -> Float[np.ndarray, "... n"]:
        """Return the distribution of the cue after a step from the observation `before` to `after`.

        Observations are whole ones in the world, and in exact answers those that the agent saw, with NaN in place of
        hidden numbers: take theta from `context`.
        """

    def of_many(self, before: Sequence[Any], after: Sequence[Any], contexts: Sequence[Any]) -> Float[np.ndarray, "N n"]:
        """Return the distributions after many steps; by default one by one."""
        rows = [self.probabilities(*row) for row in zip(before, after, contexts, strict=True)]
        return np.asarray(rows, float).reshape(len(rows), self.num_symbols)

    def traced(self, before: Any, after: Any, context: Any) -> Float[Array, " n"]:
        """Return `probabilities` in a compiled world; by default the method itself, which must then be JAX."""
        return jnp.asarray(self.probabilities(before, after, context), float)


NO_NUMBER = "WarmerColder: distance returned an array of shape {}: return one number for each observation."


class WarmerColder(AbstractCue):
    """Cue 1, warmer, if the step led nearer to the target, and 0, colder, if not; right with a fixed probability.

    Args:
        distance: `(observation, context) -> distance` to the target of that context.
        right: the probability that the cue is right, from 1/2 (no information) to 1.
        within: at this distance or nearer, the cue is warmer even if the step led away.
        batched: whether `distance` takes arrays of observations and of contexts, `[N, ...]`, and returns `[N]`.
    """

    num_symbols = 2
    words = ("colder", "warmer")

    def __init__(
        self, distance: Callable[[Any, Any], Any], *, right: float, within: float = 0.0, batched: bool = False
    ):
        if not callable(distance):
            raise TypeError(f"WarmerColder: distance must be a function of (observation, context), not {distance!r}.")
        self.distance, self.batched = distance, batched
        self.right = check_between("WarmerColder: right", right, 0.5, 1, why="1/2 says nothing")
        self.within = float(within)

    def probabilities(self, before: Any, after: Any, context: Any) -> Float[np.ndarray, " 2"]:
        """Return `(1 - right, right)` if the step led nearer, `(right, 1 - right)` if not."""
        return self.of_many([before], [after], [context])[0]

    def traced(self, before: Any, after: Any, context: Any) -> Float[Array, " 2"]:
        """Return `probabilities` in a compiled world, if `distance` is JAX."""
        if self.batched:
            one = jax.tree.map(lambda x: jnp.asarray(x)[None], context)
            d_before, d_after = (
                jnp.asarray(self.distance(jax.tree.map(lambda x: x[None], o), one))[0] for o in (before, after)
            )
        else:
            d_before, d_after = (jnp.asarray(self.distance(o, context)) for o in (before, after))
        if d_after.ndim:
            raise ValueError(NO_NUMBER.format(d_after.shape))
        p = jnp.where((d_after < d_before) | (d_after <= self.within), self.right, 1 - self.right)
        return jnp.stack([1 - p, p])

    def of_many(self, before: Sequence[Any], after: Sequence[Any], contexts: Sequence[Any]) -> Float[np.ndarray, "N 2"]:
        """Return a row `(1 - right, right)` for each step that led nearer, `(right, 1 - right)` for the others."""
        if self.batched:
            targets = stacked(contexts)
            d_before, d_after = (host(self.distance(stacked(x), targets)).astype(float) for x in (before, after))
        else:
            d_before, d_after = (
                np.array([np.asarray(self.distance(x, c), float) for x, c in zip(xs, contexts, strict=True)])
                for xs in (before, after)
            )
        if d_after.shape != (len(contexts),):
            raise ValueError(NO_NUMBER.format(d_after.shape[0 if self.batched else 1 :]))
        if np.isnan(d_before).any() or np.isnan(d_after).any():
            raise ValueError(
                "WarmerColder: distance returned NaN. In exact answers hidden numbers of an observation are NaN: "
                "compute the distance from what the agent sees and from the context."
            )
        p = np.where((d_after < d_before) | (d_after <= self.within), self.right, 1 - self.right)
        return np.stack([1 - p, p], -1)


def stacked(xs: Sequence[Any]) -> Any:
    """Return a batch of observations or contexts as arrays with a leading axis; dictionaries part by part."""
    if isinstance(xs, Rows):
        return xs.batch
    if isinstance(xs[0], dict):
        return {key: stacked([x[key] for x in xs]) for key in xs[0]}
    return np.stack([np.asarray(x) for x in xs])
