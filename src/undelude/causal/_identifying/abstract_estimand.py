"""The base of estimands of effects and of counterfactuals: notation, and the tables that evaluate them."""

import abc
from collections.abc import Callable, Mapping

from undelude.causal._expressions.expression import Expression, free, probabilities
from undelude.causal._expressions.notation import Latex, Text
from undelude.causal._expressions.tables import Joint, Table, read_tables
from undelude.causal._names import Names


class AbstractEstimand(abc.ABC):
    """An expression in the distributions of experiments, to print or to evaluate."""

    @abc.abstractmethod
    def _shown(self, notation: type[Text]) -> str:
        """Return the expression in a notation."""

    @property
    @abc.abstractmethod
    def experiments(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The variables that each experiment sets, `()` for observation, and those that its table needs an axis for."""

    @property
    @abc.abstractmethod
    def _terms(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The same of the expression alone."""

    def __str__(self) -> str:
        return self._shown(Text)

    def latex(self) -> str:
        r"""Return the expression in LaTeX, for math mode.

        >>> from undelude import identify
        >>> print(identify({"Z": (), "A": ("Z",), "O": ("A", "Z")}, "O", do="A").latex())
        \sum_{Z} P(O \mid A, Z) \, P(Z)
        """
        return self._shown(Latex)

    def _tables(self, joint: Joint, names: Names | None, sizes: Mapping[str, int]) -> dict[frozenset[str], Table]:
        """Return the tables of `joint` by the variables that each experiment sets.

        Raises:
            ValueError: as for `read_tables`; a missing table or axis.
        """
        tables = read_tables(joint, names, sizes)
        for done, needed in self._terms.items():
            if frozenset(done) not in tables:
                query = Text(needed).query([x for x in needed if x not in done], done, ())
                raise ValueError(
                    f"joint has no table of {query if done else 'the observed distribution'}, which the estimand "
                    f"needs: {self}. Give evaluate a dict, such as "
                    "{'Z': (table, ('Z', 'A', 'O')), (): (observed, ('Z', 'A', 'O'))}."
                )
            check_axes(self, needed, tables[frozenset(done)].names)
        return tables


def check_axes(estimand: AbstractEstimand, needed: Names, axes: Names) -> None:
    """Raise `ValueError` if the tables have no axis for a variable that the estimand needs."""
    if missing := [x for x in needed if x not in axes]:
        raise ValueError(f"joint has no axis for {', '.join(missing)}, which the estimand needs: {estimand}.")


def needed_tables(
    expression: Expression | None, order: tuple[str, ...], variable: Callable[[str], str]
) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the names that each experiment of an expression sets, and those that its table needs an axis for.

    Args:
        expression: None for 0.
        order: the names in the order of the answer.
        variable: the name of each symbol of the expression.
    """
    found: dict[frozenset[str], frozenset[str]] = {}
    for x in () if expression is None else probabilities(expression):
        done, names = (frozenset(map(variable, part)) for part in (x.do, free(x)))
        found[done] = found.get(done, done) | names
    return {tuple(x for x in order if x in a): tuple(x for x in order if x in b) for a, b in found.items()}
