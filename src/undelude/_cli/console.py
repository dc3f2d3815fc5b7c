"""Output for people: progress during a command, tables at its end."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from rich import box
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
from rich.table import Table
from rich.text import Text

from undelude._types import Mark

Number = float | str | None
# Size from which a number is written with an exponent.
LONG = 1e9
REWARDS = {
    "reward": "this agent",
    "reward_expert": "expert, who knows theta",
    "reward_exact_do": "exact agent, own actions as do",
    "reward_exact_see": "exact agent, own actions as see",
    "reward_best": "best known without theta",
}


class PlainConsole(Console):
    """A console that shows characters that control a terminal as escapes, since a text may come from any file."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text to print; every string passes here."""
        return super().render_str(printable(text), **options)


def printable(text: str) -> str:
    r"""Return `text` with an escape such as `\x1b` for each unprintable character, except for line ends and tabs."""
    return "".join(x if x.isprintable() or x in "\n\t" else repr(x)[1:-1] for x in text)


def make_console(*, stderr: bool) -> Console:
    """Return a console that prints text as it is, without markup and highlighting."""
    return PlainConsole(stderr=stderr, highlight=False, markup=False)


@contextlib.contextmanager
def working(console: Console, activity: str) -> Iterator[None]:
    """Show a spinner while a block runs, or print one line if the output is not a terminal."""
    if not console.is_terminal:
        console.print(f"{activity} ...", soft_wrap=True)
        yield
        return
    with console.status(f"{activity} ..."):
        yield


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
            kl = row[f"action_kl_{mark}"]
            loss = f"loss {row['action_loss']:.3f}" if kl is None else f"KL to {mark} {number(kl)}"
            progress.update(task, description="training", completed=row["update"], loss=loss)

        yield advance


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
                f"observation loss {row['observation_loss']:.4f}, KL to {mark} {number(row[f'action_kl_{mark}'])}",
                soft_wrap=True,
            )

    return advance


def print_certificate(console: Console, certificate: dict[str, Any]) -> None:
    """Print a certificate: the distances of the predictions to both answers, and the rewards."""
    c = certificate
    console.print(
        f"{c['task']}: {c['agent']}, {c['teaching']} teaching, measured on {c['num_episodes']} of its own episodes;\n"
        f"it reads its own actions as {c['own_actions']}.\n",
        soft_wrap=True,
    )
    answers = ("from the interventional\nanswer, P(. | do(a), o)", "from the deluded\nanswer, P(. | a, o)")
    distances = _table("distance of", *answers)
    for symbol, quantity in (("action", "kl"), ("action", "tv"), ("observation", "kl"), ("observation", "tv")):
        label = f"{symbol}s, {'KL in nats' if quantity == 'kl' else 'total variation'}"
        distances.add_row(label, *(_with_error(c, f"{symbol}_{quantity}_{mark}", 4) for mark in ("do", "see")))
    console.print(distances)

    rewards = _table("actor", "reward per round")
    for name, actor in REWARDS.items():
        if c.get(name) is not None:
            rewards.add_row(actor, _with_error(c, name, 3))
    console.print()
    console.print(rewards)

    gaps = " / ".join(number(c.get(f"{symbol}_calibration_gap")) for symbol in ("action", "observation"))
    console.print(f"\nCalibration gap, actions / observations: {gaps} nats.")
    if isinstance(deluded := c.get("deluded_fraction"), float):
        console.print(f"Episodes that end with a wrong theta believed above 0.9: {deluded:.1%}.")
    notes = dict(c.get("notes", {}))
    if warning := notes.pop("imitation", None):
        console.print(f"\nWarning: {warning}", style="bold", soft_wrap=True)
    if note := notes.pop("expert", None):
        console.print(f"Note: {note}", soft_wrap=True)
    missing: dict[str, list[str]] = {}
    for name, why in notes.items():
        if c.get(name) is None:
            missing.setdefault(why, []).append(name)
        else:
            console.print(f"{name}: {why}", soft_wrap=True)
    for why, names in missing.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        console.print(f"Not measured, {names[0]}{more}: {why}")


def print_intervals(console: Console, summary: dict[str, Any]) -> None:
    """Print means and intervals over seeds."""
    s = summary
    console.print(
        f"{s['task']}: {s['agent']}, {s['teaching']} teaching, {len(s['seeds'])} seeds, each measured on "
        f"{s['num_episodes']} of its own episodes.\n",
        soft_wrap=True,
    )
    table = _table("over seeds", "mean", "95 % interval")
    for name, x in s["quantities"].items():
        table.add_row(name, number(x["mean"], 5), f"{number(x['low'], 5)} to {number(x['high'], 5)}")
    console.print(table)
    console.print()


def number(x: Number, decimals: int = 4) -> str:
    """Format a number with this many decimals, or an exponent; keep "inf", and show None as a dash."""
    if x is None or isinstance(x, str):
        return x or "-"
    return f"{x:.{decimals}f}" if abs(x) < LONG else f"{x:.{decimals}g}"


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left")
    return table


def _with_error(certificate: dict[str, Any], name: str, decimals: int) -> str:
    value, error = certificate.get(name), certificate.get(f"{name}_se")
    if not isinstance(error, float):
        return number(value, decimals)
    if 0 < error < 10**-decimals:  # More decimals, down to the leading digit of the error.
        decimals = min(-math.floor(math.log10(error)), 7)
    return f"{number(value, decimals)} ± {number(error, decimals).removeprefix('0')}"
