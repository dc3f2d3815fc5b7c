"""Whether an agent fits a process, said before anything is compiled."""

import functools
import operator
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from undelude._agents.base import AbstractAgent
from undelude._checks import one_line
from undelude._distributions import AbstractDistribution, Spec, spec_of
from undelude._process.process import InteractionProcess
from undelude._tree import Outline, filled, is_concrete, outline, signature


def check_theta(process: InteractionProcess, theta: Any) -> None:
    """Raise `ValueError` where `theta` is no index of a value that may occur."""
    if not process.finite:
        raise ValueError(f"{process.name}: theta={theta} cannot be fixed: Theta is continuous, and drawn.")
    if not _is_index(theta) or not 0 <= int(theta) < process.num_thetas:
        support = f"it is an index from 0 to {process.num_thetas - 1}"
    elif is_concrete(process.prior) and np.asarray(process.prior)[int(theta)] == 0:
        support = "the prior gives it no probability"
    else:
        return
    raise ValueError(f"{process.name}: theta={one_line(theta)} is outside the support; {support}.")


def _is_index(x: Any) -> bool:
    try:
        operator.index(x)
    except TypeError:
        return False
    return not isinstance(x, bool)


def check_fit(process: InteractionProcess, agent: AbstractAgent) -> None:
    """Raise where `agent` was made for other values than the process has, or does not keep to the protocol.

    Raises:
        TypeError: f_A or f_O returns no distribution.
        ValueError: it was made for another process; its memory changes its shape.
    """
    _check_fit(outline((process, agent)), process.specs)


# Asked for at every rollout, and tracing takes longer than a short one does.
@functools.lru_cache(maxsize=64)
def _check_fit(key: Outline, specs: tuple[Spec, Spec]) -> None:
    shapes = key[0]
    process, agent = filled(key, shapes)
    kind = type(agent).__name__

    def predict(leaves: tuple) -> tuple[Any, Any, Any]:
        process, agent = filled(key, leaves)
        m = agent.init(num_rounds=process.num_rounds)
        return m, agent.f_A(m), agent.f_O(m)

    m, *distributions = jax.eval_shape(predict, shapes)
    for name, spec, prediction in zip(("f_A", "f_O"), specs, distributions, strict=True):
        if not isinstance(prediction, AbstractDistribution):
            raise TypeError(
                f"{kind}.{name} must return a distribution, such as ud.Categorical, not {prediction!r:.99}."
            )
        if not spec.agrees(own := spec_of(prediction)):
            raise ValueError(
                f"{process.name} has {'actions' if name == 'f_A' else 'observations'} of {spec}, but this {kind} "
                f"predicts {own}: it was made for another process."
            )

    def live_on(leaves: tuple, m: PyTree, a: PyTree, o: PyTree) -> tuple[PyTree, PyTree]:
        _, agent = filled(key, leaves)
        return agent.g_A(a, m, intervened=agent.own_actions == "do"), agent.g_O(o, m)

    later = jax.eval_shape(live_on, shapes, m, *(spec.value for spec in specs))
    for name, after in zip(("g_A", "g_O"), later, strict=True):
        if signature(after) != signature(m):
            raise ValueError(
                f"{kind}.{name} returns a memory of {signature(after):.200}, and init one of {signature(m):.200}; "
                "return the same structure, shapes and types from all three."
            )
