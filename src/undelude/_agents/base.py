"""Agents with memory: the four functions f_A, f_O, g_A, g_O of Section 4.1."""

import abc
import copy
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Key

from undelude._checks import one_line
from undelude._distributions import AbstractDistribution
from undelude._tree import prepend
from undelude._types import Action, Mark, Observation

if TYPE_CHECKING:
    from undelude._process.episodes import Episodes

A = TypeVar("A", bound="AbstractAgent")
M = TypeVar("M")


class AbstractAgent(eqx.Module, Generic[M]):
    """An agent with memory `M`, for one episode; `jax.vmap` adds a batch.

    Attributes:
        own_actions: how it reads what it executes itself: `"do"`, as interventions, or `"see"`, as evidence.
        marks: the marks of past actions that it can read; a taught agent has met only some.
        full_history: whether its memory can keep the whole history (a class attribute). Set it to False where the
            memory is truncated, as that of a K-order Markov agent: its answers then depend on who executed what it has
            forgotten, so that only data of its own present behaviour teach it (Remark 13, Appendix A).
    """

    full_history: ClassVar[bool] = True
    own_actions: eqx.AbstractVar[Mark]
    marks: eqx.AbstractVar[tuple[Mark, ...]]

    @abc.abstractmethod
    def init(self, *, num_rounds: int) -> M:
        """The memory at the start of an episode of `num_rounds` rounds."""

    @abc.abstractmethod
    def f_A(self, m: M) -> AbstractDistribution:
        """`P(A | M = m)`, the prediction of the expert's next action, and the policy."""

    @abc.abstractmethod
    def f_O(self, m: M) -> AbstractDistribution:
        """`P(O | M = m)`, the prediction of the next observation."""

    @abc.abstractmethod
    def g_A(self, a: Action, m: M, *, intervened: Bool[Array, ""] | bool) -> M:
        """The memory after the action `a`, read as `do(a)` where `intervened` and as plain evidence where not."""

    @abc.abstractmethod
    def g_O(self, o: Observation, m: M) -> M:
        """The memory after the observation `o`."""

    def act(self, m: M, *, key: Key[Array, ""]) -> tuple[Action, M]:
        """Choose an action; here a sample of `f_A`, which makes it probability matching (Remark 5)."""
        return self.f_A(m).sample(key), m

    def reading(self: A, own_actions: Mark) -> A:
        """The same agent, reading its own actions as `own_actions`.

        Raises:
            ValueError: it was never taught that mark, so its answer would be noise.
        """
        check_mark(self, own_actions)
        return with_marks(self, own_actions, self.marks)


class AbstractSequenceAgent(AbstractAgent[M]):
    """An agent that can predict a whole stored episode at once, in parallel where its architecture allows.

    Attributes:
        predicts_stepwise: whether `predict` steps through the episode as acting does, one symbol after the other (a
            class attribute). Teaching then learns from the predictions made while acting, and does not call `predict`
            on an episode in which the agent acted.
    """

    predicts_stepwise: ClassVar[bool] = False

    @abc.abstractmethod
    def predict(self, episode: "Episodes") -> tuple[AbstractDistribution, AbstractDistribution]:
        """What `f_A` and `f_O` said at each round, leading axis T; with an opening, `f_O` has T + 1 entries."""


def with_marks(agent: A, own_actions: Mark, marks: tuple[Mark, ...]) -> A:
    """A copy of `agent` that reads its own actions as `own_actions` and can read `marks`; so do agents inside it.

    Raises:
        TypeError: they are no fields of the agent, so that a copy would not keep them.
    """
    if not _keeps_marks(agent):
        raise TypeError(f"{type(agent).__name__}: make own_actions and marks static fields (eqx.field(static=True)).")
    agent = copy.copy(agent)
    for field in dataclasses.fields(agent):
        inner = getattr(agent, field.name)
        if isinstance(inner, AbstractAgent) and _keeps_marks(inner):
            object.__setattr__(agent, field.name, with_marks(inner, own_actions, marks))
    # Static fields of a frozen module whose __init__ takes other arguments: there is no dataclasses.replace.
    object.__setattr__(agent, "own_actions", own_actions)
    object.__setattr__(agent, "marks", marks)
    return agent


def _keeps_marks(agent: AbstractAgent) -> bool:
    return {"own_actions", "marks"} <= {field.name for field in dataclasses.fields(agent)}


def check_mark(agent: AbstractAgent, mark: str) -> None:
    """Raise `ValueError` where `agent` cannot read actions marked `mark`."""
    if not isinstance(mark, str) or mark not in ("do", "see"):
        raise ValueError(f'own_actions must be "do" or "see", not {one_line(repr(mark))}.')
    if mark not in agent.marks:
        met = " and ".join(agent.marks) or "no marks at all"
        teaching = "Counterfactual" if mark == "do" else "Factual"
        raise ValueError(
            f"this {type(agent).__name__} has met {met} in its teaching and cannot read actions marked {mark}: "
            f"its answer would be noise. Teach it with ud.{teaching}(), or leave own_actions as it is."
        )


def predict(agent: AbstractAgent, episode: "Episodes") -> tuple[AbstractDistribution, AbstractDistribution]:
    """`agent.predict(episode)`, or the scan of f and g for an agent that has none."""
    return agent.predict(episode) if isinstance(agent, AbstractSequenceAgent) else scan(agent, episode)


def scan(agent: AbstractAgent, episode: "Episodes") -> tuple[AbstractDistribution, AbstractDistribution]:
    """What `f_A` and `f_O` say at each round of a stored episode; the definition that `predict` must equal."""
    m = agent.init(num_rounds=episode.num_rounds)
    opening = None
    if episode.opening is not None:
        opening = agent.f_O(m)
        m = agent.g_O(episode.opening, m)

    def round(m: M, x: tuple[Action, Array, Observation]) -> tuple[M, tuple[Any, Any]]:
        a, intervened, o = x
        P_A = agent.f_A(m)
        m = agent.g_A(a, m, intervened=intervened)
        P_O = agent.f_O(m)
        return agent.g_O(o, m), (P_A, P_O)

    _, (P_A, P_O) = jax.lax.scan(round, m, (episode.actions, episode.intervened, episode.observations))
    return P_A, prepend(opening, P_O)
