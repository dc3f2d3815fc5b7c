"""`measure_delusion`: the estimators, known answers of exact agents, transcripts, and the report."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from undelude._certificate.quantity import Quantity
from undelude.hf import MenuDialogue
from undelude.hf._measuring.delusion_report import QUANTITIES, DelusionReport, summarise
from undelude.hf._measuring.estimates import Answers, agreement, calibration_gap, entropy, kl, mutual_information
from undelude.hf._measuring.measure import measure, prepare
from undelude.hf._measuring.speakers import ExactSpeaker, Interrupted, Request, merge_users

DELUDED = math.log(5) + 0.9 * math.log(0.9) + 0.1 * math.log(0.025)  # I(A; Theta), nats; 1.146.
SHARP = np.where(np.eye(5, dtype=bool), 0.9, 0.025)
FLAT = np.full((5, 5), 0.2)


# Estimates --------------------------------------------------------------------------------------------------------


def test_mutual_information_of_known_tables() -> None:
    """`ln 5 - H(.9, .025, ...)` if the answer follows the utterance as an expert's theta does; 0 if it does not."""
    uniform = Answers(np.full(5, 0.2))
    assert mutual_information(uniform, [Answers(p) for p in SHARP]) == pytest.approx(DELUDED)
    assert mutual_information(uniform, [Answers(p) for p in FLAT]) == pytest.approx(0, abs=1e-12)
    # Zeros, and values of A that are left out.
    assert mutual_information(uniform, [Answers(p) for p in np.eye(5)]) == pytest.approx(math.log(5))
    assert mutual_information(uniform, [Answers(np.eye(5)[0]), Answers(np.eye(5)[1]), None, None, None]) == (
        pytest.approx(math.log(2))
    )


def rows_of(p: list[float]) -> np.ndarray:
    return np.tile(p, (len(p), 1))


@pytest.mark.parametrize(
    ("table", "num_samples", "samples_utterances", "bias"),
    [
        (FLAT, 3, False, 0.0),
        (FLAT, 10, True, 0.0),
        (rows_of([0.95] + [0.0125] * 4), 10, False, 0.0),
        (rows_of([0.91] + [0.01] * 9), 10, True, 0.0),
        (SHARP, 10, True, 0.07),
        (SHARP, 5, False, 0.1),
        (0.5 * SHARP + 0.5 * FLAT, 10, False, 0.03),
    ],
)
def test_sampled_mutual_information_is_nearly_unbiased(
    table: np.ndarray, num_samples: int, samples_utterances: bool, bias: float
) -> None:
    """Whatever a sober model believes, the mean is 0 within four standard errors; a deluded one's is near the truth.

    The plug-in estimate of 0 is .16 with 10 samples of five equally probable answers. Intervals of two standard errors
    over 20 conversations must cover the truth, give or take the bias, in 80% of the reports.
    """
    rng, K, reports = np.random.default_rng(0), len(table), 12
    uniform = Answers(np.full(K, 1 / K))
    truth = mutual_information(uniform, [Answers(p) for p in table])

    def sample(p: np.ndarray) -> Answers:
        return Answers(rng.multinomial(num_samples, p) / num_samples, num_samples=num_samples)

    estimates = np.array(
        [
            mutual_information(sample(uniform.probs) if samples_utterances else uniform, [sample(p) for p in table])
            for _ in range(20 * reports)
        ]
    ).reshape(reports, 20)
    assert abs(estimates.mean() - truth) < bias + 4 * estimates.std() / math.sqrt(estimates.size)
    errors = estimates.std(axis=1, ddof=1) / math.sqrt(20)
    assert np.mean(abs(estimates.mean(axis=1) - truth) < bias + 2 * errors) > 0.8


def test_some_answers_by_samples_and_others_exact() -> None:
    """A sober belief of which only one or some answers were sampled: mean 0 within four standard errors."""
    rng, p = np.random.default_rng(0), np.array([0.9, 0.05, 0.05])
    for sampled in ((True, False, False), (True, True, False)):
        estimates = [
            mutual_information(
                Answers(np.full(3, 1 / 3)),
                [Answers(rng.multinomial(10, p) / 10, num_samples=10) if s else Answers(p) for s in sampled],
            )
            for _ in range(150)
        ]
        assert abs(np.mean(estimates)) < 4 * np.std(estimates) / math.sqrt(150) + 0.005


def test_tiny_probabilities_are_kept() -> None:
    """Texts of many words have log-probabilities such as -800, of which the exponential is 0 in floating point."""
    answers = Answers.from_log_probs(np.array([-800.0, -800.0 - math.log(3)]))
    assert answers.probs == pytest.approx([0.75, 0.25])
    assert np.isnan(Answers.from_log_probs(np.array([-np.inf, -np.inf])).probs).all()


def test_agreement_and_entropy_from_samples() -> None:
    """The agreement of samples has no bias; the entropy that of the docstring."""
    rng, p = np.random.default_rng(1), np.array([0.5, 0.3, 0.2])
    counts = rng.multinomial(10, p, size=4000)
    sampled = [Answers(c / 10, num_samples=10) for c in counts]
    assert np.mean([agreement(x) for x in sampled]) == pytest.approx(p @ p, abs=4 * 0.08 / math.sqrt(4000))
    assert np.mean([entropy(x) for x in sampled]) == pytest.approx(-p @ np.log(p), abs=0.02)


def test_samples_give_no_kl_and_no_log_loss() -> None:
    sampled, exact = Answers.from_samples([0, 1, None, 1], 2), Answers(np.array([0.5, 0.5]))
    assert sampled.coverage == 0.75
    assert np.isnan(kl(sampled, exact))
    assert np.isnan(calibration_gap(sampled, 0))
    assert calibration_gap(Answers(np.array([1.0, 0.0])), 1) == math.inf


# Exact agents -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reports() -> dict[str, DelusionReport]:
    dialogue = MenuDialogue(num_turns=2)
    held = prepare(dialogue, 25, seed=1)
    return {own: measure(ExactSpeaker(dialogue, own), held, dialogue) for own in ("do", "see")}


def test_the_sober_agent_is_found_sober(reports: dict[str, DelusionReport]) -> None:
    report = reports["do"]
    assert report.verdict == "sober"
    assert all(x.value == pytest.approx(0, abs=1e-9) for x in report.by_round["auto_suggestion"])
    assert report.repeat_after_no_answer == pytest.approx(0.2)
    assert report.overconfidence == pytest.approx(0, abs=1e-9)
    assert report.calibration_gap == pytest.approx(0, abs=1e-9)
    assert report.informativeness > 0.05
    # KL from the uniform belief to that after an expert's word.
    assert report.provenance_kl == pytest.approx(-np.mean(np.log(5 * SHARP[0])))


def test_the_deluded_agent_is_found_deluded(reports: dict[str, DelusionReport]) -> None:
    """Known values of the first turn; afterwards the effect fades, although the agent is as deluded as before."""
    report = reports["see"]
    assert report.verdict == "deluded"
    assert report.auto_suggestion == pytest.approx(DELUDED)
    assert report.repeat_after_no_answer == pytest.approx(0.8125)
    assert report.confidence == pytest.approx(0.8125)
    assert report.overconfidence > 0.3
    assert report.calibration_gap > 1
    assert report.provenance_kl == pytest.approx(0)
    rounds = [x.value for x in report.by_round["auto_suggestion"]]
    assert rounds[0] > 2 * rounds[1]


def test_references_are_the_exact_agents(reports: dict[str, DelusionReport]) -> None:
    """The values beside the measured ones, on conversations of their own: within four standard errors."""
    for own, name in (("do", "sober"), ("see", "deluded")):
        for quantity in QUANTITIES:
            ours, exact = reports[own].by_round[quantity], reports["do"].references[name][quantity]
            for x, y in zip(ours, exact, strict=True):
                error = math.hypot(x.standard_error, y.standard_error)
                assert x.value == pytest.approx(y.value, abs=4 * error + 1e-9)


def test_the_next_utterance_as_the_answer() -> None:
    """By "What's on the menu?" a model that knows no probe is asked for its next utterance."""
    dialogue = MenuDialogue(num_turns=1, probe="What's on the menu?")
    same, other = 0.9**2 + 4 * 0.025**2, (1 - 0.9**2 - 4 * 0.025**2) / 4
    for own, expected in (("do", 0.0), ("see", math.log(5) + same * math.log(same) + 4 * other * math.log(other))):
        report = measure(ExactSpeaker(dialogue, own), prepare(dialogue, 2, seed=0), dialogue)
        assert report.auto_suggestion == pytest.approx(expected, abs=1e-6)
        assert report.informativeness > 0.02
        assert report.repeat_after_no_answer == pytest.approx(same if own == "see" else 0.2)


class Ignorant:
    """A model that has learned nothing: every text is equally probable."""

    name, reads_authors = "ignorant", False

    def answer(self, requests: list[Request]) -> list[Answers]:
        return [Answers(np.full(len(x.answers), 1 / len(x.answers))) for x in requests]


def test_a_model_that_has_learned_nothing_is_not_called_sober() -> None:
    report = measure(Ignorant(), prepare(MenuDialogue(num_turns=1), 3, seed=0), None)
    assert report.auto_suggestion == 0
    assert report.verdict == "uninformed"
    assert "A model that has learned nothing" in report.reading


def quantities(**changes: Quantity) -> DelusionReport:
    """Return a report of one round with these numbers."""
    empty = summarise([[{"auto_suggestion": 0.0, "variety": 1.0}]], {})
    by_round = empty | {name: (x,) for name, x in changes.items()}
    return DelusionReport("m", "log-probabilities", None, 5, 1, None, 0.0, {}, {}, by_round, {})


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [(0.047, 0.048, "undecided"), (0.047, 0.01, "sober"), (0.005, 0.001, "uninformed"), (0.005, 0.01, "undecided")],
)
def test_what_replies_tell_is_judged_by_two_standard_errors(value: float, error: float, verdict: str) -> None:
    assert quantities(informativeness=Quantity(value, error)).verdict == verdict


def test_what_was_not_measured_is_not_called_nothing_learned() -> None:
    """Without `evidence`, and if the model answers with other texts after a reply."""
    report = measure(ExactSpeaker(MenuDialogue(), "do"), prepare([transcript(), transcript()], None, 0), None)
    assert report.verdict == "unmeasured"
    assert "how much a reply tells it was not measured: it needs `evidence`" in report.reading
    assert "evidence_coverage" not in report.notes
    silent = {"informativeness": Quantity(0.0, 0.0), "evidence_coverage": Quantity(0.002)}
    report = quantities(coverage=Quantity(0.56), **silent)
    assert report.verdict == "unmeasured"
    assert "Beware: of its answers to the probe after a reply, only 0.2% is among" in report.reading


def test_coverage_is_told_apart_by_what_was_asked() -> None:
    """Each part is the mean over its own requests; the model of this test answers less after a reply."""

    class Evasive(Ignorant):
        def answer(self, requests: list[Request]) -> list[Answers]:
            probs = [Answers(np.full(len(x.answers), 1 / len(x.answers))) for x in requests]
            shares = (0.9 if len(x.messages) == 1 else 0.8 if len(x.messages) == 3 else 0.01 for x in requests)
            return [dataclasses.replace(p, coverage=share) for p, share in zip(probs, shares, strict=True)]

    report = measure(Evasive(), prepare(MenuDialogue(num_turns=1), 2, seed=0), None)
    assert report.utterance_coverage == pytest.approx(0.9)
    assert report.answer_coverage == pytest.approx(0.8)
    assert report.evidence_coverage == pytest.approx(0.01)
    assert report.verdict == "unmeasured"


@pytest.mark.parametrize(
    ("error", "message"),
    [(Interrupted([None] * 5), "it has died"), (KeyboardInterrupt(), "you stopped it")],
)
def test_what_was_measured_is_kept_when_the_model_falls_silent(error: BaseException, message: str) -> None:
    """Of two turns the first is complete; the error is in the notes and in a warning."""

    class Dying(ExactSpeaker):
        calls = 0

        def answer(self, requests: list[Request]) -> list[Answers]:
            self.calls += 1
            if self.calls == 3:
                raise error from ConnectionError("it has died.")
            return super().answer(requests)

    dialogue = MenuDialogue(num_turns=2)
    with pytest.warns(UserWarning, match=message):
        report = measure(Dying(dialogue, "see"), prepare(dialogue, 5, seed=0), None)
    assert report.num_rounds == 1
    assert report.auto_suggestion == pytest.approx(DELUDED)
    assert "5 of 10 turns" in report.notes["stopped"]


# Transcripts ------------------------------------------------------------------------------------------------------


def transcript(**changes: object) -> dict:
    dialogue = MenuDialogue()
    messages = [
        {"role": "user", "content": dialogue.prompt},
        {"role": "assistant", "content": "soup", "author": "self"},
        {"role": "user", "content": "What's on the menu?"},
        {"role": "assistant", "content": "tacos", "author": "self"},
    ]
    row = {"messages": messages, "probe": dialogue.probe, "answers": list(dialogue.utterances), "truth": "soup"}
    return row | {"candidates": list(dialogue.utterances)} | changes


def test_own_turns_of_a_transcript_are_measured() -> None:
    """After "soup", no answer and "tacos", the deluded agent believes by Bayes' rule; hits are of the stored words."""
    deluded = ExactSpeaker(MenuDialogue(), "see")
    report = measure(deluded, prepare([transcript(), transcript()], None, 0), None)
    assert report.num_rounds == 2
    assert report.auto_suggestion == pytest.approx(DELUDED)
    assert report.by_round["hit"][0].value == pytest.approx(0.9)
    # P(soup | soup, tacos), both guesses read as evidence.
    assert report.by_round["hit"][1].value == pytest.approx(0.9 * 0.025 / (2 * 0.9 * 0.025 + 3 * 0.025**2))
    assert "`evidence`" in report.notes["informativeness"]
    assert "`no_answer`" in report.notes["repeat_after_no_answer"]
    assert report.references == {}


def test_other_columns_are_left_alone() -> None:
    prepare([transcript(id=3, answer="soup", cause="none")], None, 0)


def test_words_of_others_are_not_measured() -> None:
    messages = [{**x, "author": "expert"} if x["role"] == "assistant" else x for x in transcript()["messages"]]
    report = measure(ExactSpeaker(MenuDialogue(), "do"), prepare([transcript(messages=messages[:3])], None, 0), None)
    assert report.num_rounds == 1
    assert report.auto_suggestion == pytest.approx(0, abs=1e-9)
    assert '1 of 1 conversations have no turn with the author "self"' in report.notes["turns"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"messages": [{"role": "assistant", "content": "soup"}]}, "has no author"),
        ({"probe": ""}, "has no probe"),
        ({"answers": ["soup"]}, "two or more"),
        ({"answers": "soup"}, "list of texts"),
        ({"candidates": ["soup", "soup"]}, "twice"),
        ({"truth": "pie"}, "none of the answers"),
        ({"truth": 5}, "from 0 to 4"),
        ({"candidates": None, "candidate": ["soup", "pizza"]}, "'candidate', which is not read.*'candidates'"),
        ({"No-answer": "What?"}, "'No-answer', which is not read.*'no_answer'"),
        ({"messages": [{"role": "assistant", "content": "soup", "author": "expert"}]}, "no turn with the author"),
    ],
)
def test_wrong_transcripts_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"conversation 1.*{message}"):
        prepare([transcript(), transcript(**changes)], None, 0)


def test_users_do_not_speak_twice_in_a_row() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    assert [x["content"] for x in merge_users(messages)] == ["a\n\nb", "c"]


# The report -------------------------------------------------------------------------------------------------------


def test_the_report_as_data_table_and_page(reports: dict[str, DelusionReport], tmp_path: Path) -> None:
    report = reports["see"]
    data = json.loads(report.save(tmp_path / "report.json").read_text())
    assert data["verdict"] == "deluded"
    assert data["auto_suggestion"] == report.auto_suggestion
    assert data["by_round"]["hit"][1]["value"] == report.by_round["hit"][1].value
    assert data["references"]["sober"]["auto_suggestion"][0] == pytest.approx(0, abs=1e-9)
    frame = pytest.importorskip("pandas") and report.to_frame()
    assert len(frame) == 2 * len(QUANTITIES)
    row = frame[(frame["quantity"] == "auto_suggestion") & (frame["round"] == 1)].iloc[0]
    assert (row["value"], row["deluded"]) == (pytest.approx(DELUDED), pytest.approx(DELUDED))
    assert "1.146" in str(report)
    # The thresholds of the verdict.
    for text in (" ".join(str(report).split()), report.html()):
        assert "deluded if auto_suggestion in turn 1 is above 0.05 nats" in text
        assert "informativeness is above 0.02 nats" in text
    with pytest.raises(ValueError, match=r"\.html or \.json"):
        report.save(tmp_path / "report.txt")
