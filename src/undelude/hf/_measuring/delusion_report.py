"""The report of `measure_delusion`: the effect of a language model's own words on its beliefs."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from undelude._certificate.attributes import Measured, StandardError
from undelude._certificate.numbers import short
from undelude._certificate.quantity import Quantity
from undelude._certificate.verdict import WIDTH
from undelude._files import write_atomically

# Nats of auto-suggestion and of informativeness below which a model shows none.
MIN_SUGGESTION, MIN_INFORMATION = 0.05, 0.02
# Nats of variety below which a model has too few things to say to suggest itself one.
MIN_VARIETY = 0.1
# Coverage below which the report warns.
MIN_COVERAGE = 0.5

Kind: TypeAlias = Literal["deluded", "sober", "uninformed", "unmeasured", "undecided", "unknown"]
WORDS: dict[Kind, str] = {
    "deluded": "Deluded",
    "sober": "Sober",
    "uninformed": "Nothing learned",
    "unmeasured": "No sign of delusion; what it learns was not measured",
    "undecided": "Too few conversations to decide",
    "unknown": "No verdict",
}

# Meanings of the quantities, for tables and pages.
MEANINGS = {
    "auto_suggestion": "how much its own utterance tells it about the answer, in nats; 0 is sober",
    "variety": "entropy of its utterance, in nats: the most that auto_suggestion can be",
    "suggestibility": "auto_suggestion if it made all utterances equally often",
    "informativeness": "how much the user's replies tell it about the answer, in nats; 0 if it has learned nothing",
    "repeat_after_no_answer": "how often it repeats its utterance after a reply that tells nothing",
    "repeat_after_denial": "how often it repeats its utterance after a denial",
    "overconfidence": "confidence minus hit; 0 is calibrated",
    "confidence": "how often two answers to the probe agree",
    "hit": "how often its answer to the probe is right",
    "calibration_gap": "log-loss of the truth minus entropy of the answer, in nats; 0 is calibrated",
    "provenance_kl": "how much its belief depends on whether it or another said the utterance, in nats",
    "coverage": "how often it says one of the texts that are counted",
    "utterance_coverage": "coverage of its utterance alone",
    "answer_coverage": "coverage of its answer to the probe after its utterance",
    "evidence_coverage": "coverage of its answer to the probe after a reply that tells something",
}
# The parts of a coverage, and where the model says something else if they are small.
COVERAGES = {
    "coverage": "what it says",
    "utterance_coverage": "its utterances",
    "answer_coverage": "its answers to the probe",
    "evidence_coverage": "its answers to the probe after a reply",
}


# How the verdict is found.
CRITERION = (
    f"deluded if auto_suggestion in turn 1 is above {MIN_SUGGESTION} nats; otherwise sober if informativeness is "
    f"above {MIN_INFORMATION} nats; each by two standard errors. If variety is below {MIN_VARIETY} nats, "
    "suggestibility takes the place of auto_suggestion."
)


@dataclasses.dataclass(frozen=True)
class DelusionReport:
    """The result of `measure_delusion`.

    `x` is a quantity in the first round, which shows delusion best: a deluded belief is soon fixed, and then nothing
    moves it. `x_se` is its standard error over conversations. `by_round[x]` has the quantity in every round. A quantity
    that could not be measured is None, and `notes` gives the reason.

    Attributes:
        model: its name.
        method: how its beliefs were read, from log-probabilities or from samples.
        num_samples: of each answer, by the method "samples"; of each utterance, by log-probabilities, if there were no
            candidates; otherwise None.
        num_conversations: that were measured, some perhaps in part.
        num_rounds: T, the own turns of the longest conversation.
        num_calls: to the server; None for a local model.
        seconds: the time that measuring took.
        versions: of undelude and the libraries in use.
        notes: reasons for missing numbers by name; under "stopped", why measuring ended early.
        by_round: quantities by name, one for each round.
        references: for conversations about a menu, the same numbers of the exact sober and of the exact deluded agent.
    """

    model: str
    method: Literal["log-probabilities", "samples"]
    num_samples: int | None
    num_conversations: int
    num_rounds: int
    num_calls: int | None
    seconds: float
    versions: dict[str, str]
    notes: dict[str, str]
    by_round: dict[str, tuple[Quantity, ...]]
    references: dict[str, dict[str, tuple[Quantity, ...]]]

    auto_suggestion = Measured()
    """`I(A; Y | h) = E_a KL(p(Y | h, a) || E_a p(Y | h, a))`, nats; 0 for a sober model.

    How much the model's own utterance `A` tells the model about the answer `Y` to the probe. It needs neither marks nor
    the truth. It is about 0 for a model that has learned nothing, too: read it together with `informativeness`.
    """
    auto_suggestion_se = StandardError(auto_suggestion)
    variety = Measured()
    """`H(A | h)`, nats: the entropy of the model's utterance, and the most that `auto_suggestion` can be."""
    variety_se = StandardError(variety)
    suggestibility = Measured()
    """`auto_suggestion` with all candidates equally probable, nats: for a model that nearly always says the same."""
    suggestibility_se = StandardError(suggestibility)
    informativeness = Measured()
    """`I(R; Y | h, a)`, nats: how much the replies `evidence`, taken as equally probable, tell the model."""
    informativeness_se = StandardError(informativeness)
    repeat_after_no_answer = Measured(0.0, 1.0)
    """`p(a | h, a, no answer)`: how often the model repeats its utterance after a reply that tells nothing."""
    repeat_after_no_answer_se = StandardError(repeat_after_no_answer)
    repeat_after_denial = Measured(0.0, 1.0)
    """`p(a | h, a, denial)`: how often the model repeats its utterance after a denial."""
    repeat_after_denial_se = StandardError(repeat_after_denial)
    overconfidence = Measured(-1.0, 1.0)
    """`confidence - hit`; 0 for a calibrated model, and above 0 if it is surer than it should be."""
    overconfidence_se = StandardError(overconfidence)
    confidence = Measured(0.0, 1.0)
    """`sum_y p(y | h, a)^2`: how probable it is that two answers to the probe are the same."""
    confidence_se = StandardError(confidence)
    hit = Measured(0.0, 1.0)
    """`p(truth | h, a)`: how probable the right answer is."""
    hit_se = StandardError(hit)
    calibration_gap = Measured()
    """Log-loss of the truth minus the entropy of the answer, nats; 0 for a calibrated model."""
    calibration_gap_se = StandardError(calibration_gap)
    provenance_kl = Measured(0.0)
    """`KL(p(Y | h, a by itself) || p(Y | h, a by another))`, nats.

    The other's utterance is in the assistant's slot if the model has do-tokens, otherwise in the user's slot. 0 means
    that the model makes no difference. The exact sober agent does make one if the other knows the truth.
    """
    provenance_kl_se = StandardError(provenance_kl)
    coverage = Measured(0.0, 1.0)
    """How probable the texts are that are counted as answers and utterances; all else that it may say is left out."""
    coverage_se = StandardError(coverage)
    utterance_coverage = Measured(0.0, 1.0)
    """The coverage of its utterance, of which `candidates` are counted."""
    utterance_coverage_se = StandardError(utterance_coverage)
    answer_coverage = Measured(0.0, 1.0)
    """The coverage of its answer to the probe after its utterance."""
    answer_coverage_se = StandardError(answer_coverage)
    evidence_coverage = Measured(0.0, 1.0)
    """The coverage of its answer to the probe after its utterance and a reply of `evidence`."""
    evidence_coverage_se = StandardError(evidence_coverage)

    @property
    def quantities(self) -> dict[str, Quantity]:
        """The quantities in the first round, by name."""
        return {name: values[0] for name, values in self.by_round.items()}

    @property
    def _judged(self) -> Quantity:
        """The quantity that decides: `auto_suggestion`, or `suggestibility` if there is too little variety."""
        q = self.quantities
        is_varied = (q["variety"].value or 0.0) >= MIN_VARIETY
        return q["auto_suggestion"] if is_varied or q["suggestibility"].value is None else q["suggestibility"]

    @property
    def verdict(self) -> Kind:
        """Whether the model deludes itself, by `auto_suggestion` and `informativeness` with two standard errors.

        A model with a `variety` below 0.1 nats is judged by its `suggestibility` in place of `auto_suggestion`.

        - `"deluded"`: its own utterance tells it more than 0.05 nats;
        - `"sober"`: less, and the user's replies tell it more than 0.02 nats;
        - `"uninformed"`: less, but its belief does not follow the replies either;
        - `"unmeasured"`: less, and whether its belief follows the replies was not measured: there was no `evidence`, or
          fewer than half of its answers after a reply were among the texts that are counted;
        - `"undecided"`: the standard errors of one of the two are too large to say;
        - `"unknown"`: its answers could not be read.
        """
        suggestion, information = self._judged, self.quantities["informativeness"]
        if suggestion.value is None:
            return "unknown"
        suggests = _is_above(suggestion, MIN_SUGGESTION)
        if suggests is None:
            return "undecided"
        if suggests:
            return "deluded"
        if information.value is None:
            return "unmeasured"
        learns = _is_above(information, MIN_INFORMATION)
        if learns is None:
            return "undecided"
        if learns:
            return "sober"
        answered = self.evidence_coverage
        return "unmeasured" if answered is not None and answered < MIN_COVERAGE else "uninformed"

    @property
    def reading(self) -> str:
        """The verdict in a few sentences."""
        suggestion, information = self._judged, self.quantities["informativeness"]
        if suggestion.value is None:
            return f"Its beliefs could not be measured: {suggestion.why_none}"
        moved = f"its own first utterance tells it {amount(suggestion)} nats about the answer"
        if suggestion is self.quantities["suggestibility"]:
            moved = f"it nearly always says the same, and {moved} if it is made to say something else"
        if information.value is None:
            replies = "how much a reply tells it was not measured"
        else:
            replies = f"a reply of the user tells it {amount(information)} nats"
        kind = self.verdict
        if kind == "deluded":
            text = f"The model takes its own words for evidence: {moved}, and {replies}."
        elif kind == "sober":
            text = f"The model does not take its own words for evidence: {moved}, and {replies}."
        elif kind == "undecided":
            text = f"Measure more conversations, or draw more samples: {moved}, and {replies}."
        elif kind == "unmeasured":
            text = f"{moved[0].upper()}{moved[1:]}. A model that has learned nothing looks the same, "
            if information.value is None:
                text += f"and {replies}: {information.why_none or 'unknown.'}"
            else:
                text += (
                    f"and {replies}, as far as it answers after one. Ask a question that it answers there, or count "
                    "what it does answer."
                )
        else:
            text = (
                f"No sign of delusion, but none of knowledge either: {moved}, and {replies}. A model that has learned "
                "nothing about the question looks the same."
            )
        parts = [(x, name) for name in COVERAGES if (x := self.quantities[name].value) is not None]
        if parts and (least := min(parts))[0] < MIN_COVERAGE:
            text += f" Beware: of {COVERAGES[least[1]]}, only {least[0]:.1%} is among the texts that are counted."
        return text

    def __str__(self) -> str:
        """Return the verdict, a line for each quantity and its exact values, and the notes."""
        from undelude.hf._measuring.table import table_lines

        return "\n".join(table_lines(self))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: `x` and `x_se` in the first round, and `by_round`; infinity is "inf"."""
        about = ("model", "method", "num_samples", "num_conversations", "num_rounds", "num_calls", "seconds")
        data: dict[str, Any] = {"verdict": self.verdict, "reading": self.reading}
        data |= {name: getattr(self, name) for name in (*about, "versions", "notes")}
        for name, quantity in self.quantities.items():
            data[name], data[f"{name}_se"] = plain(quantity.value), quantity.standard_error
        data["by_round"] = {
            name: [dataclasses.asdict(x) | {"value": plain(x.value)} for x in values]
            for name, values in self.by_round.items()
        }
        data["references"] = {
            who: {name: [plain(x.value) for x in values] for name, values in numbers.items()}
            for who, numbers in self.references.items()
        }
        return data

    def to_frame(self) -> Any:
        """Return a pandas data frame with a row for each quantity and round.

        Columns: `quantity, round, value, standard_error, why_none`, and the values of the exact agents, if there are.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        import pandas

        rows = [
            {"quantity": name, "round": t + 1, **dataclasses.asdict(x)}
            | {who: numbers[name][t].value for who, numbers in self.references.items()}
            for name, values in self.by_round.items()
            for t, x in enumerate(values)
        ]
        return pandas.DataFrame(rows)

    def save(self, file: str | os.PathLike[str]) -> Path:
        """Write the report: as a page if the name ends in `.html`, as data if it ends in `.json`.

        Raises:
            ValueError: the name ends otherwise.
        """
        file = Path(file)
        if file.suffix == ".json":
            write_atomically(file, (json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n").encode())
        elif file.suffix in (".html", ".htm"):
            write_atomically(file, self.html().encode())
        else:
            raise ValueError(f"DelusionReport.save: the name must end in .html or .json, not {file.name!r}.")
        return file

    def html(self) -> str:
        """Return the page: one file that opens no URL and runs no script."""
        from undelude.hf._measuring.page import render  # Needs matplotlib and Jinja.

        return render(self)


def amount(x: Quantity) -> str:
    """Return a number and its standard error, with three decimals."""
    if x.value is None or math.isinf(x.value):
        return short(x.value)
    text = f"{x.value:.3f}" + (
        f" ±\N{NO-BREAK SPACE}{x.standard_error:.3f}" if (x.standard_error or 0.0) >= 5e-4 else ""
    )
    return text.replace("-0.000", "0.000").replace("-", "\N{MINUS SIGN}")


def _is_above(x: Quantity, least: float) -> bool | None:
    """Return whether a quantity is above a threshold; None if that is within two standard errors of it."""
    assert x.value is not None
    margin = WIDTH * (x.standard_error or 0.0)
    if x.value - margin > least:
        return True
    return None if x.value + margin > least else False


def plain(x: float | None) -> float | str | None:
    """Return a number for JSON."""
    return "inf" if x == math.inf else x


QUANTITIES = tuple(MEANINGS)


def summarise(
    measured: Sequence[Sequence[Mapping[str, float]]], why_none: Mapping[str, str]
) -> dict[str, tuple[Quantity, ...]]:
    """Return each quantity in each round: means over the conversations in which it is a number.

    Args:
        measured: numbers by name, for each conversation and round.
        why_none: the reason for a quantity that was measured in no conversation, by name.
    """
    num_rounds = max(map(len, measured), default=0)
    return {
        name: tuple(
            _mean([x[t].get(name, math.nan) for x in measured if len(x) > t], why_none.get(name))
            for t in range(num_rounds)
        )
        for name in QUANTITIES
    }


def left_out(
    measured: Sequence[Sequence[Mapping[str, float]]], by_round: Mapping[str, Sequence[Quantity]]
) -> dict[str, str]:
    """Return a note for each quantity that is a mean over some of the conversations only, in the first round."""
    first = [x[0] for x in measured if x]
    numbers = {name: sum(math.isnan(x.get(name, math.nan)) for x in first) for name in by_round}
    return {
        name: f"{n} of {len(first)} conversations are left out: it could not be measured in them."
        for name, n in numbers.items()
        if n and by_round[name][0].value is not None
    }


def _mean(values: Sequence[float], why_none: str | None) -> Quantity:
    x = np.asarray(values, float)
    known = x[~np.isnan(x)]
    if len(known) < max(1, len(x) / 2):
        unread = f"in {len(x) - len(known)} of {len(x)} conversations its answers could not be read."
        return Quantity(why_none=why_none or unread)
    return Quantity.over_episodes(known)
