"""How each party reads a recording of a simulator: its belief, and its predictions of actions and of the symbol.

As in `readings.py`, all arrays have a fixed length N, whatever the length of the recording.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._compiled import compiled
from undelude._distributions import AbstractDistribution, Categorical, Joint, Mixture, Normal, divergences, mixture
from undelude._inspector.knowledge import Known
from undelude._inspector.setting import Reader
from undelude._process.episodes import Episodes
from undelude._process.host_world import Evidence
from undelude._tree import append, index
from undelude._types import Action, Memory, Observation

# Draws for a KL between densities, and for the moments of one without a closed form.
DRAWS, MOMENT_DRAWS = 128, 512


class Recorded(NamedTuple):
    """A recording as arrays.

    Attributes:
        opening: `O_0`.
        actions, observations: `[N, ...]`.
        intervened: `[N]`, the marks.
        by_agent: `[N]`, whether the agent executed the action.
        exists: `[N]`, whether the round has an observation.
    """

    opening: Observation
    actions: Action
    observations: Observation
    intervened: Bool[Array, " N"]
    by_agent: Bool[Array, " N"]
    exists: Bool[Array, " N"]


class ExactReading(NamedTuple):
    """What exact inference believes and predicts; probabilities.

    Attributes:
        belief: `[N + 1, K]`, before each action and after the last round.
        acted_belief: `[N, K]`, after each action.
        actions: `[N + 1]` distributions of the next action.
        symbols: `[N, n]`, probabilities of the symbol, given the rest of the observation.
        impossible, acted_impossible: `[N]`, whether a symbol, or an action that is read as evidence, had probability 0.
    """

    belief: Float[Array, "N1 K"]
    acted_belief: Float[Array, "N K"]
    actions: AbstractDistribution
    symbols: Float[Array, "N n"]
    impossible: Bool[Array, " N"]
    acted_impossible: Bool[Array, " N"]


@compiled
def read_exactly(known: Known, recorded: Recorded, done: Bool[Array, " N"], theta: Int[Array, ""]) -> ExactReading:
    """Return the reading of exact inference.

    Args:
        known: the evidence.
        recorded: the recording.
        done: `[N]`, which actions are read as interventions.
        theta: that the party is told; -1 if it is told nothing.
    """
    N = len(recorded.exists)
    zeros, marks = jnp.zeros(N, jnp.int32), jnp.zeros(N, bool)
    episode = Episodes(
        zeros[0], None, recorded.actions, recorded.observations, zeros, marks, None, None, None, recorded.exists
    )
    before = jax.tree.map(lambda x: x[:-1], known.experts)
    of_actions = jax.vmap(lambda Q, a: jax.vmap(lambda Q: Q.log_prob(a))(Q))(before, recorded.actions)
    certain = jnp.where(jnp.arange(known.log_likelihood.shape[-1]) == theta, 0.0, -jnp.inf)

    def told(log_belief: Array) -> Array:
        return jnp.where(theta < 0, log_belief, certain)

    evidence = Evidence(known.experts, jnp.asarray(known.log_likelihood))
    log_belief = told(evidence.log_posterior(episode, done))
    after = log_belief[:-1] + jnp.where(done[:, None], 0, of_actions)
    acted_impossible = jnp.isneginf(after).all(-1)
    acted = told(jnp.where(acted_impossible[:, None], log_belief[:-1], jax.nn.log_softmax(after)))
    impossible = jnp.isneginf(acted + known.log_likelihood[1:]).all(-1)
    symbols = jnp.einsum("tk,tkn->tn", jnp.exp(acted), jnp.exp(known.symbols))
    actions = jax.vmap(mixture)(log_belief, known.experts)
    return ExactReading(jnp.exp(log_belief), jnp.exp(acted), actions, symbols, impossible, acted_impossible)


@compiled
def read_along(reader: Reader, recorded: Recorded) -> tuple[AbstractDistribution, AbstractDistribution]:
    """Return an agent's predictions: of actions, `[N + 1]`, and of observations, `[N]`."""
    agent = reader.agent
    m = agent.g_O(recorded.opening, agent.init(num_rounds=len(recorded.exists)))

    def round(m: Memory, x: tuple) -> tuple[Memory, tuple]:
        a, o, marked, by_agent = x
        acted = agent.g_A(a, m, intervened=reader.intervened(marked, by_agent))
        return agent.g_O(o, acted), (agent.f_A(m), agent.f_O(acted))

    last, (actions, observations) = jax.lax.scan(round, m, recorded[1:5])
    return append(actions, agent.f_A(last)), observations


class Summary(NamedTuple):
    """Predictions of actions, `[N + 1]`, in numbers.

    Attributes:
        probs: `[N + 1, A]`, of symbols; None for real numbers.
        mean, deviation: `[N + 1, D]`, of real numbers; None for symbols.
        kl: `[N + 1, 2]`, from both answers in nats; between densities an estimate.
        losses: `[N]`, `-log P(label)` in nats.
    """

    probs: Any
    mean: Any
    deviation: Any
    kl: Any
    losses: Any


@compiled
def summarise(
    predictions: AbstractDistribution,
    answers: tuple[AbstractDistribution, ...],
    labels: Action,
    num_symbols: int | None,
    key: Key[Array, ""],
) -> Summary:
    """Return the numbers of predictions.

    Args:
        predictions: `[N + 1]` distributions.
        answers: of exact do and exact see; empty if there are none.
        labels: `[N, ...]`, any action in rounds without one.
        num_symbols: A; None for real numbers.
        key: for estimates; the same for all parties.
    """
    num_predictions = len(jax.tree.leaves(predictions)[0])
    keys = jax.random.split(key, num_predictions)

    def kl(answer: AbstractDistribution) -> Array:
        def one(p: Any, q: Any, key: Any) -> Array:
            return divergences(p, q, key=key, num_samples=DRAWS)[0]

        return jnp.maximum(0.0, jax.vmap(one)(answer, predictions, keys))

    found = jnp.stack([kl(x) for x in answers], -1) if answers else jnp.full((num_predictions, 2), jnp.nan)
    before = jax.tree.map(lambda x: x[:-1], predictions)
    losses = -jax.vmap(lambda P, a: P.log_prob(a))(before, labels)
    if num_symbols is not None:
        probs = jnp.exp(jax.vmap(lambda P: jax.vmap(P.log_prob)(jnp.arange(num_symbols)))(predictions))
        return Summary(probs, None, None, found, losses)
    mean, deviation = jax.vmap(_moments)(predictions, keys)
    return Summary(None, mean, deviation, found, losses)


def _moments(distribution: AbstractDistribution, key: Key[Array, ""]) -> tuple[Array, Array]:
    """Return means and standard deviations of each number: exact for normals and their mixtures, else of draws."""
    match distribution:
        case Normal():
            return distribution.loc.ravel(), distribution.scale.ravel()
        case Mixture(components=Normal() as components):
            w = jnp.exp(distribution.log_weights)
            loc, scale = (x.reshape(len(w), -1) for x in (components.loc, components.scale))
            mean = w @ loc
            return mean, jnp.sqrt(w @ (scale**2 + (loc - mean[None]) ** 2))
    draws = jax.vmap(distribution.sample)(jax.random.split(key, MOMENT_DRAWS)).reshape(MOMENT_DRAWS, -1)
    return draws.mean(0), draws.std(0)


@compiled
def marginal_densities(
    distributions: AbstractDistribution, t: Int[Array, ""], grid: Float[Array, "D G"]
) -> Float[Array, "D G"] | None:
    """Return the density of each number by itself under distribution `t`; None if it has no closed form."""
    match distribution := index(distributions, t):
        case Normal():
            return _normal(distribution.loc.ravel(), distribution.scale.ravel(), grid)
        case Mixture(components=Normal() as components):
            w = jnp.exp(distribution.log_weights)
            loc, scale = (x.reshape(len(w), -1) for x in (components.loc, components.scale))
            return jnp.einsum("k,kdg->dg", w, jax.vmap(lambda m, s: _normal(m, s, grid))(loc, scale))
    return None


@compiled
def draw_action(distributions: AbstractDistribution, t: Int[Array, ""], key: Key[Array, ""]) -> Action:
    """Return a sample of distribution `t`."""
    return index(distributions, t).sample(key)


def _normal(loc: Array, scale: Array, grid: Array) -> Array:
    return jax.scipy.stats.norm.pdf(grid, loc[:, None], scale[:, None])


def symbol_probabilities(predictions: AbstractDistribution, symbol: str) -> Float[np.ndarray, "N n"] | None:
    """Return what predictions of observations, `[N]`, say about a part; None if it is not predicted as a symbol."""
    part = predictions.parts[symbol] if isinstance(predictions, Joint) else predictions
    return np.exp(np.asarray(part.log_probs)) if isinstance(part, Categorical) else None
