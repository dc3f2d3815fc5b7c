"""The time scale of the hidden confounder: what is constant over an episode, what changes, what nobody can learn."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass

MAX_VALUES = 64


def _as_counts(kind: str, K: int | Iterable[int], least: int) -> tuple[int, ...]:
    """Return the numbers of values as a sorted tuple."""
    try:
        counts = (K,) if isinstance(K, int) else tuple(sorted({operator.index(k) for k in K}))
    except TypeError:
        raise TypeError(
            f"{kind}: K must be a whole number or several, such as {kind}(K=range(1, 9)), not {K!r:.99}."
        ) from None
    if not counts or isinstance(K, bool) or counts[0] < least or counts[-1] > MAX_VALUES:
        raise ValueError(f"{kind}: K must be from {least} to {MAX_VALUES}, not {K!r:.99}.")
    return counts


@dataclass(frozen=True, init=False)
class Episode:
    """A theta that is drawn once for each episode, with `K` values; `K=1` is a world without a confounder.

    Attributes:
        K: the numbers of values to try.
    """

    K: tuple[int, ...]

    def __init__(self, K: int | Iterable[int] = range(1, 9)):
        object.__setattr__(self, "K", _as_counts("Episode", K, 1))


@dataclass(frozen=True, init=False)
class Markov:
    """A theta that may change after each round: `Theta_t+1 ~ Q(. | Theta_t)`, a hidden Markov model.

    A label of an episode is the value of its first theta, which an opening shows if there is one.

    Attributes:
        K: the numbers of values to try.
    """

    K: tuple[int, ...]

    def __init__(self, K: int | Iterable[int] = range(2, 7)):
        object.__setattr__(self, "K", _as_counts("Markov", K, 2))


@dataclass(frozen=True)
class PerStep:
    """A theta that is drawn anew in each round. Logs cannot tell it from no confounder; `diagnose` gives bounds."""


Latent = Episode | Markov | PerStep


def latent_of(name: str, K: int) -> Episode | Markov:
    """Return a time scale by its name, with one number of values; with one value, nothing can change."""
    return Markov(K) if name == "Markov" and K > 1 else Episode(K)
