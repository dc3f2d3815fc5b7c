"""Sums, products and fractions of probabilities, observed or of experiments, simplified on construction."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise

from undelude.causal._graphs.graph import districts


@dataclass(frozen=True)
class Probability:
    """`P(of | do(do), given)` in the distribution of the experiment `do`; observed if `do` is empty."""

    of: frozenset[str]
    given: frozenset[str] = frozenset()
    do: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Product:
    """The product of its factors; 1 if there are none."""

    factors: "tuple[Expression, ...]" = ()


@dataclass(frozen=True)
class Sum:
    """The sum of `body` over all values of the variables `over`, which are bound in it."""

    over: frozenset[str]
    body: "Expression"


@dataclass(frozen=True)
class Fraction:
    """`numerator / denominator`."""

    numerator: "Expression"
    denominator: "Expression"


Expression = Probability | Product | Sum | Fraction


def free(x: Expression, *, bound: bool = False) -> frozenset[str]:
    """Return the free variables of `x`; with `bound`, all its variables."""
    match x:
        case Probability(of, given, do):
            return of | given | do
        case Product(factors):
            return frozenset().union(*(free(factor, bound=bound) for factor in factors))
        case Sum(over, body):
            inside = free(body, bound=bound)
            return inside if bound else inside - over
        case Fraction(numerator, denominator):
            return free(numerator, bound=bound) | free(denominator, bound=bound)


def probabilities(x: Expression) -> Iterator[Probability]:
    """Yield the probabilities in an expression."""
    match x:
        case Probability():
            yield x
        case Product(factors):
            for factor in factors:
                yield from probabilities(factor)
        case Sum(_, body):
            yield from probabilities(body)
        case Fraction(numerator, denominator):
            yield from probabilities(numerator)
            yield from probabilities(denominator)


def renamed(x: Expression, names: Mapping[str, str]) -> Expression:
    """Return an expression with other names for its free variables."""
    match x:
        case Probability():
            return Probability(*(frozenset(names.get(name, name) for name in part) for part in (x.of, x.given, x.do)))
        case Product(factors):
            return Product(tuple(renamed(factor, names) for factor in factors))
        case Sum(over, body):
            return Sum(over, renamed(body, {name: new for name, new in names.items() if name not in over}))
        case Fraction(numerator, denominator):
            return Fraction(renamed(numerator, names), renamed(denominator, names))


def product(factors: Iterable[Expression]) -> Expression:
    """Return the product of `factors`, flat; a fraction cancels if its denominator is among the other factors."""
    flat = list(chain.from_iterable(map(_factors, factors)))
    for x in flat:
        if isinstance(x, Fraction):
            rest = [y for y in flat if y is not x]
            below = _factors(x.denominator)
            if all(y in rest for y in below):  # (x / y) y = x
                for y in below:
                    rest.remove(y)
                return product([x.numerator, *rest])
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def _factors(x: Expression) -> list[Expression]:
    return list(x.factors) if isinstance(x, Product) else [x]


def _chain_rule(factors: list[Expression]) -> list[Expression]:
    """Apply P(a | b, c) P(b | c) = P(a, b | c) until it no longer applies."""
    plain = [x for x in factors if isinstance(x, Probability)]
    merged = True
    while merged:
        merged = False
        by_names = {(x.of | x.given, x.do): x for x in plain}
        for x in plain:
            y = by_names.get((x.given, x.do))
            if y is not None:
                joint = Probability(x.of | y.of, y.given, x.do)
                plain = [joint if z is x else z for z in plain if z is not y]
                merged = True
                break
    return [*plain, *(x for x in factors if not isinstance(x, Probability))]


def sum_over(over: frozenset[str], body: Expression) -> Expression:
    """Return the sum over variables that all occur in `body`, where conditionals that sum to one disappear."""
    left, before = _factors(body), []
    while left != before:
        before = left
        left = _chain_rule(left)
        for name in sorted(over):
            match [x for x in left if name in free(x)]:
                case [Probability(of, given, do) as x] if name in of:
                    smaller = [Probability(of - {name}, given, do)] if len(of) > 1 else []
                    left = [*(y for y in left if y is not x), *smaller]
                    over -= {name}
    # The sum over variables without a common factor is a product of sums.
    links = [frozenset((u, v)) for x in left for u, v in pairwise(sorted(free(x) & over))]
    sums = [Sum(part, product(x for x in left if free(x) & part)) for part in districts(sorted(over), links)]
    return product([*(x for x in left if not free(x) & over), *map(_flat, sums)])


def _flat(x: Sum) -> Sum:
    """Merge a sum whose body is a sum into one."""
    if isinstance(x.body, Sum) and not x.over & x.body.over:
        return Sum(x.over | x.body.over, x.body.body)
    return x


def fraction(numerator: Expression, denominator: Expression) -> Expression:
    """Return the ratio of the two, with common factors cancelled."""
    above, below = product(_chain_rule(_factors(numerator))), []
    for x in _chain_rule(_factors(denominator)):
        divided = _divide(above, x)
        if divided is None:
            below.append(x)
        else:
            above = divided
    return Fraction(above, product(below)) if below else above


def _divide(x: Expression, y: Expression) -> Expression | None:
    """Return `x / y` if it simplifies, else None."""
    if x == y:
        return Product()
    match x, y:
        # P(a, b | c) / P(b | c) = P(a | b, c)
        case Probability(), Probability() if (x.given, x.do) == (y.given, y.do) and y.of < x.of:
            return Probability(x.of - y.of, x.given | y.of, x.do)
        case Product(factors), _:
            for i, factor in enumerate(factors):
                divided = _divide(factor, y)
                if divided is not None:
                    return product([*factors[:i], divided, *factors[i + 1 :]])
        case Sum(over, body), _ if not over & free(y):
            divided = _divide(body, y)
            return None if divided is None else sum_over(over, divided)
    return None
