"""Small processes for the tests, each with one feature that the bandit lacks."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import undelude as ud


class Opening(ud.AbstractTask[Array]):
    """Nature opens with theta itself (or with nothing telling); a round's observation is `Q(o | theta, a)`."""

    log_opening: Array  # [K, O]
    log_probs: Array  # [K, A, O]

    def init(self, theta):
        return jnp.asarray(-1, jnp.int32)

    def Q_O(self, theta, w):
        return ud.Categorical(log_probs=jnp.where(w < 0, self.log_opening[theta], self.log_probs[theta, w]))

    def g_A(self, theta, a, w):
        return jnp.asarray(a, jnp.int32)

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return (a == theta).astype(float)


class Noisy(ud.AbstractTask[tuple[Array, Array]]):
    """A bit says whether `a == theta`, wrong with a probability that is drawn for each episode and shown."""

    def init(self, theta):
        return jnp.asarray(-1, jnp.int32), jnp.zeros(())

    def Q_O(self, theta, w):
        a, noise = w
        right = jnp.where(a == theta, 1 - noise, noise)
        bit = ud.Categorical(probs=jnp.where(a < 0, 0.5, jnp.stack([1 - right, right])))
        least, most = jnp.where(a < 0, 0.1, noise), jnp.where(a < 0, 0.4, noise)
        return ud.Joint({"bit": bit, "noise": ud.Given(least, up_to=most)})

    def g_A(self, theta, a, w):
        return jnp.asarray(a, jnp.int32), w[1]

    def g_O(self, theta, o, w):
        return w[0], o["noise"]

    def reward(self, theta, w, a, o):
        return (a == theta).astype(float)


class Once(ud.AbstractTask[tuple[Array, Array]]):
    """Only the first observation tells theta; all later ones are fair coins."""

    def init(self, theta):
        return jnp.zeros((), jnp.int32)

    def Q_O(self, theta, w):
        told = jnp.eye(2)[theta] * 0.98 + 0.01
        return ud.Categorical(log_probs=jnp.log(jnp.where(w == 0, told, jnp.full(2, 0.5))))

    def g_A(self, theta, a, w):
        return w

    def g_O(self, theta, o, w):
        return w + 1

    def reward(self, theta, w, a, o):
        return (a == theta).astype(float)


class Arm(ud.AbstractTask[Array]):
    """A point on a line, pushed by a continuous action towards one of K hidden targets.

    The observation has a `given` part, the position, and a cue: did the last push go towards the target?
    """

    targets: Array  # [K]

    def init(self, theta):
        return jnp.zeros(2)

    def Q_O(self, theta, w):
        before, now = w
        away = jnp.abs(now - self.targets[theta]) > jnp.abs(before - self.targets[theta])
        cue = ud.Categorical(probs=jnp.where(away, jnp.array([0.8, 0.2]), jnp.array([0.2, 0.8])))
        return ud.Joint({"cue": cue, "position": ud.Given(now)})

    def g_A(self, theta, a, w):
        return jnp.stack([w[1], w[1] + a[0]])

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return -jnp.abs(w[1] - self.targets[theta])


class Guide(ud.AbstractExpert[Array]):
    """Pushes towards the target, with noise."""

    targets: Array

    def init(self, theta):
        return jnp.zeros(())

    def Q_A(self, theta, e):
        return ud.Normal(0.5 * (self.targets[theta] - e)[None], 0.3)

    def g_A(self, theta, a, e):
        return e + a[0]

    def g_O(self, theta, o, e):
        return e


def stateless_expert(probs):
    return ud.tasks.tables.TableExpert(jnp.log(jnp.asarray(probs)))


def opening(*, telling: float = 1.0, num_rounds: int = 2) -> ud.InteractionProcess:
    """Two thetas; `O_0` is theta with probability `telling`; later observations are coins."""
    other = 1 - telling
    with np.errstate(divide="ignore"):
        log_opening = jnp.asarray(np.log([[telling, other], [other, telling]]))
    return ud.InteractionProcess(
        prior=jnp.array([0.5, 0.5]),
        thetas=jnp.arange(2),
        task=Opening(log_opening, jnp.log(jnp.full((2, 2, 2), 0.5))),
        expert=stateless_expert([[0.9, 0.1], [0.1, 0.9]]),
        num_rounds=num_rounds,
        opening=True,
        name="opening",
    )


def once(num_rounds: int = 4) -> ud.InteractionProcess:
    """Remember the first observation."""
    return ud.InteractionProcess(
        prior=jnp.array([0.5, 0.5]),
        thetas=jnp.arange(2),
        task=Once(),
        expert=stateless_expert([[0.9, 0.1], [0.1, 0.9]]),
        num_rounds=num_rounds,
        name="once",
    )


def noisy(num_rounds: int = 6) -> ud.InteractionProcess:
    """Each episode has a noise of its own, which all know."""
    return ud.InteractionProcess(
        prior=jnp.array([0.7, 0.3]),
        thetas=jnp.arange(2),
        task=Noisy(),
        expert=stateless_expert([[0.9, 0.1], [0.1, 0.9]]),
        num_rounds=num_rounds,
        opening=True,
        name="noisy",
    )


def arm(num_targets: int = 3, num_rounds: int = 4) -> ud.InteractionProcess:
    """Continuous actions, an observation of two parts, memories that a theta-free copy would serve."""
    targets = jnp.linspace(-1.0, 1.0, num_targets)
    return ud.InteractionProcess(
        prior=jnp.full(num_targets, 1 / num_targets),
        thetas=jnp.arange(num_targets),
        task=Arm(targets),
        expert=Guide(targets),
        num_rounds=num_rounds,
        name="arm",
    )


def continuous_arm(num_rounds: int = 3) -> ud.InteractionProcess:
    """The same with theta a number: sample-only."""

    class Where(Arm):
        def Q_O(self, theta, w):
            return Arm.Q_O(Arm(theta[None]), 0, w)

        def reward(self, theta, w, a, o):
            return -jnp.abs(w[1] - theta)

    class There(Guide):
        def Q_A(self, theta, e):
            return ud.Normal(0.5 * (theta - e)[None], 0.3)

    empty = jnp.zeros(0)
    return ud.InteractionProcess(
        prior=ud.Normal(0.0, 1.0),
        thetas=None,
        task=Where(empty),
        expert=There(empty),
        num_rounds=num_rounds,
        name="continuous",
    )


# Of the dial: thetas, and deviations of the expert, the opening and the outcomes.
THETAS, TURN, FIRST, LATER = np.array([-1.0, 0.0, 2.0]), 0.5, 3.0, 0.8


class Dial(ud.AbstractTask):
    """The needle shows theta a, with noise; it opens with theta, with more noise."""

    def init(self, theta):
        return jnp.full((), jnp.nan)

    def Q_O(self, theta, w):
        return ud.Normal(jnp.where(jnp.isnan(w), theta, theta * w), jnp.where(jnp.isnan(w), FIRST, LATER))

    def g_A(self, theta, a, w):
        return a

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return -((a - theta) ** 2)


class Turner(ud.AbstractExpert):
    """An expert who turns the dial to theta."""

    low_high: tuple | None = None
    size: int | None = None

    def init(self, theta):
        return ()

    def Q_A(self, theta, e):
        theta = theta if self.size is None else jnp.full(self.size, theta)
        return ud.Normal(theta, TURN) if self.low_high is None else ud.Squashed(ud.Normal(theta, TURN), *self.low_high)

    def g_A(self, theta, a, e):
        return e

    def g_O(self, theta, o, e):
        return e


class Coin(ud.AbstractTask):
    """A coin, whatever is done."""

    def init(self, theta):
        return jnp.zeros(())

    def Q_O(self, theta, w):
        return ud.Categorical(probs=jnp.array([0.5, 0.5]))

    def g_A(self, theta, a, w):
        return w

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return jnp.zeros(())


def dial(num_rounds=3, **expert):
    return ud.InteractionProcess(
        np.array([0.2, 0.5, 0.3]), THETAS.astype(np.float32), Dial(), Turner(**expert), num_rounds, opening=True
    )
