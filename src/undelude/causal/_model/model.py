"""Finite causal models on any graph, in which any variable can be seen, done or summed out (Sections 2 and 3)."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from undelude._tree import is_concrete
from undelude.causal._expressions.notation import written_query
from undelude.causal._graphs.graph import topological_order
from undelude.causal._identifying.estimand import Estimand
from undelude.causal._identifying.identification import identify
from undelude.causal._identifying.positivity import undefined
from undelude.causal._mixed.graph import Graph
from undelude.causal._model.compiled import CompiledQuery, Query
from undelude.causal._model.effects import AbstractEffects
from undelude.causal._model.marginals import marginals
from undelude.causal._model.questions import impossible
from undelude.causal._model.structure import Structure
from undelude.causal._names import Names, as_names, check_names, listed
from undelude.causal._summing.contraction import Numbers, backend, in_jax
from undelude.causal._summing.derivative import differentiable
from undelude.causal._variables.answer import Answer
from undelude.causal._variables.equation import Equation, in_variables
from undelude.causal._variables.soft import (
    Interventions,
    SoftValues,
    Values,
    as_assignment,
    likelihood_of,
    other_mechanism,
)
from undelude.causal._variables.variable import Variable, index


class CausalModel(AbstractEffects):
    """Variables and their mechanisms: a causal Bayesian network.

    Seeing conditions. Doing is surgery: it removes the mechanisms of the done variables and holds these fixed.

        P(x | see, do)  is proportional to  sum_rest prod_{v not done} P(v | parents(v))  at the values seen and done.

    A model is a PyTree whose leaves are its tables: `jax.grad` and `equinox.filter_grad` differentiate its answers in
    the entries of the tables, each taken as an independent number.

    Args:
        variables: the variables, in any order; a `ud.Equation` stands for a variable and its noise.
        latent: the names that a marginal hides, which `marginal` sets; None if the model is not a marginal.

    Raises:
        ValueError: a repeated name, an unknown parent, a cycle, a table whose axes do not fit the parents.
        TypeError: a variable is neither a `ud.Variable` nor a `ud.Equation`.

    >>> import undelude as ud
    >>> frog = ud.CausalModel([
    ...     ud.Variable("Theta", (1, 2), table=[.5, .5]),
    ...     ud.Variable("A", (1, 2), parents=("Theta",), table=[[1., 0.], [0., 1.]]),
    ...     ud.Variable("O", (-1, 1), parents=("Theta", "A"), table=[[[0., 1.], [1., 0.]], [[1., 0.], [0., 1.]]]),
    ... ])
    >>> frog.query("Theta", see={"A": 1}).tolist(), frog.query("Theta", do={"A": 1}).tolist()
    ([1.0, 0.0], [0.5, 0.5])
    """

    tables: tuple[Float[Array | np.ndarray, "..."], ...]
    structure: Structure = eqx.field(static=True)

    def __init__(self, variables: Iterable[Variable | Equation], *, latent: Names | None = None):
        if not isinstance(variables, Iterable):
            raise TypeError(f"a CausalModel takes several ud.Variable objects, not {variables!r:.99}.")
        parts = tuple(variables)
        for x in parts:
            if not isinstance(x, Variable | Equation):
                raise TypeError(f"a CausalModel takes ud.Variable objects, not {x!r:.99}.")
        variables = in_variables(parts)
        sizes: dict[str, int] = {}
        for v in variables:
            if v.name in sizes:
                raise ValueError(f"two variables are called {v.name!r}; rename one of them.")
            sizes[v.name] = len(v.values)
        self.tables = tuple(v.table for v in variables)
        parents = {v.name: v.parents for v in variables}
        topological_order(parents)  # Raises on an unknown parent and on a cycle.
        (latent_names,) = check_names(parents, {"latent": () if latent is None else latent})
        self.structure = Structure(
            tuple(v.values for v in variables),
            tuple(parents.items()),
            tuple(name for name in parents if name in latent_names),
            tuple(v.name for v in variables if v.is_noise),
            is_marginal=latent is not None,
        )
        for v in variables:
            shape = tuple(sizes[name] for name in (*v.parents, v.name))
            if v.table.shape != shape:
                axes = ", ".join(f"{name} ({sizes[name]})" for name in (*v.parents, v.name))
                raise ValueError(f"{v.name}: table has shape {v.table.shape}, but its axes are {axes}: {shape}.")

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_model  # In a notebook alone: it needs matplotlib.

        return of_model(self)

    def __repr__(self) -> str:
        latent = self.structure.latent
        mechanisms = (f"{name} | {' '.join(parents)}" if parents else name for name, parents in self.graph.items())
        known = f"; latent: {listed(latent) or 'nothing'}" if self.structure.is_marginal else ""
        return f"CausalModel({', '.join(mechanisms)}{known})"

    @property
    def graph(self) -> Graph:
        """The graph: the parents of each variable, by name. What a marginal hides is latent, as is noise."""
        return self.structure.graph

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the variables that are not latent."""
        return tuple(name for name in self.graph if name not in self.structure.latent)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables and their mechanisms, including latent ones."""
        return tuple(self._variable(i) for i in range(len(self.tables)))

    def __getitem__(self, name: str) -> Variable:
        """Return a variable by its name; raise `ValueError` if it is unknown or latent."""
        self.structure.check_observed((name,))
        return self._variable(self.structure.place[name])

    def table(self, name: str) -> Float[Array | np.ndarray, "..."]:
        """Return the table of a variable; in a gradient of the model, the derivative with respect to that table."""
        self.structure.check_observed((name,))
        return self.tables[self.structure.place[name]]

    def _variable(self, i: int) -> Variable:
        name, parents = self.structure.parents[i]
        is_noise = name in self.structure.noise
        return Variable(name, self.structure.values[i], parents, table=self.tables[i], is_noise=is_noise)

    # ------------------------------------------------------------------------------------------------------- answers

    def query(self, asked: Names, *, see: SoftValues | None = None, do: Interventions | None = None) -> Answer:
        """Compute `P(asked | see, do)`, with all other variables summed out.

        Unless the tables are traced, NumPy computes the answer in double precision, and returns it in single precision.

        Args:
            asked: a name, or several, in order, for their joint distribution; not a set.
            see: observed values by name; in place of a value, evidence may be a dict of the likelihood of each value.
            do: values set by intervention, by name. In place of a value, a dict of the probability of each value draws
                the variable independently of its causes, and a `ud.Variable` gives it another mechanism, such as a
                policy that looks at other variables (Pearl 2009, section 4.2; Correa & Bareinboim 2020).

        Returns:
            Probabilities with an axis for each name asked, in that order, over the `values` of its variable: an array
            that knows these names and values.

        Raises:
            ValueError: an unknown name or value, a variable in two roles, a set of names, impossible evidence (if the
                tables are traced, the answer is nan instead), too much memory.
            NotIdentifiable: the model is a marginal, and its observed variables do not determine the effect of `do`.
        """
        see, do = as_assignment("see", see), as_assignment("do", do)
        asked = as_names(asked, order="the axes of the answer follow the order of the names asked", role="asked")
        x, _ = _soft_sum(self, asked, see, do)
        total = x.sum()
        if is_concrete(total) and not total > 0:
            raise impossible(see, do)
        values_of = self.structure.values_of
        return Answer(in_jax(x / total), asked, tuple(values_of[name] for name in asked))

    def query_each(self, *, see: Values | None = None, do: Values | None = None) -> dict[str, Answer]:
        """Compute `P(v | see, do)` for each variable that is neither seen nor done, and that a marginal does not hide.

        One contraction and its derivatives answer for all of them (Darwiche 2003). Each variable is a query of its own,
        if double precision or memory does not suffice.

        Args:
            see: observed values by name.
            do: values set by intervention, by name.

        Raises:
            ValueError: as for `query`.
            TypeError: the tables are traced.
            NotIdentifiable: as for `query`.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
        >>> {name: answer.tolist() for name, answer in frog.query_each(see={"O_1": 1}, do={"A_1": 1}).items()}
        {'Theta': [0.0, 1.0]}
        """
        seen, done = as_assignment("see", see), as_assignment("do", do)
        self.structure.check_observed((*seen, *done))
        check_names(self.graph, {"seen": tuple(seen), "done": tuple(done)})
        if not is_concrete(self.tables):
            raise TypeError("the tables are traced: query_each takes known ones. Within jit or grad, use query.")
        if soft := [x for x, value in (*seen.items(), *done.items()) if isinstance(value, Mapping | Variable)]:
            raise ValueError(f"query_each takes values in see and do, and {soft[0]} has none: use query.")
        names, values_of = [x for x in self.names if x not in seen and x not in done], self.structure.values_of
        see_at, do_at = ({x: index(x, values_of[x], value) for x, value in y.items()} for y in (seen, done))
        # Of a marginal under an intervention, an estimand answers.
        found = None if self.structure.is_marginal and done else marginals(self.structure, self.tables, see_at, do_at)
        if found is None:
            if seen and not self.log_prob(see=seen, do=done) > -np.inf:
                raise impossible(seen, done)
            return {name: self.query(name, see=seen, do=done) for name in names}
        return {name: Answer(in_jax(found[name]), (name,), (values_of[name],)) for name in names}

    def log_prob(self, *, see: SoftValues, do: Interventions | None = None) -> Float[Array, ""]:
        """Compute the log evidence `log P(see | do)` in nats; -inf if the evidence is impossible.

        Args:
            see: observed values by name, or likelihoods, as in `query`.
            do: values set by intervention, distributions or mechanisms by name, as in `query`.

        Raises:
            ValueError: as for `query`, except for impossible evidence.
            NotIdentifiable: as for `query`.
        """
        x, log_scale = _soft_sum(self, (), as_assignment("see", see), as_assignment("do", do))
        with np.errstate(divide="ignore"):
            return in_jax(backend(x).log(x) + log_scale)

    def compile(self, asked: Names, *, see: Names = (), do: Names = ()) -> CompiledQuery:
        """Compile `query` to a function of the values, for batches.

        Args:
            asked: a name or several, in order; not a set.
            see: the names of the observed variables, likewise.
            do: the names of the variables intervened on, likewise.

        Returns:
            `f(see_values, do_values)` of the values `[..., S]` and `[..., D]`, in the order of `see` and `do`, which
            returns the answers `[..., *asked]`. It works under `jit`, `vmap` and `grad`.

        Raises:
            ValueError: an unknown name, a variable in two roles, a set of names, too much memory.
            NotIdentifiable: as for `query`.

        >>> import undelude as ud
        >>> policy = ud.tasks.bandit().causal_model(num_rounds=2).compile("A_2", see="O_1", do="A_1")
        >>> policy([[1], [0]], [[2], [2]])[:, 2].round(3).tolist()
        [0.314..., 0.138...]
        """
        asked = as_names(asked, order="the axes of the answers follow the order of the names asked", role="asked")
        roles, order = {"see": see, "do": do}, "values are given in the order of see and do"
        see, do = (as_names(names, order=order, role=role) for role, names in roles.items())
        return CompiledQuery(Query(self.structure, self.tables, asked, see, do))

    def _check_positivity(self, estimand: Estimand, fixed: Mapping[str, int]) -> None:
        """Raise `ValueError` if the estimand conditions on an event without probability at the values `fixed`."""
        if undefined(self.graph, [np.asarray(table) for table in self.tables], estimand, fixed):
            query = written_query(estimand.asked, estimand.do, estimand.see)
            raise ValueError(
                f"the marginal does not determine {query} at these values: the estimand {estimand} conditions on an "
                "event without probability (positivity)."
            )

    def marginal(self, names: Names) -> "CausalModel":
        """Return the model with all variables but `names` latent, as known to an observer of `names` alone.

        Such an observer knows the graph and the distribution of `names`, but no mechanism. So the marginal answers
        every query without `do`. It answers a query with `do` if the distribution of `names` determines the effect,
        given the graph, and otherwise raises `NotIdentifiable` with the reason (Figure 3d). It raises `ValueError` if
        the estimand conditions on an event without probability, as no observation shows the effect of that. This holds
        if `names` are all variables, too: the model itself, which knows its mechanisms, then answers by surgery.
        A compiled query returns nan there. Nothing is checked while the tables are traced.

        Args:
            names: the variables that are not latent.

        Raises:
            ValueError: an unknown name.
        """
        kept = self.structure.check_observed(as_names(names))
        return CausalModel(self.variables, latent=[name for name in self.graph if name not in kept])

    def _of(self, variables: Iterable[Variable]) -> "CausalModel":
        """Return a model of other variables."""
        return CausalModel(variables)

    def replace(self, *variables: Variable) -> "CausalModel":
        """Return the model with other mechanisms for some of its variables: a shifted mechanism, or a policy.

        Args:
            variables: of the same names and values, with their own parents and tables.

        Raises:
            ValueError: an unknown name, other values, a cycle; the model is a marginal, which knows no mechanism.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
        >>> honest = ud.Variable("A_1", (0, 1), parents=("Theta",), table=[[.9, .1], [.1, .9]])
        >>> [round(p, 2) for p in frog.replace(honest).query("O_1").tolist()]
        [0.1, 0.9]
        """
        if self.structure.is_marginal:
            raise ValueError("a marginal knows no mechanism that could be replaced: use the model that it comes from.")
        new = {}
        for v in variables:
            if not isinstance(v, Variable):
                raise TypeError(f"replace takes ud.Variable objects, not {v!r:.99}.")
            if v.name in new:
                raise ValueError(f"replace was given two mechanisms for {v.name}.")
            new[v.name] = other_mechanism(self[v.name], v)
        return CausalModel(new.get(v.name, v) for v in self.variables)

    # --------------------------------------------------------------------------------------------------- the graph

    def identify(
        self,
        asked: Names,
        *,
        do: Names = (),
        see: Names = (),
        latent: Names = (),
        experiments: Iterable[Names] | None = None,
    ) -> Estimand:
        """Express `P(asked | do, see)` in the distribution of the observed variables (Shpitser & Pearl 2006).

        Args:
            asked: a name or several, in order; not a set.
            do: the variables intervened on, likewise.
            see: the variables conditioned on, likewise.
            latent: the variables that cannot be observed, besides those of the graph.
            experiments: the sets of variables that experiments set, as in `ud.identify`; by default observation alone.

        Raises:
            ValueError: an unknown name, a variable in two roles, a set where order matters.
            NotIdentifiable: no such expression exists; `hedge` is the witness.

        >>> import undelude as ud
        >>> ud.tasks.prize_or_frog().causal_model().identify("O_1", do="A_1", latent="Theta")
        Traceback (most recent call last):
        ...
        undelude.causal._identifying.hedge.NotIdentifiable: ...
        """
        estimand = identify(self.graph, asked, do=do, see=see, latent=latent, experiments=experiments)
        return dataclasses.replace(estimand, sizes=self.structure.sizes)


def _soft_sum(
    model: CausalModel, asked: tuple[str, ...], see: SoftValues, do: Interventions
) -> tuple[Numbers, Numbers]:
    """Compute `P(asked, see | do)` as `_sum` does, with likelihoods and mechanisms in place of values."""
    if not any(isinstance(x, Mapping | Variable) for x in (*see.values(), *do.values())):
        return _sum(model, asked, dict[str, Any](see), dict[str, Any](do))
    check_names(model.graph, {"asked": asked, "seen": tuple(see)})
    check_names(model.graph, {"seen": tuple(see), "done": tuple(do)})
    model.structure.check_observed((*asked, *see, *do))
    mechanisms = {name: y for name, x in do.items() if (y := other_mechanism(model[name], x)) is not None}
    model = model.replace(*mechanisms.values()) if mechanisms else model
    values: dict[str, Any] = {name: x for name, x in see.items() if not isinstance(x, Mapping)}
    children, log_factor = [], 0.0
    for name, x in see.items():
        if isinstance(x, Mapping):
            child, log_largest = likelihood_of(model[name], x, tuple(model.graph))
            children.append(child)
            values[child.name] = 1
            log_factor += log_largest
    if children:
        latent = model.structure.latent if model.structure.is_marginal else None
        model = CausalModel((*model.variables, *children), latent=latent)
    done: dict[str, Any] = {name: x for name, x in do.items() if name not in mechanisms}
    x, log_scale = _sum(model, asked, values, done)
    return x, log_scale + log_factor


def _sum(model: CausalModel, asked: tuple[str, ...], see: Values, do: Values) -> tuple[Numbers, Numbers]:
    """Compute `P(asked, see | do) = x exp(log_scale)`; return `x`, `[*asked]`, and `log_scale`, `[]`."""
    structure, tables = model.structure, model.tables
    terms = structure.terms(asked, tuple(see), tuple(do))
    fixed = {name: index(name, structure.values_of[name], x) for name, x in (*see.items(), *do.items())}
    estimand = structure.estimand(asked, tuple(see), tuple(do))
    if estimand is not None and is_concrete(tables):
        model._check_positivity(estimand, fixed)
    if not is_concrete(tables):
        return differentiable(terms, tables, fixed)
    return terms(np, {i: np.asarray(tables[i], float) for i in terms.used}, fixed)
