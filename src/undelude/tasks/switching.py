"""A bandit whose best arm changes: a `Theta_t` for each round (Section 3)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from undelude._checks import check_between
from undelude._distributions import Categorical
from undelude._process.process import InteractionProcess
from undelude.tasks.bandit import bandit


class Switch(eqx.Module):
    """`Q(Theta_t+1 | theta_t)`: with probability `hazard` another arm, uniformly."""

    num_arms: int = eqx.field(static=True)
    hazard: float = eqx.field(static=True)

    def __call__(self, theta: Int[Array, ""], w: Int[Array, ""]) -> Categorical:
        """Return the distribution of the next best arm; it does not depend on the arm pulled."""
        del w
        stays = jnp.arange(self.num_arms) == theta
        return Categorical(probs=jnp.where(stays, 1 - self.hazard, self.hazard / (self.num_arms - 1)))


def switching_bandit(
    num_arms: int = 5,
    hazard: float = 0.05,
    expert_accuracy: float = 0.6,
    reward: tuple[float, float] = (0.75, 0.25),
    num_rounds: int = 100,
) -> InteractionProcess:
    """Return Remark 11's bandit with a best arm that may change after each round; the expert knows the current one.

    `Q(Theta_t+1 | theta_t)` keeps the best arm with probability `1 - hazard`, and otherwise makes another arm the best.
    Why it matters: an agent must also give up beliefs, and a deluded agent is slower to notice a change.

    Args:
        num_arms: K.
        hazard: the probability that the best arm changes after a round.
        expert_accuracy: the expert's probability of the current best arm.
        reward: the probabilities that the best arm and that another arm pay 1.
        num_rounds: T.

    Raises:
        ValueError: a number is out of range.

    >>> switching_bandit(num_arms=3).causal_model(num_rounds=2)
    CausalModel(Theta_1, A_1 | Theta_1, O_1 | Theta_1 A_1, Theta_2 | Theta_1, A_2 | Theta_2, O_2 | Theta_2 A_2)
    """
    hazard = check_between("switching_bandit: hazard", hazard, 0, 1)
    still = bandit(num_arms, expert_accuracy, reward, num_rounds, name="switching_bandit")
    return InteractionProcess(
        still.prior,
        still.thetas,
        still.task,
        still.expert,
        num_rounds,
        transition=Switch(still.num_thetas, hazard),
        name=still.name,
    )
