"""Derivatives of a sum of products in its tables.

`jax.grad` of a query calls JAX on numbers that it knows. Operation by operation, JAX would compile a small program for
each; so NumPy computes the answer and its derivatives, in double precision, and JAX only applies them. Where the tables
are not known, as under `jit` and in second derivatives, the whole contraction is one program.
"""

import math
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from undelude._tree import is_concrete
from undelude.causal._summing.contraction import AllTables, Numbers, Taped, Terms, arguments, factors, in_jax
from undelude.causal._summing.order import MAX_BYTES, Step, in_gib

# Nats by which the product of all factors but one may exceed the product of all; more would not be finite.
MAX_RATIO = 300.0
# The largest derivative.
LARGEST = float(np.finfo(np.float32).max)

# A result, and the logarithm of its scale.
Total = tuple[Float[Array, "..."], Float[Array, ""]]


class TooMuchMemoryError(ValueError):
    """A derivative would keep more than `MAX_BYTES`."""


def differentiable(terms: Terms, tables: AllTables, fixed: Mapping[str, int]) -> Total:
    """Compute `x` and `log_scale` as `terms` does, from traced tables."""
    names, indices = tuple(fixed), jnp.asarray(list(fixed.values()), int)

    @jax.custom_jvp
    def total(tables: AllTables) -> Total:
        return _compiled(terms, tables, names, indices)

    @total.defjvp
    def along(primals: tuple[AllTables], tangents: tuple[AllTables]) -> tuple[Total, Total]:
        (tables,), (directions,) = primals, tangents
        known = with_jacobian(terms, tables, fixed) if is_concrete(tables) else None
        if known is None:
            return jax.jvp(lambda tables: _compiled(terms, tables, names, indices), primals, tangents)
        x, log_scale, jacobian = map(in_jax, (*known[:2], np.minimum(known[2], LARGEST)))
        change = _directional([directions[i] for i in terms.used], jacobian)
        return (x, log_scale), (change.reshape(x.shape), jnp.zeros_like(log_scale))

    x, log_scale = total(tables)
    return jnp.asarray(x), jnp.asarray(log_scale)


@eqx.filter_jit
def _compiled(terms: Terms, tables: AllTables, names: tuple[str, ...], indices: Int[Array, " N"]) -> Total:
    x, log_scale = terms(jnp, tables, dict(zip(names, indices, strict=True)))
    return jnp.asarray(x), jnp.asarray(log_scale)


@jax.jit
def _directional(directions: list[Float[Array, "..."]], jacobian: Float[Array, "A N"]) -> Float[Array, " A"]:
    """Return the derivative along a change of the tables."""
    return jacobian @ jnp.concatenate([direction.reshape(-1) for direction in directions])


def with_jacobian(
    terms: Terms, tables: AllTables, fixed: Mapping[str, int]
) -> tuple[Numbers, Numbers, Float[np.ndarray, "A N"]] | None:
    """Return `x`, `log_scale` and the derivative of `x`, `[asked, entry]`, in each entry of the tables used, in order.

    Return None if double precision does not suffice, or if there are too many derivatives.

    Raises:
        TooMuchMemoryError: the intermediate tables, all of which a derivative needs, take too much memory.
    """
    kept = 8 * sum(math.prod(step.sizes[axis] for axis in step.out) for step in terms.plan.steps)
    if kept > MAX_BYTES:
        raise TooMuchMemoryError(
            f"a derivative of this query would keep {in_gib(kept)} of intermediate tables, more than "
            f"{in_gib(MAX_BYTES)}. Observe or intervene on more variables, or simplify the graph."
        )
    used = {i: np.asarray(tables[i], float) for i in terms.used}
    num_asked = math.prod(terms.shape)
    if num_asked * (terms.plan.num_bytes + 8 * sum(table.size for table in used.values())) > MAX_BYTES:
        return None
    tape: list[Taped] = []
    x, log_scale, safe = terms.in_one_scale(np, used, fixed, tape=tape)
    if not safe:
        return None
    products = [_product(np.asarray(factors(np, group, used, fixed))) for group in terms.groups]
    # The answer is the contraction times single numbers, of which only a zero counts: the others are in the scale.
    numbers = [float(value) for value, _ in products[terms.num_operands :]]
    unless = [float(all(other > 0 for other in (*numbers[:i], *numbers[i + 1 :]))) for i in range(len(numbers))]
    adjoints = _backward(terms.plan.steps, tape, num_asked) if tape else []
    adjoints = [adjoint * float(all(number > 0 for number in numbers)) for adjoint in adjoints]
    whole = tape[-1].result.reshape(num_asked) if tape else np.ones(1)
    adjoints += [whole * rest / (number or 1.0) for number, rest in zip(numbers, unless, strict=True)]
    jacobians = {}
    for group, (_, others), adjoint in zip(terms.groups, products, adjoints, strict=True):
        for i, position in enumerate(group.tables):
            jacobian = np.zeros((num_asked, *used[position].shape))
            at = (slice(None) if names is None else fixed[names[i]] for names in group.names)
            jacobian[slice(None), *at] = adjoint * others[i]
            jacobians[position] = jacobian.reshape(num_asked, -1)
    jacobian = np.concatenate([jacobians[i] for i in terms.used], 1)
    return x, log_scale, jacobian


def _product(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the product of the factors, `[...]`, and of all factors but one, `[n, ...]`, in the scale of the product.

    The scale is that of `Terms.in_one_scale`.
    """
    if len(factors) == 1:
        return np.asarray(factors[0]), np.ones_like(factors)
    zero = factors == 0
    logs = np.log(np.where(zero, 1, factors))
    total, num_zeros = logs.sum(0), zero.sum(0)
    total = total - max(total[num_zeros == 0], default=0.0)
    others = np.where(num_zeros == zero, np.exp(np.minimum(total - logs, MAX_RATIO)), 0)
    return np.asarray(np.where(num_zeros == 0, np.exp(np.minimum(total, 0)), 0)), others


def _backward(steps: Sequence[Step], tape: Sequence[Taped], num_asked: int) -> list[np.ndarray]:
    """Return the derivative of each entry of the answer in each operand, `[asked, *operand]`."""
    last = np.eye(num_asked).reshape(num_asked, *tape[-1].result.shape)
    adjoints = [last]
    for step, taped in zip(reversed(steps), reversed(tape), strict=True):
        adjoint, asked = adjoints.pop() / taped.scale, len(step.sizes)
        found = []
        for i, axes in enumerate(step.axes):
            others = [j for j in range(len(step.axes)) if j != i]
            operands = [adjoint, *(taped.operands[j] for j in others)]
            of_operands = [(asked, *step.out), *(step.axes[j] for j in others)]
            # An axis that this operand alone has was summed over: each of its entries counts once.
            alone = set(axes) - set().union(*of_operands)
            operands += [np.ones(step.sizes[axis]) for axis in alone]
            of_operands += [(axis,) for axis in alone]
            found.append(np.einsum(*arguments(operands, of_operands, (asked, *axes))))
        for position, operand in reversed(list(zip(step.positions, found, strict=True))):
            adjoints.insert(position, operand)
    return adjoints
