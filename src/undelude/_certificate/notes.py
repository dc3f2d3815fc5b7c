"""The notes of a certificate in lines."""

from collections.abc import Mapping

from undelude._certificate.quantity import Quantity

# Notes that are warnings, the most important first.
WARNINGS = ("imitation",)


def describe_notes(quantities: Mapping[str, Quantity], notes: Mapping[str, str]) -> list[str]:
    """Return the warnings, then the other notes, and a line for each reason why quantities were not measured.

    Args:
        quantities: of a certificate, by name.
        notes: of the certificate, by the name of a quantity or by subject.
    """
    warnings = [f"Warning: {notes[name]}" for name in WARNINGS if name in notes]
    names: dict[str, list[str]] = {}
    for name, note in notes.items():
        if name not in WARNINGS:
            names.setdefault(note, []).append(name)
    lines = []
    for note, (first, *others) in names.items():
        name = f"{first} and {len(others)} more" if others else first
        is_missing = first in quantities and quantities[first].value is None
        lines.append((is_missing, f"{f'Not measured, {name}' if is_missing else name}: {note}"))
    return warnings + [line for _, line in sorted(lines, key=lambda x: x[0])]
