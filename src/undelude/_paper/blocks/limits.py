"""Minima of the two losses of Figure 4, exactly: every episode of a small process, weighted by its probability.

The losses are those of `ud.log_losses`, of an agent with one free distribution for each history. They are linear in its
log-probabilities: the derivative by `log P(x | history)` is minus the probability `w` of scoring x after that history.
The minimum of `-sum_x w(x) log P(x)` over distributions is `w / sum(w)`.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import undelude as ud
from undelude._process.episodes import AGENT, EXPERT
from undelude._teaching.losses import log_losses

SEED = 9
K, A, O, T = 3, 2, 2, 3
# Rounds: executor, action, the expert's action, observation; the expert executes its own action.
ROUNDS = [
    (executor, a, a_bar, o)
    for executor, a, a_bar, o in itertools.product((AGENT, EXPERT), range(A), range(A), range(O))
    if executor == AGENT or a == a_bar
]
PARAMETERS = {
    "process": f"{K} thetas, {A} actions, {O} observations, {T} rounds; tables from Dirichlet(1, 1)",
    "tables from seed": SEED,
}


@functools.cache
def tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `Q(theta)`, `Q(a | theta)` and `Q(o | theta, a)` with random entries."""
    rng = np.random.default_rng(SEED)
    return rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(A), K), rng.dirichlet(np.ones(O), (K, A))


@functools.cache
def process() -> ud.InteractionProcess:
    """Return the process with these tables."""
    prior, expert, task = tables()
    return ud.tasks.from_tables(prior=prior, expert=expert, task=task, num_rounds=T, name="random tables")


class TableAgent(ud.AbstractAgent[Array]):
    """An agent with one free distribution for each history; its memory is the index of the history."""

    log_A: Float[Array, "H A"]
    log_O: Float[Array, "H2A O"]

    def init(self, *, num_rounds: int) -> Array:
        """Return the empty history."""
        return jnp.zeros((), jnp.int32)

    def f_A(self, m: Array) -> ud.Categorical:
        """Return the row of the history."""
        return ud.Categorical(log_probs=self.log_A[m])

    def f_O(self, m: Array) -> ud.Categorical:
        """Return the row of the history and the action after it."""
        return ud.Categorical(log_probs=self.log_O[m])

    def g_A(self, a: Array, m: Array, *, intervened: Array) -> Array:
        """Append an action and its mark."""
        return append_action(m, a, intervened)

    def g_O(self, o: Array, m: Array) -> Array:
        """Append an observation."""
        return append_observation(m, o)


def append_action(m: Any, a: Any, done: Any) -> Any:
    """Return the index of a history with an action: of numbers, and of arrays of NumPy or JAX."""
    return m * 2 * A + A * done + a


def append_observation(m: Any, o: Any) -> Any:
    """Return the index of a history with an observation: child `o` of node `m` of a tree."""
    return m * O + o + 1


@dataclasses.dataclass(frozen=True)
class Limit:
    """The minimum of the expected losses.

    Attributes:
        P_A: distributions of actions by index of the history, `[H, A]`; NaN where no episode leads.
        P_O: distributions of observations by index of the history with an action, `[2 A H, O]`.
        loss: the expected loss of the actions of the agent that executed them, over an episode, nats.
        weight_A: probability of each history before an action, `[H]`.
    """

    P_A: np.ndarray
    P_O: np.ndarray
    loss: float
    weight_A: np.ndarray


@functools.cache
def limit(expert_share: float, *, marked: bool = True, policy_seed: int = 0) -> Limit:
    """Return the minimum of both losses over the episodes of one teaching.

    Args:
        expert_share: probability that the expert executes an action: 0 is counterfactual teaching, 1 is factual.
        marked: whether the agent reads the marks of the actions; without, all are read as see.
        policy_seed: of the random policy by which the agent acts.
    """
    executor, a, a_bar, o = np.array(list(itertools.product(ROUNDS, repeat=T))).transpose(2, 0, 1)
    done = (executor == AGENT) & marked
    policy = actor(policy_seed)
    prior, expert, task = tables()
    weight = np.broadcast_to(prior, (len(a), K))
    m = np.zeros(len(a), int)
    for t in range(T):
        acted = np.where(executor[:, t] == EXPERT, expert_share, (1 - expert_share) * policy[m, a[:, t]])
        weight = weight * acted[:, None] * expert[:, a_bar[:, t]].T * task[:, a[:, t], o[:, t]].T
        m = append_observation(append_action(m, a[:, t], done[:, t]), o[:, t])
    episodes = ud.Episodes(
        theta=None,
        opening=None,
        actions=jnp.asarray(a),
        observations=jnp.asarray(o),
        executor=jnp.asarray(executor),
        intervened=jnp.asarray(done),
        expert=None,
        expert_actions=jnp.asarray(a_bar),
        reward=None,
        mask=jnp.ones(a.shape, bool),
    )
    rows = num_histories(T)
    agent = TableAgent(jnp.log(jnp.asarray(policy)), jnp.full((2 * A * rows, O), -jnp.log(O)))
    loss, scored = expected(agent, episodes, jnp.asarray(weight.sum(1)))
    w_A, w_O = (-np.asarray(x, float) for x in (scored.log_A, scored.log_O))
    with np.errstate(invalid="ignore"):
        return Limit(w_A / w_A.sum(-1, keepdims=True), w_O / w_O.sum(-1, keepdims=True), float(loss), w_A.sum(-1))


def num_histories(rounds: int) -> int:
    """Return the number of histories of up to `rounds - 1` rounds."""
    return sum((2 * A * O) ** t for t in range(rounds))


def actor(seed: int) -> np.ndarray:
    """Return a random policy, `[H, A]`."""
    return np.random.default_rng(seed).dirichlet(np.ones(A), num_histories(T + 1))[: num_histories(T)]


@eqx.filter_jit
def expected(agent: TableAgent, episodes: ud.Episodes, weight: Array) -> tuple[Array, TableAgent]:
    """Return the expected loss of the actions, and the derivatives of both losses by the log-probabilities."""

    def losses(agent: TableAgent) -> tuple[Array, Array]:
        action, observation = jax.vmap(lambda e: log_losses(agent, e, target="sample"))(episodes)
        return weight @ (action + observation).sum(-1), weight @ action.sum(-1)

    (_, action), derivative = eqx.filter_value_and_grad(losses, has_aux=True)(agent)
    return action, derivative


class History(NamedTuple):
    """A history with marks: its index, its number of rounds, and its symbols for a query."""

    index: int
    rounds: int
    do: dict[str, int]
    see: dict[str, int]


def histories(*marks: int) -> Iterator[History]:
    """Yield all histories before each round whose actions have these marks, 1 for do and 0 for see."""
    for rounds in range(T):
        for symbols in itertools.product(itertools.product(range(A), marks, range(O)), repeat=rounds):
            m, do, see = 0, {}, {}
            for t, (a, done, o) in enumerate(symbols, 1):
                (do if done else see)[f"A_{t}"] = a
                see[f"O_{t}"] = o
                m = append_observation(append_action(m, a, done), o)
            yield History(m, rounds, do, see)


@functools.cache
def model() -> ud.CausalModel:
    """Return the process as a graph."""
    return process().causal_model()


def answer_A(history: History) -> np.ndarray:
    """Return `Q(A | history)` by surgery on the graph."""
    return np.asarray(model().query(f"A_{history.rounds + 1}", do=history.do, see=history.see), float)


def answer_O(history: History, a: int) -> np.ndarray:
    """Return `Q(O | history, do(a))` by surgery on the graph."""
    done = {**history.do, f"A_{history.rounds + 1}": a}
    return np.asarray(model().query(f"O_{history.rounds + 1}", do=done, see=history.see), float)
