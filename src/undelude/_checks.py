"""Checks of a user's numbers and functions, made before anything is compiled."""

import dis
import inspect
import itertools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from undelude._tree import is_concrete
from undelude._types import MAX_COUNT

# Distance of a sum of probabilities from one.
TOLERANCE = 1e-4
# Other names by which users call the paper's arguments.
ALIASES = {"action": "a", "actions": "a", "observation": "o", "observations": "o", "obs": "o"}
ALIASES |= dict.fromkeys(("w", "e", "memory", "state"), "m")


def as_numbers(values: object, name: str) -> np.ndarray:
    """Return `values` as a NumPy array.

    Raises:
        ValueError: they are not floats, integers or booleans.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":  # Integers of more than 64 bits, or mixed types.
            array = np.asarray(values, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}.") from error
    if not any(jax.numpy.issubdtype(array.dtype, kind) for kind in (np.floating, np.integer, np.bool_)):
        raise ValueError(f"{name} must be an array of numbers, not of {array.dtype}.")
    return array


def check_count(name: str, number: Any) -> int:
    """Return `number` as a Python int.

    Raises:
        ValueError: it is not a whole number from 1 to `MAX_COUNT`.
    """
    try:
        count = operator.index(number)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {one_line(number)}.")
    if count > MAX_COUNT:
        raise ValueError(f"{name} must be at most {MAX_COUNT}, not {one_line(number)}.")
    return count


def check_arguments(f: Callable[..., Any], protocol: Callable[..., Any] | tuple[str, ...], name: str) -> None:
    """Raise `TypeError` if `f` cannot be called as `protocol` says, or names the arguments in another order.

    Args:
        f: a function of the user's, or a bound method.
        protocol: a method that says how `f` is called, or the names of the arguments.
        name: of `f`, for the message.
    """
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # Some functions in C do not tell.
        return
    is_names = isinstance(protocol, tuple)
    wanted = protocol if is_names else tuple(_positional(inspect.signature(protocol)))[1:]
    named = () if is_names else inspect.signature(protocol).parameters
    given, parameters = _positional(signature), signature.parameters.values()
    required = [x.name for x in parameters if x.name in given and x.default is x.empty]
    unknown = [x.name for x in parameters if x.kind is x.KEYWORD_ONLY and x.default is x.empty and x.name not in named]
    is_open = any(x.kind is x.VAR_POSITIONAL for x in parameters)
    call = f"{name.rpartition('.')[2]}({', '.join(wanted)})"
    if len(required) > len(wanted) or unknown or (len(given) < len(wanted) and not is_open):
        raise TypeError(f"{name} takes ({', '.join([*given, *unknown])}), but it is called as {call}.")
    roles, right = ([ALIASES.get(x.lower(), x.lower()) for x in names] for names in (given[: len(wanted)], wanted))
    if roles != right and sorted(roles) == sorted(right):
        raise TypeError(
            f"{name} takes ({', '.join(given)}), but it is called as {call}: put its arguments in this order."
        )


def check_fields(kind: type) -> None:
    """Raise `TypeError` if `__init__` of an Equinox module sets an attribute that the class does not declare."""
    code = getattr(vars(kind).get("__init__"), "__code__", None)
    if code is None or not code.co_varnames:
        return
    try:
        declared = {name for base in kind.__mro__ for name in getattr(base, "__annotations__", {})}
    except NameError:  # An annotation names a class that is defined later.
        return
    declared |= {name for base in kind.__mro__ for name, x in vars(base).items() if hasattr(x, "__set__")}
    steps = list(dis.get_instructions(code))
    for before, step in itertools.pairwise(steps):
        # Newer versions of Python load two variables at once.
        loaded = before.argval[-1] if isinstance(before.argval, tuple) else before.argval
        sets_own = step.opname == "STORE_ATTR" and loaded == code.co_varnames[0]
        if sets_own and step.argval not in declared:
            name = step.argval
            raise TypeError(
                f"{kind.__name__}.__init__ sets self.{name}, which is not a field. Declare it in the class: "
                f"`{name}: jax.Array` for numbers, `{name}: int = eqx.field(static=True)` for a size. A class that "
                "declares its fields needs no __init__."
            )


def _positional(signature: inspect.Signature) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [x.name for x in signature.parameters.values() if x.kind in kinds]


def check_key(key: Any) -> None:
    """Raise `TypeError` if `key` is not one typed or raw random key of JAX."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = getattr(key, "dtype", None) == np.uint32 and np.ndim(key) == 1
    if not (raw or (typed and key.ndim == 0)):
        actual = f"an array of {key.size} keys" if typed else one_line(repr(key))
        raise TypeError(f"key must be one random key, such as jax.random.key(0), not {actual}.")


def check_between(name: str, x: Any, low: float | int, high: float | int, *, ends: bool = True, why: str = "") -> float:
    """Return `x` as a Python float.

    Args:
        name: of the argument, for the message.
        x: the value.
        low: the lower bound.
        high: the upper bound.
        ends: whether the bounds themselves are allowed.
        why: a reason for the bounds, for the message.

    Raises:
        ValueError: `x` is not a finite number between `low` and `high`.
    """
    is_number = np.ndim(x) == 0 and np.asarray(x).dtype.kind in "iuf" and np.isfinite(float(x))
    if not (is_number and (low <= float(x) <= high if ends else low < float(x) < high)):
        if high == np.inf:
            span = f"a finite number {'of at least' if ends else 'greater than'} {low:g}"
        else:
            span = f"a number {f'from {low:g} to' if ends else f'between {low:g} and'} {high:g}"
        raise ValueError(f"{name} must be {span}{why and f' ({why})'}, not {one_line(x)}.")
    return float(x)


def check_ordered(items: object, what: str, order: str) -> None:
    """Raise `ValueError` if `items` is a set; `order` is the effect of their order, as a clause."""
    if isinstance(items, set | frozenset):
        example = f"({', '.join(sorted(map(repr, items)))}{',' if len(items) == 1 else ''})"
        raise ValueError(
            f"{what} must be a tuple, such as {example:.99}, not a set: {order}, and the order of a set changes from "
            "one run of Python to the next."
        )


def check_probabilities(table: ArrayLike, name: str) -> None:
    """Raise `ValueError` naming the first row of `table` (last axis) that is not a probability distribution."""
    if not is_concrete(table):
        return
    values = np.asarray(table, dtype=float)
    if values.ndim == 0:
        raise ValueError(f"{name} is a single number; it needs probabilities along its last axis.")
    with np.errstate(over="ignore", invalid="ignore"):  # Infinite and huge entries are reported below.
        total = values.sum(-1)
    for problem, bad in (
        ("has an entry that is not finite", ~np.isfinite(values).all(-1)),
        ("has a negative entry", (values < 0).any(-1)),
        ("has no mass on any value", total == 0),
        ("does not sum to one", np.abs(total - 1) > TOLERANCE),
    ):
        if bad.any():
            position = tuple(int(i) for i in np.argwhere(bad)[0])
            entry = f"{name}{list(position) if position else ''}"
            actual = f" (sum {total[position]:.6g})" if "sum" in problem else ""
            row = _short(values[position])
            raise ValueError(f"{entry} {problem}{actual}: {row}. Each row must be probabilities that sum to one.")


def one_line(x: object) -> str:
    """Return `x` for a message: as one line of at most 100 characters."""
    text = " ".join(f"{x}".split())
    return text if len(text) < 100 else f"{text[:97]}..."


def _short(row: np.ndarray) -> str:
    shown = ", ".join(f"{x:.4g}" for x in row[:6])
    return f"[{shown}{', ...' if row.size > 6 else ''}]"
