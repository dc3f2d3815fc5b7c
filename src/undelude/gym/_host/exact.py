"""Exact answers in a simulator whose context shows in a cue alone: Bayes' rule over the cues (Remark 10)."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from undelude._agents.host import HostAgent
from undelude._compiled import compiled
from undelude._distributions import AbstractDistribution, Categorical, mixture
from undelude._process.episodes import Episodes
from undelude._process.host_world import Evidence
from undelude._types import Mark
from undelude.gym._host.hidden import NO_DISTRIBUTION, advice_in_round, check_labels, masks_in, rebuild
from undelude.gym._host.hiding import WHOLE
from undelude.gym._host.parts import CUE

if TYPE_CHECKING:
    from undelude.gym._host.simulated import AbstractSimulated


def why_inexact(world: "AbstractSimulated") -> str | None:
    """Return why a world has no exact answers; None if it has."""
    if world.expert_is_person:
        return "the expert is a person, who is not asked about other contexts."
    if world.cue is None:
        return "no cue= is declared, so that what observations say about theta is not known."
    if world.reward_observed:
        return "the agent sees the rewards, and what they say about theta is not known."
    if world.make_expert is not None:
        return "the expert lives beside its environment, and cannot be asked under another context."
    if list(world.visible.leaves) != [WHOLE] or type(world.observation_space).__name__ != "Box":
        return (
            "exact answers are for observations that are one array: wrap the environment, such as by "
            "gymnasium.wrappers.FlattenObservation, and hide indices."
        )
    return world.leak or world.no_advice


def evidence(world: "AbstractSimulated", episodes: Episodes) -> Evidence | str:
    """Return what each context says about stored episodes, or why it is not known."""
    if why := why_inexact(world):
        return why
    first, rest = (jax.tree.map(np.asarray, x) for x in (episodes.opening, episodes.observations))
    seen = np.concatenate([first[WHOLE][:, None], rest[WHOLE]], 1)
    whole = [rebuild(world, seen[:, t]) for t in range(seen.shape[1])]
    allowed = [masks_in(jax.tree.map(lambda x, t=t: x[:, t - 1], rest) if t else first) for t in range(len(whole))]
    experts = [_experts(world, x, masks, t) for t, (x, masks) in enumerate(zip(whole, allowed, strict=True))]
    if any(x is None for x in experts):
        return NO_DISTRIBUTION
    log_likelihood = np.zeros((*seen.shape[:2], world.num_thetas))
    with np.errstate(divide="ignore"):
        log_likelihood[:, 0] = np.log(world.prior)
    cues = []
    for t in range(1, len(whole)):
        log_probs = _log_probs_of_cues(world, whole[t - 1], whole[t], rest[CUE][:, t - 1])
        log_likelihood[:, t] = _of(log_probs, rest[CUE][:, t - 1])
        cues.append(log_probs)
    missing = ~np.asarray(episodes.mask)
    log_likelihood[:, 1:][missing] = 0
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs, 1), *experts)
    check_labels(world, episodes, stacked)
    symbols = {CUE: Categorical(log_probs=jnp.asarray(np.stack(cues, 1), float))}
    return Evidence(stacked, jnp.asarray(log_likelihood, float), symbols)


def exact_agent(world: "AbstractSimulated", own_actions: Mark) -> HostAgent:
    """Return the exact agent. It is told what other agents are told, and no context.

    Raises:
        TypeError: there is none; the message says why.
    """
    if why := why_inexact(world):
        raise TypeError(f"{world.name} has no exact agents: {why}")
    log_prior = np.log(world.prior)

    def reset(num_episodes: int) -> Any:
        return np.tile(log_prior, (num_episodes, 1)), None, None, 0

    def predict(m: Any, a: Any, o: Any) -> Any:
        log_posterior, before, experts, t = m
        whole = rebuild(world, o[WHOLE])
        if before is not None:
            cues = np.asarray(o[CUE])
            log_posterior = log_posterior + _of(_log_probs_of_cues(world, before, whole, cues), cues)
            if own_actions == "see":
                log_posterior = log_posterior + np.asarray(_log_probs(experts, jnp.asarray(a)))
            log_posterior = np.asarray(jax.nn.log_softmax(log_posterior, axis=-1))
        experts = _experts(world, whole, masks_in(o), t)
        if experts is None:
            raise TypeError(f"{world.name} has no exact agents: {NO_DISTRIBUTION}")
        return _mixtures(jnp.asarray(log_posterior, float), experts), (log_posterior, whole, experts, t + 1)

    return HostAgent(reset, predict, own_actions=own_actions)


def _experts(
    world: "AbstractSimulated", whole: list[np.ndarray], masks: np.ndarray | None, t: int
) -> AbstractDistribution | None:
    """Return the expert's distributions under every context, arrays `[B, K, ...]`; None if it returns actions."""
    B, K = len(whole), world.num_thetas
    masks = None if masks is None else np.tile(masks, (K, 1))
    distributions = advice_in_round(world, whole * K, np.repeat(np.arange(K), B), masks, t)
    if distributions is None:
        return None
    return jax.tree.map(lambda x: np.swapaxes(np.reshape(x, (K, B, *x.shape[1:])), 0, 1), distributions)


def _log_probs_of_cues(
    world: "AbstractSimulated", before: list[np.ndarray], after: list[np.ndarray], cues: np.ndarray
) -> Float[np.ndarray, "B K n1"]:
    """Return `log P(cue | theta)` of every cue of one round; where none was given, "none" is certain."""
    assert world.cue is not None
    n = world.cue.num_symbols
    found = np.zeros((len(before), world.num_thetas, n + 1))
    found[cues == n, :, n] = 1
    rows = np.flatnonzero(cues < n)
    if len(rows):
        pairs = [before[i] for i in rows], [after[i] for i in rows]
        for k in range(world.num_thetas):
            found[rows, k, :n] = world.tell(*pairs, np.full(len(rows), k))
    with np.errstate(divide="ignore"):
        return np.log(found)


def _of(log_probs: Float[np.ndarray, "B K n1"], cues: np.ndarray) -> Float[np.ndarray, "B K"]:
    """Return the log-probability of the cues that were given."""
    return np.take_along_axis(log_probs, cues[:, None, None].astype(int), axis=-1)[..., 0]


@compiled
def _log_probs(experts: AbstractDistribution, a: Array) -> Array:
    return jax.vmap(lambda Q, a: jax.vmap(lambda Q: Q.log_prob(a))(Q))(experts, a)


@compiled
def _mixtures(log_weights: Array, experts: AbstractDistribution) -> AbstractDistribution:
    return jax.vmap(mixture)(jax.nn.log_softmax(log_weights, axis=-1), experts)
