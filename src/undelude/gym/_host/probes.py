"""Checks of a world by playing it under several contexts: where theta shows, and which numbers the expert reads."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from undelude.gym._host.hidden import check_one_moment, check_one_step
from undelude.gym._host.parts import Moment
from undelude.gym._host.rows import host
from undelude.gym._host.spaces import to_actions

if TYPE_CHECKING:
    from undelude.gym._host.simulated import AbstractSimulated

# Seeds under which an environment that may fail is played.
ATTEMPTS = 4


def leak_of(
    world: "AbstractSimulated", path: Callable[[int, int, list[Any]], Sequence[Moment]], num_rounds: int
) -> str | None:
    """Return where an agent sees the context other than by the cue, found by playing; None if it was not seen to.

    Args:
        world: a `HostWorld` or a `FunctionalWorld`.
        path: `(theta, seed, actions) -> moments` of an episode.
        num_rounds: to be compared.
    """
    rng = np.random.default_rng(0)
    actions = _random_actions(world, rng, num_rounds)
    for pair in [(0, k) for k in _some_thetas(world)]:
        seed = int(rng.integers(2**31))
        paths = [[x.o for x in path(k, seed, actions)] for k in pair]
        if (found := world.difference(*paths)) is None:
            continue
        parts, t = found
        when = "from the start" if t == 0 else f"from round {t} on"
        one, other = map(world.context_in_words, pair)
        if pair == (0, 0):
            return (
                f"the same seed and actions twice under {one} show the agent another {parts} {when}: the environment "
                "draws random numbers that the seed of reset does not set (self.np_random is set), or keeps something "
                "from the episode before. What its contexts show cannot be compared then."
            )
        return (
            f"the same seed and actions under {one} and {other} show the agent another {parts} {when}, so that theta "
            "shows in more than the cue. Hide what tells it (hide=), or take it for granted that there is no exact "
            "answer."
        )
    return None


def no_advice_of(
    world: "AbstractSimulated", path: Callable[[int, int, list[Any]], Sequence[Moment]], num_rounds: int
) -> str | None:
    """Return why expert or cue cannot be asked in exact answers, found by playing; None if they can.

    Asked about whole observations and about those of exact answers, whose hidden numbers are NaN, both must say the
    same under the true context.

    Args:
        world: a `HostWorld` or a `FunctionalWorld` whose observation is one array.
        path: `(theta, seed, actions) -> moments` of an episode.
        num_rounds: to be compared.

    Raises:
        ValueError: they say something else; the message names the round and both answers.
    """
    rng = np.random.default_rng(1)
    actions = _random_actions(world, rng, num_rounds)
    for k in _some_thetas(world):
        moments = _first_that_plays(path, k, rng.integers(2**31, size=ATTEMPTS).tolist(), actions)
        for t, moment in enumerate(moments):
            if why := check_one_moment(world, moment, k, t):
                return why
            if t:
                check_one_step(world, moments[t - 1], moment, k, t)
    return None


def on_contexts_of(
    world: "AbstractSimulated", path: Callable[[int, int, list[Any]], Sequence[Moment]], num_rounds: int
) -> list[str]:
    """Return remarks on the contexts: that two are the same, or that the environment ignores them.

    Args:
        world: a `HostWorld` or a `FunctionalWorld`.
        path: `(theta, seed, actions) -> moments` of an episode.
        num_rounds: to be compared.
    """
    found: list[str] = []
    numbers: dict[Any, int] = {}
    for k in range(world.num_thetas):
        leaves = [host(x) for x in jax.tree.leaves(world.context_at(k))]
        same = numbers.setdefault(tuple((x.shape, x.tobytes()) for x in leaves if x.dtype != object), k)
        if same != k and all(x.dtype != object for x in leaves):
            found.append(
                f"Contexts {same} and {k} are the same, {world.context_in_words(k).removeprefix('context ')}: leave "
                "one out, and give prior= if that context is more probable."
            )
            break
    rng = np.random.default_rng(2)
    actions, seed = _random_actions(world, rng, num_rounds), int(rng.integers(2**31))
    try:
        first, *others = ([tuple(x)[1:] for x in path(k, seed, actions)] for k in _some_thetas(world))
    except Exception:
        return found  # Failures of the environment are counted where it is played.
    if others and all(_same(first, x) for x in others):
        found.append(
            "The context changes nothing in the environment itself: after the same seed and actions, whole "
            f"observations, rewards and info are the same under {len(others) + 1} contexts. Perhaps {world.ignored}. "
            "That is right only if theta matters to nobody but the expert and the cue."
        )
    return found


def _first_that_plays(
    path: Callable[[int, int, list[Any]], Sequence[Moment]], theta: int, seeds: list[int], actions: list[Any]
) -> Sequence[Moment]:
    """Return the moments under the first seed under which the environment does not fail."""
    for seed in seeds[:-1]:
        with contextlib.suppress(Exception):
            return path(theta, seed, actions)
    return path(theta, seeds[-1], actions)


def _same(x: Any, y: Any) -> bool:
    """Return whether two values are equal; objects that are neither numbers nor strings count as equal."""
    if isinstance(x, Mapping) and isinstance(y, Mapping):
        return x.keys() == y.keys() and all(_same(x[key], y[key]) for key in x)
    if isinstance(x, list | tuple) and isinstance(y, list | tuple):
        return len(x) == len(y) and all(map(_same, x, y))
    x, y = (host(z) if hasattr(z, "shape") else np.asarray(z) for z in (x, y))
    if x.dtype == object or y.dtype == object:
        return True
    return x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all())


def _random_actions(world: "AbstractSimulated", rng: np.random.Generator, num_rounds: int) -> list[Any]:
    return to_actions(world.action_space, world.random_actions(rng, num_rounds), np.arange(num_rounds))


def _some_thetas(world: "AbstractSimulated") -> list[int]:
    return [k for k in sorted({0, 1, world.num_thetas // 2, world.num_thetas - 1}) if k < world.num_thetas]
