"""Episodes, and the one rollout that samples them: the interaction of agent, expert and task (Figure 4)."""

from typing import Any, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PyTree

from undelude._checks import is_concrete
from undelude.agent import AbstractAgent, check_mark
from undelude.distributions import AbstractDistribution, Categorical
from undelude.process import Action, InteractionProcess, Observation

AGENT, EXPERT = 0, 1


class Episodes(eqx.Module):
    """Stored interactions, leading axes `(B, T)`; without the B, one episode.

    Attributes:
        theta: `[B]`, the index of Theta in `process.thetas` (`[B, T]` with a transition); its value where continuous.
        opening: `[B, ...]`, `O_0`, or None.
        actions: `[B, T, ...]`, what was executed.
        observations: `[B, T, ...]`, what Nature answered.
        executor: `[B, T]`, who executed: `AGENT` or `EXPERT`.
        intervened: `[B, T]`, the mark under which the action is read: do where true, see where false.
        expert: `[B, T]`, the expert's laws `Q(A_t | theta, e_t)`.
        expert_actions: `[B, T, ...]`, what the expert would have done: a sample of it (the executed action itself,
            where the expert executed).
        reward: `[B, T]`.
        mask: `[B, T]`, whether the round exists.
    """

    theta: PyTree
    opening: Observation | None
    actions: Action
    observations: Observation
    executor: Int[Array, "*B T"]
    intervened: Bool[Array, "*B T"]
    expert: AbstractDistribution | None
    expert_actions: Action | None
    reward: Float[Array, "*B T"] | None
    mask: Bool[Array, "*B T"]

    @classmethod
    def of(
        cls,
        process: InteractionProcess,
        *,
        actions: ArrayLike | list,
        observations: ArrayLike | list,
        intervened: ArrayLike | list | bool = True,
        opening: ArrayLike | None = None,
    ) -> Self:
        """Histories from plain arrays, `[T]` or `[B, T]`: what was done and seen, and nothing else.

        Args:
            process: where they come from.
            actions: what was executed.
            observations: what Nature answered.
            intervened: which actions were own ones (do) and which the expert's (see); broadcast.
            opening: `O_0`, where the process has one.

        Raises:
            ValueError: a symbol outside the alphabet, a missing opening.
        """
        actions, observations = jnp.asarray(actions), jnp.asarray(observations)
        marks = jnp.broadcast_to(jnp.asarray(intervened, dtype=bool), actions.shape)
        episodes = cls(
            theta=None,
            opening=None if opening is None else jnp.asarray(opening),
            actions=actions,
            observations=observations,
            executor=jnp.where(marks, AGENT, EXPERT),
            intervened=marks,
            expert=None,
            expert_actions=None,
            reward=None,
            mask=jnp.ones_like(marks),
        )
        check_symbols(process, episodes)
        return episodes

    @property
    def is_batch(self) -> bool:
        """Whether there is a batch axis before the rounds."""
        return self.mask.ndim == 2

    @property
    def num_rounds(self) -> int:
        """`T`."""
        return self.mask.shape[-1]


def rollout(
    process: InteractionProcess,
    agent: AbstractAgent | None,
    *,
    key: Key[Array, ""],
    num_episodes: int,
    num_rounds: int | None = None,
    executor: Literal["agent", "expert"] = "agent",
    theta: int | None = None,
) -> Episodes:
    """Let `agent` live through `num_episodes` episodes, in one compiled scan.

    Args:
        process: where it lives.
        agent: who acts; None will do where the expert executes.
        key: episode i draws from `fold_in(key, i)`.
        num_episodes: B.
        num_rounds: T; the process's own by default.
        executor: who executes. The agent's own actions are marked as it reads them (`agent.own_actions`), the
            expert's are marked see, as they truly are.
        theta: fix the index of Theta for all episodes.

    Returns:
        `Episodes`, leading axes `(B, T)`.

    Raises:
        ValueError: the agent cannot read its own marks; theta is outside the support.
    """
    if executor not in ("agent", "expert"):
        raise ValueError(f'executor must be "agent" or "expert", not {executor!r}.')
    if executor == "agent":
        if agent is None:
            raise ValueError('rollout needs an agent to act; without one, let the expert: executor="expert".')
        check_mark(agent, agent.own_actions)
    if num_episodes < 1:
        raise ValueError(f"num_episodes must be at least 1, not {num_episodes}.")
    if theta is not None and not (process.finite and 0 <= theta < process.num_thetas):
        support = f"an index from 0 to {process.num_thetas - 1}" if process.finite else "drawn, as Theta is continuous"
        raise ValueError(f"{process.name}: theta={theta} is outside the support; it is {support}.")
    return _rollout(process, agent, key, jnp.arange(num_episodes), num_rounds or process.num_rounds, executor, theta)


def check_symbols(process: InteractionProcess, episodes: Episodes) -> None:
    """Raise `ValueError` where a stored symbol is outside its alphabet."""
    parts = [("actions", process.action_law, episodes.actions), ("observations", process.observation_law, episodes.observations)]
    if episodes.opening is not None:
        parts.append(("opening", process.observation_law, episodes.opening))
    if (episodes.opening is not None) != process.opening:
        raise ValueError(
            f"{process.name} {'opens' if process.opening else 'does not open'} with an observation, "
            f"but these episodes {'have' if episodes.opening is not None else 'lack'} one (opening=)."
        )
    for name, law, values in parts:
        if not isinstance(law, Categorical) or not is_concrete(values):
            continue
        values = np.asarray(values)
        if not np.issubdtype(values.dtype, np.integer) or values.size and (values.min() < 0 or values.max() >= law.num_categories):
            raise ValueError(
                f"{process.name}: {name} must be integers from 0 to {law.num_categories - 1}, "
                f"not {values.dtype} from {values.min()} to {values.max()}."
            )


@eqx.filter_jit
def _rollout(
    process: InteractionProcess, agent: AbstractAgent | None, key: Array, ids: Array, num_rounds: int, executor: str, theta: Any
) -> Episodes:
    def one(i: Array) -> Episodes:
        return episode(process, agent, jax.random.fold_in(key, i), num_rounds=num_rounds, executor=executor, theta=theta)

    return jax.vmap(one)(ids)


def episode(
    process: InteractionProcess,
    agent: AbstractAgent | None,
    key: Key[Array, ""],
    *,
    num_rounds: int,
    executor: str,
    theta: PyTree | None = None,
) -> Episodes:
    """One episode, traced: Figure 4 without its losses. No gradient ever flows through what is sampled here."""
    task, expert = process.task, process.expert
    key_theta, key_opening, key_rounds = jax.random.split(key, 3)
    theta = process.sample_theta(key_theta) if theta is None else jnp.asarray(theta, jnp.int32)
    value = process.theta_value(theta)
    w, e = task.init(value), expert.init(value)
    # Where the expert executes, nobody asks the agent: `unroll` has it read the episode afterwards.
    acting = agent is not None and executor == "agent"
    m = agent.init(num_rounds=num_rounds) if acting else None

    opening = None
    if process.opening:
        opening = task.Q_O(value, w).sample(key_opening)
        w, e, m = task.g_O(value, opening, w), expert.g_O(value, opening, e), agent.g_O(opening, m) if acting else None
        theta = _next_theta(process, theta, w, jax.random.fold_in(key_opening, 1))

    intervened = acting and agent.own_actions == "do"

    def round(carry: tuple[Any, Any, Any, Any], key: Array) -> tuple[tuple[Any, Any, Any, Any], tuple[Any, ...]]:
        theta, w, e, m = carry
        key_act, key_expert, key_observe, key_theta = jax.random.split(key, 4)
        value = process.theta_value(theta)
        Q_A = expert.Q_A(value, e)
        a_bar = Q_A.sample(key_expert)
        a, m = agent.act(m, key=key_act) if acting else (a_bar, None)
        w, e, m = task.g_A(value, a, w), expert.g_A(value, a, e), agent.g_A(a, m, intervened=intervened) if acting else None
        o = task.Q_O(value, w).sample(key_observe)
        reward = jnp.asarray(task.reward(value, w, a, o), dtype=float)
        w, e, m = task.g_O(value, o, w), expert.g_O(value, o, e), agent.g_O(o, m) if acting else None
        later = _next_theta(process, theta, w, key_theta)
        return (later, w, e, m), (theta, a, o, Q_A, a_bar, reward)

    _, (path, actions, observations, Q_A, a_bar, reward) = jax.lax.scan(
        round, (theta, w, e, m), jax.random.split(key_rounds, num_rounds)
    )
    episode = Episodes(
        theta=theta if process.transition is None else path,
        opening=opening,
        actions=actions,
        observations=observations,
        executor=jnp.full(num_rounds, AGENT if acting else EXPERT),
        intervened=jnp.full(num_rounds, intervened),
        expert=Q_A,
        expert_actions=a_bar,
        reward=reward,
        mask=jnp.ones(num_rounds, dtype=bool),
    )
    return jax.lax.stop_gradient(episode)


def _next_theta(process: InteractionProcess, theta: PyTree, w: PyTree, key: Array) -> PyTree:
    if process.transition is None:
        return theta
    return process.transition(process.theta_value(theta), w).sample(key)
