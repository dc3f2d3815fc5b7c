"""Checks of a world that runs in Python, by playing it: what `check_task` does for a process."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from undelude._certificate.certificate import Certificate
from undelude._certificate.task_report import TaskReport, as_warning, row
from undelude._distributions import AbstractDistribution, Categorical
from undelude._errors import users_line
from undelude._process.host_world import AbstractHostWorld
from undelude._types import Action, Observation

# Episodes that are played of each kind, at most; thetas under which the same ones are played, at most; and how often
# openings of each of these thetas are drawn.
EPISODES, MAX_THETAS, SEEDS = 16, 4, 3
# Nats below which theta counts as a single value, and the probability below which the expert never acts so.
NO_ENTROPY, NEVER = 1e-9, math.exp(-60)
# The share of the expert's actions that may be clipped without a remark.
MUCH = 0.05
# Probability above which the expert counts as taking an action.
TAKEN = 1e-3
# The part of an observation that a world declares to show theta.
CUE = "cue"


@dataclasses.dataclass(frozen=True)
class WorldReport(TaskReport):
    """The measurements on a world that runs in Python, in which `check_task` found no problem.

    Attributes:
        steps_per_second: rounds of the environments, over all that run side by side.
        advice_per_second: answers of the expert.
        clipped: the share of the expert's actions that its Box clips when they are played; None without a Box.
        inexact: why the certificate will have no distances to the exact answers; None if it will have those of actions.
    """

    steps_per_second: float
    advice_per_second: float
    clipped: float | None
    inexact: str | None

    def _rows(self) -> Iterator[str]:
        yield from super()._rows()
        yield row("environment steps", self.steps_per_second, "a second")
        yield row("expert's answers", self.advice_per_second, "a second")
        if self.clipped is not None:
            yield row("share of its actions clipped by the Box", self.clipped)
        yield f"  {'exact answers':<42} {'about actions' if self.inexact is None else 'none'}"


# Two contexts, and the parts of an observation that first differ under them, and when.
Shown = tuple[int, int, tuple[str, int]]


class Round(NamedTuple):
    """One round of episodes side by side: what followed the action, and what the expert said before it."""

    o: Observation
    reward: np.ndarray
    exists: np.ndarray
    Q_A: AbstractDistribution | None
    a_bar: Action | None


class Played(NamedTuple):
    """Episodes side by side, and the seconds that environments and expert took."""

    opening: Observation | None
    rounds: list[Round]
    stepping: float
    advising: float

    @property
    def seen(self) -> list[Observation]:
        """The opening and the observations."""
        return ([] if self.opening is None else [self.opening]) + [x.o for x in self.rounds]

    @property
    def exists(self) -> np.ndarray:
        """Which episodes have a first round."""
        return self.rounds[0].exists


def check_world_by_playing(
    world: AbstractHostWorld,
    *,
    key: Key[Array, ""],
    num_rounds: int,
    measure_gap: Callable[[], Certificate],
) -> WorldReport:
    """Play a world, and look for errors that would make training on it worthless; see `check_task`.

    Args:
        world: the world.
        key: for sampling.
        num_rounds: T.
        measure_gap: returns the certificate of the exact deluded agent.

    Raises:
        ValueError: there are problems; the message lists them.
    """
    prior = np.asarray(getattr(world, "prior", [np.nan]), float)
    entropy = float(-(prior[prior > 0] * np.log(prior[prior > 0])).sum()) if np.isfinite(prior).all() else None
    if entropy is not None and entropy < NO_ENTROPY:
        _raise(world, ["theta has one value only, so nothing is hidden: give several contexts, and a prior for them."])
    if world.expert_is_person:
        _raise(world, ["its expert is a person, whom the check would ask too often: check it with a scripted expert."])
    B = min(world.num_envs or EPISODES, EPISODES)
    keys, rng = jax.random.split(key, B), np.random.default_rng(0)
    actions = [world.random_actions(rng, B) for _ in range(num_rounds)]
    thetas = _some_thetas(world)
    try:
        by_random, again = (_play(world, keys, num_rounds, actions) for _ in range(2))
        by_expert = _play(world, keys, num_rounds, None)
        under = {k: _play(world, keys, num_rounds, actions, theta=k) for k in thetas}
    except Exception as error:
        text = f"{type(error).__name__}: {error}{users_line(error)}"
        raise ValueError(f"{world.name}: 1 problem:\n- it cannot be played: {text}") from error
    played = [by_random, again, by_expert, *under.values()]
    _raise(world, [*_check_finite(played), *_check_symbols(world, played), *_check_opening(world, under, key)])
    irregular = _difference(world, by_random, again)
    leak = world.leak
    try:
        inexact = world.no_exact_agent
    except ValueError as error:
        raise ValueError(f"{world.name}: 1 problem:\n- {str(error).removeprefix(f'{world.name}, ')}") from error
    deluded = measure_gap() if inexact is None else None
    clipped = _clipped(world, [by_random, by_expert], key)
    shown = [] if irregular else _shown(world, under)
    notes = [
        *_on_repetition(irregular),
        *([] if leak is None else [f"{leak[0].upper()}{leak[1:]}"]),
        *_first_shown(world, under, shown),
        *([] if irregular else world.on_contexts()),
        *_outside(world, played),
        *_on_expert(by_random, clipped),
        *_on_certificate(inexact, leak),
    ]
    notes += [x for x in (world.unread_in_words(), world.failures_in_words()) if x is not None]
    timed = played[1:]  # The first play also compiles, if the world is a compiled one.
    num_steps = sum(int(x.exists.sum()) for each in timed for x in each.rounds)
    return WorldReport(
        name=world.name,
        first_sight=None if inexact is not None or not world.opening else 0.0,
        entropy=entropy,
        least_mass=_least_mass(under),
        action_kl_do=deluded and deluded.action_kl_do,
        action_kl_do_se=deluded and deluded.action_kl_do_se,
        action_tv_do=deluded and deluded.action_tv_do,
        warning=None if irregular else as_warning(_evidence_missing(under, shown)),
        notes=tuple(notes),
        steps_per_second=num_steps / sum(each.stepping for each in timed),
        advice_per_second=num_steps / sum(each.advising for each in timed),
        clipped=clipped,
        inexact=inexact,
    )


def _raise(world: AbstractHostWorld, problems: list[str]) -> None:
    if problems:
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise ValueError(f"{world.name}: {len(problems)} problem{'s' * (len(problems) > 1)}:{listed}")


def _some_thetas(world: AbstractHostWorld) -> list[int]:
    K = int(getattr(world, "num_thetas", 0))
    return sorted({round(k) for k in np.linspace(0, K - 1, min(K, MAX_THETAS))}) if K > 1 else []


def _play(
    world: AbstractHostWorld,
    keys: Key[Array, " B"],
    num_rounds: int,
    actions: list[Action] | None,
    theta: int | None = None,
) -> Played:
    """Play episodes with these actions, or with those of the expert."""
    state, opening = world.begin(keys, theta)
    rounds, exists = [], np.ones(len(keys), bool)
    if (lost := world.lost(state)) is not None:
        exists &= ~lost
    stepping = advising = 0.0
    for t in range(num_rounds):
        if not exists.any():
            break
        started = time.perf_counter()
        Q_A, a_bar = world.consult(state, keys)
        advising += time.perf_counter() - started
        a = _drawn(Q_A, a_bar, keys, t) if actions is None else world.possible(state, actions[t])
        started = time.perf_counter()
        state, o, reward, ended = world.respond(state, a, keys)
        stepping += time.perf_counter() - started
        lost = world.lost(state)
        now = exists if lost is None else exists & ~lost
        rounds.append(Round(o, np.asarray(reward), now, Q_A, a_bar))
        exists = now & ~np.asarray(ended)
    return Played(opening, rounds, stepping, advising)


def _drawn(Q_A: AbstractDistribution | None, a_bar: Action | None, keys: Key[Array, " B"], t: int) -> Action:
    if a_bar is not None:
        return a_bar
    own = jax.vmap(lambda key: jax.random.fold_in(key, t))(keys)
    return jax.vmap(lambda Q, key: Q.sample(key))(Q_A, own)


def _check_finite(played: list[Played]) -> Iterator[str]:
    """Check rewards, and the expert's probabilities."""
    for each in played:
        for t, x in enumerate(each.rounds):
            if not np.isfinite(x.reward[x.exists]).all():
                yield f"the reward is not finite, first in round {t + 1}."
                return
            leaves = jax.tree.leaves(x.Q_A) if x.a_bar is None else jax.tree.leaves(x.a_bar)
            if any(np.isnan(np.asarray(leaf, float)[x.exists]).any() for leaf in leaves):
                yield f"the expert's answer contains NaN, first in round {t + 1}."
                return


def _check_symbols(world: AbstractHostWorld, played: list[Played]) -> Iterator[str]:
    """Check that symbols are those of the spec, which a compiled world cannot do while it plays."""
    for each in played:
        for o in each.seen:
            try:
                world.observation_spec.check("the observation", o)
            except ValueError as error:
                yield f"{error} Correct observation_space, or what reset and step return."
                return


def _outside(world: AbstractHostWorld, played: list[Played]) -> Iterator[str]:
    for each in played:
        for o in each.seen:
            if (found := world.outside(o)) is not None:
                yield (
                    f"An observation lies outside observation_space: {found}. Agents read the number as it is; correct "
                    "the space if that is not meant."
                )
                return


def _check_opening(world: AbstractHostWorld, under: dict[int, Played], key: Key[Array, ""]) -> Iterator[str]:
    """Check that the opening does not name theta, by numbers that each theta fixes and no two thetas share."""
    if not world.opening or len(under) < 2:
        return
    fixed = []
    for k in under:
        seeds = [jax.random.split(jax.random.fold_in(key, i), len(under[k].exists)) for i in range(SEEDS)]
        openings = [_flat(world.begin(each, k)[1]) for each in seeds]
        rows = np.concatenate(openings)
        fixed.append(np.where((rows == rows[0]).all(0), rows[0], np.nan))
    pairs = [(x, y) for i, x in enumerate(fixed) for y in fixed[:i]]
    if all((x != y)[~np.isnan(x) & ~np.isnan(y)].any() for x, y in pairs):
        first, *_, last = under.values()
        found = world.difference([first.opening], [last.opening])
        parts = "" if found is None else f", by {found[0]}"
        yield (
            f"the opening reveals theta{parts}: it is the same for all seeds under one context, and another under "
            "each other context. Nothing is hidden then: leave it out of what the agent sees (hide=)."
        )


def _flat(o: Observation | None) -> np.ndarray:
    leaves = [np.asarray(x, float) for x in jax.tree.leaves(o)]
    return np.concatenate([x.reshape(len(x), -1) for x in leaves], 1)


def _difference(world: AbstractHostWorld, one: Played, other: Played) -> str | None:
    """Return in words what differs between two plays of the same seeds and actions."""
    if (found := world.difference(one.seen, other.seen)) is not None:
        parts, t = found
        return f"another {parts} {'from the start' if one.opening is not None and t == 0 else f'from round {t} on'}"
    for t, (x, y) in enumerate(zip(one.rounds, other.rounds, strict=False)):
        if (x.reward != y.reward)[x.exists & y.exists].any():
            return f"another reward from round {t + 1} on"
        if _other_advice(x, y):
            return f"another answer of the expert from round {t + 1} on"
    return None


def _other_advice(x: "Round", y: "Round") -> bool:
    rows = x.exists & y.exists
    pairs = zip(*(jax.tree.leaves(z.Q_A if z.a_bar is None else z.a_bar) for z in (x, y)), strict=True)
    return any((np.asarray(p)[rows] != np.asarray(q)[rows]).any() for p, q in pairs)


def _on_repetition(irregular: str | None) -> Iterator[str]:
    if irregular is not None:
        yield (
            f"The same seeds and actions twice give {irregular}: not all random numbers come from the seed of reset "
            "(self.np_random does), or something is kept from the episode before. A run cannot be repeated exactly "
            "then, and what contexts show cannot be compared."
        )


def _shown(world: AbstractHostWorld, under: dict[int, Played]) -> list[Shown]:
    """Return two contexts, and what first differs under them and when, for each pair with the first context."""
    if not under:
        return []
    (i, first), *others = under.items()
    return [(i, k, found) for k, x in others if (found := world.difference(first.seen, x.seen)) is not None]


def _first_shown(world: AbstractHostWorld, under: dict[int, Played], shown: list[Shown]) -> Iterator[str]:
    """Say what of the observations depends on theta first."""
    if not shown:
        return
    i, k, (parts, t) = min(shown, key=lambda x: x[2][1])
    at = "in the opening" if under[i].opening is not None and t == 0 else f"in round {t}"
    one, other = (world.context_in_words(x) for x in (i, k))
    shows = f"As declared, theta shows by the cue, first {at}" if parts == CUE else f"Theta shows {at} first"
    yield f"{shows}: {one} and {other} give another {parts} after the same seeds and actions."


def _evidence_missing(under: dict[int, Played], shown: list[Shown]) -> Iterator[str]:
    """Say so if theta never shows: in the observations, or in what the expert does."""
    if len(under) < 2:
        return
    if not shown:
        yield (
            "Observations did not depend on theta in the episodes that were played, so that an agent whose actions are "
            "interventions learns nothing about it. Check that the context changes the environment, or give a cue."
        )
    first, *others = under.values()
    if not any(_other_advice(x, y) for each in others for x, y in zip(first.rounds, each.rounds, strict=False)):
        yield (
            "The expert acted alike for every theta in the episodes that were played, so that its actions show nothing "
            "about theta."
        )


def _on_expert(played: Played, clipped: float | None) -> Iterator[str]:
    if clipped is not None and clipped > MUCH:
        yield (
            f"{clipped:.0%} of the expert's actions lie outside the Box and are clipped when they are played. The "
            "agent learns the actions as they were before. If that is not meant, clip the expert's mean and take a "
            "smaller scale."
        )
    if all(x.Q_A is None for x in played.rounds):
        yield "The expert returns actions and no distribution, so that there are no exact answers."


def _on_certificate(inexact: str | None, leak: str | None) -> Iterator[str]:
    if inexact is None:
        yield (
            "The certificate will have the distances of actions to both exact answers, by Bayes' rule over the cues. "
            "Observations are not compared with exact answers."
        )
        return
    if inexact != leak:
        yield f"No exact answers: {inexact}"
    yield (
        "The certificate will have the calibration gap, the log-loss against the expert on own histories, and rewards. "
        "A calibration gap of 0 is necessary for a sober agent, and not sufficient."
    )


def _clipped(world: AbstractHostWorld, played: list[Played], key: Key[Array, ""]) -> float | None:
    """Return the share of the expert's actions that are clipped when they are played; None if none ever is."""
    found = []
    for each in played:
        for t, x in enumerate(each.rounds):
            keys = jax.random.split(jax.random.fold_in(key, t), len(x.exists))
            is_clipped = world.clipped(jax.tree.map(np.asarray, _drawn(x.Q_A, x.a_bar, keys, t)))
            if is_clipped is None:
                return None
            found.append(is_clipped[x.exists])
    return float(np.concatenate(found).mean())


def _least_mass(under: dict[int, Played]) -> float | None:
    """Return the least probability of an action that the expert of another theta may take after the same actions."""
    least = 1.0
    if len(under) < 2:
        return None
    for rounds in zip(*(each.rounds for each in under.values()), strict=False):
        if not all(isinstance(x.Q_A, Categorical) for x in rounds):
            return None
        exists = np.logical_and.reduce([x.exists for x in rounds])
        probs = np.stack([np.asarray(x.Q_A.probs) for x in rounds])[:, exists]  # type: ignore[union-attr]
        if probs.size:
            least = min(least, float(np.where(probs.max(0) > TAKEN, probs, 1.0).min()))
    return 0.0 if least < NEVER else least
