"""`metrics.jsonl`: one row of measurements for each logged update."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from undelude._files import json_object, plain, read_bytes
from undelude._pieces import PIECE
from undelude._runs.certificate_file import check_quantity, check_same, to_float
from undelude._runs.config_file import DIGEST
from undelude._runs.layout import CONFIG, MAX_BYTES, METRICS, RESTORE

Row = dict[str, Any]
# Bytes: more than any row has.
LINE = 2**16
# Episodes on which the distances of a row are measured: the standard error of a KL is then a few percent of it, and
# the certificate's programs are used.
EPISODES_A_ROW = PIECE
# The distances to both exact answers on the agent's own episodes; and what is measured of them if there are none.
DISTANCES = ("action_kl_do", "action_kl_see")
OWN_SCORES = ("action_log_loss", "action_calibration_gap")
# Measured columns; a row also has its update, and `OWN_SCORES` if there are no exact answers.
MEASURED = ("action_loss", "observation_loss", "seconds", *DISTANCES)


def read_metrics(file: Path, *, config: Mapping[str, Any]) -> list[Row]:
    """Return all rows in order of their update, with "inf" as a float and without the digest of the configuration.

    A last line that a crash cut short is dropped. If an update occurs twice, the later row counts.

    Args:
        file: a `metrics.jsonl`; if it is missing, there are no rows.
        config: the entries of the `config.json` that it belongs to.

    Raises:
        ValueError: a line is damaged or belongs to another run; the message says which.
    """
    try:
        data = read_bytes(file, most=MAX_BYTES[METRICS], remedy=RESTORE)
    except FileNotFoundError:
        return []
    if len(data) > LINE and b"\n" not in data[:LINE]:
        raise ValueError(f"{file} is damaged in line 1 (it is longer than {LINE} bytes). {RESTORE}")
    rows = {}
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            row = _checked(json_object(line), config.get("steps"))
        except ValueError as error:
            raise ValueError(f"{file} is damaged in line {number} ({error}). {RESTORE}") from error
        check_same(file, DIGEST, row, config, RESTORE)
        row.pop(DIGEST, None)
        rows[row["update"]] = row
    return [rows[update] for update in sorted(rows)]


def to_lines(rows: Iterable[Row]) -> str:
    """Return rows as lines of a `metrics.jsonl`."""
    return "".join(json.dumps(plain(row), allow_nan=False) + "\n" for row in rows)


def _checked(row: Row, steps: Any) -> Row:
    if not (type(row.get("update")) is int and 0 <= row["update"] < 2**63):
        raise ValueError("it has no update number")
    if type(steps) is int and row["update"] > steps:
        raise ValueError(f"its update is {row['update']}, and {CONFIG} has {steps} steps")
    for name in (*MEASURED, *OWN_SCORES):
        check_quantity(name, row.get(name))
    row |= {name: to_float(row[name]) for name in (*MEASURED, *OWN_SCORES) if row.get(name) is not None}
    # A resumed run continues counting from it.
    if row.get("seconds") is None or not 0 <= row["seconds"] < 2**63:
        raise ValueError("its seconds are missing or out of range")
    return row
