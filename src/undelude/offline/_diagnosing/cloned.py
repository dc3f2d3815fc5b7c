"""What cloning the logs would do: the limit of behaviour cloning, the deluded agent, in the fitted model."""

import warnings
from dataclasses import dataclass

import jax
from jaxtyping import Array, Key

from undelude._agents.exact import ExactAgent
from undelude._certificate.certificate import certify
from undelude._checks import check_count
from undelude.offline._fitting.result import Fit

Estimate = tuple[float | None, float | None]


@dataclass(frozen=True)
class Cloned:
    """A clone of the logs, with data without end, acting in the fitted model; each number with its standard error.

    Attributes:
        kl: nats per action from the interventional policy to the clone's, over the clone's own episodes.
        reward: per round of the clone; None without a reward.
        reward_do: likewise of the interventional agent.
        reward_expert: likewise of the demonstrators, who know theta.
    """

    kl: Estimate
    reward: Estimate | None
    reward_do: Estimate | None
    reward_expert: Estimate | None


def cloned(fit: Fit, *, key: Key[Array, ""] | None = None, num_episodes: int = 1024) -> Cloned:
    """Measure the limit of behaviour cloning, `P(A_t+1 | a_1:t, o_1:t)`, in the fitted model.

    A clone reads its own actions as its demonstrators': as evidence of what these knew. All numbers are those of the
    model; they say what cloning would do in the world only if the model is right.

    Args:
        fit: the fitted model.
        key: of the episodes; always the same by default.
        num_episodes: that are played.
    """
    num_episodes = check_count("num_episodes", num_episodes)
    key = jax.random.key(0) if key is None else key
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # That the agent is deluded is what is measured.
        found = certify(fit.process, ExactAgent(fit.process, "see"), key=key, num_episodes=num_episodes)
    names = ("action_kl_do", "reward", "reward_exact_do", "reward_expert")
    kl, *rewards = ((found.quantities[name].value, found.quantities[name].standard_error) for name in names)
    return Cloned(kl, *(None if fit.layout.reward is None else x for x in rewards))
