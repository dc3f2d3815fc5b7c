"""`metrics.jsonl`: what training measured, a row for each update at which it looked."""

import math
from pathlib import Path
from typing import Any

from undelude._certificate.certificate import is_quantity
from undelude._files import json_object

Row = dict[str, Any]
# What is measured there, besides the update.
MEASURED = ("action_loss", "observation_loss", "seconds", "action_kl_do", "action_kl_see")


def read_metrics(file: Path) -> list[Row]:
    """All rows by update; an infinite number is one, as it is not in JSON.

    A last line that a crash cut short is left out. Of an update that is there twice the
    later row is what the rest went on from.

    Raises:
        ValueError: a line is damaged; the message says which.
    """
    if not file.is_file():
        return []
    rows = {}
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
        try:
            row = _checked(json_object(line))
        except ValueError as error:
            raise ValueError(
                f"{file} is damaged in line {number} ({error}). "
                "Restore it from a copy, or train anew with another --out."
            ) from error
        rows[row["update"]] = row
    return [rows[update] for update in sorted(rows)]


def _checked(row: Row) -> Row:
    if not (type(row.get("update")) is int and 0 <= row["update"] < 2**63):
        raise ValueError("it has no update number")
    for name in MEASURED:
        if not is_quantity(value := row.get(name)):
            raise ValueError(f'{name} is {value!r:.99}, where a number, null or "inf" belongs')
    row |= {
        name: math.inf if row[name] == "inf" else float(row[name]) for name in MEASURED if row.get(name) is not None
    }
    # Training goes on counting from it.
    if row.get("seconds") is None or not 0 <= row["seconds"] < 2**63:
        raise ValueError("it does not say after how many seconds")
    return row
