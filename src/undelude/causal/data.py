"""Samples of a causal model, and the mechanisms of a graph from data."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from undelude._checks import check_ordered
from undelude.causal.graph import topological_order
from undelude.causal.model import CausalModel
from undelude.causal.names import AnyGraph, as_graph, as_latent, listed
from undelude.causal.soft import Interventions, as_assignment, other_mechanism
from undelude.causal.variable import Variable, index

# Values by name: a data frame, or a dict of columns.
Columns = Mapping[str, Any]


def sample(
    model: CausalModel, key: Key[Array, ""], num_samples: int, *, do: Interventions | None = None
) -> dict[str, np.ndarray]:
    """Draw samples from `P(variables | do)`, each variable given its parents.

    `pandas.DataFrame(sample(...))` is a data frame.

    Args:
        model: the model; samples of a marginal have its observed variables alone.
        key: a key of JAX, `jax.random.key(0)`.
        num_samples: N.
        do: values, distributions or other mechanisms of variables intervened on, as in `CausalModel.query`.

    Returns:
        For each variable that is not hidden, its values, `[N]`.

    Raises:
        ValueError: as for `CausalModel.query`; a marginal, with `do`.

    >>> import undelude as ud
    >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    >>> samples = ud.causal.sample(frog, jax.random.key(0), 1000, do={"A_1": 1})
    >>> samples["O_1"].shape, bool(abs(samples["O_1"].mean() - 0.5) < 0.05)
    ((1000,), True)
    """
    if not isinstance(num_samples, int | np.integer) or num_samples < 1:
        raise ValueError(f"num_samples must be a whole number of 1 or more, not {num_samples!r}.")
    mechanisms = []
    for name, done in as_assignment("do", do).items():
        v = model[name]
        if not isinstance(done, Mapping | Variable):  # All of the probability on one value.
            place = index(name, v.values, done)
            done = {x: float(i == place) for i, x in enumerate(v.values)}
        mechanisms.append(other_mechanism(v, done))
    model = model.replace(*mechanisms) if mechanisms else model
    variables = {v.name: v for v in model.variables}
    places: dict[str, np.ndarray] = {}
    for i, name in enumerate(topological_order(model.graph)):
        v = variables[name]
        rows = np.asarray(v.table, float)[tuple(places[x] for x in v.parents)]
        u = np.asarray(jax.random.uniform(jax.random.fold_in(key, i), (num_samples, 1)), float)
        bounds = np.cumsum(rows, -1)[..., :-1]  # What rounding leaves of 1 belongs to the last value.
        last = np.max(np.where(rows > 0, np.arange(rows.shape[-1]), 0), -1)
        places[name] = np.minimum((u >= bounds).sum(-1), last)
    return {name: _array(variables[name].values)[places[name]] for name in model.names}


def fit(
    graph: AnyGraph,
    data: Columns,
    *,
    values: Mapping[str, Sequence[Hashable]] | None = None,
    prior: float = 0.0,
) -> CausalModel:
    """Return the causal model of a graph whose mechanisms are the frequencies in data.

        P(v | parents) = (count(v, parents) + prior) / (count(parents) + prior times the number of values of v)

    That is the maximum of the likelihood with `prior=0`, and the mean under a symmetric Dirichlet prior otherwise.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`; nothing latent.
        data: a column for each name: a data frame, or a dict of sequences of one length. Others are not used.
        values: the values of a variable in order, where they are not those that its column has, sorted.
        prior: the pseudo-count of each value.

    Raises:
        ValueError: a latent variable, which cannot be counted; a column is missing, of another length, or has missing
            values or unknown ones; values of the parents that no row has, with `prior=0`.

    >>> import undelude as ud
    >>> rows = {"A": [0, 0, 0, 1], "O": ["no", "no", "yes", "yes"]}
    >>> model = ud.causal.fit({"A": (), "O": ("A",)}, rows, prior=1)
    >>> print(model.query("O", do={"A": 0}))
    [0.6 0.4]
    """
    if latent := as_latent(graph):
        raise ValueError(f"{listed(latent)} is latent in the graph, and cannot be counted: pass a graph without it.")
    graph = as_graph(graph)
    if not (isinstance(prior, int | float) and 0 <= prior < np.inf):
        raise ValueError(f"prior must be a finite number of 0 or more, not {prior!r}.")
    if unknown := [name for name in values or {} if name not in graph]:
        raise ValueError(f"values={{{unknown[0]!r}: ...}}: there is no such variable in the graph.")
    for name, given in (values or {}).items():
        check_ordered(given, f"the values of {name}", "answers follow their order")
        if isinstance(given, str):
            raise ValueError(f"the values of {name} must be a sequence such as (0, 1), not {given!r:.99}.")
    columns = {name: _column(name, data) for name in graph}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have different lengths: {lengths}.")
    domains: dict[str, tuple[Hashable, ...]] = {}
    places: dict[str, np.ndarray] = {}
    for name, column in columns.items():
        domains[name] = tuple((values or {}).get(name, ())) or _in_order(name, column, data[name])
        known = {value: i for i, value in enumerate(domains[name])}
        try:
            places[name] = np.array([known[x] for x in column], int)
        except KeyError as error:
            raise ValueError(f"the column {name} has the value {error}, which is not in {domains[name]}.") from None
    return CausalModel(_variable(name, graph[name], domains, places, prior) for name in graph)


def _variable(
    name: str,
    parents: tuple[str, ...],
    domains: Mapping[str, tuple[Hashable, ...]],
    places: Mapping[str, np.ndarray],
    prior: float,
) -> Variable:
    axes = (*parents, name)
    counts = np.zeros([len(domains[x]) for x in axes])
    np.add.at(counts, tuple(places[x] for x in axes), 1)
    table = counts + prior
    empty = np.argwhere(table.sum(-1) == 0)
    if len(empty):
        causes = ", ".join(f"{x}={domains[x][i]}" for x, i in zip(parents, empty[0], strict=True))
        raise ValueError(
            f"no row has {causes}, so that nothing is known of {name} there ({len(empty)} such combinations): give a "
            "prior, such as prior=1."
        )
    return Variable(name, domains[name], parents, table=table / table.sum(-1, keepdims=True))


def _column(name: str, data: Columns) -> list[Any]:
    """Return the values of a column as Python objects."""
    try:
        column = data[name]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"the data have no column {name!r}.") from error
    if isinstance(column, str) or getattr(column, "ndim", 1) != 1:
        raise ValueError(f"the column {name!r} must be one sequence of values, not {type(column).__name__}.")
    found = column.tolist() if hasattr(column, "tolist") else list(column)
    missing = [i for i, x in enumerate(found) if x is None or x != x]
    if missing:
        raise ValueError(
            f"the column {name} has {len(missing)} missing values, the first in row {missing[0]}: leave these rows out "
            "if they are missing at random, or fill them."
        )
    return found


def _in_order(name: str, column: list[Any], given: Any) -> tuple[Hashable, ...]:
    """Return the values in the order of a categorical column, or sorted."""
    categories = getattr(getattr(given, "cat", given), "categories", None)  # Of a series, or of its values.
    return _sorted(name, column) if categories is None else tuple(categories.tolist())


def _sorted(name: str, column: list[Any]) -> tuple[Hashable, ...]:
    found = set(column)
    try:
        return tuple(sorted(found))
    except TypeError as error:
        raise ValueError(
            f"the values of {name} cannot be sorted ({listed(tuple(found))}): say their order by values."
        ) from error


def _array(values: tuple[Hashable, ...]) -> np.ndarray:
    """Return the values as an array with one entry each."""
    kinds = {type(x) for x in values}
    if len(kinds) == 1 and kinds <= {int, float, str, bool}:
        return np.array(values)
    found = np.empty(len(values), object)
    found[:] = values
    return found
