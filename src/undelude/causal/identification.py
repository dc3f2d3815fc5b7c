"""Identification of interventional distributions by the ID and IDC algorithms (Section 3).

Shpitser & Pearl, "Identification of joint interventional distributions in recursive semi-Markovian causal models"
(AAAI 2006) and "Identification of conditional interventional distributions" (UAI 2006); both are complete.
"""

from undelude.causal.adjustment import back_door
from undelude.causal.derivation import Record
from undelude.causal.estimand import Estimand
from undelude.causal.expression import Expression, Probability, Product, Sum, fraction, sum_over
from undelude.causal.graph import (
    ancestors,
    d_separated,
    latent_projection,
    mutilate,
    topological_order,
    without_arrows_from,
)
from undelude.causal.hedge import NotIdentifiable, explanation, find_hedge
from undelude.causal.id_algorithm import Distribution, Failure, identify_effect
from undelude.causal.names import AnyGraph, Graph, Names, as_graph, as_names, check_names

# Clause of a message.
_ORDER = "the axes of `Estimand.evaluate` follow the order of outcome, see and do"


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

    >>> answer = identify({"Z": (), "A": ("Z",), "O": ("A", "Z")}, "O", do="A")
    >>> print(answer)
    sum_Z P(O | A, Z) P(Z)
    >>> print(answer.derivation)
    P(O | do(A)) = sum_Z P(O | A, Z) P(Z)
        back-door adjustment: {Z} contains no effect of A, and blocks every path between A and O with an arrow into A
    """
    graph = as_graph(graph)
    outcome, do, see = (as_names(names, order=_ORDER) for names in (outcome, do, see))
    asked, done, seen, hidden = check_names(graph, {"asked": outcome, "done": do, "seen": see, "latent": latent})
    if not asked:
        raise ValueError("nothing is asked; name at least one outcome.")
    order = tuple(name for name in topological_order(graph) if name not in hidden)
    record = Record(order)
    try:
        expression = express(graph, frozenset(asked), frozenset(done), frozenset(seen), hidden, record)
    except Failure as failure:
        hedge = find_hedge(graph, hidden, failure)
        raise NotIdentifiable(explanation(hedge, asked, done, seen, order), hedge, record.derivation()) from None
    return Estimand(asked, done, seen, expression, order, derivation=record.derivation())


def express(
    graph: Graph, y: frozenset[str], x: frozenset[str], z: frozenset[str], hidden: tuple[str, ...], record: Record
) -> Expression:
    """Return `P(y | do(x), z)` in the observed distribution, and append the steps to `record`.

    Raises:
        Failure: no such expression exists.
    """
    x, z = _exchange(graph, y, x, z, record)
    expression = _adjustment(graph, y, x, z, hidden, record)
    if expression is not None:
        return expression
    directed, bidirected = latent_projection(graph, hidden)
    distribution = Distribution(record.order, directed, bidirected, record)
    if not z:
        return identify_effect(y, x, distribution)
    joint, evidence = Probability(y | z, do=x), Probability(z, do=x)
    record.ratio(Probability(y, z, x), joint, evidence)
    expression = identify_effect(y | z, x, distribution)
    return fraction(expression, sum_over(y, expression))


def _exchange(
    graph: Graph, y: frozenset[str], x: frozenset[str], z: frozenset[str], record: Record
) -> tuple[frozenset[str], frozenset[str]]:
    """Move variables from `see` to `do` while rule 2 of the do-calculus permits it (first line of IDC)."""
    for name in sorted(z):
        cut = without_arrows_from(mutilate(graph, x), (name,))
        if d_separated(cut, y, (name,), given=x | z - {name}):
            more, fewer = x | {name}, z - {name}
            record.rule_2(Probability(y, z, x), Probability(y, fewer, more), y, {name}, x, fewer)
            return _exchange(graph, y, more, fewer, record)
    return x, z


def _adjustment(
    graph: Graph, y: frozenset[str], x: frozenset[str], z: frozenset[str], hidden: tuple[str, ...], record: Record
) -> Expression | None:
    """Return the estimand by conditioning or by the smallest back-door set, or None if neither serves.

    ID would identify these effects too, by expressions with more variables.
    """
    relevant = x & ancestors(mutilate(graph, x), y | z)
    query, answer = Probability(y, z, relevant), None
    if d_separated(without_arrows_from(graph, relevant), y, relevant, given=z):
        answer = Probability(y, relevant | z)
    elif not z and len(y) == len(relevant) == 1:
        sets = back_door(graph, *relevant, *y, latent=hidden, limit=64)
        if sets:
            answer = Sum(sets[0], Product((Probability(y, relevant | sets[0]), Probability(sets[0]))))
    if answer is None:
        return None
    record.rule_3(Probability(y, z, x), query, x - relevant, y | z)
    if isinstance(answer, Probability):
        record.rule_2(query, answer, y, relevant, frozenset(), z)
    else:
        record.back_door(query, answer, *relevant, *y)
    return answer
