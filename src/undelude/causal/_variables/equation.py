"""Structural equations: a variable as a function of its parents and of noise of its own (Pearl 2009, section 7.1)."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from undelude._checks import check_ordered
from undelude.causal._names import Names, as_names, listed
from undelude.causal._variables.variable import Variable, index


class Equation:
    """A structural equation, `variable = function(parents, noise)`, in place of a `ud.Variable` in a `ud.CausalModel`.

    In the model it is a variable that its parents determine, one of which is its noise, a variable called `U_` and its
    name. All chance is in the noise, so that counterfactuals have answers. Nobody observes noise: it is latent in
    `model.graph`, and for `identify`, `ate` and `bounds`. Queries and samples can name it. So can `marginal`, for an
    observer who knows it.

    Args:
        name: of the variable.
        values: that it can take.
        function: of a value of each parent, in their order, and of the noise if there is any; it returns one of
            `values`.
        parents: the names of its parents, in order.
        noise: the probability of each value of its noise: a dict, or a sequence for the values 0, 1, ... The noise of
            each equation is independent of all others; a common cause is a variable of its own. Nothing for a function
            of the parents alone.

    Raises:
        TypeError: `function` cannot be called.

    >>> import undelude as ud
    >>> model = ud.CausalModel([
    ...     ud.Variable("A", (0, 1), table=[.5, .5]),
    ...     ud.Equation("O", (0, 1), lambda a, u: a if u == "helps" else u, parents=("A",),
    ...                 noise={"helps": .5, 0: .3, 1: .2}),
    ... ])
    >>> model
    CausalModel(A, U_O, O | A U_O)
    >>> print(model.query("O", do={"A": 1}))
    O=0  O=1
    0.3  0.7
    >>> print(model.counterfactual("O", do={"A": 0}, given={"A": 1, "O": 1}))  # .5 of the .7 were helped
       O=0     O=1
    0.7143  0.2857
    """

    def __init__(
        self,
        name: str,
        values: Iterable[Hashable],
        function: Callable[..., Hashable],
        parents: Names = (),
        *,
        noise: Mapping[Hashable, float] | Sequence[float] = (),
    ):
        if not callable(function):
            raise TypeError(f"{name}: function must be a function of the parents and the noise, not {function!r:.99}.")
        check_ordered(values, f"{name}: values", "answers follow their order")
        if isinstance(values, str | Mapping):
            raise ValueError(f"{name}: values must be a sequence such as (0, 1), not {values!r:.99}.")
        self.name, self.values, self.function = name, tuple(values), function
        self.parents = as_names(
            parents, order=f"the function of {name} takes its parents in their order", role=f"{name}: parents"
        )
        self.noise: dict[Hashable, float] = {**(noise if isinstance(noise, Mapping) else dict(enumerate(noise)))}

    @property
    def noise_name(self) -> str:
        """The name of the noise in the model."""
        return f"U_{self.name}"

    def __repr__(self) -> str:
        causes = ", ".join((*self.parents, *([self.noise_name] if self.noise else [])))
        return f"Equation({self.name} | {causes})" if causes else f"Equation({self.name})"

    def _variables(self, values_of: Mapping[str, tuple[Hashable, ...]]) -> list[Variable]:
        """Return the noise, if there is any, and the variable, whose table is certain.

        Args:
            values_of: the values of each parent.

        Raises:
            ValueError: the function fails, or returns another value.
        """
        domains: list[tuple[Hashable, ...]] = [values_of[name] for name in self.parents]
        found, parents = [], self.parents
        if self.noise:
            found.append(Variable(self.noise_name, tuple(self.noise), table=list(self.noise.values()), is_noise=True))
            domains.append(tuple(self.noise))
            parents = (*parents, self.noise_name)
        table = np.zeros((*map(len, domains), len(self.values)))
        for at in np.ndindex(*map(len, domains)):
            causes = [values[i] for values, i in zip(domains, at, strict=True)]
            table[(*at, self._place(causes))] = 1
        return [*found, Variable(self.name, self.values, parents, table=table)]

    def _place(self, causes: Sequence[Any]) -> int:
        shown = ", ".join(map(repr, causes))
        try:
            value = self.function(*causes)
        except Exception as error:
            raise ValueError(f"{self.name}: its function fails at ({shown}): {error}") from error
        try:
            return index(self.name, self.values, value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self.name}: its function returns {value!r:.99} at ({shown}), and not one of {listed(self.values)}."
            ) from error


def in_variables(parts: Sequence[Variable | Equation]) -> list[Variable]:
    """Return the variables of a model, in which an equation stands for its noise and its variable.

    Raises:
        ValueError: an unknown parent of an equation; its function fails, or returns another value.
    """
    values_of = {x.name: x.values for x in parts}
    found: list[Variable] = []
    for x in parts:
        if isinstance(x, Variable):
            found.append(x)
            continue
        if unknown := [name for name in x.parents if name not in values_of]:
            raise ValueError(f"{x.name}: its parent {unknown[0]!r} is not in the model: {listed(tuple(values_of))}.")
        found += x._variables(values_of)
    return found
