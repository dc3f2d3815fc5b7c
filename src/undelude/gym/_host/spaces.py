"""Gymnasium's spaces as specs, and values between both."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, PyTree

from undelude._distributions import Block, GivenArray, Parts, Reals, Spec, Symbols

# Up to here beyond its Box an action counts as inside: 32-bit numbers are rounded.
EDGE = 1e-6
# Between the names of nested parts.
DOT = "."


def leaves_of(space: Any, name: str) -> dict[str, Any]:
    """Return the spaces inside Dict and Tuple spaces by name, such as `"arm.joints"`, sorted."""
    kind = type(space).__name__
    if kind == "Dict":
        inner = {str(key): inner for key, inner in space.spaces.items()}
    elif kind == "Tuple":
        inner = {str(i): inner for i, inner in enumerate(space.spaces)}
    else:
        return {name: space}
    found: dict[str, Any] = {}
    for key, part in inner.items():
        found |= leaves_of(part, f"{name}{DOT}{key}" if name else key)
    return dict(sorted(found.items()))


def flatten(space: Any, value: Any, name: str) -> dict[str, Any]:
    """Return the parts of a value of `space`, by the names of `leaves_of`."""
    kind = type(space).__name__
    if kind == "Dict":
        inner = [(str(key), space.spaces[key], value[key]) for key in space.spaces]
    elif kind == "Tuple":
        inner = [(str(i), part, x) for i, (part, x) in enumerate(zip(space.spaces, value, strict=True))]
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, part, x in inner:
        found |= flatten(part, x, f"{name}{DOT}{key}" if name else key)
    return found


def unflatten(space: Any, parts: dict[str, Any], name: str) -> Any:
    """Return the value of `space` that has these parts: the inverse of `flatten`."""
    kind = type(space).__name__
    if kind == "Dict":
        return {key: unflatten(x, parts, f"{name}{DOT}{key}" if name else str(key)) for key, x in space.spaces.items()}
    if kind == "Tuple":
        return tuple(unflatten(x, parts, f"{name}{DOT}{i}" if name else str(i)) for i, x in enumerate(space.spaces))
    return parts[name]


def observed_spec(space: Any, name: str, *, predicted: bool, num_kept: int | None = None) -> Spec:
    """Return the spec of one part of an observation.

    Args:
        space: without parts of its own.
        name: of the part, for messages.
        predicted: whether real numbers are predicted; otherwise they are read alone (`ud.Given`).
        num_kept: of the numbers of a Box with one axis, how many the agent sees; None for all of any part.

    Raises:
        TypeError: the space is of a kind that networks cannot read.
    """
    match type(space).__name__:
        case "Discrete":
            return Symbols(int(space.n))
        case "MultiBinary":
            return Block(math.prod(np.shape(np.zeros(space.shape))), 2)
        case "MultiDiscrete":
            return Block(int(space.nvec.size), int(space.nvec.max()))
        case "Box":
            shape = space.shape if num_kept is None else (num_kept,)
            return Reals(shape) if predicted else GivenArray(shape, "float32")
    raise TypeError(
        f"{name} is in a {type(space).__name__} space, which agents cannot read. Wrap the environment so that it has "
        "Box, Discrete, MultiDiscrete or MultiBinary observations, or Dict and Tuple of these."
    )


def action_spec(space: Any) -> Spec:
    """Return the spec of actions. Real numbers are unbounded: what lies outside the box is clipped when it is played.

    Raises:
        TypeError: the space is of a kind that networks cannot act in.
    """
    specs = {name: _action_spec(part, name) for name, part in leaves_of(space, "").items()}
    return specs[""] if list(specs) == [""] else Parts.of(specs)


def _action_spec(space: Any, name: str) -> Spec:
    match type(space).__name__:
        case "Discrete":
            return Symbols(int(space.n))
        case "MultiBinary":
            return Block(math.prod(space.shape), 2)
        case "MultiDiscrete":
            if len(set(space.nvec.ravel().tolist())) == 1:
                return Block(int(space.nvec.size), int(space.nvec.flat[0]))
            return Parts.of({f"{i:02}": Symbols(int(n)) for i, n in enumerate(space.nvec.ravel())})
        case "Box":
            return Reals(space.shape)
    raise TypeError(f"action {name or 'space'} is a {type(space).__name__}, in which agents cannot act.")


def read(space: Any, values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return one part of many observations as the array that agents read, leading axis B."""
    x = np.array(values)
    match type(space).__name__:
        case "Discrete":
            return (x - space.start).astype(np.int32)
        case "MultiBinary":
            return x.astype(np.int32).reshape(len(x), -1)
        case "MultiDiscrete":
            return (x - space.start).astype(np.int32).reshape(len(x), -1)
    return x.astype(np.float32)


def to_actions(space: Any, a: PyTree, rows: np.ndarray) -> list[Any]:
    """Return the actions of some rows of a batch as environments take them; a Box clips them."""
    leaves = leaves_of(space, "")
    parts = {"": a} if list(leaves) == [""] else a
    each = {name: _to_actions(part, parts[name], rows) for name, part in leaves.items()}
    if list(leaves) == [""]:
        return each[""]
    return [unflatten(space, {name: x[i] for name, x in each.items()}, "") for i in range(len(rows))]


def _to_actions(space: Any, a: Any, rows: np.ndarray) -> list[Any]:
    match type(space).__name__:
        case "Discrete":
            return (np.asarray(a)[rows] + int(space.start)).tolist()
        case "MultiBinary":
            return list(np.asarray(a)[rows].astype(space.dtype).reshape(-1, *space.shape))
        case "MultiDiscrete":
            flat = np.stack([a[key] for key in sorted(a, key=int)], -1) if isinstance(a, dict) else np.asarray(a)
            return list((flat[rows].reshape(-1, *space.nvec.shape) + space.start).astype(space.dtype))
    return list(np.clip(np.asarray(a)[rows], space.low, space.high).astype(space.dtype))


def random_actions(space: Any, rng: np.random.Generator, num_episodes: int) -> PyTree:
    """Return actions that a space samples, as our values, `[B, ...]`."""
    space = copy.deepcopy(space)
    space.seed(int(rng.integers(2**31)))
    actions = [from_action(space, space.sample()) for _ in range(num_episodes)]
    return jax.tree.map(lambda *xs: np.stack(xs), *actions)


def from_action(space: Any, a: Any) -> PyTree:
    """Return an action of the environment as our value: the inverse of `to_actions`, without clipping."""
    flat = flatten(space, a, "")
    parts = {name: _from_action(part, flat[name]) for name, part in leaves_of(space, "").items()}
    return parts[""] if list(parts) == [""] else parts


def _from_action(space: Any, a: Any) -> PyTree:
    x = np.asarray(a)
    match type(space).__name__:
        case "Discrete":
            return np.asarray(x - space.start, np.int32)
        case "MultiBinary":
            return x.astype(np.int32).ravel()
        case "MultiDiscrete":
            flat = (x - space.start).astype(np.int32).ravel()
            if len(set(space.nvec.ravel().tolist())) == 1:
                return flat
            return {f"{i:02}": n for i, n in enumerate(flat)}
    return x.astype(np.float32)


def clipped(space: Any, a: PyTree) -> Bool[np.ndarray, " B"] | None:
    """Return which actions have a number outside its Box; None if actions have no Box."""
    leaves = leaves_of(space, "")
    parts = {"": a} if list(leaves) == [""] else a
    found = None
    for name, part in leaves.items():
        if type(part).__name__ == "Box":
            x = np.asarray(parts[name])
            out = ((x < part.low - EDGE) | (x > part.high + EDGE)).reshape(len(x), -1).any(-1)
            found = out if found is None else found | out
    return found
