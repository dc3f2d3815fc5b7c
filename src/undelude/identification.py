"""What the distribution of the observed variables says about interventions: the ID and IDC algorithms (Section 3).

Shpitser & Pearl, "Identification of joint interventional distributions in recursive semi-Markovian causal models"
(AAAI 2006) and "Identification of conditional interventional distributions" (UAI 2006); both are complete.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from jaxtyping import ArrayLike

from undelude.graph import (
    Graph,
    Names,
    ancestors,
    back_door,
    check_names,
    d_separated,
    districts,
    latent_projection,
    mutilate,
    topological_order,
)

# ------------------------------------------------------------------------------------------------- expressions


@dataclass(frozen=True)
class Probability:
    """`P(of | given)` in the observed distribution."""

    of: frozenset[str]
    given: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Product:
    """The product of its factors; 1 if there are none."""

    factors: "tuple[Expression, ...]" = ()


@dataclass(frozen=True)
class Sum:
    """The sum of `body` over all values of the variables `over`, which it binds."""

    over: frozenset[str]
    body: "Expression"


@dataclass(frozen=True)
class Fraction:
    """`numerator / denominator`."""

    numerator: "Expression"
    denominator: "Expression"


Expression = Probability | Product | Sum | Fraction


def _free(x: Expression) -> frozenset[str]:
    match x:
        case Probability(of, given):
            return of | given
        case Product(factors):
            return frozenset(chain.from_iterable(map(_free, factors)))
        case Sum(over, body):
            return _free(body) - over
        case Fraction(numerator, denominator):
            return _free(numerator) | _free(denominator)


def _product(factors: Iterable[Expression]) -> Expression:
    flat = list(chain.from_iterable(map(_factors, factors)))
    for x in flat:
        if isinstance(x, Fraction):
            rest = [y for y in flat if y is not x]
            below = _factors(x.denominator)
            if all(y in rest for y in below):  # (x / y) y = x
                for y in below:
                    rest.remove(y)
                return _product([x.numerator, *rest])
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def _factors(x: Expression) -> list[Expression]:
    return list(x.factors) if isinstance(x, Product) else [x]


def _chain_rule(factors: list[Expression]) -> list[Expression]:
    """P(a | b, c) P(b | c) = P(a, b | c), as often as it applies."""
    plain = [x for x in factors if isinstance(x, Probability)]
    merged = True
    while merged:
        merged = False
        by_names = {x.of | x.given: x for x in plain}
        for x in plain:
            y = by_names.get(x.given)
            if y is not None:
                joint = Probability(x.of | y.of, y.given)
                plain = [joint if z is x else z for z in plain if z is not y]
                merged = True
                break
    return [*plain, *(x for x in factors if not isinstance(x, Probability))]


def _sum(over: frozenset[str], body: Expression) -> Expression:
    """The sum over variables that all occur in `body`, with what can be summed at once summed."""
    left, before = _factors(body), []
    while left != before:
        before = left
        left = _chain_rule(left)
        for name in sorted(over):
            match [x for x in left if name in _free(x)]:
                case [Probability(of, given) as x] if name in of:
                    smaller = [Probability(of - {name}, given)] if len(of) > 1 else []
                    left = [*(y for y in left if y is not x), *smaller]
                    over -= {name}
    inside = [x for x in left if _free(x) & over]
    links = [frozenset((u, v)) for x in inside for u, v in pairwise(sorted(_free(x) & over))]
    sums = [Sum(part, _product(x for x in inside if _free(x) & part)) for part in districts(sorted(over), links)]
    return _product([*(x for x in left if not _free(x) & over), *map(_flat, sums)])


def _flat(x: Sum) -> Sum:
    """One sum instead of a sum of nothing but a sum."""
    if isinstance(x.body, Sum) and not x.over & x.body.over:
        return Sum(x.over | x.body.over, x.body.body)
    return x


def _fraction(numerator: Expression, denominator: Expression) -> Expression:
    above, below = _product(_chain_rule(_factors(numerator))), []
    for x in _chain_rule(_factors(denominator)):
        divided = _divide(above, x)
        if divided is None:
            below.append(x)
        else:
            above = divided
    return Fraction(above, _product(below)) if below else above


def _divide(x: Expression, y: Expression) -> Expression | None:
    """`x / y`, where that is simpler than a fraction."""
    if x == y:
        return Product()
    match x, y:
        case Probability(), Probability() if x.given == y.given and y.of < x.of:  # P(a, b | c) / P(b | c) = P(a | b, c)
            return Probability(x.of - y.of, x.given | y.of)
        case Product(factors), _:
            for i, factor in enumerate(factors):
                divided = _divide(factor, y)
                if divided is not None:
                    return _product([*factors[:i], divided, *factors[i + 1 :]])
        case Sum(over, body), _ if not over & _free(y):
            divided = _divide(body, y)
            return None if divided is None else _sum(over, divided)
    return None


# ---------------------------------------------------------------------------------------------------- estimands


@dataclass(frozen=True, repr=False)
class Estimand:
    """An expression for `P(outcome | do, see)` in the distribution of the observed variables.

    It holds under positivity: whatever is conditioned on must be able to happen.

    Attributes:
        outcome: what is asked.
        do: what is done.
        see: what is seen.
        expression: sums, products and fractions of probabilities of observed variables.
        order: names from causes to effects, for printing.

    >>> frontdoor = {"U": (), "A": ("U",), "M": ("A",), "O": ("M", "U")}
    >>> identify(frontdoor, "O", do="A", latent="U")
    Estimand: P(O | do(A)) = sum_M P(M | A) sum_A' P(O | A', M) P(A')
    """

    outcome: tuple[str, ...]
    do: tuple[str, ...]
    see: tuple[str, ...]
    expression: Expression
    order: tuple[str, ...]

    @property
    def free(self) -> tuple[str, ...]:
        """Names that the expression mentions though nobody asked, saw or did them: the graph says any value serves."""
        return tuple(x for x in self.order if x in _free(self.expression) - {*self.outcome, *self.do, *self.see})

    def __str__(self) -> str:
        return _Text(self).show(self.expression)

    def __repr__(self) -> str:
        return f"Estimand: {_query(self.outcome, self.do, self.see)} = {self}"

    def latex(self) -> str:
        r"""The expression in LaTeX, for math mode.

        >>> print(identify({"Z": (), "A": ("Z",), "O": ("A", "Z")}, "O", do="A").latex())
        \sum_{Z} P(O \mid A, Z) \, P(Z)
        """
        return _Latex(self).show(self.expression)

    def evaluate(self, joint: ArrayLike, names: Iterable[str]) -> np.ndarray:
        """The estimand's value in a distribution of the observed variables.

        Args:
            joint: probabilities, or counts, with an axis for each of `names`; normalised here.
            names: the variables of its axes; those that the estimand does not need are summed out. Variables that are
                `free` are averaged by their probability.

        Returns:
            Probabilities `[*outcome, *see, *do]`; nan where the data give no mass to what is needed.

        Raises:
            ValueError: a name that is missing or there twice, axes that do not fit the names, negative or no mass.
        """
        names = (names,) if isinstance(names, str) else tuple(names)
        table = np.asarray(joint, float)
        if len(set(names)) < len(names):
            raise ValueError(f"names has a variable twice: {', '.join(names)}.")
        if table.ndim != len(names):
            raise ValueError(
                f"joint has shape {table.shape}, {table.ndim} axes; it needs one for each of {', '.join(names)}."
            )
        axes = (*self.outcome, *self.see, *self.do)
        missing = [x for x in self.order if x in {*axes, *_mentioned(self.expression)} - set(names)]
        if missing:
            raise ValueError(f"joint has no axis for {', '.join(missing)}, which the estimand needs: {self}.")
        if not np.isfinite(table).all() or (table < 0).any() or not table.sum() > 0:
            raise ValueError("joint must hold probabilities or counts: finite, none negative, not all zero.")
        tables = _Tables(table / table.sum(), names)
        value = tables.value(self.expression)
        if self.free:
            # Each value of a free variable gives the same answer where it gives one at all.
            weight = tables.value(Probability(frozenset(self.free)))
            value, weight = np.broadcast_arrays(value, weight)
            gone = tuple(tables.axis[x] for x in self.free)
            defined = ~np.isnan(value)
            with np.errstate(invalid="ignore"):
                value = np.where(defined, value * weight, 0).sum(gone, keepdims=True) / (
                    np.where(defined, weight, 0).sum(gone, keepdims=True)
                )
        return tables.arrange(value, axes)


def _mentioned(x: Expression) -> frozenset[str]:
    match x:
        case Probability(of, given):
            return of | given
        case Product(factors):
            return frozenset(chain.from_iterable(map(_mentioned, factors)))
        case Sum(over, body):
            return over | _mentioned(body)
        case Fraction(numerator, denominator):
            return _mentioned(numerator) | _mentioned(denominator)


class _Tables:
    """Values of expressions as arrays with all the axes of `joint`, of length one where an expression does not vary."""

    def __init__(self, joint: np.ndarray, names: tuple[str, ...]):
        self.joint = joint
        self.axis = {name: i for i, name in enumerate(names)}

    def value(self, x: Expression) -> np.ndarray:
        match x:
            case Probability(of, given):
                both = self.marginal(of | given)
                return _ratio(both, both.sum(tuple(self.axis[name] for name in of), keepdims=True)) if given else both
            case Product(factors):
                value = np.ones((1,) * self.joint.ndim)
                for factor in factors:
                    other = self.value(factor)
                    # What has no mass is not needed: a condition that cannot happen (nan) counts for nothing then.
                    value = np.where((value == 0) | (other == 0), 0, value * other)
                return value
            case Sum(over, body):
                return self.value(body).sum(tuple(self.axis[name] for name in over), keepdims=True)
            case Fraction(numerator, denominator):
                return _ratio(self.value(numerator), self.value(denominator))

    def marginal(self, names: frozenset[str]) -> np.ndarray:
        return self.joint.sum(tuple(i for name, i in self.axis.items() if name not in names), keepdims=True)

    def arrange(self, value: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        """`value` with exactly `axes`, in this order."""
        places = [self.axis[name] for name in axes]
        shape = [n if i in places else 1 for i, n in enumerate(self.joint.shape)]
        value = np.broadcast_to(value, shape)
        rest = [i for i in range(value.ndim) if i not in places]
        return np.array(value.transpose(*places, *rest).reshape([self.joint.shape[i] for i in places]))


def _ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(y > 0, x / y, np.nan)


# ----------------------------------------------------------------------------------------------------- printing


class _Text:
    """Expressions in plain text; a bound variable that would be mistaken for another gets a prime."""

    def __init__(self, estimand: Estimand):
        self.place = {name: i for i, name in enumerate(estimand.order)}
        self.do = frozenset(estimand.do)
        self.top = frozenset((*estimand.outcome, *estimand.do, *estimand.see, *estimand.free))

    def show(self, x: Expression, shown: Mapping[str, str] | None = None) -> str:
        return self._show(x, {name: self.name(name) for name in self.top} if shown is None else shown)

    def _show(self, x: Expression, shown: Mapping[str, str]) -> str:
        match x:
            case Probability(of, given):
                return self.probability(self.listed(of, shown), self.conditions(given, shown))
            case Product(factors):
                # From effects to causes, sums last, as people write it; a sum reaches to the end of what it stands in.
                ordered = sorted(factors, key=self.key)
                parts = [self._show(factor, shown) for factor in ordered]
                bracket = [
                    isinstance(y, Fraction) or (isinstance(y, Sum) and i + 1 < len(ordered))
                    for i, y in enumerate(ordered)
                ]
                return (
                    self.times.join(
                        self.bracket(p, y) if b else p for p, y, b in zip(parts, ordered, bracket, strict=True)
                    )
                    or "1"
                )
            case Sum(over, body):
                inner = dict(shown)
                for name in over:
                    label = self.name(name)
                    while label in shown.values():
                        label += "'"
                    inner[name] = label
                return self.sum(self.listed(over, inner), self._show(body, inner), len(over))
            case Fraction(numerator, denominator):
                return self.fraction(*(self.part(self._show(y, shown), y) for y in (numerator, denominator)))

    def key(self, x: Expression) -> tuple:
        """Probabilities before fractions before sums, effects before causes."""
        kind = (Probability, Fraction, Sum).index(type(x))  # pyright: ignore[reportArgumentType]
        heads = x.of if isinstance(x, Probability) else _free(x)
        return kind, sorted(-self.place[name] for name in heads), sorted(_free(x))

    def conditions(self, names: Iterable[str], shown: Mapping[str, str]) -> str:
        """What is done first, then from effects to causes, as in P(o | a, z)."""
        return ", ".join(shown[name] for name in sorted(names, key=lambda x: (x not in self.do, -self.place[x])))

    def listed(self, names: Iterable[str], shown: Mapping[str, str]) -> str:
        return ", ".join(shown[name] for name in sorted(names, key=self.place.__getitem__))

    times = " "

    def name(self, name: str) -> str:
        return name

    def probability(self, of: str, given: str) -> str:
        return f"P({of} | {given})" if given else f"P({of})"

    def sum(self, over: str, body: str, count: int) -> str:
        return f"sum_{{{over}}} {body}" if count > 1 else f"sum_{over} {body}"

    def fraction(self, numerator: str, denominator: str) -> str:
        return f"{numerator} / {denominator}"

    def part(self, text: str, x: Expression) -> str:
        return text if isinstance(x, Probability) else f"[{text}]"

    def bracket(self, text: str, x: Expression) -> str:
        return f"({text})"


_GREEK = re.compile(
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|upsilon|phi|chi|psi|omega",
    re.IGNORECASE,
)


class _Latex(_Text):
    times = r" \, "

    def name(self, name: str) -> str:
        stem, _, index = name.partition("_")
        stem = f"\\{stem}" if _GREEK.fullmatch(stem) else stem if len(stem) == 1 else f"\\mathrm{{{stem}}}"
        return f"{stem}_{{{index.replace('_', ',')}}}" if index else stem

    def probability(self, of: str, given: str) -> str:
        return f"P({of} \\mid {given})" if given else f"P({of})"

    def sum(self, over: str, body: str, count: int) -> str:
        return f"\\sum_{{{over}}} {body}"

    def fraction(self, numerator: str, denominator: str) -> str:
        return f"\\frac{{{numerator}}}{{{denominator}}}"

    def part(self, text: str, x: Expression) -> str:
        return text

    def bracket(self, text: str, x: Expression) -> str:
        return text if isinstance(x, Fraction) else f"\\Big({text}\\Big)"


def _query(outcome: Iterable[str], do: Iterable[str], see: Iterable[str]) -> str:
    conditions = [f"do({name})" for name in do] + list(see)
    return f"P({', '.join(outcome)}{' | ' if conditions else ''}{', '.join(conditions)})"


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
    # IDC: what is seen may as well be done where no back door leads from it to what is asked (rule 2).
    for name in _exchangeable(graph, y, x, z):
        x, z = x | {name}, z - {name}
    law = _Law(order, directed, bidirected)
    try:
        expression = _adjustment(graph, y, x, z, hidden)
        if expression is None:
            expression = _identify(y | z, x, law)
            if z:
                expression = _fraction(expression, _sum(y, expression))
    except _Failure as failure:
        hedge = _hedge(graph, hidden, law, y | z, x, failure)
        raise NotIdentifiable(_explanation(hedge, asked, done, seen, order), hedge) from None
    return Estimand(asked, done, seen, expression, order)


def _exchangeable(graph: Graph, y: frozenset[str], x: frozenset[str], z: frozenset[str]) -> Iterator[str]:
    """The names of `z` that can be done instead of seen, each given that those before it are done."""
    while True:
        for name in sorted(z):
            cut = {child: tuple(p for p in parents if p != name) for child, parents in mutilate(graph, x).items()}
            if d_separated(cut, y, (name,), given=x | z - {name}):
                x, z = x | {name}, z - {name}
                yield name
                break
        else:
            return


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
        """The marginal law of an ancestral set."""
        order = tuple(name for name in self.order if name in names)
        if self.conditionals is None:
            return _Law(order, self.parents, self.bidirected)
        left, summed = dict(self.conditionals), self.summed | (self.names - names)
        # A conditional sums to one over its own variable where nothing else mentions that.
        for name in reversed(tuple(left)):
            if name in summed and not any(name in _free(x) for other, x in left.items() if other != name):
                del left[name]
                summed -= {name}
        return _Law(order, self.parents, self.bidirected, left, summed)

    def marginal(self, names: frozenset[str]) -> Expression:
        if self.conditionals is None:
            return Probability(names)
        law = self.over(names)
        return _sum(law.summed, _product(law.factors))

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
        common = [x for x in below.factors if not _free(x) & summed]
        x, y = (_sum(law.summed, _product(x for x in law.factors if x not in common)) for law in (above, below))
        return _fraction(x, y)


def _identify(y: frozenset[str], x: frozenset[str], law: _Law) -> Expression:
    """`P_x(y)` in `law`, line by line as in Figure 3 of the paper (AAAI 2006)."""
    names = law.names
    if not x:  # 1
        return law.marginal(y)
    relevant = ancestors(law.parents, y)
    if relevant != names:  # 2
        return _identify(y, x & relevant, law.over(relevant))
    idle = names - x - ancestors(mutilate(law.parents, x), y)
    if idle:  # 3
        return _identify(y, x | idle, law)
    parts = districts((name for name in law.order if name not in x), law.bidirected)
    if len(parts) > 1:  # 4
        return _sum(names - y - x, _product(_identify(part, names - part, law) for part in parts))
    part = next(iter(parts))
    wholes = districts(law.order, law.bidirected)
    if len(wholes) == 1:  # 5
        raise _Failure(names, part)
    whole = next(whole for whole in wholes if part <= whole)
    conditionals = {name: law.conditional(name) for name in law.order if name in whole}
    if whole == part:  # 6
        return _sum(part - y, _product(conditionals.values()))
    inner = _Law(tuple(conditionals), law.parents, law.bidirected, conditionals)
    return _identify(y, x & whole, inner)  # 7


def _hedge(
    graph: Graph, hidden: tuple[str, ...], law: _Law, y: frozenset[str], x: frozenset[str], failure: _Failure
) -> Hedge:
    """The witness at which ID failed, without what it can spare."""
    children = {name: [child for child in law.order if name in law.parents[child]] for name in law.order}
    number = {name: i for i, name in enumerate(law.order)}
    near = [0] * len(number)
    for u, v in map(tuple, law.bidirected):
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
        return forest <= ancestors({x: tuple(p for p in law.parents[x] if p in forest) for x in forest}, subforest)

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
        (name, next(c for c in children[name] if c in subforest)) for name in subforest & _parents(law, subforest)
    }
    roots = subforest - {name for name, _ in arrows}
    near_by = set(subforest)
    while near_by < forest:
        step = (forest - near_by) & _parents(law, near_by)
        arrows |= {(name, next(c for c in children[name] if c in near_by)) for name in step}
        near_by |= step
    place = number.__getitem__
    pairs = sorted((pair for pair in law.bidirected if pair <= forest), key=lambda pair: sorted(map(place, pair)))
    causes = tuple((pair, _common_causes(graph, hidden, pair)) for pair in pairs)
    return Hedge(y, x, roots, forest, subforest, frozenset(arrows), causes)


def _parents(law: _Law, names: Iterable[str]) -> frozenset[str]:
    return frozenset(chain.from_iterable(law.parents[name] for name in names))


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
        found = found if len(found) <= 8 else [*found[:6], f"{len(found) - 6} more"]
        return f"{last} ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else found[0]

    reached: dict[str, set[str]] = {}
    for pair, causes in hedge.bidirected:
        for cause in sorted(causes):
            reached.setdefault(cause, set()).update(pair)
    hidden = "; ".join(f"{cause}, hidden, reaches {listed(names)}" for cause, names in list(reached.items())[:6])
    set_by = listed(hedge.do & hedge.forest)
    outcome, do = ([name for name in order if name in names] for names in (hedge.outcome, hedge.do))
    query, reduced = _query(asked, done, seen), _query(outcome, do, ())
    same = frozenset(asked) == hedge.outcome and frozenset(done) == hedge.do
    takes = "" if same else f" It takes {reduced}, and that cannot be computed."
    return (
        f"{query} cannot be computed from the distribution of the observed variables, however many data there "
        f"are.{takes} {hidden}: what goes together there may be due to {set_by} or to what is hidden, and the data do "
        f"not tell which. (Hedge for {reduced}: F = {{{listed(hedge.forest, ',')}}}, "
        f"F' = {{{listed(hedge.subforest, ',')}}}.) Observe what is hidden ({listed(reached, ',')}), set {set_by} in "
        "an experiment, or induce a model of what is hidden."
    )
