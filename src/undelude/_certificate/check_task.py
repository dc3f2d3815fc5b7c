"""Checks of a task and its expert by playing them, before an agent is taught on them for an hour."""

import dataclasses
import math
import re
import warnings
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from undelude._certificate.bound_checks import check_bounds
from undelude._certificate.certificate import Certificate, delusion_gap
from undelude._certificate.check_world import check_world_by_playing
from undelude._certificate.method_checks import check_methods
from undelude._certificate.task_checks import (
    Finding,
    check_determinism,
    check_draw,
    check_finite,
    check_given_parts,
    check_memories,
    check_normalisation,
    check_reward,
    check_say,
    check_support,
    differs,
)
from undelude._certificate.task_episodes import (
    Replayed,
    player,
    probe,
    replay_under_others,
)
from undelude._certificate.task_report import TaskReport, as_warning
from undelude._checks import check_count, check_key
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, World
from undelude._process.inference import posterior
from undelude._process.process import InteractionProcess, check_process
from undelude._rollout.host import sampled

# Theta counts as known below this fraction of the prior's entropy, and as a single value below this entropy in nats.
HIDDEN, NO_ENTROPY = 0.01, 1e-9
# Nats in place of the log-probability of an impossible observation.
MIN_EVIDENCE = -1e6
# Nats per action below which a delusion gap counts as none.
NO_GAP = 1e-3
# The probability above which the expert counts as taking an action, and that below which it never does.
TAKEN, NEVER = 1e-3, math.exp(-60)


def check_task(
    process: World,
    *,
    key: Key[Array, ""] | None = None,
    num_rounds: int | None = None,
    num_episodes: int = 512,
) -> TaskReport:
    """Play a process as an imitator would, and look for errors that would make training on it worthless.

    In 64 episodes the expert of another theta acts, as an agent does that believes in a wrong theta. `check_task` looks
    for methods that fail, that draw a single number or a choice (`jax.random.categorical`) from a fixed key, or whose
    result depends on an entry outside an array; distributions that are not normalised, or that give zero probability to
    their own samples; rewards and samples that are not finite; memories that depend on theta although they declare not
    to; and theta where an agent can read it: in a `Given` part, which counts as no evidence, or in the opening, so
    that nothing is hidden.

    It notes what is right in some tasks and wrong in others: observations that never depend on theta; arrays drawn
    from a fixed key, or by a generator that is seeded in a method; slices that reach beyond an array, and writes
    outside it.

    Not looked for: an entry outside an array that a method reads inside a `jax.vmap` of its own; a draw from a key that
    changes from round to round but not from episode to episode, as in `jax.random.fold_in(jax.random.key(0), round)`.

    A world that runs in Python, such as `undelude.gym.HostWorld`, is played in up to 16 episodes of random actions, as
    many of the expert, and the same seeds and actions under up to four contexts. `check_task` then looks for an
    environment that fails, an expert whose answers are not distributions or actions, an opening that names the context,
    and a prior with a single context. It notes random numbers that no seed sets, where the context shows, actions that
    a Box clips, and which exact answers a certificate will have; and it measures how many steps a second there are.

    Args:
        process: the task with its expert and prior; or a world that runs in Python.
        key: for sampling; by default `jax.random.key(0)`.
        num_rounds: T; by default, the number of rounds of the process.
        num_episodes: for the certificate of the deluded agent, from which `action_kl_do` and the warning come.

    Returns:
        The measurements; `print` shows them as a table. `delusion_gap` measures more. The report on a world that runs
        in Python also has `steps_per_second`, `advice_per_second` (answers of the expert), `clipped` (the share of
        its actions that a Box clips) and `inexact` (why there are no exact answers; None if there are).

    Raises:
        ValueError: there are problems. The message lists those found, with a remedy for each; some are only
            looked for if the others are mended.

    >>> import undelude as ud
    >>> report = check_task(ud.tasks.bandit())  # doctest: +SKIP
    >>> report.first_sight < report.entropy  # doctest: +SKIP
    True
    """
    process = sampled(process)
    if not isinstance(process, AbstractHostWorld):
        check_process(process)
    key = jax.random.key(0) if key is None else key
    check_key(key)
    T = check_count("num_rounds", process.num_rounds if num_rounds is None else num_rounds)
    num_episodes = check_count("num_episodes", num_episodes)
    if isinstance(process, AbstractHostWorld):
        return check_world_by_playing(
            process,
            key=key,
            num_rounds=T,
            measure_gap=lambda: delusion_gap(
                process, key=key, num_episodes=num_episodes, num_rounds=T, baselines=False
            ),
        )
    # First what needs no episodes: they could not be played, or would show the consequences in place of the cause.
    _raise_problems(process, check_reward(process))
    findings = [*check_methods(process)]
    _raise_problems(process, _problems(findings))
    findings += check_bounds(process, T)
    _raise_problems(process, _problems(findings))
    play = player(process, key, T)
    played = play()
    episodes, probes = played.episodes, probe(process, played, key)
    findings += check_bounds(process, T, played)
    problems = [
        *check_determinism(played, play()),
        *_problems(findings),
        *check_say(process, episodes),
        *check_draw(process, episodes),
        *check_support(played, probes),
        *check_normalisation(played, probes),
        *check_finite(played),
    ]
    replayed = replay_under_others(process, episodes, key)
    _raise_problems(process, [*problems, *check_given_parts(replayed), *check_memories(replayed)])
    entropy, first_sight = _measure_hidden(process, episodes)
    deluded = _certify_deluded(process, key, num_episodes, T) if process.finite else None
    report = TaskReport(
        name=process.name,
        first_sight=first_sight,
        entropy=entropy,
        least_mass=_least_mass(replayed),
        action_kl_do=deluded and deluded.action_kl_do,
        action_kl_do_se=deluded and deluded.action_kl_do_se,
        action_tv_do=deluded and deluded.action_tv_do,
        warning=as_warning([*_evidence_missing(process, replayed), *_on_imitation(deluded)]),
        notes=(),
    )
    on_expert = deluded.notes.get("expert") if deluded else None
    notes = dict.fromkeys(finding.text for finding in findings if not finding.is_problem)
    return dataclasses.replace(report, notes=(*_remarks(report, on_expert), *notes))


def _problems(findings: Iterable[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.is_problem]


def _on_imitation(deluded: Certificate | None) -> Iterable[str]:
    """Say so if imitation is the wrong goal."""
    if deluded and (text := deluded.notes.get("imitation")) is not None:
        yield text


def _evidence_missing(process: InteractionProcess, replayed: Replayed) -> Iterable[str]:
    """Say so if theta never shows: in the observations, or in what the expert does."""
    possible = np.asarray(replayed.possible_before)
    # A finite number in place of -inf, so that differences are numbers.
    evidence = np.maximum(np.asarray(replayed.evidence), MIN_EVIDENCE)
    opening, observations = evidence[..., :1], evidence[..., 1:]
    if not differs(observations, possible) and not differs(opening, np.ones_like(opening, bool)):
        yield (
            "Observations did not depend on theta in the episodes that were played, so that an agent whose actions are "
            f"interventions learns nothing about it. Check that {process.task.theta_enters}."
        )
    if replayed.policies is not None and not differs(replayed.policies, possible):
        yield (
            "The expert acted alike for every theta in the episodes that were played, so that its actions show nothing "
            "about theta."
        )


def _raise_problems(process: InteractionProcess, problems: Iterable[str]) -> None:
    if problems := list(problems):
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise ValueError(f"{process.name}: {len(problems)} problem{'s' * (len(problems) > 1)}:{listed}")


def _measure_hidden(process: InteractionProcess, episodes: Episodes) -> tuple[float | None, float | None]:
    """Return the entropy of the prior and the information in the first observation; raise if nothing is hidden."""
    if not process.finite:
        return None, None
    prior = np.asarray(jnp.exp(process.log_prior), float)
    entropy = float(-(prior[prior > 0] * np.log(prior[prior > 0])).sum())
    if entropy < NO_ENTROPY:
        _raise_problems(process, ["theta has one value only, so nothing is hidden: give it several (thetas=, prior=)."])
    if process.theta_changes:
        return entropy, None
    first_sight = _first_sight(process, episodes, entropy)
    if process.opening and entropy - first_sight < HIDDEN * entropy:
        _raise_problems(process, ["the opening reveals theta, so nothing is hidden: leave theta out of the opening."])
    return entropy, first_sight


def _first_sight(process: InteractionProcess, episodes: Episodes, entropy: float) -> float:
    """Return `H(Theta) - H(Theta | do(A), O)` for the first observation `O`, which may be the opening."""
    actions, observations = jax.tree.map(lambda x: x[:, :1], (episodes.actions, episodes.observations))
    history = Episodes.of(process, actions=actions, observations=observations, opening=episodes.opening)
    log_belief = np.asarray(posterior(process, history, own_actions="do"))[:, 0 if process.opening else 1]
    belief = np.exp(log_belief)
    remaining = -(belief * np.where(belief > 0, log_belief, 0.0)).sum(-1).mean()
    return max(0.0, entropy - float(remaining))


def _least_mass(replayed: Replayed) -> float | None:
    """Return the least probability of an action that the expert of another theta may take after the same history."""
    if replayed.policies is None:
        return None
    probs, possible = np.asarray(replayed.policies), np.asarray(replayed.possible_before)[..., None]
    taken = np.where(possible, probs, 0.0).max(1, keepdims=True) > TAKEN
    least = float(np.where(possible & taken, probs, 1.0).min())
    return 0.0 if least < NEVER else least


def _certify_deluded(
    process: InteractionProcess, key: Key[Array, ""], num_episodes: int, num_rounds: int
) -> Certificate:
    with warnings.catch_warnings():
        # The report shows this warning.
        warnings.filterwarnings("ignore", f"{re.escape(process.name)}: imitation", UserWarning)
        return delusion_gap(process, key=key, num_episodes=num_episodes, num_rounds=num_rounds)


def _remarks(report: TaskReport, on_expert: str | None) -> Iterable[str]:
    entropy, first_sight = report.entropy, report.first_sight
    if entropy is not None and first_sight is not None and entropy - first_sight < HIDDEN * entropy:
        yield "The first round reveals theta: there is hardly anything left to be deluded about."
    if report.action_kl_do is not None and report.action_kl_do < NO_GAP:
        yield "Delusion costs next to nothing here: own actions, read as evidence, hardly change the predictions."
    if report.action_kl_do == math.inf:
        yield (
            "The gap is infinite: an agent that reads its own actions as evidence comes to rule out an action that the "
            "expert may take. Use the total variation instead."
        )
    if report.least_mass == 0:
        yield (
            "For some theta the expert never does what it does for another. An agent that errs then reaches states "
            "that no demonstration reaches, and factual teaching cannot show it how to go on (Section 4.2)."
        )
    if on_expert is not None:
        yield f"{on_expert[0].upper()}{on_expert[1:]}"
