"""An agent's predictions on its own episodes, compared with both exact answers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude._agents.base import AbstractAgent, beliefs, predict, predict_stepwise
from undelude._agents.exact import ExactAgent
from undelude._agents.host import HostAgent
from undelude._certificate.quantity import NOT_A_NUMBER, THETA_IS_CONTINUOUS, Quantity
from undelude._certificate.rounds import (
    Mask,
    count_rounds,
    fill_missing,
    mean_over_rounds,
    missing_as_nan,
    observation_mask,
    reward_per_round,
    with_one_more_round,
)
from undelude._certificate.verdict import note_on_answers
from undelude._checks import TOLERANCE
from undelude._compiled import compiled_for
from undelude._distributions import (
    AbstractDistribution,
    Categorical,
    Symbols,
    divergences,
    estimate_entropy,
    excess_mass,
)
from undelude._pieces import episode_ids, in_pieces
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld
from undelude._process.inference import expert_distributions, filter, reread
from undelude._process.process import InteractionProcess
from undelude._teaching.losses import score_observations
from undelude._tree import index
from undelude._types import Mark

R = TypeVar("R")

MARKS: tuple[Mark, ...] = ("do", "see")
# The probability above which a belief counts as certain in `deluded_fraction`.
CERTAIN = 0.9
# A limit on memory, without effect on the results: episodes scored at a time x rounds x thetas.
MAX_WORK = 2**19
# The least singular value of the expert's probabilities [A, K] at which a policy implies a belief about theta.
MIN_SINGULAR_VALUE = 1e-2
# An agent's predictions: `P_A`, T + 1 distributions, the last one after the last round; and `P_O`, T distributions, or
# T + 1 with an opening. None if the agent does not predict actions, or observations.
Predictions = tuple[AbstractDistribution | None, AbstractDistribution | None]
# The number of symbols over which a quantity is averaged, if episodes differ in it.
COUNTS = {
    f"{kind}_{name}": f"num_{kind}s" for kind in ("action", "observation") for name in ("log_loss", "calibration_gap")
}
# The distance whose mean over rounds is `action_kl_do`, for each round.
BY_ROUND = "action_kl_do_by_round"
# The total variation between the two answers to actions.
BETWEEN = "answers_tv"


class MeasuredEpisodes(NamedTuple):
    """What is measured on an agent's own episodes.

    Attributes:
        quantities: of the certificate, by name.
        notes: on impossible readings of the histories, and on answers that differ though the agent is as far from both.
        kl_by_round: `[B, T]`, nats: the distances whose means over rounds are averaged in `action_kl_do`; NaN in rounds
            that do not exist. None if they were not measured.
    """

    quantities: dict[str, Quantity]
    notes: dict[str, str]
    kl_by_round: Float[np.ndarray, "B T"] | None


def measure(
    process: InteractionProcess,
    agent: AbstractAgent | HostAgent,
    episodes: Episodes,
    *,
    key: Key[Array, ""],
    predictions: Predictions | None = None,
) -> MeasuredEpisodes:
    """Measure the quantities of a certificate that need only the agent's own episodes.

    Args:
        process: the process in which the episodes were played.
        agent: the agent that played them.
        episodes: B episodes.
        key: for quantities that are estimated by sampling.
        predictions: the predictions of a `HostAgent`, made while it played, with a leading axis B.

    Raises:
        ValueError: the agent's probabilities do not sum to one.
    """
    episodes, mask = fill_missing(episodes)
    predictor = agent if isinstance(agent, AbstractAgent) else None
    ids = episode_ids(len(episodes.mask))
    batch = episodes, mask, ids, predictions
    found = in_pieces(lambda piece: _measure_piece(process, predictor, key, *piece), batch)
    check_sums(found, agent)
    kl_by_round, tv = take_by_round(found, mask), float(np.mean(found.pop(BETWEEN, 0.0)))
    notes = {}
    for mark in MARKS if process.finite else ():
        if (share := float(np.mean(found.pop(f"impossible_{mark}")))) > 0:
            notes[f"impossible_{mark}"] = (
                f"with own actions read as {mark}, the history is impossible in {share:.1%} of the episodes; from the "
                "first impossible symbol on, the exact answer keeps its last possible belief."
            )
    no_belief = why_no_belief(process)
    quantities = {name: Quantity(why_none=why) for name, why in _why_missing(process, found, no_belief).items()}
    quantities |= summarise(found, {"deluded_fraction": no_belief})
    return MeasuredEpisodes(quantities, notes | note_on_answers(quantities, tv), kl_by_round)


def summarise(found: dict[str, Array], why_nan: Mapping[str, str]) -> dict[str, Quantity]:
    """Return the mean of each quantity over episodes; of log-losses and calibration gaps, over all their symbols.

    An episode may end early by what happens in it. A mean over its rounds then weighs what ended it more than the rest,
    so that the gap would not be 0 for an agent whose predictions are right. The sum over its rounds is 0 on average.

    Args:
        found: by name, one number for each episode; and under the names of `COUNTS`, how many symbols it has.
        why_nan: the reason to give for some quantities that are NaN in an episode.
    """
    counts = {name: found.pop(name) for name in COUNTS.values() if name in found}
    return {
        name: Quantity.over_episodes(values, counts.get(COUNTS.get(name, "")), why_nan=why_nan.get(name, NOT_A_NUMBER))
        for name, values in found.items()
    }


def take_by_round(found: dict[str, Array], mask: Mask) -> Float[np.ndarray, "B T"] | None:
    """Return the distance in each round, NaN if the round does not exist, and take it out of `found`."""
    return None if BY_ROUND not in found else missing_as_nan(found.pop(BY_ROUND), mask)


def check_sums(found: dict[str, Array], agent: AbstractAgent | HostAgent) -> None:
    """Raise `ValueError` if predicted probabilities did not sum to one; take these entries out of `found`."""
    for method in ("f_A", "f_O"):
        if (excess := float(np.max(found.pop(f"{method}_excess", 0.0)))) > TOLERANCE:
            raise ValueError(
                f"{type(agent).__name__}: the probabilities that {method} returns do not sum to one (off by "
                f"{excess:.3g}). Categorical(log_probs=) takes them as they are; use Categorical(logits=) to normalise."
            )


def _why_missing(process: InteractionProcess, found: dict[str, Array], no_belief: str) -> dict[str, str]:
    """Return the reason for each quantity that may be missing; only those of missing ones are read."""
    reasons = {"deluded_fraction": no_belief}
    for kind in ("action", "observation"):
        losses = [f"{kind}_log_loss", f"{kind}_calibration_gap"]
        distances = [f"{kind}_{distance}_{mark}" for distance in ("kl", "tv") for mark in MARKS]
        beliefs = ["deluded_fraction"] if kind == "action" else []
        if losses[0] not in found:
            reasons |= dict.fromkeys([*losses, *distances, *beliefs], f"the HostAgent does not predict {kind}s.")
        if not process.finite:
            reasons |= dict.fromkeys([*distances, *beliefs], THETA_IS_CONTINUOUS)
    return reasons


def why_no_belief(process: InteractionProcess | AbstractHostWorld) -> str:
    """Return why a policy does not tell in which theta its agent believes."""
    if not isinstance(process.action_spec, Symbols):
        return "actions are not symbols: a policy implies no belief about theta."
    return (
        "the policy implies no belief about theta: at the end of at least one episode the expert's distributions, one "
        "for each theta, are linearly dependent or nearly so."
    )


@compiled_for(runs=50)
def _measure_piece(
    process: InteractionProcess,
    agent: AbstractAgent | None,
    key: Key[Array, ""],
    episodes: Episodes,
    mask: Mask,
    ids: Int[Array, " B"],
    predictions: Predictions | None,
) -> dict[str, Float[Array, "B ..."]]:
    """Return what `measure_episode` does of each episode, a few episodes at a time to save memory."""

    def one(x: tuple[Episodes, Mask, Array, Predictions | None]) -> dict[str, Array]:
        episode, mask, i, predictions = x
        if predictions is None:
            assert agent is not None
            predictions = predict_to_the_end(agent, episode)
        beliefs = own_belief(agent, process, episode)
        belief = None if beliefs is None else beliefs[count_rounds(episode, mask)]
        own_key = jax.random.fold_in(key, i)
        return measure_episode(process, episode, predictions, mask=mask, key=own_key, belief=belief)

    work = episodes.num_rounds * (process.num_thetas if process.finite else 1)
    return jax.lax.map(one, (episodes, mask, ids, predictions), batch_size=max(1, min(len(ids), MAX_WORK // work)))


def predict_to_the_end(agent: AbstractAgent, episode: Episodes) -> Predictions:
    """Return an agent's predictions in one episode, and its policy after the last observation."""
    # The additional round supplies that policy; its prediction of an observation is dropped.
    P_A, P_O = predict(agent, with_one_more_round(episode))
    return P_A, jax.tree.map(lambda x: x[:-1], P_O)


def measure_episode(
    process: InteractionProcess,
    episode: Episodes,
    predictions: Predictions,
    *,
    mask: Mask,
    key: Key[Array, ""],
    belief: Float[Array, " K"] | None = None,
) -> dict[str, Float[Array, "..."]]:
    """Compare predictions in one episode with the symbols and with both exact answers: means over rounds, in nats.

    Args:
        process: the process in which the episode was played.
        episode: one episode.
        predictions: the agent's.
        mask: of the rounds that exist.
        key: for quantities that are estimated by sampling.
        belief: the agent's own at the end, if it keeps one (`own_belief`); otherwise the one that its policy implies.

    Returns:
        Quantities of the certificate; `impossible_do` and `impossible_see`, whether that reading of the history is
        impossible; `f_A_excess` and `f_O_excess`, by how much the predicted probabilities miss a sum of one;
        `action_kl_do_by_round`, `[T]`, of which `action_kl_do` is the mean; and `answers_tv`, between both answers.
    """
    P_A, P_O = predictions
    end = count_rounds(episode, mask)
    key_answer, key_losses = jax.random.split(key)
    last_policy = None if P_A is None else index(P_A, end)
    result = measure_losses(episode, predictions, mask=mask, key=key_losses)
    if not process.finite:
        return result
    P_A = None if P_A is None else jax.tree.map(lambda x: x[: episode.num_rounds], P_A)
    masks = mask, observation_mask(episode, mask)

    def compare(marked: Episodes) -> tuple[dict[str, Array], AbstractDistribution]:
        compared = {"impossible": filter(process, marked).impossible[end].astype(float)}
        answers = predict_stepwise(ExactAgent(process), marked)
        for kind, answer, P, exists in zip(("action", "observation"), answers, (P_A, P_O), masks, strict=True):
            if P is not None:
                keys = jax.random.split(key_answer, _length(answer))
                kl, tv = jax.vmap(lambda p, q, k: divergences(p, q, key=k))(answer, P, keys)
                compared |= {f"{kind}_kl": mean_over_rounds(kl, exists), f"{kind}_tv": mean_over_rounds(tv, exists)}
                compared |= {"by_round": kl} if kind == "action" else {}
        return compared, answers[0]

    both, answers = for_each_mark(compare, episode)
    if "by_round" in both:
        result[BY_ROUND] = both.pop("by_round")[MARKS.index("do")]
        result[BETWEEN] = between(answers, mask, key_answer)
    for name, values in both.items():
        result |= {f"{name}_{mark}": x for mark, x in zip(MARKS, values, strict=True)}
    if last_policy is not None:
        at_the_end = index(filter(process, episode), end)
        belief = first_known(belief, implied_belief(expert_distributions(process, at_the_end), last_policy))
    if belief is not None:
        theta = episode.theta if process.transition is None else index(episode.theta, end)
        deluded = (belief.max() > CERTAIN) & (belief.argmax() != theta)
        result["deluded_fraction"] = jnp.where(jnp.isnan(belief).any(), jnp.nan, deluded.astype(float))
    return result


def between(answers: AbstractDistribution, mask: Mask, key: Key[Array, ""]) -> Float[Array, ""]:
    """Return the total variation between both answers to actions, whose leading axes are marks and rounds: its mean."""
    do, see = (jax.tree.map(lambda x, i=i: x[i], answers) for i in range(len(MARKS)))
    tv = jax.vmap(lambda p, q, k: divergences(p, q, key=k)[1])(do, see, jax.random.split(key, _length(do)))
    return mean_over_rounds(tv, mask)


def measure_losses(
    episode: Episodes, predictions: Predictions, *, mask: Mask, key: Key[Array, ""]
) -> dict[str, Float[Array, ""]]:
    """Compare predictions in one episode with its symbols alone: the quantities that need no exact answer.

    If rounds may be missing, also how many symbols there are (`COUNTS`).
    """
    P_A, P_O = predictions
    key_A, key_O = jax.random.split(key)
    result = {"reward": reward_per_round(episode.reward, mask)}
    if P_A is not None:
        P_A = jax.tree.map(lambda x: x[: episode.num_rounds], P_A)
        losses = jax.vmap(lambda P, a: -P.log_prob(a))(P_A, episode.expert_actions)
        result |= _measure_calibration("action", P_A, losses, mask, key_A)
        result["f_A_excess"] = _greatest_excess(P_A, mask)
    if P_O is not None:
        exists = observation_mask(episode, mask)
        result |= _measure_calibration("observation", P_O, score_observations(P_O, episode), exists, key_O)
        result["f_O_excess"] = _greatest_excess(P_O, exists)
    return result


def for_each_mark(f: Callable[[Episodes], R], episode: Episodes) -> R:
    """Return `f` of one episode with its own actions marked do and see, leading axis 2: in one program, not in two."""
    both = jnp.stack([reread(episode, mark).intervened for mark in MARKS])
    return jax.vmap(lambda intervened: f(dataclasses.replace(episode, intervened=intervened)))(both)


def _measure_calibration(
    kind: str, P: AbstractDistribution, losses: Float[Array, " T"], mask: Mask, key: Key[Array, ""]
) -> dict[str, Float[Array, ""]]:
    """Return the log-loss, and by how much it exceeds the entropy that the predictions expect."""
    entropies = jax.vmap(estimate_entropy)(P, jax.random.split(key, _length(P)))
    loss = mean_over_rounds(losses, mask)
    found = {f"{kind}_log_loss": loss, f"{kind}_calibration_gap": loss - mean_over_rounds(entropies, mask)}
    return found if mask is None else found | {f"num_{kind}s": mask.sum()}


def _greatest_excess(distributions: AbstractDistribution, mask: Mask) -> Float[Array, ""]:
    excess = jax.vmap(excess_mass)(distributions)
    return (excess if mask is None else jnp.where(mask, excess, 0.0)).max()


def _length(distributions: AbstractDistribution) -> int:
    return len(jax.tree.leaves(distributions)[0])


def own_belief(
    agent: AbstractAgent | None, process: InteractionProcess, episode: Episodes
) -> Float[Array, "T1 K"] | None:
    """Return an agent's belief before each round and after the last; None without one over thetas of the same shape.

    It is NaN if the agent's thetas have other values than those of `process`.
    """
    if agent is None or agent.thetas is None or not process.finite:
        return None
    own, other = (jax.tree.flatten(thetas) for thetas in (agent.thetas, process.thetas))
    if own[1] != other[1] or any(x.shape != y.shape for x, y in zip(own[0], other[0], strict=True)):
        return None
    same = jnp.asarray([(x == y).all() for x, y in zip(own[0], other[0], strict=True)]).all()
    log_posterior = beliefs(agent, reread(episode, agent.own_actions))
    return jnp.where(same, jnp.exp(log_posterior), jnp.nan)


def first_known(own: Float[Array, "..."] | None, implied: Float[Array, "..."] | None) -> Float[Array, "..."] | None:
    """Return the agent's own belief; if it keeps none, or its thetas are different, the one that its policy implies."""
    if own is None or implied is None:
        return implied if own is None else own
    return jnp.where(jnp.isnan(own), implied, own)


def implied_belief(distributions: AbstractDistribution, policy: AbstractDistribution) -> Float[Array, " K"] | None:
    """Return the belief `b` with `policy = sum_theta b(theta) Q(A | theta, e)`, fitted and normalised.

    The fit is by least squares; negative weights become 0.

    For an exact agent this is its own belief.

    Args:
        distributions: the expert's, `Q(A | theta, e)`, leading axis K.
        policy: the agent's.

    Returns:
        `[K]`. NaN if the expert's distributions are nearly linearly dependent, so that `b` is not unique. None if `b`
        cannot be unique: there are fewer actions than thetas, or actions are not symbols.
    """
    if not (isinstance(policy, Categorical) and isinstance(distributions, Categorical)):
        return None
    columns = distributions.probs.T  # [A, K]
    if columns.shape[0] < columns.shape[1]:
        return None
    # One decomposition for both: two at once can wait for each other for ever (LAPACK on the CPU in jaxlib 0.10.2).
    U, singular, V = jnp.linalg.svd(columns, full_matrices=False)
    is_unique = singular.min() > MIN_SINGULAR_VALUE
    belief = jnp.maximum(V.T @ ((U.T @ policy.probs) / jnp.where(is_unique, singular, 1.0)), 0.0)
    return jnp.where(is_unique, belief / belief.sum(), jnp.nan)
