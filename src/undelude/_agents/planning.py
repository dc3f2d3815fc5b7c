"""Acting for reward without seeing theta, by planning over the agent's own beliefs.

Probability matching (equation 3) imitates the expert. It gathers information only as the expert does, who needs none.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from undelude._agents.base import Reading
from undelude._agents.exact import AbstractExactAgent
from undelude._checks import check_count
from undelude._distributions import Categorical, Symbols, as_categorical, num_symbols
from undelude._process import inference
from undelude._process.inference import Belief
from undelude._process.process import InteractionProcess, check_process
from undelude._types import Action, Memory, Theta

# Nodes of the tree of a plan, for each action taken.
MAX_NODES = 200_000
# Relative difference below which two actions count as equally good.
TIE = 1e-5


class Plan(eqx.Module):
    """The memory of a planning agent.

    Attributes:
        belief: over Theta.
        symbols_left: how many actions and observations are still to come, two a round.
    """

    belief: Belief
    symbols_left: Int[Array, ""]


class PlanningAgent(AbstractExactAgent[Plan]):
    """An agent that acts for reward instead of imitating: expectimax over its belief, `depth` rounds ahead.

        V_d(h) = max_a E[r + V_(d-1)(h, do(a), o) | h, do(a)],    V_0 = 0.

    With `depth` at least the number of rounds it is the best policy that is not shown theta (Bayes-optimal); with less,
    it earns at most as much. Predicting is not acting: `f_A` is still the posterior predictive.

    Args:
        process: with finitely many values of Theta, and symbols for actions and observations.
        depth: d; the tree has `(A O)^d` leaves.

    Raises:
        TypeError: Theta is continuous, or actions or observations are not symbols.
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

    def __init__(self, process: InteractionProcess, depth: int):
        check_process(process)
        process.check_finite()
        depth = check_count("depth", depth)
        if (nodes := num_nodes(process, depth)) > MAX_NODES:
            raise ValueError(
                f"a plan {depth} rounds ahead in {process.name} has {nodes:.1g} nodes, more than {MAX_NODES:,}: "
                "take a smaller depth."
            )
        self.process = process
        self.depth = depth
        self.reading = Reading("do")

    def init(self, *, num_rounds: int) -> Plan:
        """Return the prior, with all rounds to go."""
        return Plan(inference.init(self.process), jnp.asarray(2 * num_rounds + self.process.opening, jnp.int32))

    def get_belief(self, m: Plan) -> Belief:
        """Return the belief."""
        return m.belief

    def advance(self, m: Plan, belief: Belief) -> Plan:
        """Return the memory with `belief` and one symbol less to go."""
        return Plan(belief, m.symbols_left - 1)

    def values(self, m: Plan) -> Float[Array, " A"]:
        """Return the expected reward of the next `depth` rounds for each first action; no reward follows the end."""
        return _values(self.process, m.belief, m.symbols_left // 2, self.depth)

    def act(self, m: Plan, *, key: Key[Array, ""]) -> tuple[Action, Plan]:
        """Choose an action of the greatest value, at random if there are several."""
        values = self.values(m)
        best = values >= values.max() - TIE * (1 + jnp.abs(values).max())
        return Categorical(logits=jnp.where(best, 0.0, -jnp.inf)).sample(key), m


def num_nodes(process: InteractionProcess, depth: int) -> float:
    """Return how many actions a plan evaluates in its last round, `A (A O)^(depth - 1)`: nearly all of its nodes.

    Raises:
        TypeError: actions or observations are not symbols.
    """
    for name, spec in zip(("actions", "observations"), process.specs, strict=True):
        if not isinstance(spec, Symbols):
            raise TypeError(f"{process.name} has {name} that are {spec}, but a plan needs symbols.")
    num_actions, num_observations = map(num_symbols, process.specs)
    try:
        return num_actions * math.pow(num_actions * num_observations, depth - 1)
    except OverflowError:
        return math.inf


def _values(process: InteractionProcess, belief: Belief, rounds_left: Int[Array, ""], depth: int) -> Float[Array, " A"]:
    num_actions, num_observations = map(num_symbols, process.specs)
    symbols = jnp.arange(num_observations)
    w_axis = None if process.task.theta_free_memory else 0

    def value(a: Int[Array, ""]) -> Float[Array, ""]:
        acted = inference.update_action(process, belief, a, True)
        distributions = as_categorical(inference.task_distributions(process, acted))
        joint = jnp.exp(acted.log_posterior)[:, None] * distributions.probs  # [K, O]

        def rewards(theta: Theta, w: Memory) -> Float[Array, " O"]:
            return jax.vmap(lambda o: jnp.asarray(process.task.reward(theta, w, a, o), float))(symbols)

        r: Float[Array, "K O"] = jax.vmap(rewards, in_axes=(0, w_axis))(process.thetas, acted.w)
        expected = jnp.sum(jnp.where(joint > 0, joint * r, 0.0))
        if depth > 1:

            def later(o: Int[Array, ""]) -> Float[Array, ""]:
                after = inference.update_observation(process, acted, o)
                value = _values(process, after, rounds_left - 1, depth - 1).max()
                return jnp.where(process.task.ends(o), 0.0, value) if process.ends_early else value

            expected += joint.sum(0) @ jax.vmap(later)(symbols)
        return jnp.where(rounds_left > 0, expected, 0.0)

    return jax.vmap(value)(jnp.arange(num_actions))
