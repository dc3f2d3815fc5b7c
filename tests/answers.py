"""What the library answers about one history, as arrays; shared by the tests of the paper's sections."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import undelude as ud
from undelude._agents.base import scan
from undelude._types import Mark

MARKS = ("do", "see")


def belief(process: ud.InteractionProcess, mark: str, actions: list[int], observations: list[int]) -> np.ndarray:
    """`P(Theta | history)`, the actions marked alike."""
    history = ud.Episodes.of(process, actions=actions, observations=observations, intervened=mark == "do")
    return np.exp(ud.posterior(process, history)[-1])


def beliefs(
    process: ud.InteractionProcess, actions: np.ndarray, observations: np.ndarray, *, intervened: bool
) -> np.ndarray:
    """`P(Theta | history)` before each round and after the last of a batch of histories, `[B, T + 1, K]`."""
    histories = ud.Episodes.of(process, actions=actions, observations=observations, intervened=intervened)
    return np.exp(ud.posterior(process, histories))


predictions = eqx.filter_jit(scan)


@eqx.filter_jit
def all_predictions(agent: ud.AbstractAgent, histories: ud.Episodes) -> tuple[Any, Any]:
    """`predictions` of a batch of histories."""
    return jax.vmap(lambda episode: scan(agent, episode))(histories)


@eqx.filter_jit
def after_action(process: ud.InteractionProcess, mark: Mark, a: int) -> tuple[Array, Array]:
    """`P(Theta | A_1)` and `P(O_1 | A_1)`."""
    agent = ud.ExactAgent(process, own_actions=mark)
    m = agent.g_A(jnp.array(a), agent.init(num_rounds=1), intervened=mark == "do")
    return jnp.exp(m.log_posterior), agent.f_O(m).probs


@eqx.filter_jit
def policy_after_round(agent: ud.ExactAgent, a: int, o: int) -> Array:
    """`P(A_2 | A_1, O_1)`, the action marked as the agent reads its own."""
    m = agent.g_A(jnp.array(a), agent.init(num_rounds=2), intervened=agent.own_actions == "do")
    return agent.f_A(agent.g_O(jnp.array(o), m)).probs


@eqx.filter_jit
def policies(process: ud.InteractionProcess, histories: ud.Episodes) -> Array:
    """`P(A_t | history)` before each action of a batch of histories, `[B, T, A]`, the actions marked as they are."""
    return jax.vmap(lambda episode: scan(ud.ExactAgent(process), episode)[0].probs)(histories)
