"""The example episode of a certificate in a world that runs in Python, if its exact answers are known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._certificate.per_episode import MARKS, implied_belief
from undelude._certificate.rounds import fill_missing
from undelude._compiled import compiled_for
from undelude._distributions import AbstractDistribution, Parts, Symbols, as_categorical, mixture, spec_of
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, Evidence
from undelude._rollout.host import play
from undelude._tree import index

# Episodes that are played for the example: fewer than in a process, because a simulator may be slow.
NUM_EPISODES = 64


def example_in_world(
    world: AbstractHostWorld,
    agent: AbstractAgent | HostAgent,
    *,
    key: Key[Array, ""],
    num_episodes: int = NUM_EPISODES,
    num_rounds: int | None = None,
) -> dict[str, Any] | str:
    """Return the episode in which the two exact agents differ most, as `example_episode` does, or why there is none."""
    if why := world.no_exact_agent:
        return f"the exact answers that it would show are not known: {why}"
    episodes, P_A, _ = play(world, agent, key=key, num_episodes=num_episodes, num_rounds=num_rounds)
    evidence = world.evidence(episodes)
    if isinstance(evidence, str):
        return f"the exact answers that it would show are not known: {evidence}"
    mask = np.asarray(episodes.mask)
    policies, beliefs = _read(fill_missing(episodes)[0], evidence, P_A)
    exists = np.concatenate([np.ones((num_episodes, 1), bool), mask], axis=1)
    compared = policies or beliefs
    differences = np.abs(np.asarray(compared["exact_do"]) - np.asarray(compared["exact_see"]))
    chosen = int(np.where(exists[..., None], differences, 0.0).sum((-1, -2)).argmax())
    T = int(mask[chosen].sum())
    observations = jax.tree.map(lambda x: np.asarray(x)[chosen], episodes.observations)
    said = [world.say(index(observations, t))[:99] for t in range(T)]

    def plain(x: Any, length: int) -> Any:
        return np.asarray(x[chosen])[:length].tolist()

    belief = {name: plain(x, T + 1) for name, x in beliefs.items()}
    if isinstance(world.action_spec, Symbols):
        actions = episodes.actions
    else:
        leaves = [np.asarray(x, float) for x in jax.tree.leaves(episodes.actions)]
        actions = np.concatenate([x.reshape(*x.shape[:2], -1) for x in leaves], axis=-1)
    return {
        "num_episodes": num_episodes,
        "theta": int(np.asarray(episodes.theta)[chosen]),
        "opening": None,
        "actions": plain(actions, T),
        "observations": _symbols(world, observations, T),
        "said": said if any(said) else None,
        "said_actions": None,
        "said_thetas": [f"context {x!s:.80}" for x in getattr(world, "contexts", [])] or None,
        "rewards": plain(episodes.reward, T),
        "policy": {name: plain(x, T + 1) for name, x in policies.items()} if "agent" in policies else None,
        "belief": {"agent": None} | {name: None if np.isnan(x).any() else x for name, x in belief.items()},
    }


def _symbols(world: AbstractHostWorld, observations: Any, num_rounds: int) -> list[int] | None:
    """Return the one symbol of each observation that is predicted, such as the cue; None if there is not one alone."""
    spec = world.observation_spec
    parts: dict[str, Any] = (spec.named or {}) if isinstance(spec, Parts) else {"": spec}
    names = [name for name, part in parts.items() if isinstance(part, Symbols)]
    if len(names) != 1:
        return None
    x = observations[names[0]] if isinstance(observations, dict) else observations
    return np.asarray(x)[:num_rounds].tolist()


@compiled_for(runs=1)
def _read(
    episodes: Episodes, evidence: Evidence, P_A: AbstractDistribution | None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return policies, none if actions are not symbols, and beliefs, `[B, T + 1, ...]`."""

    def one(x: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        episode, known, policy = x
        policies, beliefs = {}, {}
        for mark in MARKS:
            log_posterior = known.log_posterior(episode, mark == "do")
            beliefs[f"exact_{mark}"] = jnp.exp(log_posterior)
            policies[f"exact_{mark}"] = jax.vmap(mixture)(log_posterior, known.experts)
        if policy is not None:
            policies["agent"] = policy
            implied = jax.vmap(implied_belief)(known.experts, policy)
            if implied is not None:
                beliefs["agent"] = implied
        if not isinstance(spec_of(index(policies["exact_do"], 0)), Symbols):
            return {}, beliefs
        return {name: as_categorical(x).probs for name, x in policies.items()}, beliefs

    return jax.vmap(one)((episodes, evidence, P_A))
