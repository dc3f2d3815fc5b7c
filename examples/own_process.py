"""State a process of your own, measure what delusion costs in it, teach an LSTM to be sober, and certify it.

Something is hidden at one of eight places on a ring. Each round the searcher steps left, stays or steps right, and is
told whether that was right; the answer is wrong one time in five. The expert knows the place.
"""

import jax
import jax.numpy as jnp
import tyro

import undelude as ud

PLACES = 8


def way(theta, place):
    """Return the step, -1, 0 or 1, of the shorter way from place to theta."""
    return jnp.sign((theta - place + PLACES // 2) % PLACES - PLACES // 2)


class Search(ud.AbstractTask):
    """Nature, which says whether a step was right. W is the place and the step being taken."""

    theta_free_memory = True  # W does not depend on theta, so an exact agent keeps one copy of it

    def init(self, theta):
        return jnp.array(0), jnp.array(0)

    def g_A(self, theta, a, w):
        return w[0], a - 1

    def Q_O(self, theta, w):
        yes = jnp.where(w[1] == way(theta, w[0]), 0.8, 0.2)
        return ud.Categorical(probs=jnp.stack([1 - yes, yes]))

    def g_O(self, theta, o, w):
        return (w[0] + w[1]) % PLACES, jnp.array(0)

    def reward(self, theta, w, a, o):
        return jnp.where((w[0] + w[1]) % PLACES == theta, 1.0, 0.0)


class Guide(ud.AbstractExpert):
    """An expert who takes the right step nine times in ten. E is the place."""

    theta_free_memory = True

    def init(self, theta):
        return jnp.array(0)

    def Q_A(self, theta, e):
        return ud.Categorical(probs=jnp.where(jnp.arange(3) - 1 == way(theta, e), 0.9, 0.05))

    def g_A(self, theta, a, e):
        return (e + a - 1) % PLACES

    def g_O(self, theta, o, e):
        return e


def search(num_rounds: int = 40) -> ud.InteractionProcess:
    return ud.InteractionProcess(
        prior=jnp.full(PLACES, 1 / PLACES),
        thetas=jnp.arange(PLACES),
        task=Search(),
        expert=Guide(),
        num_rounds=num_rounds,
        name="search",
    )


def main(num_rounds: int = 40, steps: int = 1000, num_episodes: int = 2048) -> dict[str, ud.Certificate]:
    process = search(num_rounds)
    key_gap, key_init, key_teach, key_certify = jax.random.split(jax.random.key(0), 4)

    gap = ud.delusion_gap(process, key=key_gap, num_episodes=num_episodes)
    print("An exact agent that reads its own actions as evidence:")
    print(f"  {gap.action_kl_do:.3f} nats per action from Q(A | do(a), o)")
    print(f"  at the hidden place in {gap.reward:.0%} of rounds; the sober one in {gap.reward_exact_do:.0%}")

    agent = ud.LSTMAgent(process, key=key_init)
    run = ud.teach(process, agent, ud.Counterfactual(), key=key_teach, steps=steps)
    report = ud.certify(process, run.agent, key=key_certify, num_episodes=num_episodes)
    print(f"An LSTM, taught counterfactually for {run.seconds:.0f} s:")
    print(
        f"  {report.action_kl_do:.3f} nats per action from Q(A | do(a), o), {report.action_kl_see:.3f} from Q(A | a, o)"
    )
    print(f"  at the hidden place in {report.reward:.0%} of rounds")
    return {"deluded": gap, "taught": report}


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
