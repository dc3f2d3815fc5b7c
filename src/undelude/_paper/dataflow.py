"""Names in a traced program, and which of them reach which others with no other name between."""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.extend.core import Literal as Constant
from jaxtyping import Array

# Stands among the names for a random key that the program is given.
KEY = "key"
# Before the name of a value, the name of its tangent.
TANGENT = "tangent of "
Sources = frozenset[str]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _name_array(x: Array, label: str) -> Array:
    return checkpoint_name(x, label)


@_name_array.defjvp
def _name_tangent(label: str, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return checkpoint_name(x, label), checkpoint_name(dx, TANGENT + label)


def named(tree: Any, label: str) -> Any:
    """`tree`, whose real arrays leave `label` in the traced program, and their tangents `TANGENT + label`."""
    return jax.tree.map(lambda x: _name_array(x, label) if eqx.is_inexact_array(x) else x, tree)


def reaching_names(program: ClosedJaxpr) -> dict[str, set[str]]:
    """For each name in the program, the names that reach it with no other name between.

    `KEY` is among them where random bits do.

    >>> import jax
    >>> program = jax.make_jaxpr(lambda x, y: named(named(x, "x") + named(y, "y"), "sum") ** 2)(1.0, 2.0)
    >>> {label: sorted(reaching) for label, reaching in reaching_names(program).items()}
    {'x': [], 'y': [], 'sum': ['x', 'y']}
    """
    found: dict[str, set[str]] = {}
    args = [frozenset({KEY}) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else frozenset() for x in program.in_avals]
    _walk(program.jaxpr, args, found)
    return found


def _walk(jaxpr: Jaxpr, args: Sequence[Sources], found: dict[str, set[str]]) -> list[Sources]:
    """What reaches the outputs of `jaxpr`, given what reaches its inputs; what reaches a name is added to `found`."""
    reaching: dict[Any, Sources] = dict(zip(jaxpr.invars, args, strict=True))

    def read(x: Any) -> Sources:
        return frozenset() if isinstance(x, Constant) else reaching.get(x, frozenset())

    for equation in jaxpr.eqns:
        outs = _step(equation, [read(x) for x in equation.invars], found)
        reaching.update(zip(equation.outvars, outs, strict=True))
    return [read(x) for x in jaxpr.outvars]


def _step(equation: Any, args: list[Sources], found: dict[str, set[str]]) -> list[Sources]:
    params, everything = equation.params, frozenset[str]().union(*args)
    match equation.primitive.name:
        case "name":
            found.setdefault(params["name"], set()).update(everything)
            return [frozenset({params["name"]})]
        case "scan":
            fixed, carried = params["num_consts"], params["num_carry"]
            consts, carry, xs = args[:fixed], args[fixed : fixed + carried], args[fixed + carried :]
            return _loop(params["jaxpr"].jaxpr, consts, carry, xs, found)
        case "while":
            first, fixed = params["cond_nconsts"], params["body_nconsts"]
            consts, carry = args[first : first + fixed], args[first + fixed :]
            carry = _loop(params["body_jaxpr"].jaxpr, consts, carry, [], found)
            (stop,) = _walk(params["cond_jaxpr"].jaxpr, [*args[:first], *carry], found)
            return [x | stop for x in carry]
        case "cond":
            branches = [_walk(branch.jaxpr, args[1:], found) for branch in params["branches"]]
            return [args[0].union(*outs) for outs in zip(*branches, strict=True)]
    for inner in params.values():
        inner = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
        if isinstance(inner, Jaxpr) and len(inner.invars) == len(args):
            return _walk(inner, args, found)
    return [everything] * len(equation.outvars)


def _loop(
    body: Jaxpr, consts: list[Sources], carry: list[Sources], xs: list[Sources], found: dict[str, set[str]]
) -> list[Sources]:
    """Around until nothing new reaches the carry."""
    while True:
        outs = _walk(body, [*consts, *carry, *xs], found)
        after = [old | new for old, new in zip(carry, outs, strict=False)]
        if after == carry:
            return [*carry, *outs[len(carry) :]]
        carry = after
