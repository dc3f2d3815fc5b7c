"""The multi-armed bandit with a noisy expert who knows the best arm (Remark 11)."""

import numpy as np

from undelude._checks import check_between, check_count
from undelude._process.process import InteractionProcess
from undelude.tasks.tables import from_tables


def bandit(
    num_arms: int = 5,
    expert_accuracy: float = 0.6,
    reward: tuple[float, float] = (0.75, 0.25),
    num_rounds: int = 20,
    *,
    name: str = "bandit",
) -> InteractionProcess:
    """Return a bandit. Theta is the best arm: it pays more often than the rest, and the expert pulls it more often.

    `Q(theta) = 1/K`, `Q(a = theta | theta) = expert_accuracy`, `Q(o = 1 | theta, a) = reward[0]` if `a = theta` else
    `reward[1]`. The defaults are Remark 11's.

    Args:
        num_arms: K.
        expert_accuracy: the expert's probability of the best arm.
        reward: the probabilities that the best arm and that another arm pay 1.
        num_rounds: T.
        name: of the process, for messages.

    Raises:
        ValueError: fewer than two arms, or a number that is not a probability.
    """
    num_arms = check_count(f"{name}: num_arms", num_arms)
    if num_arms < 2:
        raise ValueError(f"{name}: num_arms must be at least 2, not {num_arms}.")
    if np.shape(reward) != (2,):
        raise ValueError(f"{name}: reward must be two probabilities, for the best arm and for another, not {reward}.")
    expert_accuracy = check_between(f"{name}: expert_accuracy", expert_accuracy, 0, 1)
    reward = check_between(f"{name}: reward[0]", reward[0], 0, 1), check_between(f"{name}: reward[1]", reward[1], 0, 1)
    best = np.eye(num_arms, dtype=bool)
    expert = np.where(best, expert_accuracy, (1 - expert_accuracy) / (num_arms - 1))
    pays = np.where(best, *reward)
    task = np.stack([1 - pays, pays], axis=-1)
    prior = np.full(num_arms, 1 / num_arms)
    return from_tables(prior=prior, expert=expert, task=task, num_rounds=num_rounds, name=name)
