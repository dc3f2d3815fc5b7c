"""The environments of a world, which begin and step for a batch of episodes: each by itself, or all together."""

import abc
import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from undelude._types import Action
from undelude.gym._host.cues import stacked
from undelude.gym._host.declared import NotAsDeclared
from undelude.gym._host.failures import Failures
from undelude.gym._host.masks import Masks
from undelude.gym._host.rows import Rows, actions_like
from undelude.gym._host.slots import Call, Failure, Here, InWorkers, Recipe, Slot, Step
from undelude.gym._host.spaces import from_action, to_actions
from undelude.gym._host.together import Steps, Together

# Rewards, and how episodes of the environment ended in this step: 0 not, 1 terminated, 2 truncated, 3 just begun.
Answer = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass
class HostState:
    """A batch of episodes: whole observations and contexts, which the agent is not shown.

    Attributes:
        thetas: `[B]`, indices of the contexts.
        open: which episodes go on.
        lost: which were lost to a failure.
        noise: `[B, T]`, uniform numbers for the cues.
        whole: observations, one for each episode.
        advice: what experts that live beside their environments answered.
        masks: `[B, A]`, which actions can be taken now; None if all can.
        t: the number of rounds so far.
        batch: which batch of a vector environment this is.
    """

    thetas: np.ndarray
    open: np.ndarray
    lost: np.ndarray
    noise: np.ndarray
    whole: Sequence[Any] = ()
    advice: Any = None
    masks: np.ndarray | None = None
    t: int = 0
    batch: int = 0


class Played(NamedTuple):
    """What environments answered in one round, with a leading axis.

    Attributes:
        whole: whole observations.
        rewards: of the last action.
        ended: as in `Answer`.
        masks: which actions can be taken; None if all can.
        info: of the environment, if there is one.
    """

    whole: Sequence[Any]
    rewards: np.ndarray
    ended: np.ndarray
    masks: np.ndarray | None = None
    info: Any = None


def contexts_of(contexts: Any, thetas: np.ndarray) -> Any:
    """Return the contexts of many episodes as a batch, in the library in which they were given."""
    if isinstance(contexts, list | tuple):
        return stacked([contexts[k] for k in thetas])
    return Rows(contexts).take(thetas).batch


class AbstractSimulators(abc.ABC):
    """The environments of a world."""

    @abc.abstractmethod
    def begin(self, state: HostState, seeds: np.ndarray) -> None:
        """Start an episode for each theta of the state, and write to it what the environments answered."""

    @abc.abstractmethod
    def step(self, state: HostState, a: Action) -> Answer:
        """Play actions, and write to the state what the environments answered."""

    @abc.abstractmethod
    def path(self, theta: int, seed: int, actions: Sequence[Any]) -> list[Played]:
        """Play these actions under one context, to try something out, and stop when an episode ends.

        Returns:
            The answers, the first one before any action.
        """

    @property
    def shown(self) -> Any:
        """The environment that a person sees; None if there is not one alone in this process."""
        return None

    @abc.abstractmethod
    def close(self) -> None:
        """Close all environments."""


class Separate(AbstractSimulators):
    """Environments that step one after the other, or in worker processes.

    Args:
        recipe: of the environments.
        contexts: the values of theta.
        space: of actions.
        num_envs: side by side.
        vectorization: "sync" or "async".
        num_workers: processes; by default as many as cores.
        timeout: seconds to wait for an answer of a process.
        spare: an environment of the world, in which actions are tried out; it stands in for one that failed at the
            start.
        failures, masks: of the world.
    """

    def __init__(
        self,
        recipe: Recipe,
        contexts: Any,
        space: Any,
        *,
        num_envs: int,
        vectorization: str,
        num_workers: int | None,
        timeout: float,
        spare: Slot,
        failures: Failures,
        masks: Masks,
    ):
        self.recipe, self.contexts, self.space, self.spare = recipe, contexts, space, spare
        self.failures, self.masks = failures, masks
        self._how = num_envs, vectorization, num_workers, timeout
        self._slots: Here | InWorkers | None = None

    @property
    def slots(self) -> Here | InWorkers:
        """The environments; processes are started when they are first needed."""
        if self._slots is None:
            num_envs, vectorization, num_workers, timeout = self._how
            if vectorization == "sync":
                self._slots = Here(self.recipe, num_envs)
            else:
                workers = num_workers or _num_cores()
                self._slots = InWorkers(self.recipe, num_envs, workers, "forkserver", timeout)
        return self._slots

    def begin(self, state: HostState, seeds: np.ndarray) -> None:
        calls: list[Call] = [
            (i, "begin", (int(seed), int(k), self.contexts[k]))
            for i, (seed, k) in enumerate(zip(seeds, state.thetas, strict=True))
        ]
        steps = self._answers(state, np.arange(len(calls)), calls)
        state.open &= [step is not None for step in steps]
        # For an episode that is lost any observation will do.
        some = next((step for step in steps if step is not None), None) or self.spare.begin(0, 0, self.contexts[0])
        shown = [some if step is None else step for step in steps]
        state.whole, state.advice = [step.observation for step in shown], [step.advice for step in shown]
        state.masks = self.masks.of(state.open, steps)

    def step(self, state: HostState, a: Action) -> Answer:
        rows = np.flatnonzero(state.open)
        played = to_actions(self.space, jax.tree.map(np.asarray, a), rows)
        calls: list[Call] = [(i, "step", (x,)) for i, x in zip(rows.tolist(), played, strict=True)]
        B = len(state.open)
        rewards, ended = np.zeros(B, np.float32), np.zeros(B, np.int32)
        whole, advice, found = list(state.whole), list(state.advice), cast(list[Step | None], [None] * B)
        for i, step in zip(rows, self._answers(state, rows, calls), strict=True):
            found[i] = step
            if step is None:
                state.open[i] = False
                continue
            whole[i], advice[i] = step.observation, step.advice
            rewards[i], ended[i] = step.reward, step.ended
            if step.ended and not self.recipe.restarts:
                state.open[i] = False
        state.whole, state.advice, state.masks = whole, advice, self.masks.of(state.open, found)
        return rewards, ended

    def path(self, theta: int, seed: int, actions: Sequence[Any]) -> list[Played]:
        try:
            step = self.spare.begin(seed, theta, self.contexts[theta])
            found = [self._alone(step)]
            for a in actions:
                step = self.spare.step(self.masks.nearest_action(a, step))
                found.append(self._alone(step))
                if step.ended and not self.recipe.restarts:
                    break
        except Exception:
            self.spare.drop()
            raise
        return found

    def _alone(self, step: Step) -> Played:
        return alone(step, self.masks, restarts=self.recipe.restarts)._replace(info=self.spare.info)

    def _answers(self, state: HostState, rows: np.ndarray, calls: list[Call]) -> list[Step | None]:
        """Return the answers of the environments; None, and `lost`, if there is none."""
        answers: list[Step | None] = []
        for i, found in zip(rows, self.slots.call(calls), strict=True):
            if isinstance(found, Failure) and found.cause == "not as declared":
                raise NotAsDeclared(found.message)
            if isinstance(found, Failure):
                state.lost[i] = True
                self.failures.add(found.cause, int(state.thetas[i]), found.message)
                answers.append(None)
            else:
                answers.append(found)
        return answers

    @property
    def shown(self) -> Any:
        return self.slots.slots[0].env if isinstance(self.slots, Here) else None

    def close(self) -> None:
        if self._slots is not None:
            self._slots.close()


class Joint(AbstractSimulators):
    """The environments of a vector environment.

    Args:
        together: the vector environment.
        contexts: the values of theta.
        space: of one action.
        name: of the world, for messages.
        failures: of the world.
    """

    def __init__(self, together: Together, contexts: Any, space: Any, *, name: str, failures: Failures):
        self.together, self.contexts, self.space = together, contexts, space
        self.name, self.failures, self._batch = name, failures, 0

    def begin(self, state: HostState, seeds: np.ndarray) -> None:
        self._batch += 1
        state.batch, B, N = self._batch, len(state.thetas), self.together.num_envs
        if N < B:
            raise ValueError(f"{self.name}: {B} episodes at once, but {N} environments.")
        thetas = np.concatenate([state.thetas, np.repeat(state.thetas[:1], N - B)])
        steps = self._first(state, self.together.begin(int(seeds[0]), contexts_of(self.contexts, thetas)))
        if not state.open.any():
            raise RuntimeError(f"{self.name}: no environment began with finite observations.")
        filler = steps.whole.take(np.full(B, np.flatnonzero(state.open)[0]))
        state.whole, state.advice = steps.whole.where(state.open, filler), steps.advice

    def step(self, state: HostState, a: Action) -> Answer:
        if state.batch != self._batch:
            raise RuntimeError(f"{self.name}: other episodes were begun in the same environments: play one batch each.")
        actions = actions_like(self.space, a, state.open, self.together.num_envs, self.together.example)
        steps = self._first(state, self.together.step(actions))
        is_open = state.open.copy()
        state.whole, state.advice = steps.whole.where(is_open, cast(Rows, state.whole)), steps.advice
        if not self.together.restarts:
            state.open &= steps.ended == 0
        return np.where(is_open, steps.rewards, np.float32(0)), np.where(is_open, steps.ended, 0).astype(np.int32)

    def path(self, theta: int, seed: int, actions: Sequence[Any]) -> list[Played]:
        N = self.together.num_envs
        state = HostState(np.full(N, theta), np.ones(N, bool), np.zeros(N, bool), np.zeros((N, 0)))
        self.begin(state, np.array([seed]))
        found = [Played(state.whole, np.zeros(N, np.float32), np.zeros(N, np.int32))]
        for a in actions:
            each = jax.tree.map(lambda x: np.repeat(x[None], N, 0), from_action(self.space, a))
            rewards, ended = self.step(state, each)
            found.append(Played(state.whole, rewards, ended))
            if not state.open.all():
                break
        return found

    def _first(self, state: HostState, steps: Steps) -> Steps:
        """Return the first B rows of what the environment answered, and count episodes that were lost."""
        first = np.arange(len(state.thetas))
        advice = None if steps.advice is None else steps.advice.take(first)
        failed = state.open & ~steps.is_finite[first]
        state.lost[failed], state.open[failed] = True, False
        for k in state.thetas[failed]:
            self.failures.add("not finite", int(k), "an observation or a reward is not finite")
        return Steps(steps.whole.take(first), advice, *(x[first] for x in steps[2:]))

    def close(self) -> None:
        self.together.env.close()


def alone(step: Step, masks: Masks, *, restarts: bool) -> Played:
    """Return what one environment answered, with a leading axis 1."""
    goes_on = np.full(1, not step.ended or restarts)
    rewards, ended = np.array([step.reward]), np.array([step.ended], np.int32)
    return Played([step.observation], rewards, ended, masks.of(goes_on, [step]))


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
