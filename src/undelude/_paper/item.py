"""Items of `undelude paper`: a statement of the paper and the computed value; grouped in the blocks of the page."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from undelude._drawing.svg import Svg

Value = float | str | list


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of the sampled items.

    Attributes:
        seed: seed of all random numbers.
        num_episodes: number of episodes of most rollouts; some take a fixed multiple or fraction of it.
    """

    seed: int = 0
    num_episodes: int = 20_000


@dataclasses.dataclass(frozen=True)
class Item:
    """One statement of the paper, recomputed.

    Attributes:
        name: block and quantity, such as "remark-6/success-of-plain-imitation".
        value: the computed value: a number, a list of numbers, or text.
        paper: the paper's statement, in a few words or as a fraction.
        agrees: whether `value` agrees with the statement.
        ours: whether the statement is not in the paper, but follows from it for an example or a threshold of ours.
        standard_error: the standard error of a sampled value.
    """

    name: str
    value: Value
    paper: str
    agrees: bool
    ours: bool = False
    standard_error: float | None = None


@dataclasses.dataclass(frozen=True)
class Block:
    """A remark, a section or a figure of the paper on the page.

    Attributes:
        name: the anchor, such as "remark-6"; the names of the items begin with it.
        title: the heading.
        text: paragraphs that explain the computation; `code` in backticks.
        items: the recomputed statements.
        figures: pairs `(figure, caption)`.
        listing: text in a fixed-width font, such as trajectories.
    """

    name: str
    title: str
    text: Sequence[str]
    items: Sequence[Item]
    figures: Sequence[tuple[Svg, str]] = ()
    listing: str = ""


def equal(name: str, value: Any, expected: Any, paper: str, *, tolerance: float = 1e-5, ours: bool = False) -> Item:
    """Return the item of an exact value: it agrees if no entry differs from `expected` by more than `tolerance`."""
    value, expected = np.asarray(value, float), np.asarray(expected, float)
    agrees = value.shape == expected.shape and bool(np.allclose(value, expected, rtol=0, atol=tolerance))
    return Item(name, _plain(value), paper, agrees, ours)


def holds(name: str, value: Any, paper: str, agrees: Any, *, ours: bool = False) -> Item:
    """Return the item of a statement in words, with the result `agrees` of a check on the value."""
    return Item(name, value if isinstance(value, str) else _plain(np.asarray(value, float)), paper, bool(agrees), ours)


def sampled(
    name: str,
    x: Any,
    expected: float | int,
    paper: str,
    *,
    error: float = 0.0,
    slack: float = 0.0,
    spread: float | None = None,
    ours: bool = False,
) -> Item:
    """Return the item of a mean over episodes: it agrees within four standard errors of `expected`.

    Args:
        name: the name of the item.
        x: one number for each episode.
        expected: the expected mean.
        paper: the paper's statement.
        error: standard error of `expected`, added to that of the mean in quadrature.
        slack: deviation allowed in addition.
        spread: standard deviation of `x` if it is known; by default that of the sample.
        ours: as in `Item`.
    """
    x = np.asarray(x, float)
    standard_error = float((x.std(ddof=1) if spread is None else spread) / np.sqrt(len(x)))
    agrees = bool(abs(x.mean() - expected) <= slack + 4 * np.hypot(standard_error, error))
    return Item(name, _plain(np.asarray(x.mean())), paper, agrees, ours, standard_error)


def _plain(x: np.ndarray) -> Value:
    return np.round(x, 6).tolist()
