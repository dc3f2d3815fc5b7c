"""Agents with memory: the four functions f_A, f_O, g_A, g_O of Section 4.1."""

import abc
import dataclasses
from typing import Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float, Key

from undelude._checks import one_line
from undelude._distributions import AbstractDistribution, Spec
from undelude._process.episodes import Episodes
from undelude._tree import is_concrete, prepend, where
from undelude._types import Action, M, Mark, Memory, Observation, Theta

A = TypeVar("A", bound="AbstractAgent")
Predictions = tuple[AbstractDistribution, AbstractDistribution]


@dataclasses.dataclass(frozen=True)
class Reading:
    """The marks under which an agent reads past actions: `do(a)`, an intervention, or `a`, evidence (Remark 14).

    Attributes:
        own: the mark under which it reads the actions that it executes itself.
        known: the marks that it can read. A taught agent knows only the marks of its teaching.
    """

    own: Mark = "do"
    known: tuple[Mark, ...] = ("do", "see")


class AbstractAgent(eqx.Module, Generic[M]):
    """An agent with memory `M`, for one episode; `jax.vmap` adds a batch.

    A subclass defines `init`, `f_A`, `f_O`, `g_A` and `g_O`. The other methods and properties have defaults, which a
    subclass may replace: `act`, `belief`, `thetas`, `trainable` and `full_history`.

    Attributes:
        reading: how it reads past actions; a static field with the default `Reading("do")`. A subclass without an
            `__init__` of its own takes it as a keyword argument.
    """

    reading: Reading = eqx.field(static=True, kw_only=True, default=Reading())

    def __check_init__(self) -> None:
        for name in ("own_actions", "marks"):
            if getattr(type(self), name) is not getattr(AbstractAgent, name):
                raise TypeError(
                    f"{type(self).__name__} must not define {name}, which is taken from the field reading: leave it "
                    'out, or set reading = ud.Reading("see").'
                )

    @property
    def own_actions(self) -> Mark:
        """The mark under which the agent reads the actions it executes: `"do"`, interventions, or `"see"`, evidence."""
        return self.reading.own

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks of past actions that the agent can read."""
        return self.reading.known

    @property
    def full_history(self) -> bool:
        """True if the memory can keep the whole history, which is the default.

        Return `False` from an agent with a truncated memory, such as a K-order Markov agent. Its predictions then
        depend on the policy that executed the forgotten actions, so that it must be taught on its own present behaviour
        (Remark 13, Appendix A).
        """
        return True

    @property
    def trainable(self) -> bool:
        """True if the agent has parameters that `teach` can change, which is the default; exact agents have none."""
        return True

    @property
    def thetas(self) -> Theta | None:
        """The K values of Theta that `belief` is about, on a leading axis; None by default."""
        return None

    @abc.abstractmethod
    def init(self, *, num_rounds: int) -> M:
        """Return the memory at the start of an episode of `num_rounds` rounds."""

    @abc.abstractmethod
    def f_A(self, m: M) -> AbstractDistribution:
        """Return `P(A | M = m)`, the prediction of the expert's next action, and the policy."""

    @abc.abstractmethod
    def f_O(self, m: M) -> AbstractDistribution:
        """Return `P(O | M = m)`, the prediction of the next observation."""

    @abc.abstractmethod
    def g_A(self, a: Action, m: M, *, intervened: Bool[Array, ""] | bool) -> M:
        """Return the memory after the action `a`, read as `do(a)` if `intervened` and as evidence otherwise."""

    @abc.abstractmethod
    def g_O(self, o: Observation, m: M) -> M:
        """Return the memory after the observation `o`."""

    def act(self, m: M, *, key: Key[Array, ""]) -> tuple[Action, M]:
        """Choose an action; by default sample `f_A`, which is probability matching (Remark 5)."""
        return self.f_A(m).sample(key), m

    def belief(self, m: M) -> Float[Array, " K"] | None:
        """Return the log-posterior over `thetas` in nats, for an agent that has one; None by default."""
        del m
        return None

    def reading_as(self: A, own_actions: Mark) -> A:
        """Return the same agent, reading its own actions as `own_actions`.

        Raises:
            ValueError: it was never taught that mark, so its answer would be noise.
        """
        check_mark(self, own_actions)
        return with_reading(self, Reading(own_actions, self.marks))


class AbstractSequenceAgent(AbstractAgent[M]):
    """An agent that can predict a whole stored episode at once, in parallel if its architecture allows.

    Attributes:
        predicts_stepwise: whether `predict` steps through the episode as acting does, one symbol after the other (a
            class attribute). Teaching then learns from the predictions made while acting, and does not call `predict`
            on an episode in which the agent acted; unless `act` is overridden, or batches are used more than once.
    """

    predicts_stepwise: ClassVar[bool] = False

    @abc.abstractmethod
    def predict(self, episode: Episodes) -> Predictions:
        """Return `f_A` and `f_O` of each round, leading axis T; with an opening, `f_O` has T + 1 entries."""


def with_reading(agent: A, reading: Reading) -> A:
    """Return a copy of `agent`, and of the agents in its fields, that reads past actions as `reading` says."""
    fields = {field.name: getattr(agent, field.name) for field in dataclasses.fields(agent)}
    inner = {name: with_reading(value, reading) for name, value in fields.items() if isinstance(value, AbstractAgent)}
    # `dataclasses.replace` would call __init__, which for a network takes sizes and a key in place of its fields.
    copy = object.__new__(type(agent))
    for name, value in (fields | inner | {"reading": reading}).items():
        object.__setattr__(copy, name, value)
    return copy


def check_mark(agent: AbstractAgent, mark: str) -> None:
    """Raise `ValueError` if `agent` cannot read actions marked `mark`."""
    if not isinstance(mark, str) or mark not in ("do", "see"):
        raise ValueError(f'own_actions must be "do" or "see", not {one_line(repr(mark))}.')
    if mark not in agent.marks:
        known = " and ".join(agent.marks) or "no marks at all"
        teaching = "Counterfactual" if mark == "do" else "Factual"
        raise ValueError(
            f"this {type(agent).__name__} was taught {known} and cannot read actions marked {mark}: its answer would "
            f"be noise. Teach it with ud.{teaching}(), or leave own_actions as it is."
        )


def check_action(agent: AbstractAgent, spec: Spec, a: Action, intervened: Bool[Array, ""] | bool) -> None:
    """Raise `ValueError` if `a` is not in `spec`, or `agent` cannot read its mark; traced values are not checked."""
    spec.check(f"{type(agent).__name__}: an action", a)
    if is_concrete(intervened):
        check_mark(agent, "do" if intervened else "see")


def predict(agent: AbstractAgent, episode: Episodes) -> Predictions:
    """Return `agent.predict(episode)`, or `predict_stepwise(agent, episode)` for an agent without `predict`."""
    return agent.predict(episode) if isinstance(agent, AbstractSequenceAgent) else predict_stepwise(agent, episode)


def predict_stepwise(agent: AbstractAgent, episode: Episodes) -> Predictions:
    """Return `f_A` and `f_O` at each round of a stored episode, step by step; `predict` must return the same."""
    m, opening = agent.init(num_rounds=episode.num_rounds), None
    if episode.opening is not None:
        opening = agent.f_O(m)
        m = agent.g_O(episode.opening, m)

    def round(m: Memory, x: tuple[Action, Array, Observation]) -> tuple[Memory, Predictions]:
        a, intervened, o = x
        P_A = agent.f_A(m)
        m = agent.g_A(a, m, intervened=intervened)
        P_O = agent.f_O(m)
        return agent.g_O(o, m), (P_A, P_O)

    _, (P_A, P_O) = jax.lax.scan(round, m, (episode.actions, episode.intervened, episode.observations))
    return P_A, prepend(opening, P_O)


def beliefs(agent: AbstractAgent, episode: Episodes) -> Float[Array, "T1 K"]:
    """Return an agent's log-posteriors before each round of a stored episode and after its last, in nats.

    After the last round of an episode that ended early, the belief stays as it is.

    Raises:
        TypeError: the agent has no belief.
    """
    m = agent.init(num_rounds=episode.num_rounds)
    if episode.opening is not None:
        m = agent.g_O(episode.opening, m)

    def round(m: Memory, x: tuple[Action, Array, Observation, Array]) -> tuple[Memory, Any]:
        a, intervened, o, exists = x
        m = where(exists, agent.g_O(o, agent.g_A(a, m, intervened=intervened)), m)
        return m, agent.belief(m)

    first = agent.belief(m)
    if first is None:
        raise TypeError(f"{type(agent).__name__} has no belief over Theta.")
    _, rest = jax.lax.scan(round, m, (episode.actions, episode.intervened, episode.observations, episode.mask))
    return prepend(first, rest)
