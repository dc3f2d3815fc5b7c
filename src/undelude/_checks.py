"""What is wrong with a user's numbers, said before anything is compiled."""

import operator
import os
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

TOLERANCE = 1e-4
# JAX counts with 32 bits.
MAX_COUNT = 2**31 - 1
_OURS = str(Path(__file__).parent) + os.sep
_LIBRARIES = tuple(sysconfig.get_path(x) + os.sep for x in ("stdlib", "platstdlib", "purelib", "platlib"))


def is_concrete(*arrays: Any) -> bool:
    """Whether the values can be looked at now: nothing can be checked under `jit` and `vmap`."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays))


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


def outline(tree: Any) -> tuple:
    """A PyTree with shapes in place of its arrays, as what can be hashed: a key for what depends on nothing else.

    Types of what is no array belong to it, for 1 == 1.0.
    """
    arrays, static = eqx.partition(tree, eqx.is_array)
    leaves, treedef = jax.tree.flatten(arrays)
    static_leaves, static_treedef = jax.tree.flatten(static)
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
    return shapes, treedef, tuple(static_leaves), static_treedef, tuple(map(type, static_leaves))


def filled(outline: tuple, leaves: Sequence[Any]) -> Any:
    """The PyTree of an outline, with `leaves` for its arrays."""
    _, treedef, static_leaves, static_treedef, _ = outline
    return eqx.combine(treedef.unflatten(leaves), static_treedef.unflatten(static_leaves))


def signature(tree: Any) -> str:
    """The shapes and types of a PyTree's arrays."""
    leaves, structure = jax.tree.flatten(tree)
    shapes = [f"{jnp.result_type(x)}{list(jnp.shape(x))}" for x in leaves]
    return str(jax.tree.unflatten(structure, shapes)) if leaves else "nothing"


def users_line(error: BaseException) -> str:
    """The last line of the user's own code on the way to `error`, or to what it came of: ` (my_tasks.py, line 12)`.

    Empty where there is none.
    """
    where, seen, link = "", set(), error
    while link is not None and id(link) not in seen:
        lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(link.__traceback__)]
        if own := [(file, line) for file, line in lines if _is_users(file)]:
            where = f" ({Path(own[-1][0]).name}, line {own[-1][1]})"
        seen.add(id(link))
        link = link.__cause__
    return where


def is_ours(error: BaseException) -> bool:
    """Whether a line of undelude raised it."""
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(files) and files[-1].startswith(_OURS)


def _is_users(file: str) -> bool:
    installed = file.startswith((_OURS, *_LIBRARIES)) or {"site-packages", "dist-packages"} & {*Path(file).parts}
    return not (installed or file.startswith("<"))


def one_line(x: Any) -> str:
    """`x` as a message shows it, whatever it is."""
    text = " ".join(f"{x}".split())
    return text if len(text) < 100 else f"{text[:97]}..."


def _short(row: np.ndarray) -> str:
    shown = ", ".join(f"{x:.4g}" for x in row[:6])
    return f"[{shown}{', ...' if row.size > 6 else ''}]"
