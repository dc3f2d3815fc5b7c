# pyright: strict
"""A user's program, which `mypy --strict` and pyright in strict mode must accept. `make lint` runs both on it.

An ignore stands where JAX's own types are partially unknown.
"""

import jax
import jax.numpy as jnp
import numpy as np

import undelude as ud


class Corridor(ud.AbstractTask[jax.Array]):
    """Warm at the hidden cell three times in four, cold elsewhere. W is the place."""

    theta_free_memory = True

    def init(self, theta: jax.Array) -> jax.Array:
        return jnp.array(2)  # pyright: ignore[reportUnknownMemberType]

    def g_A(self, theta: jax.Array, a: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.clip(w + a - 1, 0, 4)

    def Q_O(self, theta: jax.Array, w: jax.Array) -> ud.Categorical:
        warm = jnp.where(w == theta, 0.75, 0.25)
        return ud.Categorical(probs=jnp.stack([1 - warm, warm]))

    def g_O(self, theta: jax.Array, o: jax.Array, w: jax.Array) -> jax.Array:
        return w

    def reward(self, theta: jax.Array, w: jax.Array, a: jax.Array, o: jax.Array) -> jax.Array:
        return jnp.where(w == theta, 1.0, 0.0)


class Guide(ud.AbstractExpert[jax.Array]):
    """Walks to the hidden cell in four steps of five. E is the place."""

    theta_free_memory = True

    def init(self, theta: jax.Array) -> jax.Array:
        return jnp.array(2)  # pyright: ignore[reportUnknownMemberType]

    def Q_A(self, theta: jax.Array, e: jax.Array) -> ud.Categorical:
        right = np.arange(3) - 1 == jnp.sign(theta - e)
        return ud.Categorical(probs=jnp.where(right, 0.8, 0.1))

    def g_A(self, theta: jax.Array, a: jax.Array, e: jax.Array) -> jax.Array:
        return jnp.clip(e + a - 1, 0, 4)

    def g_O(self, theta: jax.Array, o: jax.Array, e: jax.Array) -> jax.Array:
        return e


def reset(num_episodes: int) -> int:
    return num_episodes


def predict(m: int, a: np.ndarray | None, o: np.ndarray | None) -> tuple[np.ndarray, int]:
    return np.full((m, 3), 1 / 3), m


def main() -> None:
    prior, thetas = jnp.full(5, 0.2), jnp.arange(5)  # pyright: ignore[reportUnknownMemberType]
    process = ud.InteractionProcess(prior, thetas, task=Corridor(), expert=Guide(), num_rounds=12, name="corridor")
    agent = ud.LSTMAgent(process, hidden_size=8, key=jax.random.key(0))
    run = ud.teach(process, agent, ud.Counterfactual(), key=jax.random.key(1), steps=10, batch_size=4)
    for teaching in (ud.Factual(observation_weight=0.5), ud.Mixed(0.5), ud.Cloning(), ud.Interventional()):
        run = ud.teach(process, agent, teaching, key=jax.random.key(1), steps=10, on_log=lambda state, row: None)
    report = ud.certify(process, run.agent, key=jax.random.key(2), num_episodes=100)
    nats: float | None = report.action_kl_do
    print(nats, report.reward)
    if report.verdict == "deluded":
        print(report.save("deluded").name, report.html("deluded.html").name)
    gap: ud.Certificate = ud.delusion_gap(process, key=jax.random.key(3))
    print(gap.deluded_fraction)

    episodes = ud.rollout(process, ud.ExactAgent(process, own_actions="see"), key=jax.random.key(4), num_episodes=4)
    belief = jnp.exp(ud.posterior(process, episodes, own_actions="do"))
    print(belief.shape, episodes.reward.mean())
    typed = ud.Episodes.of(process, actions=[0, 1], observations=[1, 0])
    print(jnp.exp(ud.posterior(process, typed)))

    host = ud.HostAgent(reset, predict)
    print(ud.certify(process, host, key=jax.random.key(5), num_episodes=100, baselines=False).action_kl_do)

    frog = ud.CausalModel(
        [
            ud.Variable("Theta", (1, 2), table=[0.5, 0.5]),
            ud.Variable("A", (1, 2), parents=("Theta",), table=[[1, 0], [0, 1]]),
        ]
    )
    print(frog.query("Theta", do={"A": 1}), frog.identify("Theta", do="A"))
    ud.save(run.agent, "agent")
    again = ud.load("agent")
    print(again)
    ud.export(process, run.agent, "exported")


if __name__ == "__main__":
    main()
