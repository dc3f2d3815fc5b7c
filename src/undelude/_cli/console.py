"""Output for people during a command: messages and progress."""

import contextlib
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from undelude._types import Mark, OnProgress

Number = float | str | None
# Size from which a number is written with an exponent.
LONG = 1e9
# Seconds between two lines about a certificate.
SECONDS_A_LINE = 10
# The stages of `undelude train`, in order.
STAGES = ("starting", "compiling", "training", "metrics", "saving", "certificate", "page")


class PlainConsole(Console):
    """A console that shows characters that control a terminal as escapes, since a text may come from any file."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text to print; every string passes here."""
        return super().render_str(printable(text), **options)


def printable(text: str) -> str:
    r"""Return `text` with an escape such as `\x1b` for each unprintable character, except for line ends and tabs."""
    return "".join(x if x.isprintable() or x in "\n\t" else repr(x)[1:-1] for x in text)


def make_console(*, stderr: bool) -> Console:
    """Return a console that prints text as it is, without markup, emoji and highlighting."""
    return PlainConsole(stderr=stderr, highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def working(console: Console, activity: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner while a block runs, or print one line if the output is not a terminal.

    Yields:
        A function that shows another activity.
    """
    if not console.is_terminal:

        def line(activity: str) -> None:
            console.print(f"{activity} ...", soft_wrap=True)

        line(activity)
        yield line
        return
    with console.status(f"{activity} ...") as status:
        yield lambda activity: status.update(f"{activity} ...")


@contextlib.contextmanager
def certifying(console: Console) -> Iterator[OnProgress]:
    """Show that a certificate is being measured, and the rounds that are played in Python.

    Yields:
        `on_progress` of `certify`. If the output is not a terminal, it prints a line every ten seconds.
    """
    with working(console, "certifying") as show:
        last = time.monotonic()

        def advance(done: int, total: int, acting: str) -> None:
            nonlocal last
            if console.is_terminal or time.monotonic() - last >= SECONDS_A_LINE:
                last = time.monotonic()
                show(f"certifying: {acting}, round {done:,} of {total:,}")

        yield advance


@contextlib.contextmanager
def training_progress(
    console: Console, *, mark: Mark, steps: int, start: int
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show a bar with rate and remaining time, or print a line every tenth of the way if the output is not a terminal.

    Args:
        console: the console to draw on.
        mark: the answer that the teaching aims at, do or see.
        steps: total number of updates.
        start: number of updates made before.

    Yields:
        A function to call with each row of metrics.
    """
    if not console.is_terminal:
        console.print("compiling, then training ...", soft_wrap=True)
        yield _log_lines(console, mark, steps)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[loss]}", markup=False),
    )
    with Progress(*columns, console=console, expand=True) as progress:
        task = progress.add_task("compiling", total=steps, completed=start, loss="")

        def advance(row: dict[str, Any]) -> None:
            progress.update(task, description="training", completed=row["update"], loss=_score(row, mark))

        yield advance


def _score(row: dict[str, Any], mark: Mark) -> str:
    """Return the distance to the exact answer; the calibration gap on own histories if there is no exact answer."""
    if (gap := row.get("action_calibration_gap")) is not None:
        return f"calibration gap {number(gap)}"
    return f"KL to {mark} {number(row[f'action_kl_{mark}'])}"


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Return the updates per second."""
        return Text(f"{task.speed:.0f}/s" if task.speed else "  /s", style="progress.data.speed")


def _log_lines(console: Console, mark: Mark, steps: int) -> Callable[[dict[str, Any]], None]:
    tenths = -1

    def advance(row: dict[str, Any]) -> None:
        nonlocal tenths
        if (done := 10 * row["update"] // steps) > tenths:
            tenths = done
            console.print(
                f"update {row['update']}/{steps}, {row['seconds']:.1f} s: action loss {row['action_loss']:.4f}, "
                f"observation loss {row['observation_loss']:.4f}, {_score(row, mark)}",
                soft_wrap=True,
            )

    return advance


def print_seconds(console: Console, stages: Mapping[str, float], *, total: float) -> None:
    """Print the seconds of each stage, of everything else, and in total; the printed numbers add up."""
    printed = {stage: round(seconds, 1) for stage in STAGES if (seconds := stages.get(stage, 0.0)) > 0}
    printed["other"] = max(round(total - sum(printed.values()), 1), 0.0)
    # A line may break after a comma only.
    parts = [f"{stage}\N{NO-BREAK SPACE}{seconds:.1f}" for stage, seconds in printed.items()]
    text = f"Seconds: {', '.join(parts)}; total\N{NO-BREAK SPACE}{sum(printed.values()):.1f}."
    for line in textwrap.wrap(text, max(console.width, 1), break_long_words=False):
        console.print(line.replace("\N{NO-BREAK SPACE}", " "), soft_wrap=True)


def number(x: Number, decimals: int = 4) -> str:
    """Format a number with this many decimals, or an exponent; keep "inf", and show None as a dash."""
    if x is None or isinstance(x, str):
        return x or "-"
    return f"{x:.{decimals}f}" if abs(x) < LONG else f"{x:.{decimals}g}"
