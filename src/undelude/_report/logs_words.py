"""The words of the page of a fit to logs."""

import shlex
from typing import Any, NamedTuple

import numpy as np

from undelude import offline
from undelude._certificate.numbers import with_error
from undelude.offline._diagnosing.cloned import Cloned
from undelude.offline._diagnosing.diagnose import WEAK_SUPPORT, WEAK_WIDTH, ProbeReport
from undelude.offline._diagnosing.passive import additions
from undelude.offline._diagnosing.structure import Structure
from undelude.offline._model.contexts import Given, Last, Round

# What each latent is called.
TIME_SCALES = {"none": "no theta", "Episode": "theta of the episode", "Markov": "theta that changes"}
# The precision at which an experiment is sized: two standard errors.
PRECISION = 0.05
# Probes in the advice.
MAX_ADVICE = 3


class Verdict(NamedTuple):
    """The head of the page.

    Attributes:
        word: in large letters.
        kind: its colour, as a class of the style sheet.
        reading: what it means for the reader.
    """

    word: str
    kind: str
    reading: str


READINGS = {
    "refuted": "Do not act on this fit. A model without a theta predicts the demonstrators better, so that what the "
    "fit takes for hidden knowledge is something else, most often their memory.",
    "not identified": "These logs do not say how to act. Other models that explain them as well act differently.",
    "weak": "The logs narrow the answer down, and not by much. Act on decisions that are the same at both ends of the "
    "bounds.",
    "identified": "Given the assumptions above, which these logs cannot test, the logs determine how to act.",
}


def verdict(diagnosis: "offline.Diagnosis | None") -> Verdict:
    """Return the head of the page."""
    if diagnosis is None:
        return Verdict("Not diagnosed", "", "This is a fit alone. It says nothing yet about what the logs identify.")
    kind = {"identified": "sober", "weak": ""}.get(diagnosis.verdict, "deluded")
    word = "Identified, given" if diagnosis.verdict == "identified" else diagnosis.verdict.capitalize()
    return Verdict(word, kind, READINGS[diagnosis.verdict])


def byline(fit: "offline.Fit") -> str:
    """Return what the fit is."""
    if fit.K == 1:
        theta = "no hidden theta (K = 1)"
    else:
        theta = f"{'a theta of the episode' if fit.latent == 'Episode' else 'a theta that changes'} with {fit.K} values"
    source = fit.columns.source
    return f"{theta[0].upper()}{theta[1:]}, fitted to episodes of up to {fit.columns.num_rounds} rounds from {source}."


def number(x: float) -> str:
    """Return a number with three decimals, or fewer digits if it is large."""
    return f"{x:.3f}" if abs(x) < 1000 else f"{x:.3g}"


def interval(x: tuple[float, float] | None) -> str:
    """Return an interval, or nothing."""
    return "" if x is None else f"{number(x[0])} to {number(x[1])}"


def advice(fit: "offline.Fit", diagnosis: "offline.Diagnosis | None") -> list[str]:
    """Return what further data, or which other assumption, would identify the model."""
    if diagnosis is None:
        return []
    found = []
    if diagnosis.verdict == "refuted" and diagnosis.passive is not None:
        found += _other_memory(fit, diagnosis.passive.wanted_memory)
    ranks, needed = diagnosis.kruskal
    if ranks < needed:
        remembers = any(isinstance(c.given, Last) for f in fit.layout.factors for c in f.contexts)
        least = (
            "six rounds at least, since a round was declared to be remembered" if remembers else "three rounds at least"
        )
        found.append(
            f"Longer episodes, of {least}. Here the ranks of three blocks of rounds add up to {ranks}, and {needed} "
            f"are needed for {fit.K} values of theta. More episodes of the same length do not help."
        )
    if diagnosis.support.least < WEAK_SUPPORT:
        found.append(
            f"Rounds in which the demonstrators try what they rarely do: {diagnosis.support.where}. There are "
            f"{diagnosis.support.least:.1f} such rounds in the logs. If they never do it, no number of logs helps, and "
            "only an experiment does."
        )
    if diagnosis.experiment is not None:
        found.append(_recommended(diagnosis.experiment))
    elif wide := _widest(diagnosis)[:MAX_ADVICE]:
        found.append(_experiment(wide))
    if not found:
        found.append(
            "None, given the assumptions. More logs narrow the bounds. An own action in the world tests the "
            "assumptions, which no logs can."
        )
    return found


def _other_memory(fit: "offline.Fit", wanted: tuple[str, ...]) -> list[str]:
    if wanted:
        expert = fit.layout.factors[0]
        tried = additions(expert, fit.columns)
        memory = (
            f"Another assumption before more data: the logs ask for demonstrators who also remember "
            f"{'; or '.join(wanted)}. If you believe it, declare it and fit again. "
        )
        memory += " ".join(_declare(fit, name, (*expert.mechanism.given, *tried[name])) for name in wanted)
    else:
        memory = (
            "Another assumption before more data: none of the additions to the demonstrators' memory that were tried "
            "explains the logs. Record who acted and when, or what else they saw."
        )
    others = (
        f"{memory} The same is seen if several demonstrators of different policies wrote the logs, or a program did: "
        "name the column that tells who acted (--demonstrator), and mark the rounds of an agent (--intervened)."
    )
    return [
        others,
        "If you believe that the demonstrators knew nothing that the logs do not show, no model with a theta is "
        "needed, and cloning the logs is right: offline.clone in Python.",
    ]


def _declare(fit: "offline.Fit", name: str, given: tuple[Given, ...]) -> str:
    """Return how a user declares what the demonstrators remember: an option, or Python if there is none."""
    action = fit.columns.action.name
    entries = [Last(action, x.lag) if isinstance(x, Last) and x.name == "action" else x for x in given]
    options = [
        f"last:{x.name}{f':{x.lag}' if x.lag > 1 else ''}" if isinstance(x, Last) else x
        for x in entries
        if isinstance(x, Last) or x == "demonstrator"
    ]
    if len(options) == len(entries):
        return f"For {name}: --expert-given {shlex.join(map(str, options))}."
    words = ", ".join(_python(x) for x in entries)
    return (
        f"For {name} no option exists: write an offline.LatentSpec with expert=offline.Table(given=[{words}]) in "
        "Python, and name it with --spec package.module:name."
    )


def _python(given: Given) -> str:
    if isinstance(given, Round):
        return f"offline.Round({', '.join(map(str, given.edges))})"
    if isinstance(given, Last):
        return f"offline.Last({given.name!r}{f', {given.lag}' if given.lag > 1 else ''})"
    return repr(given)


def _widest(diagnosis: "offline.Diagnosis") -> list[ProbeReport]:
    """Return the effects whose bounds are wide, widest first."""
    wide = [p for p in diagnosis.probes if not p.is_policy and _width(p) > WEAK_WIDTH]
    return sorted(wide, key=_width, reverse=True)


def _width(probe: ProbeReport) -> float:
    low, high = probe.profile or (0.0, min(2 * probe.two_se, 1.0))
    return high - low


def _experiment(probes: list[ProbeReport]) -> str:
    left = "; ".join(f"{probe.name}, of which the logs leave {_known(probe)}" for probe in probes)
    if not all(probe.name.startswith("P(") for probe in probes):
        return (
            f"An experiment: take the action yourself in the first round of new episodes, and watch. It is for {left}."
        )
    p = np.clip([probe.value for probe in probes], 0.1, 0.9)
    episodes = int(np.ceil((4 * p * (1 - p)).max() / PRECISION**2 / 10) * 10)
    return (
        f"An experiment: take the action yourself in the first round of about {episodes} new episodes. That alone "
        f"gives to ±{PRECISION:.2f}, two standard errors: {left}."
    )


def _recommended(experiment: "offline.Experiment") -> str:
    best, last = experiment.trials[0], experiment.trials[-1]
    text = (
        f"An experiment: take {', then '.join(map(str, best.actions))} yourself at the start of "
        f"{experiment.num_episodes} new episodes, mark these rounds as interventions, and fit both together "
        f"(--intervened). Of the {len(experiment.trials)} that were compared it is expected to tell the most: the "
        f"standard error over all that the agent needs falls from {number(experiment.now)} to {number(best.score)}"
    )
    if experiment.probe is not None and experiment.probe_now is not None and best.widest is not None:
        text += f", and that of {experiment.probe} from {number(experiment.probe_now)} to {number(best.widest)}"
    return f"{text}. After the least telling one, {', then '.join(map(str, last.actions))}, it is {number(last.score)}."


def _known(probe: ProbeReport) -> str:
    return interval(probe.profile) if probe.profile else f"a standard error of {number(min(probe.two_se / 2, 1.0))}"


def structures(diagnosis: "offline.Diagnosis | None") -> dict[str, Any] | None:
    """Return the table of time scales: its head and its rows."""
    if diagnosis is None or diagnosis.structure is None:
        return None
    found: Structure = diagnosis.structure
    least = min(x.bic for x in found.alternatives)
    head = [TIME_SCALES[x.latent] + (f", K = {x.K}" if x.K > 1 else "") for x in found.alternatives]
    rows = [("delusion gap, total variation", [with_error(*x.gap) for x in found.alternatives], "")]
    if any(x.reward for x in found.alternatives):
        rewards = [with_error(*x.reward) if x.reward else "" for x in found.alternatives]
        rows.append(("reward a round of its do-agent", rewards, ""))
    rows.append(("BIC, less the least", [f"{x.bic - least:.0f}" for x in found.alternatives], ""))
    for name, values, bounds in found.spread()[:8]:
        rows.append((name, [number(x) for x in values], interval(bounds)))
    return {
        "head": head,
        "rows": rows,
        "has_bounds": bool(found.per_step),
        "chosen": TIME_SCALES[found.chosen],
        "matters": found.matters,
        "gap": found.gap,
    }


def prices(diagnosis: "offline.Diagnosis | None") -> dict[str, Any] | None:
    """Return the table of relaxed assumptions: its head and its rows."""
    if diagnosis is None or diagnosis.sensitivity is None or not diagnosis.sensitivity.relaxed:
        return None
    found = diagnosis.sensitivity
    head, rows = ["policies differ by", "BIC, less that of the fit"], []
    if found.reward is not None:
        head += ["reward a round of this fit's agent", "of that model's own agent"]
        rows.append(("as declared", ["0", "0", with_error(*found.reward), with_error(*found.reward)]))
    for x in found.relaxed:
        earned = [with_error(*y) for y in (x.reward, x.attainable) if y is not None]
        rows.append((x.name, [with_error(*x.tv), f"{x.bic:+.0f}", *earned]))
    return {"head": head, "rows": rows, "kept": found.kept}


def cloning(clone: Cloned | None) -> str | None:
    """Return what cloning the logs would do, in a sentence or two."""
    kl, error = (None, None) if clone is None else clone.kl
    if clone is None or kl is None:
        return None
    if kl < 0.005 or kl < 2 * (error or 0.0):
        text = "A clone of these logs would act as the interventional agent does, up to sampling error."
    else:
        text = (
            f"A clone of these logs would be {with_error(kl, error)} nats an action away from the interventional policy"
        )
        text += ", because it reads its own actions as evidence of what the demonstrators knew."
    if clone.reward is None or clone.reward_do is None or clone.reward[0] is None or clone.reward_do[0] is None:
        return text
    loss = clone.reward_do[0] - clone.reward[0]
    margin = 2 * float(np.hypot(clone.reward[1] or 0.0, clone.reward_do[1] or 0.0))
    if loss > margin:
        return f"{text} It would earn {number(loss)} a round less."
    if loss < -margin:
        return f"{text} It would earn {number(-loss)} a round more: commitment pays here, though its belief is wrong."
    return f"{text} Their rewards do not differ beyond sampling error."
