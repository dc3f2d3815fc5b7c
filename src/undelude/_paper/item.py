"""What the paper says, beside what comes out: the items of `undelude paper`, in blocks of a page."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from undelude._drawing.svg import Svg

Value = float | str | list


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to sample, for what is not exact.

    Attributes:
        seed: of all that is drawn.
        num_episodes: of each rollout.
    """

    seed: int = 0
    num_episodes: int = 20_000


@dataclasses.dataclass(frozen=True)
class Item:
    """One statement of the paper, recomputed.

    Attributes:
        name: "remark-6/success-of-plain-imitation": where it stands, and what it is.
        value: what came out: a number, a list of numbers, or words.
        paper: what the paper says, in a few words or a fraction.
        agrees: whether `value` is that.
        ours: whether `paper` is not the paper's own statement, but what its words imply for a case of ours.
        standard_error: of a value that is sampled.
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
        name: its anchor, "remark-6"; the names of its items begin with it.
        title: a heading.
        text: paragraphs, on what was computed and how to read it; `code` in backticks.
        items: what was recomputed.
        figures: with captions, `(figure, caption)`.
        listing: what is set in a fixed width, such as trajectories.
    """

    name: str
    title: str
    text: Sequence[str]
    items: Sequence[Item]
    figures: Sequence[tuple[Svg, str]] = ()
    listing: str = ""


def equal(name: str, value: Any, expected: Any, paper: str, *, tolerance: float = 1e-5, ours: bool = False) -> Item:
    """An exact value, which agrees where no entry is further from `expected` than `tolerance`."""
    value, expected = np.asarray(value, float), np.asarray(expected, float)
    agrees = value.shape == expected.shape and bool(np.allclose(value, expected, rtol=0, atol=tolerance))
    return Item(name, _plain(value), paper, agrees, ours)


def holds(name: str, value: Any, paper: str, agrees: Any, *, ours: bool = False) -> Item:
    """A value of which the paper says in words what it is like."""
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
    """A mean over episodes, which agrees where it is within four standard errors of `expected`.

    Args:
        name: of the item.
        x: a number for each episode.
        expected: the mean that there should be.
        paper: what the paper says.
        error: standard error of `expected`, which adds to that of the mean in quadrature.
        slack: what is allowed beyond.
        spread: standard deviation of `x` where it is known; by default that of the sample.
        ours: as in `Item`.
    """
    x = np.asarray(x, float)
    standard_error = float((x.std(ddof=1) if spread is None else spread) / np.sqrt(len(x)))
    agrees = bool(abs(x.mean() - expected) <= slack + 4 * np.hypot(standard_error, error))
    return Item(name, _plain(np.asarray(x.mean())), paper, agrees, ours, standard_error)


def _plain(x: np.ndarray) -> Value:
    return np.round(x, 6).tolist()
