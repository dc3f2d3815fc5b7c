"""Pictures of a simulator: an episode is played again, and rendered."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8

from undelude._process.episodes import Episodes
from undelude._process.host_world import difference
from undelude._tree import prepend
from undelude.gym._host.parts import CUE
from undelude.gym._host.slots import Recipe, Slot
from undelude.gym._host.spaces import to_actions

if TYPE_CHECKING:
    from undelude.gym.host_world import HostWorld

# Where the bars of the belief begin below the picture, from 0 at the top to 1.
BARS_TOP = 0.8
RENDERED = "rgb_array"


class Scene(NamedTuple):
    """A simulator in one round: the whole observation, and what it rendered, None if it need not."""

    observation: Any
    picture: UInt8[np.ndarray, "H W 3"] | None


def why_not_rendered(recipe: Recipe) -> str | None:
    """Return why environments render no pictures; None if they do."""
    slot = Slot(with_rendering(recipe))
    try:
        found = getattr(slot.env, "render_mode", None)
    except Exception as error:
        return f"its environment cannot be made to render: {type(error).__name__}: {error}"
    finally:
        slot.drop()
    if found == RENDERED:
        return None
    return (
        "its environment renders no pictures. Give a factory with the argument render_mode, as environments of "
        f'Gymnasium have it, or one that makes them with render_mode="{RENDERED}"; or give HostWorld draw=, a function '
        "that draws a round."
    )


def replay(world: "HostWorld", recipe: Recipe, episode: Episodes, seed: int) -> list[Scene]:
    """Return the scenes of one episode before its first action and after each.

    Raises:
        ValueError: the agent sees something else than in the episode.
    """
    renders = world.drawing is None
    slot = Slot(with_rendering(recipe) if renders else recipe)
    theta, num_rounds = int(np.asarray(episode.theta)), int(np.asarray(episode.mask).sum())
    actions = to_actions(world.action_space, jax.tree.map(np.asarray, episode.actions), np.arange(num_rounds))
    scenes, seen, rewards = [], [], []
    try:
        for t in range(num_rounds + 1):
            step = slot.begin(seed, theta, world.contexts[theta]) if t == 0 else slot.step(actions[t - 1])
            scenes.append(Scene(step.observation, _rendered(slot.env) if renders else None))
            seen.append(world.see_one(step))
            rewards.append(step.reward)
    finally:
        slot.drop()
    seen_then = prepend(episode.opening, episode.observations)
    played = [jax.tree.map(lambda x, t=t: np.asarray(x[t])[None], seen_then) for t in range(num_rounds + 1)]
    told = {CUE} if world.visible.kept else {CUE, "observation"}  # The cue may be all that the agent sees.
    if (found := difference(seen, played, but=told)) is not None:
        parts, t = found
        raise ValueError(
            f"{world.name}: the same seed and actions show another {parts} from round {t} on than in this episode, so "
            "that no film of it can be drawn: key= is not that of its rollout, the environment draws random numbers "
            "that the seed of reset does not set, or the episode took the place of one that was lost."
        )
    paid = np.asarray(episode.reward)[:num_rounds]
    if not np.array_equal(np.asarray(rewards[1:], np.float32), paid):
        t = int(np.flatnonzero(np.asarray(rewards[1:], np.float32) != paid)[0]) + 1
        raise ValueError(
            f"{world.name}: the same seed and actions are paid otherwise from round {t} on than in this episode, so "
            "that no film of it can be drawn: key= is not that of its rollout, or the environment does not repeat."
        )
    return scenes


def with_rendering(recipe: Recipe) -> Recipe:
    """Return the recipe of environments that render, if their factories take `render_mode`."""
    return dataclasses.replace(recipe, makers=tuple(_rendering(maker) for maker in recipe.makers))


def _rendering(maker: Callable[..., Any]) -> Callable[[], Any]:
    """Return the factory of an environment that renders, if it takes `render_mode`, as Gymnasium's convention is."""
    try:
        takes = "render_mode" in inspect.signature(maker).parameters
    except (TypeError, ValueError):
        takes = False
    return functools.partial(maker, render_mode=RENDERED) if takes else maker


def _rendered(env: Any) -> UInt8[np.ndarray, "H W 3"]:
    picture = np.asarray(env.render())
    if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"env.render() returned {picture.dtype} of shape {list(picture.shape)}, not uint8 of shape [H, W, 3]."
        )
    return picture
