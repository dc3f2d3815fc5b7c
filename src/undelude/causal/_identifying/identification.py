"""Identification of interventional distributions by the ID and IDC algorithms (Section 3).

Shpitser & Pearl, "Identification of joint interventional distributions in recursive semi-Markovian causal models"
(AAAI 2006) and "Identification of conditional interventional distributions" (UAI 2006); both are complete.
"""

from collections.abc import Iterable
from typing import NamedTuple

from undelude.causal._expressions.derivation import Record
from undelude.causal._expressions.expression import Expression, Probability, Product, Sum, fraction, free, sum_over
from undelude.causal._expressions.notation import short_list
from undelude.causal._graphs.adjustment import back_door, without_private_causes
from undelude.causal._graphs.graph import (
    ancestors,
    d_separated,
    latent_projection,
    mutilate,
    without_arrows_from,
)
from undelude.causal._identifying.estimand import Estimand
from undelude.causal._identifying.experiments import OBSERVATION, Experiment, NoExperiment, combine
from undelude.causal._identifying.hedge import (
    NotIdentifiable,
    explanation,
    find_hedge,
    find_thicket,
    thicket_explanation,
)
from undelude.causal._identifying.id_algorithm import Distribution, Failure, identify_effect
from undelude.causal._identifying.question import Question
from undelude.causal._names import AnyGraph, Names, Parents, check_names

# Variables of a graph for which a refusal says what would help.
MAX_TRIED = 20


def identify(
    graph: AnyGraph,
    asked: Names,
    *,
    do: Names = (),
    see: Names = (),
    latent: Names = (),
    experiments: Iterable[Names] | None = None,
) -> Estimand:
    """Express `P(asked | do, see)` in the distribution of the observed variables, by ID and IDC.

    The expression is exact under positivity: every value of an observed variable has a positive probability, given any
    values of its causes. With `experiments`, the expression is in the distributions of these (gID).

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        asked: the variables asked, a name or several; not a set, as their order is that of the axes of an evaluation.
        do: the variables intervened on, likewise.
        see: the variables conditioned on, after the intervention, likewise.
        latent: the variables that cannot be observed, besides those of a `ud.Graph`; all others can.
        experiments: the sets of variables that experiments set to all their values, while all others were observed;
            `()` stands for observation without an experiment. By default, observation alone.

    Returns:
        The expression, to print or to evaluate.

    Raises:
        ValueError: an unknown name, a name in two roles, a set where order matters, nothing asked, a cycle.
        TypeError: not a graph.
        NotIdentifiable: no such expression exists; `hedge` is the witness, with several experiments `thicket`.

    >>> answer = identify({"Z": (), "A": ("Z",), "O": ("A", "Z")}, "O", do="A")
    >>> print(answer)
    sum_Z P(O | A, Z) P(Z)
    >>> print(answer.derivation)
    P(O | do(A)) = sum_Z P(O | A, Z) P(Z)
        back-door adjustment: {Z} contains no effect of A, and blocks every path between A and O with an arrow into A
    >>> surrogate = {"U": (), "V": (), "Z": ("U", "V"), "A": ("Z", "U"), "O": ("A", "V")}
    >>> print(identify(surrogate, "O", do="A", latent=("U", "V"), experiments=["Z"]))
    P(O | do(Z), A)
    """
    question = Question.read(graph, asked, do=do, see=see, latent=latent)
    known, record = as_experiments(question.graph, question.latent, experiments), question.record()
    try:
        return _estimand(question, known, record)
    except (Failure, NoExperiment) as failure:
        raise refusal(failure, question, record, more=_sufficient(question)) from None


def attempt(question: Question, experiments: tuple[Experiment, ...] = (OBSERVATION,)) -> Estimand | None:
    """Return the estimand of a question, or None if there is none."""
    try:
        return _estimand(question, experiments, question.record())
    except (Failure, NoExperiment):
        return None


def refusal(
    failure: Failure | NoExperiment, question: Question, record: Record, *, about: str = "", more: str = ""
) -> NotIdentifiable:
    """Return the error of a question that is not identifiable, with its witness.

    Args:
        failure: the place at which identification failed.
        question: what was asked.
        record: the steps so far.
        about: the counterfactual that requires the question, if it is not asked itself.
        more: a sentence that ends the message.
    """
    before = f"{about} requires another effect. " if about else ""
    query = question.asked, question.do, question.see
    if isinstance(failure, Failure):
        hedge = find_hedge(question.graph, question.latent, failure)
        message = explanation(hedge, *query, record.order)
        return NotIdentifiable(before + message + more, hedge, record.derivation())
    thicket = find_thicket(question.graph, question.latent, failure)
    message = thicket_explanation(thicket, *query, record.order)
    hedge = dict(thicket.hedges).get(OBSERVATION)
    return NotIdentifiable(before + message + more, hedge, record.derivation(), thicket)


def _estimand(question: Question, experiments: tuple[Experiment, ...], record: Record) -> Estimand:
    """Return the estimand of a question, and append the steps to `record`.

    Raises:
        Failure, NoExperiment: there is none.
    """
    y, x, z = map(frozenset, (question.asked, question.do, question.see))
    expression = express(question.graph, y, x, z, question.latent, record, experiments)
    return Estimand(question.asked, question.do, question.see, expression, record.order, derivation=record.derivation())


def _sufficient(question: Question) -> str:
    """Return a sentence with the hidden variables each of which would suffice, if there are such and few to try."""
    graph, shared = without_private_causes(question.graph, question.latent)
    if len(graph) > MAX_TRIED:
        return ""
    causes = ancestors(question.graph, (*question.asked, *question.see))
    found = [u for u in shared if u in causes and attempt(question.observing((u,)))]
    return f" Observing {' or '.join(short_list(found))} alone would identify it." if found else ""


def as_experiments(
    graph: Parents, hidden: tuple[str, ...], experiments: Iterable[Names] | None
) -> tuple[Experiment, ...]:
    """Return the sets of variables that experiments set, without repetition."""
    if experiments is None:
        return (OBSERVATION,)
    if isinstance(experiments, str) or not isinstance(experiments, Iterable):
        raise TypeError(
            f"experiments must be a list with the variables of each experiment, such as ['Z', ('Z', 'A'), ()], not "
            f"{experiments!r:.99}."
        )
    found = [frozenset(check_names(graph, {"latent": hidden, "set": names})[1]) for names in experiments]
    if not found:
        raise ValueError("experiments is empty: [()] is observation alone.")
    return tuple(dict.fromkeys(found))


def express(
    graph: Parents,
    y: frozenset[str],
    x: frozenset[str],
    z: frozenset[str],
    hidden: tuple[str, ...],
    record: Record,
    experiments: tuple[Experiment, ...] = (OBSERVATION,),
) -> Expression:
    """Return `P(y | do(x), z)` in the distributions of the experiments, and append the steps to `record`.

    Raises:
        Failure: no such expression in the observed distribution exists.
        NoExperiment: no such expression in several distributions exists.
    """
    x, z = _exchange(graph, y, x, z, record)
    attempts = (_adjustment(graph, y, x, z, hidden, experiment) for experiment in experiments)
    found = [attempt for attempt in attempts if attempt is not None]
    if found:
        adjustment = min(found, key=lambda adjustment: len(free(adjustment.answer, bound=True)))
        adjustment.tell(record, Probability(y, z, x))
        return adjustment.answer
    directed, bidirected = latent_projection(graph, hidden)
    if z:
        record.ratio(Probability(y, z, x), Probability(y | z, do=x), Probability(z, do=x))
    if experiments == (OBSERVATION,):
        joint = identify_effect(y | z, x, Distribution(record.order, directed, bidirected, record))
    else:
        joint = combine(directed, bidirected, y | z, x, experiments, record)
    return fraction(joint, sum_over(y, joint)) if z else joint


def _exchange(
    graph: Parents, y: frozenset[str], x: frozenset[str], z: frozenset[str], record: Record
) -> tuple[frozenset[str], frozenset[str]]:
    """Move variables from `see` to `do` while rule 2 of the do-calculus permits it (first line of IDC)."""
    for name in sorted(z):
        cut = without_arrows_from(mutilate(graph, x), (name,))
        if d_separated(cut, y, (name,), see=x | z - {name}):
            more, fewer = x | {name}, z - {name}
            record.rule_2(Probability(y, z, x), Probability(y, fewer, more), y, {name}, x, fewer)
            return _exchange(graph, y, more, fewer, record)
    return x, z


class _Adjustment(NamedTuple):
    """An answer by conditioning or by a back-door set, in one experiment.

    Attributes:
        query: the query, with the interventions that matter and those of the experiment.
        done: the former that the experiment does not set.
        answer: the expression.
    """

    query: Probability
    done: frozenset[str]
    answer: Expression

    def tell(self, record: Record, query: Probability) -> None:
        """Append the steps from `query` to the answer."""
        record.rule_3(query, self.query, query.do ^ self.query.do, query.of | query.given)
        if isinstance(self.answer, Sum):
            record.back_door(self.query, self.answer, *self.done, *query.of)
        else:
            record.rule_2(self.query, self.answer, query.of, self.done, self.query.do - self.done, query.given)


def _adjustment(
    graph: Parents,
    y: frozenset[str],
    x: frozenset[str],
    z: frozenset[str],
    hidden: tuple[str, ...],
    experiment: Experiment,
) -> _Adjustment | None:
    """Return the estimand by conditioning or by the smallest back-door set, or None if neither serves.

    ID would identify these effects too, by expressions with more variables.
    """
    causes = ancestors(mutilate(graph, x), y | z)
    if (experiment - x) & causes:
        return None
    # With the variables of the experiment held fixed, the rest is as in the graph without them.
    within = {name: tuple(p for p in graph[name] if p not in experiment) for name in graph if name not in experiment}
    done = (x - experiment) & ancestors(mutilate(within, x - experiment), y | z)
    query = Probability(y, z, done | experiment)
    if d_separated(without_arrows_from(within, done), y, done, see=z):
        return _Adjustment(query, done, Probability(y, done | z, experiment))
    if not z and len(y) == len(done) == 1:
        for adjusted in back_door(within, *done, *y, latent=hidden, limit=64)[:1]:
            factors = Probability(y, done | adjusted, experiment), Probability(adjusted, do=experiment)
            return _Adjustment(query, done, Sum(adjusted, Product(factors)))
    return None
