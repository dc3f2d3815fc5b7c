"""One of an agent's own episodes to look at, beside what both exact agents make of it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from undelude._agents.base import AbstractAgent, predict, scan
from undelude._agents.exact import ExactAgent
from undelude._certificate.per_episode import MARKS, either, implied, own_belief, with_one_more_round
from undelude._distributions import Symbols
from undelude._process.episodes import Episodes
from undelude._process.inference import expert_distributions, filter, reread
from undelude._process.process import InteractionProcess
from undelude._rollout.rollout import rollout
from undelude._tree import index


def example_episode(
    process: InteractionProcess, agent: AbstractAgent, *, key: Key[Array, ""], num_episodes: int = 256
) -> dict[str, Any]:
    """One episode to look at: of `num_episodes`, the one over which the two exact answers differ most.

    Returns:
        Plain data: `num_episodes`; `theta` (`[T + 1]` with a transition), `opening`, and `actions`, `observations` and
        `rewards`, `[T]`; `said`, the task's words for each observation, None where it fails at one; `policy`, the
        probabilities of the actions before each round and after the last, `[T + 1, A]`, of `"agent"`, `"exact_do"` and
        `"exact_see"`; and `belief`, `[T + 1, K]` of the same three, None where a policy implies none.

    Raises:
        TypeError: Theta is continuous, or actions are not symbols.
    """
    if not isinstance(process.action_spec, Symbols):
        raise TypeError(
            f"{process.name}: an episode is traced for actions that are symbols, not {process.action_spec}."
        )
    process.check_finite()
    episodes = rollout(process, agent, key=key, num_episodes=num_episodes)
    policies, beliefs = _trace(process, agent, episodes)
    gap = np.abs(np.asarray(policies["exact_do"]) - np.asarray(policies["exact_see"])).sum((-1, -2))
    i = int(gap.argmax())

    def plain(tree: Any) -> Any:
        return jax.tree.map(lambda x: np.asarray(x[i]).tolist(), tree)

    belief = {name: None if np.isnan(np.asarray(b[i])).any() else plain(b) for name, b in beliefs.items()}
    return {
        "num_episodes": num_episodes,
        "theta": plain(episodes.theta),
        "opening": plain(episodes.opening),
        "actions": plain(episodes.actions),
        "observations": plain(episodes.observations),
        "said": _said(process, jax.tree.map(lambda x: np.asarray(x[i]), episodes.observations)),
        "rewards": plain(episodes.reward),
        "policy": plain(policies),
        "belief": {"agent": None} | belief,
    }


def _said(process: InteractionProcess, observations: Any) -> list[str] | None:
    """A user's method, after all the work of training: what goes wrong in it stops nothing."""
    T = len(jax.tree.leaves(observations)[0])
    try:
        return [f"{process.task.say(index(observations, t))!s:.99}" for t in range(T)]
    except Exception:
        return None


@eqx.filter_jit
def _trace(process: InteractionProcess, agent: AbstractAgent, episodes: Episodes) -> tuple[dict, dict]:
    def one(episode: Episodes) -> tuple[dict, dict]:
        policies: dict[str, Any] = {}
        beliefs: dict[str, Array] = {}
        whole = with_one_more_round(episode)
        exact = ExactAgent(process)
        for mark in MARKS:
            policies[f"exact_{mark}"] = scan(exact, reread(whole, mark))[0]
            beliefs[f"exact_{mark}"] = jnp.exp(filter(process, reread(episode, mark)).log_posterior)
        policies["agent"], _ = predict(agent, whole)
        distributions = jax.vmap(lambda belief: expert_distributions(process, belief))(filter(process, episode))
        belief = either(own_belief(agent, process, episode), jax.vmap(implied)(distributions, policies["agent"]))
        if belief is not None:
            beliefs["agent"] = belief
        return {name: jnp.exp(distribution.log_probs) for name, distribution in policies.items()}, beliefs

    return jax.vmap(one)(episodes)
