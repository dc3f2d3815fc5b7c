"""Estimands: expressions of an interventional distribution in the observed distribution (Section 3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from undelude.causal._expressions.derivation import Derivation
from undelude.causal._expressions.expression import Expression, free
from undelude.causal._expressions.notation import Latex, Text, written_query
from undelude.causal._expressions.tables import Evaluation, Joint, labels_of
from undelude.causal._identifying.abstract_estimand import AbstractEstimand, check_axes, needed_tables
from undelude.causal._names import Names
from undelude.causal._summing.contraction import in_jax
from undelude.causal._variables.answer import Answer


@dataclass(frozen=True, repr=False)
class Estimand(AbstractEstimand):
    """An expression for `P(asked | do, see)` in the distribution of the observed variables, or in experiments.

    It is valid under positivity: every event that it conditions on has a positive probability.

    Attributes:
        asked: the variables asked.
        do: the variables intervened on.
        see: the variables conditioned on.
        expression: sums, products and fractions of probabilities of observed variables.
        order: names from causes to effects, for printing.
        sizes: the number of values of each variable, if the estimand comes from a `CausalModel`; else empty.
        derivation: the steps from the query to the expression, to print.

    >>> from undelude import identify
    >>> frontdoor = {"U": (), "A": ("U",), "M": ("A",), "O": ("M", "U")}
    >>> identify(frontdoor, "O", do="A", latent="U")
    Estimand: P(O | do(A)) = sum_M P(M | A) sum_A' P(O | A', M) P(A')
    """

    asked: tuple[str, ...]
    do: tuple[str, ...]
    see: tuple[str, ...]
    expression: Expression
    order: tuple[str, ...]
    sizes: Mapping[str, int] = field(default_factory=dict, compare=False)
    derivation: Derivation = field(default=Derivation(), compare=False)

    @property
    def free(self) -> tuple[str, ...]:
        """Free variables of the expression that are not in the query: by the graph, their values do not matter."""
        return tuple(x for x in self.order if x in free(self.expression) - {*self.asked, *self.do, *self.see})

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that `evaluate` needs an axis for, causes first."""
        needed = free(self.expression, bound=True) | {*self.asked, *self.do, *self.see}
        return tuple(x for x in self.order if x in needed)

    @property
    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Return the names in order, those that come first among conditions, and those without a prime."""
        return self.order, self.do, (*self.asked, *self.do, *self.see, *self.free)

    def _shown(self, notation: type[Text]) -> str:
        return notation(*self._names).show(self.expression)

    def __repr__(self) -> str:
        return f"Estimand: {written_query(self.asked, self.do, self.see)} = {self}"

    def _repr_latex_(self) -> str:
        """Return the query and the expression as a notebook shows them."""
        query = Latex(*self._names).query(self.asked, self.do, self.see)
        return rf"$\displaystyle {query} = {self.latex()}$"

    @property
    def experiments(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The variables that each experiment sets, `()` for observation, and those that its table needs an axis for.

        A variable of the query that does not matter needs an axis in any table, as the answer has one for it. It is
        named with the first table.
        """
        needed, named = self._terms, {*self.names}
        first = () if () in needed else next(iter(needed))
        named -= frozenset().union(*needed.values())
        return needed | {first: tuple(x for x in self.order if x in needed[first] or x in named)}

    @property
    def _terms(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        return needed_tables(self.expression, self.order, str)

    def evaluate(self, joint: Joint, names: Names | None = None) -> np.ndarray | Answer:
        """Evaluate the estimand in a distribution of the observed variables, or in those of several experiments.

        The names must be in the order of the axes. An estimand of `CausalModel.identify` knows how many values each
        variable has, and rejects an axis of another length. Two axes of one length that are swapped cannot be noticed.

        Args:
            joint: probabilities or counts with an axis for each of `names`; it need not be normalised. The answer of a
                query knows its names. If the estimand is of several experiments: a dict of `(table, names)` by the
                variables that the experiment sets, `()` for observation. A table has axes for these variables too, and
                is normalised for each of their values.
            names: the variables of the axes, in order. Those that the estimand does not need are summed out; the
                `free` variables are averaged by their observed probability, or evenly if there is no such table.

        Returns:
            Probabilities `[*asked, *see, *do]`, an answer if `joint` names the values of these variables; nan if the
            estimand conditions on an event without mass.

        Raises:
            ValueError: a missing or repeated name, a set of names, axes that do not fit the names, a negative entry,
                no mass, a missing experiment, answers that disagree about the values of a variable.

        >>> from undelude import identify
        >>> identify({"A": (), "O": ("A",)}, "O", do="A").evaluate([[3, 1], [1, 1]], ("A", "O")).tolist()
        [[0.75, 0.5], [0.25, 0.5]]
        """
        tables = self._tables(joint, names, self.sizes)
        evaluation = Evaluation(tables)
        check_axes(self, self.names, tuple(evaluation.axis))
        value = evaluation.value(self.expression)
        if self.free:
            # Each value of a free variable gives the same answer, or nan.
            value = evaluation.average(value, frozenset(self.free))
        axes, labels = (*self.asked, *self.see, *self.do), labels_of(tables.values())
        probabilities = evaluation.arrange(value, axes)
        if not labels.keys() >= {*axes}:
            return probabilities
        return Answer(in_jax(probabilities), axes, tuple(labels[name] for name in axes))
