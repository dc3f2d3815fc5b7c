"""The results of a command as tables."""

import math
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from undelude._certificate.notes import describe_notes
from undelude._certificate.verdict import judge
from undelude._cli.console import number
from undelude._runs.certificate_file import quantities_of

REWARDS = {
    "reward": "this agent",
    "reward_expert": "expert, who knows theta",
    "reward_exact_do": "exact agent, own actions as do",
    "reward_exact_see": "exact agent, own actions as see",
    "reward_best": "best known without theta",
}


def print_certificate(console: Console, certificate: dict[str, Any]) -> None:
    """Print a certificate: the verdict, the distances of the predictions to both answers, and the rewards."""
    c, quantities = certificate, quantities_of(certificate)
    console.print(f"{judge(quantities)}\n".replace("\N{NO-BREAK SPACE}", " "), style="bold")
    teaching = f", {c['teaching']} teaching" if "teaching" in c else ""
    console.print(
        f"{c['task']}: {c['agent']}{teaching}, measured on {c['num_episodes']} of its own episodes; "
        f"it reads its own actions as {c['own_actions']}.\n"
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
    for line in describe_notes(quantities, c.get("notes", {})):
        console.print(line, style="bold" if line.startswith("Warning: ") else "")


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


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", overflow="fold")
    return table


def _with_error(certificate: dict[str, Any], name: str, decimals: int) -> str:
    value, error = certificate.get(name), certificate.get(f"{name}_se")
    if not isinstance(error, float):
        return number(value, decimals)
    if 0 < error < 10**-decimals:  # More decimals, down to the leading digit of the error.
        decimals = min(-math.floor(math.log10(error)), 7)
    return f"{number(value, decimals)} ± {number(error, decimals).removeprefix('0')}"
