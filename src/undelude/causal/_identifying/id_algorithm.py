"""The lines of the ID algorithm (Shpitser & Pearl, AAAI 2006): an effect in a distribution, or the place of failure."""

from collections.abc import Iterable

from undelude.causal._expressions.derivation import Record
from undelude.causal._expressions.expression import Expression, Probability, fraction, free, product, sum_over
from undelude.causal._graphs.graph import ancestors, districts, mutilate
from undelude.causal._names import Parents


class Distribution:
    """A distribution over the variables of a graph in a recursive call of ID: a product of conditionals.

    Attributes:
        order: its variables, causes first.
        names: its variables.
        parents, bidirected: its graph.
        record: the derivation that its steps are appended to.
        do: the variables held fixed, which are not in the graph: an experiment, and the variables that line 7 left out.
        conditionals: the conditional of each variable given those before it; None for a distribution that is known:
            the observed one, or that of the experiment `do`.
        summed: variables of the conditionals that are summed out of their product.
    """

    def __init__(
        self,
        order: tuple[str, ...],
        parents: Parents,
        bidirected: Iterable[frozenset[str]],
        record: Record,
        *,
        do: frozenset[str] = frozenset(),
        conditionals: dict[str, Expression] | None = None,
        summed: frozenset[str] = frozenset(),
    ):
        self.order, self.names = order, frozenset(order)
        self.parents = {name: tuple(p for p in parents[name] if p in self.names) for name in order}
        self.bidirected = frozenset(pair for pair in bidirected if pair <= self.names)
        self.record, self.do = record, do
        self.conditionals, self.summed = conditionals, summed

    @property
    def factors(self) -> list[Expression]:
        """The conditionals, causes first; none if the distribution is known."""
        return list((self.conditionals or {}).values())

    def over(self, names: frozenset[str]) -> "Distribution":
        """Return the marginal distribution of an ancestral set."""
        order = tuple(name for name in self.order if name in names)
        if self.conditionals is None:
            return Distribution(order, self.parents, self.bidirected, self.record, do=self.do)
        left, summed = dict(self.conditionals), self.summed | (self.names - names)
        # A conditional sums to one over its own variable if no other conditional mentions that.
        for name in reversed(tuple(left)):
            if name in summed and not any(name in free(x) for other, x in left.items() if other != name):
                del left[name]
                summed -= {name}
        return Distribution(
            order, self.parents, self.bidirected, self.record, do=self.do, conditionals=left, summed=summed
        )

    def marginal(self, names: frozenset[str]) -> Expression:
        """Return the marginal distribution of some variables."""
        if self.conditionals is None:
            return Probability(names, do=self.do)
        distribution = self.over(names)
        return sum_over(distribution.summed, product(distribution.factors))

    def conditional(self, name: str) -> Expression:
        """Return the conditional of a variable given those before it."""
        before = self.order[: self.order.index(name)]
        if self.conditionals is None:
            # It depends only on the c-component of the variable up to here, and on the parents of that.
            district = next(d for d in districts((*before, name), self.bidirected) if name in d)
            blanket = district.union(*(self.parents[member] for member in district))
            return Probability(frozenset((name,)), blanket - {name}, self.do)
        if not self.summed:
            return self.conditionals[name]
        above, below = self.over(frozenset((*before, name))), self.over(frozenset(before))
        common = [x for x in below.factors if not free(x) & below.summed]
        x, y = (
            sum_over(distribution.summed, product(x for x in distribution.factors if x not in common))
            for distribution in (above, below)
        )
        return fraction(x, y)

    def within(self, names: frozenset[str]) -> "Distribution":
        """Return the factor of a c-component, with all other variables held fixed."""
        conditionals = {name: self.conditional(name) for name in self.order if name in names}
        do = self.do | (self.names - names)
        return Distribution(
            tuple(conditionals), self.parents, self.bidirected, self.record, do=do, conditionals=conditionals
        )

    def query(self, y: frozenset[str], x: frozenset[str]) -> Probability:
        """Return `P_x(y)` of this distribution in words of the whole model."""
        return Probability(y, do=x | self.do)


class Failure(Exception):
    """Failure of ID at `P_x(y)` in `distribution`.

    `forest` is a c-component of an ancestral set, and so is `subforest`, its part outside the intervention.
    """

    def __init__(
        self,
        y: frozenset[str],
        x: frozenset[str],
        distribution: Distribution,
        forest: frozenset[str],
        subforest: frozenset[str],
    ):
        self.y, self.x, self.distribution = y, x, distribution
        self.forest, self.subforest = forest, subforest


class _Hedged(Exception):
    """Line 5, in a recursive call."""

    def __init__(self, forest: frozenset[str], subforest: frozenset[str]):
        self.forest, self.subforest = forest, subforest


def identify_effect(y: frozenset[str], x: frozenset[str], distribution: Distribution) -> Expression:
    """Return `P_x(y)` in `distribution`, and append the steps to its record.

    Raises:
        Failure: no such expression exists.
    """
    try:
        return _lines(y, x, distribution)
    except _Hedged as found:
        raise Failure(y, x, distribution, found.forest, found.subforest) from None


def _lines(y: frozenset[str], x: frozenset[str], distribution: Distribution) -> Expression:
    """Return `P_x(y)`; the numbers are the lines of ID in Figure 3 of the paper (AAAI 2006)."""
    names, record, query = distribution.names, distribution.record, distribution.query(y, x)
    if not x:  # 1
        answer = distribution.marginal(y)
        record.line(1, query, answer)
        return answer
    relevant = ancestors(distribution.parents, y)
    if relevant != names:  # 2
        record.line(2, query, distribution.query(y, x & relevant), names - relevant, y)
        return _lines(y, x & relevant, distribution.over(relevant))
    idle = names - x - ancestors(mutilate(distribution.parents, x), y)
    if idle:  # 3
        record.line(3, query, distribution.query(y, x | idle), idle, y)
        return _lines(y, x | idle, distribution)
    parts = districts((name for name in distribution.order if name not in x), distribution.bidirected)
    if len(parts) > 1:  # 4
        split = product(distribution.query(part, names - part) for part in parts)
        record.line(4, query, sum_over(names - y - x, split), record.each(parts))
        factors = [_lines(part, names - part, distribution) for part in parts]
        return sum_over(names - y - x, product(factors))
    part = next(iter(parts))
    wholes = districts(distribution.order, distribution.bidirected)
    if len(wholes) == 1:  # 5
        record.line(5, query, None, names, part)
        raise _Hedged(names, part)
    whole = next(whole for whole in wholes if part <= whole)
    inner = distribution.within(whole)
    factor = product(inner.factors)
    if whole == part:  # 6
        answer = sum_over(part - y, factor)
        record.line(6, query, answer, part)
        return answer
    record.line(7, inner.query(whole, frozenset()), factor, part, whole)
    return _lines(y, x & whole, inner)  # 7
