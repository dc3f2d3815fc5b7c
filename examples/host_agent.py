"""Certify a policy that is not written in JAX: in plain NumPy, it prefers the arm that has paid best so far.

python examples/host_agent.py    about 15 seconds on two cores

`undelude certify examples.host_agent:counting --task bandit` writes its page.
"""

import jax
import numpy as np

import undelude as ud


def reset(num_episodes: int) -> np.ndarray:
    """Return the memory of B new episodes: for each arm, how often it was pulled and how often it paid."""
    return np.zeros((num_episodes, 5, 2))


def predict(m: np.ndarray, a: np.ndarray | None, o: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Count the last round, then prefer arms that paid; a and o are None before the first round."""
    if a is not None:
        m[np.arange(len(m)), a] += np.stack([np.ones_like(o), o], -1)
    pulls, paid = m[..., 0], m[..., 1]
    scores = np.exp(3 * (paid - 0.5 * pulls))
    return 0.1 + 0.5 * scores / scores.sum(-1, keepdims=True), m


counting = ud.HostAgent(reset, predict)


def main(num_episodes: int = 1000) -> ud.Certificate:
    """Certify the policy on the paper's bandit."""
    size = {"num_episodes": num_episodes, "baselines": False}
    report = ud.certify(ud.tasks.bandit(), counting, key=jax.random.key(0), **size)
    print(f"{report.action_kl_do:.3f} nats from Q(A | do(a), o), {report.action_kl_see:.3f} from Q(A | a, o)")
    print(f"reward {report.reward:.3f} a round; calibration gap {report.action_calibration_gap:.3f} nats")
    return report


if __name__ == "__main__":
    main()
