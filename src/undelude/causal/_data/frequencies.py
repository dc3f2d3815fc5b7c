"""The observed distribution of data, as an answer that knows its names and values."""

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from undelude.causal._names import Names, as_names, listed
from undelude.causal._summing.contraction import in_jax
from undelude.causal._variables.answer import Answer
from undelude.causal._variables.columns import Columns, check_complete, domains_of, positions

# Entries of the largest table.
MAX_ENTRIES = 2**24


def frequencies(
    data: Columns, names: Names | None = None, *, values: Mapping[str, Sequence[Hashable]] | None = None
) -> Answer:
    """Return the relative frequencies of the rows of data, `P(names) = count(names) / number of rows`.

    It is what can be said of a graph with latent variables, whose mechanisms `fit` cannot count: `Estimand.evaluate`
    and `ud.causal.bounds` take it as their `joint`.

    Args:
        data: a data frame, or a dict of sequences of one length.
        names: a name or several, in the order of the axes; by default all columns.
        values: the values of a variable in order, where they are not those that its column has, sorted.

    Returns:
        Probabilities `[*names]` with names and values.

    Raises:
        ValueError: a column is missing, of another length, or has missing values or unknown ones; a table of too many
            entries.

    >>> import undelude as ud
    >>> rows = {"A": ["drug", "drug", "none", "none"], "O": [1, 1, 1, 0]}
    >>> found = ud.causal.frequencies(rows)
    >>> print(found)
             O=0   O=1
    A=drug     0   0.5
    A=none  0.25  0.25
    >>> graph = ud.Graph({"A": (), "O": "A"}, bidirected=[("A", "O")])
    >>> print(ud.causal.bounds(graph, "O", do={"A": "drug"}, joint=found))
         low  high
    O=0    0   0.5
    O=1  0.5     1
    """
    names = as_names(tuple(data) if names is None else names, order="the axes of the answer follow their order")
    if len(set(names)) < len(names):
        raise ValueError(f"names has a variable twice: {listed(names)}.")
    if not names:
        raise ValueError("the data have no column, or names is empty: name the variables to count.")
    domains = domains_of(dict.fromkeys(names, ()), data, values)
    sizes = [len(x) for x in domains.values()]
    if math.prod(sizes) > MAX_ENTRIES:
        shown = ", ".join(f"{name} {size:,}" for name, size in zip(names, sizes, strict=True))
        raise ValueError(f"the table has {math.prod(sizes):,} entries ({shown}), over {MAX_ENTRIES:,}: name fewer.")
    rows = positions(domains, data)
    check_complete(domains, rows, "leave these rows out.")
    counts = np.bincount(np.ravel_multi_index(tuple(rows.T), sizes), minlength=math.prod(sizes))
    return Answer(in_jax(counts.reshape(sizes) / len(rows)), names, tuple(domains.values()))
