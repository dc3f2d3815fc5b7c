"""Identification from several experiments: gID (Lee, Correa & Bareinboim, UAI 2019), of which zID is a case.

With D the ancestors of the outcome under the intervention, and S its c-components,

    P(y | do(x)) = sum_{D - y} prod_S P(S | do(V - S)).

An effect is identifiable if and only if each factor is, by ID, in one of the experiments that set no variable of S.
"""

from collections.abc import Sequence
from itertools import chain

from undelude.causal._expressions.derivation import Record
from undelude.causal._expressions.expression import Expression, Probability, free, probabilities, product, sum_over
from undelude.causal._graphs.graph import ancestors, districts
from undelude.causal._identifying.id_algorithm import Distribution, Failure, identify_effect
from undelude.causal._names import Parents

# The variables that an experiment sets; none for observation.
Experiment = frozenset[str]
OBSERVATION: Experiment = frozenset()


class NoExperiment(Exception):
    """No experiment determines the factor of `component`.

    Attributes:
        component: a c-component of the relevant variables.
        failures: the failures of ID in the experiments that set no variable of it.
        setting: the experiments that set a variable of it.
    """

    def __init__(self, component: frozenset[str], failures: dict[Experiment, Failure], setting: tuple[Experiment, ...]):
        self.component, self.failures, self.setting = component, failures, setting


def combine(
    directed: Parents,
    bidirected: frozenset[frozenset[str]],
    y: frozenset[str],
    x: frozenset[str],
    experiments: Sequence[Experiment],
    record: Record,
) -> Expression:
    """Return `P(y | do(x))` in the distributions of the experiments, and append the steps to `record`.

    Args:
        directed: the observed parents of each observed variable.
        bidirected: the pairs with hidden common causes.
        y: the outcome.
        x: the variables intervened on.
        experiments: the sets of variables that experiments set.
        record: the derivation.

    Raises:
        NoExperiment: no such expression exists.
    """
    names = frozenset(record.order)
    inside = {name: tuple(p for p in directed[name] if p not in x) for name in record.order if name not in x}
    relevant = ancestors(inside, y)
    parts = districts((name for name in record.order if name in relevant), bidirected)
    split = product(Probability(part, do=names - part) for part in parts)
    record.experiments(Probability(y, do=x), sum_over(relevant - y, split), parts, relevant)
    factors = [_factor(directed, bidirected, part, experiments, record) for part in parts]
    return sum_over(relevant - y, product(factors))


def _factor(
    directed: Parents,
    bidirected: frozenset[frozenset[str]],
    part: frozenset[str],
    experiments: Sequence[Experiment],
    record: Record,
) -> Expression:
    """Return `P(part | do(all others))` by the experiment that gives the shortest expression."""
    failures: dict[Experiment, Failure] = {}
    found: list[tuple[Expression, Record]] = []
    for experiment in experiments:
        if experiment & part:
            continue
        order = tuple(name for name in record.order if name not in experiment)
        attempt = Record(record.order)
        distribution = Distribution(order, directed, bidirected, attempt, do=experiment)
        try:
            found.append((identify_effect(part, distribution.names - part, distribution), attempt))
        except Failure as failure:
            failures[experiment] = failure
    if not found:
        raise NoExperiment(part, failures, tuple(x for x in experiments if x & part))
    expression, attempt = min(found, key=lambda x: _length(x[0]))
    record.steps.extend(attempt.steps)
    return expression


def _length(x: Expression) -> tuple[int, int]:
    """Return the number of probabilities in an expression, and that of its variables."""
    return sum(1 for _ in probabilities(x)), len(frozenset(chain.from_iterable(map(free, probabilities(x)))))
