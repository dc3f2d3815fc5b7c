"""Identification of counterfactuals from experiments: ID* and IDC* (Shpitser & Pearl, JMLR 2008), and from given ones.

The probability of a conjunction is a sum of products of factors, one for each set of nodes of the counterfactual graph
that hidden causes connect. A factor is the distribution of an experiment if one world shows all its values; otherwise
no experiment determines it, for variables with any number of values. A condition cancels the factors that it shares
with the conjunction (Correa, Lee & Bareinboim, NeurIPS 2021, whose algorithms also cover given experiments).
"""

import operator
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from undelude.causal._expressions.derivation import Record
from undelude.causal._expressions.expression import (
    Expression,
    Probability,
    fraction,
    free,
    product,
    renamed,
    sum_over,
)
from undelude.causal._expressions.notation import Text
from undelude.causal._expressions.tables import Evaluation, Joint
from undelude.causal._graphs.graph import latent_projection, topological_order
from undelude.causal._identifying.abstract_estimand import AbstractEstimand, needed_tables
from undelude.causal._identifying.counterfactual_graph import (
    CounterfactualGraph,
    Event,
    Factor,
    Term,
    Value,
    conflicts,
    groups,
)
from undelude.causal._identifying.experiments import Experiment, NoExperiment
from undelude.causal._identifying.hedge import Conflict, NotIdentifiable
from undelude.causal._identifying.id_algorithm import Failure
from undelude.causal._identifying.identification import as_experiments, express, refusal
from undelude.causal._identifying.question import Question
from undelude.causal._names import AnyGraph, Names, Parents, as_graph, as_latent, check_names, listed
from undelude.causal._variables.answer import Answer
from undelude.causal._variables.soft import Values

# The values in one world, or those in several, each with its intervention.
Events = Values | Iterable[tuple[Values, Values]]


@dataclass(frozen=True, repr=False)
class CounterfactualEstimand(AbstractEstimand):
    """The probability of a counterfactual as an expression in distributions of experiments.

    Attributes:
        query: the counterfactual, as text.
        expression: sums, products and fractions of probabilities of symbols; None if the probability is 0 in any model.
        symbols: the symbols: `"A=1"` stands for one value of a variable, others for one that is summed over.
        fixed: the values of symbols that stand for one.
        order: the symbols, causes first.
    """

    query: str
    expression: Expression | None
    symbols: Mapping[str, str]
    fixed: Mapping[str, Hashable]
    order: tuple[str, ...]

    def _shown(self, notation: type[Text]) -> str:
        if self.expression is None:
            return "0"
        return notation(self.order, top=free(self.expression)).show(self.expression)

    def __repr__(self) -> str:
        return f"CounterfactualEstimand: {self.query} = {self}"

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle {self.latex()}$"

    @property
    def experiments(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The variables that each experiment sets, `()` for observation, and those that its table needs an axis for."""
        return self._terms

    @property
    def _terms(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        variables = tuple(dict.fromkeys(self.symbols[symbol] for symbol in self.order))
        return needed_tables(self.expression, variables, self.symbols.__getitem__)

    def evaluate(
        self, joint: Joint, names: Names | None = None, *, values: Mapping[str, Sequence[Hashable]] | None = None
    ) -> float:
        """Return the probability; nan if the expression conditions on an event without mass.

        Args:
            joint: a dict of `(table, names)` by the variables that the experiment sets, as for `Estimand.evaluate`; or
                one table of the observed distribution.
            names: the variables of the axes of one table.
            values: the values of variables, in the order of their axes; by default those of the answers of queries that
                are tables, and otherwise places, from 0.

        Raises:
            ValueError: as for `Estimand.evaluate`; a value that a variable does not have.
        """
        if self.expression is None:
            return 0.0
        tables = self._tables(joint, names, {})
        sizes = {x: n for table in tables.values() for x, n in zip(table.names, table.values.shape, strict=True)}
        known = _values_of(joint) | {**(values or {})}
        places = {x: _place(self.symbols[x], value, sizes, known) for x, value in self.fixed.items()}
        evaluation = Evaluation(tables, self.symbols, places)
        value = evaluation.value(self.expression)
        if loose := free(self.expression) - self.fixed.keys():
            value = evaluation.average(value, loose)
        return float(evaluation.arrange(value, ()))


def _values_of(joint: Joint) -> dict[str, Sequence[Hashable]]:
    """Return the values of the variables of those tables that are answers of queries."""
    entries = list(joint.values()) if isinstance(joint, Mapping) else [joint]
    tables = [x[0] if isinstance(x, tuple) else x for x in entries]
    return {name: values for x in tables if isinstance(x, Answer) for name, values in x.values_of.items()}


def _place(name: str, value: Hashable, sizes: Mapping[str, int], values: Mapping[str, Sequence[Hashable]]) -> int:
    """Return the place of a value on the axis of its variable."""
    known = list(values.get(name, range(sizes[name])))
    if len(known) != sizes[name]:
        raise ValueError(f"{name} has an axis of length {sizes[name]}, but the {len(known)} values {listed(known)}.")
    if value not in known:
        raise ValueError(f"{name} has no value {value!r:.99}; it has {listed(known)}. Give values={{{name!r}: ...}}.")
    return operator.index(known.index(value))


def identify_counterfactual(
    graph: AnyGraph,
    events: Events,
    *,
    do: Values | None = None,
    given: Events | None = None,
    given_do: Values | None = None,
    latent: Names = (),
    experiments: Iterable[Names] | Literal["all"] = "all",
) -> CounterfactualEstimand:
    """Express `P(events under do | given, given_do)` in the distributions of experiments, by ID* and IDC*.

    The answer is exact under positivity, in every model of the graph. A refusal says that no expression serves for
    variables with any number of values. (For a binary cause, some differences of probabilities serve all the same.)

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        events: the values asked about, by name, in the world in which `do` is done; or a list of `(values, do)`, one
            for each world.
        do: values set by intervention in the world asked about, by name.
        given: values seen, in the world in which `given_do` is done; or a list of `(values, do)`.
        given_do: values set by intervention in the world that was seen, by name.
        latent: the variables that cannot be observed, besides those of a `ud.Graph`.
        experiments: `"all"` if any set of variables may be set by an experiment; otherwise the sets that experiments
            set, `()` for observation, as in `identify`.

    Raises:
        ValueError: an unknown name, nothing asked, evidence that no model allows.
        TypeError: not a graph, values that are not a dict, experiments that are neither `"all"` nor sets.
        NotIdentifiable: no such expression exists; the witness is `conflict`, or `thicket` or `hedge` if an experiment
            is missing.

    >>> frontdoor = {"U": (), "A": ("U",), "M": ("A",), "O": ("M", "U")}
    >>> print(identify_counterfactual(frontdoor, {"O": 1}, do={"A": 0}, given={"A": 1}, latent="U"))
    [sum_M P(A=1, O=1 | do(M)) P(M | do(A=0))] / P(A=1)
    """
    latent, graph = as_latent(graph, latent), as_graph(graph)
    (hidden,) = check_names(graph, {"latent": latent})
    if experiments is None or (isinstance(experiments, str) and experiments != "all"):
        raise TypeError(
            f"experiments must be \"all\", or a list with the variables of each experiment, such as ['Z', ()], not "
            f"{experiments!r:.99}; [()] is observation alone."
        )
    known = None if isinstance(experiments, str) else as_experiments(graph, hidden, experiments)
    claim, evidence = _events(graph, hidden, "events", events, do), _events(graph, hidden, "given", given, given_do)
    if not claim:
        raise ValueError("nothing is asked; name the value of at least one variable.")
    order = [name for name in topological_order(graph) if name not in hidden]
    found = CounterfactualGraph(order, *latent_projection(graph, hidden))
    query = _written(claim, evidence)
    below, above = found.factors(evidence), found.factors([*claim, *evidence])
    if below is None:
        raise ValueError(f"impossible evidence: no model allows {_written(evidence, ())[2:-1]} at once.")
    writer = _Writer(graph, hidden, found, known, query)
    expression = None if above is None else writer.ratio(above, below)
    symbols = {} if expression is None else {x: writer.variables[x] for x in free(expression, bound=True)}
    place = {name: i for i, name in enumerate(order)}
    ordered = sorted(symbols, key=lambda x: (place[symbols[x]], x))
    fixed = {x: value for x, value in writer.fixed.items() if x in symbols}
    return CounterfactualEstimand(query, expression, symbols, fixed, tuple(ordered))


def _events(
    graph: Parents, hidden: tuple[str, ...], role: str, worlds: Events | None, do: Values | None
) -> list[Event]:
    """Return the events of some worlds, checked."""
    pairs: list[Any]
    if worlds is None or isinstance(worlds, Mapping):
        pairs = [({} if worlds is None else worlds, {} if do is None else do)]
    elif do is not None:
        raise ValueError(f"{role} lists several worlds, each with its intervention: leave the other one out.")
    else:
        pairs = list(worlds) if isinstance(worlds, Iterable) and not isinstance(worlds, str) else [worlds]
    found = []
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(part, Mapping) for part in pair):
            raise TypeError(
                f"{role} must be a dict of values by name, such as {{'O': 1}}, or a list of (values, do), one for each "
                f"world, not {worlds!r:.99}."
            )
        values, done = pair
        check_names(graph, {"latent": hidden, "asked" if role == "events" else role: tuple(values)})
        check_names(graph, {"latent": hidden, "done": tuple(done)})
        for value in (*values.values(), *done.values()):
            if not isinstance(value, Hashable):
                raise TypeError(f"{role}: a value must be hashable, such as a number or a string, not {value!r:.99}.")
        world = tuple((name, done[name]) for name in graph if name in done)
        found += [Event(name, value, world) for name, value in values.items()]
    return found


def _written(claim: Iterable[Event], evidence: Iterable[Event]) -> str:
    """Return the text of a query."""

    def text(events: Iterable[Event]) -> str:
        worlds: dict[tuple, list[str]] = {}
        for event in events:
            worlds.setdefault(event.do, []).append(f"{event.name}={event.value}")
        under = ((", ".join(seen), ", ".join(f"do({x}={value})" for x, value in do)) for do, seen in worlds.items())
        return ", ".join(f"{seen} under {do}" if do else seen for seen, do in under)

    known = text(evidence)
    return f"P({text(claim)} | {known})" if known else f"P({text(claim)})"


class _Writer:
    """Factors as expressions in the distributions of experiments.

    Attributes:
        variables: the variable of each symbol.
        fixed: the values of symbols that stand for one.
    """

    def __init__(
        self,
        graph: Parents,
        hidden: tuple[str, ...],
        found: CounterfactualGraph,
        known: tuple[Experiment, ...] | None,
        query: str,
    ):
        self.graph, self.hidden, self.found, self.known, self.query = graph, hidden, found, known, query
        self.variables: dict[str, str] = {name: name for name in found.order}
        self.fixed: dict[str, Hashable] = {}
        self._symbols: dict[tuple[str, Term], str] = {}

    def ratio(self, above: frozenset[Factor], below: frozenset[Factor]) -> Expression:
        """Return the ratio of two sums of products; common groups of factors cancel."""
        whole = conflicts(above), conflicts(below)
        if self.known is None and not any(whole):
            joint, condition = self._one_world(above), self._one_world(below)
            if joint.of and joint.do == condition.do:
                return fraction(joint, condition) if condition.of else joint
        upper, lower = set(groups(above)), set(groups(below))
        left, right = (frozenset().union(*x) for x in (upper - lower, lower - upper))
        return fraction(self._expression(left), self._expression(right))

    def _expression(self, factors: frozenset[Factor]) -> Expression:
        """Return the sum of products of the factors."""
        if not factors:
            return product(())
        if not conflicts(factors):
            return self._known(self._one_world(factors))
        parts = list(groups(factors))
        if len(parts) > 1:
            return product(map(self._expression, sorted(parts, key=self._key)))
        ordered = sorted(factors, key=lambda factor: self._key((factor,)))
        for factor in ordered:
            if found := conflicts((factor,)):
                raise self._refusal(factor, found)
        over = frozenset(self._symbol(self.found.names[x], x) for factor in factors for x in factor.symbols)
        return sum_over(over, product(self._known(self._one_world((factor,), summed=True)) for factor in ordered))

    def _key(self, factors: Iterable[Factor]) -> list[int]:
        return sorted(node for factor in factors for node, _ in factor.nodes)

    def _one_world(self, factors: Collection[Factor], *, summed: bool = False) -> Probability:
        """Return the joint distribution of the nodes of factors without a conflict, in the one world that shows them.

        Nodes without a value of their own are summed out, unless `summed` says that a sum is around.
        """
        own = {name: term for factor in factors for name, term in factor.own}
        parents = {name: term for factor in factors for name, term in factor.parents if name not in own}
        of = (self._symbol(name, term) for name, term in own.items() if summed or isinstance(term, Value))
        return Probability(frozenset(of), do=frozenset(self._symbol(name, term) for name, term in parents.items()))

    def _symbol(self, name: str, term: Term) -> str:
        if (name, term) not in self._symbols:
            symbol = f"{name}={term.value}" if isinstance(term, Value) else name
            while symbol in self._symbols.values():
                symbol += "'"
            self._symbols[name, term], self.variables[symbol] = symbol, name
            if isinstance(term, Value):
                self.fixed[symbol] = term.value
        return self._symbols[name, term]

    def _known(self, x: Probability) -> Expression:
        """Return the distribution of an experiment in those that are known."""
        if not x.of:
            return product(())
        if self.known is None:
            return x
        symbols = {self.variables[symbol]: symbol for symbol in free(x)}
        y, done = (frozenset(self.variables[symbol] for symbol in part) for part in (x.of, x.do))
        record = Record(self.found.order)
        try:
            expression = express(self.graph, y, done, frozenset(), self.hidden, record, self.known)
        except (Failure, NoExperiment) as failure:
            order = self.found.order
            asked, set_to = (tuple(name for name in order if name in part) for part in (y, done))
            question = Question(self.graph, asked, set_to, (), self.hidden)
            raise refusal(failure, question, record, about=self.query) from None
        return renamed(expression, symbols)

    def _refusal(self, factor: Factor, found: Mapping[str, set[Term]]) -> NotIdentifiable:
        name = next(name for name in self.found.order if name in found)
        values = tuple(sorted(str(term.value) if isinstance(term, Value) else "any value" for term in found[name]))
        nodes = sorted(factor.nodes, key=lambda x: x[0])
        conflict = Conflict(tuple(self._written(node, term) for node, term in nodes), name, values)
        return NotIdentifiable(
            f"{self.query} cannot be computed from the distributions of any experiments. It requires "
            f"P({', '.join(conflict.component)}), where {name} has two values at once ({' and '.join(values)}); hidden "
            "causes or the same noise join these variables, and no experiment shows them together. Write the "
            "mechanisms as a model, and ask its counterfactual.",
            None,
            conflict=conflict,
        )

    def _written(self, node: int, term: Term) -> str:
        name = self.found.names[node]
        value = f"{name}={term.value}" if isinstance(term, Value) else name
        place = {name: i for i, name in enumerate(self.found.order)}
        parents = sorted(self.found.parents[node], key=lambda x: place[x[0]])
        done = ", ".join(f"do({p}={x.value})" if isinstance(x, Value) else f"do({p})" for p, x in parents)
        return f"{value} under {done}" if done else value
