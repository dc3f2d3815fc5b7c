"""What one of an agent's own episodes says of it: its predictions beside both exact answers."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from undelude._agents.base import AbstractAgent, predict, scan, scan_beliefs
from undelude._agents.exact import ExactAgent
from undelude._distributions import AbstractDistribution, Categorical, divergences, estimate_entropy, excess_mass
from undelude._process.inference import expert_distributions, filter, reread
from undelude._process.process import InteractionProcess
from undelude._rollout.rollout import Episodes
from undelude._teaching.losses import score_observations
from undelude._types import Mark

MARKS: tuple[Mark, ...] = ("do", "see")
# "Confident" in `deluded_fraction`.
CONFIDENT = 0.9
# Episodes scored at a time, and rounds of them times thetas: what is measured does not depend on it, memory does.
CHUNK, MAX_WORK = 1024, 2**19
# The expert's distributions tell the thetas apart where the smallest singular value of [A, K] exceeds this.
MIN_SINGULAR_VALUE = 1e-2
# What an agent said: `P_A`, [T + 1] distributions, the last one after the last round, and `P_O`, [T], with an opening
# [T + 1].
Predictions = tuple[AbstractDistribution | None, AbstractDistribution | None]


@eqx.filter_jit
def measure(
    process: InteractionProcess, agent: AbstractAgent | Predictions, episodes: Episodes, key: Array
) -> dict[str, Array]:
    """Each quantity of the certificate that one episode can answer, `[B]`.

    Args:
        process: where the episodes come from.
        agent: who lived them; or what it said in them, with a leading axis B.
        episodes: B of them.
        key: of what is estimated by draws.
    """
    said = None if isinstance(agent, AbstractAgent) else agent

    def one(x: tuple[Episodes, Array, Predictions | None]) -> dict[str, Array]:
        episode, key, said = x
        if said is None:
            assert isinstance(agent, AbstractAgent)
            said = predict_past_the_end(agent, episode)
        own = own_belief(agent, process, episode)
        return measure_episode(process, episode, said, key=key, belief=None if own is None else own[-1])

    keys = jax.random.split(key, episodes.mask.shape[0])
    work = episodes.num_rounds * (process.num_thetas if process.finite else 1)
    return jax.lax.map(one, (episodes, keys, said), batch_size=max(1, min(CHUNK, MAX_WORK // work)))


def predict_past_the_end(agent: AbstractAgent, episode: Episodes) -> Predictions:
    """What an agent says in one episode, and of the action that would follow."""
    # One round more than there was: its first half is the policy after the last observation.
    P_A, P_O = predict(agent, with_one_more_round(episode))
    return P_A, jax.tree.map(lambda x: x[:-1], P_O)


def measure_episode(
    process: InteractionProcess,
    episode: Episodes,
    said: Predictions,
    *,
    key: Key[Array, ""],
    belief: Float[Array, " K"] | None = None,
) -> dict[str, Float[Array, ""]]:
    """What one of an agent's own episodes says of it: means over its symbols, in nats.

    Args:
        process: where it comes from.
        episode: with the agent's actions.
        said: what the agent predicted.
        key: of what is estimated by draws.
        belief: of the agent at the end, where it has one (`own_belief`); else what its policy implies is taken.
    """
    P_A, P_O = said
    T = episode.num_rounds
    after_last = None if P_A is None else jax.tree.map(lambda x: x[T], P_A)
    P_A = None if P_A is None else jax.tree.map(lambda x: x[:T], P_A)
    key_answer, key_A, key_O = jax.random.split(key, 3)
    result = {"reward": episode.reward.mean()}
    for name, distributions in (("excess_A", P_A), ("excess_O", P_O)):
        if distributions is not None:
            result[name] = jax.vmap(excess_mass)(distributions).max()
    if P_A is not None:
        loss = jax.vmap(lambda distribution, a: -distribution.log_prob(a))(P_A, episode.expert_actions).mean()
        result |= {"action_log_loss": loss, "action_calibration_gap": loss - _mean_entropy(P_A, key_A)}
    if P_O is not None:
        loss = score_observations(P_O, episode).mean()
        result |= {"observation_log_loss": loss, "observation_calibration_gap": loss - _mean_entropy(P_O, key_O)}
    if not process.finite:
        return result
    for mark in MARKS:
        marked = reread(episode, mark)
        result[f"impossible_{mark}"] = filter(process, marked).impossible[-1].astype(float)
        answers = scan(ExactAgent(process), marked)
        for name, answer, prediction in zip(("action", "observation"), answers, (P_A, P_O), strict=True):
            if prediction is None:
                continue
            keys = jax.random.split(key_answer, len(jax.tree.leaves(answer)[0]))
            kl, tv = jax.vmap(lambda p, q, k: divergences(p, q, key=k))(answer, prediction, keys)
            result |= {f"{name}_kl_{mark}": kl.mean(), f"{name}_tv_{mark}": tv.mean()}
    last = jax.tree.map(lambda x: x[-1], filter(process, episode))
    if after_last is not None:
        belief = either(belief, implied(expert_distributions(process, last), after_last))
    if belief is not None:
        theta = episode.theta[-1] if process.transition is not None else episode.theta
        deluded = (belief.max() > CONFIDENT) & (belief.argmax() != theta)
        result["deluded_fraction"] = jnp.where(jnp.isnan(belief).any(), jnp.nan, deluded)
    return result


def _mean_entropy(distributions: AbstractDistribution, key: Key[Array, ""]) -> Float[Array, ""]:
    keys = jax.random.split(key, len(jax.tree.leaves(distributions)[0]))
    return jax.vmap(estimate_entropy)(distributions, keys).mean()


def own_belief(
    agent: AbstractAgent | Predictions, process: InteractionProcess, episode: Episodes
) -> Float[Array, "T1 K"] | None:
    """Return an agent's belief before each round and after the last; None if it has none.

    It is NaN if the agent's thetas are not those of `process`.
    """
    if not (isinstance(agent, AbstractAgent) and agent.thetas is not None and process.finite):
        return None
    own, other = (jax.tree.flatten(thetas) for thetas in (agent.thetas, process.thetas))
    if own[1] != other[1] or any(x.shape != y.shape for x, y in zip(own[0], other[0], strict=True)):
        return None
    same = jnp.asarray([(x == y).all() for x, y in zip(own[0], other[0], strict=True)]).all()
    log_posterior = scan_beliefs(agent, reread(episode, agent.own_actions))
    return jnp.where(same, jnp.exp(log_posterior), jnp.nan)


def either(own: Float[Array, "..."] | None, implied: Float[Array, "..."] | None) -> Float[Array, "..."] | None:
    """The belief that an agent has, or, where there is none, that which its policy implies."""
    if own is None or implied is None:
        return implied if own is None else own
    return jnp.where(jnp.isnan(own), implied, own)


def implied(distributions: AbstractDistribution, policy: AbstractDistribution) -> Float[Array, " K"] | None:
    """The belief b with `policy = sum_theta b(theta) Q(A | theta, e)`; an exact agent's is its own.

    By least squares, then clipped and normalised. NaN where the expert's distributions (`distributions`, leading axis
    K) do not tell the
    thetas apart; None where they never can, because there are fewer actions than thetas or because actions are not
    symbols.
    """
    if not (isinstance(policy, Categorical) and isinstance(distributions, Categorical)):
        return None
    columns = distributions.probs.T  # [A, K]
    if columns.shape[0] < columns.shape[1]:
        return None
    belief = jnp.maximum(jnp.linalg.pinv(columns) @ policy.probs, 0.0)
    told_apart = jnp.linalg.svd(columns, compute_uv=False).min() > MIN_SINGULAR_VALUE
    return jnp.where(told_apart, belief / belief.sum(), jnp.nan)


def with_one_more_round(episode: Episodes) -> Episodes:
    """The episode and a round after its last, so that there is a prediction after the last observation."""
    # What the round holds does not matter, for only what comes before it is looked at.
    fixed = {"theta", "opening"}
    rounds = {f.name: getattr(episode, f.name) for f in dataclasses.fields(episode) if f.name not in fixed}
    return dataclasses.replace(episode, **jax.tree.map(lambda x: jnp.concatenate([x, x[-1:]]), rounds))
