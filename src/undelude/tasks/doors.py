"""Poisoned Doors: an expert that cannot be imitated well (Weihs et al., 2021, arXiv:2007.12173)."""

import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from undelude._checks import check_between, check_count
from undelude._distributions import Categorical
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractTask
from undelude._types import Belief, Frame, Observation, Theta
from undelude.tasks.tables import NO_ACTION, TableExpert, log_table

# Observations; the symbols from HINT on say "the prize is behind door i".
OVER, LOCKED, PRIZE, POISON, HINT = 0, 1, 2, 3, 4


class Doorstep(eqx.Module):
    """The action being taken, and whether a door was opened before."""

    a: Int[Array, ""]
    over: Bool[Array, ""]


class DoorsTask(AbstractTask[Doorstep]):
    """`Q(O | theta, a)`: the content of the door opened, or a hint.

    Attributes:
        log_probs: `[K, A, O]`.
        rewards: `[O]`.
        num_doors: `N`; actions `0 .. N-1` open a door, action N looks.
    """

    theta_free_memory: ClassVar[bool] = True
    log_probs: Float[Array, "K A O"]
    rewards: Float[Array, " O"]
    num_doors: int = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Doorstep:
        """Return the start: no action yet, all doors shut."""
        del theta
        return Doorstep(jnp.full((), NO_ACTION, jnp.int32), jnp.asarray(False))

    def g_A(self, theta: Int[Array, ""], a: Int[Array, ""], w: Doorstep) -> Doorstep:
        """Remember the action; once a door is open, keep the action that opened it."""
        del theta
        return Doorstep(jnp.where(w.over, w.a, a).astype(jnp.int32), w.over)

    def Q_O(self, theta: Int[Array, ""], w: Doorstep) -> Categorical:
        """Return the distribution of the content or the hint; once a door was opened, of OVER alone."""
        nothing = jnp.where(jnp.arange(self.log_probs.shape[-1]) == OVER, 0.0, -jnp.inf)
        return Categorical(log_probs=jnp.where(w.over, nothing, self.log_probs[theta, w.a]))

    def g_O(self, theta: Int[Array, ""], o: Int[Array, ""], w: Doorstep) -> Doorstep:
        """Remember whether a door has been opened."""
        del theta, o
        return Doorstep(w.a, w.over | (w.a < self.num_doors))

    def reward(self, theta: Int[Array, ""], w: Doorstep, a: Int[Array, ""], o: Int[Array, ""]) -> Float[Array, ""]:
        """Return 2 for the prize, -2 for poison, 1 for the lock, minus the price for a look."""
        del theta, w, a
        return self.rewards[o]

    def draw(self, frame: Frame, theta: Theta, w: Doorstep, belief: Belief) -> None:
        """Draw the doors, shaded by the belief and labelled with their contents, and mark the one opened."""
        width, opened = 0.9 / self.num_doors, int(w.a) if w.a != NO_ACTION else None
        chances = [0.0, *(p for _, p in belief)]
        for door, chance in enumerate(chances):
            left, right, middle = 0.05 + width * door, 0.05 + width * (door + 0.85), 0.05 + width * (door + 0.425)
            frame.box((left, 0.75 - 0.5 * chance), (right, 0.75), fill=frame.accent)
            frame.box((left, 0.25), (right, 0.75), outline=frame.rule)
            frame.text((middle, 0.82), "lock" if door == 0 else "prize" if door == int(theta) + 1 else "poison")
            if door == opened:
                frame.box((left, 0.25), (right, 0.75), outline=frame.ink, label="opened door")
                frame.text((middle, 0.18), "open", size=0.06)

    def say(self, o: Observation) -> str:
        """Name the content found, or the hint."""
        found = {OVER: "", LOCKED: "1", PRIZE: "prize", POISON: "poison"}
        return found.get(int(o), f"seen: door {int(o) - HINT + 1}")


def doors(
    num_doors: int = 4,
    num_rounds: int = 1,
    *,
    look: float | None = None,
    price: float = 0.1,
    expert_accuracy: float = 0.97,
) -> InteractionProcess:
    """Return a process, Poisoned Doors: one door with a lock of known code, one with the prize, the rest with poison.

    `Theta` is the door with the prize, uniform over all but the first. The prize is worth 2, poison -2, and the first
    door (action 0) 1 under every theta. The expert knows theta and opens the door with the prize; with probability
    `1 - expert_accuracy` it takes another action, uniformly. An imitator that does not know theta opens a random door:
    -2/3 for four doors, if the expert never errs. An agent that does not imitate takes the 1. No amount of teaching
    helps, because the expert's choice is right only with the expert's knowledge.

    With `look`, one more action names the door, right with that probability, for a price; using the hint takes further
    rounds. The expert hardly ever looks, so its imitator does not look either.

    Args:
        num_doors: N, the one with the lock included.
        num_rounds: T; nothing happens after the first door is opened.
        look: the probability that a look names the right door; None for no such action.
        price: of a look.
        expert_accuracy: the expert's probability of the door with the prize.

    Raises:
        ValueError: a number is out of range.

    >>> doors().num_thetas, doors(look=0.9, num_rounds=3).action_spec.n
    (3, 5)
    """
    num_doors = check_count("doors: num_doors", num_doors)
    if num_doors < 3:
        raise ValueError(f"doors: num_doors must be at least 3 (a lock and two others), not {num_doors}.")
    expert_accuracy = check_between("doors: expert_accuracy", expert_accuracy, 0, 1, ends=False)
    price = check_between("doors: price", price, 0, math.inf)
    K, A = num_doors - 1, num_doors + (look is not None)
    others = np.arange(1, num_doors)
    task = np.zeros((K, A, HINT + (K if look is not None else 0)))
    task[:, 0, LOCKED] = 1
    task[:, others, POISON] = 1
    task[np.arange(K), others] = np.eye(task.shape[-1])[PRIZE]
    if look is not None:
        look = check_between("doors: look", look, 0, 1)
        hints = np.where(np.eye(K) > 0, look, (1 - look) / (K - 1))
        task[:, -1, HINT:] = hints
    expert = np.full((K, A), (1 - expert_accuracy) / (A - 1))
    expert[np.arange(K), others] = expert_accuracy
    rewards = [0.0, 1.0, 2.0, -2.0, *[-price] * (task.shape[-1] - HINT)]
    return InteractionProcess(
        prior=np.full(K, 1 / K),
        thetas=jnp.arange(K),
        task=DoorsTask(log_table(task), jnp.asarray(rewards, float), num_doors),
        expert=TableExpert(log_table(expert)),
        num_rounds=num_rounds,
        name="doors",
    )
