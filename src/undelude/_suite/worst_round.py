"""The round in which an agent's policy is farthest from the interventional answer."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._agents.base import AbstractAgent, predict, predict_stepwise
from undelude._agents.exact import ExactAgent
from undelude._agents.host import HostAgent
from undelude._certificate.quantity import THETA_IS_CONTINUOUS, Quantity
from undelude._certificate.rounds import Mask, fill_missing
from undelude._compiled import compiled_for
from undelude._distributions import AbstractDistribution, divergences, mixture
from undelude._pieces import episode_ids, in_pieces
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, Evidence
from undelude._process.inference import reread
from undelude._process.process import InteractionProcess
from undelude._rollout.host import play
from undelude._rollout.rollout import run, run_once

# Most episodes: the worst round is a mean over a part of those of a certificate.
MAX_EPISODES = 1024
# The least share of episodes that must have a round for it to count.
MIN_SHARE = 0.1
# Episodes scored at a time, a limit on memory.
AT_A_TIME = 32


def measure_worst_round(
    process: InteractionProcess | AbstractHostWorld,
    agent: AbstractAgent | HostAgent,
    *,
    key: Key[Array, ""],
    num_episodes: int,
) -> tuple[Quantity, int | None]:
    """Return the greatest mean distance over rounds, and its round, counted from 1.

        max_t E KL(Q(A_t | do(a), o) || P(A_t | m))    nats

    The greatest of many noisy means is too large on average. So one half of the episodes chooses the round, and the
    other measures it.

    Args:
        process: the process or world.
        agent: the agent, which plays again: episode i has the same key as in the certificate.
        key: that of the certificate.
        num_episodes: B; at most 1,024 are played.
    """
    B = min(num_episodes, MAX_EPISODES)
    if not isinstance(process, AbstractHostWorld) and not process.finite:
        return Quantity(why_none=THETA_IS_CONTINUOUS), None
    P_A: AbstractDistribution | None = None
    if isinstance(agent, HostAgent):
        episodes, P_A, _ = play(process, agent, key=key, num_episodes=B)
        if P_A is None:
            return Quantity(why_none="the HostAgent does not predict actions."), None
    else:
        episodes = run(run_once, process, agent, key=key, num_episodes=B)
    evidence = process.evidence(episodes) if isinstance(process, AbstractHostWorld) else None
    if isinstance(evidence, str):
        return Quantity(why_none=evidence), None
    episodes, mask = fill_missing(episodes)
    tables = None if isinstance(process, AbstractHostWorld) else process
    predictor = agent if isinstance(agent, AbstractAgent) else None
    batch = episodes, episode_ids(B), P_A, evidence
    kl = in_pieces(lambda piece: _distances(tables, predictor, key, *piece), batch)
    return worst_of(np.asarray(kl, np.float64), mask)


def worst_of(kl: Float[np.ndarray, "B T"], mask: Mask) -> tuple[Quantity, int | None]:
    """Return the mean of the worst round, chosen on the even episodes and measured on the odd ones, and its number."""
    exists = np.ones(kl.shape, bool) if mask is None else np.asarray(mask)
    chooser, judge = (slice(0, None, 2), slice(1, None, 2)) if len(kl) > 1 else (slice(None), slice(None))
    counts = exists[chooser].sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(exists[chooser], kl[chooser], 0.0).sum(0) / counts
    enough = (counts >= max(1, MIN_SHARE * len(exists[chooser]))) & exists[judge].any(0)
    worst = int(np.where(enough, means, -np.inf).argmax())
    return Quantity.over_episodes(kl[judge, worst][exists[judge, worst]]), worst + 1


@compiled_for(runs=50)
def _distances(
    process: InteractionProcess | None,
    agent: AbstractAgent | None,
    key: Key[Array, ""],
    episodes: Episodes,
    ids: Int[Array, " B"],
    policies: AbstractDistribution | None,
    evidence: Evidence | None,
) -> Float[Array, "B T"]:
    """Return the distance of the agent's policy from the interventional answer in each round, nats."""

    def one(x: tuple) -> Array:
        episode, i, P_A, known = x
        T = episode.num_rounds
        if P_A is None:
            assert agent is not None
            P_A = predict(agent, episode)[0]
        P_A = jax.tree.map(lambda x: x[:T], P_A)
        if process is not None:
            answer = predict_stepwise(ExactAgent(process), reread(episode, "do"))[0]
        else:
            answer = _answer(episode, known)
        keys = jax.random.split(jax.random.fold_in(key, i), T)
        return jax.vmap(lambda p, q, k: divergences(p, q, key=k)[0])(answer, P_A, keys)

    return jax.lax.map(one, (episodes, ids, policies, evidence), batch_size=min(len(ids), AT_A_TIME))


def _answer(episode: Episodes, evidence: Evidence) -> AbstractDistribution:
    """Return the interventional answers of a world that knows the evidence of its observations."""
    T = episode.num_rounds
    do: Bool[Array, " T"] = jnp.ones(T, bool)
    log_posterior = evidence.log_posterior(episode, do)
    return jax.vmap(mixture)(log_posterior[:T], jax.tree.map(lambda x: x[:T], evidence.experts))
