"""Whoever knows the context and is asked what to do: a function, a planner beside its environment, or a person."""

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np

from undelude._distributions import Reals, Spec
from undelude._process.host_world import Prediction
from undelude._types import Action
from undelude.gym._host.advice import NONE, batched, kind_of
from undelude.gym._host.arguments import check_called
from undelude.gym._host.cues import stacked
from undelude.gym._host.masks import advice_within
from undelude.gym._host.rows import Rows, host, own
from undelude.gym._host.simulators import AbstractSimulators, HostState, contexts_of
from undelude.gym._host.spaces import from_action
from undelude.gym._host.together import Together
from undelude.gym.keyboard import KeyboardExpert


class Expert:
    """The expert of a world.

    Args:
        function: `(observation, context) -> advice`, or a person; None for an expert beside its environment.
        contexts: the values of theta.
        space, spec: of actions.
        is_batched: whether the function is asked about all episodes at once.
        together: the vector environment, if there is one.
    """

    def __init__(
        self,
        function: Callable[..., Any] | None,
        contexts: Any,
        space: Any,
        spec: Spec,
        *,
        is_batched: bool,
        together: Together | None,
    ):
        self.function, self.contexts, self.space, self.spec = function, contexts, space, spec
        self.is_batched, self.together = is_batched, together
        self.is_person = isinstance(function, KeyboardExpert)
        if function is not None and not self.is_person:
            check_called("HostWorld", function)
        self._reads_mask = function is not None and "mask" in _parameters(function)

    def advise(
        self, state: HostState, some: Callable[[], Any], simulators: AbstractSimulators
    ) -> tuple[Prediction, Action]:
        """Return the expert's distributions, or its actions; rows of ended episodes are copies of another.

        Args:
            state: the present observations.
            some: returns any advice, if no episode goes on.
            simulators: the environments, of which a person is shown the only one.
        """
        if isinstance(self.function, KeyboardExpert):
            return batched([self._by_person(self.function, state, simulators.shown)], self.space, self.spec)
        if self.function is None:
            advice = self._within(state.advice, state.masks)
        else:
            advice = self.ask(state.whole, state.thetas, state.masks)
        if isinstance(advice, Rows):
            filler = advice.take(np.full(len(advice), np.flatnonzero(state.open)[0] if state.open.any() else 0))
            return batched(advice.where(state.open, filler), self.space, self.spec)
        if any(is_open and x is None for x, is_open in zip(advice, state.open, strict=True)):
            raise ValueError(NONE)
        known = [x for x, is_open in zip(advice, state.open, strict=True) if is_open and x is not None]
        filler = known[0] if known else some() if self.together is None else advice[0]
        rows = [x if is_open and x is not None else filler for x, is_open in zip(advice, state.open, strict=True)]
        return batched(rows, self.space, self.spec)

    def ask(self, whole: Sequence[Any], thetas: np.ndarray, masks: np.ndarray | None = None) -> Sequence[Any]:
        """Return the advice of a function, one answer for each whole observation and index of a context.

        Answers about all episodes at once stay arrays, in `Rows`.

        Raises:
            ValueError: there is not one answer for each, or an action that the mask forbids has mass.
        """
        assert self.function is not None
        reads = self._reads_mask and masks is not None
        if self.together is not None:
            rows, given = (self.together.rows(x) for x in (whole, contexts_of(self.contexts, thetas)))
            if not self.is_batched:
                return [jax.tree.map(host, self.function(x, c)) for x, c in zip(rows, given, strict=True)]
            answer = Rows(own(self.function(rows.batch, given.batch)))
            return answer if isinstance(whole, Rows) else Rows(jax.tree.map(host, answer.batch))
        contexts = [self.contexts[k] for k in thetas]
        if not self.is_batched:
            told = [{"mask": mask} for mask in masks] if reads and masks is not None else [{}] * len(contexts)
            return self._within(
                [self.function(x, c, **k) for x, c, k in zip(whole, contexts, told, strict=True)], masks
            )
        answered = self.function(stacked(whole), stacked(contexts), **({"mask": masks} if reads else {}))
        if isinstance(answered, list):
            return self._within(answered, masks)
        answers = Rows(own(answered))
        is_normal = isinstance(self.spec, Reals) and isinstance(answers.batch, tuple) and len(answers.batch) == 2
        named = dict(zip(("means", "scales"), answers.batch, strict=True)) if is_normal else {"an array": answers.batch}
        for name, part in named.items():
            if wrong := [x.shape for x in jax.tree.leaves(part) if x.shape[:1] != (len(whole),)]:
                raise ValueError(
                    f"asked about {len(whole)} observations at once (batched=True), the expert returned {name} of "
                    f"shape {tuple(wrong[0])}: return one for each."
                )
        return self._within(answers, masks)

    def _within(self, advice: Sequence[Any], masks: np.ndarray | None) -> Sequence[Any]:
        """Return the advice without rounding errors; raise `ValueError` if it gives mass to a forbidden action."""
        if masks is None:
            return advice
        checked = list(advice)
        for i in np.flatnonzero((masks == 0).any(1)).tolist():
            is_action = kind_of(advice[i], self.spec) == "an action"
            number = int(from_action(self.space, advice[i])) if is_action else None
            checked[i] = advice_within(advice[i], masks[i], number)
        return checked

    def _by_person(self, person: KeyboardExpert, state: HostState, env: Any) -> int:
        """Return what the person would do in the one episode; any action if it has ended."""
        if not state.open[0]:
            return int(self.space.start)
        mask = None if state.masks is None else state.masks[0]
        return person.action(env, state.whole[0], self.contexts[state.thetas[0]], mask)


def _parameters(f: Callable[..., Any]) -> Collection[str]:
    try:
        return inspect.signature(f).parameters
    except (TypeError, ValueError):  # Some built-in functions have no signature.
        return ()
