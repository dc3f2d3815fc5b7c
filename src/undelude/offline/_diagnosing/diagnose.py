"""What may be concluded from a fit: tests from the cheap to the dear, and a verdict that names its assumptions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from undelude._checks import check_between
from undelude._compiled import compiled_for
from undelude._distributions import Symbols
from undelude._process.process import InteractionProcess
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.experiment import Experiment
from undelude.offline._diagnosing.likelihood import Likelihood
from undelude.offline._diagnosing.manski import manski
from undelude.offline._diagnosing.nearby import nearby, vector
from undelude.offline._diagnosing.passive import Passive
from undelude.offline._diagnosing.passive import passive as compare_predictions
from undelude.offline._diagnosing.probes import Effect, Policy, Probe, Reward, Value, default_probes
from undelude.offline._diagnosing.profile import SLACK, extremes, information
from undelude.offline._diagnosing.sensitivity import Sensitivity
from undelude.offline._diagnosing.sensitivity import sensitivity as relax_assumptions
from undelude.offline._diagnosing.structure import Structure
from undelude.offline._diagnosing.structure import structure as compare_time_scales
from undelude.offline._diagnosing.support import Support, kruskal, support
from undelude.offline._diagnosing.tied import tied_variances
from undelude.offline._fitting.result import Fit, search_notes
from undelude.offline._fitting.sharing import check_alone
from undelude.offline._model.latent import PerStep

Verdict = Literal["refuted", "not identified", "weak", "identified"]
# What Kruskal's condition says of data with interventions or labels.
Views = Literal["decides", "caution", "not needed"]
# Widths of the widest profile bounds from which a fit is weak, or not identified; measured on the bandit of Remark 11
# with 1,000 demonstrations. Of effects: .045 after 20 rounds, .06 after 10, .09 after 5, .15 after 3. Of the policy
# after a history, which is known less well: .07, .09, .12 and .22.
WEAK_WIDTH, WEAK_POLICY_WIDTH, WIDE = 0.10, 0.15, 0.25
# Rounds of support below which a fit is weak, or not identified.
WEAK_SUPPORT, NO_SUPPORT = 10.0, 1.0
NUM_PROFILED = 2
# A range that is narrower than this share of twice the standard error is that of a search which hardly moved.
STUCK, GREATEST_SE = 0.25, 0.5
# Episodes without an intervention that a comparison of held-out prediction needs at least.
MIN_COMPARED = 8


@dataclass(frozen=True)
class ProbeReport:
    """What is known of one probe.

    Attributes:
        name: of the probe.
        value: at the best likelihood that was found from the fit, whose pseudo-counts are left out, and from rivals.
        two_se: twice its standard error by the delta method; true only where the fit is an inner point.
        profile: its range over parameters within `delta` nats of the best, and over the tied mechanisms by their
            standard errors; None if it was not among the widest.
        manski: bounds that need no assumption about the confounder's time scale; None if there is no formula.
        is_policy: whether it is part of the policy.
    """

    name: str
    value: float
    two_se: float
    profile: tuple[float, float] | None
    manski: tuple[float, float] | None
    is_policy: bool

    @property
    def width(self) -> float:
        """The width of the profile bounds; 0 without them."""
        return 0.0 if self.profile is None else self.profile[1] - self.profile[0]


@dataclass(frozen=True)
class Diagnosis:
    """A verdict on a fit, and what it rests on.

    Attributes:
        verdict: "refuted", "not identified", "weak" or "identified"; the last holds given the assumptions, and never
            without.
        reasons: why the verdict is not a better one.
        assumptions: what was declared, and cannot be tested from these logs.
        support: data for what the agent will do.
        kruskal: the sum of three ranks, and the `2 K + 2` that it must reach.
        num_flat: directions of the parameters of which the data say less than one nat.
        probes: with their bounds.
        passive: whether the model predicts the demonstrators as well as a generic sequence model; None if not asked.
        structure: the answers under other time scales of theta; None if not asked.
        sensitivity: what the agent would earn if an assumption were wrong; None if `structure` was not asked.
        notes: what a reader should know.
        experiment: the next one, of `next_experiment`, if it was asked for.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    assumptions: tuple[str, ...]
    support: Support
    kruskal: tuple[int, int]
    num_flat: tuple[int, int]
    probes: tuple[ProbeReport, ...] = field(repr=False)
    passive: Passive | None = field(repr=False)
    structure: Structure | None = field(repr=False)
    sensitivity: Sensitivity | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    experiment: Experiment | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the report, as a table."""
        given = "; ".join(self.assumptions)
        lines = [f"identified given: {given}" if self.verdict == "identified" else self.verdict]
        lines += [f"  because {reason}" for reason in self.reasons]
        if self.verdict != "identified":
            lines.append(f"  assuming {given}")
        ranks, needed = self.kruskal
        lines += [
            f"support    {self.support}",
            f"Kruskal    ranks of three blocks of rounds add up to {ranks}; {needed} are needed",
            f"Fisher     the data say less than 1 nat about {self.num_flat[0]} of {self.num_flat[1]} directions",
            f"{'bounds':58} {'fit':>6} {'+-2 SE':>7} {'profile':>15} {'Manski':>15}",
        ]
        for probe in self.probes:
            profile, known = (_interval(x) for x in (probe.profile, probe.manski))
            lines.append(
                f"  {probe.name:56.56} {probe.value:6.3f} {min(probe.two_se, 99.0):7.3f} {profile:>15} {known:>15}"
            )
        parts = (self.passive, self.structure, self.sensitivity, self.experiment)
        lines += [str(part) for part in parts if part is not None]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"


def diagnose(
    fit: Fit,
    demos: Demos,
    *,
    probes: Sequence[Probe] | None = None,
    delta: float = 2.0,
    passive: bool = True,
    structure: bool = True,
    key: Key[Array, ""] | None = None,
    on_test: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Say whether the interventional policy of a fit is identified by the demonstrations, given what was declared.

    The tests, from the cheap to the dear: support of what the agent will do; Kruskal's rank condition; the Fisher
    information; profile-likelihood bounds of the widest probes, also from rival models; held-out prediction beside a
    sequence model; the answers under other time scales of theta, and with each assumption relaxed. Each alone has a
    blind spot (docs/offline.md). The spread over starts is not among them: where a model is not identified, all starts
    may agree on a wrong answer.

    Args:
        fit: of `fit`.
        demos: the demonstrations that it was fitted to.
        probes: numbers to bound; by default effects of each action, and the policy after a few histories.
        delta: nats below the best log-likelihood at which the profile bounds end; 2 is about 95 %.
        passive: whether to compare held-out prediction with a sequence model, which is trained for it. Without it no
            verdict is "refuted".
        structure: whether to fit the other time scales of theta, and the model with each assumption relaxed.
        key: of self-play, of the rivals, and of training; always the same by default.
        on_test: called with the name of each test when it begins.

    Raises:
        ValueError: `delta` is not positive; the fit is of other data; it has a `Network`, or is one of `Hypotheses`,
            for which there are no bounds; or actions or observations are real, and no probes are given; or there are
            several processes.
    """
    check_alone("diagnose")
    if demos.digest() != fit.digest:
        raise ValueError(
            f"diagnose: the fit is of other data than {demos!r}: pass the demonstrations that it was fitted to."
        )
    _check_tables(fit, probes)
    delta = check_between("delta", delta, 0, np.inf, ends=False)
    keys = jax.random.split(jax.random.key(0) if key is None else key, 5)
    begin = on_test or (lambda _: None)
    begin("support and Kruskal's ranks")
    chosen = list(default_probes(fit, key=keys[0]) if probes is None else probes)
    found = support(fit, demos, key=keys[1])
    ranks = kruskal(fit, demos)
    begin("bounds of the widest probes")
    reports, flat, behind = _bounds(fit, demos, chosen, delta, keys[2])
    local = behind if behind > delta else None
    reasons, verdict = _verdict(found, ranks, reports, views=_views(fit, demos), local=local)
    if fit.K == 1 and int(np.median(demos.lengths)) == 1 and not demos.has_interventions:
        # The profile of a model without a theta is narrow, and says nothing about models with one.
        verdict = "not identified"
        reasons = [
            "an episode has one round, which cannot show a theta: if there is one, effects may be anything within "
            "Manski's bounds"
        ]
    logs = demos.without_interventions()
    few = passive and logs.num_episodes < MIN_COMPARED
    if passive and not few:
        begin("held-out prediction beside a sequence model")
    predicted = compare_predictions(fit, logs, key=keys[3]) if passive and not few else None
    if any(isinstance(latent, PerStep) for latent in fit.spec.latent):
        verdict = "not identified"
        reasons.insert(
            0, "logs cannot tell a theta that is drawn anew in each round from none: effects have Manski's bounds"
        )
    if predicted is not None and predicted.refuted:
        verdict = "refuted"
        reasons.insert(
            0, "a sequence model without a theta predicts the demonstrators better: their memory is not as declared"
        )
    notes = search_notes(fit)
    if predicted is None:
        notes.append(
            "held-out prediction was not compared with a sequence model, so that nothing could refute the model"
            + (f": only {logs.num_episodes} episodes are the demonstrators' alone" if few else "")
        )
    elif demos.has_interventions:
        notes.append(
            f"held-out prediction was compared on the {logs.num_episodes} episodes that are the demonstrators' alone"
        )
    if demos.demonstrator is not None and demos.demonstrator.num_levels > 1 and not _is_given_demonstrator(fit):
        notes.append(
            "the demonstrators are recorded, and the expert was declared the same for all: the agent imitates their "
            'mixture, unless the expert is given "demonstrator"'
        )
    if len(set(demos.lengths.tolist())) > 1:
        notes.append("episodes differ in length; that their ends say nothing about theta is an assumption")
    notes += stuck(reports)
    scales = relaxed = None
    if structure:
        begin("other time scales of theta")
        scales = compare_time_scales(fit, demos, key=keys[4])
        begin("each assumption relaxed")
        relaxed = relax_assumptions(fit, demos, key=jax.random.fold_in(keys[4], 1))
    return Diagnosis(
        verdict,
        tuple(reasons),
        _assumptions(fit, demos),
        found,
        ranks,
        flat,
        tuple(reports),
        predicted,
        scales,
        relaxed,
        tuple(notes),
    )


def _check_tables(fit: Fit, probes: Sequence[Probe] | None) -> None:
    """Raise `ValueError` if there are no bounds for a fit of this kind."""
    kind = "a Network" if fit.layout.networks else "Hypotheses" if fit.weights is not None else None
    if kind is not None:
        raise ValueError(
            f"diagnose: the fit has {kind}, and bounds are for tables and normal fields alone. Bin the fields, fit "
            "tables to them, and diagnose that fit."
        )
    finite = all(isinstance(spec, Symbols) for spec in fit.process.specs)
    if probes is None and not finite:
        raise ValueError(
            "diagnose: actions or observations are real, so that there are no default probes: give "
            'probes=[Probe("name", function of the process)], or bin the fields.'
        )


def _bounds(
    fit: Fit, demos: Demos, probes: Sequence[Probe], delta: float, key: Key[Array, ""]
) -> tuple[list[ProbeReport], tuple[int, int], float]:
    """Return the probes with their bounds; how many directions are flat, of how many; and how far the fit is behind."""
    values = tuple(probe.value for probe in probes)
    with jax.enable_x64(True):
        likelihood, fixed, near, best, behind = nearby(fit, demos, values, delta, key)
        x = near[0]
        at, jacobian, fisher = _slopes(likelihood, values, fit.process, fixed, x)
        two_se, flat = _delta_method(likelihood, np.asarray(fisher), np.asarray(jacobian))
        tied = tied_variances(fit, demos, likelihood, values, fixed, x)
        two_se = np.sqrt(two_se**2 + 4 * tied)
        order = _widest(two_se, np.asarray([probe.is_policy for probe in probes]))
        some = tuple(values[i] for i in order)
        ends, reached = _extremes(likelihood, some, fit.process, fixed, near, jnp.asarray(best - delta))
    allowed = np.asarray(reached) > best - delta - SLACK
    ends = np.asarray(ends)
    centre = np.asarray(at)
    reports = []
    for i, probe in enumerate(probes):
        profile = None
        if i in order:
            j = int(np.flatnonzero(order == i)[0])
            low = min(float(np.where(allowed[j, 0], ends[j, 0], np.inf).min()), float(centre[i]))
            high = max(float(np.where(allowed[j, 1], ends[j, 1], -np.inf).max()), float(centre[i]))
            margin = 2 * delta * float(tied[i])
            low = centre[i] - math.hypot(centre[i] - low, math.sqrt(margin))
            high = centre[i] + math.hypot(high - centre[i], math.sqrt(margin))
            least, most = _possible(fit, probe) if margin > 0 else (-math.inf, math.inf)
            profile = max(float(low), least), min(float(high), most)
        reports.append(
            ProbeReport(
                probe.name, float(centre[i]), float(two_se[i]), profile, manski(fit, demos, probe), probe.is_policy
            )
        )
    return reports, flat, behind


def _possible(fit: Fit, probe: Probe) -> tuple[float, float]:
    """Return the least and the greatest value that a probe can have at all."""
    if isinstance(probe.value, Effect | Policy):
        return 0.0, 1.0
    rewards = np.asarray(fit.process.task.rewards)  # type: ignore[attr-defined]
    known = isinstance(probe.value, Reward | Value) and len(rewards)
    return (float(rewards.min()), float(rewards.max())) if known else (-math.inf, math.inf)


@compiled_for(runs=2)
def _slopes(likelihood: Likelihood, values: tuple, process: InteractionProcess, fixed: dict, x: Array) -> tuple:
    f = vector(likelihood, values, process, fixed)
    return f(x), jax.jacrev(f)(x), information(likelihood, x)


@compiled_for(runs=2)
def _extremes(
    likelihood: Likelihood, values: tuple, process: InteractionProcess, fixed: dict, starts: Array, threshold: Array
) -> tuple[Array, Array]:
    return extremes(likelihood, vector(likelihood, values, process, fixed), len(values), starts, threshold)


def _delta_method(
    likelihood: Likelihood, fisher: Float[np.ndarray, "P P"], jacobian: Float[np.ndarray, "probes P"]
) -> tuple[Float[np.ndarray, " probes"], tuple[int, int]]:
    """Return twice the standard error of each probe, and the number of flat directions."""
    gauges = likelihood.gauges
    eigenvalues, vectors = np.linalg.eigh(fisher + 1e12 * gauges @ gauges.T)
    own = eigenvalues < 1e9
    eigenvalues, vectors = eigenvalues[own], vectors[:, own]
    slopes = jacobian @ vectors
    two_se = 2 * np.sqrt((slopes**2 / np.maximum(eigenvalues, 1e-3)).sum(-1))
    return two_se, (int((eigenvalues < 1).sum()), len(eigenvalues))


def _widest(two_se: Float[np.ndarray, " probes"], is_policy: np.ndarray) -> np.ndarray:
    """Return the probes to profile: of effects and of the policy, those with the largest standard errors."""
    kinds = [np.flatnonzero(is_policy == kind) for kind in (False, True)]
    return np.concatenate([kind[np.argsort(-two_se[kind], kind="stable")][:NUM_PROFILED] for kind in kinds])


def _views(fit: Fit, demos: Demos) -> Views:
    """Return what Kruskal's condition says, which is about the demonstrators' rounds alone, without labels.

    Interventions, and labels of some thetas, may identify what these do not, so that the condition then asks for
    caution and does not decide. With labels of all thetas that last the episode there is nothing to tell apart.
    """
    labels = set(demos.labels[demos.labels >= 0].tolist())
    if fit.latent == "Episode" and labels >= set(range(fit.K)):
        return "not needed"
    return "caution" if labels or demos.has_interventions else "decides"


def _verdict(
    found: Support, ranks: tuple[int, int], reports: Sequence[ProbeReport], *, views: Views, local: float | None
) -> tuple[list[str], Verdict]:
    """Return the reasons against a better verdict, and the verdict.

    Args:
        found: the support.
        ranks: of Kruskal's condition, and what they must reach.
        reports: of the probes.
        views: what Kruskal's condition says of these data.
        local: how many nats a rival is better than the fit, if it is clearly.
    """
    bad, poor = [], []
    if local is not None:
        poor.append(
            f"another model with as many values of theta explains the logs better, by {local:.1f} nats, so that the "
            "fit is a local maximum: fit again with more starts"
        )
    if ranks[0] < ranks[1]:
        which = "three blocks of rounds" + (" of the demonstrators, without labels," if views == "caution" else "")
        reason = f"{which} have ranks that add up to {ranks[0]}, and {ranks[1]} are needed (Kruskal)"
        if views != "not needed":
            (poor if views == "caution" else bad).append(reason)
    if found.least < NO_SUPPORT:
        bad.append(f"the data have {found.least:.1f} rounds for what the agent will do: {found.where}")
    elif found.least < WEAK_SUPPORT:
        poor.append(f"the data have only {found.least:.1f} rounds for what the agent will do: {found.where}")
    for is_policy, weak in ((False, WEAK_WIDTH), (True, WEAK_POLICY_WIDTH)):
        widest = max((x for x in reports if x.is_policy == is_policy), key=lambda x: x.width, default=None)
        if widest is not None and widest.width > weak:
            reason = f"{widest.name} may be anything in {_interval(widest.profile)}"
            (bad if widest.width > WIDE else poor).append(reason)
    if bad:
        return bad + poor, "not identified"
    return poor, "weak" if poor else "identified"


def _is_given_demonstrator(fit: Fit) -> bool:
    return any(context.given == "demonstrator" for context in fit.layout.factors[0].contexts)


def stuck(reports: Sequence[ProbeReport]) -> list[str]:
    """Return a note on each profile range that is far narrower than the standard error: the search hardly moved."""
    return [
        f"the search for the range of {probe.name} hardly moved, although 2 SE are {min(probe.two_se, 99.0):.3f}: the "
        "range may be far too narrow"
        for probe in reports
        if probe.profile is not None and probe.width < STUCK * min(probe.two_se, GREATEST_SE)
    ]


def _assumptions(fit: Fit, demos: Demos) -> tuple[str, ...]:
    """Return what was declared, in words."""
    latent = "theta lasts the episode" if fit.latent == "Episode" else "theta changes as a Markov chain"
    lines = [f"{latent} and has {fit.K} value{'s' if fit.K > 1 else ''}"]
    if fit.K == 1:
        lines = ["no theta is hidden (K = 1)"]
    if any(isinstance(latent, PerStep) for latent in fit.spec.latent):
        lines = ["theta is drawn anew in each round, so that all effects but Manski's bounds are those without a theta"]
    for factor in fit.layout.factors:
        if factor.field.startswith("opening "):
            continue
        given = [c.label for c in factor.contexts]
        theta = [] if factor.mechanism.tied else ["theta"]
        lines.append(f"{factor.field} depends on {', '.join([*theta, *given]) or 'nothing'} alone")
    if demos.has_interventions:
        lines.append("interventions were chosen without knowing theta")
    return tuple(lines)
