"""Episodes of the bandit that several blocks share: one program plays all exact agents."""

import dataclasses
import functools
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

import undelude as ud
from undelude._distributions import as_categorical
from undelude._paper.blocks.models import log_tables
from undelude._paper.item import Settings
from undelude._process.inference import Belief
from undelude._rollout.scan import run_episode

# Rounds of an episode, of the paper's table, and before the mark is lost.
ROUNDS, SHORT, CUT = 100, 20, 10
Name = Literal["do", "see", "cut"]
# Rounds in which the agent receives the marks of its own actions.
MARKED: dict[Name, int] = {"do": ROUNDS, "see": 0, "cut": CUT}


class Unmarked(eqx.Module):
    """Memory of `CutAgent`: the belief, and the number of its own actions."""

    belief: Belief
    t: Int[Array, ""]


class CutAgent(ud.AbstractAgent[Unmarked]):
    """An exact agent that receives the marks of its own actions for `cut` rounds only.

    With all rounds it is `ExactAgent(process)`, with none the deluded `ExactAgent(process, own_actions="see")`.

    Attributes:
        exact: the agent with all marks.
        cut: number of rounds with marks.
    """

    exact: ud.ExactAgent
    cut: Int[Array, ""] | int = eqx.field(converter=jnp.asarray)

    def init(self, *, num_rounds: int) -> Unmarked:
        """Return the prior and round 0."""
        return Unmarked(self.exact.init(num_rounds=num_rounds), jnp.zeros((), jnp.int32))

    def f_A(self, m: Unmarked) -> Any:
        """Return the exact agent's prediction of the action."""
        return self.exact.f_A(m.belief)

    def f_O(self, m: Unmarked) -> Any:
        """Return the exact agent's prediction of the observation."""
        return self.exact.f_O(m.belief)

    def g_A(self, a: Any, m: Unmarked, *, intervened: Any) -> Unmarked:
        """Update the belief; from round `cut` on the mark is lost."""
        return Unmarked(self.exact.g_A(a, m.belief, intervened=intervened & (m.t < self.cut)), m.t + 1)

    def g_O(self, o: Any, m: Unmarked) -> Unmarked:
        """Update the belief."""
        return Unmarked(self.exact.g_O(o, m.belief), m.t)


@dataclasses.dataclass(frozen=True)
class Played:
    """Episodes of one agent.

    Attributes:
        process: the bandit.
        theta: the best arm, `[B]`.
        actions: `[B, ROUNDS]`.
        rewards: `[B, ROUNDS]`, 0 or 1.
        P_A: the agent's predictions of its actions, `[B, ROUNDS, A]`.
        P_reward: the agent's predictions of its rewards, after its actions, `[B, ROUNDS]`.
        done: whether the agent received the mark of its action, `[ROUNDS]`.
        parameters: task, size, seed and key, to play the episodes again.
    """

    process: ud.InteractionProcess
    theta: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    P_A: np.ndarray
    P_reward: np.ndarray
    done: np.ndarray
    parameters: dict[str, Any]


def without_feedback(process: ud.InteractionProcess) -> ud.InteractionProcess:
    """Return the process with the same expert and uninformative rewards: every arm pays with probability 1/2."""
    return eqx.tree_at(lambda p: p.task.log_probs, process, replace_fn=lambda x: jnp.full_like(x, -jnp.log(2)))


@functools.lru_cache(maxsize=8)
def play(settings: Settings, name: Name) -> Played:
    """Play the bandit with the exact agent that reads its own actions as do, as see, or as do for ten rounds."""
    process = ud.tasks.bandit()
    number = list(MARKED).index(name)
    key = jax.random.fold_in(jax.random.key(settings.seed), number)
    agent = CutAgent(exact=ud.ExactAgent(process), cut=MARKED[name])
    episodes, P_A, P_reward = _play(process, agent, key, jnp.arange(settings.num_episodes))
    parameters = {
        "task": "bandit",
        "episodes": settings.num_episodes,
        "seed": settings.seed,
        "key": f"fold_in(key(seed), {number})",
    }
    theta, actions, rewards = (np.asarray(x) for x in (episodes.theta, episodes.actions, episodes.observations))
    done = np.arange(ROUNDS) < MARKED[name]
    return Played(process, theta, actions, rewards, np.asarray(P_A), np.asarray(P_reward), done, parameters)


@eqx.filter_jit
def _play(
    process: ud.InteractionProcess, agent: CutAgent, key: Key[Array, ""], ids: Int[Array, " B"]
) -> tuple[ud.Episodes, Float[Array, "B T A"], Float[Array, "B T"]]:
    """Play episodes as `ud.rollout` does, episode i from `fold_in(key, i)`, and return the agent's predictions too."""

    def one(i: Int[Array, ""]) -> tuple[ud.Episodes, Array, Array]:
        episode, predictions = run_episode(process, agent, jax.random.fold_in(key, i), num_rounds=ROUNDS, predicts=True)
        assert predictions is not None
        P_A, P_O = map(as_categorical, predictions)
        return episode, P_A.probs, P_O.probs[:, 1]

    return jax.vmap(one)(ids)


def belief(played: Played, *, done: np.ndarray | bool | None = None) -> np.ndarray:
    """Return the belief before each of the first `SHORT` rounds and after them, by equation 2 in NumPy.

    Args:
        played: episodes.
        done: the marks, `[ROUNDS]`; those of the agent by default.

    Returns:
        `[B, SHORT + 1, K]`.
    """
    evidence = _evidence(played, done, SHORT)
    return _normalised(played, np.concatenate([np.zeros_like(evidence[:, :1]), evidence.cumsum(1)], 1))


def last_belief(played: Played) -> np.ndarray:
    """Return the belief after `ROUNDS` rounds, `[B, K]`, by equation 2 in NumPy."""
    return _normalised(played, _evidence(played, None, ROUNDS).sum(1))


def _evidence(played: Played, done: np.ndarray | bool | None, rounds: int) -> np.ndarray:
    """Return the log-likelihood of each round that equation 2 counts, `[B, rounds, K]`."""
    log_expert, log_task = log_tables(played.process)
    a, o = played.actions[:, :rounds], played.rewards[:, :rounds]
    marks = np.broadcast_to(played.done if done is None else done, ROUNDS)[:rounds, None]
    return log_task.transpose(1, 2, 0)[a, o] + np.where(marks, 0, log_expert.T[a])


def _normalised(played: Played, log_evidence: np.ndarray) -> np.ndarray:
    weight = np.asarray(played.process.prior) * np.exp(log_evidence - log_evidence.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def expert(process: ud.InteractionProcess) -> np.ndarray:
    """Return `Q(a | theta)`, `[K, A]`."""
    return np.exp(log_tables(process)[0])


def kl_do_see(played: Played) -> np.ndarray:
    """Return `KL(P(A | do(a), o) || P(A | a, o))` in the first `SHORT` rounds, `[B, SHORT]`, nats per action."""
    do, see = (belief(played, done=mark)[:, :-1] @ expert(played.process) for mark in (True, False))
    return (do * np.log(do / see)).sum(-1)


def kl_to_expert(played: Played) -> np.ndarray:
    """Return `KL(Q(A_t | theta) || P(A_t | m))` of the agent's predictions, `[B, ROUNDS]`, nats."""
    rows = expert(played.process)
    cross = np.einsum("bta,ba->bt", np.log(played.P_A), rows[played.theta].astype(np.float32))
    return (rows * np.log(rows)).sum(-1)[played.theta][:, None] - cross
