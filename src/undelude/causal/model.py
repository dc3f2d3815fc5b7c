"""Finite causal models on any graph, in which any variable can be seen, done or summed out (Sections 2 and 3)."""

import dataclasses
import functools
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from undelude._tree import is_concrete
from undelude.causal import contraction, graph
from undelude.causal.adjustment import back_door
from undelude.causal.contraction import MAX_ENTRIES, Terms
from undelude.causal.estimand import Estimand, written_query
from undelude.causal.graph import Graph, Names, Path
from undelude.causal.identification import identify
from undelude.causal.variable import Variable, as_names, index, traced_index

Values = Mapping[str, Any]


def _as_assignment(role: str, values: Values | None) -> dict[str, Any]:
    if not isinstance(values, Mapping | None):
        raise ValueError(f"{role} must be a dict of values by name, such as {role}={{'A': 1}}, not {values!r:.99}.")
    return {str(name): value for name, value in (values or {}).items()}


@dataclasses.dataclass(frozen=True)
class Structure:
    """All of a causal model but its numbers.

    Attributes:
        values: of each variable, by its place in the graph.
        parents: `(name, parents)` of each variable.
        hidden: names that a marginal has lost.
    """

    values: tuple[tuple[Hashable, ...], ...]
    parents: tuple[tuple[str, tuple[str, ...]], ...]
    hidden: tuple[str, ...] = ()

    @functools.cached_property
    def graph(self) -> Graph:
        """The parents of each variable."""
        return dict(self.parents)

    @functools.cached_property
    def place(self) -> dict[str, int]:
        """Where each variable stands."""
        return {name: i for i, name in enumerate(self.graph)}

    @functools.cached_property
    def values_of(self) -> dict[str, tuple[Hashable, ...]]:
        """The values of each variable."""
        return dict(zip(self.graph, self.values, strict=True))

    def check_observed(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names, each once; `ValueError` where the graph does not have one, or has it hidden."""
        (names,) = graph.check_names(self.graph, {"asked": names})
        for name in names:
            if name in self.hidden:
                raise ValueError(f"{name} is hidden in this marginal of the model; ask the model that it comes from.")
        return names

    @functools.lru_cache(maxsize=1024)  # noqa: B019, structures are small.
    def estimand(self, asked: tuple[str, ...], see: tuple[str, ...], do: tuple[str, ...]) -> Estimand | None:
        """What a marginal makes of `do`; None where nothing is hidden, or nothing done."""
        if not (do and self.hidden and (asked or see)):
            return None
        return identify(self.graph, asked or see, do=do, see=see if asked else (), latent=self.hidden)

    @functools.lru_cache(maxsize=1024)  # noqa: B019, structures are small.
    def terms(self, asked: tuple[str, ...], see: tuple[str, ...], do: tuple[str, ...]) -> Terms:
        """The sum of products that answers a query; raises where it is no query, or has no answer."""
        self.check_observed((*asked, *see, *do))
        graph.check_names(self.graph, {"asked": asked, "seen": see, "done": do})
        for role, names in (("asked", asked), ("seen", see), ("done", do)):
            if len(set(names)) < len(names):
                raise ValueError(f"a name is {role} twice in {names}.")
        if (entries := math.prod(len(self.values_of[name]) for name in asked)) > MAX_ENTRIES:
            raise ValueError(f"the answer itself would have {entries:.1e} entries; ask for fewer variables at once.")
        self.estimand(asked, see, do)  # Raises where a marginal does not determine the effect.
        return Terms(self.graph, {name: len(values) for name, values in self.values_of.items()}, asked, see, do)


class CausalModel(eqx.Module):
    """Variables and their mechanisms: a causal Bayesian network.

    Seeing conditions; doing is surgery, which takes the mechanisms of the done variables out and holds them fixed:

        P(x | see, do)  is proportional to  sum_rest prod_{v not done} P(v | parents(v))  at the values seen and done.

    It is a PyTree of its tables: `jax.grad` and `equinox.filter_grad` give derivatives of whatever it answers, each
    entry of a table taken for a number of its own.

    Args:
        variables: in any order.
        hidden: names of those that queries may not use, as `marginal` sets them.

    Raises:
        ValueError: a name that is there twice, an unknown parent, a cycle, a table whose axes do not fit the parents.

    >>> import undelude as ud
    >>> frog = ud.CausalModel([
    ...     ud.Variable("Theta", (1, 2), table=[.5, .5]),
    ...     ud.Variable("A", (1, 2), parents=("Theta",), table=[[1., 0.], [0., 1.]]),
    ...     ud.Variable("O", (-1, 1), parents=("Theta", "A"), table=[[[0., 1.], [1., 0.]], [[1., 0.], [0., 1.]]]),
    ... ])
    >>> frog.query("Theta", see={"A": 1}).tolist(), frog.query("Theta", do={"A": 1}).tolist()
    ([1.0, 0.0], [0.5, 0.5])
    """

    tables: tuple[Float[Array, "..."], ...]
    structure: Structure = eqx.field(static=True)

    def __init__(self, variables: Iterable[Variable], *, hidden: Iterable[str] = ()):
        if not isinstance(variables, Iterable):
            raise TypeError(f"a CausalModel is made from several ud.Variable objects, not from {variables!r:.99}.")
        variables = tuple(variables)
        sizes: dict[str, int] = {}
        for v in variables:
            if not isinstance(v, Variable):
                raise TypeError(f"a CausalModel is made from ud.Variable objects, not from {v!r:.99}.")
            if v.name in sizes:
                raise ValueError(f"two variables are called {v.name!r}; give each a name of its own.")
            sizes[v.name] = len(v.values)
        self.tables = tuple(v.table for v in variables)
        self.structure = Structure(
            tuple(v.values for v in variables), tuple((v.name, v.parents) for v in variables), as_names(hidden)
        )
        graph.topological_order(self.graph)  # Raises at an unknown parent and at a cycle.
        graph.check_names(self.graph, {"hidden": self.structure.hidden})
        for v in variables:
            shape = tuple(sizes[name] for name in (*v.parents, v.name))
            if v.table.shape != shape:
                axes = ", ".join(f"{name} ({sizes[name]})" for name in (*v.parents, v.name))
                raise ValueError(f"{v.name}: table has shape {v.table.shape}, but its axes are {axes}: {shape}.")

    def __repr__(self) -> str:
        hidden = self.structure.hidden
        mechanisms = (f"{name} | {' '.join(parents)}" if parents else name for name, parents in self.graph.items())
        return f"CausalModel({', '.join(mechanisms)}{f'; hidden: {graph.listed(hidden)}' if hidden else ''})"

    @property
    def graph(self) -> Graph:
        """The parents of each variable, hidden ones too."""
        return self.structure.graph

    @property
    def names(self) -> tuple[str, ...]:
        """Of the variables that can be asked, seen and done."""
        return tuple(name for name in self.graph if name not in self.structure.hidden)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables and their mechanisms, hidden ones too."""
        return tuple(self._variable(i) for i in range(len(self.tables)))

    def __getitem__(self, name: str) -> Variable:
        """A variable by its name; `ValueError` where there is none, or where it is hidden."""
        self.structure.check_observed((name,))
        return self._variable(self.structure.place[name])

    def table(self, name: str) -> Float[Array, "..."]:
        """The table of a variable, and of a gradient the derivative in it."""
        self.structure.check_observed((name,))
        return self.tables[self.structure.place[name]]

    def _variable(self, i: int) -> Variable:
        name, parents = self.structure.parents[i]
        return Variable(name, self.structure.values[i], parents, table=self.tables[i])

    # ------------------------------------------------------------------------------------------------------- answers

    def query(self, asked: Names, *, see: Values | None = None, do: Values | None = None) -> Float[Array, "..."]:
        """`P(asked | see, do)`; whatever is neither asked, seen nor done is summed out.

        Computed in double precision by NumPy from tables of single precision, unless they are traced.

        Args:
            asked: a name, or several, whose joint is asked.
            see: values by name that were observed.
            do: values by name that were set from outside.

        Returns:
            Probabilities with an axis for each name asked, in that order, over its `values`.

        Raises:
            ValueError: an unknown name or value, a variable in two roles, impossible evidence (where the tables are
                traced it gives nan instead).
            NotIdentifiable: this is a marginal, and what is left of the model cannot tell the effect of `do`.
        """
        asked, see, do = as_names(asked), _as_assignment("see", see), _as_assignment("do", do)
        x, _ = self._sum(asked, see, do)
        total = x.sum()
        if is_concrete(total) and not total > 0:
            raise ValueError(_impossible(see, do))
        return jnp.asarray(x / total)

    def log_prob(self, *, see: Values, do: Values | None = None) -> Float[Array, ""]:
        """`log P(see | do)` in nats: the evidence of what was seen; -inf where it is impossible.

        Args:
            see: values by name that were observed.
            do: values by name that were set from outside.

        Raises:
            ValueError: as for `query`, but not for impossible evidence.
            NotIdentifiable: as for `query`.
        """
        x, log_scale = self._sum((), _as_assignment("see", see), _as_assignment("do", do))
        with np.errstate(divide="ignore"):
            return jnp.asarray(contraction.backend(x).log(x) + log_scale)

    def compile(self, asked: Names, *, see: Names = (), do: Names = ()) -> "CompiledQuery":
        """`query` as a compiled function of the values, for batches of them.

        Args:
            asked: a name or several.
            see: names of what will be seen.
            do: names of what will be done.

        Returns:
            `f(see_values, do_values)`: the values `[..., S]` and `[..., D]` in the order of `see` and `do`; the
            answers `[..., *asked]`. It works under `jit`, `vmap` and `grad`.

        Raises:
            ValueError: an unknown name, a variable in two roles.
            NotIdentifiable: as for `query`.

        >>> import undelude as ud
        >>> policy = ud.tasks.bandit().causal_model(num_rounds=2).compile("A_2", see="O_1", do="A_1")
        >>> policy([[1], [0]], [[2], [2]])[:, 2].round(3).tolist()
        [0.314..., 0.138...]
        """
        return CompiledQuery(self, as_names(asked), as_names(see), as_names(do))

    def _sum(self, asked: tuple[str, ...], see: Values, do: Values) -> tuple[Any, Any]:
        """`(x, log_scale)`: `P(asked, see | do)` is `x exp(log_scale)`, `[*asked]`."""
        structure, tables = self.structure, self.tables
        terms = structure.terms(asked, tuple(see), tuple(do))
        fixed = {name: index(name, structure.values_of[name], x) for name, x in (*see.items(), *do.items())}
        estimand = structure.estimand(asked, tuple(see), tuple(do))
        if estimand is not None and is_concrete(tables):
            self._check_positivity(estimand, fixed)
        xp = contraction.backend(tables)
        return terms(xp, [np.asarray(table, float) for table in tables] if xp is np else tables, fixed)

    def _check_positivity(self, estimand: Estimand, fixed: Mapping[str, int]) -> None:
        """Raise where what was recorded has no instance of what a marginal would need to know."""
        names = tuple(name for name in self.graph if name in estimand.names)
        value = estimand.evaluate(self.query(names), names)
        at = tuple(fixed.get(name, slice(None)) for name in (*estimand.outcome, *estimand.see, *estimand.do))
        if np.isnan(value[at]).any():
            raise ValueError(
                f"the marginal cannot tell: there {written_query(estimand.outcome, estimand.do, estimand.see)} is "
                f"{estimand}, and its records hold no instance of something that is conditioned on (positivity)."
            )

    def marginal(self, names: Names) -> "CausalModel":
        """The model with all variables but `names` hidden: what somebody knows who has only ever seen these.

        It answers every `see`. It answers a `do` where the distribution of what is left determines the effect, given
        the graph, and raises `NotIdentifiable` with the reason otherwise: the marginal process of Figure 3d knows what
        was hidden only as the cause of its ignorance. Where that takes something that never happens in its records
        (no positivity) it raises `ValueError`; a compiled query does not look at that.

        Args:
            names: what stays.

        Raises:
            ValueError: an unknown name.
        """
        kept = self.structure.check_observed(as_names(names))
        return CausalModel(self.variables, hidden=[name for name in self.graph if name not in kept])

    # --------------------------------------------------------------------------------------------------- the graph

    def d_separated(self, a: Names, b: Names, *, given: Names = (), do: Names = ()) -> bool:
        """Whether no information flows between `a` and `b`: `a` and `b` are independent given `given`, after surgery.

        Args:
            a: a name or several.
            b: a name or several.
            given: what is seen.
            do: what is done; its incoming arrows are cut, and it is held fixed unless it is one of `a` or `b`.

        Raises:
            ValueError: an unknown name.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model()
        >>> frog.d_separated("Theta", "A_1"), frog.d_separated("Theta", "A_1", do="A_1")
        (False, True)
        """
        return graph.d_separated(self.graph, as_names(a), as_names(b), given=as_names(given), do=as_names(do))

    def paths(self, a: str, b: str, *, given: Names = (), do: Names = ()) -> Iterator[Path]:
        """The paths between `a` and `b` after surgery, and which of them are blocked, and where; one at a time.

        Args:
            a: a name.
            b: a name.
            given: what is seen.
            do: what is done.

        Raises:
            ValueError: an unknown name.
        """
        return graph.paths(self.graph, a, b, given=as_names(given), do=as_names(do))

    def back_door(self, a: str, o: str, *, latent: Names = ()) -> tuple[frozenset[str], ...]:
        """The smallest sets Z for which `P(o | do(a)) = sum_z P(o | a, z) P(z)` (Pearl 2009, Definition 3.3.1).

        Args:
            a: what is done.
            o: what it has an effect on.
            latent: what cannot be observed, and so not be adjusted for.

        Returns:
            All minimal sets; `()` if there is none, `(frozenset(),)` if the empty set serves.

        Raises:
            ValueError: an unknown name.
        """
        return back_door(self.graph, a, o, latent=(*as_names(latent), *self.structure.hidden))

    def identify(self, asked: Names, *, do: Names = (), see: Names = (), latent: Names = ()) -> Estimand:
        """An expression for `P(asked | do, see)` in the distribution of what is not latent (Shpitser & Pearl 2006).

        Args:
            asked: a name or several.
            do: names of what is done.
            see: names of what is seen.
            latent: names of what cannot be observed.

        Raises:
            ValueError: an unknown name, a variable in two roles.
            NotIdentifiable: there is none; `hedge` is the witness.

        >>> import undelude as ud
        >>> ud.tasks.prize_or_frog().causal_model().identify("O_1", do="A_1", latent="Theta")
        Traceback (most recent call last):
        ...
        undelude.causal.identification.NotIdentifiable: ...
        """
        latent = tuple(dict.fromkeys((*as_names(latent), *self.structure.hidden)))
        return identify(self.graph, as_names(asked), do=as_names(do), see=as_names(see), latent=latent)


class CompiledQuery:
    """`P(asked | see, do)` as a function of the values seen and done; what `CausalModel.compile` returns.

    Attributes:
        model: whose tables it uses.
        asked, see, do: names, in the order of the axes of answers and values.
    """

    def __init__(self, model: CausalModel, asked: tuple[str, ...], see: tuple[str, ...], do: tuple[str, ...]):
        model.structure.terms(asked, see, do)  # Raises where something is wrong.
        self.model, self.asked, self.see, self.do = model, asked, see, do

    def __repr__(self) -> str:
        return f"CompiledQuery({written_query(self.asked, self.do, self.see)})"

    def __call__(
        self, see_values: ArrayLike | Sequence = (), do_values: ArrayLike | Sequence = ()
    ) -> Float[Array, "..."]:
        """The answers to a batch.

        Args:
            see_values: `[..., S]`, in the order of `see`; leave it out where nothing is seen.
            do_values: `[..., D]`, in the order of `do`; leading axes as of `see_values`, or none.

        Returns:
            `[..., *asked]`; nan where the evidence is impossible.

        Raises:
            ValueError: a value that a variable does not have; a last axis of another length (traced values are not
                looked at: an unknown one gives nan).
        """
        seen = self._indices("see_values", self.see, see_values)
        done = self._indices("do_values", self.do, do_values)
        try:
            batch = np.broadcast_shapes(seen.shape[:-1], done.shape[:-1])
        except ValueError as error:
            raise ValueError(
                f"see_values has the leading axes {seen.shape[:-1]} and do_values {done.shape[:-1]}; they must be the "
                "same, or those of the one a single row."
            ) from error
        values = jnp.concatenate([jnp.broadcast_to(x, (*batch, x.shape[-1])) for x in (seen, done)], -1)
        query = self.model, self.asked, self.see, self.do, values.reshape(math.prod(batch), values.shape[-1])
        answers, safe = _answers(*query, quick=is_concrete(self.model.tables, values))
        if is_concrete(safe) and not safe:
            answers, _ = _answers(*query, quick=False)
        return answers.reshape(*batch, *answers.shape[1:])

    def _indices(self, argument: str, names: tuple[str, ...], values: Any) -> Int[Array, "... N"]:
        traced = not is_concrete(values)
        if traced:
            values = jnp.asarray(values)
        elif not hasattr(values, "dtype"):
            values = np.array(values, dtype=object)  # So that words and numbers in one row stay what they are.
        if values.shape[-1:] != (len(names),):
            if not names:
                role = {"see_values": "seen", "do_values": "done"}[argument]
                raise ValueError(f"nothing is {role} in this query, so {argument} must be left out.")
            raise ValueError(
                f"{argument} has shape {values.shape}; its last axis must hold a value for each of {names}, as in "
                f"[[{', '.join(repr(self.model.structure.values_of[name][0]) for name in names)}]]."
            )
        columns = []
        for i, name in enumerate(names):
            known, column = self.model.structure.values_of[name], values[..., i]
            if traced:
                columns.append(traced_index(name, known, column))
            else:
                columns.append(
                    np.array([index(name, known, x) for x in column.reshape(-1).tolist()], int).reshape(column.shape)
                )
        xp = jnp if traced else np
        return jnp.asarray(xp.stack(columns, -1) if columns else np.zeros((*values.shape[:-1], 0), int))


@eqx.filter_jit
def _answers(
    model: CausalModel,
    asked: tuple[str, ...],
    see: tuple[str, ...],
    do: tuple[str, ...],
    indices: Int[Array, "B N"],
    *,
    quick: bool,
) -> tuple[Float[Array, "B ..."], Bool[Array, ""]]:
    """The answers, and whether they can be relied on: quick ones, only where nothing came near the limit of a float."""
    terms, names = model.structure.terms(asked, see, do), (*see, *do)

    def answer(row: Int[Array, " N"]) -> tuple[Float[Array, "..."], Any]:
        fixed = dict(zip(names, row, strict=True))
        x, _, safe = terms.in_one_scale(jnp, model.tables, fixed) if quick else (*terms(jnp, model.tables, fixed), True)
        # An index of -1 stands for a value that there is not.
        return jnp.where((row >= 0).all(), x / x.sum(), jnp.nan), jnp.asarray(safe)

    answers, safe = jax.vmap(answer)(indices)
    return answers, safe.all()


def _impossible(see: Values, do: Values) -> str:
    seen = ", ".join(f"{name}={value}" for name, value in see.items())
    done = ", ".join(f"do({name}={value})" for name, value in do.items())
    return (
        f"impossible evidence: the model gives {seen} no probability{f' under {done}' if done else ''}. Correct what "
        "was seen, or let the mechanisms allow it."
    )
