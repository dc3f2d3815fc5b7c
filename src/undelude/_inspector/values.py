"""The values of a simulator's actions and observations, as a recording holds them and as files do."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from undelude._distributions import GivenArray, Parts, Reals, Spec
from undelude._inspector.images import pixels_of, png_of, stack_of

# Most numbers of an observation: the page holds the whole episode, and sends it with each request.
MAX_NUMBERS = 1024
# Most numbers of an action, and of an outcome that is predicted: each has a column of its own.
MAX_PREDICTED = 12


class Values:
    """The values of a spec: arrays in a history, lists and numbers in files.

    Args:
        spec: one array, or arrays by name.
        what: the subject of messages, in the plural.
        most: numbers of one value, those of images aside.
        images: the parts that are images, which files hold as PNG; `""` is the only part.

    Raises:
        TypeError: the spec is of another kind, or has more numbers.
    """

    def __init__(self, spec: Spec, what: str, *, most: int = MAX_NUMBERS, images: Sequence[str] = ()):
        self.spec, self.images = spec, frozenset(images)
        self.named = spec.named if isinstance(spec, Parts) else None
        self.like = spec.value  # Once: making it takes longer than checking a value.
        parts = {"": spec} if self.named is None else self.named
        # The parts that do not have all numbers as values; the others need no further check.
        self._narrow = {name: x for name, x in parts.items() if not _is_wide(x)}
        if isinstance(spec, Parts) and self.named is None:
            raise TypeError(f"{what} are {spec}, and the inspector takes one array, or arrays by name.")
        # The images of several frames.
        self.stacked = frozenset(x for x in self.images if stack_of(parts[x].value.shape)[0] > 1)
        rest = {name: x for name, x in parts.items() if name not in self.images}
        if (n := sum(math.prod(y.shape) for x in rest.values() for y in jax.tree.leaves(x.value))) > most:
            raise TypeError(
                f"{what} have {n} numbers, and the inspector takes {most} at most: the page holds the whole "
                "episode. Look at such an episode with ud.film(world, episodes, key=key)."
            )

    def index(self, value: Any, what: str) -> Any:
        """Return the arrays of a value of a file; raise `ValueError`, which begins with `what`, if it does not fit."""
        found: Any
        if self.named is None:
            found = self._part("", value, self.like, what)
        else:
            if not isinstance(value, dict) or {*value} != {*self.named}:
                raise ValueError(f"{what} must have the parts {', '.join(self.named)}, not {value!r:.99}.")
            found = {name: self._part(name, value[name], self.like[name], f"{what}.{name}") for name in self.named}
        for name, spec in self._narrow.items():
            spec.check(f"{what}.{name}" if name else what, (found[name] if name else found)[None])
        return found

    def value(self, i: Any) -> Any:
        """Return the lists and numbers of a value, for JSON: the shortest decimals that give the same arrays."""
        if self.named is None:
            return png_of(i) if self.images else _plain(i)
        return {name: png_of(i[name]) if name in self.images else _plain(i[name]) for name in self.named}

    def _part(self, name: str, value: Any, like: jax.ShapeDtypeStruct, what: str) -> np.ndarray:
        if name in self.images and isinstance(value, str):
            return pixels_of(value, like.shape, what).astype(like.dtype)
        return _array(value, like, what)

    @property
    def size(self) -> int:
        """The number of numbers of a value."""
        return sum(math.prod(x.shape) for x in jax.tree.leaves(self.like))

    @property
    def box(self) -> tuple[float, float] | None:
        """The bounds of the numbers, if there are any."""
        return self.spec.box if isinstance(self.spec, Reals) else None

    def of(self, x: Any) -> Any:
        """Return a value as arrays of NumPy, with the types of the spec."""
        return jax.tree.map(lambda like, leaf: np.asarray(leaf, like.dtype), self.like, x)


def stacked(values: Sequence[Any], like: Any, length: int) -> Any:
    """Return values as arrays with a leading axis of `length`; zeros for None and at the end."""
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    rows = [blank if x is None else x for x in values] + [blank] * (length - len(values))
    return jax.tree.map(lambda x, *xs: np.asarray(xs, x.dtype), like, *rows)


def _is_wide(spec: Spec) -> bool:
    """Return whether all finite numbers are values of a part."""
    return isinstance(spec, GivenArray) or (isinstance(spec, Reals) and spec.box is None)


def _array(value: Any, like: jax.ShapeDtypeStruct, what: str) -> np.ndarray:
    kinds = (int,) if like.dtype.kind in "iu" else (int, float)
    shape = like.shape
    if not _has_shape(value, shape, kinds):
        numbers = "whole numbers" if kinds == (int,) else "numbers"
        raise ValueError(f"{what} must be {numbers} of shape {list(shape)}, not {value!r:.99}.")
    try:
        found = np.asarray(value, float if like.dtype.kind == "f" else like.dtype)
    except OverflowError:
        found = np.full(shape, np.inf)
    most = np.finfo(like.dtype if like.dtype.kind == "f" else float).max
    if found.size and not np.abs(found).max() <= most:  # NaN and infinity are not, either.
        raise ValueError(f"{what} has numbers that are too large.")
    return found.astype(like.dtype)


def _has_shape(value: Any, shape: Sequence[int], kinds: tuple[type, ...]) -> bool:
    if not shape:
        return type(value) in kinds
    is_list = isinstance(value, list) and len(value) == shape[0]
    return is_list and all(_has_shape(x, shape[1:], kinds) for x in value)


def _plain(x: Any) -> Any:
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x.tolist()
    # The decimals of a float32 as a double would be twice as long.
    decimals = [float(str(y)) for y in x.ravel()]
    return decimals if x.ndim == 1 else np.asarray(decimals, float).reshape(x.shape).tolist()
