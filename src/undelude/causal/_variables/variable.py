"""A variable of a causal model: its values, its parents and its mechanism."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from undelude._checks import as_numbers, check_ordered, check_probabilities
from undelude._tree import is_concrete
from undelude.causal._names import Names, as_names, listed

# One value of a variable, itself or as an array of one entry.
Value = Hashable | np.ndarray | Array


class Variable(eqx.Module):
    """A variable and its mechanism, `P(variable | parents)`.

    Attributes:
        name: the name of the variable in queries.
        values: the distinct values that the variable can take.
        parents: the names of its parents.
        table: the mechanism: an axis for each parent, in their order, and a last axis for the variable's own values.
            A NumPy array in double precision, unless it is traced.
        is_noise: whether it is the noise of a `ud.Equation`. Nobody observes noise: questions of the graph take it as
            latent. Queries answer for it as for other variables.

    Raises:
        ValueError: values or parents that repeat, or are a set, which has no lasting order; a table whose axes do not
            fit, or whose rows are not probabilities.
    """

    name: str = eqx.field(static=True)
    values: tuple[Hashable, ...] = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    table: Float[Array | np.ndarray, "..."]
    is_noise: bool = eqx.field(static=True)

    def __init__(
        self, name: str, values: Iterable[Hashable], parents: Names = (), *, table: ArrayLike, is_noise: bool = False
    ):
        if not isinstance(name, str) or not name:
            raise ValueError(f"a variable's name must be a non-empty string, not {name!r:.99}.")
        if not isinstance(values, Iterable) or isinstance(values, str | Mapping):
            raise ValueError(f"{name}: values must be a sequence such as (0, 1), not {values!r:.99}.")
        check_ordered(values, f"{name}: values", "the last axis of the table follows their order")
        # Python numbers instead of NumPy scalars.
        values = tuple(x.item() if isinstance(x, np.generic) else x for x in values)
        parents = as_names(
            parents, order=f"the axes of the table of {name} follow the order of its parents", role=f"{name}: parents"
        )
        if not all(isinstance(x, Hashable) for x in values):
            raise ValueError(f"{name}: values must be hashable, such as numbers or strings, not {values!r:.99}.")
        if any(x != x for x in values):
            raise ValueError(f"{name}: nan is not a value, because it equals nothing; leave it out of {values!r:.99}.")
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name}: values must be distinct, and at least one, not {values!r:.99}.")
        if len(set(parents)) < len(parents):
            raise ValueError(f"{name}: a parent repeats in {parents}.")
        labels = getattr(table, "values_of", None)  # Of the answer of a query.
        if isinstance(labels, dict) and (tuple(labels) != (*parents, name) or labels[name] != values):
            raise ValueError(
                f"{name}: table is an answer with the axes {labels!r:.199}; it needs {', '.join((*parents, name))}, "
                f"and the values {values} last. numpy.asarray(table) takes it as it stands."
            )
        try:
            # NumPy as long as the numbers are known: each JAX operation on a new shape would compile a program.
            is_known = is_concrete(table)
            rows = np.asarray(as_numbers(table, f"{name}: table"), float) if is_known else jnp.asarray(table, float)
        except TypeError as error:
            raise ValueError(f"{name}: table must be an array of numbers: {error}") from error
        if rows.ndim != len(parents) + 1 or rows.shape[-1] != len(values):
            raise ValueError(
                f"{name}: table has shape {rows.shape}; it needs an axis for each of the parents {parents} and a last "
                f"axis of length {len(values)} for the values {values}."
            )
        check_probabilities(rows, f"{name}: table")
        if isinstance(rows, np.ndarray):  # In double precision, which keeps what is rarer than 1e-38.
            rows = rows / rows.sum(-1, keepdims=True)  # Rows may be rounded.
            rows.flags.writeable = False
        self.name, self.values, self.parents, self.table, self.is_noise = name, values, parents, rows, is_noise


def index(name: str, values: tuple[Hashable, ...], value: Value) -> int:
    """Return the position of `value` in `values`; a float matches at single precision too."""
    if isinstance(getattr(value, "values_of", None), dict):  # The answer of a query.
        raise ValueError(
            f"{name} takes one value, not an answer. For a distribution or a likelihood of its values, pass "
            "answer.to_dict(); for an answer without names, float(answer)."
        )
    if not is_concrete(value):
        raise TypeError(f"the value of {name} is traced; within jit or vmap, call the function that compile returns.")
    if isinstance(value, np.generic | np.ndarray | Array):
        if value.size != 1:
            raise ValueError(f"{name} takes one value, not an array of shape {value.shape}; compile takes batches.")
        value = value.item()
    if value in values:
        return values.index(value)
    if isinstance(value, float):
        near = [i for i, x in enumerate(values) if isinstance(x, float) and np.float32(x) == np.float32(value)]
        if len(near) == 1:
            return near[0]
    written = [x for x in values if isinstance(value, str) != isinstance(x, str) and str(x) == str(value)]
    if written:
        kinds = "a string" if isinstance(written[0], str) else "a number", type(value).__name__
        raise ValueError(f"{name} has no value {value!r}: its value {written[0]!r} is {kinds[0]}, not {kinds[1]}.")
    raise ValueError(f"{name} has no value {value!r:.99}; it has {listed([repr(x) for x in values])}.")


def indices(name: str, values: tuple[Hashable, ...], column: Sequence[Any]) -> list[int]:
    """Return the position in `values` of each entry of a column, as `index` does."""
    known = {value: i for i, value in enumerate(values)}
    try:
        return [known[x] for x in column]
    except (KeyError, TypeError):  # A float of another precision, or no value.
        return [index(name, values, x) for x in column]


def traced_index(name: str, values: tuple[Hashable, ...], column: Array) -> Int[Array, "..."]:
    """Return the position in `values` of each entry of a traced `column`, or -1 for an unknown value."""
    try:
        known = jnp.asarray(values)
    except (TypeError, OverflowError) as error:
        raise TypeError(
            f"{name}: values that are not 32-bit numbers, such as {values[0]!r}, cannot be traced; call the compiled "
            "query outside jit and vmap (it takes batches), or number the values."
        ) from error
    equal = known.reshape((1,) * column.ndim + (-1,)) == column[..., None]
    return jnp.where(equal.any(-1), equal.argmax(-1), -1)
