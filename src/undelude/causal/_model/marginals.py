"""The marginals of all variables at once."""

import numpy as np

from undelude._tree import is_concrete
from undelude.causal._model.model import CausalModel
from undelude.causal._names import check_names
from undelude.causal._summing.contraction import Terms, in_jax
from undelude.causal._summing.derivative import with_jacobian
from undelude.causal._variables.answer import Answer
from undelude.causal._variables.soft import Values, as_assignment
from undelude.causal._variables.variable import index


def marginals(model: CausalModel, *, see: Values | None = None, do: Values | None = None) -> dict[str, Answer]:
    """Compute `P(v | see, do)` for each variable that is neither seen, done nor latent.

    One contraction of the evidence and its derivatives answer for all of them (Darwiche 2003):

        P(v, parents, see | do)  =  table * d P(see | do) / d table

    If double precision or memory does not suffice for that, each variable is a query of its own.

    Args:
        model: the model; its tables must be known, not traced.
        see: observed values, by name.
        do: values set by intervention, by name.

    Raises:
        ValueError: as for `CausalModel.query`.
        NotIdentifiable: likewise.

    >>> import undelude as ud
    >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    >>> {name: answer.tolist() for name, answer in ud.causal.marginals(frog, see={"O_1": 1}, do={"A_1": 1}).items()}
    {'Theta': [0.0, 1.0]}
    """
    seen, done = as_assignment("see", see), as_assignment("do", do)
    structure = model.structure
    structure.check_observed((*seen, *done))
    check_names(model.graph, {"seen": tuple(seen), "done": tuple(done)})
    names = [name for name in model.names if name not in seen and name not in done]
    found = None if structure.is_marginal and done else _by_derivatives(model, seen, done)
    if found is None:
        return {name: model.query(name, see=seen, do=done) for name in names}
    return {name: Answer(in_jax(found[name]), (name,), (structure.values_of[name],)) for name in names}


def _by_derivatives(model: CausalModel, seen: Values, done: Values) -> dict[str, np.ndarray] | None:
    """Return the marginals, or None if another way must be taken."""
    structure = model.structure
    fixed = {name: index(name, structure.values_of[name], x) for name, x in (*seen.items(), *done.items())}
    terms = Terms(model.graph, structure.sizes, (), tuple(seen), tuple(done), keep_all=True)
    if not is_concrete(model.tables):
        raise TypeError("the tables are traced: marginals takes known ones. Within jit or grad, use query.")
    try:
        with np.errstate(over="ignore"):
            known = with_jacobian(terms, model.tables, fixed)
    except ValueError:  # The derivative would keep too much.
        return None
    if known is None or not (known[0] > 0 and np.isfinite(known[2]).all()):
        return None
    _, _, jacobian = known
    found, start = {}, 0
    for i in terms.used:
        table = np.asarray(model.tables[i], float)
        stop = start + table.size
        joint = table * jacobian[0, start:stop].reshape(table.shape)
        start = stop
        x = joint.sum(tuple(range(table.ndim - 1)))
        found[structure.parents[i][0]] = x / x.sum()
    return found
