"""Queries of a causal model, compiled for batches of values."""

import functools
import math
from collections.abc import Sequence

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
from undelude.causal._summing.contraction import in_jax
from undelude.causal._summing.order import MAX_BYTES
from undelude.causal._variables.variable import indices, traced_index

Tables = tuple[Float[Array | np.ndarray, "..."], ...]


class CompiledQuery:
    """`P(asked | see, do)` as a function of the values seen and done; `CausalModel.compile` returns it.

    Attributes:
        structure, tables: the model's.
        asked: names, in the order of the axes of an answer.
        see, do: names, in the order of the values.
    """

    def __init__(
        self, structure: Structure, tables: Tables, asked: tuple[str, ...], see: tuple[str, ...], do: tuple[str, ...]
    ):
        structure.terms(asked, see, do)  # Validates the query.
        self.structure, self.tables = structure, tables
        self.asked, self.see, self.do = asked, see, do

    def __repr__(self) -> str:
        return f"CompiledQuery({written_query(self.asked, self.do, self.see)})"

    def __call__(
        self, see_values: ArrayLike | Sequence = (), do_values: ArrayLike | Sequence = ()
    ) -> Float[Array, "..."]:
        """Answer a batch of queries.

        Args:
            see_values: `[..., S]`, in the order of `see`; omit it if `see` is empty.
            do_values: `[..., D]`, in the order of `do`; omit it if `do` is empty. The leading axes of both must be
                equal, or one of them is a single row.

        Returns:
            `[..., *asked]`; nan if the evidence is impossible. Of a marginal, nan also if the estimand conditions on an
            event without probability, unless the tables are traced.

        Raises:
            ValueError: an unknown value (if traced, the answer is nan instead); a last axis of the wrong length.
        """
        seen = self._indices("see_values", self.see, see_values)
        done = self._indices("do_values", self.do, do_values)
        try:
            batch = np.broadcast_shapes(seen.shape[:-1], done.shape[:-1])
        except ValueError as error:
            raise ValueError(
                f"see_values has the leading axes {seen.shape[:-1]} and do_values {done.shape[:-1]}; they must be "
                "equal, or one of the two a single row."
            ) from error
        values = jnp.concatenate([jnp.broadcast_to(x, (*batch, x.shape[-1])) for x in (seen, done)], -1)
        indices = values.reshape(math.prod(batch), values.shape[-1])
        query = self.structure, self.tables, self.asked, self.see, self.do, indices
        if is_concrete(values) and self._has_rare_entries:
            answers = _in_double_precision(*query)
        else:
            answers, safe = _answers(*query, quick=is_concrete(self.tables, values))
            if is_concrete(safe) and not safe:
                answers, _ = _answers(*query, quick=False)
        answers = answers.reshape(*batch, *answers.shape[1:])
        if self._undefined is not None:
            names, bad = self._undefined
            at = tuple(values[..., (*self.see, *self.do).index(name)] for name in names)
            answers = jnp.where(jnp.asarray(bad)[at].reshape(*batch, *[1] * len(self.asked)), jnp.nan, answers)
        return answers

    @functools.cached_property
    def _has_rare_entries(self) -> bool:
        """Whether a table has a probability that single precision takes for 0."""
        tiny = np.finfo(jnp.result_type(float)).tiny
        return is_concrete(self.tables) and any(((x > 0) & (x < tiny)).any() for x in map(np.asarray, self.tables))

    @functools.cached_property
    def _undefined(self) -> tuple[tuple[str, ...], np.ndarray] | None:
        """Names seen or done, and at which of their values the estimand of a marginal is undefined; None if nowhere."""
        estimand = self.structure.estimand(self.asked, self.see, self.do)
        if estimand is None or not is_concrete(self.tables):
            return None
        names = tuple(name for name in (*self.see, *self.do) if name in free(estimand.expression))
        bad = undefined(self.structure.graph, [np.asarray(table) for table in self.tables], estimand, {}, names)
        return (names, bad) if bad.any() else None

    def _indices(self, argument: str, names: tuple[str, ...], values: ArrayLike | Sequence) -> Int[Array, "..."]:
        """Return the positions, `[..., len(names)]`, of the values of `names`."""
        traced = not is_concrete(values)
        if traced:
            array = jnp.asarray(values)
        elif isinstance(values, np.ndarray | Array):
            array = values
        else:
            array = np.array(values, dtype=object)  # Keeps strings and numbers of one row as they are.
        if array.shape[-1:] != (len(names),):
            if not names:
                role = {"see_values": "seen", "do_values": "done"}[argument]
                raise ValueError(f"nothing is {role} in this query; omit {argument}.")
            example = ", ".join(repr(self.structure.values_of[name][0]) for name in names)
            raise ValueError(
                f"{argument} has shape {array.shape}; its last axis must hold a value for each of {names}, as in "
                f"[[{example}]]."
            )
        if not names:
            return jnp.zeros(array.shape, int)
        columns = []
        for i, name in enumerate(names):
            known, column = self.structure.values_of[name], array[..., i]
            if traced:
                columns.append(traced_index(name, known, jnp.asarray(column)))
            else:
                rows = indices(name, known, column.reshape(-1).tolist())
                columns.append(np.array(rows, int).reshape(column.shape))
        return jnp.stack(columns, -1) if traced else jnp.asarray(np.stack(columns, -1))


def _in_double_precision(
    structure: Structure,
    tables: Tables,
    asked: tuple[str, ...],
    see: tuple[str, ...],
    do: tuple[str, ...],
    indices: Int[Array, "B N"],
) -> Float[Array, "B ..."]:
    """Return the answers, each by NumPy as `CausalModel.query` does: one after the other, and exact for rare events."""
    terms, names = structure.terms(asked, see, do), (*see, *do)
    known = {i: np.asarray(tables[i], float) for i in terms.used}
    answers = [terms(np, known, dict(zip(names, row, strict=True)))[0] for row in np.asarray(indices).tolist()]
    with np.errstate(invalid="ignore"):  # Impossible evidence gives nan.
        return in_jax(np.stack([x / x.sum() for x in answers]))


@eqx.filter_jit
def _answers(
    structure: Structure,
    tables: Tables,
    asked: tuple[str, ...],
    see: tuple[str, ...],
    do: tuple[str, ...],
    indices: Int[Array, "B N"],
    *,
    quick: bool,
) -> tuple[Float[Array, "B ..."], Bool[Array, ""]]:
    """Return the answers and whether they can be trusted.

    Quick answers have one scale for each table. They can be trusted if no entry came near the limit of a float.
    """
    terms, names = structure.terms(asked, see, do), (*see, *do)

    def answer(row: Int[Array, " N"]) -> tuple[Float[Array, "..."], Bool[Array, ""]]:
        fixed = dict(zip(names, row, strict=True))
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
