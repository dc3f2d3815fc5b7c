"""Queries of a causal model, compiled for batches of values."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from undelude._tree import is_concrete
from undelude.causal._expressions.expression import free
from undelude.causal._expressions.notation import written_query
from undelude.causal._identifying.positivity import undefined
from undelude.causal._model.structure import Structure
from undelude.causal._names import listed
from undelude.causal._summing.contraction import AllTables, Terms, in_jax
from undelude.causal._summing.order import MAX_BYTES
from undelude.causal._variables.columns import Columns, column, is_missing
from undelude.causal._variables.variable import indices, traced_index


class Query(eqx.Module):
    """A query of a model, without the values that are seen and done.

    Attributes:
        structure, tables: the model's.
        asked: names, in the order of the axes of an answer.
        see, do: names, in the order of the values.
    """

    structure: Structure = eqx.field(static=True)
    tables: AllTables
    asked: tuple[str, ...] = eqx.field(static=True)
    see: tuple[str, ...] = eqx.field(static=True)
    do: tuple[str, ...] = eqx.field(static=True)

    @property
    def terms(self) -> Terms:
        """The tables to multiply and the sums; raise `ValueError` if the query is wrong."""
        return self.structure.terms(self.asked, self.see, self.do)

    def fixed(self, row: Iterable[Any]) -> dict[str, Any]:
        """Return the positions of the values seen and done, by name."""
        return dict(zip((*self.see, *self.do), row, strict=True))


class CompiledQuery:
    """`P(asked | see, do)` as a function of the values seen and done; `CausalModel.compile` returns it.

    Attributes:
        query: the query.
    """

    def __init__(self, query: Query):
        self.query = query
        _ = query.terms  # Validates the query.

    def __repr__(self) -> str:
        return f"CompiledQuery({written_query(self.query.asked, self.query.do, self.query.see)})"

    def __call__(
        self, see_values: ArrayLike | Sequence | Columns = (), do_values: ArrayLike | Sequence | Columns = ()
    ) -> Float[Array, "..."]:
        """Answer a batch of queries.

        Args:
            see_values: `[..., S]`, in the order of `see`; omit it if `see` is empty. A data frame, or a dict of
                columns, has a column for each name, in any order; its index is not read.
            do_values: `[..., D]`, in the order of `do`; omit it if `do` is empty; columns likewise. The leading axes of
                both must be equal, or one of them is a single row.

        Returns:
            `[..., *asked]`; nan if the evidence is impossible. Of a marginal, nan also if the estimand conditions on an
            event without probability, unless the tables are traced.

        Raises:
            ValueError: an unknown value (if traced, the answer is nan instead); a last axis of the wrong length; a
                column that is missing, unknown, or has missing values.
        """
        query = self.query
        seen = self._indices("see_values", query.see, see_values)
        done = self._indices("do_values", query.do, do_values)
        try:
            batch = np.broadcast_shapes(seen.shape[:-1], done.shape[:-1])
        except ValueError as error:
            raise ValueError(
                f"see_values has the leading axes {seen.shape[:-1]} and do_values {done.shape[:-1]}; they must be "
                "equal, or one of the two a single row."
            ) from error
        values = jnp.concatenate([jnp.broadcast_to(x, (*batch, x.shape[-1])) for x in (seen, done)], -1)
        indices = values.reshape(math.prod(batch), values.shape[-1])
        if is_concrete(values) and self._has_rare_entries:
            answers = _in_double_precision(query, indices)
        else:
            answers, safe = _answers(query, indices, quick=is_concrete(query.tables, values))
            if is_concrete(safe) and not safe:
                answers, _ = _answers(query, indices, quick=False)
        answers = answers.reshape(*batch, *answers.shape[1:])
        if self._undefined is not None:
            names, bad = self._undefined
            at = tuple(values[..., (*query.see, *query.do).index(name)] for name in names)
            answers = jnp.where(jnp.asarray(bad)[at].reshape(*batch, *[1] * len(query.asked)), jnp.nan, answers)
        return answers

    @functools.cached_property
    def _has_rare_entries(self) -> bool:
        """Whether a table has a probability that single precision takes for 0."""
        tiny = np.finfo(jnp.result_type(float)).tiny
        tables = self.query.tables
        return is_concrete(tables) and any(((x > 0) & (x < tiny)).any() for x in map(np.asarray, tables))

    @functools.cached_property
    def _undefined(self) -> tuple[tuple[str, ...], np.ndarray] | None:
        """Names seen or done, and at which of their values the estimand of a marginal is undefined; None if nowhere."""
        query = self.query
        estimand = query.structure.estimand(query.asked, query.see, query.do)
        if estimand is None or not is_concrete(query.tables):
            return None
        names = tuple(name for name in (*query.see, *query.do) if name in free(estimand.expression))
        bad = undefined(query.structure.graph, [np.asarray(table) for table in query.tables], estimand, {}, names)
        return (names, bad) if bad.any() else None

    def _indices(
        self, argument: str, names: tuple[str, ...], values: ArrayLike | Sequence | Columns
    ) -> Int[Array, "..."]:
        """Return the positions, `[..., len(names)]`, of the values of `names`."""
        values_of = self.query.structure.values_of
        if hasattr(values, "to_frame"):  # A series, whose labels would not be read; or an answer.
            raise ValueError(
                f"{argument} must be rows of values, or a data frame with the columns {listed(names)}, not one "
                f"{type(values).__name__}: pass data[{list(names)}]."
            )
        if isinstance(values, Mapping) or hasattr(values, "columns"):
            values = self._rows(argument, names, cast(Columns, values))
        traced = not is_concrete(values)
        if traced:
            array = jnp.asarray(values)
        elif isinstance(values, np.ndarray | Array):
            array = values
        else:
            array = np.array(values, dtype=object)  # Keeps strings and numbers of one row as they are.
        if array.shape[-1:] != (len(names),):
            self._check_asked_for(argument, names)
            example = ", ".join(repr(values_of[name][0]) for name in names)
            raise ValueError(
                f"{argument} has shape {array.shape}; its last axis must hold a value for each of {names}, as in "
                f"[[{example}]]."
            )
        if not names:
            return jnp.zeros(array.shape, int)
        columns = []
        for i, name in enumerate(names):
            known, column = values_of[name], array[..., i]
            if traced:
                columns.append(traced_index(name, known, jnp.asarray(column)))
            else:
                rows = indices(name, known, column.reshape(-1).tolist())
                columns.append(np.array(rows, int).reshape(column.shape))
        return jnp.stack(columns, -1) if traced else jnp.asarray(np.stack(columns, -1))

    def _rows(self, argument: str, names: tuple[str, ...], data: Columns) -> np.ndarray | Array:
        """Return the rows of columns, `[N, len(names)]`, after checking their names."""
        self._check_asked_for(argument, names)
        if unknown := [x for x in data if x not in names]:
            raise ValueError(
                f"{argument} has the column {unknown[0]!r}, and takes {listed(names)} alone: pass data[{list(names)}]."
            )
        if not is_concrete([data[name] for name in names if name in data]):
            return jnp.stack([jnp.asarray(data[name]) for name in names], -1)
        columns = [column(name, data) for name in names]
        if len({len(x) for x in columns}) > 1:
            raise ValueError(f"the columns of {argument} have different lengths: {[len(x) for x in columns]}.")
        rows = np.empty((len(columns[0]), len(names)), object)
        for i, (name, entries) in enumerate(zip(names, columns, strict=True)):
            gaps = [k for k, x in enumerate(entries) if is_missing(x)]
            if gaps:
                raise ValueError(f"the column {name} of {argument} has no value in row {gaps[0]}: leave such rows out.")
            rows[:, i] = entries
        return rows

    def _check_asked_for(self, argument: str, names: tuple[str, ...]) -> None:
        """Raise `ValueError` if the query takes no such values."""
        if not names:
            role = {"see_values": "seen", "do_values": "done"}[argument]
            instead = "pass do_values=" if argument == "see_values" and self.query.do else f"omit {argument}"
            raise ValueError(f"nothing is {role} in this query; {instead}.")


def _in_double_precision(query: Query, indices: Int[Array, "B N"]) -> Float[Array, "B ..."]:
    """Return the answers, each by NumPy as `CausalModel.query` does: one after the other, and exact for rare events."""
    terms = query.terms
    known = {i: np.asarray(query.tables[i], float) for i in terms.used}
    answers = [terms(np, known, query.fixed(row))[0] for row in np.asarray(indices).tolist()]
    if not answers:
        return jnp.zeros((0, *terms.shape))
    with np.errstate(invalid="ignore"):  # Impossible evidence gives nan.
        return in_jax(np.stack([x / x.sum() for x in answers]))


@eqx.filter_jit
def _answers(query: Query, indices: Int[Array, "B N"], *, quick: bool) -> tuple[Float[Array, "B ..."], Bool[Array, ""]]:
    """Return the answers and whether they can be trusted.

    Quick answers have one scale for each table. They can be trusted if no entry came near the limit of a float.
    """
    terms, tables = query.terms, query.tables

    def answer(row: Int[Array, " N"]) -> tuple[Float[Array, "..."], Bool[Array, ""]]:
        fixed = query.fixed(row)
        x, _, safe = terms.in_one_scale(jnp, tables, fixed) if quick else (*terms(jnp, tables, fixed), True)
        # An index of -1 stands for an unknown value.
        return jnp.where((row >= 0).all(), x / x.sum(), jnp.nan), jnp.asarray(safe)

    # Rows are answered together as far as memory allows.
    at_once = max(1, MAX_BYTES // max(1, terms.plan.num_bytes))
    if len(indices) > at_once:
        answers, safe = jax.lax.map(answer, indices, batch_size=at_once)
    else:
        answers, safe = jax.vmap(answer)(indices)
    return answers, safe.all()
