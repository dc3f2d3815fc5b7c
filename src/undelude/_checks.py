"""What is wrong with a user's numbers, said before anything is compiled."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from undelude._tree import is_concrete

TOLERANCE = 1e-4
# JAX counts with 32 bits.
MAX_COUNT = 2**31 - 1


def as_numbers(values: Any, name: str) -> np.ndarray:
    """`values` as a NumPy array of floats, integers or booleans; `ValueError` where they are none."""
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":  # Integers of more than 64 bits, or things of which some are numbers.
            array = np.asarray(values, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}.") from error
    if not any(jax.numpy.issubdtype(array.dtype, kind) for kind in (np.floating, np.integer, np.bool_)):
        raise ValueError(f"{name} must be an array of numbers, not of {array.dtype}.")
    return array


def check_count(name: str, number: Any) -> int:
    """`number` as a Python int; `ValueError` where it is no whole number of at least 1, or JAX cannot count so far."""
    try:
        count = operator.index(number)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {one_line(number)}.")
    if count > MAX_COUNT:
        raise ValueError(f"{name} must be at most {MAX_COUNT}, not {one_line(number)}.")
    return count


def check_key(key: Any) -> None:
    """Raise `TypeError` where `key` is not one of JAX's typed or raw random keys."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = getattr(key, "dtype", None) == np.uint32 and np.ndim(key) == 1
    if not (raw or (typed and key.ndim == 0)):
        what = f"an array of {key.size} keys" if typed else one_line(repr(key))
        raise TypeError(f"key must be one random key, such as jax.random.key(0), not {what}.")


def check_between(name: str, x: Any, low: float | int, high: float | int, *, ends: bool = True, why: str = "") -> float:
    """`x` as a Python float; `ValueError` where it is no finite number between `low` and `high`, or at one of the ends.

    Without `ends`, these are out of range too.
    """
    is_number = np.ndim(x) == 0 and np.asarray(x).dtype.kind in "iuf" and np.isfinite(float(x))
    if not (is_number and (low <= float(x) <= high if ends else low < float(x) < high)):
        if high == np.inf:
            span = f"a finite number {'of at least' if ends else 'greater than'} {low:g}"
        else:
            span = f"a number {f'from {low:g} to' if ends else f'between {low:g} and'} {high:g}"
        raise ValueError(f"{name} must be {span}{why and f' ({why})'}, not {one_line(x)}.")
    return float(x)


def check_probabilities(table: ArrayLike, name: str) -> None:
    """Raise `ValueError` naming the first row of `table` (last axis) that is no probability distribution."""
    if not is_concrete(table):
        return
    values = np.asarray(table, dtype=float)
    if values.ndim == 0:
        raise ValueError(f"{name} is a single number; it needs probabilities along its last axis.")
    with np.errstate(over="ignore", invalid="ignore"):  # Of infinite and of huge entries, which are named below.
        total = values.sum(-1)
    for what, bad in (
        ("has an entry that is not finite", ~np.isfinite(values).all(-1)),
        ("has a negative entry", (values < 0).any(-1)),
        ("has no mass on any value", total == 0),
        ("does not sum to one", np.abs(total - 1) > TOLERANCE),
    ):
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            row = values[where]
            entry = f"{name}{list(where) if where else ''}"
            is_off = f" (sum {total[where]:.6g})" if "sum" in what else ""
            raise ValueError(f"{entry} {what}{is_off}: {_short(row)}. Each row must be probabilities that sum to one.")


def one_line(x: Any) -> str:
    """`x` as a message shows it, whatever it is."""
    text = " ".join(f"{x}".split())
    return text if len(text) < 100 else f"{text[:97]}..."


def _short(row: np.ndarray) -> str:
    shown = ", ".join(f"{x:.4g}" for x in row[:6])
    return f"[{shown}{', ...' if row.size > 6 else ''}]"
