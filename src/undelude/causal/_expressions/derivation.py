"""Derivations: the steps from a query to its estimand, or to the line at which identification fails."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from undelude.causal._expressions.expression import Expression, Fraction, Probability, Sum, free
from undelude.causal._expressions.notation import Latex, Text, short_list


@dataclass(frozen=True)
class Step:
    """One step: an equation, the rule that gives it, and why the rule applies.

    Attributes:
        rule: the rule as the literature names it, such as `"ID, line 4"` or `"rule 2"`.
        query: the left side, a probability with its intervention.
        result: the right side; None for line 5 of ID, which fails.
        because: the condition of the rule, in the names of this graph.
    """

    rule: str
    query: Probability
    result: Expression | None
    because: str


@dataclass(frozen=True)
class Derivation:
    """The steps of a derivation, in the order in which they were taken.

    The numbers of lines are those of ID in Figure 3 of Shpitser & Pearl (AAAI 2006). Rules 2 and 3 are those of the
    do-calculus (Pearl 2009, Theorem 3.4.1).

    Attributes:
        steps: each equation holds in every model of the graph, so that they can be read one by one.
        order: names from causes to effects, for printing.

    >>> from undelude import identify
    >>> print(identify({"A": (), "O": ("A",)}, "O", do="A").derivation)
    P(O | do(A)) = P(O | A)
        rule 2: without the arrows out of A, no open path joins O and A
    """

    steps: tuple[Step, ...] = ()
    order: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(f"{self.equation(step)}\n    {step.rule}: {step.because}" for step in self.steps)

    def equation(self, step: Step) -> str:
        """Return the equation of a step in plain text."""
        left, right = self._sides(Text, step)
        return f"{left} = {right}" if right else left

    def latex(self) -> str:
        r"""Return the equations in LaTeX, an `aligned` environment with the name of each rule."""
        lines = []
        for step in self.steps:
            left, right = self._sides(Latex, step)
            equals = f"&= {right}" if right else "&"
            lines.append(rf"{left} {equals} && \text{{{step.rule}}}")
        body = r" \\ ".join(lines)
        return rf"\begin{{aligned}} {body} \end{{aligned}}"

    def _sides(self, kind: type[Text], step: Step) -> tuple[str, str]:
        top = free(step.query) | (free(step.result) if step.result else frozenset())
        text = kind(self.order, top=top)
        return text.show(step.query), text.show(step.result) if step.result else ""

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_derivation  # In a notebook alone: it needs matplotlib.

        return of_derivation(self)


# The condition under which each line of ID applies; {0} and {1} are sets of names.
_LINES = {
    1: "nothing is done here; the other variables are summed out",
    2: "no member of {0} is an ancestor of {1}",
    3: "doing {0} as well has no effect on {1}",
    4: "without the variables done, the c-components are {0}",
    5: "hidden causes join all of {0}, and join {1} within it: a hedge",
    6: "{0} is a c-component, and its factor is the product of the conditionals",
    7: "{0} lies in the c-component {1}, whose factor is the product of the conditionals; ID continues in it",
}


class Record:
    """The steps of a derivation as it is made.

    Args:
        order: all observed names, from causes to effects.
    """

    def __init__(self, order: Sequence[str]):
        self.order, self.steps = tuple(order), list[Step]()
        self._place = {name: i for i, name in enumerate(order)}

    def derivation(self) -> Derivation:
        """Return the steps so far."""
        return Derivation(tuple(self.steps), self.order)

    def add(self, rule: str, query: Probability, result: Expression | None, because: str) -> None:
        """Append a step, unless it only repeats its query."""
        if query != result:
            self.steps.append(Step(rule, query, result, because))

    def line(self, number: int, query: Probability, result: Expression | None, *sets: Iterable[str] | str) -> None:
        """Append a line of ID, of which `sets` are the variables that it names."""
        words = (x if isinstance(x, str) else self.braces(x) for x in sets)
        self.add(f"ID, line {number}", query, result, _LINES[number].format(*words))

    def experiments(
        self, query: Probability, result: Expression, parts: Iterable[Iterable[str]], relevant: Iterable[str]
    ) -> None:
        """Append the factors that are looked for in the experiments."""
        because = f"the c-components of {self.braces(relevant)}, the ancestors of {self.words(query.of)} there, are "
        self.add("gID, factors", query, result, because + self.each(parts))

    def rule_2(
        self,
        query: Probability,
        result: Expression,
        y: Iterable[str],
        name: Iterable[str],
        done: Iterable[str],
        given: Iterable[str],
    ) -> None:
        """Append an exchange of `do` and `see` of `name`."""
        into = f" into {self.words(done)} and" if done else ""
        condition = f" given {self.words((*done, *given))}" if done or given else ""
        cut = f"without the arrows{into} out of {self.words(name)}"
        because = f"{cut}, no open path joins {self.words(y)} and {self.words(name)}{condition}"
        self.add("rule 2", query, result, because)

    def rule_3(self, query: Probability, result: Probability, idle: Iterable[str], y: Iterable[str]) -> None:
        """Append the removal of interventions without effect."""
        self.add("rule 3", query, result, f"{self.words(idle)} has no effect on {self.words(y)}")

    def back_door(self, query: Probability, result: Sum, a: str, o: str) -> None:
        """Append an adjustment."""
        blocks = f"no effect of {a}, and blocks every path between {a} and {o} with an arrow into {a}"
        self.add("back-door adjustment", query, result, f"{self.braces(result.over)} contains {blocks}")

    def ratio(self, query: Probability, joint: Probability, evidence: Probability) -> None:
        """Append the definition of a conditional probability."""
        self.add("conditional probability", query, Fraction(joint, evidence), "by definition")

    def words(self, names: Iterable[str]) -> str:
        """Return names, causes first, the hidden ones before."""
        return ", ".join(short_list(sorted(names, key=lambda name: (self._place.get(name, -1), name))))

    def braces(self, names: Iterable[str]) -> str:
        """Return a set of names."""
        return f"{{{self.words(names)}}}"

    def each(self, sets: Iterable[Iterable[str]]) -> str:
        """Return several sets of names."""
        return ", ".join(short_list([self.braces(names) for names in sets]))
