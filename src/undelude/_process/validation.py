"""Checks of a process before anything is played: the parts that the user hands over, and the first round."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from undelude._checks import check_arguments, check_count, check_probabilities
from undelude._compiled import compiled_for
from undelude._distributions import (
    AbstractDistribution,
    Categorical,
    Joint,
    Mixture,
    Normal,
    check_is_distribution,
    spec_of,
)
from undelude._errors import is_ours, users_line
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._tree import TRACED_VALUE_ERRORS, index, is_concrete, signature
from undelude._types import Action, Memory, Theta

if TYPE_CHECKING:
    from undelude._process.process import InteractionProcess

# The methods that every episode calls.
METHODS: dict[type, tuple[str, ...]] = {
    AbstractTask: ("init", "Q_O", "g_A", "g_O", "reward", "ends"),
    AbstractExpert: ("init", "Q_A", "g_A", "g_O"),
}
# Draws of a continuous Theta for which the first round is checked.
NUM_DRAWS = 8


def validate(process: "InteractionProcess") -> None:
    """Raise if a part of `process` is of the wrong kind or its first round is not well defined.

    Raises:
        ValueError: probabilities, shapes or memories do not fit; the message names the part.
        TypeError: a part is of another type, or a method reads the value of a traced array.
    """
    name = process.name
    check_count(f"{name}: num_rounds", process.num_rounds)
    _check_types(process)
    if not is_concrete(process):
        return
    _check_prior(process)
    if process.transition is not None and not (process.task.theta_free_memory and process.expert.theta_free_memory):
        raise ValueError(
            f"{name}: with a transition, the memories of task and expert must not depend on theta; "
            "compute them without theta and declare theta_free_memory = True."
        )
    try:
        distributions, memories = _first_round(process)
    except TRACED_VALUE_ERRORS as error:
        raise TypeError(
            f"{name}: a method of task, expert or transition reads the value of a traced array{users_line(error)}. "
            "Replace Python if/while with jnp.where, jax.lax.cond or jax.lax.while_loop, NumPy functions, int() and "
            "float() with jax.numpy, and a list that is indexed with jnp.asarray of it."
        ) from error
    for part, distribution in distributions.items():
        check_distribution(distribution, f"{name}: {part}")
    _check_memories(process, memories)
    if process.transition is not None and process.finite:
        distribution = distributions["transition(theta, w)"]
        if not isinstance(distribution, Categorical) or distribution.num_categories != process.num_thetas:
            raise ValueError(
                f"{name}: transition(theta, w) must return a Categorical over the indices of thetas, "
                f"0 to {process.num_thetas - 1}."
            )


def _check_types(process: "InteractionProcess") -> None:
    for part, kind in {"task": AbstractTask, "expert": AbstractExpert}.items():
        given = getattr(process, part)
        if not isinstance(given, kind):
            what = f"the class {given.__name__}" if isinstance(given, type) else f"of type {type(given).__name__}"
            raise TypeError(f"{process.name}: {part} must be an instance of ud.{kind.__name__}, not {what}.")
        for name in METHODS[kind]:
            check_arguments(getattr(given, name), getattr(kind, name), f"{process.name}: {part}.{name}")
    if process.transition is not None:
        check_arguments(process.transition, ("theta", "w"), f"{process.name}: transition")


def _check_prior(process: "InteractionProcess") -> None:
    name, prior = process.name, process.prior
    if not process.finite:
        if not isinstance(prior, AbstractDistribution):
            raise ValueError(
                f"{name}: thetas is None, so the prior must be a distribution to sample from; "
                "for a finite Theta give the K values as thetas and K probabilities as prior."
            )
        return
    if isinstance(prior, AbstractDistribution) or prior.ndim != 1:
        raise ValueError(f"{name}: with thetas, the prior must be [K], one probability for each of them.")
    check_probabilities(prior, f"{name}: prior")
    K = process.num_thetas
    for leaf in jax.tree.leaves(process.thetas):
        if leaf.ndim == 0 or leaf.shape[0] != K:
            what = "single numbers" if leaf.ndim == 0 else f"shape {leaf.shape}"
            raise ValueError(
                f"{name}: thetas has {what}, but the prior has {K} values; give every array in thetas a leading axis "
                f"of that length, such as jnp.arange({K})."
            )


@compiled_for(runs=1)
def _first_round(process: "InteractionProcess") -> tuple[dict[str, Memory], tuple[Memory, Memory]]:
    """Return the distributions of the first round, and the memories after it, with a leading axis over theta.

    Compiled, because it consists of many small operations.
    """
    distributions = {
        "expert: first Q_A(theta, e)": lambda theta: first_Q_A(process, theta),
        "task: Q_O(theta, w) after each first action": lambda theta: _Q_O_after_each_action(process, theta),
    }
    if process.opening:
        distributions["task: Q_O(theta, w) of the opening"] = lambda theta: first_Q_O(process, theta)
    # Memories first: if their shapes change, the distributions fail with messages that explain less.
    memories = _over_thetas(process, lambda theta: _memories_after_a_round(process, theta))
    stacked = {part: _over_thetas(process, distribution) for part, distribution in distributions.items()}
    if process.transition is not None and process.finite:
        w = index(memories[0], 0)
        stacked["transition(theta, w)"] = jax.vmap(process.transition, in_axes=(0, None))(process.thetas, w)
    return stacked, memories


def any_theta(process: "InteractionProcess") -> Theta:
    """Return some value of Theta."""
    return process.theta_value(jnp.zeros((), jnp.int32) if process.finite else process.sample_theta(jax.random.key(0)))


def first_Q_A(process: "InteractionProcess", theta: Theta) -> AbstractDistribution:
    """Return the expert's distribution of the first action."""
    e = _call(process, "expert.init", theta)
    if process.opening:
        e = _call(process, "expert.g_O", theta, first_Q_O(process, theta).sample(jax.random.key(0)), e)
    return _predict(process, "expert.Q_A", theta, e)


def first_Q_O(process: "InteractionProcess", theta: Theta) -> AbstractDistribution:
    """Return the distribution of the first observation, the opening if there is one."""
    if process.opening:
        return _predict(process, "task.Q_O", theta, _call(process, "task.init", theta))
    return _Q_O_after(process, theta, first_Q_A(process, theta).sample(jax.random.key(0)))


def _Q_O_after(process: "InteractionProcess", theta: Theta, a: Action) -> AbstractDistribution:
    w = _call(process, "task.init", theta)
    if process.opening:
        w = _call(process, "task.g_O", theta, first_Q_O(process, theta).sample(jax.random.key(0)), w)
    return _predict(process, "task.Q_O", theta, _call(process, "task.g_A", theta, a, w))


def _Q_O_after_each_action(process: "InteractionProcess", theta: Theta) -> AbstractDistribution:
    Q_A = first_Q_A(process, theta)
    if not isinstance(Q_A, Categorical):
        return _Q_O_after(process, theta, Q_A.sample(jax.random.key(0)))
    # An agent may take actions that the expert never takes.
    return jax.vmap(lambda a: _Q_O_after(process, theta, a))(jnp.arange(Q_A.num_categories))


def _call(process: "InteractionProcess", method: str, *arguments: PyTree) -> Any:
    """Return the result of a method of task or expert; an error in it names the method and the user's line."""
    part, _, name = method.partition(".")
    try:
        return getattr(getattr(process, part), name)(*arguments)
    except TRACED_VALUE_ERRORS:
        raise
    except Exception as error:
        if is_ours(error):
            raise
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{process.name}: {method} fails{users_line(error)}: {what}") from error


def _predict(process: "InteractionProcess", method: str, theta: Theta, memory: Memory) -> AbstractDistribution:
    """Return the distribution that a method returns."""
    distribution = _call(process, method, theta, memory)
    name = f"{process.name}: the result of {method}"
    check_is_distribution(distribution, name)
    try:
        spec_of(distribution)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return distribution


def _memories_after_a_round(process: "InteractionProcess", theta: Theta) -> tuple[Memory, Memory]:
    """Return the memories of task and expert after a round whose symbols do not depend on `theta`."""
    some, key = any_theta(process), jax.random.key(0)
    first = {part: _call(process, f"{part}.init", theta) for part in ("task", "expert")}

    def step(g: str, x: PyTree, memories: dict[str, Memory]) -> dict[str, Memory]:
        later = {}
        for part, memory in memories.items():
            later[part] = _call(process, f"{part}.{g}", theta, x, memory)
            if signature(later[part]) != signature(first[part]):
                raise ValueError(
                    f"{process.name}: {part}.{g} returns a memory of {signature(later[part])}, but {part}.init one of "
                    f"{signature(first[part])}; return the same structure, shapes and types from all three."
                )
        return later

    memories = step("g_O", first_Q_O(process, some).sample(key), first) if process.opening else first
    a = first_Q_A(process, some).sample(key)
    memories = step("g_A", a, memories)
    o = _Q_O_after(process, some, a).sample(key)
    ended = process.task.ends(o)
    if jnp.shape(ended) != () or not jnp.issubdtype(jnp.result_type(ended), jnp.bool_):
        raise ValueError(f"{process.name}: task.ends must return one boolean, such as o == 2, not {signature(ended)}.")
    memories = step("g_O", o, memories)
    return memories["task"], memories["expert"]


def _over_thetas(process: "InteractionProcess", f: Callable[[Theta], PyTree]) -> PyTree:
    if process.finite:
        return jax.vmap(f)(process.thetas)
    keys = jax.random.split(jax.random.key(0), NUM_DRAWS)
    return jax.vmap(lambda key: f(process.sample_theta(key)))(keys)


def _check_memories(process: "InteractionProcess", memories: tuple[Memory, Memory]) -> None:
    if not process.finite:
        return
    for part, memory in zip(("task", "expert"), memories, strict=True):
        if not getattr(process, part).theta_free_memory:
            continue
        for x in jax.tree.leaves(memory):
            if is_concrete(x) and not np.array_equal(x, np.broadcast_to(x[:1], x.shape), equal_nan=True):
                raise ValueError(
                    f"{process.name}: {part} declares theta_free_memory, but after the same round its memory differs "
                    "between thetas; compute it without theta, or do not declare it."
                )


def check_distribution(distribution: object, name: str) -> None:
    """Raise if a distribution, stacked over theta, is not finite or not normalised, or is not a distribution."""
    match distribution:
        case Categorical():
            check_probabilities(distribution.probs, name)
        case Normal():
            if is_concrete(distribution) and not (
                np.isfinite(distribution.loc).all() and (np.asarray(distribution.scale) > 0).all()
            ):
                raise ValueError(f"{name} is a Normal whose loc is not finite or whose scale is not positive.")
        case Joint():
            for i, part in enumerate(distribution.distributions):
                check_distribution(part, f"{name} part {i}")
        case Mixture():
            check_probabilities(jnp.exp(distribution.log_weights), f"{name} weights")
            check_distribution(distribution.components, f"{name} components")
        case _:
            check_is_distribution(distribution, name)
