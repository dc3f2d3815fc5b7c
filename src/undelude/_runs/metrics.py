"""`metrics.jsonl`: one row of measurements for each logged update."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from undelude._files import json_object, plain
from undelude._runs.certificate_file import check_quantity, to_float
from undelude._runs.layout import RESTORE

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
            raise ValueError(f"{file} is damaged in line {number} ({error}). {RESTORE}") from error
        rows[row["update"]] = row
    return [rows[update] for update in sorted(rows)]


def to_lines(rows: Iterable[Row]) -> str:
    """Return rows as lines of a `metrics.jsonl`."""
    return "".join(json.dumps(plain(row), allow_nan=False) + "\n" for row in rows)


def _checked(row: Row) -> Row:
    if not (type(row.get("update")) is int and 0 <= row["update"] < 2**63):
        raise ValueError("it has no update number")
    for name in MEASURED:
        check_quantity(name, row.get(name))
    row |= {name: to_float(row[name]) for name in MEASURED if row.get(name) is not None}
    # A resumed run continues counting from it.
    if row.get("seconds") is None or not 0 <= row["seconds"] < 2**63:
        raise ValueError("its seconds are missing or out of range")
    return row
