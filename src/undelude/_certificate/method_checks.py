"""Checks of single methods of task and expert, by reading the programs that JAX makes of them.

JAX traces a method once and repeats the resulting program. A number that Python draws while it traces, and a number
drawn from a fixed key, are therefore the same in every round and episode. That is right for a table that is part of the
task, and wrong for chance.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from undelude._certificate.fixed_draws import (
    draws_from_fixed_key,
    executed_code,
    generator_makers,
    stands_for_chance,
)
from undelude._certificate.task_checks import Finding
from undelude._errors import users_line
from undelude._process.process import InteractionProcess
from undelude._process.validation import first_Q_A, first_Q_O
from undelude._programs import subprograms

# Traces of each method that are compared with one another.
NUM_TRACES = 8
# How a note on fixed numbers ends.
RIGHT_FOR_A_TABLE = (
    "which is right for a fixed table, better drawn once into a field of the task or expert. If they stand for chance, "
    "draw through the distributions that Q_A and Q_O return."
)


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


def check_methods(process: InteractionProcess) -> Iterator[Finding]:
    """Check that no method draws random numbers itself, and that each can be traced.

    Numbers that differ from trace to trace are a problem, and so is a draw from a fixed key that stands for chance
    (`stands_for_chance`). Other draws from a fixed key, and generators that are seeded in a method, are noted.
    """
    shapes = {x.shape for x in jax.tree.leaves([spec.value for spec in process.specs])}
    for method in methods(process):
        try:
            with executed_code() as codes:
                first = method.trace()
            others = [method.trace() for _ in range(NUM_TRACES - 1)]
        except Exception as error:
            yield Finding(f"{method.name} fails: {type(error).__name__}: {error}{users_line(error)}")
            continue
        numbers = list(_numbers(first))
        if any(list(_numbers(other)) != numbers for other in others):
            yield Finding(
                f"{method.name} draws random numbers in Python, such as random.random() or np.random. JAX runs the "
                "Python code once and repeats the numbers in every round and episode. Draw only through the "
                "distributions that Q_A and Q_O return; draw fixed numbers once, into a field of the task or expert."
            )
        elif makers := generator_makers(codes):
            yield Finding(
                f"{method.name} draws random numbers in Python from a seeded generator ({', '.join(makers)}). They are "
                f"the same in every round and episode, {RIGHT_FOR_A_TABLE}",
                is_problem=False,
            )
        draws = draws_from_fixed_key(first.jaxpr)
        if any(stands_for_chance(draw, shapes) for draw in draws):
            yield Finding(
                f"{method.name} draws a single number or a choice from a fixed key, such as "
                "jax.random.key(0). It is the same in every round and episode. Draw only through the distributions "
                "that Q_A and Q_O return; draw fixed numbers once, into a field of the task or expert."
            )
        elif draws:
            listed = ", ".join(str(list(draw.shape)) for draw in draws)
            yield Finding(
                f"{method.name} draws random numbers from a fixed key, such as jax.random.key(0), of shape {listed}. "
                f"They are the same in every round and episode, {RIGHT_FOR_A_TABLE}",
                is_problem=False,
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
