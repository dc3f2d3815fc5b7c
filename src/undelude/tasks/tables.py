"""Processes from tables: every conditional distribution is an array (the finite alphabets of Appendix A)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from undelude._checks import as_numbers, check_count, check_probabilities
from undelude._distributions import Categorical
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._types import Belief, Frame, Memory, Theta

NO_ACTION = -1


class TableTask(AbstractTask[Int[Array, ""]]):
    """`Q(O | theta, a)` from a table. The memory W is the last action.

    Attributes:
        log_probs: `[K, A, O]`, `log Q(o | theta, a)`.
        rewards: `[O]`, the reward of each observation.
    """

    theta_free_memory = True
    theta_enters = "the table of the task differs between thetas"
    log_probs: Float[Array, "K A O"]
    rewards: Float[Array, " O"]

    def init(self, theta: Int[Array, ""]) -> Int[Array, ""]:
        """Return `NO_ACTION`: Nature does not open."""
        del theta
        return jnp.full((), NO_ACTION, jnp.int32)

    def Q_O(self, theta: Int[Array, ""], w: Int[Array, ""]) -> Categorical:
        """Return `Q(O | theta, a)`."""
        return Categorical(log_probs=self.log_probs[theta, w])

    def g_A(self, theta: Int[Array, ""], a: Int[Array, ""], w: Int[Array, ""]) -> Int[Array, ""]:
        """Remember the action."""
        del theta, w
        return jnp.asarray(a, jnp.int32)

    def g_O(self, theta: Int[Array, ""], o: Int[Array, ""], w: Int[Array, ""]) -> Int[Array, ""]:
        """Return the memory unchanged."""
        del theta, o
        return w

    def reward(
        self, theta: Int[Array, ""], w: Int[Array, ""], a: Int[Array, ""], o: Int[Array, ""]
    ) -> Float[Array, ""]:
        """Return the reward of the observation."""
        del theta, w, a
        return self.rewards[o]

    def draw(self, frame: Frame, theta: Theta, w: Memory, belief: Belief) -> None:
        """Draw a disc for each action, the last one filled, and the belief as bars below."""
        num_actions = self.log_probs.shape[1]
        for a in range(num_actions):
            centre, taken = (0.05 + 0.9 * (a + 0.425) / num_actions, 0.12), a == int(w)
            frame.disc(centre, 0.05, outline=frame.rule)
            if taken:
                frame.disc(centre, 0.05, fill=frame.ink, label="last action")
        frame.bars([p for _, p in belief], framed=int(theta), top=0.25)


class TableExpert(AbstractExpert[None]):
    """`Q(A | theta)` from a table: an expert without a memory.

    Attributes:
        log_probs: `[K, A]`, `log Q(a | theta)`.
    """

    theta_free_memory = True
    log_probs: Float[Array, "K A"]

    def init(self, theta: Int[Array, ""]) -> None:
        """Return None, the empty memory."""

    def Q_A(self, theta: Int[Array, ""], e: None) -> Categorical:
        """Return `Q(A | theta)`."""
        del e
        return Categorical(log_probs=self.log_probs[theta])

    def g_A(self, theta: Int[Array, ""], a: Int[Array, ""], e: None) -> None:
        """Return None, the empty memory."""

    def g_O(self, theta: Int[Array, ""], o: PyTree, e: None) -> None:
        """Return None, the empty memory."""


def from_tables(
    *,
    prior: ArrayLike | list,
    expert: ArrayLike | list,
    task: ArrayLike | list,
    rewards: ArrayLike | list | None = None,
    num_rounds: int = 20,
    name: str = "tables",
) -> InteractionProcess:
    """Return a process whose expert acts by `Q(a | theta)` and whose observations depend on theta and the last action.

    Args:
        prior: `[K]`, `Q(theta)`.
        expert: `[K, A]`, `Q(a | theta)`.
        task: `[K, A, O]`, `Q(o | theta, a)`.
        rewards: `[O]`, the reward of each observation; its index by default.
        num_rounds: T.
        name: of the process, for messages.

    Raises:
        ValueError: a table does not hold probabilities, or does not fit the other tables.

    >>> process = from_tables(prior=[.5, .5], expert=[[.9, .1], [.2, .8]], task=[[[.7, .3], [.4, .6]]] * 2)
    >>> process.num_thetas, process.action_spec.n
    (2, 2)
    """
    given = (("prior", prior), ("expert", expert), ("task", task))
    Q_theta, Q_A, Q_O = (np.asarray(as_numbers(x, f"{name}: {part}"), dtype=float) for part, x in given)
    for part, table, axes in (("prior", Q_theta, "[K]"), ("expert", Q_A, "[K, A]"), ("task", Q_O, "[K, A, O]")):
        if table.ndim != axes.count(",") + 1:
            raise ValueError(f"{name}: {part} has shape {table.shape}; it must be {axes}.")
        if not table.size:
            raise ValueError(f"{name}: {part} has shape {table.shape}; no axis may be empty.")
        check_probabilities(table, f"{name}: {part}")
    if Q_A.shape[0] != Q_theta.shape[0] or Q_O.shape[:2] != Q_A.shape:
        raise ValueError(
            f"{name}: prior {Q_theta.shape}, expert {Q_A.shape} and task {Q_O.shape} do not fit; "
            "they must be [K], [K, A] and [K, A, O] with the same K and A."
        )
    Q_theta, Q_A, Q_O = (table / table.sum(-1, keepdims=True) for table in (Q_theta, Q_A, Q_O))
    worth = np.arange(Q_O.shape[2]) if rewards is None else as_numbers(rewards, f"{name}: rewards")
    if worth.shape != Q_O.shape[2:]:
        raise ValueError(
            f"{name}: rewards has shape {worth.shape}; it needs one number for each of {Q_O.shape[2]} observations."
        )
    with np.errstate(over="ignore"):
        worth = np.asarray(worth, jnp.asarray(0.0).dtype)  # JAX's precision, single by default
    if not np.isfinite(worth).all():
        raise ValueError(f"{name}: rewards must be finite numbers, not {worth.tolist()}.")
    return InteractionProcess(
        prior=jnp.asarray(Q_theta, dtype=float),
        thetas=jnp.arange(Q_theta.shape[0]),
        task=TableTask(log_table(Q_O), jnp.asarray(worth, dtype=float)),
        expert=TableExpert(log_table(Q_A)),
        num_rounds=check_count(f"{name}: num_rounds", num_rounds),
        name=name,
    )


def log_table(table: np.ndarray) -> Array:
    """Return the logarithms of a table of probabilities; those of zeros are -inf."""
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(table), dtype=float)
