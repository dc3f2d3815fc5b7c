"""The mechanisms of a graph from data, also with missing values, and the standard errors of what they answer."""

import math
import numbers
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from undelude._tree import TRACED_VALUE_ERRORS
from undelude.causal._model.effects import Effect
from undelude.causal._model.model import CausalModel
from undelude.causal._names import AnyGraph, Parents, as_graph, as_latent, listed
from undelude.causal._variables.answer import Answer
from undelude.causal._variables.columns import Columns, check_complete, domains_of, positions
from undelude.causal._variables.variable import Variable

# The largest number of ways in which the missing values of one row can be filled, and of entries held at once.
MAX_WAYS, MAX_ENTRIES = 2**20, 2**24
# Rounds of EM, and the gain of a round, in nats per row, at which it ends.
MAX_ROUNDS, MIN_GAIN = 1_000, 1e-9
# An expected count that is taken for none.
MIN_COUNT = 1e-6
# Entries of tables of which standard errors are computed.
MAX_PARAMETERS = 4_000
# Message about a function that has no derivative.
UNDIFFERENTIABLE = (
    "standard_error differentiates the function of the model, and a Python number has no derivative: return the array "
    "or the Effect itself, and use neither float(), .item() nor NumPy."
)


def fit(
    graph: AnyGraph,
    data: Columns,
    *,
    values: Mapping[str, Sequence[Hashable]] | None = None,
    prior: float = 0.0,
    missing: Literal["refuse", "em"] = "refuse",
) -> CausalModel:
    """Return the causal model of a graph whose mechanisms are the frequencies in data.

        P(v | parents) = (count(v, parents) + prior) / (count(parents) + prior times the number of values of v)

    That is the maximum of the likelihood with `prior=0`, and the mean under a symmetric Dirichlet prior otherwise.
    `missing="em"` counts a row with missing values in all ways in which they can be filled, by their probabilities
    under the model that is fitted (expectation maximisation; Dempster, Laird & Rubin 1977). That is right if values
    are missing at random, given the others of their row. It finds a local maximum.

    Args:
        graph: a dict that maps each name to its parents, a `ud.Graph`, or a `networkx.DiGraph`; nothing latent.
        data: a column for each name: a data frame, or a dict of sequences of one length. Others are not used.
        values: the values of a variable in order. By default those of its column: in the order of the categories of a
            categorical column, which may have values that no row has, and otherwise sorted, strings by the alphabet.
        prior: the pseudo-count of each value.
        missing: whether to refuse missing values (None, nan), or to average over them.

    Raises:
        ValueError: a latent variable, which cannot be counted; a column is missing, of another length, or has missing
            values or unknown ones; values of the parents that no row has, with `prior=0`; a row in which too much is
            missing.

    >>> import undelude as ud
    >>> rows = {"A": [0, 0, 0, 1], "O": ["no", "no", "yes", "yes"]}
    >>> model = ud.causal.fit({"A": (), "O": ("A",)}, rows, prior=1)
    >>> print(model.query("O", do={"A": 0}))
    O=no  O=yes
     0.6    0.4
    """
    if latent := as_latent(graph):
        raise ValueError(
            f"{listed(latent)} is latent in the graph, and cannot be counted: pass a graph without it. identify and "
            "bounds need no mechanism, and take ud.causal.frequencies(data)."
        )
    graph = as_graph(graph)
    if isinstance(prior, bool) or not (isinstance(prior, numbers.Real) and 0 <= prior < np.inf):
        raise ValueError(f"prior must be a finite number of 0 or more, not {prior!r}.")
    if missing not in ("refuse", "em"):
        raise ValueError(f'missing must be "refuse" or "em", not {missing!r}.')
    domains = domains_of(graph, data, values)
    rows = positions(domains, data)
    gaps = rows < 0
    if missing == "refuse":
        check_complete(domains, rows, 'pass missing="em" if they are missing at random, or leave these rows out.')
    places, counts = np.unique(rows, axis=0, return_counts=True)
    families = _families(graph, domains)

    def tables_of(counts: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [_normalised(family, domains, x + prior) for family, x in zip(families, counts, strict=True)]

    for i, name in enumerate(domains):
        for k in range(len(domains[name]) if gaps[:, i].any() and not prior else 0):
            if not (rows[:, i] == k).any():
                raise ValueError(
                    f"no row has {name}={domains[name][k]!r}, so that nothing is known of it: give a prior, such as "
                    "prior=1, or leave the value out."
                )
    if not gaps.any():
        tables = tables_of(_expected(families, None, places, counts).counts)
    else:
        tables = _em(families, places, counts, tables_of)
    return CausalModel(
        Variable(name, domains[name], graph[name], table=x) for name, x in zip(graph, tables, strict=True)
    )


def standard_error(
    function: Callable[[CausalModel], Any], model: CausalModel, data: Columns
) -> Float[np.ndarray, "..."] | Answer:
    """Compute the standard error of an answer of a model that was fitted to data, by the delta method.

        sqrt(g' F^-1 g),    g the gradient of the answer, F the information in the scores of the rows,

    both in the logarithms of the entries of the tables, up to a constant a row. F is the sum of outer products of the
    scores. Missing values lower it, because the score of a row is its mean over the ways in which they can be filled.
    Probabilities of 0 and 1 are taken for certain, as they are in the model.

    Args:
        function: of the model, differentiable, such as `lambda model: model.query("O", do={"A": 1})`; its answer is an
            array or an `Effect`, and not a Python number.
        model: the model, as `fit` returned it for `data`, with `prior=0` or a prior that is small beside the counts.
        data: a column for each variable, with the same values.

    Returns:
        The standard error of each number, in the shape of the answer; inf where the rows do not determine it: it
        depends on a mechanism at values of the parents that no row has, or on values that no row has together.

    Raises:
        ValueError: a column is missing or has unknown values; too many parameters; a marginal.
        TypeError: the function returns a Python number, or asks for the value of a traced one.

    >>> import undelude as ud
    >>> rows = {"A": [0] * 50 + [1] * 50, "O": [0] * 30 + [1] * 20 + [0] * 10 + [1] * 40}
    >>> model = ud.causal.fit({"A": (), "O": ("A",)}, rows)
    >>> error = ud.causal.standard_error(lambda m: m.query("O", do={"A": 1})[1], model, rows)
    >>> abs(float(error) - (0.8 * 0.2 / 50) ** 0.5) < 1e-6
    True
    """
    if model.structure.is_marginal:
        raise ValueError("a marginal knows no mechanism that was fitted: ask the model that it comes from.")
    domains = model.structure.values_of
    num_parameters = sum(x.size for x in model.tables)
    if num_parameters > MAX_PARAMETERS:
        raise ValueError(
            f"the model has {num_parameters:,} entries of tables; standard errors are computed for "
            f"{MAX_PARAMETERS:,} at most."
        )
    places, counts = np.unique(positions(domains, data), axis=0, return_counts=True)
    families = _families(model.graph, domains)
    tables = [np.asarray(x, float) for x in model.tables]

    def ask(model: CausalModel) -> Any:
        try:
            answer = function(model)
        except TRACED_VALUE_ERRORS as error:
            raise TypeError(f"{UNDIFFERENTIABLE} JAX says: {str(error).splitlines()[0]}") from error
        if isinstance(answer, float | int):
            raise TypeError(f"{UNDIFFERENTIABLE} It returned the Python number {answer!r}.")
        return answer.value if isinstance(answer, Effect) else answer

    def flat(tables: tuple) -> jax.Array:
        answer = ask(eqx.tree_at(lambda m: m.tables, model, tables))
        if not isinstance(answer, Answer | jax.Array | np.ndarray):
            raise TypeError(f"the function of the model must return numbers or an answer, not {type(answer).__name__}.")
        return jnp.ravel(jnp.asarray(answer))

    gradients = jax.jacrev(flat)(tuple(jnp.asarray(x, float) for x in tables))
    # The derivative in the logarithms of a row of a table, which keep its sum: p (g - g p).
    slopes = [np.asarray(g, float) * p for g, p in zip(gradients, tables, strict=True)]
    slopes = [g - g.sum(-1, keepdims=True) * p for g, p in zip(slopes, tables, strict=True)]
    information, seen = _information(families, tables, places, counts, num_parameters)
    g = np.concatenate([x.reshape(len(x), -1) for x in slopes], 1)
    inverse = np.linalg.pinv(information, hermitian=True, rcond=1e-10)
    variance = np.einsum("ai,ij,aj->a", g, inverse, g)
    # What no row tells: mechanisms at values that no row has, and directions in which the likelihood is flat.
    beyond = np.linalg.norm(g - g @ information @ inverse, axis=1) > 1e-5 * np.linalg.norm(g, axis=1)
    unknown = (abs(g) > 1e-9)[:, ~seen].any(1) | beyond
    error = np.where(unknown, np.inf, np.sqrt(np.maximum(variance, 0)))
    answer = ask(model)
    error = error.reshape(np.shape(answer))
    return Answer(jnp.asarray(error), answer.names, answer.values) if isinstance(answer, Answer) else error


# --------------------------------------------------------------------------------------------- rows with missing values


class Family(NamedTuple):
    """A variable and its parents.

    Attributes:
        axes: the positions of the parents and of the variable itself, in the order of the axes of its table.
        names: their names.
        shape: of its table.
    """

    axes: tuple[int, ...]
    names: tuple[str, ...]
    shape: tuple[int, ...]


class Expected(NamedTuple):
    """What data are expected to count under a model.

    Attributes:
        counts: for each variable, how often it and its parents take their values.
        log_likelihood: of the data, in nats.
    """

    counts: list[np.ndarray]
    log_likelihood: float


def _families(graph: Parents, domains: Mapping[str, tuple[Hashable, ...]]) -> list[Family]:
    place = {name: i for i, name in enumerate(graph)}
    families = []
    for name in graph:
        names = (*graph[name], name)
        families.append(Family(tuple(place[x] for x in names), names, tuple(len(domains[x]) for x in names)))
    return families


def _em(
    families: list[Family],
    places: Int[np.ndarray, "U V"],
    counts: Int[np.ndarray, " U"],
    tables_of: Callable[[Sequence[np.ndarray]], list[np.ndarray]],
) -> list[np.ndarray]:
    """Return the tables at a local maximum of the likelihood, times the prior."""
    # It begins with what the complete rows of each family show, and one further count for all.
    start = []
    for family in families:
        table = np.ones(family.shape)
        complete = (places[:, family.axes] >= 0).all(1)
        np.add.at(table, tuple(places[complete][:, family.axes].T), counts[complete])
        start.append(table / table.sum(-1, keepdims=True))
    tables, before = start, -np.inf
    for _ in range(MAX_ROUNDS):
        expected = _expected(families, tables, places, counts)
        gain = expected.log_likelihood - before
        tables, before = tables_of(expected.counts), expected.log_likelihood
        if abs(gain) < MIN_GAIN * counts.sum():  # A prior may lower the likelihood in a round.
            # Counts that vanish are of parents that no row has: `tables_of` refuses them.
            return tables_of([np.where(x < MIN_COUNT, 0.0, x) for x in expected.counts])
    warnings.warn(f"EM has not ended in {MAX_ROUNDS} rounds; the last one gained {gain:.2g} nats.", stacklevel=3)
    return tables


def _expected(
    families: list[Family],
    tables: Sequence[np.ndarray] | None,
    places: Int[np.ndarray, "U V"],
    counts: Int[np.ndarray, " U"],
) -> Expected:
    """Return the expected counts of each family; complete rows need no tables."""
    found, total = [np.zeros(family.shape) for family in families], 0.0
    for rows, at, weights, log_likelihood in _filled(families, tables, places):
        w = weights * counts[rows].reshape(-1, *[1] * (weights.ndim - 1))
        for family, table in zip(families, found, strict=True):
            np.add.at(table, tuple(np.broadcast_to(at[i], w.shape) for i in family.axes), w)
        total += float(log_likelihood @ counts[rows])
    return Expected(found, total)


def _information(
    families: list[Family],
    tables: Sequence[np.ndarray],
    places: Int[np.ndarray, "U V"],
    counts: Int[np.ndarray, " U"],
    size: int,
) -> tuple[Float[np.ndarray, "P P"], np.ndarray]:
    """Return the sum of outer products of the scores of rows, and which entries belong to parents that a row has."""
    information, seen = np.zeros((size, size)), np.zeros(size, bool)
    for rows, at, weights, _ in _filled(families, tables, places, most=MAX_ENTRIES // size):
        scores, start = np.zeros((len(rows), size)), 0
        gone = tuple(range(1, weights.ndim))
        for family, table in zip(families, tables, strict=True):
            share = np.zeros((len(rows), *table.shape))
            first = np.arange(len(rows)).reshape(-1, *[1] * len(gone))
            where = tuple(np.broadcast_to(x, weights.shape) for x in (first, *(at[i] for i in family.axes)))
            np.add.at(share, where, weights)
            of_parents = share.sum(-1, keepdims=True)
            stop = start + table.size
            scores[:, start:stop] = (share - of_parents * table).reshape(len(rows), -1)
            seen[start:stop] |= np.broadcast_to(of_parents.sum(0) > 0, table.shape).ravel()
            start = stop
        information += (scores * counts[rows][:, None]).T @ scores
    return information, seen


def _filled(
    families: list[Family],
    tables: Sequence[np.ndarray] | None,
    places: Int[np.ndarray, "U V"],
    *,
    most: int = MAX_ENTRIES,
) -> Iterator[tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]]:
    """Yield rows that lack the same values, filled in all ways.

    Yields:
        The rows; the position of the value of each variable, `[rows, 1 or its number of values, ...]`, with an axis for
        each missing variable; the probability of each way, `[rows, ...]`; and the log-likelihood of each row.
    """
    sizes = {family.axes[-1]: family.shape[-1] for family in families}
    gaps = places < 0
    for pattern in np.unique(gaps, axis=0):
        missing = [int(i) for i in np.flatnonzero(pattern)]
        ways = math.prod(sizes[i] for i in missing)
        if ways > MAX_WAYS:
            names = [family.names[-1] for family in families if family.axes[-1] in missing]
            raise ValueError(
                f"rows lack {listed(names)}, which have {ways:.1g} values together: leave rows out in which so much is "
                "missing."
            )
        chosen = np.flatnonzero((gaps == pattern).all(1))
        for rows in np.array_split(chosen, math.ceil(len(chosen) * ways / most)):
            at = []
            for i in range(places.shape[1]):
                axis = 1 + missing.index(i) if i in missing else 0
                index = np.arange(sizes[i]) if i in missing else places[rows, i]
                at.append(index.reshape([-1 if k == axis else 1 for k in range(len(missing) + 1)]))
            x = np.ones((len(rows), *(sizes[i] for i in missing)))
            if tables is not None:
                for family, table in zip(families, tables, strict=True):
                    x = x * table[tuple(at[i] for i in family.axes)]
            total = x.sum(tuple(range(1, x.ndim)), keepdims=True)
            likelihood = total.reshape(-1)
            with np.errstate(divide="ignore", invalid="ignore"):
                yield rows, at, np.where(total > 0, x / total, 0.0), np.log(likelihood)


def _normalised(family: Family, domains: Mapping[str, tuple[Hashable, ...]], table: np.ndarray) -> np.ndarray:
    """Return the rows of a table of counts as probabilities; raise `ValueError` if one of them is empty."""
    *parents, name = family.names
    empty = np.argwhere(table.sum(-1) == 0)
    if len(empty):
        causes = ", ".join(f"{x}={domains[x][i]}" for x, i in zip(parents, empty[0], strict=True))
        raise ValueError(
            f"no row has {causes}, so that nothing is known of {name} there ({len(empty)} such combinations): give a "
            "prior, such as prior=1."
        )
    return table / table.sum(-1, keepdims=True)
