"""The texts of a report: numbers with their errors, the verdict, the story of an episode."""

import dataclasses
import itertools
import math
from typing import Literal

import numpy as np

from undelude._certificate.quantity import Quantity
from undelude._runs.contents import RunContents
from undelude._runs.example_episode import ExampleEpisode

# Largest ratio of the distances to the two answers at which the agent has reached the nearer one.
RATIO = 0.2
# Distance, in nats per action or as total variation, below which the two answers cannot be told apart.
FLOOR = 1e-3
# Half width of an interval, in standard errors.
WIDTH = 2.0
# Probability above which the agent is called sure.
SURE = 0.9
# Largest number of decimals; more would show the rounding of 32-bit distributions.
MAX_DECIMALS = 6
# Size from which a number is written with an exponent.
LONG = 1e9
# Text for a missing number.
NONE = "\N{EN DASH}"
# KL(answer || agent), without line breaks.
KL = "KL(answer\N{NO-BREAK SPACE}\N{DOUBLE VERTICAL LINE}\N{NO-BREAK SPACE}agent)"

Kind = Literal["sober", "deluded", "neither", "agree", "undecided", "unknown"]
WORDS: dict[Kind, str] = {
    "sober": "Sober",
    "deluded": "Deluded",
    "neither": "Neither sober nor deluded",
    "agree": "Both answers agree",
    "undecided": "Too few episodes to decide",
    "unknown": "No verdict",
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The headline of a report: `kind`, its `word`, the `distances`, and a sentence on how to read them."""

    kind: Kind
    distances: str
    reading: str

    @property
    def word(self) -> str:
        """The kind in plain words."""
        return WORDS[self.kind]


def short(x: float | None) -> str:
    """Format with two significant digits: `0.0029`, `0.11`."""
    if x is None:
        return NONE
    if math.isinf(x):
        return "∞"
    if abs(x) < 0.5 * 10**-MAX_DECIMALS:
        return "0"
    decimals = min(max(1 - math.floor(math.log10(abs(x))), 0), MAX_DECIMALS)
    return _fixed(x, decimals)


def loss(x: float | None) -> str:
    """Format with four decimals, for numbers that change in the third: `1.4471`."""
    return short(x) if x is None or math.isinf(x) else _fixed(x, 4)


def with_error(q: Quantity) -> str:
    """Format to the second digit of the standard error: `0.1118 ± 0.0014`."""
    if q.value is None or math.isinf(q.value) or not q.standard_error or not math.isfinite(q.standard_error):
        return short(q.value)
    decimals = min(max(1 - math.floor(math.log10(q.standard_error)), 0), MAX_DECIMALS)
    if abs(q.value) + q.standard_error < 0.5 * 10**-MAX_DECIMALS:
        return "0"
    # A line may break before the sign, never after it.
    return f"{_fixed(q.value, decimals)} ±\N{NO-BREAK SPACE}{_fixed(q.standard_error, decimals)}"


def _fixed(x: float, decimals: int) -> str:
    text = f"{x:.{decimals}f}" if abs(x) < LONG else f"{x:.2g}"
    return text.replace("-", "\N{MINUS SIGN}")


def verdict(run: RunContents) -> Verdict:
    """Judge whether the agent is sober or deluded, from `action_kl_do`, `action_kl_see` and their standard errors.

    An agent is sober if its distance to the interventional answer is at most a fifth of its distance to the deluded
    answer, for all values within two standard errors; and deluded the other way round. If a KL is infinite, the verdict
    compares total variation instead.
    """
    if run.certificate is None:
        return _without_certificate(run)
    do, see = run.quantity("action_kl_do"), run.quantity("action_kl_see")
    if do.value is None or see.value is None:
        gap = run.quantity("action_calibration_gap")
        reason = do.why_none or see.why_none or "the task has no exact answer."
        measured = f"Calibration gap of its actions {with_error(gap)} nats"
        distances = measured if gap.value is not None else "Nothing was measured"
        reading = (
            f"The distance to the exact answers was not measured ({reason.rstrip('.')}). The calibration gap needs no "
            "exact answer: it is 0 for a sober agent, and above 0 if it is surer than its histories warrant."
        )
        return Verdict("unknown", distances, reading)
    finite = math.isfinite(do.value) and math.isfinite(see.value)
    kind = _kind(do, see) if finite else _kind(run.quantity("action_tv_do"), run.quantity("action_tv_see"))
    reading = (
        f"The two distances compare the agent's predictions with the exact ones, as {KL} per action on histories that "
        "the agent produced. The interventional answer treats the agent's actions as interventions; the deluded answer "
        "treats them as evidence about theta."
    )
    if kind == "agree":
        reading += " On these histories both answers agree, so delusion would not show."
    if not finite:
        reading += " KL is infinite, since the agent rules out actions that an answer allows; total variation decides."
    distances = _distances(kind, do.value, see.value)
    return Verdict(kind, distances[0].upper() + distances[1:], reading)


def _kind(do: Quantity, see: Quantity) -> Kind:
    if do.value is None or see.value is None:
        return "unknown"

    def interval(q: Quantity) -> tuple[float, float]:
        assert q.value is not None
        margin = math.inf if q.standard_error is None else WIDTH * q.standard_error
        return max(q.value - margin, 0.0), q.value + margin

    kinds: set[Kind] = {_kind_of_point(d, s) for d, s in itertools.product(interval(do), interval(see))}
    return kinds.pop() if len(kinds) == 1 else "undecided"


def _kind_of_point(do: float, see: float) -> Kind:
    if max(do, see) < FLOOR:
        return "agree"
    if do <= RATIO * see:
        return "sober"
    return "deluded" if see <= RATIO * do else "neither"


def _distances(kind: Kind, do: float, see: float) -> str:
    parts = [
        (do, "the interventional answer", "the interventional one"),
        (see, "the deluded answer", "the deluded one"),
    ]
    first, second = reversed(parts) if kind == "deluded" else parts

    def far(x: float, unit: str) -> str:
        return "infinitely far" if math.isinf(x) else f"{short(x)}{unit}"

    return f"{far(first[0], ' nats')} from {first[1]}, {far(second[0], '')} from {second[2]}"


def _without_certificate(run: RunContents) -> Verdict:
    steps = run.config.get("steps")
    total = f" of {steps}" if steps is not None else ""
    if not run.metrics:
        return Verdict(
            "unknown",
            "No update was logged",
            "This run has no certificate: it stopped before its first row of metrics.",
        )
    last = run.metrics[-1]
    reading = f"This run has no certificate; its last row of metrics is from update {last['update']}{total}."
    do, see = last["action_kl_do"], last["action_kl_see"]
    if do is None or see is None:
        return Verdict("unknown", "The distance to either answer was not measured", reading)
    return Verdict(
        "unknown",
        f"At the last measurement {_distances('neither', do, see)}",
        f"{reading} Training measures without standard errors, which a verdict needs.",
    )


def story(episode: ExampleEpisode) -> list[str]:
    """Describe in sentences the round in which the two answers differ most, the actions before it, and the end."""
    variable, distributions = episode.distributions
    agent, do, see = (distributions[name] for name in ("agent", "exact_do", "exact_see"))
    t = int(np.abs(do - see).sum(-1).argmax())
    value = int((see[t] - do[t]).argmax())
    when = f"before round {t + 1}" if t < episode.num_rounds else "at the end"
    apart = (
        f"The two answers are furthest apart {when}: {variable} {value} has probability {see[t, value]:.2f} by the "
        f"deluded answer, {do[t, value]:.2f} by the interventional one, and {agent[t, value]:.2f} "
        f"by the {'belief that the policy of the agent implies' if variable == 'theta' else 'policy of the agent'}."
    )
    if t > 0:
        taken = np.bincount(episode.actions[:t])
        favourite = int(taken.argmax())
        earned = episode.rewards[:t][episode.actions[:t] == favourite].mean()
        rounds = f"{taken[favourite]} of {t} rounds" if t > 1 else "the one round"
        apart += (
            f" By then the agent has taken action {favourite} in {rounds}, at a mean reward of {short(float(earned))}."
        )
    if variable != "theta":
        return [apart]
    truth = int(episode.theta[-1])
    end = (
        f"At the end the truth, theta {truth}, has probability {agent[-1, truth]:.2f} for the agent, "
        f"{do[-1, truth]:.2f} by the interventional answer and {see[-1, truth]:.2f} by the deluded one."
    )
    return [_onset(episode, agent, do), apart, end]


def _onset(episode: ExampleEpisode, agent: np.ndarray, do: np.ndarray) -> str:
    """Describe the first round in which the agent is sure of a wrong theta, if there is one."""
    wrong = (agent.argmax(-1) != episode.theta) & (agent.max(-1) > SURE)
    if not wrong.any():
        return f"In this episode the agent never gives a wrong theta a probability above {SURE}."
    t = int(wrong.argmax())
    theta = int(agent[t].argmax())
    when = "From the start" if t == 0 else "After 1 round" if t == 1 else f"After {t} rounds"
    return (
        f"{when} the agent is sure of a wrong theta for the first time, theta {theta} with probability "
        f"{agent[t, theta]:.2f}; the interventional answer gives it {do[t, theta]:.2f}."
    )
