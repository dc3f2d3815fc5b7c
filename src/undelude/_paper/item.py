"""Items of `undelude paper`: a claim, the computed value, and the criterion; grouped in the blocks of the page."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from undelude._drawing.svg import Svg
from undelude._paper.criterion import Criterion, Value

Kind = Literal["paper", "example", "related"]

# The name of each kind at the head of a count, and its meaning.
KINDS: dict[Kind, str] = {
    "paper": "The paper's own statements",
    "example": "Our examples of them",
    "related": "Related work",
}
MEANINGS: dict[Kind, str] = {
    "paper": "a sentence, an equation, a figure or a number of the paper, in the setting that the paper gives it; if "
    "it "
    "is in words, we chose what is measured and the bound that would refute it",
    "example": "numbers of a process, a network or a simulation of ours that a statement of the paper implies",
    "related": "results of other papers, and questions that the paper does not ask",
}


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
class Stored:
    """The origin of a value that this run reads from the results of a study.

    Attributes:
        study: the script, such as "studies/doors.py".
        date: the day on which the result was stored.
        seeds: the seeds of the study.
    """

    study: str
    date: str
    seeds: Sequence[int]

    def __str__(self) -> str:
        """Return the origin in words."""
        seeds = ", ".join(map(str, self.seeds))
        return f"{self.study}, {self.date}, seed{'s' * (len(self.seeds) > 1)} {seeds}"


@dataclasses.dataclass(frozen=True)
class Item:
    """One claim, recomputed.

    Attributes:
        name: block and quantity, such as "remark-6/success-of-plain-imitation".
        kind: whose claim it is.
        claim: the paper's words or equation; for the other kinds, what we claim.
        place: where the paper states it, or the statement it is an example of; the source of related work.
        value: the computed value: a number, a list of numbers, or text.
        criterion: the requirement on the value.
        parameters: the settings behind the value, to compute it again.
        stored: the study that computed the value; None if it was computed in this run.
        standard_error: the standard error of a sampled value.
    """

    name: str
    kind: Kind
    claim: str
    place: str
    value: Value
    criterion: Criterion
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stored: Stored | None = None
    standard_error: float | None = None

    @property
    def met(self) -> bool:
        """Whether the value fulfils the criterion."""
        return self.criterion.met(self.value, self.standard_error)


@dataclasses.dataclass(frozen=True)
class Block:
    """A remark, a section or a figure of the paper on the page.

    Attributes:
        name: the anchor, such as "remark-6"; the names of the items begin with it.
        title: the heading.
        text: paragraphs that explain the computation; `code` in backticks.
        items: the recomputed claims.
        figures: pairs `(figure, caption)`.
        listing: text in a fixed-width font, such as trajectories.
    """

    name: str
    title: str
    text: Sequence[str]
    items: Sequence[Item]
    figures: Sequence[tuple[Svg, str]] = ()
    listing: str = ""


class Measured(NamedTuple):
    """A sampled value and its standard error."""

    value: float
    standard_error: float


def mean(x: Any, *, spread: float | None = None) -> Measured:
    """Return the mean of one number for each episode.

    Args:
        x: the numbers.
        spread: their standard deviation if it is known; by default that of the sample.
    """
    x = np.asarray(x, float)
    return Measured(float(x.mean()), float((x.std(ddof=1) if spread is None else spread) / np.sqrt(len(x))))


def difference(x: Any, y: Any) -> Measured:
    """Return the difference of two independent means."""
    x, y = mean(x), mean(y)
    return Measured(x.value - y.value, float(np.hypot(x.standard_error, y.standard_error)))


@dataclasses.dataclass(frozen=True)
class Rows:
    """Maker of the items of a block.

    Attributes:
        block: the name of the block.
        place: the place in the paper that most rows are about.
        parameters: those of all rows.
        stored: the study of all rows.
    """

    block: str
    place: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stored: Stored | None = None

    def row(
        self, kind: Kind, name: str, claim: str, value: Any, criterion: Criterion, place: str = "", **parameters: Any
    ) -> Item:
        """Return the item of a value: a number, an array, a text, or `Measured`."""
        value, error = value if isinstance(value, Measured) else (value, None)
        return Item(
            name=f"{self.block}/{name}",
            kind=kind,
            claim=claim,
            place=place or self.place,
            value=value if isinstance(value, str) else plain(np.asarray(value, float)),
            criterion=criterion,
            parameters={**self.parameters, **parameters},
            stored=self.stored,
            standard_error=None if error is None else plain(error),
        )

    # `rows.paper(name, claim, value, criterion, ...)`, and so on.
    paper = functools.partialmethod(row, "paper")
    example = functools.partialmethod(row, "example")
    related = functools.partialmethod(row, "related")


def plain(x: Any) -> Any:
    """Return numbers with seven significant digits, those of single precision."""
    return [plain(entry) for entry in x] if np.ndim(x) else float(f"{float(x):.7g}")
