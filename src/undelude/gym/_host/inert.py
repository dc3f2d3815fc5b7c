"""Pairs of actions to which a simulator gives the same answer, whatever the context."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Int

from undelude._process.episodes import Episodes
from undelude._types import Action
from undelude.gym._host.slots import Slot
from undelude.gym._host.spaces import leaves_of, to_actions

if TYPE_CHECKING:
    from undelude.gym.host_world import HostWorld

# With how many seeds two actions must have the same effect under each context, of at most `TRIES` times as many: some
# episodes may end before. More contexts than `MAX_CONTEXTS` are not tried.
SEEDS, TRIES, MAX_CONTEXTS = 8, 3, 64
# Between seeds: a prime, so that they are not those of the next episodes of a lifetime.
STRIDE = 7919


def without_effect(
    world: "HostWorld",
    spare: Slot,
    episodes: Episodes,
    rounds: Int[np.ndarray, " B"],
    others: Action,
    seeds: Any,
    most: int,
) -> tuple[list[int], Action]:
    """Return the episodes in which another action has the effect of the one that was played, and those actions."""
    actions = jax.tree.map(np.asarray, episodes.actions)
    played = jax.tree.map(lambda x: x[np.arange(len(rounds)), rounds], actions)
    others = _beyond(world, played, jax.tree.map(np.asarray, others))
    rows = np.arange(len(rounds))
    pairs = zip(*(to_actions(world.action_space, x, rows) for x in (played, others)), strict=True)
    thetas = np.asarray(episodes.theta)
    found = []
    for i, (a, other) in enumerate(pairs):
        if len(found) == most:
            break
        if all(jax.tree.leaves(jax.tree.map(lambda x, y, i=i: (x[i] == y[i]).all(), played, others))):
            continue
        before = jax.tree.map(lambda x, i=i: x[i, : rounds[i]], actions)
        before = to_actions(world.action_space, before, np.arange(rounds[i]))
        if _equal(a, other) or _same_effect(world, spare, before, a, other, int(thetas[i]), int(seeds[i])):
            found.append(i)
    return found, others


def _same_effect(world: "HostWorld", spare: Slot, before: list[Any], a: Any, other: Any, theta: int, seed: int) -> bool:
    """Whether the world answers the same to two actions, under all contexts that are possible, with several seeds.

    Other contexts tell an action without effect from one whose effect shows under another theta, and other seeds from
    one whose effect happened to be the same. An episode that ends before these actions tells nothing.
    """
    possible = [k for k in range(world.num_thetas) if world.prior[k] > 0 and k != theta]
    for k in [theta, *possible]:
        compared = 0
        for offset in range(TRIES * SEEDS):
            try:
                one, two = (
                    _answer(world, spare, (seed + STRIDE * offset) % 2**31, k, [*before, x]) for x in (a, other)
                )
            except Exception:  # An environment that fails: its episode says nothing.
                spare.drop()
                return False
            if one is None or two is None:
                if one is not two or (k == theta and offset == 0):
                    return False  # Seeds do not repeat the episode.
                continue
            if not _equal(one, two):
                return False
            compared += 1
            if compared == SEEDS:
                break
        if compared < SEEDS:
            return False
    return True


def _answer(world: "HostWorld", spare: Slot, seed: int, theta: int, actions: list[Any]) -> Any:
    """Return all that is answered to the last of these actions; None if the episode is over before it."""
    context = world.contexts[theta]
    before = after = spare.begin(seed, theta, context)
    for a in actions:
        if after.ended and not world.recipe.restarts:
            return None
        before, after = after, spare.step(a)
    told = () if world.cue is None else world.cue.of_many([before.observation], [after.observation], [context])
    return after.observation, after.reward, after.ended, after.mask, after.advice, told


def _beyond(world: "HostWorld", played: Action, others: Action) -> Action:
    """Return the other actions; in a Box, those that were played, with other numbers beyond its bounds."""
    leaves = leaves_of(world.action_space, "")
    is_one = list(leaves) == [""]
    parts, drawn = ({"": x} if is_one else dict(x) for x in (played, others))
    for name, space in leaves.items():
        if type(space).__name__ == "Box":
            x, y = parts[name], drawn[name]
            above, below = x > space.high, x < space.low
            pushed = space.high + np.abs(y - space.high), space.low - np.abs(y - space.low)
            y = np.where(above, pushed[0], np.where(below, pushed[1], x))
            drawn[name] = y.astype(x.dtype)
    return drawn[""] if is_one else drawn


def _equal(one: Any, other: Any) -> bool:
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y), one, other)))
