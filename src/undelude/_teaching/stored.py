"""Teaching from stored episodes in place of fresh ones: what they support, and the batch of each update."""

import dataclasses
import functools
import hashlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Key, PyTree

from undelude._checks import one_line
from undelude._process.episodes import AGENT, EXPERT, Episodes, check_symbols
from undelude._process.host_world import World
from undelude._teaching.settings import Teaching

# How far the expert's share in the data may be from that of a teaching whose answer depends on it.
SHARE_TOLERANCE = 0.05


class StoredEpisodes:
    """Episodes to learn from, checked, padded to the rounds of the world, and marked as a teaching marks them.

    Args:
        world: in which they were played.
        teaching: that learns from them.
        data: a batch of episodes.
        batch_size: episodes per update.

    Attributes:
        episodes: in NumPy, `[N, T]`.
        masked: whether some rounds do not exist.

    Raises:
        TypeError: `data` is not `ud.Episodes`.
        ValueError: the episodes are of another world, hold numbers that are not finite, are fewer than a batch, or do
            not support the teaching; the message says why.
    """

    def __init__(self, world: World, teaching: Teaching, data: Episodes, batch_size: int):
        if not isinstance(data, Episodes):
            raise TypeError(
                f"data must be ud.Episodes, such as of ud.rollout, ud.Episodes.of or undelude.gym.from_minari, "
                f"not {one_line(repr(data))}."
            )
        if not data.is_batch:
            raise ValueError("data is one episode: give a batch of them, with a leading axis.")
        data = jax.tree.map(np.asarray, data)
        self.num_episodes, num_rounds = data.mask.shape
        if self.num_episodes < batch_size:
            raise ValueError(
                f"data has {self.num_episodes} episodes, fewer than batch_size={batch_size}: lower batch_size."
            )
        if num_rounds > world.num_rounds:
            raise ValueError(f"data has {num_rounds} rounds, more than the {world.num_rounds} of {world.name}.")
        check_symbols(world, data)
        if not data.mask[:, 0].all():
            raise ValueError(f"episode {int(np.argmin(data.mask[:, 0]))} of data has no round: leave it out.")
        data = _with_labels(teaching, data)
        _check_support(teaching, data)
        _check_labels(data)
        _check_finite(data)
        marks = teaching.expert_mark == "do", teaching.agent_mark == "do"
        data = dataclasses.replace(data, intervened=np.where(data.executor == EXPERT, *marks))
        self.masked = num_rounds < world.num_rounds or not data.mask.all()
        self.episodes = _pad(data, world.num_rounds) if self.masked else data
        self.batch_size = batch_size

    def batch(self, key: Key[Array, ""], update: int, rows: Int[np.ndarray, " n"] | None = None) -> Episodes:
        """Return the episodes of an update, drawn without replacement by `fold_in(key, update)`; `rows` of them."""
        ids = np.asarray(_draw(key, update, self.num_episodes, self.batch_size))
        ids = ids if rows is None else ids[rows]
        return jax.tree.map(lambda x: x[ids], self.episodes)

    def digest(self) -> str:
        """Return a text that depends on all numbers of the episodes."""
        total = hashlib.sha256()
        for x in jax.tree.leaves(self.episodes):
            total.update(f"{x.shape}{x.dtype}".encode() + x.tobytes())
        return total.hexdigest()


@functools.partial(jax.jit, static_argnums=(2, 3))
def _draw(key: Array, update: int, num_episodes: int, batch_size: int) -> Array:
    return jax.random.choice(jax.random.fold_in(key, update), num_episodes, (batch_size,), replace=False)


def _with_labels(teaching: Teaching, data: Episodes) -> Episodes:
    """Return the episodes with what is learned from; an action that the expert executed is its own label."""
    # Theta and rewards are not learned from, and may be of any form.
    executor: Any = np.where(data.mask, data.executor, data.executor[:, :1])
    data = dataclasses.replace(data, theta=None, reward=None, executor=executor)
    if data.expert_actions is None and ((executor == EXPERT).all() or teaching.action_weight == 0):
        data = dataclasses.replace(data, expert_actions=data.actions)
    return data


def _check_support(teaching: Teaching, data: Episodes) -> None:
    """Raise `ValueError` unless the executors of the actions are those of the teaching, and its labels are there."""
    name, mask = teaching.name, data.mask
    by_expert = data.executor == EXPERT
    if not np.isin(data.executor, (AGENT, EXPERT)).all():
        raise ValueError(f"data: executor must be {AGENT} (agent) or {EXPERT} (expert) in each round.")
    share = float(by_expert[mask].mean())
    if teaching.expert_share == 1 and share < 1:
        raise ValueError(
            f"{name} teaching learns from the expert's actions, and the agent executed {1 - share:.0%} of those in "
            "data: leave its episodes out, or use a teaching of both, such as ud.Mixed(), if the expert labelled them."
        )
    if teaching.expert_share == 0 and share > 0:
        whose = "all actions" if share == 1 else f"{share:.0%} of the actions"
        raise ValueError(
            f"{name} teaching needs actions of a party that is not shown theta, with the expert's label at each of "
            f"them, and in data {whose} are the expert's own. They say nothing about what follows do(a): no marks make "
            "interventions of them. They support ud.Factual() and ud.Cloning(), whose agents are deluded when they "
            "act; with undelude.offline a declared model of the process may identify the answer (Section 4.2)."
        )
    if 0 < teaching.expert_share < 1 and not teaching.is_marked:
        if abs(share - teaching.expert_share) > SHARE_TOLERANCE:
            raise ValueError(
                f"{name}: the answer that is learned depends on the expert's share, which is {share:.2f} in data and "
                f"not {teaching.expert_share:g}: give expert_share={share:.2f}."
            )
        per = "episode" if _constant(by_expert, mask).all() else "step"
        if per != teaching.per and mask.shape[1] > 1:
            raise ValueError(
                f"{name}: in data the executor was drawn per {per}, and the answer that is learned depends on it: "
                f'give per="{per}".'
            )
    if teaching.action_weight == 0:
        return
    if data.expert is None and teaching.target == "reverse":
        raise ValueError(f'{name}: target="{teaching.target}" needs the expert\'s distributions, which data lacks.')
    if data.expert is None and data.expert_actions is None:
        raise ValueError(
            f"{name} teaching needs the expert's label at each action of the agent, `expert_actions` or `expert`, and "
            "data has neither. Ask an expert who knows theta for them (ud.rollout, or ud.Episodes.of("
            "expert_actions=)); without one, see undelude.offline (Section 4.2)."
        )
    if data.expert is not None and data.expert_actions is None:
        raise ValueError("data has the expert's distributions, but no sample of each: give expert_actions=.")


def _check_labels(data: Episodes) -> None:
    """Raise `ValueError` if labels contradict who acted."""
    if data.expert_actions is None:
        return
    same = _same(data.actions, data.expert_actions)
    own, mask = data.executor == AGENT, data.mask
    if not same[mask & ~own].all():
        i, t = np.argwhere(mask & ~own & ~same)[0]
        raise ValueError(
            f"data: the expert executed the action of round {t} of episode {i}, but its label is another action."
        )
    if data.expert is None and (own & mask).any() and same[own & mask].all():
        raise ValueError(
            "data: in every round of the agent the expert's label is the executed action itself, so that these are the "
            "expert's own actions: mark them so (executor EXPERT; intervened=False in ud.Episodes.of), and use "
            "ud.Factual() or ud.Cloning(). No label of an expert who was asked would always agree."
        )


def _same(x: PyTree, y: PyTree) -> np.ndarray:
    """Return `[N, T]`, where two actions are equal up to rounding."""
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    each = [np.isclose(a, b, rtol=1e-5, atol=1e-6).reshape(*a.shape[:2], -1).all(-1) for a, b in pairs]
    return np.logical_and.reduce(each)


def _constant(x: Any, mask: Any) -> np.ndarray:
    """Return for which rows `x` has one value in the rounds that exist."""
    return ((x == x[:, :1]) | ~mask).all(1)


def _check_finite(data: Episodes) -> None:
    """Raise `ValueError` if a number in a round that exists is not finite; log-probabilities may be -inf."""
    for name in ("opening", "actions", "observations", "expert_actions", "expert"):
        for x in jax.tree.leaves(getattr(data, name)):
            if not np.issubdtype(x.dtype, np.floating):
                continue
            bad = np.isnan(x) if name == "expert" else ~np.isfinite(x)
            bad = bad.reshape(len(x), -1).any(1) if name == "opening" else bad.reshape(*data.mask.shape, -1).any(-1)
            where = np.argwhere(bad if name == "opening" else bad & data.mask)
            if len(where):
                at = f"episode {where[0][0]}" + ("" if name == "opening" else f", round {where[0][1]}")
                raise ValueError(f"data: {name} must be finite numbers, but those of {at} are not.")


def _pad(data: Episodes, num_rounds: int) -> Episodes:
    """Return the episodes with `num_rounds` rounds; those that do not exist repeat the last one that does.

    Any numbers would do if they are finite: a loss that is masked still passes its NaN to the gradient.
    """
    N = len(data.mask)
    lengths = data.mask.sum(1)
    at = np.arange(N)[:, None], np.minimum(np.arange(num_rounds), lengths[:, None] - 1)
    padded = jax.tree.map(lambda x: x[at], dataclasses.replace(data, opening=None))
    mask: Any = np.arange(num_rounds) < lengths[:, None]
    return dataclasses.replace(padded, opening=data.opening, mask=mask)
