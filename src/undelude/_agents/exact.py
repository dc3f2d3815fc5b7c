"""Exact agents: the policy of equation 3, its deluded twin, and Thompson sampling (Remark 5)."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from undelude._agents.base import AbstractAgent, check_mark
from undelude._distributions import AbstractDistribution, Categorical
from undelude._process import inference
from undelude._process.inference import Belief
from undelude._process.process import InteractionProcess, check_process
from undelude._tree import index
from undelude._types import Action, Mark, Observation


class ExactAgent(AbstractAgent[Belief]):
    """Predicts and acts by exact inference over a finite Theta; its memory is a belief.

    `own_actions="do"` is right, `P(A_t+1 | do(a_1:t), o_1:t)` (equation 3); `"see"` is the deluded agent of Section 2,
    `P(A_t+1 | a_1:t, o_1:t)`, and the delusion is the one line of `inference.update_action` that counts a seen action
    as evidence.

    Args:
        process: with finitely many values of Theta.
        own_actions: how it reads what it executes itself.

    Raises:
        TypeError: Theta is continuous.

    >>> import undelude as ud
    >>> frog = ud.tasks.prize_or_frog()
    >>> def after_opening_box_1(agent):
    ...     m = agent.g_A(jnp.array(0), agent.init(num_rounds=1), intervened=agent.own_actions == "do")
    ...     return agent.f_O(m).probs.round(3).tolist()
    >>> after_opening_box_1(ud.ExactAgent(frog)), after_opening_box_1(ud.ExactAgent(frog, own_actions="see"))
    ([0.5, 0.5], [0.0, 1.0])
    """

    process: InteractionProcess
    own_actions: Mark = eqx.field(static=True)
    marks: tuple[Mark, ...] = eqx.field(static=True, default=("do", "see"))

    def __init__(self, process: InteractionProcess, own_actions: Mark = "do"):
        check_process(process)
        process.check_finite()
        self.process = process
        self.own_actions = own_actions
        self.marks = ("do", "see")
        check_mark(self, own_actions)

    def init(self, *, num_rounds: int) -> Belief:
        """The prior."""
        del num_rounds
        return inference.init(self.process)

    def f_A(self, m: Belief) -> AbstractDistribution:
        """`sum_theta Q(A | theta, e) P(theta | history)`."""
        return inference.predict_action(self.process, m)

    def f_O(self, m: Belief) -> AbstractDistribution:
        """`sum_theta Q(O | theta, w) P(theta | history)`."""
        return inference.predict_observation(self.process, m)

    def g_A(self, a: Action, m: Belief, *, intervened: Bool[Array, ""] | bool) -> Belief:
        """Equation 2."""
        return inference.update_action(self.process, m, a, intervened)

    def g_O(self, o: Observation, m: Belief) -> Belief:
        """Bayes' rule."""
        return inference.update_observation(self.process, m, o)


class Thompson(eqx.Module):
    """A belief, the theta that is held, and the rounds it was held for."""

    belief: Belief
    held: Int[Array, ""]
    age: Int[Array, ""]


class ThompsonAgent(AbstractAgent[Thompson]):
    """Thompson sampling: hold a theta drawn from the belief, and act as the expert would under it (Remark 5).

    Its prediction `f_A` is the posterior predictive, like `ExactAgent`'s; what differs is the rule by which it acts.
    Drawn anew each round, the actions have the distribution of `f_A` itself. Held for longer, it commits: worth
    something where
    evidence comes only on arrival.

    Args:
        process: with finitely many values of Theta.
        resample: draw theta anew every `k` rounds, once an `"episode"`, or, with `"belief"`, as soon as the
            probability of the one held falls under half of the most probable one's.
    """

    process: InteractionProcess
    resample: int | Literal["episode", "belief"] = eqx.field(static=True)
    own_actions: Mark = eqx.field(static=True)
    marks: tuple[Mark, ...] = eqx.field(static=True, default=("do", "see"))

    def __init__(
        self, process: InteractionProcess, resample: int | Literal["episode", "belief"] = 1, own_actions: Mark = "do"
    ):
        check_process(process)
        process.check_finite()
        if resample not in ("episode", "belief") and not (isinstance(resample, int) and resample >= 1):
            raise ValueError(
                f'resample must be a number of rounds of at least 1, "episode" or "belief", not {resample!r}.'
            )
        self.process = process
        self.resample = resample
        self.own_actions = own_actions
        self.marks = ("do", "see")
        check_mark(self, own_actions)

    def init(self, *, num_rounds: int) -> Thompson:
        """The prior, with nothing held yet."""
        del num_rounds
        return Thompson(inference.init(self.process), jnp.asarray(-1, jnp.int32), jnp.asarray(0, jnp.int32))

    def f_A(self, m: Thompson) -> AbstractDistribution:
        """`sum_theta Q(A | theta, e) P(theta | history)`."""
        return inference.predict_action(self.process, m.belief)

    def f_O(self, m: Thompson) -> AbstractDistribution:
        """`sum_theta Q(O | theta, w) P(theta | history)`."""
        return inference.predict_observation(self.process, m.belief)

    def g_A(self, a: Action, m: Thompson, *, intervened: Bool[Array, ""] | bool) -> Thompson:
        """Equation 2 for the belief."""
        return Thompson(inference.update_action(self.process, m.belief, a, intervened), m.held, m.age)

    def g_O(self, o: Observation, m: Thompson) -> Thompson:
        """Bayes' rule for the belief."""
        return Thompson(inference.update_observation(self.process, m.belief, o), m.held, m.age)

    def act(self, m: Thompson, *, key: Key[Array, ""]) -> tuple[Action, Thompson]:
        """Draw theta if it is time to, then the expert's action under the theta held."""
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
