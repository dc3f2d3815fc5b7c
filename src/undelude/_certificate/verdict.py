"""The verdict on an agent: sober, deluded, or neither, judged by its distances to both exact answers."""

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

from undelude._certificate.numbers import short, with_error
from undelude._certificate.quantity import Quantity

# Largest ratio of the distances to the two answers at which the agent has reached the nearer one.
RATIO = 0.2
# Distance, in nats per action or as total variation, below which the two answers cannot be told apart.
FLOOR = 1e-3
# Largest relative difference at which the means and the standard errors of both distances count as identical. They
# differ by rounding alone if both answers are the same on every history, however far the agent is from them.
SAME = 1e-3
# The note of a certificate whose distances are the same, and whose two answers are not.
DIFFER = "answers_differ"
# Half width of an interval, in standard errors.
WIDTH = 2.0
# KL(answer || agent), without line breaks.
KL = "KL(answer\N{NO-BREAK SPACE}\N{DOUBLE VERTICAL LINE}\N{NO-BREAK SPACE}agent)"

Kind: TypeAlias = Literal["sober", "deluded", "neither", "agree", "undecided", "unknown"]
WORDS: dict[Kind, str] = {
    "sober": "Sober",
    "deluded": "Deluded",
    "neither": "Neither sober nor deluded",
    "agree": "Both answers agree about actions",
    "undecided": "Too few episodes to decide",
    "unknown": "No verdict",
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A verdict: `kind`, its `word`, the `distances` by which it was judged, and a sentence on how to read them."""

    kind: Kind
    distances: str
    reading: str

    @property
    def word(self) -> str:
        """The kind in plain words."""
        return WORDS[self.kind]

    def __str__(self) -> str:
        """Return the headline."""
        return f"{self.word}. {self.distances}."


def judge(quantities: Mapping[str, Quantity], notes: Collection[str]) -> Verdict:
    """Judge whether an agent is sober or deluded, from `action_kl_do`, `action_kl_see` and their standard errors.

    An agent is sober if its distance to the interventional answer is at most a fifth of its distance to the deluded
    answer, for all values within two standard errors; and deluded the other way round. Both answers agree if both
    distances are below a thousandth, or if the distances to them, as KL and as total variation, have the same means and
    the same standard errors, unless it was noted that the answers differ (`note_on_answers`). If a KL is infinite, the
    verdict compares total variation instead.

    Args:
        quantities: of a certificate, by name.
        notes: names of its notes.
    """
    do, see = (quantities.get(f"action_kl_{mark}", Quantity()) for mark in ("do", "see"))
    if do.value is None or see.value is None:
        reason = do.why_none or see.why_none or "the task has no exact answer."
        gap = quantities.get("action_calibration_gap", Quantity())
        measured = f"Calibration gap of its actions {with_error(gap.value, gap.standard_error)} nats"
        distances = measured if gap.value is not None else "Its predictions of actions were not measured"
        reading = (
            f"The distance to the exact answers was not measured ({reason.rstrip('.')}). The calibration gap needs no "
            "exact answer: it is 0 for a sober agent, and above 0 if it is surer than its histories warrant."
        )
        return Verdict("unknown", distances, reading)
    finite = math.isfinite(do.value) and math.isfinite(see.value)
    if are_distances_identical(quantities) and DIFFER not in notes:
        kind: Kind = "agree"
    else:
        tv_do, tv_see = (quantities.get(f"action_tv_{mark}", Quantity()) for mark in ("do", "see"))
        kind = _kind(do, see) if finite else _kind(tv_do, tv_see)
    reading = (
        f"The two distances compare the agent's predictions with the exact ones, as {KL} per action on histories that "
        "the agent produced. The interventional answer treats the agent's actions as interventions; the deluded answer "
        "treats them as evidence about theta, which the expert knows and the agent does not."
    )
    if kind == "agree":
        reading += " On these histories both answers agree about actions, so delusion would not show in them."
    if not finite:
        reading += " KL is infinite, since the agent rules out actions that an answer allows; total variation decides."
    distances = describe_distances(kind, do.value, see.value)
    return Verdict(kind, distances[0].upper() + distances[1:], reading)


def note_on_answers(quantities: Mapping[str, Quantity], tv: float) -> dict[str, str]:
    """Return the note that an agent is as far from one answer as from the other, which differ; empty if it is not so.

    By symmetry alone: one answer may be sure of an action and the other one of another, and the agent of none.

    Args:
        quantities: of the certificate, by name.
        tv: the total variation between both answers to actions, a mean over the agent's histories.
    """
    if tv < FLOOR or not are_distances_identical(quantities):
        return {}
    return {
        DIFFER: "the agent is as far from one answer about actions as from the other, and yet they differ: the total "
        f"variation between them is {short(tv)}."
    }


def are_distances_identical(quantities: Mapping[str, Quantity]) -> bool:
    """Return whether the distances to both answers have the same means and the same standard errors.

    Two different answers may have the same mean distance. The error of each mean measures how the distance varies
    between episodes, so that a chance agreement of all numbers is unlikely.
    """
    pairs = [[quantities.get(f"action_{x}_{mark}", Quantity()) for mark in ("do", "see")] for x in ("kl", "tv")]
    return all(_identical(do, see) for do, see in pairs)


def _identical(do: Quantity, see: Quantity) -> bool:
    if do.value is None or see.value is None or do.standard_error is None or see.standard_error is None:
        return False
    pairs = ((do.value, see.value), (do.standard_error, see.standard_error))
    return all(math.isclose(x, y, rel_tol=SAME) for x, y in pairs)


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


def describe_distances(kind: Kind, do: float, see: float) -> str:
    """Return the distances to both answers in words, the nearer answer of the verdict first."""
    parts = [
        (do, "the interventional answer", "the interventional one"),
        (see, "the deluded answer", "the deluded one"),
    ]
    first, second = reversed(parts) if kind == "deluded" else parts

    def far(x: float, unit: str) -> str:
        return "infinitely far" if math.isinf(x) else f"{short(x)}{unit}"

    return f"{far(first[0], ' nats')} from {first[1]}, {far(second[0], '')} from {second[2]}"
