"""Positivity: whether an estimand conditions on an event without probability.

An estimand is a sum of products of conditionals `P(of | given)`. A conditional is undefined if `P(given) = 0`. A
product is zero if a factor is zero, and otherwise undefined if a factor is undefined; a sum is undefined if a term is.
All of this depends only on which entries of the tables are positive. So it is computed as queries are, by tensor
contraction, with *or* in place of sums and *and* in place of products, and without the joint distribution.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from undelude.causal._expressions.expression import Expression, Fraction, Probability, Product, Sum, free
from undelude.causal._graphs.graph import ancestors
from undelude.causal._identifying.estimand import Estimand
from undelude.causal._names import Parents, listed
from undelude.causal._summing.contraction import arguments
from undelude.causal._summing.order import Axes, plan

# Combinations of values for which positivity is checked at once.
MAX_VALUES = 2**20

# Truth values with an axis for each of several variables.
Factor = tuple[np.ndarray, Axes]


def undefined(
    graph: Parents, tables: Sequence[np.ndarray], estimand: Estimand, fixed: Mapping[str, int], over: Sequence[str] = ()
) -> np.ndarray:
    """Return whether the estimand is undefined for a value of the outcome, `[*over]`, or `[]` if it never is.

    Args:
        graph: the parents of each variable.
        tables: the tables of a model, in the order of the graph.
        estimand: an estimand of variables of the model.
        fixed: the index of the value of variables seen or done.
        over: the variables seen or done that are not fixed; the answer has an axis for each.

    Raises:
        ValueError: too many values of `over`.
    """
    sizes = {name: table.shape[-1] for name, table in zip(graph, tables, strict=True)}
    positive = {name: np.asarray(table) > 0 for name, table in zip(graph, tables, strict=True)}
    nowhere = np.zeros((), bool)
    if all(positive[name].all() for name in ancestors(graph, estimand.names)):
        return nowhere
    if (combinations := math.prod(sizes[name] for name in over)) > MAX_VALUES:
        raise ValueError(
            f"{estimand!r} may condition on events without probability, and {listed(tuple(over))} have "
            f"{combinations:.1e} combinations of values, too many to check at once. Call query for single values."
        )
    support = _Support(graph, positive)
    named = {name: support.axis(sizes[name]) for name in (*estimand.asked, *over, *estimand.free)}
    scope = _Scope(named, fixed)
    causes = support.undefined(estimand.expression, scope)
    if not causes:
        return nowhere
    asked, kept, averaged = (tuple(named[x] for x in names) for names in (estimand.asked, over, estimand.free))
    bad = support.anywhere(causes, (*asked, *kept, *averaged))
    if averaged:
        # The average over a free variable ignores its values without probability, and those that are undefined.
        bad = (bad | support.impossible(frozenset(estimand.free), scope, averaged)).all(tuple(range(-len(averaged), 0)))
    for _ in asked:
        bad = bad.any(0)
    return np.asarray(bad)


@dataclass(frozen=True)
class _Scope:
    """The meaning of the names in an expression: an axis, or one fixed value."""

    axes: Mapping[str, int]
    fixed: Mapping[str, int]

    def axes_of(self, names: Iterable[str]) -> Axes:
        return tuple(self.axes[name] for name in sorted(names) if name in self.axes)


class _Support:
    """Truth values of expressions in the distribution of a model."""

    def __init__(self, graph: Parents, positive: Mapping[str, np.ndarray]):
        self.graph, self.positive = graph, positive
        self.sizes: list[int] = []
        self.known: dict[tuple[Expression, frozenset[str]], np.ndarray] = {}

    def axis(self, size: int) -> int:
        """Return a new axis."""
        self.sizes.append(size)
        return len(self.sizes) - 1

    def anywhere(self, products: Iterable[Sequence[Factor]], out: Axes) -> np.ndarray:
        """Return whether all factors of one of the products are true, for some values of the other axes, `[*out]`."""
        found: np.ndarray | bool = False
        for product in products:
            # Axes get new numbers, so that equal problems are planned once; an axis without a factor is free.
            number = {axis: i for i, axis in enumerate(dict.fromkeys(itertools.chain(*(axes for _, axes in product))))}
            remaining = [x for x, _ in product]
            operands = tuple(tuple(number[axis] for axis in axes) for _, axes in product)
            had = [axis for axis in out if axis in number]
            sizes = tuple(self.sizes[axis] for axis in number)
            for step in plan(operands, tuple(number[axis] for axis in had), sizes).steps:
                taken = [remaining.pop(position) for position in step.positions]
                remaining.append(np.asarray(np.einsum(*arguments(taken, step.axes, step.out))))
            (x,) = remaining or [np.ones((), bool)]
            found = found | np.expand_dims(x, [i for i, axis in enumerate(out) if axis not in number])
        return np.array(np.broadcast_to(found, [self.sizes[axis] for axis in out]))

    def is_positive(self, names: frozenset[str], scope: _Scope) -> list[Factor]:
        """Return the factors of "`P(names)` is positive"."""
        above = ancestors(self.graph, names)
        relevant = [name for name in self.graph if name in above]
        inner = {name: self.axis(self.positive[name].shape[-1]) for name in relevant if name not in names}
        inner |= {name: axis for name, axis in scope.axes.items() if name in names}
        factors = []
        for name in relevant:
            axes = (*self.graph[name], name)
            at = tuple(slice(None) if x in inner else scope.fixed[x] for x in axes)
            factors.append((np.asarray(self.positive[name][at]), tuple(inner[x] for x in axes if x in inner)))
        return factors

    def impossible(self, names: frozenset[str], scope: _Scope, out: Axes) -> np.ndarray:
        """Return whether `P(names)` is zero, `[*out]`."""
        return np.asarray(~self.anywhere([self.is_positive(names, scope)], out))

    def unless(self, exception: Factor, factors: Sequence[Factor]) -> list[Factor]:
        """Return the factors of "all of `factors`, or the exception"."""
        x, axes = exception
        switch = self.axis(2)
        switched = [(np.stack([y, np.ones_like(y)]), (switch, *of_y)) for y, of_y in factors]
        return [*switched, (np.stack([np.ones_like(x), x]), (switch, *axes))]

    def nonzero(self, x: Expression, scope: _Scope) -> list[Factor]:
        """Return the factors of "`x` is positive or undefined"."""
        match x:
            case Probability(of, given):
                factors = self.is_positive(of | given, scope)
                exception = self.without_condition(x, scope)
                return self.unless(exception, factors) if exception else factors
            case Product(parts):
                return [factor for part in parts for factor in self.nonzero(part, scope)]
            case Sum(over, body):
                return self.nonzero(body, self.within(over, scope))
            case Fraction(numerator):
                factors = self.nonzero(numerator, scope)
                exception = self.without_condition(x, scope)
                return self.unless(exception, factors) if exception else factors

    def undefined(self, x: Expression, scope: _Scope) -> list[list[Factor]]:
        """Return products of factors, one of which is true where `x` is undefined."""
        match x:
            case Probability():
                exception = self.without_condition(x, scope)
                return [[exception]] if exception else []
            case Product(parts):
                return [
                    [*cause, *(factor for other in parts if other is not part for factor in self.nonzero(other, scope))]
                    for part in parts
                    for cause in self.undefined(part, scope)
                ]
            case Sum(over, body):
                return self.undefined(body, self.within(over, scope))
            case Fraction(numerator):
                exception = self.without_condition(x, scope)
                return [*([[exception]] if exception else []), *self.undefined(numerator, scope)]

    def without_condition(self, x: Probability | Fraction, scope: _Scope) -> Factor | None:
        """Return where the condition of `x` has no probability or is undefined itself; None if nowhere."""
        condition = x.given if isinstance(x, Probability) else free(x.denominator)
        axes = scope.axes_of(condition)
        key = x, condition.intersection(scope.axes)
        if key not in self.known:
            if isinstance(x, Probability):
                self.known[key] = self.impossible(x.given, scope, axes)
            else:
                zero = ~self.anywhere([self.nonzero(x.denominator, scope)], axes)
                self.known[key] = np.asarray(zero | self.anywhere(self.undefined(x.denominator, scope), axes))
        return (self.known[key], axes) if self.known[key].any() else None

    def within(self, over: frozenset[str], scope: _Scope) -> _Scope:
        """Return the scope of the body of a sum."""
        inner = {name: self.axis(self.positive[name].shape[-1]) for name in sorted(over)}
        fixed = {name: i for name, i in scope.fixed.items() if name not in over}
        return _Scope({**scope.axes, **inner}, fixed)
