"""The notes of a certificate in lines."""

from collections.abc import Mapping

from undelude._certificate.quantity import Quantity
from undelude._certificate.verdict import DIFFER

# Notes that do not belong to a quantity, with the word before them, the most important first.
REMARKS = {"imitation": "Warning", "expert": "Note", "failures": "Note", DIFFER: "Note"}
# Names of quantities that the tables show by other words.
NAMES = {"reward_best": "best known without theta (reward_best)"}


def describe_marks(agent: str, own_actions: str) -> str:
    """Return in words how an agent reads its own actions; of a `HostAgent`, how they were marked."""
    if agent == "HostAgent":
        return f"its own actions are marked {own_actions}, and how it reads them is its own"
    return f"it reads its own actions as {own_actions}"


def describe_notes(quantities: Mapping[str, Quantity], notes: Mapping[str, str]) -> list[str]:
    """Return the remarks, then the other notes, and a line for each reason why quantities were not measured.

    Args:
        quantities: of a certificate, by name.
        notes: of the certificate, by the name of a quantity or by subject.
    """
    remarks = [f"{word}: {notes[name]}" for name, word in REMARKS.items() if name in notes]
    names: dict[str, list[str]] = {}
    for name, note in notes.items():
        if name not in REMARKS:
            names.setdefault(note, []).append(name)
    lines = []
    for note, (first, *others) in names.items():
        name = ", ".join([NAMES.get(first, first), *others])
        is_missing = first in quantities and quantities[first].value is None
        lines.append((is_missing, f"{f'Not measured, {name}' if is_missing else name}: {note}"))
    return remarks + [line for _, line in sorted(lines, key=lambda x: x[0])]
