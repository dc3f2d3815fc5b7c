"""What can be asked of a causal model beyond a probability: expectations, information, counterfactuals."""

import abc
import contextlib
import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from undelude.causal._identifying.bounds import Bounds, bounds
from undelude.causal._mixed.graph import Graph
from undelude.causal._model.counterfactual import Causation, Worlds, check_determined, worlds
from undelude.causal._model.information import mutual_information
from undelude.causal._model.structure import Structure
from undelude.causal._names import Names, as_latent, as_names, check_names
from undelude.causal._summing.contraction import backend
from undelude.causal._variables.answer import Answer
from undelude.causal._variables.contrast import numbers_of, one_entry, other_value
from undelude.causal._variables.soft import Interventions, SoftValues, Values, as_assignment, done_as_text, seen_as_text
from undelude.causal._variables.variable import Value, Variable, index


class ImpossibleEvidence(ValueError):
    """What is said to have been seen has no probability under the model."""


class AbstractQuestions(eqx.Module):
    """The questions whose answers are functions of several queries, or queries of another model."""

    structure: eqx.AbstractVar[Structure]

    @abc.abstractmethod
    def query(self, asked: Names, *, see: SoftValues | None = None, do: Interventions | None = None) -> Answer:
        """Compute `P(asked | see, do)`."""

    @abc.abstractmethod
    def _of(self, variables: Iterable[Variable]) -> "AbstractQuestions":
        """Return a model of other variables."""

    @property
    @abc.abstractmethod
    def graph(self) -> Graph:
        """The graph of the model."""

    @property
    @abc.abstractmethod
    def variables(self) -> tuple[Variable, ...]:
        """The variables and their mechanisms."""

    @abc.abstractmethod
    def __getitem__(self, name: str) -> Variable:
        """Return a variable by its name."""

    def __hash__(self) -> int:
        """Raise `TypeError`: the tables are arrays, which have no hash."""
        raise TypeError(
            f"a {type(self).__name__} has no hash, because its tables are arrays: take id(model) as a key, or "
            "model.structure for its graph and values."
        )

    def expectation(
        self,
        asked: Names,
        function: Callable[..., Any] | None = None,
        *,
        see: SoftValues | None = None,
        do: Interventions | None = None,
    ) -> Float[Array, ""]:
        """Compute `E[function(asked) | see, do] = sum_x P(x | see, do) function(x)`.

        Args:
            asked: a name or several, in order.
            function: of a value of each name asked, in their order; by default the value itself, of one name.
            see: as in `query`.
            do: as in `query`.

        Raises:
            ValueError: as for `query`; values that are not numbers, without a `function`.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
        >>> round(float(frog.expectation("O_1", do={"A_1": 1})), 3), round(float(frog.expectation("O_1")), 3)
        (0.5, 1.0)
        """
        asked = as_names(asked, order="the function takes the values in the order of the names asked", role="asked")
        P = self.query(asked, see=see, do=do).array
        numbers = numbers_of(asked, [self.structure.values_of[name] for name in asked], function)
        return (P * numbers).sum()

    def most_probable(
        self, asked: Names, *, see: SoftValues | None = None, do: Interventions | None = None
    ) -> dict[str, Hashable]:
        """Return the values of `asked` that are most probable together, `argmax P(asked | see, do)`, by name.

        Of several equally probable ones, the first in the order of values. The table of all of `asked` must fit in
        memory.

        Args:
            asked: a name or several.
            see: as in `query`.
            do: as in `query`.

        Raises:
            ValueError: as for `query`.
        """
        asked = as_names(asked, order="of equally probable values those that come first are returned", role="asked")
        P = np.asarray(self.query(asked, see=see, do=do))
        at = np.unravel_index(int(P.argmax()), P.shape)
        return {name: self.structure.values_of[name][int(i)] for name, i in zip(asked, at, strict=True)}

    def mutual_information(
        self, a: Names, b: Names, *, given: Names = (), see: SoftValues | None = None, do: Interventions | None = None
    ) -> Float[Array, ""]:
        """Compute `I(a; b | given)` under `see` and `do`, in nats (Cover & Thomas 2006, section 2.5).

        Args:
            a: a name or several.
            b: likewise.
            given: the variables over whose values the information is averaged.
            see: as in `query`.
            do: as in `query`.

        Raises:
            ValueError: as for `query`.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
        >>> round(float(frog.mutual_information("Theta", "A_1")), 4)  # log 2: the expert's action tells theta
        0.6931
        """
        groups = [tuple(dict.fromkeys(as_names(names))) for names in (a, b, given)]
        joint = self.query([name for names in groups for name in names], see=see, do=do).array
        sizes = [math.prod(self.structure.sizes[name] for name in names) for names in groups]
        return mutual_information(joint.reshape(sizes))

    def information_flow(self, cause: Names, outcome: Names, *, do: Interventions | None = None) -> Float[Array, ""]:
        """Compute the information that flows from causes to outcomes, in nats (Ay & Polani 2008).

            sum_a P(a | do) sum_o P(o | do(a), do) log(P(o | do(a), do) / sum_a' P(a' | do) P(o | do(a'), do))

        It is the mutual information of the outcome o and an intervention on the cause a, drawn as a is: 0 for a common
        cause alone.

        Args:
            cause: a name or several.
            outcome: likewise.
            do: other variables intervened on, as in `query`.

        Raises:
            ValueError: as for `query`.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
        >>> round(float(frog.information_flow("A_1", "Theta")), 4)  # no action changes theta
        0.0
        """
        causes, outcomes = (tuple(dict.fromkeys(as_names(names))) for names in (cause, outcome))
        do = as_assignment("do", do)
        P = self.query(causes, do=do).array.ravel()
        xp = backend(P)
        values = itertools.product(*(self.structure.values_of[name] for name in causes))
        effects = [self.query(outcomes, do={**do, **dict(zip(causes, x, strict=True))}).array.ravel() for x in values]
        return mutual_information(xp.asarray(P)[:, None, None] * xp.stack(effects)[..., None])

    def counterfactual(
        self,
        asked: Names,
        *,
        do: Values,
        given: SoftValues | None = None,
        given_do: Values | None = None,
    ) -> Answer:
        """Compute `P(asked under do | given, given_do)`: what would have been, in the case that was observed.

        Abduction, action and prediction (Pearl 2009, section 7.1), by a query of the twin network. Own actions are
        `given_do`: that they were chosen says nothing about their causes.

        Args:
            asked: a name or several, in order, of the world in which `do` is done.
            do: values set by intervention in that world, by name.
            given: values seen in the actual world, by name; or likelihoods, as in `query`.
            given_do: values set by intervention in the actual world, by name.

        Returns:
            Probabilities with an axis for each name asked, in that order.

        Raises:
            ValueError: as for `query`; or the answer depends on a random mechanism, whose table does not determine a
                counterfactual: write it as a `ud.Equation`.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
        >>> frog.counterfactual("O_1", do={"A_1": 1}, given={"A_1": 0, "O_1": 1}).tolist()  # the prize was in box 0
        [1.0, 0.0]
        """
        do, given, given_do = (
            as_assignment(role, x) for role, x in (("do", do), ("given", given), ("given_do", given_do))
        )
        asked = as_names(asked, order="the axes of the answer follow the order of the names asked", role="asked")
        if len(set(asked)) < len(asked):
            raise ValueError(f"a name is asked twice in {asked}.")
        check_names(self.graph, {"asked": asked, "done": tuple(do)})
        check_names(self.graph, {"given": tuple(given), "given_do": tuple(given_do)})
        if any(isinstance(x, Mapping | Variable) for x in (*do.values(), *given_do.values())):
            raise ValueError(
                "a counterfactual takes values in do and given_do. For a policy, ask model.replace(policy), and leave "
                "the variable out of them."
            )
        for name, x in (*do.items(), *given_do.items()):
            index(name, self[name].values, x)  # Raises if there is no such value.
        found = self._worlds([tuple(given_do), tuple(do)], seen=tuple(given), asked=[(1, name) for name in asked])
        there, variables = found.names[1], list(found.variables)
        names = []
        for name in asked:
            copy = there[name]
            if copy in given or copy in names:  # No intervention reaches it: it is the same in both worlds.
                variables.append(_copy(self[name], copy := f"{name} there"))
            names.append(copy)
        done = {**given_do, **{there[name]: x for name, x in do.items()}}
        with _in_actual_world(given, given_do):
            answer = self._of(variables).query(names, see=given, do=done)
        return Answer(answer.array, asked, answer.values)

    def causation(
        self, cause: Values, outcome: Values, *, instead: Value | None = None, given: SoftValues | None = None
    ) -> Causation:
        """Compute the probabilities of necessity and sufficiency (Pearl 2009, section 9.2).

        Args:
            cause: the name and value of the cause, such as `{"A": 1}`.
            outcome: the name and value of the outcome.
            instead: the value of the cause in its absence; by default the other one, if there are two.
            given: what else was seen, in the actual world.

        Raises:
            ValueError: as for `counterfactual`; a cause of several values without `instead`.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
        >>> [round(float(x), 2) for x in frog.causation({"A_1": 1}, {"O_1": 1})]
        [1.0, nan, 0.5]

        The expert always finds the prize, so that nobody sees a failure whose sufficiency could be asked.
        """
        (a, x), (o, y) = one_entry("cause", cause), one_entry("outcome", outcome)
        index(a, self[a].values, x)  # Raises if there is no such value.
        other = other_value(a, self[a].values, x) if instead is None else instead
        given, place = as_assignment("given", given), index(o, self[o].values, y)
        check_names(self.graph, {"the cause": (a,), "the outcome": (o,), "given": tuple(given)})
        fails = {value: float(i != place) for i, value in enumerate(self[o].values)}

        def or_nan(do: Values, seen: SoftValues) -> Array:
            try:
                return self.counterfactual(o, do=do, given={**given, **seen})[place]
            except ImpossibleEvidence:
                return jnp.asarray(jnp.nan)

        necessity = 1 - or_nan({a: other}, {a: x, o: y})
        sufficiency = or_nan({a: x}, {a: other, o: fails})
        found = self._worlds([(), (a,), (a,)], seen=tuple(given), asked=[(1, o), (2, o)])
        (_, one, two) = found.names
        if one[o] == two[o]:  # The cause does not reach the outcome.
            return Causation(necessity, sufficiency, jnp.zeros(()))
        with _in_actual_world(given, {}):
            joint = self._of(found.variables).query((one[o], two[o]), see=given, do={one[a]: x, two[a]: other})
        return Causation(necessity, sufficiency, joint[place].sum() - joint[place, place])

    def bounds(self, asked: Names, *, do: Values, latent: Names = ()) -> Bounds:
        """Compute bounds on `P(asked | do)` for an observer who knows the graph, and not the variables in `latent`.

        The observer knows the distribution of the others. `ud.causal.bounds` takes a table of data.

        Args:
            asked: a name or several, in order.
            do: values set by intervention, by name.
            latent: the variables that cannot be observed, besides those of the graph: noise, or what a marginal hides.

        Raises:
            ValueError: as for `ud.causal.bounds`.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
        >>> found = frog.bounds("O_1", do={"A_1": 0}, latent="Theta")  # half of the time another box was opened
        >>> print(found)
               low  high
        O_1=0    0   0.5
        O_1=1  0.5     1
        """
        joint, latent = self._seen_by_others(latent)
        return bounds(self.graph, asked, do=do, joint=joint, latent=latent)

    def _seen_by_others(self, latent: Names) -> tuple[Answer, tuple[str, ...]]:
        """Return the distribution of the variables that others observe, and the latent ones."""
        latent = as_latent(self.graph, latent)
        check_names(self.graph, {"latent": latent})
        return self.query([name for name in self.graph if name not in latent]), latent

    def _worlds(self, done: list[tuple[str, ...]], *, seen: tuple[str, ...], asked: list[tuple[int, str]]) -> Worlds:
        """Return the worlds with these interventions, in which `seen` (the first) and `asked` can be answered.

        Raises:
            ValueError: the model is a marginal; a random mechanism stands in the way.
        """
        if self.structure.is_marginal:
            raise ValueError("a marginal knows no mechanism, by which worlds are compared: ask the model itself.")
        names = tuple(name for world in done for name in world)
        self.structure.check_observed((*names, *seen, *(name for _, name in asked)))
        found = worlds(self.variables, done)
        check_determined(found, done, {*seen, *(found.names[i][name] for i, name in asked)})
        return found


def impossible(see: SoftValues, do: Interventions) -> ImpossibleEvidence:
    """Return the error of evidence without probability."""
    seen = ", ".join(itertools.starmap(seen_as_text, see.items()))
    done = ", ".join(itertools.starmap(done_as_text, do.items()))
    return ImpossibleEvidence(
        f"impossible evidence: the model gives {seen} no probability{f' under {done}' if done else ''}. Correct the "
        "evidence, or let the mechanisms allow it."
    )


@contextlib.contextmanager
def _in_actual_world(given: SoftValues, given_do: Values) -> Iterator[None]:
    """Name the evidence and interventions of the actual world alone, on which it depends whether it is impossible."""
    try:
        yield
    except ImpossibleEvidence:
        raise impossible(given, given_do) from None


def _copy(variable: Variable, name: str) -> Variable:
    """Return a variable that always has the value of another."""
    return Variable(name, variable.values, (variable.name,), table=np.eye(len(variable.values)))
