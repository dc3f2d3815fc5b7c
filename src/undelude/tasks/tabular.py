"""Known Markov decision processes, unknown errand: the "agent controlling a known MDP" of Section 3.

The transition tables that Gymnasium's toy-text environments publish (`env.unwrapped.P`) are stacked into one process
whose theta is which map or errand it is. https://gymnasium.farama.org/environments/toy_text/
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from undelude._distributions import Categorical
from undelude._process.task import AbstractExpert, AbstractTask

Memory = tuple[Int[Array, ""], Int[Array, ""]]


class TabularTask(AbstractTask[Memory]):
    """`Q(O | theta, s, a)` from tables; the memory is the last state that was shown, and the last action.

    Attributes:
        log_probs: `[K, S + 1, A, O]`; the last state is "before the opening".
        rewards: `[K, S + 1, A, O]`, the expected reward, given what happened.
        state_of: `[O]`, the state that an outcome shows.
        outcomes: what each of the O symbols says: `(state, reward or None, terminated)`.
    """

    theta_free_memory = True
    log_probs: Float[Array, "K S1 A O"]
    rewards: Float[Array, "K S1 A O"]
    state_of: Int[Array, " O"]
    outcomes: tuple[tuple[int, float | None, bool], ...] = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Memory:
        """Before the opening."""
        del theta
        return jnp.asarray(self.log_probs.shape[1] - 1, jnp.int32), jnp.zeros((), jnp.int32)

    def Q_O(self, theta: Int[Array, ""], w: Memory) -> Categorical:
        """The distribution of what the environment shows next."""
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
        """The environment's reward (its mean, where `o` hides or blurs it)."""
        return self.rewards[theta, w[0], a, o]


class TabularExpert(AbstractExpert[Int[Array, ""]]):
    """A soft-optimal controller for every theta; its memory is the state.

    Attributes:
        log_probs: `[K, S + 1, A]`, `log Q(a | theta, s)`.
        state_of: `[O]`, the state that an outcome shows.
    """

    theta_free_memory = True
    log_probs: Float[Array, "K S1 A"]
    state_of: Int[Array, " O"]

    def init(self, theta: Int[Array, ""]) -> Int[Array, ""]:
        """Before the opening."""
        del theta
        return jnp.asarray(self.log_probs.shape[1] - 1, jnp.int32)

    def Q_A(self, theta: Int[Array, ""], e: Int[Array, ""]) -> Categorical:
        """`softmax(Q*(theta, s, .) / temperature)`."""
        return Categorical(log_probs=self.log_probs[theta, e])

    def g_A(self, theta: Int[Array, ""], a: Int[Array, ""], e: Int[Array, ""]) -> Int[Array, ""]:
        """Nothing to remember."""
        del theta, a
        return e

    def g_O(self, theta: Int[Array, ""], o: Int[Array, ""], e: Int[Array, ""]) -> Int[Array, ""]:
        """Remember the state that was shown."""
        del theta, e
        return self.state_of[o]


def soft_value_iteration(
    P: ArrayLike, R: ArrayLike, terminal: ArrayLike, *, temperature: float, discount: float, tolerance: float = 1e-6
) -> Float[np.ndarray, "K S A"]:
    """`log pi(a | s) = (Q(s, a) - V(s)) / tau - log A` of the KL-regularised optimum, for all theta at once.

    `Q(s, a) = R(s, a) + discount sum_s' P(s' | s, a) V(s')`, `V(s) = tau log mean_a exp(Q(s, a) / tau)`, and 0 at
    terminal states. (Soft value iteration against a uniform reference policy; Todorov 2006, Fox et al. 2016.)

    Args:
        P: `[K, S, A, S]`.
        R: `[K, S, A]`, expected rewards.
        terminal: `[K, S]`.
        temperature: tau.
        discount: in [0, 1); 1 too, where no state is met twice.
        tolerance: on V, in units of the largest reward.
    """
    P, R, alive = np.asarray(P, float), np.asarray(R, float), ~np.asarray(terminal)
    scale = max(np.abs(R).max(), 1e-12)
    V, change = np.zeros(R.shape[:2]), np.inf
    # In float64, which the bound on the error of V needs where the discount is near 1.
    while change * discount > tolerance * scale * (1 - discount):
        Q = R + discount * (P @ (V * alive)[:, None, :, None])[..., 0]
        best = Q.max(-1)
        new = best + temperature * np.log(np.exp((Q - best[..., None]) / temperature).mean(-1))
        V, change = new, np.abs(new - V).max()
    # At a terminal state nothing depends on the action: the expert is indifferent there.
    Q = np.where(alive[..., None], R + discount * (P @ (V * alive)[:, None, :, None])[..., 0], 0.0)
    logits = (Q - Q.max(-1, keepdims=True)) / temperature
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
