"""Task and expert for "an agent controlling a known MDP" with a hidden goal (Section 3).

`AbstractTabularTask` reads Nature's distribution from tables, one for each theta; `TabularExpert` plays the policy of
`soft_value_iteration`. `undelude.gym.tabular` fills the tables from Gymnasium, `undelude.tasks.cards` from game trees.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from undelude._distributions import Categorical
from undelude._process.task import AbstractExpert, AbstractTask

Memory = tuple[Int[Array, ""], Int[Array, ""]]


class AbstractTabularTask(AbstractTask[Memory]):
    """`Q(O | theta, s, a)` from tables. The memory W is the last state shown and the last action.

    Attributes:
        log_probs: `[K, S + 1, A, O]`; the last state stands for "before the opening".
        rewards: `[K, S + 1, A, O]`, the expected reward of an outcome.
        state_of: `[O]`, the state that an outcome shows.
        outcomes: the meaning of each of the O symbols: `(state, reward or None, terminated)`.
    """

    theta_free_memory = True
    log_probs: eqx.AbstractVar[Float[Array, "K S1 A O"]]
    rewards: eqx.AbstractVar[Float[Array, "K S1 A O"]]
    state_of: eqx.AbstractVar[Int[Array, " O"]]
    outcomes: eqx.AbstractVar[tuple[tuple[int, float | None, bool], ...]]

    def Q_O(self, theta: Int[Array, ""], w: Memory) -> Categorical:
        """Return the distribution of the next outcome."""
        return Categorical(log_probs=self.log_probs[theta, w[0], w[1]])

    def g_A(self, theta: Int[Array, ""], a: Int[Array, ""], w: Memory) -> Memory:
        """Remember the action."""
        del theta
        return w[0], jnp.asarray(a, jnp.int32)

    def g_O(self, theta: Int[Array, ""], o: Int[Array, ""], w: Memory) -> Memory:
        """Remember the state that was shown."""
        del theta
        return self.state_of[o], w[1]

    def reward(self, theta: Int[Array, ""], w: Memory, a: Int[Array, ""], o: Int[Array, ""]) -> Float[Array, ""]:
        """Return the environment's reward, or its mean if `o` hides or blurs it."""
        return self.rewards[theta, w[0], a, o]


class TabularTask(AbstractTabularTask):
    """A known environment, one table for each theta; attributes as in `AbstractTabularTask`."""

    log_probs: Float[Array, "K S1 A O"]
    rewards: Float[Array, "K S1 A O"]
    state_of: Int[Array, " O"]
    outcomes: tuple[tuple[int, float | None, bool], ...] = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Memory:
        """Return the state "before the opening"."""
        del theta
        return jnp.asarray(self.log_probs.shape[1] - 1, jnp.int32), jnp.zeros((), jnp.int32)


class TabularExpert(AbstractExpert[Int[Array, ""]]):
    """A soft-optimal controller for each theta. The memory E is the state.

    Attributes:
        log_probs: `[K, S + 1, A]`, `log Q(a | theta, s)`.
        state_of: `[O]`, the state that an outcome shows.
    """

    theta_free_memory = True
    log_probs: Float[Array, "K S1 A"]
    state_of: Int[Array, " O"]

    def init(self, theta: Int[Array, ""]) -> Int[Array, ""]:
        """Return the state "before the opening"."""
        del theta
        return jnp.asarray(self.log_probs.shape[1] - 1, jnp.int32)

    def Q_A(self, theta: Int[Array, ""], e: Int[Array, ""]) -> Categorical:
        """Return `softmax(Q*(theta, s, .) / temperature)`."""
        return Categorical(log_probs=self.log_probs[theta, e])

    def g_A(self, theta: Int[Array, ""], a: Int[Array, ""], e: Int[Array, ""]) -> Int[Array, ""]:
        """Return the memory unchanged."""
        del theta, a
        return e

    def g_O(self, theta: Int[Array, ""], o: Int[Array, ""], e: Int[Array, ""]) -> Int[Array, ""]:
        """Remember the state that was shown."""
        del theta, e
        return self.state_of[o]


def soft_value_iteration(
    P: ArrayLike, R: ArrayLike, terminal: ArrayLike, *, temperature: float, discount: float, tolerance: float = 1e-6
) -> Float[np.ndarray, "K S A"]:
    """Return the KL-regularised optimum `log pi(a | s) = (Q(s, a) - V(s)) / tau - log A`, for all theta at once.

    `Q(s, a) = R(s, a) + discount sum_s' P(s' | s, a) V(s')`, `V(s) = tau log mean_a exp(Q(s, a) / tau)`, and 0 at
    terminal states. (Soft value iteration against a uniform reference policy; Todorov 2006, Fox et al. 2016.)

    Args:
        P: `[K, S, A, S]`.
        R: `[K, S, A]`, expected rewards.
        terminal: `[K, S]`.
        temperature: tau.
        discount: in [0, 1]; 1 only if no state occurs twice in an episode.
        tolerance: on V, in units of the largest reward.
    """
    P, R, alive = np.asarray(P, float), np.asarray(R, float), ~np.asarray(terminal)
    scale = max(np.abs(R).max(), 1e-12)
    V, change = np.zeros(R.shape[:2]), np.inf
    # In float64: near discount 1 the bound on the error of V needs it.
    while change * discount > tolerance * scale * (1 - discount):
        Q = R + discount * (P @ (V * alive)[:, None, :, None])[..., 0]
        best = Q.max(-1)
        new = best + temperature * np.log(np.exp((Q - best[..., None]) / temperature).mean(-1))
        V, change = new, np.abs(new - V).max()
    # At a terminal state no action matters, so the expert is uniform there.
    Q = np.where(alive[..., None], R + discount * (P @ (V * alive)[:, None, :, None])[..., 0], 0.0)
    logits = (Q - Q.max(-1, keepdims=True)) / temperature
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
