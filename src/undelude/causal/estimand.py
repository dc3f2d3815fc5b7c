"""Estimands: expressions of an interventional distribution in the observed distribution (Section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import ArrayLike

from undelude._checks import as_numbers
from undelude.causal.derivation import Derivation
from undelude.causal.expression import Expression, Fraction, Probability, Product, Sum, free
from undelude.causal.names import Names, as_names
from undelude.causal.notation import Latex, Text, written_query


@dataclass(frozen=True, repr=False)
class Estimand:
    """An expression for `P(outcome | do, see)` in the distribution of the observed variables.

    It is valid under positivity: every event that it conditions on has a positive probability.

    Attributes:
        outcome: the variables asked.
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

    outcome: tuple[str, ...]
    do: tuple[str, ...]
    see: tuple[str, ...]
    expression: Expression
    order: tuple[str, ...]
    sizes: Mapping[str, int] = field(default_factory=dict, compare=False)
    derivation: Derivation = field(default=Derivation(), compare=False)

    @property
    def free(self) -> tuple[str, ...]:
        """Free variables of the expression that are not in the query: by the graph, their values do not matter."""
        return tuple(x for x in self.order if x in free(self.expression) - {*self.outcome, *self.do, *self.see})

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that `evaluate` needs an axis for, causes first."""
        needed = free(self.expression, bound=True) | {*self.outcome, *self.do, *self.see}
        return tuple(x for x in self.order if x in needed)

    @property
    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Return the names in order, those that come first among conditions, and those without a prime."""
        return self.order, self.do, (*self.outcome, *self.do, *self.see, *self.free)

    def __str__(self) -> str:
        return Text(*self._names).show(self.expression)

    def __repr__(self) -> str:
        return f"Estimand: {written_query(self.outcome, self.do, self.see)} = {self}"

    def latex(self) -> str:
        r"""Return the expression in LaTeX, for math mode.

        >>> from undelude import identify
        >>> print(identify({"Z": (), "A": ("Z",), "O": ("A", "Z")}, "O", do="A").latex())
        \sum_{Z} P(O \mid A, Z) \, P(Z)
        """
        return Latex(*self._names).show(self.expression)

    def _repr_latex_(self) -> str:
        """Return the query and the expression as a notebook shows them."""
        query = Latex(*self._names).query(self.outcome, self.do, self.see)
        return rf"$\displaystyle {query} = {self.latex()}$"

    def evaluate(self, joint: ArrayLike | Sequence, names: Names) -> np.ndarray:
        """Evaluate the estimand in a distribution of the observed variables.

        The names must be in the order of the axes. An estimand of `CausalModel.identify` knows how many values each
        variable has, and rejects an axis of another length. Two axes of one length that are swapped cannot be noticed.

        Args:
            joint: probabilities or counts with an axis for each of `names`; it need not be normalised.
            names: the variables of the axes, in order. Those that the estimand does not need are summed out; the
                `free` variables are averaged by their probability.

        Returns:
            Probabilities `[*outcome, *see, *do]`; nan if the estimand conditions on an event without mass.

        Raises:
            ValueError: a missing or repeated name, a set of names, axes that do not fit the names, a negative entry,
                no mass.

        >>> from undelude import identify
        >>> identify({"A": (), "O": ("A",)}, "O", do="A").evaluate([[3, 1], [1, 1]], ("A", "O")).tolist()
        [[0.75, 0.5], [0.25, 0.5]]
        """
        names = as_names(names, order="the axes of joint follow their order")
        table = np.asarray(as_numbers(joint, "joint"), float)
        if len(set(names)) < len(names):
            raise ValueError(f"names has a variable twice: {', '.join(names)}. Give each axis a name of its own.")
        if table.ndim != len(names):
            raise ValueError(
                f"joint has shape {table.shape}, {table.ndim} axes; it needs one for each of {', '.join(names)}."
            )
        for name, length in zip(names, table.shape, strict=True):
            if length != self.sizes.get(name, length):
                raise ValueError(
                    f"joint has shape {table.shape}, and its axis for {name} has length {length}, but {name} has "
                    f"{self.sizes[name]} values. Give the names in the order of the axes, not {', '.join(names)}."
                )
        axes = (*self.outcome, *self.see, *self.do)
        if missing := [x for x in self.names if x not in names]:
            raise ValueError(f"joint has no axis for {', '.join(missing)}, which the estimand needs: {self}.")
        if not np.isfinite(table).all() or (table < 0).any() or not table.sum() > 0:
            raise ValueError("joint must hold probabilities or counts: finite, none negative, not all zero.")
        tables = _Tables(table / table.sum(), names)
        value = tables.value(self.expression)
        if self.free:
            # Each value of a free variable gives the same answer, or nan.
            weight = tables.value(Probability(frozenset(self.free)))
            value, weight = np.broadcast_arrays(value, weight)
            gone = tuple(tables.axis[x] for x in self.free)
            defined = ~np.isnan(value)
            with np.errstate(invalid="ignore"):
                value = np.where(defined, value * weight, 0).sum(gone, keepdims=True) / (
                    np.where(defined, weight, 0).sum(gone, keepdims=True)
                )
        return tables.arrange(value, axes)


class _Tables:
    """Values of expressions as arrays with the axes of `joint`; an axis that does not matter has length one."""

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
                    # Zero times a conditional on an impossible event (nan) is zero.
                    value = np.where((value == 0) | (other == 0), 0, value * other)
                return value
            case Sum(over, body):
                return self.value(body).sum(tuple(self.axis[name] for name in over), keepdims=True)
            case Fraction(numerator, denominator):
                return _ratio(self.value(numerator), self.value(denominator))

    def marginal(self, names: frozenset[str]) -> np.ndarray:
        return self.joint.sum(tuple(i for name, i in self.axis.items() if name not in names), keepdims=True)

    def arrange(self, value: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        """Return `value` with exactly `axes`, in this order."""
        places = [self.axis[name] for name in axes]
        shape = [n if i in places else 1 for i, n in enumerate(self.joint.shape)]
        value = np.broadcast_to(value, shape)
        rest = [i for i in range(value.ndim) if i not in places]
        return np.array(value.transpose(*places, *rest).reshape([self.joint.shape[i] for i in places]))


def _ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(y > 0, x / y, np.nan)
