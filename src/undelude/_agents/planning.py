"""The best that can be done without seeing theta: to act for reward, by planning over one's own beliefs.

Probability matching (equation 3) imitates; it gathers information only as the expert would, who needs none.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._agents.base import AbstractAgent
from undelude._checks import check_count
from undelude._distributions import AbstractDistribution, Categorical, Symbols, as_categorical, num_symbols
from undelude._process import inference
from undelude._process.inference import Belief
from undelude._process.process import InteractionProcess, check_process
from undelude._types import Action, Mark, Observation

# Of the tree of what may happen, for each action that is taken.
MAX_NODES = 200_000
# Actions are equally good where their values differ by less, relatively.
TIE = 1e-5


class Plan(eqx.Module):
    """A belief, and the rounds that are left."""

    belief: Belief
    rounds_left: Int[Array, ""]


class PlanningAgent(AbstractAgent[Plan]):
    """Acts for reward instead of imitating: expectimax over its belief, `depth` rounds ahead.

        V_d(h) = max_a E[r + V_(d-1)(h, do(a), o) | h, do(a)],    V_0 = 0.

    With `depth` at least the number of rounds it is the best of all policies that are not shown theta (Bayes-optimal);
    with less, it earns at most as much. Predicting is not acting: `f_A` is still the posterior predictive.

    Args:
        process: with finitely many values of Theta, and symbols for actions and observations.
        depth: d; the tree has `(A O)^d` leaves.

    Raises:
        TypeError: Theta is continuous, or actions or observations are no symbols.
        ValueError: the tree is too large.

    >>> import undelude as ud
    >>> bandit = ud.tasks.bandit()
    >>> agent = ud.PlanningAgent(bandit, depth=1)
    >>> values = agent.values(agent.init(num_rounds=20))  # Any arm is the best one with probability 1/5.
    >>> round(float(values[0]), 2)
    0.35
    """

    process: InteractionProcess
    depth: int = eqx.field(static=True)
    own_actions: Mark = eqx.field(static=True, default="do")
    marks: tuple[Mark, ...] = eqx.field(static=True, default=("do", "see"))

    def __init__(self, process: InteractionProcess, depth: int):
        check_process(process)
        process.check_finite()
        depth = check_count("depth", depth)
        if (nodes := num_nodes(process, depth)) > MAX_NODES:
            raise ValueError(
                f"a plan {depth} rounds ahead in {process.name} has {nodes:.1g} nodes, more than {MAX_NODES:,}; "
                "take a smaller depth."
            )
        self.process, self.depth = process, depth
        self.own_actions, self.marks = "do", ("do", "see")

    def init(self, *, num_rounds: int) -> Plan:
        """The prior, and all rounds to go; an opening is an observation more, before the first."""
        return Plan(inference.init(self.process), jnp.asarray(num_rounds + self.process.opening, jnp.int32))

    def f_A(self, m: Plan) -> AbstractDistribution:
        """`sum_theta Q(A | theta, e) P(theta | history)`: what the expert would do."""
        return inference.predict_action(self.process, m.belief)

    def f_O(self, m: Plan) -> AbstractDistribution:
        """`sum_theta Q(O | theta, w) P(theta | history)`."""
        return inference.predict_observation(self.process, m.belief)

    def g_A(self, a: Action, m: Plan, *, intervened: Bool[Array, ""] | bool) -> Plan:
        """Equation 2 for the belief."""
        return Plan(inference.update_action(self.process, m.belief, a, intervened), m.rounds_left)

    def g_O(self, o: Observation, m: Plan) -> Plan:
        """Bayes' rule for the belief."""
        return Plan(inference.update_observation(self.process, m.belief, o), m.rounds_left - 1)

    def values(self, m: Plan) -> Float[Array, " A"]:
        """The reward expected of the next `depth` rounds, by the first action; rounds past the end bring none."""
        return _values(self.process, m.belief, m.rounds_left, self.depth)

    def act(self, m: Plan, *, key: Key[Array, ""]) -> tuple[Action, Plan]:
        """An action of the greatest value, any of them where there are several."""
        values = self.values(m)
        best = values >= values.max() - TIE * (1 + jnp.abs(values).max())
        return Categorical(logits=jnp.where(best, 0.0, -jnp.inf)).sample(key), m


def num_nodes(process: InteractionProcess, depth: int) -> float:
    """How many actions a plan `depth` rounds ahead weighs.

    Raises:
        TypeError: actions or observations are no symbols.
    """
    for name, spec in zip(("actions", "observations"), process.specs, strict=True):
        if not isinstance(spec, Symbols):
            raise TypeError(f"{process.name} has {name} that are {spec}, but a plan needs symbols.")
    num_actions, num_observations = map(num_symbols, process.specs)
    try:
        return num_actions * math.pow(num_actions * num_observations, depth - 1)
    except OverflowError:
        return math.inf


def _values(process: InteractionProcess, belief: Belief, left: Int[Array, ""], depth: int) -> Float[Array, " A"]:
    num_actions, num_observations = map(num_symbols, process.specs)
    symbols = jnp.arange(num_observations)
    w_axis = None if process.task.theta_free_memory else 0

    def value(a: Int[Array, ""]) -> Float[Array, ""]:
        acted = inference.update_action(process, belief, a, True)
        distributions = as_categorical(inference.task_distributions(process, acted))
        joint = jnp.exp(acted.log_posterior)[:, None] * distributions.probs  # [K, O]

        def rewards(theta: Any, w: Any) -> Float[Array, " O"]:
            return jax.vmap(lambda o: jnp.asarray(process.task.reward(theta, w, a, o), float))(symbols)

        r: Any = jax.vmap(rewards, in_axes=(0, w_axis))(process.thetas, acted.w)
        expected = jnp.sum(jnp.where(joint > 0, joint * r, 0.0))
        if depth > 1:

            def later(o: Int[Array, ""]) -> Float[Array, ""]:
                return _values(process, inference.update_observation(process, acted, o), left - 1, depth - 1).max()

            expected += joint.sum(0) @ jax.vmap(later)(symbols)
        return jnp.where(left > 0, expected, 0.0)

    return jax.vmap(value)(jnp.arange(num_actions))
