"""Remark 5 and equations 4 and 6: Thompson sampling, also for a continuous Theta."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

import undelude as ud
from undelude._paper.criterion import near, sampled
from undelude._paper.item import Block, Measured, Rows, Settings, mean

PRIOR_SCALE, AIM_SCALE, ERROR_SCALE = 1.0, 0.5, 1.0


class Error(ud.AbstractTask[Array]):
    """A task on a line: Theta is a position, and the outcome is the error of the action, `N(theta - a, scale)`."""

    theta_free_memory: ClassVar[bool] = True

    def init(self, theta: Any) -> Array:
        """Return 0, as there is no action yet."""
        return jnp.zeros(())

    def Q_O(self, theta: Any, w: Array) -> ud.Normal:
        """Return `N(theta - a, scale)`."""
        return ud.Normal(theta - w, ERROR_SCALE)

    def g_A(self, theta: Any, a: Any, w: Array) -> Array:
        """Return the action."""
        return jnp.asarray(a)

    def g_O(self, theta: Any, o: Any, w: Array) -> Array:
        """Return the memory unchanged."""
        return w

    def reward(self, theta: Any, w: Array, a: Any, o: Any) -> Array:
        """Return minus the distance to theta."""
        return -jnp.abs(a - theta)


class Aim(ud.AbstractExpert[None]):
    """An expert who aims at theta, `N(theta, scale)`."""

    theta_free_memory: ClassVar[bool] = True

    def init(self, theta: Any) -> None:
        """Return None: the expert has no memory."""

    def Q_A(self, theta: Any, e: None) -> ud.Normal:
        """Return `N(theta, scale)`."""
        return ud.Normal(theta, AIM_SCALE)

    def g_A(self, theta: Any, a: Any, e: None) -> None:
        """Return None: the expert has no memory."""

    def g_O(self, theta: Any, o: Any, e: None) -> None:
        """Return None: the expert has no memory."""


def line(num_rounds: int = 4) -> ud.InteractionProcess:
    """Return a process in which Theta, actions and observations are normal, so that posteriors have a closed form."""
    return ud.InteractionProcess(ud.Normal(0.0, PRIOR_SCALE), None, Error(), Aim(), num_rounds, name="line")


@eqx.filter_jit
def after(agent: Any, history: ud.Episodes) -> Any:
    """Return the memory of an agent after one history."""

    def round(m: Any, x: Any) -> tuple[Any, None]:
        a, intervened, o = x
        return agent.g_O(o, agent.g_A(a, m, intervened=intervened)), None

    m = agent.init(num_rounds=history.num_rounds)
    return jax.lax.scan(round, m, (history.actions, history.intervened, history.observations))[0]


@eqx.filter_jit
def draws(agent: Any, m: Any, key: Key[Array, ""], num_draws: int) -> PyTree:
    """Sample actions of an agent from one memory."""
    return jax.vmap(lambda k: agent.act(m, key=k)[0])(jax.random.split(key, num_draws))


def gaussian(actions: np.ndarray, outcomes: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of Theta on the line; only actions in `seen` are evidence."""
    precision = 1 / PRIOR_SCALE**2 + len(outcomes) / ERROR_SCALE**2 + seen.sum() / AIM_SCALE**2
    mean = ((actions + outcomes).sum() / ERROR_SCALE**2 + actions[seen].sum() / AIM_SCALE**2) / precision
    return mean, precision**-0.5


def block(settings: Settings) -> Block:
    """Compare Thompson sampling with the posterior predictive, for a finite and for a continuous Theta."""
    key_bandit, key_particles, key_line = jax.random.split(jax.random.key(settings.seed), 3)
    bandit, size = ud.tasks.bandit(num_rounds=2), max(settings.num_episodes, 1000)
    history = ud.Episodes.of(bandit, actions=[1], observations=[1])
    thompson = ud.ThompsonAgent(bandit)
    m = after(thompson, history)
    # Sample theta from the belief, then the expert's action given theta; summed over theta.
    model, past = bandit.causal_model(), {"do": {"A_1": 1}, "see": {"O_1": 1}}
    belief = model.query("Theta", **past)
    two_steps = sum(p * model.query("A_2", see={"Theta": k}) for k, p in enumerate(belief))
    predictive = np.asarray(model.query("A_2", **past))
    actions = np.asarray(draws(thompson, m, key_bandit, size))

    # As the words of Remark 12: x_1 and x_3 are the expert's, x_2 is the agent's own.
    particles = line().particles(size, key=key_particles)
    agent = ud.ThompsonAgent(particles)
    a, o = np.array([0.4, 1.9, 0.1]), np.array([0.3, -1.2, 0.6])
    rows = Rows("remark-5", "Remark 5, p. 6", {"task": "bandit", "history": "arm 2 pulled once, paid"})
    line_ = {
        "task": "Theta ~ N(0, 1), A ~ N(Theta, 1/2), O ~ N(Theta - A, 1)",
        "history": f"A {a.tolist()}, O {o.tolist()}",
        "particles": size,
        "seed": settings.seed,
    }
    items = []
    for equation, seen in (("equation-4", [True, True, True]), ("equation-6", [True, False, True])):
        exact_mean, exact_sd = gaussian(a, o, np.array(seen))
        episode = ud.Episodes.of(particles, actions=a, observations=o, intervened=~np.array(seen))
        m = after(agent, episode)
        p, theta = np.exp(np.asarray(m.belief.log_posterior, float)), np.asarray(particles.thetas, float)
        centre = float(p @ theta)
        sd = float(np.sqrt(p @ (theta - centre) ** 2))
        square = (theta - centre) ** 2
        errors = [float(np.sqrt(p**2 @ square)), float(np.sqrt(p**2 @ (square - sd**2) ** 2)) / (2 * sd)]
        name = f"continuous/{equation}"
        criteria = (
            (
                "mean-of-Theta",
                "the mean of the posterior in closed form",
                Measured(centre, errors[0]),
                sampled(exact_mean),
            ),
            ("deviation-of-Theta", "its standard deviation", Measured(sd, errors[1]), sampled(exact_sd)),
        )
        items += [rows.example(f"{name}/{x}", claim, value, test, **line_) for x, claim, value, test in criteria]
        x = np.asarray(draws(agent, m, key_line, max(size // 10, 100)), float)
        variance = exact_sd**2 + AIM_SCALE**2
        items += [
            rows.example(
                f"{name}/mean-action",
                "the mean of the posterior predictive in closed form",
                mean(x),
                sampled(exact_mean, error=errors[0]),
                **{**line_, "actions": len(x)},
            ),
            rows.example(
                f"{name}/variance-of-actions",
                "its variance",
                # The standard deviation of the square of a normal variable.
                mean((x - x.mean()) ** 2, spread=2**0.5 * variance),
                sampled(variance, error=2 * exact_sd * errors[1]),
                **{**line_, "actions": len(x)},
            ),
        ]
    return Block(
        "remark-5",
        "Remark 5: Thompson sampling",
        [
            "On the bandit, after arm 2 was pulled once and paid: the distribution of an action sampled in two steps, "
            "theta from the belief and then the action from the expert's policy, is compared with the posterior "
            f"predictive, exactly and as frequencies of {size:,} actions of `ThompsonAgent`.",
            "For a continuous Theta the sum is an integral. On a line, theta is a position, the expert aims at it, and "
            "the outcome is a noisy measurement of the error. All distributions are normal, so that closed forms "
            f"exist. `process.particles` samples {size:,} thetas from the prior, and the same agents use these "
            "particles. The second of three actions is the agent's own. Conditioning on it (equation 4 of Remark 12) "
            "shifts the belief; intervening (equation 6) does not. Values agree within four standard errors.",
        ],
        [
            rows.paper(
                "distribution-of-A_2-drawn-in-two-steps",
                "P(a) = sum_theta P(a | theta) P(theta): theta from the belief, then the action from the expert; exact",
                two_steps,
                near(predictive),
            ),
            *(
                rows.paper(
                    f"frequency-of-arm-{arm + 1}",
                    '"this is Thompson Sampling": its frequency among actions of the Thompson sampler',
                    mean(actions == arm),
                    sampled(fraction),
                    actions=size,
                    seed=settings.seed,
                )
                for arm, fraction in ((0, "6/35"), (1, "11/35"))
            ),
            *items,
        ],
    )
