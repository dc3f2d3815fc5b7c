"""Checks before anything is compiled: does the agent fit the world, is theta in the support."""

import functools
import operator
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from undelude._agents.base import AbstractAgent
from undelude._checks import check_arguments, one_line
from undelude._distributions import AbstractDistribution, Spec, spec_of
from undelude._process.host_world import World
from undelude._process.process import InteractionProcess
from undelude._tree import Outline, filled, is_concrete, outline, signature
from undelude._types import Memory


def check_theta(world: World, theta: Any) -> None:
    """Raise `ValueError` unless Theta is finite and `theta` the index of a value with positive prior probability.

    A world that can only be sampled checks theta itself, in `begin`.
    """
    if not isinstance(world, InteractionProcess):
        return
    if not world.finite:
        raise ValueError(f"{world.name}: theta={theta} cannot be fixed, because Theta is continuous.")
    if not _is_index(theta) or not 0 <= int(theta) < world.num_thetas:
        support = f"it is an index from 0 to {world.num_thetas - 1}"
    elif is_concrete(world.prior) and np.asarray(world.prior)[int(theta)] == 0:
        support = "the prior gives it no probability"
    else:
        return
    raise ValueError(f"{world.name}: theta={one_line(theta)} is outside the support; {support}.")


def check_fit(world: World, agent: AbstractAgent) -> None:
    """Raise if `agent` was made for other values than the world has, or breaks the protocol.

    Raises:
        TypeError: f_A or f_O returns no distribution.
        ValueError: it was made for another process, or its memory changes its shape.
    """
    _check_fit(outline(agent), world.name, world.specs, world.num_rounds)


# Cached, because tracing takes longer than a short rollout.
@functools.lru_cache(maxsize=64)
def _check_fit(key: Outline, name: str, specs: tuple[Spec, Spec], num_rounds: int) -> None:
    shapes, outlined = key.shapes, filled(key, key.shapes)
    kind = type(outlined).__name__
    for method in ("f_A", "f_O", "g_A", "g_O"):
        check_arguments(getattr(outlined, method), getattr(AbstractAgent, method), f"{kind}.{method}")

    def predict(leaves: tuple) -> tuple[Memory, object, object]:
        agent = filled(key, leaves)
        m = agent.init(num_rounds=num_rounds)
        return m, agent.f_A(m), agent.f_O(m)

    m, *predictions = jax.eval_shape(predict, shapes)
    for f, what, spec, prediction in zip(("f_A", "f_O"), ("actions", "observations"), specs, predictions, strict=True):
        if not isinstance(prediction, AbstractDistribution):
            raise TypeError(f"{kind}.{f} must return a distribution, such as ud.Categorical, not {prediction!r:.99}.")
        if not spec.agrees(own := spec_of(prediction)):
            raise ValueError(
                f"{name} has {what} of {spec}, but this {kind} predicts {own}: it was made for another process."
            )

    def step(leaves: tuple, m: PyTree, a: PyTree, o: PyTree) -> tuple[PyTree, PyTree]:
        agent = filled(key, leaves)
        return agent.g_A(a, m, intervened=agent.own_actions == "do"), agent.g_O(o, m)

    later = jax.eval_shape(step, shapes, m, *(spec.value for spec in specs))
    for g, after in zip(("g_A", "g_O"), later, strict=True):
        if signature(after) != signature(m):
            raise ValueError(
                f"{kind}.{g} returns a memory of {signature(after):.200}, but init one of {signature(m):.200}; "
                "return the same structure, shapes and types from all three."
            )


def _is_index(x: Any) -> bool:
    try:
        operator.index(x)
    except TypeError:
        return False
    return not isinstance(x, bool)
