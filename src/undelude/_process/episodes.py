"""Episodes: actions and observations, their executors, and the marks that say see or do."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Int, PyTree

from undelude._checks import MAX_COUNT, as_numbers
from undelude._process.host_world import World
from undelude._process.process import InteractionProcess
from undelude._tree import index, is_concrete
from undelude._types import Action, Observation

AGENT, EXPERT = 0, 1


class Episodes(eqx.Module):
    """Stored interactions, leading axes `(B, T)`; without the B, one episode.

    Attributes:
        theta: `[B]`, the index of Theta in `process.thetas`, or its value if Theta is continuous; with a transition
            `[B, T + 1]`, before each round and after the last.
        opening: `[B, ...]`, `O_0`, or None.
        actions: `[B, T, ...]`, executed actions.
        observations: `[B, T, ...]`.
        executor: `[B, T]`, `AGENT` (also for a behaviour policy in its place) or `EXPERT`.
        intervened: `[B, T]`, the mark of the action: true for do, false for see.
        expert: `[B, T]`, the expert's distributions `Q(A_t | theta, e_t)`; None if they are not known.
        expert_actions: `[B, T, ...]`, a sample of the expert's distribution: the executed action itself if the expert
            executed it.
        reward: `[B, T]`.
        mask: `[B, T]`, whether the round exists: false after the end of an episode that ended early.

    In a history from plain arrays (`Episodes.of`), theta and reward are None, and what was not given.
    """

    theta: PyTree
    opening: Observation | None
    actions: Action
    observations: Observation
    executor: Int[Array, "*B T"]
    intervened: Bool[Array, "*B T"]
    expert: Any
    expert_actions: Action | None
    reward: Any
    mask: Bool[Array, "*B T"]

    def _repr_html_(self) -> str | None:
        from undelude._report.notebook import of_episodes  # In a notebook alone: it needs matplotlib.

        return of_episodes(self)

    @classmethod
    def of(
        cls,
        process: World,
        *,
        actions: Action,
        observations: Observation,
        intervened: ArrayLike | Sequence[object] | bool = True,
        opening: Observation | None = None,
        mask: ArrayLike | Sequence[object] | None = None,
        expert_actions: Action | None = None,
    ) -> "Episodes":
        """Build histories from plain arrays, `[T]` or `[B, T]`, without theta, the expert's distributions and reward.

        Args:
            process: the process of the histories.
            actions: executed actions.
            observations: one for each action.
            intervened: true for own actions (do) and false for the expert's (see); broadcast.
            opening: `O_0`, if the process has one.
            mask: which rounds exist, `[T]` or `[B, T]`; all by default. Pad shorter histories with any
                symbols: they are not read.
            expert_actions: what the expert would have done in each round, if it was asked; in the rounds that the
                expert executed, the executed action.

        Raises:
            ValueError: a value is outside the spec, the opening is missing, `mask` has a gap, or a round exists after
                an observation that ends the episode.
        """
        given = {"actions": actions, "observations": observations, "opening": opening, "intervened": intervened}
        given["mask"] = True if mask is None else mask
        given["expert_actions"] = expert_actions
        given = {name: _as_symbols(f"{process.name}: {name}", x) for name, x in given.items()}
        actions, observations, opening, marks, exists, labels = given.values()
        for name, x, shape in (
            ("actions", actions, process.action_spec.value),
            ("observations", observations, process.observation_spec.value),
            ("intervened", marks, True),
        ):
            if jax.tree.structure(x) != jax.tree.structure(shape):
                raise ValueError(
                    f"{process.name}: {name} must have the structure {jax.tree.structure(shape)}, "
                    f"not {jax.tree.structure(x)}."
                )
        first, one = jax.tree.leaves(actions)[0], jax.tree.leaves(process.action_spec.value)[0]
        lead = first.shape[: first.ndim - one.ndim]
        if len(lead) not in (1, 2):
            raise ValueError(f"{process.name}: actions must be [T] or [B, T], not {list(first.shape)}.")
        if marks.dtype != bool or marks.shape not in ((), lead[1:], lead):
            raise ValueError(
                f"{process.name}: intervened must be booleans (true for do, false for see) "
                f"of shape {list(lead)} or for all alike, not {marks.dtype}{list(marks.shape)}."
            )
        if exists.dtype != bool or exists.shape not in ((), lead[1:], lead):
            raise ValueError(
                f"{process.name}: mask must be booleans (true for the rounds that exist) of shape {list(lead)}, "
                f"not {exists.dtype}{list(exists.shape)}."
            )
        marks = jnp.broadcast_to(marks, lead)
        episodes = cls(
            theta=None,
            opening=opening,
            actions=actions,
            observations=observations,
            executor=jnp.where(marks, AGENT, EXPERT),
            intervened=marks,
            expert=None,
            expert_actions=labels,
            reward=None,
            mask=jnp.broadcast_to(exists, lead),
        )
        check_symbols(process, episodes)
        if isinstance(process, InteractionProcess):
            _check_ends(process, episodes)
        return episodes

    @property
    def is_batch(self) -> bool:
        """Whether the arrays have a batch axis."""
        return self.mask.ndim == 2

    @property
    def num_rounds(self) -> int:
        """`T`."""
        return self.mask.shape[-1]


def _check_ends(process: InteractionProcess, episodes: Episodes) -> None:
    """Raise `ValueError` if a round exists after an observation that ends the episode."""
    if not process.ends_early or not is_concrete((episodes.observations, episodes.mask)):
        return
    ends = process.task.ends
    for _ in episodes.mask.shape:
        ends = jax.vmap(ends)
    if (np.asarray(ends(episodes.observations))[..., :-1] & np.asarray(episodes.mask)[..., 1:]).any():
        raise ValueError(
            f"{process.name}: rounds follow an observation that ends the episode; give mask=, false for those rounds."
        )


def check_symbols(process: World, episodes: Episodes) -> None:
    """Raise `ValueError` if stored values have the wrong shape or are outside the specs of the process."""
    lead = episodes.mask.shape
    action, observation = process.specs
    parts = [("actions", action, episodes.actions, lead), ("observations", observation, episodes.observations, lead)]
    if episodes.opening is not None:
        parts.append(("opening", observation, episodes.opening, lead[:-1]))
    if (episodes.opening is not None) != process.opening:
        raise ValueError(
            f"{process.name} {'opens' if process.opening else 'does not open'} with an observation, "
            f"but these episodes {'have' if episodes.opening is not None else 'lack'} one (opening=)."
        )
    exists = np.asarray(episodes.mask) if is_concrete(episodes.mask) else None
    if exists is not None and (exists[..., 1:] > exists[..., :-1]).any():
        raise ValueError(
            f"{process.name}: mask is false before a round that exists; only the last rounds may be missing."
        )
    if episodes.expert_actions is not None:
        parts.append(("expert_actions", action, episodes.expert_actions, lead))
    for name, spec, values, lead in parts:
        expected = jax.tree.map(lambda x, lead=lead: lead + x.shape, spec.value)
        shapes = jax.tree.map(jnp.shape, values)
        if shapes != expected:
            raise ValueError(f"{process.name}: {name} must have the shape {expected}, not {shapes}.")
        if is_concrete(values) and exists is not None and name != "opening" and not exists.all():
            values = jax.tree.map(lambda x: np.asarray(x)[exists], values)
        spec.check(f"{process.name}: {name}", values)


def _as_symbols(name: str, x: PyTree) -> PyTree:
    """Return each leaf, or list, as an array; raise `ValueError` if JAX cannot hold its numbers."""

    def as_array(x: Any) -> Array:
        if not is_concrete(x):
            return jnp.asarray(x)
        array = as_numbers(x, name)
        if (
            np.issubdtype(array.dtype, np.integer)
            and array.size
            and max(-int(array.min()), int(array.max())) > MAX_COUNT
        ):
            raise ValueError(f"{name} must be integers of 32 bits, not from {array.min()} to {array.max()}.")
        return jnp.asarray(array)

    return jax.tree.map(as_array, x, is_leaf=lambda x: isinstance(x, list))


def one_of(episodes: Episodes, episode: int, *, name: str, to: str) -> Episodes:
    """Return one episode of a rollout.

    Args:
        episodes: of a rollout; if it is a single episode, that one.
        episode: its index in a batch.
        name: of the process, for messages.
        to: what is to be done with it, for messages.

    Raises:
        ValueError: the index is out of range, or the episodes are histories without theta.
    """
    if episodes.theta is None:
        raise ValueError(f"{name}: these histories have no theta; {to} the episodes of a rollout instead.")
    if not episodes.is_batch:
        return episodes
    if not 0 <= episode < len(episodes.mask):
        raise ValueError(f"{name}: episode must be from 0 to {len(episodes.mask) - 1}, the last one, not {episode}.")
    return index(episodes, episode)
