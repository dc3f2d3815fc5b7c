"""The spaces of a process: each `Spec` as a space of Gymnasium, and values between both."""

from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import PyTree

from undelude._distributions import Block, GivenArray, Parts, Reals, Spec, Symbols, num_symbols
from undelude._process.blank import FIRST, REST, has_symbols


def space_of(spec: Spec, name: str, *, extra: int = 0) -> Any:
    """Return the space of a spec.

    Args:
        spec: of actions or observations.
        name: of the values, for messages.
        extra: values that each symbol has in addition, such as that of a blank.

    Raises:
        TypeError: the spec has no space: an unknown number of symbols, or parts in another PyTree than dicts and
            tuples.
    """
    match spec:
        case Symbols(n=int()):
            return spaces.Discrete(num_symbols(spec) + extra)
        case Block():
            return spaces.MultiDiscrete(np.full(spec.length, spec.n + extra))
        case Reals():
            low, high = (-np.inf, np.inf) if spec.box is None else spec.box
            return spaces.Box(low, high, spec.shape, np.dtype(spec.value.dtype))
        case GivenArray():
            return _box(spec)
        case Parts():
            return _space_of_tree(spec.tree, name, extra)
    raise TypeError(f"{name}: {spec} have no space in Gymnasium; let a ud.Categorical say how many there are.")


def _box(spec: GivenArray) -> Any:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "b":
        return spaces.Box(0, 1, spec.shape, np.int8)
    if dtype.kind in "iu":
        return spaces.Box(np.iinfo(dtype).min, np.iinfo(dtype).max, spec.shape, dtype)
    return spaces.Box(-np.inf, np.inf, spec.shape, dtype)


def _space_of_tree(tree: PyTree, name: str, extra: int) -> Any:
    if isinstance(tree, Spec):
        return space_of(tree, name, extra=extra)
    if isinstance(tree, dict) and all(isinstance(key, str) for key in tree):
        return spaces.Dict({key: _space_of_tree(part, f"{name}, part {key}", extra) for key, part in tree.items()})
    if type(tree) in (tuple, list):
        return spaces.Tuple([_space_of_tree(part, f"{name}, part {i}", extra) for i, part in enumerate(tree)])
    raise TypeError(
        f"{name} is a {type(tree).__name__}, which is not a space of Gymnasium; name the parts: ud.Joint({{...}})."
    )


def observation_space(spec: Spec, name: str, *, opening: bool) -> Any:
    """Return the space of observations, with room for a blank if Nature does not open."""
    space = space_of(spec, f"{name}: the observation", extra=0 if opening else 1)
    return space if opening or has_symbols(spec) else spaces.Dict({FIRST: spaces.Discrete(2), REST: space})


def shown(space: Any, o: PyTree) -> PyTree:
    """Return an observation, or a batch of them, in the types of `space`."""
    match space:
        case spaces.Dict():
            return {key: shown(part, o[key]) for key, part in space.spaces.items()}
        case spaces.Tuple():
            return tuple(shown(part, x) for part, x in zip(space.spaces, o, strict=True))
        case spaces.Discrete():
            return space.dtype.type(o)
    x = np.asarray(o)
    return np.array(x, space.dtype) if x.dtype != space.dtype or not x.flags.writeable else x


def check_action(spec: Spec, a: PyTree, name: str, lead: tuple[int, ...] = ()) -> PyTree:
    """Return an action, or a batch with the leading axes `lead`, in the types of the process.

    Raises:
        ValueError: it has another structure or shape, or is outside the spec.
    """
    if isinstance(spec, Parts):
        try:
            parts = spec.structure.flatten_up_to(a)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: an action must have the parts {spec}, not {a!r:.99}.") from error
        each = zip(spec.leaves, parts, strict=True)
        return spec.structure.unflatten([check_action(part, x, name, lead) for part, x in each])
    x, shape = np.asarray(a), (*lead, *spec.value.shape)
    if x.shape != shape:
        raise ValueError(f"{name}: actions must have the shape {list(shape)}, not {list(x.shape)}.")
    spec.check(f"{name}: actions", x)
    return x.astype(spec.value.dtype)
