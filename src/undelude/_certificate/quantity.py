"""One measured number of a certificate, with its standard error, or the reason why it is missing."""

import dataclasses
import math

import numpy as np
from jaxtyping import Array, Float

# Reasons that several measurements share.
THETA_IS_CONTINUOUS = "Theta is continuous: there is no exact reference."
NOT_A_NUMBER = "not a number in at least one episode."
INFINITE = "infinite: at least once the agent gave zero probability to something that the exact answer allows."


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A mean with its standard error over episodes, or the reason why there is none.

    Attributes:
        value: the mean; infinite if it is infinite in any episode; None if it could not be measured.
        standard_error: of the mean over episodes; None if the value is None or infinite, or for a single episode.
        why_none: why `value` is None.

    >>> Quantity.over_episodes([1.0, 2.0, 3.0])
    Quantity(value=2.0, standard_error=0.5773502691896258, why_none=None)
    """

    value: float | None = None
    standard_error: float | None = None
    why_none: str | None = None

    @classmethod
    def over_episodes(
        cls,
        values: Float[Array, " B"] | Float[np.ndarray, " B"] | list[float],
        counts: Array | np.ndarray | list[int] | None = None,
        *,
        why_nan: str = NOT_A_NUMBER,
    ) -> "Quantity":
        """Return the mean of one number per episode, and its standard error `s / sqrt(B)`.

        With counts it is the mean over all symbols of all episodes, the ratio `sum(counts * values) / sum(counts)`. Its
        error is that of the ratio, to first order: that of the mean of `counts * (values - ratio) / mean(counts)`.

        Args:
            values: one for each episode.
            counts: how many symbols each is the mean of, if episodes differ in it.
            why_nan: the reason to give if any of the values is NaN.

        >>> Quantity.over_episodes([1.0, 2.0], counts=[3, 1]).value
        1.25
        """
        x = np.asarray(values, dtype=np.float64)
        if np.isnan(x).any():
            return cls(why_none=why_nan)
        if np.isinf(x).any():
            return cls(math.inf)
        if counts is not None:
            weights = np.asarray(counts, np.float64) / np.mean(counts)
            ratio = (weights * x).mean()
            x = ratio + weights * (x - ratio)
        error = float(x.std(ddof=1) / math.sqrt(len(x))) if len(x) > 1 else None
        return cls(float(x.mean()), error)

    @property
    def note(self) -> str | None:
        """Why the value is missing or infinite; None if it is a finite number."""
        return INFINITE if self.value == math.inf else self.why_none
