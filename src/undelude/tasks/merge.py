"""A driver merging in front of another whose intention is hidden: "a driver navigating a vehicle" (Section 1)."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from undelude._checks import check_between, check_count
from undelude._distributions import Categorical, Given, Joint
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._types import Belief, Frame, Observation, Theta

YIELDS, ASSERTS = 0, 1
GO = 1
# Observations: signs of how the other car drives, 0 and 1, then the outcome.
MERGED, CRASHED = 2, 3
UNDER_WAY = 0


class Ramp(eqx.Module):
    """The driver's state: steps along the ramp, the clock, and the outcome: `UNDER_WAY`, `MERGED` or `CRASHED`."""

    place: Int[Array, ""]
    t: Int[Array, ""]
    end: Int[Array, ""]


class MergeTask(AbstractTask[Ramp]):
    """`Q(O | theta, W)`: a sign of the other's intention or the outcome, and the view, which is given.

    Attributes:
        cue: the probability that a sign is right.
        steps: the length of the ramp, at whose end the driver merges or crashes.
        passes: the round, counted from 0, in which the other car, if it did not yield, has gone by.
    """

    cue: float = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    passes: int = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Ramp:
        """Return the beginning of the ramp, at time 0."""
        del theta
        zero = jnp.zeros((), jnp.int32)
        return Ramp(zero, zero, jnp.asarray(UNDER_WAY, jnp.int32))

    def g_A(self, theta: Int[Array, ""], a: Int[Array, ""], w: Ramp) -> Ramp:
        """Step forward or back; at the end of the ramp, merge or crash."""
        place = jnp.where(w.end == UNDER_WAY, jnp.maximum(w.place + jnp.where(a == GO, 1, -1), 0), w.place)
        collides = (theta == ASSERTS) & (w.t < self.passes)
        ended = jnp.where(place < self.steps, UNDER_WAY, jnp.where(collides, CRASHED, MERGED))
        return Ramp(place, w.t, jnp.where(w.end == UNDER_WAY, ended, w.end).astype(jnp.int32))

    def Q_O(self, theta: Int[Array, ""], w: Ramp) -> Joint:
        """Return a sign's distribution on the ramp, then the outcome for good; the view is given."""
        sign = jnp.array([[self.cue, 1 - self.cue, 0.0, 0.0], [1 - self.cue, self.cue, 0.0, 0.0]])[theta]
        probs = jnp.where(w.end == UNDER_WAY, sign, jax.nn.one_hot(w.end, 4))
        place = jax.nn.one_hot(w.place, self.steps + 1)
        clear = (w.t + 1 >= self.passes).astype(float)
        return Joint({"sign": Categorical(log_probs=jnp.log(probs)), "view": Given(jnp.append(place, clear))})

    def g_O(self, theta: Int[Array, ""], o: dict[str, Array], w: Ramp) -> Ramp:
        """Advance the clock."""
        del theta, o
        return Ramp(w.place, w.t + 1, w.end)

    def reward(self, theta: Int[Array, ""], w: Ramp, a: Int[Array, ""], o: dict[str, Array]) -> Float[Array, ""]:
        """Return -1 in each round from the crash on, 1 from the merge on, and 0 before."""
        del theta, a, o
        return jnp.where(w.end == MERGED, 1.0, jnp.where(w.end == CRASHED, -1.0, 0.0))

    def draw(self, frame: Frame, theta: Theta, w: Ramp, belief: Belief) -> None:
        """Draw the road with the other car, the ramp with the driver, and the belief about the intention."""
        meets = (0.72, 0.3)
        frame.line([(0.02, meets[1]), (0.98, meets[1])], colour=frame.rule, width=0.11)
        frame.line([(0.1, 0.62), meets], colour=frame.rule, width=0.08)
        if theta == YIELDS:
            other = (0.3, meets[1])
        else:  # Near the ramp until round `passes`, then off to the right.
            other = (0.06 + min(int(w.t) / self.passes, 1.0) * 0.6 + 0.3 * (int(w.t) >= self.passes), meets[1])
        share = min(int(w.place) / self.steps, 1.0)
        own = (0.1 + share * (meets[0] - 0.1), 0.62 + share * (meets[1] - 0.62))
        frame.disc(other, 0.045, fill=frame.muted, label="other car")
        frame.disc(own, 0.04, fill=frame.ink, label="driver")
        if w.end == CRASHED:
            frame.disc(meets, 0.1, outline=frame.alarm)
        words = {UNDER_WAY: "", MERGED: "merged", CRASHED: "crash"}[int(w.end)]
        frame.text((0.5, 0.08), words, colour=frame.alarm if w.end == CRASHED else frame.ink, size=0.07)
        labels = ["yields", "asserts itself"]
        frame.bars([p for _, p in belief], framed=int(theta), labels=labels, top=0.72)

    def say(self, o: Observation) -> str:
        """Name the sign of the other's intention."""
        return ("slowing", "pressing", "", "")[int(o["sign"])]


class MergeExpert(AbstractExpert[Int[Array, ""]]):
    """`Q(A | theta, E)`: gap acceptance, forward if the other yields or has gone by, else back. E is the clock."""

    theta_free_memory: ClassVar[bool] = True
    accuracy: float = eqx.field(static=True)
    passes: int = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Int[Array, ""]:
        """Return time 0."""
        del theta
        return jnp.zeros((), jnp.int32)

    def Q_A(self, theta: Int[Array, ""], e: Int[Array, ""]) -> Categorical:
        """Return `accuracy` on the right action, back or forward."""
        go = jnp.where((theta == YIELDS) | (e >= self.passes), self.accuracy, 1 - self.accuracy)
        return Categorical(log_probs=jnp.log(jnp.stack([1 - go, go])))

    def g_A(self, theta: Int[Array, ""], a: Int[Array, ""], e: Int[Array, ""]) -> Int[Array, ""]:
        """Return the memory unchanged."""
        del theta, a
        return e

    def g_O(self, theta: Int[Array, ""], o: dict[str, Array], e: Int[Array, ""]) -> Int[Array, ""]:
        """Advance the clock."""
        del theta, o
        return e + 1


def merge(
    cue: float = 0.8, num_rounds: int = 30, *, steps: int = 7, passes: int = 20, accuracy: float = 0.92
) -> InteractionProcess:
    """Return a process in which a driver on a ramp merges in front of another car that yields or asserts itself.

    `Theta` is the other car's intention, uniform. The driver goes forward or back along a ramp of `steps` steps. At its
    end the driver merges, or crashes if the other asserts itself and is still there. From round `passes` on the other
    has gone by under either theta. Each round shows a sign of the intention (slowing, pressing), right with probability
    `cue`; place and clearance are given. The expert knows theta and does the right thing with probability `accuracy`.

    Why it deludes: an agent that reads its own actions as evidence takes having gone forward for proof that the other
    yields. The tangible cost is the share of crashes (`crashed`).

    Args:
        cue: the probability that a sign is right, from 1/2 (no information) to 1.
        num_rounds: T.
        steps: the length of the ramp.
        passes: the round, counted from 0, in which the other has gone by.
        accuracy: the expert's probability of the right action.

    Raises:
        ValueError: a number is out of range.

    >>> merge().num_thetas, merge().action_spec.n
    (2, 2)
    """
    cue = check_between("merge: cue", cue, 0.5, 1, why="1/2 says nothing")
    steps, passes = check_count("merge: steps", steps), check_count("merge: passes", passes)
    accuracy = check_between("merge: accuracy", accuracy, 0.5, 1, ends=False, why="no action may be impossible")
    return InteractionProcess(
        prior=np.array([0.5, 0.5]),
        thetas=jnp.arange(2),
        task=MergeTask(cue, steps, passes),
        expert=MergeExpert(float(accuracy), passes),
        num_rounds=num_rounds,
        name="merge",
    )


def crashed(episodes: Episodes) -> Bool[Array, " B"]:
    """Return which episodes of `merge` ended in a crash."""
    return (episodes.observations["sign"] == CRASHED).any(-1)
