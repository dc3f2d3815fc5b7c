"""Task and expert for "an agent controlling a known MDP" with a hidden goal (Section 3).

`AbstractTabularTask` reads Nature's distribution from tables, one for each theta; `TabularExpert` plays the policy of
`undelude.tasks.known_mdp`. `undelude.gym.tabular` fills the tables from Gymnasium, `undelude.tasks.cards` from game
trees.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from undelude._distributions import Categorical
from undelude._process.task import AbstractExpert, AbstractTask

Memory = tuple[Int[Array, ""], Int[Array, ""]]


class AbstractTabularTask(AbstractTask[Memory]):
    """`Q(O | theta, row, a)` from tables. The memory W is the present row and the last action.

    A row is a state in which an action is taken. Nature opens from the last row.

    Attributes:
        log_probs: `[K, R, A, O]`.
        rewards: `[K, R, A, O]`, the expected reward of an outcome.
        row_of: `[O]`, the row that follows an outcome.
        outcomes: the meaning of each of the O symbols: `(state, reward or None, terminated)`.
    """

    theta_free_memory = True
    log_probs: eqx.AbstractVar[Float[Array, "K R A O"]]
    rewards: eqx.AbstractVar[Float[Array, "K R A O"]]
    row_of: eqx.AbstractVar[Int[Array, " O"]]
    outcomes: eqx.AbstractVar[tuple[tuple[int, float | None, bool], ...]]

    def Q_O(self, theta: Int[Array, ""], w: Memory) -> Categorical:
        """Return the distribution of the next outcome."""
        return Categorical(log_probs=self.log_probs[theta, w[0], w[1]])

    def g_A(self, theta: Int[Array, ""], a: Int[Array, ""], w: Memory) -> Memory:
        """Remember the action."""
        del theta
        return w[0], jnp.asarray(a, jnp.int32)

    def g_O(self, theta: Int[Array, ""], o: Int[Array, ""], w: Memory) -> Memory:
        """Remember the row that follows."""
        del theta
        return self.row_of[o], w[1]

    def reward(self, theta: Int[Array, ""], w: Memory, a: Int[Array, ""], o: Int[Array, ""]) -> Float[Array, ""]:
        """Return the environment's reward, or its mean if `o` hides or blurs it."""
        return self.rewards[theta, w[0], a, o]

    def optimal_reward(self, theta: Int[Array, ""] | int, num_rounds: int) -> float:
        """Return the optimum by backward induction over the rounds."""
        P = np.exp(np.asarray(self.log_probs[theta]))
        R = (P * np.where(P > 0, self.rewards[theta], 0.0)).sum(-1)
        row_of, V = np.asarray(self.row_of), np.zeros(len(P))
        for _ in range(num_rounds):
            V = (R + P @ V[row_of]).max(-1)
        return float(P[-1, 0] @ V[row_of])


class TabularTask(AbstractTabularTask):
    """A known environment, one table for each theta; attributes as in `AbstractTabularTask`."""

    log_probs: Float[Array, "K R A O"]
    rewards: Float[Array, "K R A O"]
    row_of: Int[Array, " O"]
    outcomes: tuple[tuple[int, float | None, bool], ...] = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Memory:
        """Return the last row, and no action yet."""
        del theta
        return jnp.asarray(self.log_probs.shape[1] - 1, jnp.int32), jnp.zeros((), jnp.int32)


class TabularExpert(AbstractExpert[Int[Array, ""]]):
    """A soft-optimal controller for each theta. The memory E is the present row.

    Attributes:
        log_probs: `[K, R, A]`, `log Q(a | theta, row)`.
        row_of: `[O]`, the row that follows an outcome.
        temperature: of the policy, in units of reward.
    """

    theta_free_memory = True
    log_probs: Float[Array, "K R A"]
    row_of: Int[Array, " O"]
    temperature: float = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Int[Array, ""]:
        """Return the last row."""
        del theta
        return jnp.asarray(self.log_probs.shape[1] - 1, jnp.int32)

    def Q_A(self, theta: Int[Array, ""], e: Int[Array, ""]) -> Categorical:
        """Return `Q(a | theta, row)`."""
        return Categorical(log_probs=self.log_probs[theta, e])

    def g_A(self, theta: Int[Array, ""], a: Int[Array, ""], e: Int[Array, ""]) -> Int[Array, ""]:
        """Return the memory unchanged."""
        del theta, a
        return e

    def g_O(self, theta: Int[Array, ""], o: Int[Array, ""], e: Int[Array, ""]) -> Int[Array, ""]:
        """Remember the row that follows."""
        del theta, e
        return self.row_of[o]
