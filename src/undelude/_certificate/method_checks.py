"""Checks of single methods of task and expert, by reading the programs that JAX makes of them.

JAX traces a method once and repeats the resulting program. A number that Python draws while it traces, and a number
drawn from a fixed key, are therefore the same in every round and episode.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from undelude._errors import users_line
from undelude._process.process import InteractionProcess
from undelude._process.validation import first_Q_A, first_Q_O

# Traces of each method that are compared with one another.
NUM_TRACES = 8
# The primitives that draw numbers from a key, which is their first argument.
DRAWS = {"random_bits", "random_gamma", "threefry2x32", "rng_bit_generator"}


class Method(NamedTuple):
    """A method and the shapes of its arguments.

    Attributes:
        name: such as `task.Q_O`.
        call: the method.
        arguments: PyTrees of shapes.
    """

    name: str
    call: Callable[..., Any]
    arguments: tuple[Any, ...]

    def trace(self) -> ClosedJaxpr:
        """Trace the method, again in each call, and return the program that JAX makes of it."""
        return jax.make_jaxpr(lambda *arguments: self.call(*arguments))(*self.arguments)


def methods(process: InteractionProcess) -> list[Method]:
    """Return the methods of task, expert and transition that an episode calls."""
    task, expert = process.task, process.expert
    key = jax.eval_shape(lambda: jax.random.key(0))
    theta = jax.eval_shape(lambda key: process.theta_value(process.sample_theta(key)), key)
    w, e = jax.eval_shape(task.init, theta), jax.eval_shape(expert.init, theta)
    a = jax.eval_shape(lambda theta, key: first_Q_A(process, theta).sample(key), theta, key)
    o = jax.eval_shape(lambda theta, key: first_Q_O(process, theta).sample(key), theta, key)
    found = [
        Method("task.init", task.init, (theta,)),
        Method("task.Q_O", task.Q_O, (theta, w)),
        Method("task.g_A", task.g_A, (theta, a, w)),
        Method("task.g_O", task.g_O, (theta, o, w)),
        Method("task.reward", task.reward, (theta, w, a, o)),
        Method("task.ends", task.ends, (o,)),
        Method("expert.init", expert.init, (theta,)),
        Method("expert.Q_A", expert.Q_A, (theta, e)),
        Method("expert.g_A", expert.g_A, (theta, a, e)),
        Method("expert.g_O", expert.g_O, (theta, o, e)),
    ]
    return found + ([Method("transition", process.transition, (theta, w))] if process.transition else [])


def check_methods(process: InteractionProcess) -> Iterator[str]:
    """Check that no method draws random numbers itself, and that each can be traced."""
    for method in methods(process):
        try:
            first, *others = (method.trace() for _ in range(NUM_TRACES))
        except Exception as error:
            yield f"{method.name} fails: {type(error).__name__}: {error}{users_line(error)}"
            continue
        numbers = list(_numbers(first))
        if any(list(_numbers(other)) != numbers for other in others):
            yield (
                f"{method.name} draws random numbers in Python, such as random.random() or np.random. JAX runs the "
                "Python code once and repeats the numbers in every round and episode. Draw only through the "
                "distributions that Q_A and Q_O return; draw fixed numbers once, into a field of the task or expert."
            )
        if _draws_from_fixed_key(first.jaxpr, set(first.jaxpr.invars)):
            yield (
                f"{method.name} draws random numbers from a fixed key, such as jax.random.key(0): they are the same in "
                "every round and episode. Draw only through the distributions that Q_A and Q_O return; draw fixed "
                "numbers once, into a field of the task or expert."
            )


def _numbers(program: ClosedJaxpr) -> Iterator[object]:
    """Yield the operations of a program and the numbers in it."""
    yield from map(_plain, program.consts)
    yield from _numbers_of(program.jaxpr)


def _numbers_of(jaxpr: Jaxpr) -> Iterator[object]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        yield from (_plain(x.val) for x in equation.invars if isinstance(x, Literal))
        for x in equation.params.values():
            if isinstance(x, bool | int | float | str | tuple) and not any(True for _ in subprograms(x)):
                yield repr(x)
            for inner in subprograms(x):
                yield from _numbers(inner) if isinstance(inner, ClosedJaxpr) else _numbers_of(inner)
    yield from (_plain(x.val) for x in jaxpr.outvars if isinstance(x, Literal))


def _plain(x: Any) -> object:
    if isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    array = np.asarray(x)
    return array.shape, array.dtype.str, array.tobytes()


def subprograms(x: object) -> Iterator[ClosedJaxpr | Jaxpr]:
    """Yield the programs in a parameter of an operation."""
    if isinstance(x, ClosedJaxpr | Jaxpr):
        yield x
    elif isinstance(x, tuple | list):
        for item in x:
            yield from subprograms(item)


def _draws_from_fixed_key(jaxpr: Jaxpr, changing: set[Any]) -> bool:
    """Return whether a program draws from a key that does not depend on the variables `changing`, which grow."""
    for equation in jaxpr.eqns:
        changes = [isinstance(x, Var) and x in changing for x in equation.invars]
        if equation.primitive.name in DRAWS and not any(changes):
            return True
        for inner in _inner(equation):
            # The operands of a loop or a call are the last of the inputs of its equation.
            arguments = zip(reversed(inner.invars), reversed(changes), strict=False)
            inside = {variable for variable, change in arguments if change}
            if _draws_from_fixed_key(inner, inside):
                return True
        if any(changes):
            changing.update(equation.outvars)
    return False


def _inner(equation: JaxprEqn) -> Iterator[Jaxpr]:
    for x in equation.params.values():
        for inner in subprograms(x):
            yield inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
