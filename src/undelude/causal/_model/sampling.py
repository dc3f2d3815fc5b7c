"""Samples of a causal model."""

from collections.abc import Hashable, Mapping

import jax
import numpy as np
from jaxtyping import Array, Key

from undelude._checks import check_key
from undelude.causal._graphs.graph import topological_order
from undelude.causal._model.model import CausalModel
from undelude.causal._variables.soft import Interventions, as_assignment, other_mechanism
from undelude.causal._variables.variable import Variable, index


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
        TypeError: `key` is not one key.

    >>> import undelude as ud
    >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    >>> samples = ud.causal.sample(frog, jax.random.key(0), 1000, do={"A_1": 1})
    >>> samples["O_1"].shape, bool(abs(samples["O_1"].mean() - 0.5) < 0.05)
    ((1000,), True)
    """
    check_key(key)
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


def _array(values: tuple[Hashable, ...]) -> np.ndarray:
    """Return the values as an array with one entry each."""
    kinds = {type(x) for x in values}
    if len(kinds) == 1 and kinds <= {int, float, str, bool}:
        return np.array(values)
    found = np.empty(len(values), object)
    found[:] = values
    return found
