"""Exact inference over Theta: the recursion of Remark 10, equations 2 and 3. Exact inference is one more memory.

    P(theta | do(a), o) is proportional to P(theta) prod_t Q(o_t | theta, w_t)
    P(theta | a, o)     is proportional to P(theta) prod_t Q(a_t | theta, e_t) Q(o_t | theta, w_t)

A history may mix both: the factor of an action is there where it was seen, and absent where it was done.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from undelude._checks import is_concrete
from undelude.agent import Mark, prepend
from undelude.distributions import AbstractDistribution, index, mixture
from undelude.process import Action, InteractionProcess, Observation
from undelude.rollout import EXPERT, Episodes, check_symbols


class Belief(eqx.Module):
    """What an exact agent remembers.

    Attributes:
        log_posterior: `[K]`, `log Q(theta | history)`, nats; normalised at every step, so that it is stable at any T.
            Of many episodes side by side, `[K, B]`.
        w, e: memories of task and expert, `[K, ...]`, or one copy where they do not depend on theta.
        impossible: whether something happened that no theta allows; the belief then stayed as it was.
    """

    log_posterior: Float[Array, "K *B"]
    w: PyTree
    e: PyTree
    impossible: Bool[Array, "*B"]


def init(process: InteractionProcess) -> Belief:
    """The prior, with the memories of task and expert for every theta."""
    process.check_finite()
    return Belief(
        jax.nn.log_softmax(process.log_prior),
        _for_each_theta(process.task.init, process, process.task),
        _for_each_theta(process.expert.init, process, process.expert),
        jnp.asarray(False),
    )


def expert_laws(process: InteractionProcess, belief: Belief) -> AbstractDistribution:
    """`Q(A | theta, e)` for every theta, leading axis K."""
    e_axis = None if process.expert.theta_free_memory else 0
    return jax.vmap(process.expert.Q_A, in_axes=(0, e_axis))(process.thetas, belief.e)


def task_laws(process: InteractionProcess, belief: Belief) -> AbstractDistribution:
    """`Q(O | theta, w)` for every theta, leading axis K."""
    w_axis = None if process.task.theta_free_memory else 0
    return jax.vmap(process.task.Q_O, in_axes=(0, w_axis))(process.thetas, belief.w)


def predict_action(process: InteractionProcess, belief: Belief) -> AbstractDistribution:
    """`sum_theta Q(A | theta, e) P(theta | history)`: equation 3 where the history's actions were done."""
    return mixture(belief.log_posterior, expert_laws(process, belief))


def predict_observation(process: InteractionProcess, belief: Belief) -> AbstractDistribution:
    """`sum_theta Q(O | theta, w) P(theta | history)`."""
    return mixture(belief.log_posterior, task_laws(process, belief))


def update_action(
    process: InteractionProcess, belief: Belief, a: Action, intervened: Bool[Array, "*B"] | bool
) -> Belief:
    """Equation 2: an action that was seen is evidence about theta, one that was done is not."""
    if intervened is not True:
        log_likelihood = jax.vmap(lambda law: law.log_prob(a))(expert_laws(process, belief))
        belief = _condition(belief, jnp.where(jnp.asarray(intervened)[None], 0.0, log_likelihood))
    return _remember(process, belief, "g_A", a)


def update_observation(process: InteractionProcess, belief: Belief, o: Observation) -> Belief:
    """Bayes' rule, and the draw of the next theta where the process has a transition (Section 3)."""
    log_likelihood = jax.vmap(lambda law: law.log_prob(o))(task_laws(process, belief))
    belief = _remember(process, _condition(belief, log_likelihood), "g_O", o)
    if process.transition is None:
        return belief
    log_Q = jax.vmap(process.transition, in_axes=(0, None))(process.thetas, belief.w).log_probs
    log_posterior = jax.nn.logsumexp(belief.log_posterior[:, None] + log_Q, axis=0)
    return Belief(log_posterior, belief.w, belief.e, belief.impossible)


def filter(
    process: InteractionProcess, episode: Episodes, *, all_done: bool = False, belief: Belief | None = None
) -> Belief:
    """The belief before each round of one episode and after its last: a `Belief` with a leading axis of T + 1.

    Where it is known beforehand that all actions were done, `all_done` spares the expert's laws. It begins from
    `belief`, by default `init(process)`.
    """
    belief = init(process) if belief is None else belief
    if episode.opening is not None:
        belief = update_observation(process, belief, episode.opening)

    def round(belief: Belief, x: tuple[Action, Array, Observation]) -> tuple[Belief, Belief]:
        a, intervened, o = x
        belief = update_action(process, belief, a, True if all_done else intervened)
        belief = update_observation(process, belief, o)
        return belief, belief

    _, beliefs = jax.lax.scan(round, belief, (episode.actions, episode.intervened, episode.observations))
    return prepend(belief, beliefs)


def posterior(
    process: InteractionProcess, episodes: Episodes, *, own_actions: Mark | None = None
) -> Float[Array, "*B T1 K"]:
    """`log Q(theta | history)` in nats, before each round and after the last (equation 2, Remark 10).

    Args:
        process: with finitely many values of Theta.
        episodes: a batch, or a single history (`Episodes.of(process, actions=, observations=)`).
        own_actions: read the actions that the expert did not execute as `"do"` or as `"see"`; by default, as
            `episodes.intervened` has them.

    Returns:
        `[B, T + 1, K]`, or `[T + 1, K]` for a single history.

    Raises:
        ValueError: a symbol outside its alphabet; a history that no theta allows (not under `jit`, where the belief
            stays as it was before the impossible evidence).

    >>> import undelude as ud
    >>> process = ud.tasks.bandit(num_rounds=1)
    >>> history = ud.Episodes.of(process, actions=[2], observations=[1])
    >>> round(float(jnp.exp(ud.posterior(process, history)[-1, 2])), 3)
    0.429
    """
    episodes = reread(episodes, own_actions)
    check_symbols(process, episodes)
    all_done = is_concrete(episodes.intervened) and bool(episodes.intervened.all())
    log_posterior, impossible = _run_filter(process, episodes, all_done)
    if is_concrete(impossible) and bool(impossible.any()):
        *episode, after = (int(i) for i in np.argwhere(np.asarray(impossible))[0])
        where = ", ".join([*(f"episode {i}" for i in episode), f"round {after - 1}" if after else "the opening"])
        at = [*episode, after - 1]
        symbols = f"actions{at} or observations{at}" if after else f"opening{episode or ''}"
        raise ValueError(
            f"{process.name}: impossible evidence in {where} (counted from 0): no theta gives {symbols} any "
            "probability. Correct the history, or let the process allow it."
        )
    return log_posterior


def reread(episodes: Episodes, own_actions: Mark | None) -> Episodes:
    """The same episodes with the marks that an agent would put who reads its own actions so."""
    if own_actions is None:
        return episodes
    if own_actions not in ("do", "see"):
        raise ValueError(f'own_actions must be "do" or "see", not {own_actions!r}.')
    intervened = (episodes.executor != EXPERT) & (own_actions == "do")
    return eqx.tree_at(lambda e: e.intervened, episodes, intervened)


@eqx.filter_jit
def _run_filter(process: InteractionProcess, episodes: Episodes, all_done: bool) -> tuple[Array, Array]:
    def run(process: InteractionProcess, episode: Episodes, belief: Belief | None) -> tuple[Array, Array]:
        # Only these leave the program, so that the memories of all rounds are never laid down.
        beliefs = filter(process, episode, all_done=all_done, belief=belief)
        return beliefs.log_posterior, beliefs.impossible

    if not episodes.is_batch:
        return run(process, episodes, None)
    if process.transition is not None:
        return jax.vmap(run, in_axes=(None, 0, None))(process, episodes, None)
    log_posterior, impossible = run(*_side_by_side(process, episodes))
    return jnp.moveaxis(log_posterior, -1, 0), jnp.moveaxis(impossible, -1, 0)


def _side_by_side(process: InteractionProcess, episodes: Episodes) -> tuple[InteractionProcess, Episodes, Belief]:
    """The process for a batch as if for one history, whose symbols are those of all; a belief is then `[K, B]`.

    `jax.vmap` over episodes would put them first, `[B, K]`, and what runs along a handful of thetas fills no vector
    register of the machine.
    """
    num_episodes = len(episodes.mask)
    parts = _Each(process.task, num_episodes), _Each(process.expert, num_episodes)
    history = (episodes.actions, episodes.observations, episodes.intervened)
    history = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), history)
    process = eqx.tree_at(lambda p: (p.task, p.expert), process, parts)
    episode = eqx.tree_at(lambda e: (e.actions, e.observations, e.intervened), episodes, history)
    belief = init(process)
    log_posterior = jnp.broadcast_to(belief.log_posterior[:, None], (process.num_thetas, num_episodes))
    return process, episode, Belief(log_posterior, belief.w, belief.e, jnp.zeros(num_episodes, bool))


class _Laws(AbstractDistribution):
    """A law in each episode; all it answers is `[B]`."""

    each: AbstractDistribution

    def sample(self, key: Any) -> PyTree:
        return jax.vmap(lambda law, key: law.sample(key))(self.each, key)

    def log_prob(self, x: PyTree) -> Array:
        return jax.vmap(lambda law, x: law.log_prob(x))(self.each, x)

    def entropy(self) -> Array:
        return jax.vmap(lambda law: law.entropy())(self.each)


class _Each(eqx.Module):
    """A task or an expert in all episodes, whose memories and symbols have a leading axis `B`."""

    part: Any
    num_episodes: int = eqx.field(static=True)

    @property
    def theta_free_memory(self) -> bool:
        return self.part.theta_free_memory

    def init(self, theta: PyTree) -> PyTree:
        memory = self.part.init(theta)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (self.num_episodes, *jnp.shape(x))), memory)

    def Q_A(self, theta: PyTree, e: PyTree) -> _Laws:
        return _Laws(jax.vmap(self.part.Q_A, in_axes=(None, 0), axis_size=self.num_episodes)(theta, e))

    def Q_O(self, theta: PyTree, w: PyTree) -> _Laws:
        return _Laws(jax.vmap(self.part.Q_O, in_axes=(None, 0), axis_size=self.num_episodes)(theta, w))

    def g_A(self, theta: PyTree, a: Action, memory: PyTree) -> PyTree:
        return jax.vmap(self.part.g_A, in_axes=(None, 0, 0))(theta, a, memory)

    def g_O(self, theta: PyTree, o: Observation, memory: PyTree) -> PyTree:
        return jax.vmap(self.part.g_O, in_axes=(None, 0, 0))(theta, o, memory)


def _condition(belief: Belief, log_likelihood: Float[Array, "K *B"]) -> Belief:
    joint = belief.log_posterior + log_likelihood
    top = joint.max(0, keepdims=True)
    # Also where a law of the user's went wrong: a belief is never NaN.
    impossible = ~jnp.isfinite(top)
    joint = joint - jnp.where(impossible, 0.0, top)
    log_posterior = joint - jnp.log(jnp.exp(joint).sum(0, keepdims=True))
    log_posterior = jnp.where(impossible, belief.log_posterior, log_posterior)
    return Belief(log_posterior, belief.w, belief.e, belief.impossible | impossible[0])


def _remember(process: InteractionProcess, belief: Belief, g: str, x: PyTree) -> Belief:
    memories = []
    for part, memory in ((process.task, belief.w), (process.expert, belief.e)):
        step = getattr(part, g)
        if part.theta_free_memory:
            memories.append(step(index(process.thetas, 0), x, memory))
        else:
            memories.append(jax.vmap(step, in_axes=(0, None, 0))(process.thetas, x, memory))
    return Belief(belief.log_posterior, memories[0], memories[1], belief.impossible)


def _for_each_theta(init: Any, process: InteractionProcess, part: Any) -> PyTree:
    return init(index(process.thetas, 0)) if part.theta_free_memory else jax.vmap(init)(process.thetas)
