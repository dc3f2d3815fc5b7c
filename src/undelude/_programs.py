"""Programs that JAX makes of functions: the programs inside them, and how much work they do."""

import math
from collections.abc import Iterator

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

# Products of a matrix product that take about as long as another number: libraries compute them, not XLA's own loops.
PRODUCTS = 16


def subprograms(x: object) -> Iterator[ClosedJaxpr | Jaxpr]:
    """Yield the programs in a parameter of an operation."""
    if isinstance(x, ClosedJaxpr | Jaxpr):
        yield x
    elif isinstance(x, tuple | list):
        for item in x:
            yield from subprograms(item)


def inner_programs(operation: JaxprEqn) -> Iterator[Jaxpr]:
    """Yield the bodies of a loop, the branches of a condition, the program of a call."""
    for x in operation.params.values():
        for inner in subprograms(x):
            yield inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner


def work(program: Jaxpr) -> int:
    """Estimate the work of a program: how many numbers its operations compute.

    A number of a matrix product counts once for each `PRODUCTS` products in it, a loop of unknown length once.
    """
    total = 0
    for operation in program.eqns:
        inside = sum(map(work, inner_programs(operation)))
        if inside:
            total += inside * operation.params.get("length", 1)
            continue
        size = sum(math.prod(_shape(x)) for x in operation.outvars)
        if operation.primitive.name == "dot_general":
            contracted = operation.params["dimension_numbers"][0][0]
            products = math.prod(_shape(operation.invars[0])[i] for i in contracted)
            size *= math.ceil(products / PRODUCTS)
        total += size
    return total


def _shape(x: Var | Literal) -> tuple[int, ...]:
    return getattr(x.aval, "shape", ())
