"""What the distribution of the observed variables says about interventions: the ID and IDC algorithms (Section 3).

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
    Graph,
    Names,
    ancestors,
    check_names,
    d_separated,
    districts,
    latent_projection,
    mutilate,
    topological_order,
)

# ----------------------------------------------------------------------------------------------------- witnesses


@dataclass(frozen=True)
class Hedge:
    """Why `P(outcome | do)` is not identifiable: two R-rooted C-forests (Shpitser & Pearl 2006, Definition 6).

    Both `forest` and `subforest` are connected by hidden common causes, and along `arrows`, one out of each variable
    at most, every variable of either leads to `roots` within it. `forest` meets `do`, `subforest` does not; the roots
    have an effect on `outcome`, or are it. So hidden causes move the roots in ways that look like effects of `do`.

    Attributes:
        outcome: what was asked; for a query with evidence, what the query comes down to.
        do: what was done; likewise.
        roots: R.
        forest: F.
        subforest: F'.
        arrows: the directed edges of F, those of F' among them.
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
    """The distribution of the observed variables does not determine the effect that was asked.

    Attributes:
        hedge: the witness.
    """

    def __init__(self, message: str, hedge: Hedge):
        ValueError.__init__(self, message)
        self.hedge = hedge

    def __reduce__(self) -> tuple:
        return NotIdentifiable, (str(self), self.hedge)


class _Failure(Exception):
    """Line 5 of ID: `forest` is one district, `subforest` one district of it without what is done."""

    def __init__(self, forest: frozenset[str], subforest: frozenset[str]):
        self.forest, self.subforest = forest, subforest


# -------------------------------------------------------------------------------------------------------- ID, IDC


def identify(graph: Graph, outcome: Names, *, do: Names = (), see: Names = (), latent: Names = ()) -> Estimand:
    """An expression for `P(outcome | do, see)` in the distribution of the observed variables, by ID and IDC.

    Exact under positivity (every value of what is observed has a positive probability whatever its causes).

    Args:
        graph: the parents of each variable.
        outcome: what is asked: a name or several.
        do: what is done.
        see: what is seen, after the doing.
        latent: what cannot be observed; everything else is.

    Returns:
        The expression, to print or to evaluate.

    Raises:
        ValueError: an unknown name, a name in two roles, nothing asked, a cycle.
        NotIdentifiable: there is no such expression; `hedge` is the witness.

    >>> print(identify({"Z": (), "A": ("Z",), "O": ("A", "Z")}, "O", do="A"))
    sum_Z P(O | A, Z) P(Z)
    """
    asked, done, seen, hidden = check_names(graph, {"asked": outcome, "done": do, "seen": see, "latent": latent})
    if not asked:
        raise ValueError("nothing is asked: name at least one outcome.")
    order = tuple(name for name in topological_order(graph) if name not in hidden)
    directed, bidirected = latent_projection(graph, hidden)
    y, x, z = frozenset(asked), frozenset(done), frozenset(seen)
    x, z = _exchange(graph, y, x, z)
    distribution = _Law(order, directed, bidirected)
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
    """IDC: what is seen may as well be done where no back door leads from it to what is asked (rule 2)."""
    for name in sorted(z):
        cut = {child: tuple(p for p in parents if p != name) for child, parents in mutilate(graph, x).items()}
        if d_separated(cut, y, (name,), given=x | z - {name}):
            return _exchange(graph, y, x | {name}, z - {name})
    return x, z


def _adjustment(
    graph: Graph, y: frozenset[str], x: frozenset[str], z: frozenset[str], hidden: tuple[str, ...]
) -> Expression | None:
    """What needs no ID, which would name more variables than it must: conditioning, or the smallest back-door set."""
    x &= ancestors(mutilate(graph, x), y | z)  # What has no effect may as well not be done (rule 3).
    cut = {child: tuple(p for p in parents if p not in x) for child, parents in graph.items()}
    if d_separated(cut, y, x, given=z):  # Done or seen is the same (rule 2).
        return Probability(y, x | z)
    if z or len(y) > 1 or len(x) > 1:
        return None
    sets = back_door(graph, *x, *y, latent=hidden, limit=64)
    return Sum(sets[0], Product((Probability(y, x | sets[0]), Probability(sets[0])))) if sets else None


class _Law:
    """A distribution over the variables of a graph in the course of ID: a product of conditionals.

    Attributes:
        order: its variables, causes first.
        parents, bidirected: its graph.
        conditionals: each variable's given those before it; None for the observed distribution, which has any.
        summed: variables that its conditionals mention but that are summed out of their product.
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

    def over(self, names: frozenset[str]) -> "_Law":
        """The marginal distribution of an ancestral set."""
        order = tuple(name for name in self.order if name in names)
        if self.conditionals is None:
            return _Law(order, self.parents, self.bidirected)
        left, summed = dict(self.conditionals), self.summed | (self.names - names)
        # A conditional sums to one over its own variable where nothing else mentions that.
        for name in reversed(tuple(left)):
            if name in summed and not any(name in free(x) for other, x in left.items() if other != name):
                del left[name]
                summed -= {name}
        return _Law(order, self.parents, self.bidirected, left, summed)

    def marginal(self, names: frozenset[str]) -> Expression:
        if self.conditionals is None:
            return Probability(names)
        distribution = self.over(names)
        return sum_over(distribution.summed, product(distribution.factors))

    def conditional(self, name: str) -> Expression:
        """Of a variable, given those before it."""
        before = self.order[: self.order.index(name)]
        if self.conditionals is None:
            # Given all that came before, a variable depends on its district so far and on the parents of that.
            district = next(d for d in districts((*before, name), self.bidirected) if name in d)
            blanket = district.union(*(self.parents[member] for member in district))
            return Probability(frozenset((name,)), blanket - {name})
        if not self.summed:
            return self.conditionals[name]
        above, below = self.over(frozenset((*before, name))), self.over(frozenset(before))
        summed = above.summed | below.summed
        common = [x for x in below.factors if not free(x) & summed]
        x, y = (
            sum_over(distribution.summed, product(x for x in distribution.factors if x not in common))
            for distribution in (above, below)
        )
        return fraction(x, y)


def _identify(y: frozenset[str], x: frozenset[str], distribution: _Law) -> Expression:
    """`P_x(y)` in `distribution`, line by line as in Figure 3 of the paper (AAAI 2006)."""
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
    inner = _Law(tuple(conditionals), distribution.parents, distribution.bidirected, conditionals)
    return _identify(y, x & whole, inner)  # 7


def _hedge(
    graph: Graph, hidden: tuple[str, ...], distribution: _Law, y: frozenset[str], x: frozenset[str], failure: _Failure
) -> Hedge:
    """The witness at which ID failed, without what it can spare."""
    children = {
        name: [child for child in distribution.order if name in distribution.parents[child]]
        for name in distribution.order
    }
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
        return forest <= ancestors(
            {x: tuple(p for p in distribution.parents[x] if p in forest) for x in forest}, subforest
        )

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
    # Each variable keeps one arrow: F' along its own, the rest of F on a shortest way to F'.
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


def _parents(distribution: _Law, names: Iterable[str]) -> frozenset[str]:
    return frozenset(chain.from_iterable(distribution.parents[name] for name in names))


def _common_causes(graph: Graph, hidden: tuple[str, ...], pair: frozenset[str]) -> frozenset[str]:
    """The hidden variables at which a path between the `pair` forks, all of it hidden."""

    def sources(without: str | None) -> list[frozenset[str]]:
        kept = {*hidden, *pair} - {without}
        inner = {x: tuple(p for p in graph[x] if p in kept and p not in pair) for x in kept}
        return [ancestors(inner, name) for name in pair]

    u, v = sources(None)
    both = (u & v) - pair
    # If every way out of a cause leads through one hidden variable, the fork is there (Menger's theorem).
    passed = {middle: frozenset().union(*sources(middle)) for middle in both}
    return frozenset(x for x in both if all(x in passed[middle] for middle in both - {x}))


def _explanation(
    hedge: Hedge, asked: tuple[str, ...], done: tuple[str, ...], seen: tuple[str, ...], order: tuple[str, ...]
) -> str:
    def listed(names: Iterable[str], last: str = " and") -> str:
        known = [name for name in order if name in names]
        found = [*known, *sorted(set(names) - set(known))]
        return f"{last} ".join([", ".join(short_list(found)[:-1]), found[-1]]) if len(found) > 1 else found[0]

    reached: dict[str, set[str]] = {}
    for pair, causes in hedge.bidirected:
        for cause in sorted(causes):
            reached.setdefault(cause, set()).update(pair)
    hidden = "; ".join(f"{cause}, hidden, reaches {listed(names)}" for cause, names in list(reached.items())[:6])
    set_by = listed(hedge.do & hedge.forest)
    outcome, do = ([name for name in order if name in names] for names in (hedge.outcome, hedge.do))
    query, reduced = written_query(asked, done, seen), written_query(outcome, do, ())
    same = frozenset(asked) == hedge.outcome and frozenset(done) == hedge.do
    takes = "" if same else f" It takes {reduced}, and that cannot be computed."
    return (
        f"{query} cannot be computed from the distribution of the observed variables, however many data there "
        f"are.{takes} {hidden}: what goes together there may be due to {set_by} or to what is hidden, and the data do "
        f"not tell which. (Hedge for {reduced}: F = {{{listed(hedge.forest, ',')}}}, "
        f"F' = {{{listed(hedge.subforest, ',')}}}.) Observe what is hidden ({listed(reached, ',')}), set {set_by} in "
        "an experiment, or induce a model of what is hidden."
    )
