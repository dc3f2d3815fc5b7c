"""Exact agents: the policy of equation 3, its deluded twin, and Thompson sampling (Remark 5)."""

import abc
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._agents.base import AbstractAgent, M, Reading, check_action, check_mark
from undelude._distributions import AbstractDistribution, Categorical
from undelude._process import inference
from undelude._process.inference import Belief
from undelude._process.process import InteractionProcess, check_process
from undelude._tree import index, is_concrete
from undelude._types import Action, Mark, Observation, Theta


class AbstractExactAgent(AbstractAgent[M]):
    """An agent whose memory holds the exact belief over a finite Theta.

    A subclass defines where in its memory the belief is, and how it acts.

    Attributes:
        process: with finitely many values of Theta.
    """

    process: eqx.AbstractVar[InteractionProcess]

    @abc.abstractmethod
    def get_belief(self, m: M) -> Belief:
        """Return the belief that is part of the memory `m`."""

    @abc.abstractmethod
    def advance(self, m: M, belief: Belief) -> M:
        """Return the memory after one more action or observation, which made its belief `belief`."""

    @property
    def trainable(self) -> bool:
        """False: the parameters are those of the process."""
        return False

    @property
    def thetas(self) -> Theta:
        """The values of Theta in the process."""
        return self.process.thetas

    def belief(self, m: M) -> Float[Array, " K"]:
        """Return `log Q(theta | history)`, nats."""
        return self.get_belief(m).log_posterior

    def f_A(self, m: M) -> AbstractDistribution:
        """Return `sum_theta Q(A | theta, e) P(theta | history)`."""
        return inference.predict_action(self.process, self.get_belief(m))

    def f_O(self, m: M) -> AbstractDistribution:
        """Return `sum_theta Q(O | theta, w) P(theta | history)`."""
        return inference.predict_observation(self.process, self.get_belief(m))

    def g_A(self, a: Action, m: M, *, intervened: Bool[Array, ""] | bool) -> M:
        """Update the belief by equation 2."""
        if is_concrete(a):
            check_action(self, self.process.action_spec, a, intervened)
        return self.advance(m, inference.update_action(self.process, self.get_belief(m), a, intervened))

    def g_O(self, o: Observation, m: M) -> M:
        """Update the belief by Bayes' rule."""
        if is_concrete(o):
            self.process.observation_spec.check(f"{type(self).__name__}: an observation", o)
        return self.advance(m, inference.update_observation(self.process, self.get_belief(m), o))


class ExactAgent(AbstractExactAgent[Belief]):
    """An agent that predicts and acts by exact inference over a finite Theta; its memory is the belief.

    With `own_actions="do"` its policy is the right one, `P(A_t+1 | do(a_1:t), o_1:t)` (equation 3). With `"see"` it is
    the deluded agent of Section 2, `P(A_t+1 | a_1:t, o_1:t)`: it counts its own actions as evidence about theta.

    Args:
        process: with finitely many values of Theta.
        own_actions: how it reads the actions that it executes.

    Raises:
        TypeError: Theta is continuous.

    >>> import jax.numpy as jnp
    >>> import undelude as ud
    >>> frog = ud.tasks.prize_or_frog()
    >>> def after_opening_box_1(agent):
    ...     m = agent.g_A(jnp.array(0), agent.init(num_rounds=1), intervened=agent.own_actions == "do")
    ...     return agent.f_O(m).probs.round(3).tolist()
    >>> after_opening_box_1(ud.ExactAgent(frog)), after_opening_box_1(ud.ExactAgent(frog, own_actions="see"))
    ([0.5, 0.5], [0.0, 1.0])
    """

    process: InteractionProcess

    def __init__(self, process: InteractionProcess, own_actions: Mark = "do"):
        check_process(process)
        process.check_finite()
        self.process = process
        self.reading = Reading(own_actions)
        check_mark(self, own_actions)

    def init(self, *, num_rounds: int) -> Belief:
        """Return the prior."""
        del num_rounds
        return inference.init(self.process)

    def get_belief(self, m: Belief) -> Belief:
        """Return the memory itself."""
        return m

    def advance(self, m: Belief, belief: Belief) -> Belief:
        """Return `belief`."""
        del m
        return belief


Resample = int | Literal["episode", "belief"]


class Thompson(eqx.Module):
    """The memory of a Thompson sampler.

    Attributes:
        belief: over Theta.
        held: the index of the theta that it acts under; -1 before the first draw.
        age: rounds in which it has acted.
    """

    belief: Belief
    held: Int[Array, ""]
    age: Int[Array, ""]


class ThompsonAgent(AbstractExactAgent[Thompson]):
    """Thompson sampling: draw a theta from the belief, and act as the expert would under it (Remark 5).

    Its prediction `f_A` is the posterior predictive, as for `ExactAgent`; only its rule for acting differs. If it draws
    a theta in each round, its actions have the distribution `f_A`. If it holds a theta for longer, it commits to one
    course of action, which pays when evidence comes only at the end of it.

    Args:
        process: with finitely many values of Theta.
        resample: when to draw a new theta: every `k` rounds, once an `"episode"`, or, with `"belief"`, as soon as the
            held theta is less than half as probable as the most probable one.
        own_actions: how it reads the actions that it executes.

    Raises:
        TypeError: Theta is continuous.
        ValueError: `resample` is none of these.
    """

    process: InteractionProcess
    resample: Resample = eqx.field(static=True)

    def __init__(self, process: InteractionProcess, resample: Resample = 1, own_actions: Mark = "do"):
        check_process(process)
        process.check_finite()
        if resample not in ("episode", "belief") and not (isinstance(resample, int) and resample >= 1):
            raise ValueError(
                f'resample must be a number of rounds of at least 1, "episode" or "belief", not {resample!r}.'
            )
        self.process = process
        self.resample = resample
        self.reading = Reading(own_actions)
        check_mark(self, own_actions)

    def init(self, *, num_rounds: int) -> Thompson:
        """Return the prior, with no theta held yet."""
        del num_rounds
        return Thompson(inference.init(self.process), jnp.asarray(-1, jnp.int32), jnp.asarray(0, jnp.int32))

    def get_belief(self, m: Thompson) -> Belief:
        """Return the belief."""
        return m.belief

    def advance(self, m: Thompson, belief: Belief) -> Thompson:
        """Return the memory with `belief`."""
        return Thompson(belief, m.held, m.age)

    def act(self, m: Thompson, *, key: Key[Array, ""]) -> tuple[Action, Thompson]:
        """Draw a theta if one is due, then the expert's action under the theta that is held."""
        key_theta, key_action = jax.random.split(key)
        log_posterior = m.belief.log_posterior
        if self.resample == "episode":
            due = m.held < 0
        elif self.resample == "belief":
            due = (m.held < 0) | (log_posterior[m.held] < jnp.max(log_posterior) - jnp.log(2.0))
        else:
            due = m.age % self.resample == 0
        held = jnp.where(due, Categorical(log_probs=log_posterior).sample(key_theta), m.held)
        distribution = index(inference.expert_distributions(self.process, m.belief), held)
        return distribution.sample(key_action), Thompson(m.belief, held, m.age + 1)
