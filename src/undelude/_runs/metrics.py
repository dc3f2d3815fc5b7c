"""`metrics.jsonl`: one row of measurements for each logged update."""

import math
from pathlib import Path
from typing import Any

from undelude._certificate.certificate import is_quantity
from undelude._files import json_object

Row = dict[str, Any]
# Measured columns; a row also has its update.
MEASURED = ("action_loss", "observation_loss", "seconds", "action_kl_do", "action_kl_see")


def read_metrics(file: Path) -> list[Row]:
    """Return all rows in order of their update, with "inf" as a float.

    A last line that a crash cut short is dropped. If an update occurs twice, the later row counts.

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
            raise ValueError(f'{name} is {value!r:.99}, but must be a number, null or "inf"')
    row |= {
        name: math.inf if row[name] == "inf" else float(row[name]) for name in MEASURED if row.get(name) is not None
    }
    # A resumed run continues counting from it.
    if row.get("seconds") is None or not 0 <= row["seconds"] < 2**63:
        raise ValueError("its seconds are missing or out of range")
    return row
