"""The square of teachings: who executes, how that is marked, what is scored (Section 4.1, Remarks 14 to 18).

They are settings of the one loop, `undelude.teach`.
"""

import math
from typing import ClassVar, Literal

import equinox as eqx

from undelude._agents.base import AbstractAgent
from undelude._checks import check_between
from undelude._distributions import AbstractDistribution
from undelude._types import Mark

Target = Literal["sample", "distribution", "posterior", "reverse"]
Per = Literal["step", "episode"]
# Whoever acts without being shown theta: an agent, the same distribution in every round, or all symbols alike.
Behaviour = AbstractAgent | AbstractDistribution | Literal["uniform"]


class AbstractTeaching(eqx.Module):
    """A setting of the loop: who executes, how the executed action is marked, what is scored.

    Attributes:
        expert_share: the probability that the expert executes an action.
        per: whether that is drawn anew each `"step"`, or once an `"episode"`.
        behaviour: who executes the other actions, without being shown theta; the agent itself where it is None.
        agent_mark: how their actions are marked: `"do"`, truly, or `"see"`; None where no action is marked.
        expert_mark: how the expert's are: `"see"`, truly, or `"do"`; None where no action is marked.
        target: what the action prediction is scored against: a `"sample"` of the expert's distribution (the paper),
        the whole
            `"distribution"` (the same expected gradient with less noise), or the exact `"posterior"` predictive
            (no expert signal but the answer itself: an upper bound, and circular as evidence that teaching works).
            `"reverse"` is `KL(P(A | m) || Q(A | theta, e))`, the other direction: its minimum is no posterior
            predictive but the normalised geometric mean of the expert's distributions, `P(a) ~ exp E[log Q(a | theta,
            e)]`.
        observation_weight: of the observations' log-loss beside the actions' (Remark 18).

    Where actions are not marked, all are read as the one symbol `x`, which is stored as see: the agent has no other.

    Raises:
        ValueError: a number out of range; marks that contradict each other: where both execute in one stream, an
            expert's action marked do, or another's marked see, makes one symbol of two (Remark 14).
    """

    expert_share: eqx.AbstractVar[float]
    per: eqx.AbstractVar[Per]
    behaviour: eqx.AbstractVar[Behaviour | None]
    agent_mark: eqx.AbstractVar[Mark | None]
    expert_mark: eqx.AbstractVar[Mark | None]
    target: eqx.AbstractVar[Target]
    observation_weight: eqx.AbstractVar[float]

    @property
    def name(self) -> str:
        """Its name on the command line and in run directories."""
        return type(self).__name__.lower()

    @property
    def mark(self) -> Mark:
        """How the taught agent reads its own actions: as those were marked that the expert did not execute, if any."""
        return (self.agent_mark if self.expert_share < 1 else self.expert_mark) or "see"

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks that the agent meets, and can read when it is taught."""
        met = [self.agent_mark or "see"] if self.expert_share < 1 else []
        met += [self.expert_mark or "see"] if self.expert_share > 0 else []
        both: tuple[Mark, ...] = ("do", "see")
        return tuple(mark for mark in both if mark in met)

    @property
    def is_marked(self) -> bool:
        """Whether actions carry a mark at all."""
        return self.agent_mark is not None

    @property
    def agent_executes(self) -> bool:
        """Whether the agent that learns executes any action, so that the data depend on what it has learned."""
        return self.expert_share < 1 and self.behaviour is None

    def __check_init__(self) -> None:
        name = type(self).__name__
        if self.target not in ("sample", "distribution", "posterior", "reverse"):
            raise ValueError(f'target must be "sample", "distribution", "posterior" or "reverse", not {self.target!r}.')
        check_between(f"{name}: observation_weight", self.observation_weight, 0, math.inf)
        check_between(f"{name}: the expert's share", self.expert_share, 0, 1)
        if self.per not in ("step", "episode"):
            raise ValueError(f'{name}: per must be "step" or "episode", not {self.per!r}.')
        for what, mark in (("agent_mark", self.agent_mark), ("expert_mark", self.expert_mark)):
            if mark not in ("do", "see", None):
                raise ValueError(f'{name}: {what} must be "do", "see" or None, not {mark!r}.')
        if (self.agent_mark is None) != (self.expert_mark is None):
            raise ValueError(f"{name}: either all actions are marked or none; agent_mark and expert_mark go together.")
        if self.target == "posterior" and not self.is_marked:
            raise ValueError(
                f'{name} marks no action, so that there is no exact answer to score against; target="posterior" needs '
                'marks, as in Mixed. Use target="distribution".'
            )
        if 0 < self.expert_share < 1:
            advice = 'mark truly (agent_mark="do", expert_mark="see"), or mark none (both None).'
            if self.expert_mark == "do":
                raise ValueError(
                    f"{name}: where both execute, the expert's actions must not be marked do: do(a) would then tell "
                    f"something of theta, and the agent take its own actions for evidence; {advice}"
                )
            if self.agent_mark == "see":
                raise ValueError(
                    f"{name}: where both execute, actions that the expert did not execute must not be marked see: a "
                    f"would then stand for both, and mean neither; {advice}"
                )


class Teaching(AbstractTeaching):
    """Any corner of the square: each of the named teachings is a case of it.

    Attributes:
        expert_share: the probability that the expert executes an action.
        per: drawn anew each `"step"`, or once an `"episode"`.
        behaviour: who executes the others; the agent itself where it is None.
        agent_mark: how the others' actions are marked.
        expert_mark: how the expert's actions are marked.
        target: see `AbstractTeaching`.
        observation_weight: see `AbstractTeaching`.

    Raises:
        ValueError: marks that contradict each other.

    >>> Teaching(expert_share=0.5).marks  # as Mixed(0.5)
    ('do', 'see')
    >>> Teaching(expert_share=0.5, expert_mark="do")
    Traceback (most recent call last):
    ...
    ValueError: Teaching: where both execute, the expert's actions must not be marked do: ...
    """

    expert_share: float = eqx.field(static=True, default=0.0)
    per: Per = eqx.field(static=True, default="step")
    behaviour: Behaviour | None = None
    agent_mark: Mark | None = eqx.field(static=True, default="do")
    expert_mark: Mark | None = eqx.field(static=True, default="see")
    target: Target = eqx.field(static=True, default="distribution")
    observation_weight: float = eqx.field(static=True, default=1.0)


class Factual(AbstractTeaching):
    """The expert executes, the agent predicts and reads along: it learns `Q(A | a, o)` and `Q(O | a, o)`.

    The agent that comes out reads its own actions as evidence, for it has met no do-symbol: right for predicting an
    expert, deluded when it acts.
    """

    expert_share: ClassVar[float] = 1.0
    per: ClassVar[Per] = "step"
    behaviour: ClassVar[Behaviour | None] = None
    agent_mark: ClassVar[Mark | None] = "do"
    expert_mark: ClassVar[Mark | None] = "see"
    target: Target = eqx.field(static=True, default="distribution")
    observation_weight: float = eqx.field(static=True, default=1.0)


class Counterfactual(AbstractTeaching):
    """The agent executes, the expert says what it would have done: it learns `Q(A | do(a), o)` (eqs. 9 and 10)."""

    expert_share: ClassVar[float] = 0.0
    per: ClassVar[Per] = "step"
    behaviour: ClassVar[Behaviour | None] = None
    agent_mark: ClassVar[Mark | None] = "do"
    expert_mark: ClassVar[Mark | None] = "see"
    target: Target = eqx.field(static=True, default="distribution")
    observation_weight: float = eqx.field(static=True, default=1.0)


class Mixed(AbstractTeaching):
    """Each action is executed by either party at random, and truly marked: it learns all mixed pasts (Remarks 14, 15).

        Q(A_t+1 | x_1:t, o_1:t),    each x_i either a_i or do(a_i).

    One agent then answers as an onlooker, as an actor, and where it takes turns with the expert.

    Attributes:
        expert_share: p, the probability that the expert executes an action.
        target: see `AbstractTeaching`.
        observation_weight: see `AbstractTeaching`.
    """

    expert_share: float = eqx.field(static=True, default=0.5)
    target: Target = eqx.field(static=True, default="distribution")
    observation_weight: float = eqx.field(static=True, default=1.0)
    per: ClassVar[Per] = "step"
    behaviour: ClassVar[Behaviour | None] = None
    agent_mark: ClassVar[Mark | None] = "do"
    expert_mark: ClassVar[Mark | None] = "see"


class Blind(AbstractTeaching):
    """Somebody else executes who is not shown theta, marked do: it learns `Q(A | do(a), o)` as if it had acted.

    Appendix A needs no more of the behaviour than that it is theta-blind, for an agent whose memory keeps the whole
    history. What an agent with a truncated memory learns so is right for that behaviour's histories and wrong for its
    own (Remark 13); `teach` warns.

    Attributes:
        behaviour: an agent, by its `act`; a distribution, the same in every round; or all actions alike, `"uniform"`.
        target: see `AbstractTeaching`.
        observation_weight: see `AbstractTeaching`.
    """

    behaviour: Behaviour = "uniform"
    target: Target = eqx.field(static=True, default="distribution")
    observation_weight: float = eqx.field(static=True, default=1.0)
    expert_share: ClassVar[float] = 0.0
    per: ClassVar[Per] = "step"
    agent_mark: ClassVar[Mark | None] = "do"
    expert_mark: ClassVar[Mark | None] = "see"


class Cloning(AbstractTeaching):
    """Behaviour cloning: the expert executes, and an action is an action, whoever takes it (Remark 17).

    The stream is that of `Factual`; what is missing is the mark, so that the agent that acts reads its own actions as
    it read the expert's. Its limit is the deluded `Q(A | a, o)`, however much data and however large the agent.
    Classic cloning scores no observations: `observation_weight=0`.
    """

    expert_share: ClassVar[float] = 1.0
    per: ClassVar[Per] = "step"
    behaviour: ClassVar[Behaviour | None] = None
    agent_mark: ClassVar[Mark | None] = None
    expert_mark: ClassVar[Mark | None] = None
    target: Target = eqx.field(static=True, default="distribution")
    observation_weight: float = eqx.field(static=True, default=1.0)


class DAgger(AbstractTeaching):
    """DAgger (Ross et al., 2011): expert and agent take turns, the expert labels all, nothing is marked (Remark 17).

    With beta = 0 the one symbol is the agent's own, and the limit is `Q(A | do(a), o)`. Otherwise it is

        Q(A | h) = sum_theta Q(theta | h) Q(A | theta, e),
        per step:     Q(theta | h) ~ Q(theta) prod_t [beta pi_theta(a_t) + (1 - beta) P(a_t | h_t)] Q(o_t | theta, w_t)
        per episode:  Q(theta | h) ~ Q(theta) [beta prod_t pi_theta(a_t) + (1 - beta) prod_t P(a_t | h_t)]
                                              prod_t Q(o_t | theta, w_t)

    with the expert's `pi_theta(a_t) = Q(a_t | theta, e_t)`: on the way from the interventional answer to the deluded
    one. `Mixed` executes the same and, marked, has both answers.

    Attributes:
        expert_share: beta, the probability that the expert executes.
        per: drawn anew each `"step"`, or once an `"episode"`.
        target: see `AbstractTeaching`.
        observation_weight: see `AbstractTeaching`.
    """

    expert_share: float = eqx.field(static=True, default=0.0)
    per: Per = eqx.field(static=True, default="step")
    target: Target = eqx.field(static=True, default="distribution")
    observation_weight: float = eqx.field(static=True, default=1.0)
    behaviour: ClassVar[Behaviour | None] = None
    agent_mark: ClassVar[Mark | None] = None
    expert_mark: ClassVar[Mark | None] = None
