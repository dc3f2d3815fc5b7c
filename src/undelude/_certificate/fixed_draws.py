"""Random numbers that a method draws itself: from a key that does not change, or from a generator seeded in Python."""

import contextlib
import dataclasses
import dis
import random
import sys
from collections.abc import Iterator
from types import CodeType, FrameType, ModuleType
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Var

from undelude._errors import is_users_file
from undelude._programs import inner_programs

# The primitives that draw numbers from a key, which is their first argument.
DRAWS = {"random_bits", "random_gamma", "threefry2x32", "rng_bit_generator"}
# The primitives that read entries of their first argument at an index.
READS = {"gather", "dynamic_slice"}
# What makes or seeds a generator of Python or NumPy.
MAKERS = (np.random.default_rng, np.random.RandomState, np.random.Generator, np.random.seed, random.Random, random.seed)


@dataclasses.dataclass(eq=False)
class Draw:
    """Numbers drawn from a fixed key.

    Attributes:
        shape: of the numbers.
        is_noise_of_choice: whether it is the Gumbel noise by which `jax.random.categorical` chooses.
        is_read: whether entries are read from it, as from a table.
        chosen: the shapes of the choices that it makes.
    """

    shape: tuple[int, ...]
    is_noise_of_choice: bool
    is_read: bool = False
    chosen: set[tuple[int, ...]] = dataclasses.field(default_factory=set)


def stands_for_chance(draw: Draw, shapes: set[tuple[int, ...]]) -> bool:
    """Return whether a draw is a single number, or makes a choice of the shape of an action or observation.

    A draw from which entries are read is a table. So may be any other array, whatever its shape.

    Args:
        draw: the draw.
        shapes: of actions and observations, or their parts.
    """
    is_single = bool(draw.chosen & (shapes | {()})) if draw.is_noise_of_choice else draw.shape == ()
    return is_single and not draw.is_read


def draws_from_fixed_key(jaxpr: Jaxpr) -> list[Draw]:
    """Return the draws of a program from keys that do not depend on its arguments."""
    draws: list[Draw] = []
    _follow(jaxpr, [_Origin(True, frozenset()) for _ in jaxpr.invars], draws, in_choice=False)
    return draws


@dataclasses.dataclass(frozen=True)
class _Origin:
    """Where a value comes from: whether from the program's arguments, and from which draws."""

    changes: bool
    draws: frozenset[Draw]


def _follow(jaxpr: Jaxpr, arguments: list[_Origin], draws: list[Draw], *, in_choice: bool) -> list[_Origin]:
    """Add the draws of a program to `draws`, and return the origins of its results."""
    fixed = _Origin(False, frozenset())
    origins: dict[Any, _Origin] = dict(zip(jaxpr.invars, arguments, strict=True))

    def origin_of(x: Any) -> _Origin:
        return origins.get(x, fixed) if isinstance(x, Var) else fixed

    for equation in jaxpr.eqns:
        operands, name = [origin_of(x) for x in equation.invars], equation.primitive.name
        origin = _Origin(any(x.changes for x in operands), frozenset().union(*(x.draws for x in operands)))
        if name in DRAWS and not origin.changes:
            drawn = Draw(_shape(equation), in_choice)
            draws.append(drawn)
            origin = _Origin(False, origin.draws | {drawn})
        elif name in READS:
            for draw in operands[0].draws:
                draw.is_read = True
        elif name == "argmax":
            for draw in origin.draws:
                draw.chosen.add(_shape(equation))
        results = [origin] * len(equation.outvars)
        for inner in inner_programs(equation):
            chooses = in_choice or equation.params.get("name") == "_gumbel"
            inside = _follow(inner, _passed(equation, inner, operands), draws, in_choice=chooses)
            if len(inside) == len(results):
                results = [_join(x, y) for x, y in zip(results, inside, strict=True)]
        origins.update(zip(equation.outvars, results, strict=True))
    return [origin_of(x) for x in jaxpr.outvars]


def _passed(equation: JaxprEqn, inner: Jaxpr, operands: list[_Origin]) -> list[_Origin]:
    """Return the operands of an operation that a program in it receives."""
    given = equation.params
    if equation.primitive.name == "while":
        # First come the constants of the condition, then those of the body. Both receive what the loop carries.
        num_cond = given["cond_nconsts"]
        first_carried = num_cond + given["body_nconsts"]
        own = operands[:num_cond] if inner is given["cond_jaxpr"].jaxpr else operands[num_cond:first_carried]
        return own + operands[first_carried:]
    # The first operand of `cond` chooses the branch; no branch receives it.
    missing = max(0, len(inner.invars) - len(operands))
    return [_Origin(False, frozenset())] * missing + operands[len(operands) + missing - len(inner.invars) :]


def _shape(equation: JaxprEqn) -> tuple[int, ...]:
    aval: Any = equation.outvars[0].aval
    return aval.shape


def _join(one: _Origin, other: _Origin) -> _Origin:
    return _Origin(one.changes or other.changes, one.draws | other.draws)


@contextlib.contextmanager
def executed_code() -> Iterator[dict[CodeType, dict[str, Any]]]:
    """Collect the user's code that Python executes inside the `with` block, with the names that it can see.

    Nothing is collected under a profiler, which would lose its place.
    """
    codes: dict[CodeType, dict[str, Any]] = {}
    if sys.getprofile() is not None:
        yield codes
        return

    def note(frame: FrameType, event: str, arg: object) -> None:
        del arg
        if event == "return" and is_users_file(frame.f_code.co_filename):
            codes[frame.f_code] = frame.f_globals | frame.f_locals

    sys.setprofile(note)
    try:
        yield codes
    finally:
        sys.setprofile(None)


def generator_makers(codes: dict[CodeType, dict[str, Any]]) -> list[str]:
    """Return the names by which code makes or seeds generators of random numbers, such as `np.random.default_rng`."""
    return sorted({path for code, names in codes.items() for path in _paths_to_makers(code, names)})


def _paths_to_makers(code: CodeType, names: dict[str, Any]) -> Iterator[str]:
    path, x = "", None
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST")):
            path, x = name, names.get(name) if isinstance(name, str) else None
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(x, ModuleType):
            path, x = f"{path}.{name}", getattr(x, name, None)
        else:
            x = None
        if any(x is maker for maker in MAKERS):
            yield path
