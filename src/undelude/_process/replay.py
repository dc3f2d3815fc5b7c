"""The states of a stored episode, computed again from its theta, actions and observations."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._tree import index, prepend, where
from undelude._types import Memory, Theta


class Replay(eqx.Module):
    """Theta and the memories of task and expert in each round of an episode.

    Attributes:
        theta: `[T + 1, ...]`, the value of Theta before each round and after the last.
        w, e: `[T + 1, ...]`, the memories of task and expert before each round and after the last: the expert's next
            action has the distribution `Q(A | theta, e)`.
        acted_w, acted_e: `[T, ...]`, the memories after the action of each round and before its observation, which has
            the distribution `Q(O | theta, acted_w)`.
    """

    theta: PyTree
    w: PyTree
    e: PyTree
    acted_w: PyTree
    acted_e: PyTree


def replay(process: InteractionProcess, episode: Episodes, *, theta: Theta | None = None) -> Replay:
    """Apply `init`, then `g_A` and `g_O` of task and expert to the actions and observations of one episode.

        w_1 = g_O(theta, o_0, init(theta)), or init(theta) without an opening
        w_(t+1) = g_O(theta, o_t, g_A(theta, a_t, w_t))    and likewise e

    After the last round that exists, the memories stay as they are.

    Args:
        process: the process of the episode.
        episode: one episode of a rollout.
        theta: a value of Theta to use in every round instead of the episode's own.
    """
    task, expert = process.task, process.expert
    rounds = jnp.arange(episode.num_rounds + 1)
    if theta is not None or process.transition is None:
        value = process.theta_value(episode.theta) if theta is None else theta
        values = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(rounds), *jnp.shape(x))), value)
    else:
        values = jax.vmap(process.theta_value)(episode.theta)
    first = index(values, 0)
    w, e = task.init(first), expert.init(first)
    if episode.opening is not None:
        w, e = task.g_O(first, episode.opening, w), expert.g_O(first, episode.opening, e)

    def step(memories: Memory, x: PyTree) -> tuple[Memory, PyTree]:
        value, a, o, exists = x
        w, e = memories
        acted_w, acted_e = task.g_A(value, a, w), expert.g_A(value, a, e)
        later = where(exists, (task.g_O(value, o, acted_w), expert.g_O(value, o, acted_e)), memories)
        return later, (*later, acted_w, acted_e)

    before = jax.tree.map(lambda x: x[:-1], values)
    _, (ws, es, acted_w, acted_e) = jax.lax.scan(
        step, (w, e), (before, episode.actions, episode.observations, episode.mask)
    )
    return Replay(values, prepend(w, ws), prepend(e, es), acted_w, acted_e)
