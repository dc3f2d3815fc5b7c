"""The results of a command as tables."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from undelude._certificate.notes import describe_marks, describe_notes
from undelude._certificate.numbers import with_error
from undelude._certificate.quantity import Quantity
from undelude._certificate.verdict import judge
from undelude._cli.console import number
from undelude._runs.certificate_file import quantities_of

REWARDS = {
    "reward": "this agent",
    "reward_expert": "expert, who knows theta",
    "reward_exact_do": "exact agent, own actions as do",
    "reward_exact_see": "exact agent, own actions as see",
    "reward_best": "best known without theta (acts for reward)",
}


def print_certificate(console: Console, certificate: dict[str, Any]) -> None:
    """Print a certificate: the verdict, the distances of the predictions to both answers, and the rewards."""
    c, quantities = certificate, quantities_of(certificate)
    console.print(f"{judge(quantities, c.get('notes', {}))}\n".replace("\N{NO-BREAK SPACE}", " "), style="bold")
    teaching = f", {c['teaching']} teaching" if "teaching" in c else ""
    console.print(
        f"{c['task']}: {c['agent']}{teaching}, measured on {c['num_episodes']} of its own episodes; "
        f"{describe_marks(c['agent'], c['own_actions'])}.\n"
    )
    answers = ("from the interventional\nanswer, P(. | do(a), o)", "from the deluded\nanswer, P(. | a, o)")
    distances = _table("distance of", *answers)
    for symbol, quantity in (("action", "kl"), ("action", "tv"), ("observation", "kl"), ("observation", "tv")):
        label = f"{symbol}s, {'KL in nats' if quantity == 'kl' else 'total variation'}"
        distances.add_row(label, *(_text(quantities[f"{symbol}_{quantity}_{mark}"]) for mark in ("do", "see")))
    console.print(distances)

    rewards = _table("actor", "reward per round")
    for name, actor in REWARDS.items():
        if quantities[name].value is not None:
            rewards.add_row(actor, _text(quantities[name]))
    console.print()
    console.print(rewards)

    gaps = " / ".join(_text(quantities[f"{symbol}_calibration_gap"]) for symbol in ("action", "observation"))
    console.print(f"\nCalibration gap in nats, actions / observations: {gaps}.", soft_wrap=True)
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


def _text(quantity: Quantity) -> str:
    return with_error(quantity.value, quantity.standard_error).replace("\N{NO-BREAK SPACE}", " ")
