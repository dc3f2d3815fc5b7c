"""What the paper says, beside what comes out: the items of `undelude paper`, in blocks of a page."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from undelude.report.svg import Figure

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
    """

    name: str
    value: Value
    paper: str
    agrees: bool


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
    figures: Sequence[tuple[Figure, str]] = ()
    listing: str = ""


def equal(name: str, value: Any, expected: Any, paper: str, *, tolerance: float = 1e-5) -> Item:
    """An exact value, which agrees where no entry is further from `expected` than `tolerance`."""
    value, expected = np.asarray(value, float), np.asarray(expected, float)
    agrees = value.shape == expected.shape and bool(np.allclose(value, expected, rtol=0, atol=tolerance))
    return Item(name, _plain(value), paper, agrees)


def holds(name: str, value: Any, paper: str, agrees: Any) -> Item:
    """A value of which the paper says in words what it is like."""
    return Item(name, value if isinstance(value, str) else _plain(np.asarray(value, float)), paper, bool(agrees))


def sampled(name: str, x: Any, expected: float | int, paper: str, *, error: float = 0.0) -> Item:
    """A mean over episodes `x`, which agrees within four standard errors, and `error` for that of `expected`."""
    x = np.asarray(x, float)
    margin = error + 4 * x.std(ddof=1) / np.sqrt(len(x))
    return Item(name, _plain(np.asarray(x.mean())), paper, bool(abs(x.mean() - expected) <= margin))


def _plain(x: np.ndarray) -> Value:
    return np.round(x, 6).tolist()
