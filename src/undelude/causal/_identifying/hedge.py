"""Witnesses that an effect is not identifiable: hedges (Shpitser & Pearl, AAAI 2006), thickets of several of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from undelude.causal._expressions.derivation import Derivation
from undelude.causal._expressions.notation import short_list, written_query
from undelude.causal._graphs.graph import ancestors, children_of, topological_order
from undelude.causal._identifying.experiments import NoExperiment
from undelude.causal._identifying.id_algorithm import Distribution, Failure
from undelude.causal._names import Parents


@dataclass(frozen=True, repr=False)
class Hedge:
    """Proof that `P(asked | do)` is not identifiable: two R-rooted C-forests (Shpitser & Pearl 2006, Definition 6).

    Hidden common causes connect F, and connect F', which is a subset of F. Each variable has at most one of the
    `arrows` out of it, and along these every variable of F leads to the roots R, as does every variable of F' within
    F'. F meets `do` and F' does not. The roots are ancestors of `asked` in the graph mutilated by `do`, so that
    hidden causes can move the roots in ways that look like effects of `do`.

    Attributes:
        asked: the variables asked; for a query with evidence, those of the unconditional query that it reduces to.
        do: the variables intervened on, likewise.
        roots: R.
        forest: F.
        subforest: F'.
        arrows: the directed edges of F, including those of F'.
        bidirected: the pairs of F with hidden common causes, and these causes.
    """

    asked: frozenset[str]
    do: frozenset[str]
    roots: frozenset[str]
    forest: frozenset[str]
    subforest: frozenset[str]
    arrows: frozenset[tuple[str, str]]
    bidirected: tuple[tuple[frozenset[str], frozenset[str]], ...]

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"{what}: {names}" for what, names in self.table())])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_hedge  # In a notebook alone: it needs matplotlib.

        return of_hedge(self)

    @property
    def title(self) -> str:
        """The query that the hedge is about, in a sentence."""
        return f"Hedge: {written_query(sorted(self.asked), sorted(self.do), ())} is not identifiable."

    @property
    def graph(self) -> dict[str, tuple[str, ...]]:
        """The parents of each variable of F by the `arrows`, causes first."""
        parents = {x: tuple(sorted(p for p, child in self.arrows if child == x)) for x in sorted(self.forest)}
        return {name: parents[name] for name in topological_order(parents)}

    def table(self) -> list[tuple[str, str]]:
        """Return the parts of the hedge, each with its name."""
        order = tuple(self.graph)
        place = order.index
        arrows = sorted(self.arrows, key=lambda edge: tuple(map(place, edge)))
        sets = (("F", self.forest), ("F'", self.subforest), ("roots", self.roots))
        rows = [(what, _in_words(names, order, ",")) for what, names in sets]
        rows += [("directed edges", ", ".join(" -> ".join(edge) for edge in arrows))] if arrows else []
        edges = []
        for pair, causes in self.bidirected:
            edge = " <-> ".join(sorted(pair))
            named = sorted(causes - {edge})
            edges.append(f"{edge} ({', '.join(named)})" if named else edge)
        return [*rows, ("hidden causes", ", ".join(edges))]


@dataclass(frozen=True, repr=False)
class Thicket:
    """Proof that no experiment determines an effect (Lee, Correa & Bareinboim 2019, Definition 6).

    The effect needs `P(component | do(all others))`. Each experiment sets a variable of the component, so that it says
    nothing about that variable's mechanism, or leaves a hedge whose F' is the component.

    Attributes:
        component: variables that hidden causes connect.
        hedges: the hedge in each experiment that sets no variable of the component.
        setting: the experiments that set a variable of it.
    """

    component: frozenset[str]
    hedges: tuple[tuple[frozenset[str], Hedge], ...]
    setting: tuple[frozenset[str], ...]

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"{experiment}: {why}" for experiment, why in self.table())])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_thicket  # In a notebook alone: it needs matplotlib.

        return of_thicket(self)

    @property
    def title(self) -> str:
        """The factor that no experiment determines, in a sentence."""
        return f"Thicket: no experiment determines P({', '.join(sorted(self.component))} | do(all others))."

    def table(self) -> list[tuple[str, str]]:
        """Return the experiments, each with the reason why it does not help."""
        rows = [(_title(x, ()), f"hedge {_forests(hedge, tuple(hedge.graph))}") for x, hedge in self.hedges]
        return [*rows, *((_title(x, ()), f"sets {_in_words(x & self.component, ())}") for x in self.setting)]


@dataclass(frozen=True, repr=False)
class Conflict:
    """Proof that no experiments determine a counterfactual (Shpitser & Pearl 2008, line 8 of ID*).

    Attributes:
        component: events of several worlds that hidden causes or a shared noise join, as text.
        variable: a variable that has several values there.
        values: these values, as text.
    """

    component: tuple[str, ...]
    variable: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"Conflict: hidden causes or a shared noise join {' and '.join(self.component)}, and {self.variable} has "
            f"the values {' and '.join(self.values)} there."
        )

    def __repr__(self) -> str:
        return str(self)


class NotIdentifiable(ValueError):
    """An effect that the distributions of the observed variables do not determine.

    Attributes:
        hedge: the witness for the observed distribution; None if no experiment in question has one.
        thicket: the witness for several experiments; None if only observation is in question.
        conflict: the witness that no experiments at all determine a counterfactual, or None.
        derivation: the steps up to the failure.
    """

    def __init__(
        self,
        message: str,
        hedge: Hedge | None,
        derivation: Derivation | None = None,
        thicket: Thicket | None = None,
        conflict: Conflict | None = None,
    ):
        ValueError.__init__(self, message)
        self.hedge, self.derivation = hedge, derivation or Derivation()
        self.thicket, self.conflict = thicket, conflict

    def __reduce__(self) -> tuple:
        return NotIdentifiable, (str(self), self.hedge, self.derivation, self.thicket, self.conflict)

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_refusal  # In a notebook alone: it needs matplotlib.

        return of_refusal(self)


def find_thicket(graph: Parents, hidden: tuple[str, ...], failure: NoExperiment) -> Thicket:
    """Return the hedges at which ID failed in each experiment, reduced to minimal ones of the same F'."""
    component = failure.component
    hedges = ((x, find_hedge(graph, hidden, each, component)) for x, each in failure.failures.items())
    return Thicket(component, tuple(hedges), failure.setting)


def find_hedge(graph: Parents, hidden: tuple[str, ...], failure: Failure, kept: frozenset[str] = frozenset()) -> Hedge:
    """Return the hedge at which ID failed, reduced to a minimal one that contains `kept`."""
    distribution, y, x = failure.distribution, failure.y, failure.x
    children = children_of(distribution.parents)
    number = {name: i for i, name in enumerate(distribution.order)}
    near = [0] * len(number)
    for u, v in map(tuple, distribution.bidirected):
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
        within = {name: tuple(p for p in distribution.parents[name] if p in forest) for name in forest}
        return forest <= ancestors(within, subforest)

    def is_hedge(forest: frozenset[str], subforest: frozenset[str]) -> bool:
        meets = bool(subforest) and bool(forest & x)
        return meets and connected(forest) and connected(subforest) and leads(forest, subforest)

    forest, subforest = failure.forest, failure.subforest
    smaller = True
    while smaller:
        smaller = False
        for name in sorted(forest, key=lambda name: (name in x or name in y, number[name])):
            if name not in kept and is_hedge(forest - {name}, subforest - {name}):
                forest, subforest, smaller = forest - {name}, subforest - {name}, True
    # Each variable keeps one arrow: within F' to a child there, otherwise along a shortest path to F'.
    arrows = {
        (name, next(c for c in children[name] if c in subforest))
        for name in subforest & _parents(distribution, subforest)
    }
    roots = subforest - {name for name, _ in arrows}
    near_by = set(subforest)
    while near_by < forest:
        step = (forest - near_by) & _parents(distribution, near_by)
        arrows |= {(name, next(c for c in children[name] if c in near_by)) for name in step}
        near_by |= step
    place = number.__getitem__
    pairs = sorted(
        (pair for pair in distribution.bidirected if pair <= forest), key=lambda pair: sorted(map(place, pair))
    )
    causes = tuple((pair, _common_causes(graph, hidden, pair)) for pair in pairs)
    return Hedge(y, x, roots, forest, subforest, frozenset(arrows), causes)


def _parents(distribution: Distribution, names: Iterable[str]) -> frozenset[str]:
    return frozenset(chain.from_iterable(distribution.parents[name] for name in names))


def _common_causes(graph: Parents, hidden: tuple[str, ...], pair: frozenset[str]) -> frozenset[str]:
    """Return the hidden variables at which a path between the `pair` through hidden variables forks."""

    def sources(without: str | None) -> list[frozenset[str]]:
        kept = {*hidden, *pair} - {without}
        inner = {x: tuple(p for p in graph[x] if p in kept and p not in pair) for x in kept}
        return [ancestors(inner, name) for name in pair]

    u, v = sources(None)
    both = (u & v) - pair
    # If all paths from a cause pass through one hidden variable, they fork there instead (Menger's theorem).
    passed = {middle: frozenset().union(*sources(middle)) for middle in both}
    return frozenset(x for x in both if all(x in passed[middle] for middle in both - {x}))


def explanation(
    hedge: Hedge, asked: tuple[str, ...], done: tuple[str, ...], seen: tuple[str, ...], order: tuple[str, ...]
) -> str:
    """Return the message of a refusal: the query, its hedge, and the ways on."""
    reached: dict[str, set[str]] = {}
    for pair, causes in hedge.bidirected:
        for cause in sorted(causes):
            reached.setdefault(cause, set()).update(pair)
    causes = list(reached.items())[:6]
    hidden = "; ".join(f"{cause}, hidden, reaches {_in_words(names, order)}" for cause, names in causes)
    set_by = _in_words(hedge.do & hedge.forest, order)
    aim, do = ([name for name in order if name in names] for names in (hedge.asked, hedge.do))
    query, reduced = written_query(asked, done, seen), written_query(aim, do, ())
    same = frozenset(asked) == hedge.asked and frozenset(done) == hedge.do
    takes = "" if same else f" It requires {reduced}, which is not identifiable."
    return (
        f"{query} cannot be computed from the distribution of the observed variables, with any amount of data.{takes} "
        f"{hidden}: an association may be due to {set_by} or to the hidden causes, and the data do not tell which. "
        f"(Hedge for {reduced}: {_forests(hedge, order)}.) "
        f"Observe the hidden variables ({_in_words(reached, order, ',')}), set {set_by} in an experiment, or learn a "
        "model that includes the hidden variables; `bounds` returns what the data do tell."
    )


def thicket_explanation(
    thicket: Thicket, asked: tuple[str, ...], done: tuple[str, ...], seen: tuple[str, ...], order: tuple[str, ...]
) -> str:
    """Return the message of a refusal by several experiments."""
    others = [name for name in order if name not in thicket.component]
    factor = written_query([name for name in order if name in thicket.component], others, ())

    setting = [f"{_title(x, order)} sets {_in_words(x & thicket.component, order)}" for x in thicket.setting]
    hedges = [f"{_title(x, order)} has the hedge {_forests(hedge, order)}" for x, hedge in thicket.hedges]
    return (
        f"{written_query(asked, done, seen)} cannot be computed from these experiments, with any amount of data. It "
        f"requires {factor}, which none of them determines: {'; '.join(short_list([*hedges, *setting]))}. Observe the "
        f"hidden variables, or set further variables in an experiment, but not {_in_words(thicket.component, order)}."
    )


def _forests(hedge: Hedge, order: tuple[str, ...]) -> str:
    return f"F = {{{_in_words(hedge.forest, order, ',')}}}, F' = {{{_in_words(hedge.subforest, order, ',')}}}"


def _title(experiment: frozenset[str], order: tuple[str, ...]) -> str:
    return ", ".join(f"do({name})" for name in _in_order(experiment, order)) or "observation"


def _in_order(names: Iterable[str], order: tuple[str, ...]) -> list[str]:
    known = [name for name in order if name in names]
    return [*known, *sorted(set(names) - set(known))]


def _in_words(names: Iterable[str], order: tuple[str, ...], last: str = " and") -> str:
    found = _in_order(names, order)
    return f"{last} ".join([", ".join(short_list(found)[:-1]), found[-1]]) if len(found) > 1 else found[0]
