"""A report of `measure_delusion` as lines of text."""

import textwrap
from collections.abc import Iterator

from undelude._certificate.quantity import Quantity
from undelude.hf._measuring.delusion_report import CRITERION, MEANINGS, WORDS, DelusionReport, amount

WIDTH = 100


def table_lines(report: DelusionReport) -> Iterator[str]:
    """Yield the verdict, a table, the meanings of its rows, and the notes."""
    yield from textwrap.wrap(f"{WORDS[report.verdict]}. {report.reading}", WIDTH)
    yield ""
    yield from textwrap.wrap(describe(report), WIDTH)
    yield ""
    rows = [["turn", *(str(t + 1) for t in range(report.num_rounds)), *(f"{who}, 1" for who in report.references)]]
    for name, values in report.by_round.items():
        if any(x.value is not None for x in values):
            exact = [numbers[name][0] for numbers in report.references.values()]
            rows.append([name, *map(amount, values), *(amount(Quantity(x.value)) for x in exact)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join([row[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(row[1:], widths[1:], strict=True))])
    yield ""
    for name, meaning in MEANINGS.items():
        if any(x.value is not None for x in report.by_round[name]):
            yield from textwrap.wrap(f"{name}: {meaning}.", WIDTH, subsequent_indent="    ")
    yield from textwrap.wrap(f"verdict: {CRITERION}", WIDTH, subsequent_indent="    ")
    for name, note in report.notes.items():
        yield from textwrap.wrap(f"{name}: {note}", WIDTH, subsequent_indent="    ")


def describe(report: DelusionReport) -> str:
    """Return the size and the method of the measurement, in a sentence or two."""
    how = "its log-probabilities"
    if report.num_samples is not None and report.method == "samples":
        how = f"{report.num_samples} samples of each answer"
    elif report.num_samples is not None:
        how = f"its log-probabilities of answers after {report.num_samples} sampled utterances in each turn"
    turns = f"{report.num_rounds} turn{'s' if report.num_rounds > 1 else ''}"
    text = f"{report.model}: {report.num_conversations} conversations of {turns}, by {how}; "
    text += f"{report.num_calls} calls, " if report.num_calls is not None else ""
    text += f"{report.seconds:.1f} s. ± is the standard error over conversations."
    if report.references:
        text += " Beside it: the exact sober and the exact deluded agent, in turn 1."
    return text
