"""Bounds on an effect that the observed distribution does not determine (Balke & Pearl 1997; not in the paper).

A variable of finitely many values is one of finitely many functions of its observed parents, whatever its hidden causes
are: its response. So all that hidden causes can do is a joint distribution of the responses of the variables that share
them. The observed distribution is a set of linear equations in it, and an effect a linear function of it: its least and
its greatest value are linear programs.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy import optimize, sparse

from undelude._checks import as_numbers
from undelude.causal._graphs.graph import (
    ancestors,
    children_of,
    districts,
    latent_projection,
    mutilate,
    reach,
    topological_order,
)
from undelude.causal._identifying.identification import NotIdentifiable, identify
from undelude.causal._names import AnyGraph, Names, Parents, as_graph, as_latent, as_names, check_names, listed

# Joint responses, and nonzero entries of the equations, above which a program would take too much memory.
MAX_RESPONSES, MAX_ENTRIES = 100_000, 50_000_000
# Distance at which equations count as met.
TOLERANCE = 1e-7


class Bounds(NamedTuple):
    """The least and the greatest value of each probability.

    Attributes:
        low: `[*asked]`; the probabilities of several values cannot all be this low at once.
        high: likewise.
        is_sharp: whether each bound is reached by a model with this graph and this distribution. If not, a tighter one
            may hold: variables share hidden causes in pairs, and the bounds allow one cause of all of them.
    """

    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]
    is_sharp: bool


def bounds(
    graph: AnyGraph,
    asked: Names,
    *,
    do: Mapping[str, int],
    joint: ArrayLike,
    names: Names,
    latent: Names = (),
) -> Bounds:
    """Return bounds on `P(asked | do)` from the graph and the distribution of the observed variables.

    If `identify` finds an estimand, and it is defined, both bounds are its value. They are those of Manski (1990) if
    nothing but `do` and `asked` is observed, and those of Balke and Pearl (1997) with an instrument.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`.
        asked: a name or several, in order.
        do: the index of the value of each variable intervened on.
        joint: probabilities or counts, with an axis for each name.
        names: the observed variables, in the order of the axes.
        latent: the variables that cannot be observed, besides those of a `ud.Graph`.

    Raises:
        ValueError: an unknown name, a variable in two roles, an axis too many or too few; more than one group of
            variables with hidden causes in common leaves the effect open; too many responses; a distribution that no
            model with this graph has.

    >>> instrument = {"Z": (), "U": (), "A": ("Z", "U"), "O": ("A", "U")}
    >>> joint = [[[.32, .08], [.02, .08]], [[.09, .01], [.08, .32]]]  # of Z, A and O
    >>> found = bounds(instrument, "O", do={"A": 1}, joint=joint, names=("Z", "A", "O"), latent="U")
    >>> print(found.low.round(2), found.high.round(2))
    [0.16 0.64] [0.36 0.84]
    """
    latent, graph = as_latent(graph, latent), as_graph(graph)
    asked, names = (as_names(x, order="the axes of a table follow the order of the names") for x in (asked, names))
    if not isinstance(do, Mapping):
        raise ValueError(f"do must be a dict of the index of a value by name, such as do={{'A': 1}}, not {do!r:.99}.")
    for role, given in (("asked", asked), ("observed", names)):
        if len(set(given)) < len(given):
            raise ValueError(f"a name is {role} twice in {given}.")
    check_names(graph, {"latent": latent, "asked": asked, "done": tuple(do)})
    check_names(graph, {"observed": names, "latent": latent})
    table = np.asarray(as_numbers(joint, "joint"), float)
    if left := [name for name in graph if name not in names and name not in latent]:
        raise ValueError(f"{listed(left)} is neither observed nor latent: name it by latent=, or give it an axis.")
    if table.ndim != len(names):
        raise ValueError(f"the joint has {table.ndim} axes, and there are {len(names)} names: {listed(names)}.")
    if not (np.isfinite(table).all() and table.min() >= 0 and table.sum() > 0):
        raise ValueError("the joint must be probabilities or counts: finite numbers of 0 or more, not all 0.")
    for name, i in do.items():
        if not isinstance(i, int | np.integer):
            raise ValueError(f"do={{{name!r}: {i!r}}}: say the index of the value in the joint's axis of {name}.")
        if not 0 <= i < table.shape[names.index(name)]:
            raise ValueError(f"do={{{name!r}: {i}}}: {name} has {table.shape[names.index(name)]} values in the joint.")
    try:
        estimand = identify(graph, asked, do=tuple(do), latent=latent)
    except NotIdentifiable:
        pass
    else:
        value = estimand.evaluate(table, names)[(..., *do.values())]
        if not np.isnan(value).any():
            return Bounds(value, value, is_sharp=True)
    return _Problem(graph, latent, table / table.sum(), names, asked, do).bounds()


class _Problem:
    """The linear programs of one effect."""

    def __init__(
        self,
        graph: Parents,
        latent: tuple[str, ...],
        joint: np.ndarray,
        names: tuple[str, ...],
        asked: tuple[str, ...],
        do: Mapping[str, int],
    ):
        directed, bidirected = latent_projection(graph, latent)
        # The others can always be as they were seen, if they share no hidden cause with these but the same one.
        kept = ancestors(directed, (*asked, *do))
        self.parents = {name: directed[name] for name in topological_order(directed) if name in kept}
        self.order, self.asked, self.do = tuple(self.parents), asked, do
        lost = tuple(i for i, name in enumerate(names) if name not in kept)
        left = [name for name in names if name in kept]
        self.P = joint.sum(lost).transpose([left.index(name) for name in self.order])
        self.sizes = dict(zip(self.order, self.P.shape, strict=True))
        # Only these matter under the intervention.
        self.acting = ancestors(mutilate(self.parents, tuple(do)), asked) - set(do)
        self.components = districts(self.order, bidirected)
        whole = districts(directed, bidirected)  # With the variables that were left out, which may be instruments.
        self.is_shared = all(_has_one_cause(graph, latent, c) for c in whole if len(c) > 1)

    def bounds(self) -> Bounds:
        """Return the bounds."""
        open_ = [c for c in self.components if c & self.acting and not c <= self.acting]
        if len(open_) > 1:
            groups = "; ".join(listed(sorted(c)) for c in open_)
            raise ValueError(
                f"the effect depends on several groups of variables with hidden causes in common ({groups}): a product "
                "of unknowns, for which there is no linear program."
            )
        settled = {c: self.factor(c) for c in self.components if c <= self.acting}
        shape = tuple(self.sizes[name] for name in self.asked)
        if not open_:
            value = np.zeros(shape)
            for v in self.assignments(self.acting):
                value[tuple(v[name] for name in self.asked)] += self.weight(settled, v)
            return Bounds(value, value, is_sharp=True)
        (component,) = open_
        responses = Responses(sorted(component, key=self.order.index), self.parents, self.sizes)
        equations, right = self.equations(responses)
        rows = {cell: np.zeros(responses.number) for cell in np.ndindex(*shape)}
        members = component & self.acting
        for v in self.assignments(self.acting):
            if weight := self.weight(settled, v):
                rows[tuple(v[name] for name in self.asked)] += weight * responses.agree(v, members).toarray()[0]
        low, high = np.zeros(shape), np.zeros(shape)
        for cell, row in rows.items():
            low[cell], high[cell] = (sign * _least(sign * row, equations, right) for sign in (1, -1))
        return Bounds(low.clip(0, 1), high.clip(0, 1), is_sharp=self.is_shared)

    def assignments(self, names: frozenset[str]) -> Iterator[dict[str, int]]:
        """Yield the indices of the values of `names`, for all of them, with those done."""
        ordered = [name for name in self.order if name in names]
        for values in itertools.product(*(range(self.sizes[name]) for name in ordered)):
            yield {**self.do, **dict(zip(ordered, values, strict=True))}

    def factor(self, component: frozenset[str]) -> tuple[tuple[str, ...], np.ndarray]:
        """Return `prod_i P(v_i | v_1 .. v_i-1)` over a component, and the names of its axes (Tian & Pearl 2002).

        It is a function of the component and its parents; nan where these have no probability.
        """
        family = [x for x in self.order if x in component or any(x in self.parents[y] for y in component)]
        # A variable does not depend on the others, given what comes before it in the family.
        P = self.P.sum(tuple(i for i, x in enumerate(self.order) if x not in family))
        product = np.ones(P.shape)
        for i, name in enumerate(family):
            if name in component:
                later = tuple(range(i + 1, P.ndim))
                with np.errstate(invalid="ignore", divide="ignore"):
                    product = product * (P.sum(later, keepdims=True) / P.sum((i, *later), keepdims=True))
        return tuple(family), product

    def weight(self, settled: Mapping[frozenset[str], tuple[tuple[str, ...], np.ndarray]], v: dict[str, int]) -> float:
        """Return the product of the settled factors at `v`.

        Raises:
            ValueError: one of them is unknown, because its causes were never seen so.
        """
        found = [factor[tuple(v[name] for name in family)] for family, factor in settled.values()]
        if 0 in found:
            return 0.0
        if np.isnan(found).any():
            family = next(x for (x, _), y in zip(settled.values(), found, strict=True) if np.isnan(y))
            raise ValueError(f"nobody has seen what {listed(family)} do together at some values (positivity).")
        return math.prod(map(float, found))

    def equations(self, responses: "Responses") -> tuple[Any, np.ndarray]:
        """Return what the observed distribution says of the responses: `matrix @ q = right`."""
        component = frozenset(responses.members)
        family, factor = self.factor(component)
        rows, right, entries = [sparse.csr_array(np.ones((1, responses.number)))], [1.0], responses.number
        for at in np.ndindex(*factor.shape):
            if not np.isnan(factor[at]):
                rows.append(responses.agree(dict(zip(family, at, strict=True)), component))
                right.append(float(factor[at]))
                entries += rows[-1].nnz
                if entries > MAX_ENTRIES:
                    raise ValueError(f"the program has over {MAX_ENTRIES:,} entries: use fewer values or parents.")
        return sparse.vstack(rows, format="csr"), np.array(right)


class Responses:
    """The joint responses of variables: for each a function of its observed parents.

    Attributes:
        members: the variables.
        number: of joint responses.
    """

    def __init__(self, members: Sequence[str], parents: Parents, sizes: Mapping[str, int]):
        self.members, self.parents = tuple(members), parents
        self.parent_sizes = {x: tuple(sizes[name] for name in parents[x]) for x in members}
        counts = {x: sizes[x] ** math.prod(self.parent_sizes[x]) for x in members}
        self.number = math.prod(counts.values())
        if self.number > MAX_RESPONSES:
            shown = ", ".join(f"{x} {count:,}" for x, count in counts.items())
            raise ValueError(
                f"the variables respond to their parents in too many ways ({shown}; at most {MAX_RESPONSES:,} "
                "together): merge values of them or of their parents."
            )
        self.functions = {
            x: np.array([*itertools.product(range(sizes[x]), repeat=math.prod(self.parent_sizes[x]))], np.int32)
            for x in members
        }

    def agree(self, v: Mapping[str, int], members: frozenset[str]) -> Any:
        """Return `[1, number]`: for which joint responses these members have the values that `v` says."""
        row = sparse.csr_array(np.ones((1, 1)))
        for x in self.members:
            functions = self.functions[x]
            if x in members:
                place = (
                    np.ravel_multi_index(tuple(v[name] for name in self.parents[x]), self.parent_sizes[x])
                    if (self.parents[x])
                    else 0
                )
                hits = functions[:, place] == v[x]
            else:
                hits = np.ones(len(functions), bool)
            row = sparse.kron(row, sparse.csr_array(hits.astype(float)[None]), format="csr")
        return row


def _least(cost: np.ndarray, equations: Any, right: np.ndarray) -> float:
    """Return the least `cost @ q` over distributions `q` with `equations @ q = right`."""
    options = {"primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE}
    found = optimize.linprog(cost, A_eq=equations, b_eq=right, bounds=(0, None), method="highs", options=options)
    if found.status == 2:
        raise ValueError(
            "no model with this graph has this distribution of the observed variables: an arrow or a hidden cause is "
            "missing, or the counts are too few."
        )
    if found.status != 0:
        raise RuntimeError(f"the linear program was not solved: {found.message}")
    return float(found.fun)


def _has_one_cause(graph: Parents, latent: tuple[str, ...], component: frozenset[str]) -> bool:
    """Return whether one latent variable reaches all of a component by ways through latent variables alone."""
    children = children_of(graph)
    through = {name: children[name] if name in latent else () for name in graph}
    return any(component <= reach(through, (name,)) for name in latent)
