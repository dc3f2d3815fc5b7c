"""What experts return, as distributions and actions: an action, a mean and a scale, or probabilities."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jaxtyping import PyTree

from undelude._checks import check_probabilities, one_line
from undelude._distributions import AbstractDistribution, Categorical, Normal, Reals, Spec, Symbols
from undelude._tree import is_concrete
from undelude.gym._host.rows import Rows, host, read, to_jax
from undelude.gym._host.spaces import flatten, from_action, leaves_of

NONE = "the expert returned None: is a return missing? Return an action or its distribution."
# Of a normal distribution, to make one of arrays of NumPy.
_STRUCTURE = jax.tree.structure(jax.eval_shape(lambda: Normal(0.0, 1.0)))


def batched(advice: Sequence[Any] | Rows, space: Any, spec: Spec) -> tuple[AbstractDistribution | None, PyTree | None]:
    """Return `(distributions, None)`, or `(None, actions)` if the expert returned actions; leading axis B.

    Args:
        advice: of the expert, one for each episode, or all in arrays.
        space: of the actions.
        spec: of the actions.

    Raises:
        ValueError: the answers are of different kinds, or not finite, or no probabilities.
    """
    if isinstance(advice, Rows):
        return _of_rows(advice.batch, space, spec)
    kinds = {kind_of(x, spec) for x in advice}
    if len(kinds) > 1:
        raise ValueError(f"the expert returned {' and '.join(sorted(kinds))}: return one of them always.")
    (kind,) = kinds
    for x in advice:
        _check_shape(x, space, spec)
    if kind == "a mean and a scale":
        loc, scale = (np.stack([np.asarray(x[i], np.float32) for x in advice]) for i in (0, 1))
        return _normal(loc, scale), None
    if kind == "probabilities":
        probs = np.stack([np.asarray(x, np.float64) for x in advice])
        check_probabilities(probs, "the expert's probabilities")
        with np.errstate(divide="ignore"):
            return Categorical(log_probs=jnp.asarray(np.log(probs), float)), None
    actions = [from_action(space, x) for x in advice]
    stacked = {key: np.stack([a[key] for a in actions]) for key in actions[0]} if isinstance(actions[0], dict) else None
    values = np.stack(actions) if stacked is None else stacked
    spec.check("the expert's actions", values)
    return None, values


def _of_rows(answer: Any, space: Any, spec: Spec) -> tuple[AbstractDistribution | None, PyTree | None]:
    """Return `batched` of an answer for all episodes at once, whose arrays stay on their device."""
    B = len(Rows(answer))
    if not (isinstance(spec, Symbols) and np.shape(answer) == (B, spec.n)):
        _check_shape(answer, space, spec, lead=(B,))
    if isinstance(spec, Reals) and isinstance(answer, tuple) and len(answer) == 2:
        return _normal(*(to_jax(x) for x in answer)), None
    if isinstance(spec, Symbols) and np.shape(answer) == (B, spec.n):
        probs = jnp.asarray(to_jax(answer), float)
        check_probabilities(np.asarray(probs), "the expert's probabilities")
        return Categorical(log_probs=jnp.log(probs)), None
    parts = {name: read(part, Rows(x)) for name, (part, x) in _by_part(space, answer).items()}
    values = parts[""] if list(parts) == [""] else parts
    spec.check("the expert's actions", values)
    return None, values


def traced(advice: Any, space: Any, spec: Spec) -> tuple[AbstractDistribution | None, PyTree]:
    """Return the distribution, or None, and the action of one answer in a compiled world, whose values are unknown."""
    _check_shape(advice, space, spec)
    match kind_of(advice, spec):
        case "a mean and a scale":
            loc, scale = (jnp.asarray(x, float) for x in advice)
            scale = scale.reshape(*scale.shape, *[1] * (loc.ndim - scale.ndim))
            return Normal(loc, jnp.broadcast_to(scale, loc.shape)), None
        case "probabilities":
            return Categorical(log_probs=jnp.log(jnp.asarray(advice, float))), None
    one = jax.tree.map(lambda x: jnp.asarray(x)[None], advice)
    parts = {name: read(part, Rows(x))[0] for name, (part, x) in _by_part(space, one).items()}
    return None, parts[""] if list(parts) == [""] else parts


def _check_shape(x: Any, space: Any, spec: Spec, *, lead: tuple[int, ...] = ()) -> None:
    """Raise `ValueError` if an answer is neither an action nor its mean and scale, nor probabilities, by its shape."""
    if x is None:
        raise ValueError(NONE)
    match kind_of(x, spec):
        case "probabilities":
            return
        case "a mean and a scale":
            assert isinstance(spec, Reals)
            named = {"a mean": (x[0], spec.shape)}
            scale = np.shape(x[1])
            if scale != (*lead, *spec.shape)[: len(scale)] or len(scale) < len(lead):
                named["a scale"] = (x[1], spec.shape)
        case _:
            named = {
                f"an action{f', part {name},' if name else ''}": (value, part.shape)
                for name, (part, value) in _by_part(space, x).items()
            }
    for name, (value, shape) in named.items():
        if (found := np.shape(value)) != (*lead, *shape):
            other = f", or {spec.n} probabilities" if isinstance(spec, Symbols) else ""
            raise ValueError(
                f"the expert returned {name} of shape {tuple(found)}; for {space} it has the shape "
                f"{(*lead, *shape)}{other}."
            )
    if kind_of(x, spec) == "an action":
        _check_whole(space, x)


def _check_whole(space: Any, answer: Any) -> None:
    """Raise `ValueError` if a symbol is a fraction, which would be cut; if it is traced, it must be of integers."""
    for part, x in _by_part(space, answer).values():
        if type(part).__name__ == "Box":
            continue
        x = x if hasattr(x, "shape") else np.asarray(x)
        if not is_concrete(x):
            if not jnp.issubdtype(x.dtype, jnp.integer) and x.dtype != bool:
                raise ValueError(f"the expert returned an action of {x.dtype}; in {part} it must be an integer.")
        elif ((values := host(x)) != np.floor(values)).any():
            raise ValueError(f"the expert returned the action {one_line(values)}; in {part} it must be a whole number.")


def _by_part(space: Any, answer: Any) -> dict[str, Any]:
    flat = flatten(space, answer, "")
    return {name: (part, flat[name]) for name, part in leaves_of(space, "").items()}


def _normal(loc: Any, scale: Any) -> Normal:
    """Return normal distributions, leading axis B; arrays of NumPy stay there, which is faster."""
    xp: Any = jnp if isinstance(loc, jax.Array) else np
    loc, scale = xp.asarray(loc, np.float32), xp.asarray(scale, np.float32)
    if not bool(xp.isfinite(loc).all() & xp.isfinite(scale).all()):
        raise ValueError("the expert returned a mean or a scale that is not finite.")
    if not bool((scale > 0).all()):
        raise ValueError("the expert returned a scale that is not positive.")
    scale = xp.broadcast_to(scale.reshape(*scale.shape, *[1] * (loc.ndim - scale.ndim)), loc.shape)
    # Without the constructor, whose copies to the device take longer than a step of a fast simulator.
    dtype = dtypes.canonicalize_dtype(float)
    return jax.tree.unflatten(_STRUCTURE, [loc.astype(dtype), xp.array(scale, dtype)])


def kind_of(x: Any, spec: Spec) -> str:
    """Return what an expert returned, in words."""
    if isinstance(spec, Reals) and isinstance(x, tuple) and len(x) == 2:
        return "a mean and a scale"
    if isinstance(spec, Symbols) and np.shape(x) == (spec.n,):
        return "probabilities"
    return "an action"
