"""One of an agent's own episodes as an example, with the agent's and both exact agents' policies and beliefs."""

from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from undelude._agents.base import AbstractAgent, predict, predict_stepwise
from undelude._agents.exact import ExactAgent
from undelude._certificate.per_episode import (
    MARKS,
    first_known,
    implied_belief,
    own_belief,
)
from undelude._certificate.rounds import fill_missing, with_one_more_round
from undelude._compiled import compiled
from undelude._distributions import AbstractDistribution, Symbols, as_categorical
from undelude._process.episodes import Episodes
from undelude._process.inference import expert_distributions, filter, reread
from undelude._process.process import InteractionProcess
from undelude._rollout.rollout import rollout
from undelude._tree import index

# For each reader ("agent", "exact_do", "exact_see"), a distribution before each round and after the last.
Readings = dict[str, Float[Array, "*B T1 N"]]


class EpisodeData(TypedDict):
    """One episode of T rounds as plain data for JSON.

    Attributes:
        num_episodes: the number of episodes from which it was chosen.
        theta: of the episode; with a transition `[T + 1]`, before each round and after the last.
        opening: `O_0`, or None.
        actions, observations, rewards: `[T]`.
        said: the task's words for each observation; None if the task's `say` fails.
        policy: `[T + 1, A]`, the probabilities of the actions before each round and after the last, of `"agent"`,
            `"exact_do"` and `"exact_see"`.
        belief: `[T + 1, K]` of the same three; None if a policy implies no belief.
    """

    num_episodes: int
    theta: PyTree
    opening: PyTree
    actions: PyTree
    observations: PyTree
    said: list[str] | None
    rewards: list[float]
    policy: dict[str, list[list[float]]]
    belief: dict[str, list[list[float]] | None]


def example_episode(
    process: InteractionProcess, agent: AbstractAgent, *, key: Key[Array, ""], num_episodes: int = 256
) -> EpisodeData:
    """Return the episode, out of `num_episodes`, in which the policies of the two exact agents differ most.

    Raises:
        TypeError: Theta is continuous, or actions are not symbols.
    """
    if not isinstance(process.action_spec, Symbols):
        raise TypeError(
            f"{process.name}: an example episode needs actions that are symbols, and these are {process.action_spec}."
        )
    process.check_finite()
    episodes = rollout(process, agent, key=key, num_episodes=num_episodes)
    policies, beliefs = _read(process, agent, fill_missing(episodes)[0])
    exists = np.concatenate([np.ones((num_episodes, 1), bool), episodes.mask], axis=1)
    differences = np.abs(np.asarray(policies["exact_do"]) - np.asarray(policies["exact_see"]))
    chosen = int(np.where(exists[..., None], differences, 0.0).sum((-1, -2)).argmax())
    T = int(exists[chosen].sum()) - 1

    def plain(tree: PyTree, length: int | None = None) -> PyTree:
        """Return the chosen episode's entries, the first `length` if they have an axis of rounds."""
        entries = jax.tree.map(lambda x: np.asarray(x[chosen]), tree)
        return jax.tree.map(lambda x: (x if length is None else x[:length]).tolist(), entries)

    belief = {name: plain(x, T + 1) for name, x in beliefs.items()}
    return {
        "num_episodes": num_episodes,
        "theta": plain(episodes.theta, None if process.transition is None else T + 1),
        "opening": plain(episodes.opening),
        "actions": plain(episodes.actions, T),
        "observations": plain(episodes.observations, T),
        "said": _say(process, jax.tree.map(lambda x: np.asarray(x[chosen, :T]), episodes.observations)),
        "rewards": plain(episodes.reward, T),
        "policy": plain(policies, T + 1),
        "belief": {"agent": None} | {name: None if np.isnan(x).any() else x for name, x in belief.items()},
    }


def _say(process: InteractionProcess, observations: PyTree[np.ndarray]) -> list[str] | None:
    """Return the task's words for each observation; None if `say` fails: its error must not lose a run."""
    T = len(jax.tree.leaves(observations)[0])
    try:
        return [f"{process.task.say(index(observations, t))!s:.99}" for t in range(T)]
    except Exception:
        return None


@compiled
def _read(process: InteractionProcess, agent: AbstractAgent, episodes: Episodes) -> tuple[Readings, Readings]:
    """Return policies and beliefs; no belief of the agent if its policy can imply none."""

    def one(episode: Episodes) -> tuple[Readings, Readings]:
        policies: dict[str, AbstractDistribution] = {}
        beliefs: Readings = {}
        longer = with_one_more_round(episode)
        exact = ExactAgent(process)
        for mark in MARKS:
            policies[f"exact_{mark}"], _ = predict_stepwise(exact, reread(longer, mark))
            beliefs[f"exact_{mark}"] = jnp.exp(filter(process, reread(episode, mark)).log_posterior)
        policies["agent"], _ = predict(agent, longer)
        distributions = jax.vmap(lambda belief: expert_distributions(process, belief))(filter(process, episode))
        implied = jax.vmap(implied_belief)(distributions, policies["agent"])
        belief = first_known(own_belief(agent, process, episode), implied)
        if belief is not None:
            beliefs["agent"] = belief
        return {name: _probabilities(policy) for name, policy in policies.items()}, beliefs

    return jax.vmap(one)(episodes)


def _probabilities(policy: AbstractDistribution) -> Float[Array, "T1 A"]:
    return as_categorical(policy).probs
