"""Causal effects of one value in place of another: total, direct and indirect (Pearl 2009, section 4.5)."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from undelude.causal._expressions.notation import written_query
from undelude.causal._identifying.bounds import Bounds, ate_bounds
from undelude.causal._identifying.estimand import Estimand
from undelude.causal._identifying.identification import NotIdentifiable, identify
from undelude.causal._model.questions import AbstractQuestions
from undelude.causal._names import Names, as_names, check_names
from undelude.causal._variables.contrast import one_entry, other_value
from undelude.causal._variables.soft import Interventions, SoftValues, Values, as_assignment, done_as_text, seen_as_text
from undelude.causal._variables.variable import Value, Variable, index

# Ending of the message that an average effect is not identifiable.
BEYOND = "`ate_bounds` returns the least and the greatest average effect that the data allow."


class Effect(eqx.Module):
    """The effect of a cause on the expectation of an outcome.

    It prints with its definition and, if there is one, its estimand. `float` is its value, and so is the leaf of
    this PyTree.

    The value of a model is computed from all of its mechanisms, and not by the estimand, which says how observations
    would determine it. Both agree on the distribution of the model. On the frequencies of finite data the estimand can
    give another number, as these have the independences of the graph only approximately, and a fitted model has them
    exactly. `estimand.evaluate` takes frequencies.

    Attributes:
        value: the difference of two expectations, in the units of the outcome.
        definition: the two expectations.
        estimand: of the distributions that they are taken of, in what can be observed; None if it is not known, if
            noise is in the question, or if what is seen or done is a distribution, a likelihood or a mechanism in place
            of a value.
        source: what `value` is computed from, as printed: the mechanisms of a model, or what a marginal observes.
    """

    value: Float[Array, ""]
    definition: str = eqx.field(static=True)
    estimand: Estimand | None = eqx.field(static=True, default=None)
    source: str = eqx.field(static=True, default="")

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        estimand = f"\nEstimand from observations: {self.formula()}" if self.estimand is not None else ""
        return f"{self.definition} = {self.shown()}{estimand}"

    def shown(self) -> str:
        """Return the value and its source, as they are printed."""
        value = f"{np.asarray(self.value):.4g}" if eqx.is_array(self.value) else str(self.value)
        return f"{value}, {self.source}" if self.source else value

    def formula(self) -> str:
        """Return the query of the estimand and its expression; an empty text without an estimand."""
        x = self.estimand
        return "" if x is None else f"{written_query(x.asked, x.do, x.see)} = {x}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_effect  # In a notebook alone: it needs matplotlib.

        return of_effect(self)


def blind_to(variable: Variable, parent: str, place: int) -> Variable:
    """Return the mechanism of a variable to which one parent always seems to have the value at `place`.

    The arrow from the parent alone is intervened on: other children of the parent are not told.
    """
    axis = variable.parents.index(parent)
    rest = (*variable.parents[:axis], *variable.parents[axis + 1 :])
    table: Any = variable.table
    return Variable(variable.name, variable.values, rest, table=table.take(place, axis))


def _mean(outcome: str, function: Callable[[Any], Any] | None) -> str:
    return outcome if function is None else f"f({outcome})"


class AbstractEffects(AbstractQuestions):
    """Effects: differences of the answers to questions."""

    def ate(
        self,
        cause: Values,
        outcome: str,
        *,
        instead: Value | None = None,
        see: SoftValues | None = None,
        do: Interventions | None = None,
        function: Callable[[Any], Any] | None = None,
        latent: Names = (),
    ) -> Effect:
        """Compute the average effect of a cause, `E[O | do(A = a)] - E[O | do(A = instead)]` (Pearl 2009, section 3.2).

        It is computed from all mechanisms of the model. The estimand is printed with it and not evaluated: on the
        frequencies of finite data it can give another number, as `Effect` explains.

        Args:
            cause: the name and value of the cause, such as `{"A": 1}`.
            outcome: the name of the outcome.
            instead: the value of the cause in its absence; by default the other one, if there are two.
            see: what else was seen, after the intervention: the effect is that among such cases.
            do: what else is done, in both cases; with all mediators in it, this is the controlled direct effect.
            function: of a value of the outcome; by default the value itself.
            latent: the variables that the estimand does without, besides the noise of equations.

        Raises:
            ValueError: as for `query`; a cause of several values without `instead`, values that are not numbers;
                `latent` is given, and `see` or `do` has another thing than a value.
            NotIdentifiable: the model is a marginal, and its observed variables do not determine the effect; or
                `latent` is given, and the others do not. `ate_bounds` returns what they say of it.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
        >>> frog.ate({"A_1": 1}, "O_1")
        E[O_1 | do(A_1=1)] - E[O_1 | do(A_1=0)] = 0, from the model's mechanisms
        Estimand from observations: P(O_1 | do(A_1)) = sum_Theta P(O_1 | A_1, Theta) P(Theta)
        """
        seen, done, latent = as_assignment("see", see), as_assignment("do", do), as_names(latent)
        name, x, other = self._contrast(cause, outcome, instead, tuple(done))
        is_soft = any(isinstance(y, Mapping | Variable) for y in (*seen.values(), *done.values()))
        if is_soft and latent:
            raise ValueError("latent= asks for an estimand, and there is one for values in see and do alone.")
        is_of_noise = not latent and not {name, outcome, *done, *seen}.isdisjoint(self.graph.latent)
        estimand = None
        if not (is_soft or is_of_noise):
            try:
                estimand = identify(self.graph, outcome, do=(name, *done), see=tuple(seen), latent=latent)
                estimand = dataclasses.replace(estimand, sizes=self.structure.sizes)
            except NotIdentifiable as error:
                if latent:
                    error.add_note(BEYOND)
                    raise
        try:
            values = [self.expectation(outcome, function, see=seen, do={**done, name: value}) for value in (x, other)]
        except NotIdentifiable as error:  # A marginal does not determine them.
            error.add_note(BEYOND)
            raise
        rest = (*itertools.starmap(done_as_text, done.items()), *itertools.starmap(seen_as_text, seen.items()))
        given = "".join(f", {what}" for what in rest)
        mean = _mean(outcome, function)
        one, two = (f"E[{mean} | do({name}={value}){given}]" for value in (x, other))
        source = "from the observed distribution" if self.structure.is_marginal else "from the model's mechanisms"
        return Effect(values[0] - values[1], f"{one} - {two}", estimand, source)

    def ate_bounds(
        self,
        cause: Values,
        outcome: str,
        *,
        instead: Value | None = None,
        do: Values | None = None,
        function: Callable[[Any], Any] | None = None,
        latent: Names = (),
    ) -> Bounds:
        """Compute bounds on the average effect of a cause, for an observer who does not know the variables in `latent`.

        The observer knows the graph, and the distribution of the others. `ud.causal.ate_bounds` takes a table of data.

        Args:
            cause: as in `ate`.
            outcome: likewise.
            instead: likewise.
            do: values that are set in both cases, by name.
            function: as in `ate`.
            latent: the variables that cannot be observed, besides those of the graph: noise, or what a marginal hides.

        Raises:
            ValueError: as for `ud.causal.ate_bounds`.

        >>> import undelude as ud
        >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
        >>> print(frog.ate_bounds({"A_1": 1}, "O_1", latent="Theta"))  # the effect is 0
         low  high
        -0.5   0.5
        """
        joint, latent = self._seen_by_others(latent)
        return ate_bounds(
            self.graph, cause, outcome, joint=joint, latent=latent, instead=instead, do=do, function=function
        )

    def direct_effect(
        self, cause: Values, outcome: str, *, instead: Value | None = None, function: Callable[[Any], Any] | None = None
    ) -> Effect:
        """Compute the natural direct effect: of the cause on the outcome alone, its mediators as they are without it.

            E[O(a, M(instead))] - E[O(instead)]        (Pearl 2001, Definition 6)

        The mechanism of the outcome is told `a`, and all other mechanisms `instead`: an intervention on one arrow. So a
        model with its mechanisms determines it, also if hidden variables move both mediators and outcome.

        Args:
            cause: as in `ate`.
            outcome: likewise.
            instead: likewise.
            function: likewise.

        Raises:
            ValueError: as for `ate`; the model is a marginal.

        >>> import undelude as ud
        >>> clinic = ud.CausalModel([
        ...     ud.Variable("A", (0, 1), table=[.5, .5]),
        ...     ud.Variable("M", (0, 1), ("A",), table=[[.9, .1], [.2, .8]]),
        ...     ud.Variable("O", (0, 1), ("A", "M"), table=[[[.8, .2], [.4, .6]], [[.7, .3], [.1, .9]]]),
        ... ])
        >>> print(clinic.direct_effect({"A": 1}, "O"))  # .9 (.3 - .2) + .1 (.9 - .6)
        E[O(A=1, mediators of A=0)] - E[O | do(A=0)] = 0.12
        >>> print(clinic.indirect_effect({"A": 1}, "O"))  # (.8 - .1) (.6 - .2)
        E[O(A=0, mediators of A=1)] - E[O | do(A=0)] = 0.28
        """
        name, x, other = self._contrast(cause, outcome, instead)
        return self._through(outcome, name, told=x, rest=other, without=other, function=function)

    def indirect_effect(
        self, cause: Values, outcome: str, *, instead: Value | None = None, function: Callable[[Any], Any] | None = None
    ) -> Effect:
        """Compute the natural indirect effect: of the cause through its mediators alone.

            E[O(instead, M(a))] - E[O(instead)]        (Pearl 2001, Definition 8)

        The total effect is the direct one minus the indirect one of the opposite change.

        Args:
            cause: as in `ate`.
            outcome: likewise.
            instead: likewise.
            function: likewise.

        Raises:
            ValueError: as for `direct_effect`.
        """
        name, x, other = self._contrast(cause, outcome, instead)
        return self._through(outcome, name, told=other, rest=x, without=other, function=function)

    def _contrast(
        self, cause: Values, outcome: str, instead: Value | None, done: tuple[str, ...] = ()
    ) -> tuple[str, Any, Any]:
        """Return the name of the cause, its value, and the one that stands instead, after checking them."""
        name, x = one_entry("cause", cause)
        check_names(self.graph, {"the cause": (name,), "the outcome": (outcome,), "done": done})
        other = other_value(name, self[name].values, x) if instead is None else instead
        for value in (x, other):
            index(name, self[name].values, value)  # Raises if there is no such value.
        return name, x, other

    def _through(
        self, outcome: str, name: str, *, told: Any, rest: Any, without: Any, function: Callable[[Any], Any] | None
    ) -> Effect:
        """Return the effect of telling the outcome that the cause is `told`, and other mechanisms that it is `rest`."""
        if self.structure.is_marginal:
            raise ValueError("a marginal knows no mechanism that could be told: use the model that it comes from.")
        model = self
        if name in (v := self[outcome]).parents:
            blind = blind_to(v, name, index(name, self[name].values, told))
            model = self._of(blind if other.name == outcome else other for other in self.variables)
        nested, plain = (m.expectation(outcome, function, do={name: y}) for m, y in ((model, rest), (self, without)))
        mean = _mean(outcome, function)
        return Effect(
            nested - plain, f"E[{mean}({name}={told}, mediators of {name}={rest})] - E[{mean} | do({name}={without})]"
        )
