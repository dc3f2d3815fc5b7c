"""Counterfactual graphs: the variables of several worlds that a conjunction depends on, and their factors.

A variable has one node for each assignment of values to its parents, in any world: by the axiom of
composition, equal parents and shared noise make equal children (Shpitser & Pearl 2008, algorithm make-cg). Nodes are
merged from causes to effects, so that each merger sees the values that its parents were merged to.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from undelude.causal._graphs.graph import districts
from undelude.causal._names import Parents


@dataclass(frozen=True)
class Event:
    """A variable has a value in the world of an intervention."""

    name: str
    value: Hashable
    do: tuple[tuple[str, Hashable], ...] = ()


@dataclass(frozen=True)
class Value:
    """One value, by an intervention or an event."""

    value: Hashable


# The value of a variable in a world: one value, or that of a node, by its number, which is summed over.
Term = Value | int
Assignment = frozenset[tuple[str, Term]]


@dataclass(frozen=True)
class Factor:
    """The joint distribution of nodes that hidden causes and shared noise connect, given the values of their parents.

    Attributes:
        nodes: the numbers of the nodes, and their values.
        own: the variables of the nodes, and their values.
        parents: the parents of the nodes, and their values.
    """

    nodes: frozenset[tuple[int, Term]]
    own: Assignment = field(compare=False)
    parents: Assignment = field(compare=False)

    @property
    def symbols(self) -> frozenset[int]:
        """The nodes that are summed over."""
        return frozenset(term for _, term in self.own | self.parents if isinstance(term, int))


def conflicts(factors: Iterable[Factor]) -> dict[str, set[Term]]:
    """Return the variables that have several values in the factors, with these: no one world shows them."""
    values: dict[str, set[Term]] = {}
    for factor in factors:
        for name, term in factor.own | factor.parents:
            values.setdefault(name, set()).add(term)
    return {name: terms for name, terms in values.items() if len(terms) > 1}


def groups(factors: Collection[Factor]) -> Iterator[frozenset[Factor]]:
    """Yield the sets of factors that share symbols: their sum of products is a product of sums."""
    left = list(factors)
    while left:
        found = [left.pop()]
        for member in found:  # Grows as it is walked.
            near = [x for x in left if x.symbols & member.symbols]
            found += near
            left = [x for x in left if x not in near]
        yield frozenset(found)


class CounterfactualGraph:
    """The nodes of a causal graph with hidden causes in all worlds that were asked about so far.

    Args:
        order: the observed variables, causes first.
        directed: the observed parents of each.
        bidirected: the pairs with hidden common causes.
    """

    def __init__(self, order: Sequence[str], directed: Parents, bidirected: Collection[frozenset[str]]):
        self.order, self.directed, self.bidirected = order, directed, bidirected
        self.names: list[str] = []
        self.parents: list[Assignment] = []
        self._number: dict[tuple[str, Assignment], int] = {}

    def factors(self, events: Iterable[Event]) -> frozenset[Factor] | None:
        """Return the factors of a conjunction of events; None if no model allows it."""
        seen = self._merge(events)
        if seen is None:
            return None
        relevant, todo = set(seen), list(seen)
        while todo:
            for _, term in self.parents[todo.pop()]:
                if isinstance(term, int) and term not in relevant:
                    relevant.add(term)
                    todo.append(term)
        term_of = {node: Value(seen[node]) if node in seen else node for node in relevant}
        names = {self.names[node] for node in relevant}
        found = []
        for district in districts([name for name in self.order if name in names], self.bidirected):
            nodes = [node for node in relevant if self.names[node] in district]
            own = frozenset((self.names[node], term_of[node]) for node in nodes)
            parents = frozenset(parent for node in nodes for parent in self.parents[node])
            found.append(Factor(frozenset((node, term_of[node]) for node in nodes), own, parents))
        return frozenset(found)

    def _merge(self, events: Iterable[Event]) -> dict[int, Hashable] | None:
        """Return the values of the nodes that have one by an event; None if one would have two."""
        asked: dict[tuple[str, tuple], set[Hashable]] = {}
        for event in events:
            if event.name in dict(event.do):
                if dict(event.do)[event.name] != event.value:
                    return None
            else:
                asked.setdefault((event.name, event.do), set()).add(event.value)
        worlds = dict.fromkeys(do for _, do in asked)
        terms: dict[tuple[str, tuple], Term] = {}
        seen: dict[int, Hashable] = {}
        for name in self.order:
            nodes: dict[tuple, int] = {}
            for do in worlds:
                if name in (done := dict(do)):
                    terms[name, do] = Value(done[name])
                    continue
                nodes[do] = self._node(name, frozenset((parent, terms[parent, do]) for parent in self.directed[name]))
                for value in asked.get((name, do), ()):
                    if seen.setdefault(nodes[do], value) != value:
                        return None
            terms |= {(name, do): Value(seen[node]) if node in seen else node for do, node in nodes.items()}
        return seen

    def _node(self, name: str, parents: Assignment) -> int:
        key = name, parents
        if key not in self._number:
            self._number[key] = len(self.names)
            self.names.append(name)
            self.parents.append(parents)
        return self._number[key]
