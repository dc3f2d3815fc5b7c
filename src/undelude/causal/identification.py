"""Identification of interventional distributions by the ID and IDC algorithms (Section 3).

Shpitser & Pearl, "Identification of joint interventional distributions in recursive semi-Markovian causal models"
(AAAI 2006) and "Identification of conditional interventional distributions" (UAI 2006); both are complete.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from undelude.causal.adjustment import back_door
from undelude.causal.estimand import Estimand, short_list, written_query
from undelude.causal.expression import Expression, Probability, Product, Sum, fraction, free, product, sum_over
from undelude.causal.graph import (
    ancestors,
    children_of,
    d_separated,
    districts,
    latent_projection,
    mutilate,
    topological_order,
    without_arrows_from,
)
from undelude.causal.names import AnyGraph, Names, as_graph, as_latent, as_names, check_names
from undelude.causal.names import Parents as Graph

# Clause of a message.
_ORDER = "the axes of `Estimand.evaluate` follow the order of outcome, see and do"

# ----------------------------------------------------------------------------------------------------- witnesses


@dataclass(frozen=True)
class Hedge:
    """Proof that `P(outcome | do)` is not identifiable: two R-rooted C-forests (Shpitser & Pearl 2006, Definition 6).

    Hidden common causes connect F, and connect F', which is a subset of F. Each variable has at most one of the
    `arrows` out of it, and along these every variable of F leads to the roots R, as does every variable of F' within
    F'. F meets `do` and F' does not. The roots are ancestors of `outcome` in the graph mutilated by `do`, so that
    hidden causes can move the roots in ways that look like effects of `do`.

    Attributes:
        outcome: the variables asked; for a query with evidence, those of the unconditional query that it reduces to.
        do: the variables intervened on, likewise.
        roots: R.
        forest: F.
        subforest: F'.
        arrows: the directed edges of F, including those of F'.
        bidirected: the pairs of F with hidden common causes, and these causes.
    """

    outcome: frozenset[str]
    do: frozenset[str]
    roots: frozenset[str]
    forest: frozenset[str]
    subforest: frozenset[str]
    arrows: frozenset[tuple[str, str]]
    bidirected: tuple[tuple[frozenset[str], frozenset[str]], ...]


class NotIdentifiable(ValueError):
    """An effect that the distribution of the observed variables does not determine.

    Attributes:
        hedge: the witness.
    """

    def __init__(self, message: str, hedge: Hedge):
        ValueError.__init__(self, message)
        self.hedge = hedge

    def __reduce__(self) -> tuple:
        return NotIdentifiable, (str(self), self.hedge)


class _Failure(Exception):
    """Failure of ID on line 5: `forest` is a c-component, and so is `subforest`, its part outside `do`."""

    def __init__(self, forest: frozenset[str], subforest: frozenset[str]):
        self.forest, self.subforest = forest, subforest


# -------------------------------------------------------------------------------------------------------- ID, IDC


def identify(graph: AnyGraph, outcome: Names, *, do: Names = (), see: Names = (), latent: Names = ()) -> Estimand:
    """Express `P(outcome | do, see)` in the distribution of the observed variables, by ID and IDC.

    The expression is exact under positivity: every value of an observed variable has a positive probability, given any
    values of its causes.

    Args:
        graph: a dict that maps each name to its parents, or a `networkx.DiGraph`.
        outcome: the variables asked, a name or several; not a set, as their order is that of the axes of an evaluation.
        do: the variables intervened on, likewise.
        see: the variables conditioned on, after the intervention, likewise.
        latent: the variables that cannot be observed; all others can.

    Returns:
        The expression, to print or to evaluate.

    Raises:
        ValueError: an unknown name, a name in two roles, a set where order matters, nothing asked, a cycle.
        TypeError: not a graph.
        NotIdentifiable: no such expression exists; `hedge` is the witness.

    >>> print(identify({"Z": (), "A": ("Z",), "O": ("A", "Z")}, "O", do="A"))
    sum_Z P(O | A, Z) P(Z)
    """
    latent, graph = as_latent(graph, latent), as_graph(graph)
    outcome, do, see = (as_names(names, order=_ORDER) for names in (outcome, do, see))
    asked, done, seen, hidden = check_names(graph, {"asked": outcome, "done": do, "seen": see, "latent": latent})
    if not asked:
        raise ValueError("nothing is asked; name at least one outcome.")
    order = tuple(name for name in topological_order(graph) if name not in hidden)
    directed, bidirected = latent_projection(graph, hidden)
    y, x, z = frozenset(asked), frozenset(done), frozenset(seen)
    x, z = _exchange(graph, y, x, z)
    distribution = _Distribution(order, directed, bidirected)
    try:
        expression = _adjustment(graph, y, x, z, hidden)
        if expression is None:
            expression = _identify(y | z, x, distribution)
            if z:
                expression = fraction(expression, sum_over(y, expression))
    except _Failure as failure:
        hedge = _hedge(graph, hidden, distribution, y | z, x, failure)
        raise NotIdentifiable(_explanation(hedge, asked, done, seen, order), hedge) from None
    return Estimand(asked, done, seen, expression, order)


def _exchange(
    graph: Graph, y: frozenset[str], x: frozenset[str], z: frozenset[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Move variables from `see` to `do` while rule 2 of the do-calculus permits it (first line of IDC)."""
    for name in sorted(z):
        cut = without_arrows_from(mutilate(graph, x), (name,))
        if d_separated(cut, y, (name,), given=x | z - {name}):
            return _exchange(graph, y, x | {name}, z - {name})
    return x, z


def _adjustment(
    graph: Graph, y: frozenset[str], x: frozenset[str], z: frozenset[str], hidden: tuple[str, ...]
) -> Expression | None:
    """Return the estimand by conditioning or by the smallest back-door set, or None if neither serves.

    ID would identify these effects too, by expressions with more variables.
    """
    x &= ancestors(mutilate(graph, x), y | z)  # Rule 3: drop interventions without effect.
    if d_separated(without_arrows_from(graph, x), y, x, given=z):  # Rule 2: do equals see.
        return Probability(y, x | z)
    if z or len(y) > 1 or len(x) > 1:
        return None
    sets = back_door(graph, *x, *y, latent=hidden, limit=64)
    return Sum(sets[0], Product((Probability(y, x | sets[0]), Probability(sets[0])))) if sets else None


class _Distribution:
    """A distribution over the variables of a graph in a recursive call of ID: a product of conditionals.

    Attributes:
        order: its variables, causes first.
        names: its variables.
        parents, bidirected: its graph.
        conditionals: the conditional of each variable given those before it; None for the observed distribution.
        summed: variables of the conditionals that are summed out of their product.
    """

    def __init__(
        self,
        order: tuple[str, ...],
        parents: Graph,
        bidirected: Iterable[frozenset[str]],
        conditionals: dict[str, Expression] | None = None,
        summed: frozenset[str] = frozenset(),
    ):
        self.order, self.names = order, frozenset(order)
        self.parents = {name: tuple(p for p in parents[name] if p in self.names) for name in order}
        self.bidirected = frozenset(pair for pair in bidirected if pair <= self.names)
        self.conditionals, self.summed = conditionals, summed

    @property
    def factors(self) -> list[Expression]:
        return list((self.conditionals or {}).values())

    def over(self, names: frozenset[str]) -> "_Distribution":
        """Return the marginal distribution of an ancestral set."""
        order = tuple(name for name in self.order if name in names)
        if self.conditionals is None:
            return _Distribution(order, self.parents, self.bidirected)
        left, summed = dict(self.conditionals), self.summed | (self.names - names)
        # A conditional sums to one over its own variable if no other conditional mentions that.
        for name in reversed(tuple(left)):
            if name in summed and not any(name in free(x) for other, x in left.items() if other != name):
                del left[name]
                summed -= {name}
        return _Distribution(order, self.parents, self.bidirected, left, summed)

    def marginal(self, names: frozenset[str]) -> Expression:
        if self.conditionals is None:
            return Probability(names)
        distribution = self.over(names)
        return sum_over(distribution.summed, product(distribution.factors))

    def conditional(self, name: str) -> Expression:
        """Return the conditional of a variable given those before it."""
        before = self.order[: self.order.index(name)]
        if self.conditionals is None:
            # It depends only on the c-component of the variable up to here, and on the parents of that.
            district = next(d for d in districts((*before, name), self.bidirected) if name in d)
            blanket = district.union(*(self.parents[member] for member in district))
            return Probability(frozenset((name,)), blanket - {name})
        if not self.summed:
            return self.conditionals[name]
        above, below = self.over(frozenset((*before, name))), self.over(frozenset(before))
        common = [x for x in below.factors if not free(x) & below.summed]
        x, y = (
            sum_over(distribution.summed, product(x for x in distribution.factors if x not in common))
            for distribution in (above, below)
        )
        return fraction(x, y)


def _identify(y: frozenset[str], x: frozenset[str], distribution: _Distribution) -> Expression:
    """Return `P_x(y)` in `distribution`; the numbers are the lines of ID in Figure 3 of the paper (AAAI 2006)."""
    names = distribution.names
    if not x:  # 1
        return distribution.marginal(y)
    relevant = ancestors(distribution.parents, y)
    if relevant != names:  # 2
        return _identify(y, x & relevant, distribution.over(relevant))
    idle = names - x - ancestors(mutilate(distribution.parents, x), y)
    if idle:  # 3
        return _identify(y, x | idle, distribution)
    parts = districts((name for name in distribution.order if name not in x), distribution.bidirected)
    if len(parts) > 1:  # 4
        return sum_over(names - y - x, product(_identify(part, names - part, distribution) for part in parts))
    part = next(iter(parts))
    wholes = districts(distribution.order, distribution.bidirected)
    if len(wholes) == 1:  # 5
        raise _Failure(names, part)
    whole = next(whole for whole in wholes if part <= whole)
    conditionals = {name: distribution.conditional(name) for name in distribution.order if name in whole}
    if whole == part:  # 6
        return sum_over(part - y, product(conditionals.values()))
    inner = _Distribution(tuple(conditionals), distribution.parents, distribution.bidirected, conditionals)
    return _identify(y, x & whole, inner)  # 7


def _hedge(
    graph: Graph,
    hidden: tuple[str, ...],
    distribution: _Distribution,
    y: frozenset[str],
    x: frozenset[str],
    failure: _Failure,
) -> Hedge:
    """Return the hedge at which ID failed, reduced to a minimal one."""
    children = children_of(distribution.parents)
    number = {name: i for i, name in enumerate(distribution.order)}
    near = [0] * len(number)
    for u, v in map(tuple, distribution.bidirected):
        near[number[u]] |= 1 << number[v]
        near[number[v]] |= 1 << number[u]

    def connected(names: frozenset[str]) -> bool:
        left = sum(1 << number[name] for name in names)
        front = left & -left
        left ^= front
        while front:
            low = front & -front
            found = near[low.bit_length() - 1] & left
            left, front = left ^ found, front ^ low | found
        return not left

    def leads(forest: frozenset[str], subforest: frozenset[str]) -> bool:
        within = {name: tuple(p for p in distribution.parents[name] if p in forest) for name in forest}
        return forest <= ancestors(within, subforest)

    def is_hedge(forest: frozenset[str], subforest: frozenset[str]) -> bool:
        meets = bool(subforest) and bool(forest & x)
        return meets and connected(forest) and connected(subforest) and leads(forest, subforest)

    forest, subforest = failure.forest, failure.subforest
    smaller = True
    while smaller:
        smaller = False
        for name in sorted(forest, key=lambda name: (name in x or name in y, number[name])):
            if is_hedge(forest - {name}, subforest - {name}):
                forest, subforest, smaller = forest - {name}, subforest - {name}, True
    # Each variable keeps one arrow: within F' to a child there, otherwise along a shortest path to F'.
    arrows = {
        (name, next(c for c in children[name] if c in subforest))
        for name in subforest & _parents(distribution, subforest)
    }
    roots = subforest - {name for name, _ in arrows}
    near_by = set(subforest)
    while near_by < forest:
        step = (forest - near_by) & _parents(distribution, near_by)
        arrows |= {(name, next(c for c in children[name] if c in near_by)) for name in step}
        near_by |= step
    place = number.__getitem__
    pairs = sorted(
        (pair for pair in distribution.bidirected if pair <= forest), key=lambda pair: sorted(map(place, pair))
    )
    causes = tuple((pair, _common_causes(graph, hidden, pair)) for pair in pairs)
    return Hedge(y, x, roots, forest, subforest, frozenset(arrows), causes)


def _parents(distribution: _Distribution, names: Iterable[str]) -> frozenset[str]:
    return frozenset(chain.from_iterable(distribution.parents[name] for name in names))


def _common_causes(graph: Graph, hidden: tuple[str, ...], pair: frozenset[str]) -> frozenset[str]:
    """Return the hidden variables at which a path between the `pair` through hidden variables forks."""

    def sources(without: str | None) -> list[frozenset[str]]:
        kept = {*hidden, *pair} - {without}
        inner = {x: tuple(p for p in graph[x] if p in kept and p not in pair) for x in kept}
        return [ancestors(inner, name) for name in pair]

    u, v = sources(None)
    both = (u & v) - pair
    # If all paths from a cause pass through one hidden variable, they fork there instead (Menger's theorem).
    passed = {middle: frozenset().union(*sources(middle)) for middle in both}
    return frozenset(x for x in both if all(x in passed[middle] for middle in both - {x}))


def _explanation(
    hedge: Hedge, asked: tuple[str, ...], done: tuple[str, ...], seen: tuple[str, ...], order: tuple[str, ...]
) -> str:
    def in_words(names: Iterable[str], last: str = " and") -> str:
        known = [name for name in order if name in names]
        found = [*known, *sorted(set(names) - set(known))]
        return f"{last} ".join([", ".join(short_list(found)[:-1]), found[-1]]) if len(found) > 1 else found[0]

    reached: dict[str, set[str]] = {}
    for pair, causes in hedge.bidirected:
        for cause in sorted(causes):
            reached.setdefault(cause, set()).update(pair)
    hidden = "; ".join(f"{cause}, hidden, reaches {in_words(names)}" for cause, names in list(reached.items())[:6])
    set_by = in_words(hedge.do & hedge.forest)
    outcome, do = ([name for name in order if name in names] for names in (hedge.outcome, hedge.do))
    query, reduced = written_query(asked, done, seen), written_query(outcome, do, ())
    same = frozenset(asked) == hedge.outcome and frozenset(done) == hedge.do
    takes = "" if same else f" It requires {reduced}, which is not identifiable."
    return (
        f"{query} cannot be computed from the distribution of the observed variables, with any amount of data.{takes} "
        f"{hidden}: an association may be due to {set_by} or to the hidden causes, and the data do not tell which. "
        f"(Hedge for {reduced}: F = {{{in_words(hedge.forest, ',')}}}, F' = {{{in_words(hedge.subforest, ',')}}}.) "
        f"Observe the hidden variables ({in_words(reached, ',')}), set {set_by} in an experiment, or learn a model "
        "that includes the hidden variables."
    )
