"""Tables of probabilities, observed or of experiments, and the values of expressions in them."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import ArrayLike

from undelude._checks import as_numbers
from undelude.causal._expressions.expression import Expression, Fraction, Probability, Product, Sum
from undelude.causal._names import Names, as_names, listed
from undelude.causal._variables.answer import Answer

# A table and the variables of its axes, by the variables that the experiment sets.
Joint = ArrayLike | Answer | Sequence | Mapping[Names, Answer | tuple[ArrayLike | Answer | Sequence, Names]]


@dataclass(frozen=True)
class Table:
    """The distribution of an experiment: it sums to one over the axes of the variables that were not set.

    Attributes:
        values: probabilities with an axis for each name; nan at values that no experiment set.
        names: the variables of the axes.
        labels: the values of each axis; empty if they are not known.
    """

    values: np.ndarray
    names: tuple[str, ...]
    labels: tuple[tuple[Hashable, ...], ...] = ()


def read_tables(joint: Joint, names: Names | None, sizes: Mapping[str, int]) -> dict[frozenset[str], Table]:
    """Return the tables by the variables set, after checking them.

    Args:
        joint: a table of the observed distribution, or a table and its names for each experiment.
        names: the variables of the axes, if `joint` is one table.
        sizes: the number of values of variables, as far as it is known.

    Raises:
        ValueError: a missing or repeated name, a set of names, axes that do not fit, a negative entry, no mass;
            answers that disagree about the values of a variable.
    """
    if not isinstance(joint, Mapping):
        if names is None and isinstance(joint, Answer):
            names = joint.names
        if names is None:
            raise ValueError("names is missing: name the variable of each axis of joint, in order.")
        return {frozenset(): _read(joint, names, frozenset(), sizes)}
    if names is not None:
        raise ValueError("joint holds a table and its names for each experiment: leave names out.")
    found: dict[frozenset[str], Table] = {}
    known, labels = dict(sizes), dict[str, tuple[Hashable, ...]]()
    for key, entry in joint.items():
        done = frozenset(as_names(key))
        if isinstance(entry, Answer):
            entry = entry, entry.names
        if not isinstance(entry, tuple) or len(entry) != 2:
            raise ValueError(f"{_title(done)} must be a table and its names: {{'Z': (table, ('Z', 'A', 'O'))}}.")
        if done in found:
            raise ValueError(f"{_title(done)} is given twice; add their counts, or leave one out.")
        if isinstance(entry[0], Answer):
            _check_labels(entry[0], done, labels)
        found[done] = _read(*entry, done, known)
        known |= dict(zip(found[done].names, found[done].values.shape, strict=True))
    return found


def labels_of(tables: Iterable[Table]) -> dict[str, tuple[Hashable, ...]]:
    """Return the values of the variables that some table knows."""
    known = [zip(table.names, table.labels, strict=True) for table in tables if table.labels]
    return dict(chain.from_iterable(known))


def _check_labels(answer: Answer, done: frozenset[str], labels: dict[str, tuple[Hashable, ...]]) -> None:
    """Add the values of an answer to those of other tables; raise `ValueError` if they disagree."""
    for name, values in zip(answer.names, answer.values, strict=True):
        if labels.setdefault(name, values) != values:
            raise ValueError(
                f"{_title(done)} has the values {listed(values)} of {name}, and another table has "
                f"{listed(labels[name])}: give them in one order, such as by values= of frequencies."
            )


def _title(done: Iterable[str]) -> str:
    return f"joint of {', '.join(f'do({name})' for name in sorted(done))}" if done else "joint"


def _read(joint: ArrayLike | Answer | Sequence, names: Names, done: frozenset[str], sizes: Mapping[str, int]) -> Table:
    names = as_names(names, order="the axes of joint follow their order")
    title = _title(done)
    if isinstance(joint, Answer) and joint.names != names:
        raise ValueError(f"{title} has the axes {', '.join(joint.names)}, not {', '.join(names)}: leave names out.")
    if hasattr(joint, "iloc"):  # Its rows are cases, and the axes of a cross table have names of their own.
        raise ValueError(
            f"{title} is a data frame: pass ud.causal.frequencies(data), or table.to_numpy() of a cross table."
        )
    table = np.asarray(as_numbers(joint, title), float)
    if len(set(names)) < len(names):
        raise ValueError(f"names has a variable twice: {', '.join(names)}. Give each axis a name of its own.")
    if table.ndim != len(names):
        raise ValueError(
            f"{title} has shape {table.shape}, {table.ndim} axes; it needs one for each of {', '.join(names)}."
        )
    for name, length in zip(names, table.shape, strict=True):
        if length != sizes.get(name, length):
            raise ValueError(
                f"{title} has shape {table.shape}, and its axis for {name} has length {length}, but {name} has "
                f"{sizes[name]} values. Give the names in the order of the axes, not {', '.join(names)}."
            )
    if missing := sorted(done - set(names)):
        raise ValueError(f"{title} has no axis for {listed(missing)}, which the experiment sets.")
    if not np.isfinite(table).all() or (table < 0).any() or not table.sum() > 0:
        raise ValueError(f"{title} must hold probabilities or counts: finite, none negative, not all zero.")
    drawn = tuple(i for i, name in enumerate(names) if name not in done)
    return Table(
        ratio(table, table.sum(drawn, keepdims=True)), names, joint.values if isinstance(joint, Answer) else ()
    )


class Evaluation:
    """Values of expressions as arrays with an axis for each symbol; an axis that does not matter has length one.

    Args:
        tables: the tables by the variables set.
        variables: the variable that each symbol of the expressions stands for; by default itself.
        fixed: the places of the values of symbols that have one value, and so no axis.
    """

    def __init__(
        self,
        tables: Mapping[frozenset[str], Table],
        variables: Mapping[str, str] | None = None,
        fixed: Mapping[str, int] | None = None,
    ):
        self.tables, self.fixed = tables, fixed or {}
        size_of: dict[str, int] = {}
        for table in tables.values():
            size_of |= dict(zip(table.names, table.values.shape, strict=True))
        self.variables = {name: name for name in size_of} if variables is None else variables
        self.sizes = {x: size_of[name] for x, name in self.variables.items() if x not in self.fixed}
        self.axis = {x: i for i, x in enumerate(self.sizes)}

    def value(self, x: Expression) -> np.ndarray:
        """Return the value of an expression."""
        match x:
            case Probability():
                return self._probability(x)
            case Product(factors):
                value = np.ones((1,) * len(self.axis))
                for factor in factors:
                    other = self.value(factor)
                    # Zero times a conditional on an impossible event (nan) is zero.
                    value = np.where((value == 0) | (other == 0), 0, value * other)
                return value
            case Sum(over, body):
                return self.value(body).sum(self._axes(over), keepdims=True)
            case Fraction(numerator, denominator):
                return ratio(self.value(numerator), self.value(denominator))

    def arrange(self, value: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return `value` with exactly the axes `names`, in this order."""
        places = [self.axis[name] for name in names]
        shape = [n if i in places else 1 for i, n in enumerate(self.sizes.values())]
        value = np.broadcast_to(value, shape)
        rest = [i for i in range(value.ndim) if i not in places]
        return np.array(value.transpose(*places, *rest).reshape([self.sizes[name] for name in names]))

    def average(self, value: np.ndarray, names: frozenset[str]) -> np.ndarray:
        """Average the defined values over `names`, by their observed probability, or evenly without it."""
        observed = self.tables.get(frozenset())
        if observed is not None and names <= set(observed.names):
            weight = self.value(Probability(names))
        else:
            weight = np.ones([size if name in names else 1 for name, size in self.sizes.items()])
        value, weight = np.broadcast_arrays(value, weight)
        gone, defined = self._axes(names), ~np.isnan(value)
        total = np.where(defined, weight, 0).sum(gone, keepdims=True)
        with np.errstate(invalid="ignore"):
            return np.where(defined, value * weight, 0).sum(gone, keepdims=True) / total

    def _axes(self, names: Iterable[str]) -> tuple[int, ...]:
        return tuple(self.axis[name] for name in names)

    def _probability(self, x: Probability) -> np.ndarray:
        table = self.tables[frozenset(self.variables[symbol] for symbol in x.do)]
        symbols = {self.variables[symbol]: symbol for symbol in x.of | x.given | x.do}
        value = table.values.sum(tuple(i for i, name in enumerate(table.names) if name not in symbols))
        kept = [symbols[name] for name in table.names if name in symbols]
        if x.given:
            value = ratio(value, value.sum(tuple(i for i, symbol in enumerate(kept) if symbol in x.of), keepdims=True))
        value = value[tuple(self.fixed.get(symbol, slice(None)) for symbol in kept)]
        kept = [symbol for symbol in kept if symbol not in self.fixed]
        value = value.transpose(np.argsort([self.axis[symbol] for symbol in kept]))
        return value.reshape([size if symbol in kept else 1 for symbol, size in self.sizes.items()])


def ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return `x / y`, nan where `y` is not positive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(y > 0, x / y, np.nan)
