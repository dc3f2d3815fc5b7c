"""The quantities of a certificate in a world that runs in Python, by what it knows of its observations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._certificate.baselines import BASELINES, Baselines
from undelude._certificate.per_episode import (
    BETWEEN,
    BY_ROUND,
    CERTAIN,
    MARKS,
    MeasuredEpisodes,
    Predictions,
    between,
    check_sums,
    implied_belief,
    measure_losses,
    predict_to_the_end,
    summarise,
    take_by_round,
    why_no_belief,
)
from undelude._certificate.quantity import Quantity
from undelude._certificate.rounds import Mask, count_rounds, fill_missing, mean_over_rounds, reward_per_round
from undelude._certificate.verdict import note_on_answers
from undelude._compiled import compiled_for
from undelude._distributions import AbstractDistribution, divergences, mixture
from undelude._pieces import episode_ids, in_pieces
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, Evidence
from undelude._rollout.host import play
from undelude._tree import index
from undelude._types import Mark, OnProgress

# What evidence does not tell.
NO_OBSERVATIONS = "the exact prediction of the simulator's observations is not known."

# The party that acts for a baseline.
DOING = {
    "reward_expert": "the expert",
    "reward_exact_do": "the exact agent, own actions as do",
    "reward_exact_see": "the exact agent, own actions as see",
}


def measure_in_world(
    world: AbstractHostWorld,
    agent: AbstractAgent | HostAgent,
    episodes: Episodes,
    *,
    key: Key[Array, ""],
    predictions: Predictions | None,
) -> MeasuredEpisodes:
    """Measure the quantities that need only the agent's own episodes, as `per_episode.measure` does in a process.

    The exact answers about actions are known if `world.evidence` is.
    """
    evidence = world.evidence(episodes)
    episodes, mask = fill_missing(episodes)
    predictor = agent if isinstance(agent, AbstractAgent) else None
    known = None if isinstance(evidence, str) else evidence
    batch = episodes, mask, episode_ids(len(episodes.mask)), predictions, known
    found = in_pieces(lambda piece: _measure_piece(predictor, key, *piece), batch)
    check_sums(found, agent)
    kl_by_round, tv = take_by_round(found, mask), float(np.mean(found.pop(BETWEEN, 0.0)))
    kinds = ["action", "observation"]
    no_losses = {
        f"{kind}_{x}": f"the HostAgent does not predict {kind}s."
        for kind in kinds
        for x in ("log_loss", "calibration_gap")
    }
    distances = {f"{kind}_{x}_{mark}": kind for kind in kinds for x in ("kl", "tv") for mark in MARKS}
    why = NO_OBSERVATIONS if known is not None else str(evidence)
    reasons = no_losses | {name: NO_OBSERVATIONS if kind == "observation" else why for name, kind in distances.items()}
    reasons["deluded_fraction"] = why_no_belief(world) if known is not None else why
    quantities = {name: Quantity(why_none=reason) for name, reason in reasons.items()}
    quantities |= summarise(found, reasons)
    return MeasuredEpisodes(quantities, note_on_answers(quantities, tv), kl_by_round)


@compiled_for(runs=50)
def _measure_piece(
    agent: AbstractAgent | None,
    key: Key[Array, ""],
    episodes: Episodes,
    mask: Mask,
    ids: Int[Array, " B"],
    predictions: Predictions | None,
    evidence: Evidence | None,
) -> dict[str, Float[Array, "B ..."]]:
    def one(x: tuple) -> dict[str, Array]:
        episode, mask, i, predictions, known = x
        if predictions is None:
            assert agent is not None
            predictions = predict_to_the_end(agent, episode)
        key_losses, key_answer = jax.random.split(jax.random.fold_in(key, i))
        result = measure_losses(episode, predictions, mask=mask, key=key_losses)
        policies = predictions[0]
        if known is None or policies is None:
            return result
        return result | _compare(episode, policies, known, mask, key_answer)

    return jax.lax.map(one, (episodes, mask, ids, predictions, evidence), batch_size=min(len(ids), 32))


def _compare(
    episode: Episodes, policies: AbstractDistribution, evidence: Evidence, mask: Mask, key: Key[Array, ""]
) -> dict[str, Float[Array, "..."]]:
    """Return the distances of an agent's T + 1 policies in one episode to both exact answers; one also by round."""
    T, end = episode.num_rounds, count_rounds(episode, mask)
    P_A = jax.tree.map(lambda x: x[:T], policies)
    result, answers = {}, []
    for mark in MARKS:
        log_posterior = evidence.log_posterior(episode, mark == "do")
        answer = jax.vmap(mixture)(log_posterior[:T], jax.tree.map(lambda x: x[:T], evidence.experts))
        answers.append(answer)
        kl, tv = jax.vmap(lambda p, q, k: divergences(p, q, key=k))(answer, P_A, jax.random.split(key, T))
        result |= {f"action_kl_{mark}": mean_over_rounds(kl, mask), f"action_tv_{mark}": mean_over_rounds(tv, mask)}
        result |= {BY_ROUND: kl} if mark == "do" else {}
    result[BETWEEN] = between(jax.tree.map(lambda *x: jnp.stack(x), *answers), mask, key)
    belief = implied_belief(index(evidence.experts, end), index(policies, end))
    if belief is not None:
        deluded = (belief.max() > CERTAIN) & (belief.argmax() != episode.theta)
        result["deluded_fraction"] = jnp.where(jnp.isnan(belief).any(), jnp.nan, deluded.astype(float))
    return result


def _exact_agent(world: AbstractHostWorld, mark: Mark) -> HostAgent | str:
    return world.no_exact_agent or world.exact_agent(mark)


def measure_world_baselines(
    world: AbstractHostWorld,
    *,
    key: Key[Array, ""],
    num_episodes: int,
    num_rounds: int | None,
    on_progress: OnProgress | None = None,
) -> Baselines:
    """Measure the rewards of the expert and of the exact agents, if there are exact agents."""
    size = {"num_episodes": num_episodes, "num_rounds": num_rounds, "on_progress": on_progress}
    run = functools.partial(play, world, key=key, predicts=False, **size)
    agents = {"reward_expert": None} | {f"reward_exact_{mark}": _exact_agent(world, mark) for mark in MARKS}
    reasons = dict.fromkeys(BASELINES, "not measured in a world that can only be sampled.")
    quantities = {name: Quantity(why_none=why) for name, why in reasons.items()}
    if world.expert_is_person:
        del agents["reward_expert"]
        quantities["reward_expert"] = Quantity(why_none="the expert is a person, who is not asked to play alone.")
    for name, agent in agents.items():
        if isinstance(agent, str):
            quantities[name] = Quantity(why_none=agent)
            continue
        episodes, _, _ = run(agent, doing=DOING[name])
        mask = np.asarray(episodes.mask)
        quantities[name] = Quantity.over_episodes(
            reward_per_round(episodes.reward, None if mask.all() else episodes.mask)
        )
    return quantities, {}
