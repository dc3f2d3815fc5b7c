"""A two-link arm guided to a hidden target: "a guided robot arm manipulating objects" (Section 1)."""

import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from undelude._checks import check_between, check_count
from undelude._distributions import AbstractDistribution, Categorical, Given, Joint, Mixture, Normal
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._types import Belief, Frame, Memory, Observation, Theta

# Lengths: of each link, and from the shoulder to the targets.
LINK, REACH = 0.5, 0.7
# Radius of a target.
RADIUS = 0.15
# Greatest turn of a joint in a round, radians.
MAX_TURN = 0.3
# Initial joint angles, radians: upper arm to the right, forearm up.
START = np.asarray([0.0, math.pi / 2])


def tip(joints: Float[Array, "2"]) -> Float[Array, "2"]:
    """Return the position of the hand (forward kinematics)."""
    angles = jnp.cumsum(joints)
    return LINK * jnp.stack([jnp.cos(angles).sum(), jnp.sin(angles).sum()])


def joints_at(point: Float[Array, "2"]) -> Float[Array, "2"]:
    """Return the joint angles that put the hand at `point`, elbow to the right (inverse kinematics)."""
    distance = jnp.clip(jnp.hypot(point[0], point[1]), 1e-6, 2 * LINK - 1e-6)
    elbow = 2 * jnp.arccos(distance / (2 * LINK))
    return jnp.stack([jnp.arctan2(point[1], point[0]) - elbow / 2, elbow])


def turn(joints: Float[Array, "2"], a: Float[Array, "2"]) -> Float[Array, "2"]:
    """Return the joint angles after a command, which turns no joint by more than `MAX_TURN`."""
    return joints + jnp.clip(a, -MAX_TURN, MAX_TURN)


class ArmTask(AbstractTask[Float[Array, "2 2"]]):
    """`Q(O | theta, W)`: the pose of the arm, which is given, and warmer or colder. W is the joints before and now."""

    theta_free_memory: ClassVar[bool] = True
    cue: float = eqx.field(static=True)

    def init(self, theta: Float[Array, "2"]) -> Float[Array, "2 2"]:
        """Return the initial joints, as before and now."""
        del theta
        return jnp.broadcast_to(jnp.asarray(START, float), (2, 2))

    def Q_O(self, theta: Float[Array, "2"], w: Float[Array, "2 2"]) -> Joint:
        """Return the distribution of a bit that is right with probability `cue`, with the pose as a given part."""
        before, now = (jnp.linalg.norm(tip(joints) - theta) for joints in w)
        warmer = (now < before) | (now < RADIUS)
        p = jnp.where(warmer, self.cue, 1 - self.cue)
        seen = jnp.concatenate([jnp.cos(w[1]), jnp.sin(w[1]), tip(w[1])])
        return Joint({"cue": Categorical(log_probs=jnp.log(jnp.stack([1 - p, p]))), "joints": Given(seen)})

    def g_A(self, theta: Float[Array, "2"], a: Float[Array, "2"], w: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
        """Turn the arm."""
        del theta
        return jnp.stack([w[1], turn(w[1], a)])

    def g_O(self, theta: Float[Array, "2"], o: dict[str, Array], w: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
        """Return the memory unchanged."""
        del theta, o
        return w

    def reward(
        self, theta: Float[Array, "2"], w: Float[Array, "2 2"], a: Float[Array, "2"], o: dict[str, Array]
    ) -> Float[Array, ""]:
        """Return 1 if the hand is at the target."""
        del a, o
        return (jnp.linalg.norm(tip(w[1]) - theta) < RADIUS).astype(float)

    def draw(self, frame: Frame, theta: Theta, w: Memory, belief: Belief) -> None:
        """Draw the arm, the targets shaded by their probabilities, and a ring around the true one."""

        def at(point: Any) -> tuple[float, float]:
            return 0.5 + 0.46 * float(point[0]), 0.5 - 0.46 * float(point[1])

        for value, probability in belief:
            frame.disc(at(value), 0.46 * RADIUS, fill=frame.accent, opacity=probability, outline=frame.rule)
        frame.disc(at(theta), 0.46 * RADIUS, outline=frame.ink, label="hidden target")
        angles = np.cumsum(w[1])
        elbow = LINK * np.array([np.cos(angles[0]), np.sin(angles[0])])
        hand = elbow + LINK * np.array([np.cos(angles[1]), np.sin(angles[1])])
        frame.line([at((0, 0)), at(elbow), at(hand)], colour=frame.muted, width=0.03)
        for joint in ((0, 0), elbow):
            frame.disc(at(joint), 0.025, fill=frame.muted)
        frame.disc(at(hand), 0.03, fill=frame.ink, label="hand")

    def say(self, o: Observation) -> str:
        """Name the bit: warmer or colder."""
        return ("colder", "warmer")[int(o["cue"])]


class ArmExpert(AbstractExpert[Float[Array, "2"]]):
    """`Q(A | theta, E)`: a proportional controller in joint space. E is the joints."""

    theta_free_memory: ClassVar[bool] = True
    gain: float = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    random_moves: float = eqx.field(static=True)

    def init(self, theta: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the initial joints."""
        del theta
        return jnp.asarray(START, float)

    def Q_A(self, theta: Float[Array, "2"], e: Float[Array, "2"]) -> AbstractDistribution:
        """Return `N(gain (joints*(theta) - joints), scale)`, the mean clipped to `MAX_TURN`, plus random moves."""
        error = joints_at(theta) - e
        error = (error + jnp.pi) % (2 * jnp.pi) - jnp.pi
        loc = jnp.clip(self.gain * error, -MAX_TURN, MAX_TURN)
        if self.random_moves == 0:
            return Normal(loc, self.scale)
        moves = Normal(jnp.stack([loc, jnp.zeros(2)]), jnp.array([[self.scale] * 2, [MAX_TURN] * 2]))
        return Mixture(moves, log_weights=jnp.log(jnp.array([1 - self.random_moves, self.random_moves])))

    def g_A(self, theta: Float[Array, "2"], a: Float[Array, "2"], e: Float[Array, "2"]) -> Float[Array, "2"]:
        """Turn the arm."""
        del theta
        return turn(e, a)

    def g_O(self, theta: Float[Array, "2"], o: dict[str, Array], e: Float[Array, "2"]) -> Float[Array, "2"]:
        """Return the memory unchanged."""
        del theta, o
        return e


class OnCircle(AbstractDistribution[Float[Array, "2"]]):
    """A uniform distribution over the circle of targets; densities are with respect to the angle."""

    def sample(self, key: Key[Array, ""]) -> Float[Array, "2"]:
        """Sample a point."""
        angle = jax.random.uniform(key, maxval=2 * math.pi)
        return REACH * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    def log_prob(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        """Return the density of the angle, `-log 2 pi`."""
        del x
        return jnp.asarray(-math.log(2 * math.pi))

    def entropy(self) -> Float[Array, ""]:
        """Return the entropy of the angle, `log 2 pi`."""
        return jnp.asarray(math.log(2 * math.pi))


def arm(
    num_targets: int | None = 8,
    cue: float = 0.8,
    num_rounds: int = 60,
    *,
    gain: float = 0.5,
    scale: float = 0.05,
    random_moves: float = 0.0,
) -> InteractionProcess:
    """Return a process in which a guide leads the hand of a two-link arm to a hidden target, by warmer and colder.

    `Theta` is the target, one of `num_targets` on a circle, or any point of the circle. An action commands a turn of
    both joints; neither turns by more than .3 radians. An observation is the pose (cosines and sines of the joints, and
    the hand: given, so not evidence) and one bit, right with probability `cue`: the hand came nearer, or is there. The
    expert commands `N(gain (joints*(theta) - joints), scale)`, with the mean clipped to .3 and `joints*` from inverse
    kinematics.

    Why it deludes: one turn can tell a hundred times as much about the target as a bit does
    (`|difference of means|^2 / 2 scale^2` nats). An agent that reads its own turns as evidence goes to the target that
    it happened to draw first.

    Args:
        num_targets: K; None for a continuous Theta, which has no exact agent except over `particles`.
        cue: the probability that the bit is right, from 1/2 (no information) to 1.
        num_rounds: T.
        gain: of the expert's controller.
        scale: standard deviation of the expert's turns, radians.
        random_moves: the share of the expert's moves that are random, `N(0, .3)`. If positive, every move is possible
            under every theta (Section 4.2).

    Raises:
        ValueError: a number is out of range.

    >>> import undelude as ud
    >>> arm().num_thetas, arm(num_targets=None).finite
    (8, False)
    """
    cue = check_between("arm: cue", cue, 0.5, 1, why="1/2 says nothing")
    random_moves = check_between("arm: random_moves", random_moves, 0, 1)
    gain, scale = (
        check_between(f"arm: {n}", x, 0, math.inf, ends=False) for n, x in (("gain", gain), ("scale", scale))
    )
    prior, thetas = OnCircle(), None
    if num_targets is not None:
        num_targets = check_count("arm: num_targets", num_targets)
        if num_targets < 2:
            raise ValueError(
                f"arm: num_targets must be at least 2, or None for any point of the circle, not {num_targets}."
            )
        angles = 2 * np.pi * np.arange(num_targets) / num_targets
        thetas = (REACH * np.stack([np.cos(angles), np.sin(angles)], -1)).astype(np.float32)
        prior = np.full(num_targets, 1 / num_targets)
    expert = ArmExpert(float(gain), float(scale), random_moves)
    return InteractionProcess(prior, thetas, ArmTask(cue), expert, num_rounds, name="arm")
