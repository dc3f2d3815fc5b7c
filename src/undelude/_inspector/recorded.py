"""How each party reads a recording of a simulator: its belief, and its predictions of actions and of the symbol.

As in `readings.py`, all arrays have a fixed length N, whatever the length of the recording.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._compiled import compiled
from undelude._distributions import AbstractDistribution, Categorical, Joint, mixture
from undelude._inspector.knowledge import Known
from undelude._inspector.setting import Reader
from undelude._process.episodes import Episodes
from undelude._process.host_world import Evidence
from undelude._tree import append, index
from undelude._types import Action, Memory, Observation


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


@compiled
def draw_action(distributions: AbstractDistribution, t: Int[Array, ""], key: Key[Array, ""]) -> Action:
    """Return a sample of distribution `t`."""
    return index(distributions, t).sample(key)


def symbol_probabilities(predictions: AbstractDistribution, symbol: str) -> Float[np.ndarray, "N n"] | None:
    """Return what predictions of observations, `[N]`, say about a part; None if it is not predicted as a symbol."""
    part = predictions.parts[symbol] if isinstance(predictions, Joint) else predictions
    return np.exp(np.asarray(part.log_probs)) if isinstance(part, Categorical) else None
