"""The checks of `check_task`, one function for each; every one yields a message for each problem that it finds.

The checks that need no episode are those of the constructor of `InteractionProcess`; here only the reward, which the
constructor does not look at.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from undelude._certificate.task_episodes import Played, Probe, Replayed
from undelude._checks import TOLERANCE
from undelude._errors import users_line
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractTask
from undelude._tree import index, signature

# Relative difference up to which two numbers count as equal.
SAME = 1e-5


class Finding(NamedTuple):
    """A message of a check.

    Attributes:
        text: names the method, the round, what is wrong, and what to do.
        is_problem: whether the task is refused; otherwise the finding is right in some tasks and wrong in others.
    """

    text: str
    is_problem: bool = True


def check_reward(process: InteractionProcess) -> Iterator[str]:
    """Check that the reward can be computed and is a single number, from shapes alone."""
    a, o = (spec.value for spec in process.specs)
    theta = jax.eval_shape(lambda key: process.theta_value(process.sample_theta(key)), jax.random.key(0))
    w = jax.eval_shape(process.task.init, theta)
    try:
        reward = jax.eval_shape(process.task.reward, theta, w, a, o)
    except Exception as error:
        yield _failure("task.reward", error)
        return
    if getattr(reward, "shape", None) != ():
        yield f"task.reward returns {signature(reward)}; it must be a single number."


def check_determinism(played: Played, again: Played) -> Iterator[str]:
    """Check that two plays of one program with the same key are equal: all randomness comes from JAX's keys."""
    for name in ("actions", "observations", "reward"):
        one, other = (jax.tree.leaves(getattr(x.episodes, name)) for x in (played, again))
        if not all(np.array_equal(x, y, equal_nan=True) for x, y in zip(one, other, strict=True)):
            yield (
                f"{name} differ between two plays with the same key: a callback to Python draws random numbers or "
                "keeps state. Draw only through the distributions that Q_A and Q_O return, and keep all state in the "
                "memories."
            )


def check_say(process: InteractionProcess, episodes: Episodes) -> Iterator[str]:
    """Check that the task has a string for each symbol of the first episode and for each theta."""
    T, K = int(episodes.mask[0].sum()), process.num_thetas if process.finite else 0
    observations, actions = index((episodes.observations, episodes.actions), 0)
    task = process.task
    said = ((task.say, observations, T), (task.say_action, actions, T), (task.say_theta, process.thetas, K))
    for say, values, length in said:
        for i in range(length):
            try:
                words = say(jax.tree.map(np.asarray, index(values, i)))
            except Exception as error:
                yield _failure(f"task.{say.__name__}", error)
                break
            if not isinstance(words, str):
                yield f"task.{say.__name__} returns {type(words).__name__}, not a string."
                break


def check_draw(process: InteractionProcess, episodes: Episodes) -> Iterator[str]:
    """Check that the task's own drawing, if it has one, draws the first episode."""
    if type(process.task).draw is AbstractTask.draw:
        return
    # Imported here because it needs Pillow, which a task without a drawing does not.
    from undelude._drawing.film import film

    try:
        film(process, episodes, size=32)
    except Exception as error:
        yield _failure("task.draw", error)


def check_support(played: Played, probes: dict[str, Probe]) -> Iterator[str]:
    """Check that each distribution gives its own samples a probability greater than zero."""
    for name, probe in probes.items():
        bad = ~np.isfinite(np.asarray(probe.log_prob))
        if bad.any():
            yield (
                f"{name} gives zero probability to its own sample, {locate(bad, played, name)}: its sample and its "
                "log_prob disagree, or it contains NaN."
            )


def check_normalisation(played: Played, probes: dict[str, Probe]) -> Iterator[str]:
    """Check that the probabilities of each distribution sum to one."""
    for name, probe in probes.items():
        x = np.asarray(probe.excess)
        if (bad := np.isnan(x)).any():
            where = locate(bad, played, name)
            yield f"{name} contains NaN, {where}: the logarithm of a negative probability, or a division by zero."
        if (bad := x >= TOLERANCE).any():
            where = locate(bad, played, name)
            yield (
                f"{name} does not sum to one, {where} (off by {x[bad].max():.3g}). Categorical(log_probs=) takes "
                "log-probabilities as they are; use logits= to normalise."
            )


def check_finite(played: Played) -> Iterator[str]:
    """Check that rewards and samples are finite numbers."""
    episodes = played.episodes
    for name, what, tree, num_axes in (
        ("task.reward", "is not finite", episodes.reward, 2),
        ("expert.Q_A", "samples an action that is not finite", episodes.actions, 2),
        ("task.Q_O", "samples an observation that is not finite", episodes.observations, 2),
        ("task.Q_O", "samples an opening that is not finite", episodes.opening, 1),
    ):
        for x in map(np.asarray, jax.tree.leaves(tree)):
            bad = np.asarray(~np.isfinite(x.reshape(*x.shape[:num_axes], -1)).all(-1))
            if num_axes == 2:
                bad &= np.asarray(episodes.mask)
            if bad.any():
                yield f"{name} {what}, {locate(bad, played, name)}."


def check_given_parts(replayed: Replayed) -> Iterator[str]:
    """Check that `Given` parts are equal under all thetas that the history allows."""
    openings, observations = (jax.tree.leaves(x) for x in (replayed.given_opening, replayed.given))
    before, after = np.asarray(replayed.possible_before), np.asarray(replayed.possible_after)
    if any(differs(x, before[..., :1]) for x in openings) or any(differs(x, after) for x in observations):
        yield (
            "a Given part of the observations differs between thetas after the same history. It counts as no evidence, "
            "but an agent can read theta from it: sample it, or compute it without theta."
        )


def check_memories(replayed: Replayed) -> Iterator[str]:
    """Check that a memory that is declared free of theta is equal under all thetas that the history allows."""
    for name, memory in replayed.memories.items():
        if any(differs(x, np.asarray(replayed.possible_after)) for x in jax.tree.leaves(memory)):
            yield (
                f"{name} declares theta_free_memory, but its memory differs between thetas after the same history: "
                "compute it without theta, or do not declare it."
            )


def differs(x: np.ndarray | jax.Array, possible: np.ndarray) -> bool:
    """Return whether `x` differs between the thetas that are possible at the time; NaN equals only NaN.

    Args:
        x: `[B, K, T, ...]`.
        possible: `[B, K, T]`.
    """
    x = np.asarray(x).reshape(*possible.shape, -1).astype(float)
    some = np.broadcast_to(possible[..., None], x.shape)
    is_nan = np.isnan(x)
    only_some_nan = (is_nan & some).any(1) & (~is_nan & some).any(1)
    low = np.where(some & ~is_nan, x, np.inf).min(1)
    high = np.where(some & ~is_nan, x, -np.inf).max(1)
    return bool((only_some_nan | (high - low > SAME * (1 + np.abs(low)))).any())


def _failure(method: str, error: Exception) -> str:
    return f"{method} fails: {type(error).__name__}: {error}{users_line(error)}"


def locate(bad: np.ndarray, played: Played, method: str) -> str:
    """Return the first round in which `bad`, `[B]` or `[B, T]`, is true, and the theta that the method was given."""
    episode, *rounds = (int(i) for i in np.argwhere(bad)[0])
    if method.startswith("expert"):
        theta = jax.tree.map(lambda x: x[episode], played.acting_theta)
    elif played.theta_changes:
        theta = jax.tree.map(lambda x: x[episode, rounds[0] if rounds else 0], played.episodes.theta)
    else:
        theta = jax.tree.map(lambda x: x[episode], played.episodes.theta)
    plain = jax.tree.map(lambda x: np.asarray(x).tolist(), theta)
    return f"first {f'in round {rounds[0] + 1} ' if rounds else ''}with theta {plain}"
