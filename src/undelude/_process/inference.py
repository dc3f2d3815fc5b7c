"""Exact inference over Theta: the recursion of Remark 10, equations 2 and 3. A belief is one more kind of memory.

    P(theta | do(a), o) is proportional to P(theta) prod_t Q(o_t | theta, w_t)
    P(theta | a, o)     is proportional to P(theta) prod_t Q(a_t | theta, e_t) Q(o_t | theta, w_t)

A history may mix both: an action that was seen contributes its factor, and an action that was done does not.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, PyTree

from undelude._compiled import compiled
from undelude._distributions import AbstractDistribution, mixture
from undelude._process.episodes import EXPERT, Episodes, check_symbols
from undelude._process.process import InteractionProcess, check_process
from undelude._tree import index, is_concrete, prepend, where
from undelude._types import Action, Mark, Observation

# Number of episodes in a block: on a CPU, their memories then stay in its caches.
BLOCK = 500


class Belief(eqx.Module):
    """The memory of an exact agent.

    Attributes:
        log_posterior: `[K]`, `log Q(theta | history)`, nats; normalised at every step, so that it is stable at any T.
        w, e: memories of task and expert, `[K, ...]`, or one copy if they do not depend on theta.
        impossible: whether the history holds evidence that no theta allows; the belief ignored it.
    """

    log_posterior: Float[Array, " K"]
    w: PyTree
    e: PyTree
    impossible: Bool[Array, ""]


def init(process: InteractionProcess) -> Belief:
    """Return the prior, with the memories of task and expert for every theta."""
    process.check_finite()
    return Belief(
        jax.nn.log_softmax(process.log_prior),
        _for_each_theta(process.task.init, process, process.task),
        _for_each_theta(process.expert.init, process, process.expert),
        jnp.asarray(False),
    )


def expert_distributions(process: InteractionProcess, belief: Belief) -> AbstractDistribution:
    """Return `Q(A | theta, e)` for every theta, leading axis K."""
    e_axis = None if process.expert.theta_free_memory else 0
    return jax.vmap(process.expert.Q_A, in_axes=(0, e_axis))(process.thetas, belief.e)


def task_distributions(process: InteractionProcess, belief: Belief) -> AbstractDistribution:
    """Return `Q(O | theta, w)` for every theta, leading axis K."""
    w_axis = None if process.task.theta_free_memory else 0
    return jax.vmap(process.task.Q_O, in_axes=(0, w_axis))(process.thetas, belief.w)


def predict_action(process: InteractionProcess, belief: Belief) -> AbstractDistribution:
    """Return `sum_theta Q(A | theta, e) P(theta | history)`: equation 3 if the actions in the history were done."""
    return mixture(belief.log_posterior, expert_distributions(process, belief))


def predict_observation(process: InteractionProcess, belief: Belief) -> AbstractDistribution:
    """Return `sum_theta Q(O | theta, w) P(theta | history)`."""
    return mixture(belief.log_posterior, task_distributions(process, belief))


def update_action(process: InteractionProcess, belief: Belief, a: Action, intervened: Bool[Array, ""] | bool) -> Belief:
    """Update by an action (equation 2): if seen, it is evidence about theta; if done, it is not."""
    if intervened is not True:
        log_likelihood = jax.vmap(lambda distribution: distribution.log_prob(a))(expert_distributions(process, belief))
        belief = _condition(belief, jnp.where(intervened, 0.0, log_likelihood))
    return _remember(process, belief, "g_A", a)


def update_observation(process: InteractionProcess, belief: Belief, o: Observation) -> Belief:
    """Update by an observation: Bayes' rule, then the transition of theta if the process has one (Section 3)."""
    log_likelihood = jax.vmap(lambda distribution: distribution.log_prob(o))(task_distributions(process, belief))
    belief = _remember(process, _condition(belief, log_likelihood), "g_O", o)
    if process.transition is None:
        return belief
    log_Q = jax.vmap(process.transition, in_axes=(0, None))(process.thetas, belief.w).log_probs
    log_posterior = jax.nn.logsumexp(belief.log_posterior[:, None] + log_Q, axis=0)
    return Belief(log_posterior, belief.w, belief.e, belief.impossible)


def filter(process: InteractionProcess, episode: Episodes, *, all_done: bool = False, whole: bool = False) -> Belief:
    """Return the beliefs before each round of one episode and after the last, leading axis T + 1.

    After the last round of an episode that ended early, the belief stays as it is.

    Args:
        process: with finitely many values of Theta.
        episode: one episode.
        all_done: whether all actions are known to be done, so that the expert's distributions are not needed.
        whole: whether all rounds are known to exist.
    """
    belief = init(process)
    if episode.opening is not None:
        belief = update_observation(process, belief, episode.opening)

    def round(belief: Belief, x: tuple[Action, Array, Observation, Array]) -> tuple[Belief, Belief]:
        a, intervened, o, exists = x
        later = update_action(process, belief, a, True if all_done else intervened)
        later = update_observation(process, later, o)
        belief = later if whole else where(exists, later, belief)
        return belief, belief

    _, beliefs = jax.lax.scan(round, belief, (episode.actions, episode.intervened, episode.observations, episode.mask))
    return prepend(belief, beliefs)


def posterior(
    process: InteractionProcess, episodes: Episodes, *, own_actions: Mark | None = None
) -> Float[Array, "*B T1 K"]:
    """Return `log Q(theta | history)` in nats, before each round and after the last (equation 2, Remark 10).

    Args:
        process: with finitely many values of Theta.
        episodes: a batch, or a single history (`Episodes.of(process, actions=, observations=)`). A batch that was
            spread over devices (`jax.device_put(episodes, NamedSharding(mesh, PartitionSpec(axis)))`) is processed
            there.
        own_actions: reads the actions that the expert did not execute as `"do"` or as `"see"`; by default, as
            `episodes.intervened` marks them.

    Returns:
        `[B, T + 1, K]`, or `[T + 1, K]` for a single history.

    Raises:
        ValueError: a value is outside the specs, or no theta allows the history. Under `jit`, the belief ignores
            impossible evidence instead.
        TypeError: Theta is continuous, or `process` is not an `InteractionProcess`.

    >>> import undelude as ud
    >>> process = ud.tasks.bandit(num_rounds=1)
    >>> history = ud.Episodes.of(process, actions=[2], observations=[1])
    >>> round(float(jnp.exp(ud.posterior(process, history)[-1, 2])), 3)
    0.429
    """
    check_process(process)
    episodes = reread(episodes, own_actions)
    check_symbols(process, episodes)
    all_done, whole, mesh = False, False, None
    if is_concrete(episodes):
        all_done = bool(np.asarray(episodes.intervened).all())
        whole = bool(np.asarray(episodes.mask).all())
        mesh = _mesh_of(episodes)
    if mesh is not None and not _is_within(process, mesh):
        arrays, static = eqx.partition(process, eqx.is_array)
        process = eqx.combine(jax.device_put(arrays, NamedSharding(mesh, PartitionSpec())), static)
    log_posterior, impossible = _run_filter(process, episodes, all_done, whole, mesh)
    if is_concrete(impossible) and np.asarray(impossible).any():
        *episode, after = (int(i) for i in np.argwhere(np.asarray(impossible))[0])
        place = ", ".join([*(f"episode {i}" for i in episode), f"round {after - 1}" if after else "the opening"])
        at = [*episode, after - 1]
        symbols = f"actions{at} or observations{at}" if after else f"opening{episode or ''}"
        raise ValueError(
            f"{process.name}: impossible evidence in {place} (counted from 0): no theta gives {symbols} any "
            "probability. Correct the history, or let the process allow it."
        )
    return log_posterior


def reread(episodes: Episodes, own_actions: Mark | None) -> Episodes:
    """Return the episodes with own actions marked as `own_actions` and the expert's as see; None changes nothing."""
    if own_actions is None:
        return episodes
    if own_actions not in ("do", "see"):
        raise ValueError(f'own_actions must be "do" or "see", not {own_actions!r}.')
    intervened = (episodes.executor != EXPERT) & (own_actions == "do")
    return eqx.tree_at(lambda e: e.intervened, episodes, intervened)


def _mesh_of(episodes: Episodes) -> Mesh | None:
    """Return the devices over which the episodes are spread, or None."""
    first, *others = (getattr(x, "sharding", None) for x in jax.tree.leaves((episodes.actions, episodes.observations)))
    if not isinstance(first, NamedSharding) or any(other != first for other in others):
        return None
    along = PartitionSpec(first.mesh.axis_names[0])
    return first.mesh if isinstance(first.mesh, Mesh) and first.num_devices > 1 and first.spec == along else None


def _is_within(process: InteractionProcess, mesh: Mesh) -> bool:
    """Return whether the process is on all of these devices, or JAX may copy it there."""
    devices = set(mesh.devices.flat)
    arrays = [x for x in jax.tree.leaves(process) if isinstance(x, Array)]
    return all(not x.committed or x.sharding.device_set == devices for x in arrays)


@compiled
def _run_filter(
    process: InteractionProcess, episodes: Episodes, all_done: bool, whole: bool, mesh: Mesh | None
) -> tuple[Array, Array]:
    def run(episode: Episodes) -> tuple[Array, Array]:
        # Return nothing else, so that the memories of all rounds are never stored.
        beliefs = filter(process, episode, all_done=all_done, whole=whole)
        return beliefs.log_posterior, beliefs.impossible

    def run_all(episodes: Episodes) -> tuple[Array, Array]:
        num_episodes = len(episodes.mask)
        if jax.default_backend() != "cpu":
            return jax.vmap(run)(episodes)
        num_blocks = max(1, math.ceil(num_episodes / BLOCK))
        return jax.lax.map(run, episodes, batch_size=max(1, math.ceil(num_episodes / num_blocks)))

    if not episodes.is_batch:
        return run(episodes)
    if mesh is None:
        return run_all(episodes)
    # Without shard_map, all devices would work on one block at a time.
    split = PartitionSpec(mesh.axis_names[0])
    return jax.shard_map(run_all, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)(episodes)


def _condition(belief: Belief, log_likelihood: Float[Array, " K"]) -> Belief:
    joint = belief.log_posterior + log_likelihood
    log_evidence = jax.nn.logsumexp(joint)
    # A belief is never NaN, even if a distribution of the user's is.
    impossible = ~jnp.isfinite(log_evidence)
    log_posterior = jnp.where(impossible, belief.log_posterior, joint - jnp.where(impossible, 0.0, log_evidence))
    return Belief(log_posterior, belief.w, belief.e, belief.impossible | impossible)


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
