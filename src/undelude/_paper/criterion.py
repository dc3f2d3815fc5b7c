"""Criteria for computed values, as data. A verdict is a function of value, standard error and criterion alone."""

import dataclasses
import math
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import numpy as np

Value: TypeAlias = float | str | list
# A number, a fraction such as "11/35", or a list or an array of them.
Number: TypeAlias = Any
Relation = Literal["equal", "near", "at most", "at least", "falls", "rises"]

# Rounding errors of single precision, over sums of some thousand terms.
ROUNDING = 1e-5
# Standard errors within which a sampled value must lie.
SIGMAS = 4


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A requirement on a computed value.

    The margin is `tolerance + errors * sqrt(standard_error^2 + reference_error^2)`.

    Attributes:
        relation: "equal", to the reference, for text; "near", no entry differs from the reference by more
            than the margin; "at most" and "at least", every entry, by at least the margin; "falls" and "rises", each
            entry differs from the one before it by at least the reference.
        reference: a number, a list of numbers, or text.
        tolerance: absolute deviation.
        errors: number of standard errors.
        reference_error: standard error of the reference.
        written: the entries of the reference in words, such as "11/35".
    """

    relation: Relation
    reference: Value
    tolerance: float = 0.0
    errors: float = 0.0
    reference_error: float = 0.0
    written: tuple[str, ...] = ()

    def met(self, value: Value, standard_error: float | None = None) -> bool:
        """Return whether a value fulfils the criterion; NaN and an empty list never do."""
        if self.relation == "equal":
            return value == self.reference
        x, reference = np.asarray(value, float), np.asarray(self.reference, float)
        margin = self.margin(standard_error)
        match self.relation:
            case "near":
                holds = x.shape == reference.shape and np.abs(x - reference) <= margin
            case "at most":
                holds = x + margin <= reference
            case "at least":
                holds = x - margin >= reference
            case "falls":
                holds = -np.diff(x) >= reference
            case "rises":
                holds = np.diff(x) >= reference
        return bool(np.size(holds) and np.all(holds))

    def margin(self, standard_error: float | None = None) -> float:
        """Return the deviation that is allowed, or that a bound must be cleared by."""
        if not self.errors:
            return self.tolerance
        return self.tolerance + self.errors * math.hypot(standard_error or 0.0, self.reference_error)


def equal(reference: str) -> Criterion:
    """Require a text."""
    return Criterion("equal", reference)


def near(
    reference: Number, tolerance: float | int = ROUNDING, *, errors: float | int = 0, error: float | int = 0
) -> Criterion:
    """Require that no entry differs from the reference by more than the margin."""
    return Criterion("near", _plain(reference), float(tolerance), float(errors), float(error), _written(reference))


def sampled(reference: Number, *, error: float | int = 0, slack: float | int = 0) -> Criterion:
    """Require a mean within four standard errors of the reference, and `slack`."""
    return near(reference, slack, errors=SIGMAS, error=error)


def at_most(reference: Number, *, errors: float | int = 0) -> Criterion:
    """Require that no entry is above the reference, by a number of standard errors."""
    return Criterion("at most", _plain(reference), errors=float(errors), written=_written(reference))


def at_least(reference: Number, *, errors: float | int = 0) -> Criterion:
    """Require that no entry is below the reference, by a number of standard errors."""
    return Criterion("at least", _plain(reference), errors=float(errors), written=_written(reference))


def falls(step: float | int) -> Criterion:
    """Require that each entry is less than the one before it, by at least `step`."""
    return Criterion("falls", float(step))


def rises(step: float | int) -> Criterion:
    """Require that each entry is greater than the one before it, by at least `step`."""
    return Criterion("rises", float(step))


def _plain(x: Number) -> Value:
    match x:
        case str():
            return float(Fraction(x))
        case np.ndarray() | list() | tuple() if np.ndim(x):
            return [_plain(entry) for entry in x]
        case _:
            return float(f"{float(x):.7g}")


def _written(x: Number) -> tuple[str, ...]:
    """Return the reference in words if it has fractions, else nothing."""
    entries = (x,) if isinstance(x, str) else tuple(x) if isinstance(x, list | tuple) else ()
    if not any(isinstance(entry, str) for entry in entries):
        return ()
    return tuple(entry if isinstance(entry, str) else f"{entry:g}" for entry in entries)
