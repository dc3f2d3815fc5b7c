"""One column of the logs: symbols of finitely many levels, or real numbers; and how values become either."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Shaped

from undelude._checks import check_ordered, one_line

# The meaning of a symbol.
Level: TypeAlias = str | int | float | bool
# The place of a row, for messages: `actions[3, 5]`, or a column, a file and a row.
At: TypeAlias = Callable[[int], str]

MAX_LEVELS = 4096
# The most levels of a column of decimal numbers, unless levels= says otherwise.
MAX_DECIMALS = 64
# The part of a column's standard deviation by which rounding to 32 bits may change a real number.
LOST = 1e-3
# Rows of the first look at a column.
_SAMPLE = 2**16

_KINDS = {"b": "truth values", "i": "numbers", "u": "numbers", "f": "numbers", "U": "strings"}


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """One column of the logs.

    Attributes:
        name: of the column.
        values: int32 codes `0, 1, ...` of the levels, `[N, T]` (`[N]` for one value an episode); or float32
            `[N, T, d]`. After the end of an episode 0.
        levels: the meaning of each code, in order; None for real numbers.
    """

    name: str
    values: Shaped[np.ndarray, "..."]
    levels: tuple[Level, ...] | None = None

    @property
    def finite(self) -> bool:
        """Whether the column has finitely many levels."""
        return self.levels is not None

    @property
    def num_levels(self) -> int:
        """The number of levels; `TypeError` for real numbers."""
        if self.levels is None:
            raise TypeError(f"column {self.name!r} has real numbers, not levels.")
        return len(self.levels)

    def subset(self, indices: Any) -> "Column":
        """Return the column of some episodes, or rows: whole numbers, a mask or a slice."""
        return dataclasses.replace(self, values=self.values[indices])


def encode(
    name: str, values: np.ndarray, at: At, *, levels: Iterable[Level] | None = None, real: bool = False
) -> Column:
    """Return one value a row as a column of codes or of real numbers.

    Integers, truth values and strings are codes; so are decimal numbers with at most `MAX_DECIMALS` distinct values
    that are whole or, on average, occur twice.

    Args:
        name: of the column.
        values: `[R]`, or `[R, d]` for vectors of real numbers.
        at: the place of a row, for messages.
        levels: all levels in their order; by default those that occur, in ascending order.
        real: whether the values are real numbers in any case.

    Raises:
        ValueError: a value is missing, infinite or not among the levels, there are too many levels, or the values have
            another type; the message names the first such place.
    """
    if values.dtype.kind not in _KINDS:
        raise ValueError(
            f"{at(0)} has the type {values.dtype}; a column needs whole or decimal numbers, strings or truth values."
        )
    if values.dtype.kind == "f":
        _check_numbers(values, at)
    if real and levels is not None:
        raise ValueError(f"column {name!r} is in both levels= and reals=; leave one.")
    if real or values.ndim == 2:
        return _real(name, values, at, levels)
    is_decimal = values.dtype.kind == "f" and levels is None
    if is_decimal and len(np.unique(values[:_SAMPLE])) > MAX_DECIMALS:
        return _real(name, values, at, levels)
    check_exact(values, at)
    codes, uniques = factorise(values)
    if values.dtype.kind == "f":
        uniques = uniques + 0.0  # -0.0 becomes 0.0.
    if is_decimal and not _few(uniques, len(values)):
        return _real(name, values, at, levels)
    return finite(name, codes, uniques.tolist(), at, levels=levels)


def finite(
    name: str, codes: Int[np.ndarray, " R"], uniques: list[Level], at: At, *, levels: Iterable[Level] | None = None
) -> Column:
    """Return the column with the values `uniques[codes]`; the arguments are those of `encode`."""
    if levels is None:
        order = sorted(range(len(uniques)), key=uniques.__getitem__)
        levels = tuple(uniques[i] for i in order)
        new = np.argsort(order)
    else:
        levels = check_levels(name, levels)
        index = {level: i for i, level in enumerate(levels)}
        new = np.array([index.get(x, -1) for x in uniques], np.int32)
        if (new < 0).any():
            row = int(np.argmax(new[codes] < 0))
            raise ValueError(
                f"{at(row)} is {one_line(repr(uniques[codes[row]]))}, which is not among its levels "
                f"{one_line(list(levels))}. Add it to levels=, or leave out levels= for {name!r}."
            )
    if len(levels) > MAX_LEVELS:
        raise ValueError(
            f"column {name!r} has {len(levels)} distinct values, of {MAX_LEVELS} at most, such as "
            f"{one_line(list(levels[:3]))}. Group them into fewer, or, if they are measurements, list it in reals=."
        )
    return Column(name, new.astype(np.int32)[codes], levels)


def _few(uniques: np.ndarray, num_values: int) -> bool:
    """Return whether decimal numbers are levels: few, and whole or twice each on average."""
    is_repeated = 2 * len(uniques) <= num_values or (uniques == np.round(uniques)).all()
    return len(uniques) <= MAX_DECIMALS and bool(is_repeated)


def check_levels(name: str, levels: Iterable[Level]) -> tuple[Level, ...]:
    """Return the levels that a user gives for a column; raise `ValueError` if they are not distinct and in order."""
    check_ordered(levels, f"levels of {name!r}", "their order is that of the codes")
    plain = () if isinstance(levels, str) else tuple(x.item() if isinstance(x, np.generic) else x for x in levels)
    if not plain:
        raise ValueError(
            f"levels of {name!r} must be a list of its values, such as ['left', 'right'], not {levels!r:.99}."
        )
    if len(set(plain)) < len(plain):
        twice = next(x for i, x in enumerate(plain) if x in plain[:i])
        raise ValueError(f"levels of {name!r} contain {twice!r:.99} twice.")
    return plain


def compact(codes: Int[np.ndarray, " R"], num: int) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " U"]]:
    """Return codes from 0 without gaps, and the codes, of `num`, that occur."""
    is_used = np.bincount(codes, minlength=num) > 0
    used = np.flatnonzero(is_used).astype(np.int32)
    if is_used.all():
        return codes, used
    new = np.cumsum(is_used, dtype=np.int32) - 1
    return new[codes], used


def factorise(values: Shaped[np.ndarray, " R"]) -> tuple[Int[np.ndarray, " R"], np.ndarray]:
    """Return `codes` and ascending `uniques` with `uniques[codes] == values`; fast if there are few."""
    uniques = np.unique(values[:_SAMPLE])
    while True:
        codes = np.minimum(np.searchsorted(uniques, values), len(uniques) - 1).astype(np.int32)
        missed = values[uniques[codes] != values]
        if not missed.size:
            return codes, uniques
        uniques = np.union1d(uniques, missed)


def check_exact(values: np.ndarray, at: At) -> None:
    """Raise `ValueError` naming the first decimal number so large that other whole numbers have the same digits."""
    if values.dtype.kind != "f":
        return
    most = 2.0 ** (np.finfo(values.dtype).nmant + 1)
    large = np.abs(values) > most
    if large.any():
        row = int(np.argmax(large))
        raise ValueError(
            f"{at(row)} is {values[row].item()!r}, a decimal number of {8 * values.itemsize} bits, which cannot tell "
            f"whole numbers beyond {most:.0f} apart. Write the column as strings (in CSV, with a letter in each), or "
            "as whole numbers of 64 bits."
        )


def units(values: Shaped[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Return the mean and the standard deviation of each dimension; 1 in place of that of a constant."""
    if not len(values):
        return np.zeros(values.shape[-1]), np.ones(values.shape[-1])
    exact = values.astype(np.float64)
    is_constant = values.min(0) == values.max(0)
    return np.where(is_constant, exact[0], exact.mean(0)), np.where(is_constant, 1.0, exact.std(0))


def _check_numbers(values: np.ndarray, at: At) -> None:
    """Raise `ValueError` naming the first number that is missing or infinite."""
    good = np.isfinite(values)
    if good.all():
        return
    row = int(np.argmin(good.reshape(len(values), -1).all(-1)))
    if np.isnan(values[row]).any():
        missing = np.isnan(values).reshape(len(values), -1).max(-1)
        raise ValueError(
            f"{at(row)} is missing (NaN{in_all(missing)}). Fill in a value of its own, or drop the episodes with "
            "missing values."
        )
    raise ValueError(f"{at(row)} is infinite. Clip it, or drop the episodes with infinite values.")


def in_all(missing: np.ndarray) -> str:
    """Return how many rows have no value, for a message, if there are several."""
    count = int(missing.sum())
    return f", like {count:,} rows in all" if count > 1 else ""


def _real(name: str, values: np.ndarray, at: At, levels: object) -> Column:
    if levels is not None:
        raise ValueError(f"column {name!r} has vectors of real numbers, which have no levels; leave it out of levels=.")
    if values.dtype.kind == "U":
        raise ValueError(f"{at(0)} is {one_line(repr(values[0].item()))}, not a number; leave {name!r} out of reals=.")
    with np.errstate(over="ignore"):
        exact = values.reshape(len(values), -1)
        numbers = exact.astype(np.float32)
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers).all(-1)))
        raise ValueError(
            f"{at(row)} is {one_line(values[row])}, too large for a float of 32 bits; choose another unit."
        )
    if exact.dtype.kind in "iu" or exact.dtype.itemsize > 4:
        lost = np.abs(exact - numbers.astype(np.float64))
        blurred = (lost > LOST * exact.std(0)) & (exact.min(0) < exact.max(0))
        if blurred.any():
            row, i = np.argwhere(blurred)[0].tolist()
            raise ValueError(
                f"{at(row)} is {one_line(exact[row, i].item())}, and a float of 32 bits loses what makes the values of "
                f"{name!r} differ. Subtract a constant from the column, such as its mean, {exact[:, i].mean():.10g}."
            )
    return Column(name, numbers)
