"""The teachings: who executes, how the executed action is marked, what is scored (Section 4.1, Remarks 14 to 18).

Each is a setting of the same loop, `undelude.teach`.
"""

import math
from typing import Literal, get_args

import equinox as eqx

from undelude._agents.base import AbstractAgent, Reading
from undelude._checks import check_between
from undelude._distributions import AbstractDistribution
from undelude._types import Mark, Per, Target

# A policy that is not shown theta: an agent, one distribution for all rounds, or the uniform distribution.
Behaviour = AbstractAgent | AbstractDistribution | Literal["uniform"]


class Teaching(eqx.Module):
    """A setting of the teaching loop: who executes, how the executed action is marked, what is scored.

    `Counterfactual()`, `Factual()`, `Mixed()`, `Blind()`, `Cloning()`, `DAgger()` and `Interventional()` return the
    settings with a name.

    Attributes:
        expert_share: the probability that the expert executes an action.
        per: when to draw the executor: in each round (`"step"`), or once an `"episode"`.
        behaviour: the policy that executes the other actions: an agent, a distribution of actions, or `"uniform"`; the
            taught agent itself if None. It is not shown theta.
        agent_mark: the mark of the actions that the expert did not execute: `"do"`, which is true, or `"see"`; None if
            actions are not marked.
        expert_mark: the mark of the expert's actions: `"see"`, which is true, or `"do"`; None if actions are not
            marked.
        target: what the prediction of the action is scored against. A `"sample"` of the expert's distribution (the
            paper); the whole `"distribution"` (the same expected gradient with less noise); or the exact `"posterior"`
            predictive (no signal from the expert but the answer itself: an upper bound, and circular as evidence that
            teaching works). `"reverse"` is `KL(P(A | m) || Q(A | theta, e))`, the other direction: its minimum is not
            the posterior predictive but the normalised geometric mean of the expert's distributions,
            `P(a) ∝ exp E[log Q(a | theta, e)]`.
        observation_weight: the weight of the observations' log-loss relative to the actions' (Remark 18).
        action_weight: the weight of the actions' log-loss. With 0 the policy is not taught.
        name: in run directories and error messages.

    If actions are not marked, all are stored as see: the agent has one symbol `x` for them.

    Raises:
        ValueError: a number is out of range; `target="posterior"` without marks; or marks that contradict each other:
            if both parties execute in one stream, an expert's action marked do, or another action marked see, makes one
            symbol of two (Remark 14).

    >>> Teaching(expert_share=0.5).marks  # as Mixed(0.5)
    ('do', 'see')
    >>> Teaching(expert_share=0.5, expert_mark="do")
    Traceback (most recent call last):
    ...
    ValueError: teaching: expert_mark must not be do if both parties execute: ...
    """

    expert_share: float = eqx.field(static=True, default=0.0)
    per: Per = eqx.field(static=True, default="step")
    behaviour: Behaviour | None = None
    agent_mark: Mark | None = eqx.field(static=True, default="do")
    expert_mark: Mark | None = eqx.field(static=True, default="see")
    target: Target = eqx.field(static=True, default="distribution")
    observation_weight: float = eqx.field(static=True, default=1.0)
    action_weight: float = eqx.field(static=True, default=1.0)
    name: str = eqx.field(static=True, default="teaching")

    @property
    def mark(self) -> Mark:
        """The mark under which the taught agent reads its own actions.

        That is the mark of the actions that the expert did not execute, or of the expert's if it executed all.
        """
        return (self.agent_mark if self.expert_share < 1 else self.expert_mark) or "see"

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks that occur in the taught episodes; the taught agent can read these."""
        occurring = [self.agent_mark or "see"] if self.expert_share < 1 else []
        occurring += [self.expert_mark or "see"] if self.expert_share > 0 else []
        return tuple(mark for mark in get_args(Mark) if mark in occurring)

    @property
    def reading(self) -> Reading:
        """The reading of past actions that the taught agent gets."""
        return Reading(self.mark, self.marks)

    @property
    def is_marked(self) -> bool:
        """True if actions carry marks."""
        return self.agent_mark is not None

    @property
    def agent_executes(self) -> bool:
        """True if the taught agent executes some of the actions, so that the data depend on its present behaviour."""
        return self.expert_share < 1 and self.behaviour is None

    def __check_init__(self) -> None:
        name = self.name
        if self.target not in get_args(Target):
            raise ValueError(f'target must be "sample", "distribution", "posterior" or "reverse", not {self.target!r}.')
        check_between(f"{name}: observation_weight", self.observation_weight, 0, math.inf)
        check_between(f"{name}: action_weight", self.action_weight, 0, math.inf)
        if self.action_weight == self.observation_weight == 0:
            raise ValueError(
                f"{name}: action_weight and observation_weight are both 0: raise one, or nothing is taught."
            )
        check_between(f"{name}: the expert's share", self.expert_share, 0, 1)
        if isinstance(self.behaviour, str) and self.behaviour != "uniform":
            raise ValueError(
                f'{name}: behaviour must be an agent, a distribution or "uniform", not {self.behaviour!r:.99}.'
            )
        if self.per not in get_args(Per):
            raise ValueError(f'{name}: per must be "step" or "episode", not {self.per!r}.')
        for field, mark in (("agent_mark", self.agent_mark), ("expert_mark", self.expert_mark)):
            if mark not in (*get_args(Mark), None):
                raise ValueError(f'{name}: {field} must be "do", "see" or None, not {mark!r}.')
        if (self.agent_mark is None) != (self.expert_mark is None):
            raise ValueError(
                f"{name}: agent_mark and expert_mark go together: give a mark to both, or set both to None for a "
                "teaching without marks."
            )
        if self.target == "posterior" and not self.is_marked:
            raise ValueError(
                f'{name}: target="posterior" needs marks, because without them there is no exact answer to score '
                'against: use target="distribution", or a teaching with marks, such as ud.Mixed().'
            )
        if 0 < self.expert_share < 1:
            advice = 'mark truly (agent_mark="do", expert_mark="see"), or not at all (both None).'
            if self.expert_mark == "do":
                raise ValueError(
                    f"{name}: expert_mark must not be do if both parties execute: do(a) would then say something "
                    f"about theta, and the agent would take its own actions for evidence; {advice}"
                )
            if self.agent_mark == "see":
                raise ValueError(
                    f"{name}: agent_mark must not be see if both parties execute: the symbol a would then stand for "
                    f"the actions of both, and mean neither; {advice}"
                )


def Counterfactual(target: Target = "distribution", observation_weight: float = 1.0) -> Teaching:
    """Return counterfactual teaching: the agent executes, marked do, and the expert says what it would have done.

    The agent learns `Q(A | do(a), o)` and `Q(O | do(a), o)` (equations 9 and 10).

    Args:
        target: see `Teaching`.
        observation_weight: see `Teaching`.
    """
    return Teaching(name="counterfactual", target=target, observation_weight=observation_weight)


def Factual(target: Target = "distribution", observation_weight: float = 1.0) -> Teaching:
    """Return factual teaching: the expert executes, marked see, and the agent predicts it.

    The agent learns `Q(A | a, o)` and `Q(O | a, o)`. It has met no do-symbol and reads its own actions as evidence:
    right for predicting an expert, deluded when it acts.

    Args:
        target: see `Teaching`.
        observation_weight: see `Teaching`.
    """
    return Teaching(name="factual", expert_share=1.0, target=target, observation_weight=observation_weight)


def Mixed(expert_share: float = 0.5, target: Target = "distribution", observation_weight: float = 1.0) -> Teaching:
    """Return mixed teaching: either party executes, drawn in each round, and each action is truly marked.

    The agent learns the answers after all mixed pasts (Remarks 14 and 15),

        Q(A_t+1 | x_1:t, o_1:t),    each x_i either a_i or do(a_i),

    so that one agent predicts as an observer, as an actor, and when it takes turns with the expert.

    Args:
        expert_share: p, the probability that the expert executes an action.
        target: see `Teaching`.
        observation_weight: see `Teaching`.

    Raises:
        ValueError: `expert_share` is not a probability.
    """
    return Teaching(name="mixed", expert_share=expert_share, target=target, observation_weight=observation_weight)


def Blind(
    behaviour: Behaviour = "uniform", target: Target = "distribution", observation_weight: float = 1.0
) -> Teaching:
    """Return off-policy teaching: another policy executes, marked do, and is not shown theta.

    The agent learns `Q(A | do(a), o)` as if it had acted itself. Appendix A asks of the behaviour only that it is
    not shown theta, for an agent whose memory keeps the whole history. An agent with a truncated memory learns an
    answer that is right in that behaviour's histories and wrong in its own (Remark 13); `teach` warns.

    Args:
        behaviour: an agent, which acts by its `act`; a distribution of actions, the same in every round; or
            `"uniform"`.
        target: see `Teaching`.
        observation_weight: see `Teaching`.
    """
    return Teaching(name="blind", behaviour=behaviour, target=target, observation_weight=observation_weight)


def Cloning(target: Target = "distribution", observation_weight: float = 1.0) -> Teaching:
    """Return behaviour cloning: the expert executes, and actions are not marked (Remark 17).

    The episodes are those of `Factual`. Without marks, the agent reads its own actions as it read the expert's. Its
    limit is the deluded `Q(A | a, o)`, for any amount of data and any size of agent. Classic cloning scores no
    observations: `observation_weight=0`.

    Args:
        target: see `Teaching`.
        observation_weight: see `Teaching`.
    """
    return Teaching(
        name="cloning",
        expert_share=1.0,
        agent_mark=None,
        expert_mark=None,
        target=target,
        observation_weight=observation_weight,
    )


def DAgger(
    expert_share: float = 0.5,
    per: Per = "step",
    target: Target = "distribution",
    observation_weight: float = 1.0,
) -> Teaching:
    """Return DAgger (Ross et al., 2011): the expert labels every action, expert and agent execute, nothing is marked.

    Its limit (Remark 17) is

        Q(A | h) = sum_theta Q(theta | h) Q(A | theta, e),
        per step:     Q(theta | h) ∝ Q(theta) prod_t [beta pi_theta(a_t) + (1 - beta) P(a_t | h_t)] Q(o_t | theta, w_t)
        per episode:  Q(theta | h) ∝ Q(theta) [beta prod_t pi_theta(a_t) + (1 - beta) prod_t P(a_t | h_t)]
                                              prod_t Q(o_t | theta, w_t)

    with the expert's `pi_theta(a_t) = Q(a_t | theta, e_t)`: between the interventional answer and the deluded one.
    `Mixed` executes the same and, because it marks, learns both answers.

    Args:
        expert_share: beta, the probability that the expert executes an action.
        per: whether to draw the executor in each `"step"`, or once an `"episode"`.
        target: see `Teaching`.
        observation_weight: see `Teaching`.

    Raises:
        ValueError: `expert_share` is not a probability.
    """
    return Teaching(
        name="dagger",
        expert_share=expert_share,
        per=per,
        agent_mark=None,
        expert_mark=None,
        target=target,
        observation_weight=observation_weight,
    )


def Interventional(expert_share: float = 1.0, per: Per = "episode", observation_weight: float = 1.0) -> Teaching:
    """Return interventional fine-tuning (iSFT; de Freitas and Ortega, 2026): nothing is marked, actions are not scored.

    The agent learns to predict observations, from transcripts in which its own words are left out of the loss. They are
    left in the history, without marks. The limit therefore depends on who wrote them, as that of `DAgger` does: it is
    `Q(O | do(a), o)` if the writer was not shown theta, and the deluded `Q(O | a, o)` if the expert wrote them. To
    leave an expert's words out of the loss does not make interventions of them.

    The policy `f_A` is not taught. It stays as it was, up to what it shares with `f_O`.

    Args:
        expert_share: the share of the expert's transcripts: 1 for demonstrations, 0 for the agent's own.
        per: whether to draw the writer once an `"episode"`, or in each `"step"`.
        observation_weight: see `Teaching`.

    Raises:
        ValueError: `expert_share` is not a probability, or `observation_weight` is 0.
    """
    return Teaching(
        name="interventional",
        expert_share=expert_share,
        per=per,
        agent_mark=None,
        expert_mark=None,
        observation_weight=observation_weight,
        action_weight=0.0,
    )
