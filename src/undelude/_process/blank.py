"""The observation that stands for none, before the first action of a process without an opening.

Gymnasium's environments show something at the start. A blank is told from any real observation: its symbols have the
value n, one more than the greatest that is ever observed, and its numbers are 0.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

from undelude._distributions import Block, Parts, Reals, Spec, Symbols
from undelude._types import Observation

# The parts of an observation of numbers alone, which has no symbol that could tell a blank.
FIRST, REST = "first", "observation"


def has_symbols(spec: Spec) -> bool:
    """Return whether a value of `spec` has a symbol, of a known number of symbols."""
    if isinstance(spec, Parts):
        return any(map(has_symbols, spec.leaves))
    return isinstance(spec, Block) or (isinstance(spec, Symbols) and spec.n is not None)


def blank(spec: Spec) -> Observation:
    """Return the value that stands for no observation, in NumPy."""
    match spec:
        case Parts():
            return spec.structure.unflatten(map(blank, spec.leaves))
        case Symbols(n=int()) | Block():
            return np.full(spec.value.shape, spec.n, spec.value.dtype)
        case Reals(box=tuple() as box):
            return np.full(spec.shape, np.clip(0.0, *box), spec.value.dtype)
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), spec.value)


def is_blank(spec: Spec, o: Observation) -> Bool[np.ndarray, "..."] | None:
    """Return which of the observations `o`, with any leading axes, are blanks; None if `spec` has no symbols."""
    found: Any = None
    pairs = zip(spec.leaves, spec.structure.flatten_up_to(o), strict=True) if isinstance(spec, Parts) else [(spec, o)]
    for part, x in pairs:
        if isinstance(part, Parts):
            these = is_blank(part, x)
        elif has_symbols(part):
            these = np.asarray(x) == part.n  # type: ignore[attr-defined]
            these = these.all(-1) if isinstance(part, Block) else these
        else:
            these = None
        if these is not None:
            found = these if found is None else found & these
    return found
