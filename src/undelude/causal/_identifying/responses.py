"""Linear programs over the responses of variables to their observed parents (Balke & Pearl 1997; not in the paper)."""

import contextlib
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, sparse

from undelude.causal._graphs.graph import (
    ancestors,
    children_of,
    districts,
    latent_projection,
    mutilate,
    reach,
    topological_order,
)
from undelude.causal._names import Parents, listed

# Joint responses, and nonzero entries of the equations, above which a program would take too much memory.
MAX_RESPONSES, MAX_ENTRIES = 100_000, 50_000_000
# Distance at which equations count as met.
TOLERANCE = 1e-7
# Decimal places of a bound; further ones are noise of the solver.
DIGITS = 9


class Projection(NamedTuple):
    """The graph of the observed variables, and their distribution.

    Attributes:
        parents: the observed parents of each variable, causes first.
        bidirected: the pairs of variables with a hidden cause in common.
        P: probabilities, with an axis for each variable in the order of `parents`.
    """

    parents: Parents
    bidirected: frozenset[frozenset[str]]
    P: np.ndarray

    def keep(self, names: frozenset[str]) -> "Projection":
        """Return the same of some variables alone, which include all their observed causes."""
        left_out = tuple(i for i, name in enumerate(self.parents) if name not in names)
        parents = {name: causes for name, causes in self.parents.items() if name in names}
        return Projection(parents, self.bidirected, self.P.sum(left_out))


class Problem:
    """The linear programs of the effects of one set of variables on another.

    Args:
        observed: the graph and the distribution of the observed variables that the program uses.
        asked: the variables whose distribution is asked, in order.
        do: the variables intervened on.

    Attributes:
        open: the variables whose responses the program ranges over; empty if nothing is unknown.

    Raises:
        ValueError: more than one group of variables with hidden causes in common leaves the effect open; too many
            responses.
    """

    def __init__(self, observed: Projection, asked: tuple[str, ...], do: tuple[str, ...]):
        self.asked, self.parents, self.P = asked, observed.parents, observed.P
        self.order = tuple(self.parents)
        self.sizes = dict(zip(self.order, self.P.shape, strict=True))
        # Only these matter under the intervention.
        self.acting = ancestors(mutilate(self.parents, do), asked) - set(do)
        components = districts(self.order, observed.bidirected)
        self.settled = {c: self.factor(c) for c in components if c <= self.acting}
        self.open = _only([c for c in components if c & self.acting and not c <= self.acting])
        self.responses = Responses(sorted(self.open, key=self.order.index), self.parents, self.sizes)

    def effect(self, do: Mapping[str, int]) -> np.ndarray:
        """Return `P(asked | do) = effect @ q`, `[*asked, responses]`, for any distribution `q` of the responses.

        Args:
            do: the index of the value of each variable intervened on.

        Raises:
            ValueError: a factor of the effect is unknown, because its causes were never seen so.
        """
        found = np.zeros((*(self.sizes[name] for name in self.asked), self.responses.number))
        for v in self.assignments(self.acting, do):
            if weight := self.weight(v):
                at = tuple(v[name] for name in self.asked)
                found[at] += weight * self.responses.agree(v, self.open & self.acting).toarray()[0]
        return found

    def extremes(self, function: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the greatest `function @ q` over all `q` that the observed distribution allows.

        Args:
            function: `[..., responses]`.

        Raises:
            ValueError: no model with this graph has this distribution.
        """
        if not self.open:  # Nothing is unknown.
            return function[..., 0], function[..., 0]
        matrix, right = self.equations
        unit = np.abs(function).max() or 1.0  # The tolerances of the linear programs are for numbers near 1.
        function = function / unit
        low, high = np.zeros(function.shape[:-1]), np.zeros(function.shape[:-1])
        for cell in np.ndindex(low.shape):
            low[cell], high[cell] = (sign * _least(sign * function[cell], matrix, right) for sign in (1, -1))
        return unit * low.round(DIGITS) + 0.0, unit * high.round(DIGITS) + 0.0  # Not -0.

    def assignments(self, names: frozenset[str], do: Mapping[str, int]) -> Iterator[dict[str, int]]:
        """Yield the indices of the values of `names`, for all of them, with those done."""
        ordered = [name for name in self.order if name in names]
        for values in itertools.product(*(range(self.sizes[name]) for name in ordered)):
            yield {**do, **dict(zip(ordered, values, strict=True))}

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

    def weight(self, v: dict[str, int]) -> float:
        """Return the product of the settled factors at `v`.

        Raises:
            ValueError: one of them is unknown, because its causes were never seen so.
        """
        found = [factor[tuple(v[name] for name in family)] for family, factor in self.settled.values()]
        if 0 in found:
            return 0.0
        if np.isnan(found).any():
            family = next(x for (x, _), y in zip(self.settled.values(), found, strict=True) if np.isnan(y))
            raise ValueError(f"nobody has seen what {listed(family)} do together at some values (positivity).")
        return float(math.prod(map(float, found)))

    @functools.cached_property
    def equations(self) -> tuple[Any, np.ndarray]:
        """The observed distribution as `matrix @ q = right`; `ValueError` if there are too many entries."""
        responses = self.responses
        family, factor = self.factor(self.open)
        rows, right, entries = [sparse.csr_array(np.ones((1, responses.number)))], [1.0], responses.number
        for at in np.ndindex(*factor.shape):
            if not np.isnan(factor[at]):
                rows.append(responses.agree(dict(zip(family, at, strict=True)), self.open))
                right.append(float(factor[at]))
                entries += rows[-1].nnz
                if entries > MAX_ENTRIES:
                    raise ValueError(f"the program has over {MAX_ENTRIES:,} entries: use fewer values or parents.")
        return sparse.vstack(rows, format="csr"), np.array(right)


def state_problem(
    graph: Parents,
    latent: tuple[str, ...],
    joint: np.ndarray,
    names: tuple[str, ...],
    asked: tuple[str, ...],
    do: tuple[str, ...],
) -> tuple[Problem, bool]:
    """Return the linear programs of an effect, and whether their extremes are sharp.

    They are sharp if a model with this graph and distribution reaches them.

    Args:
        graph: the parents of each variable.
        latent: the variables that are not observed.
        joint: the distribution of the others.
        names: the variables of its axes.
        asked: the variables whose distribution is asked, in order.
        do: the variables intervened on.

    Raises:
        ValueError: as for `Problem`.
    """
    directed, bidirected = latent_projection(graph, latent)
    parents = {name: directed[name] for name in topological_order(directed)}
    observed = Projection(parents, bidirected, joint.transpose([names.index(name) for name in parents]))
    # The others can always be as they were seen, if they share no hidden cause with these.
    causes = ancestors(directed, (*asked, *do))
    problem = Problem(observed.keep(causes), asked, do)
    if not problem.open:
        return problem, True
    whole = districts(directed, bidirected)
    related = frozenset().union(*(c for c in whole if c & problem.open))
    is_complete = related <= causes
    if not is_complete:  # What they share a hidden cause with tells of that cause.
        # Without these variables the bounds hold too, and may be wider.
        with contextlib.suppress(ValueError):
            wider = Problem(observed.keep(ancestors(directed, (*asked, *do, *related))), asked, do)
            _ = wider.equations  # Raises if there are too many.
            problem, is_complete = wider, True
    return problem, is_complete and all(_has_one_cause(graph, latent, c) for c in whole if len(c) > 1)


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
                causes = tuple(v[name] for name in self.parents[x])
                place = np.ravel_multi_index(causes, self.parent_sizes[x]) if causes else 0
                hits = functions[:, place] == v[x]
            else:
                hits = np.ones(len(functions), bool)
            row = sparse.kron(row, sparse.csr_array(hits.astype(float)[None]), format="csr")
        return row


def _only(components: list[frozenset[str]]) -> frozenset[str]:
    """Return the one group of variables that leaves an effect open, empty if there is none."""
    if len(components) > 1:
        groups = "; ".join(listed(sorted(c)) for c in components)
        raise ValueError(
            f"the effect depends on several groups of variables with hidden causes in common ({groups}): a product of "
            "unknowns, for which there is no linear program."
        )
    return components[0] if components else frozenset()


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
