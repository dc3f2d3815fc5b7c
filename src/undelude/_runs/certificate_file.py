"""`certificate.json`: the quantities of a certificate, the settings of its run, and an example episode."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from undelude._certificate.certificate import QUANTITIES, RANGES
from undelude._certificate.quantity import Quantity
from undelude._files import plain, read_json, write_atomically
from undelude._runs.config_file import DIGEST
from undelude._runs.layout import CERTIFICATE, CONFIG, MAX_BYTES, damaged

# Entries that are strings.
WORDS = ("task", "agent", "teaching", DIGEST)
# Tolerance of a range, for the rounding of 32-bit sums, and the largest size of a number that can be drawn.
ROUNDING, LARGEST = 1e-3, 1e100


def to_float(x: Any) -> float | None:
    """Return a measured number from a file, with "inf" as a float."""
    return None if x is None else math.inf if x == "inf" else float(x)


def check_quantity(name: str, x: Any) -> None:
    """Raise `ValueError` if `x` cannot be the quantity `name`, or its standard error, in a file."""
    low, high = RANGES.get(name, (-math.inf, math.inf))
    may_be_infinite = high == math.inf
    if name.endswith("_se") or name == "seconds":
        low, may_be_infinite = 0.0, False
    if isinstance(x, int | float) and not isinstance(x, bool):
        if max(low, -LARGEST) <= x <= min(high + ROUNDING, LARGEST):
            return
    elif x is None or (x == "inf" and may_be_infinite):
        return
    span = f" from {low:g} to {high:g}" if high < math.inf else f" of at least {low:g}" if low > -math.inf else ""
    also = ', null or "inf"' if may_be_infinite else " or null"
    raise ValueError(f"{name} must be a number{span}{also}, not {x!r:.99}")


def _check_text(name: str, x: Any) -> None:
    if not isinstance(x, str):
        raise ValueError(f"{name} must be a string, not {x!r:.99}")


def _check_mark(name: str, x: Any) -> None:
    if x not in ("do", "see"):
        raise ValueError(f"{name} must be do or see, not {x!r:.99}")


def _check_count(name: str, x: Any) -> None:
    if not (type(x) is int and 1 <= x < 2**63):
        raise ValueError(f"{name} must be a whole number of at least 1, not {x!r:.99}")


def _check_texts(name: str, x: Any) -> None:
    if not (isinstance(x, dict) and all(isinstance(text, str) for text in x.values())):
        raise ValueError(f"{name} must be an object of strings, not {x!r:.99}")


# The check of each entry.
CHECKS: dict[str, Callable[[str, Any], None]] = {
    **dict.fromkeys(WORDS, _check_text),
    "own_actions": _check_mark,
    **dict.fromkeys(("num_episodes", "num_rounds"), _check_count),
    **dict.fromkeys((*QUANTITIES, *(f"{name}_se" for name in QUANTITIES), "seconds"), check_quantity),
    **dict.fromkeys(("versions", "notes"), _check_texts),
}


def check_certificate(data: dict[str, Any], *, partial: bool = False) -> None:
    """Raise `ValueError`, naming the entry, if `data` is not the content of a `certificate.json`.

    Args:
        data: a JSON object.
        partial: whether entries may be missing, as in a certificate of another version.
    """
    for name, check in CHECKS.items():
        if name in data:
            check(name, data[name])
        elif not partial:
            raise ValueError(f"{name} is missing")


def read_certificate(file: Path, *, config: Mapping[str, Any], partial: bool = False) -> dict[str, Any]:
    """Read and check a `certificate.json`; the example episode is left to `parse_episode`.

    Args:
        file: the file.
        config: the entries of the `config.json` that it belongs to.
        partial: whether entries may be missing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or belongs to another run; the message names the entry.
    """
    data = read_json(file, most=MAX_BYTES[CERTIFICATE], remedy=remedy(file))
    try:
        check_certificate(data, partial=partial)
    except ValueError as error:
        raise damaged(file, error, remedy(file)) from error
    for name in (DIGEST, "task", "teaching"):
        check_same(file, name, data, config, remedy(file))
    return data


def check_same(file: Path, name: str, data: Mapping[str, Any], config: Mapping[str, Any], advice: str) -> None:
    """Raise `ValueError` if an entry of `file` is not that of `config.json`, if both have it."""
    have, want = data.get(name), config.get(name)
    if have is not None and want is not None and have != want:
        raise ValueError(
            f"{file} belongs to another run or configuration: its {name} is {have!r:.99}, and {CONFIG} has "
            f"{want!r:.99}. {advice}"
        )


def quantities_of(certificate: dict[str, Any]) -> dict[str, Quantity]:
    """Return the quantities of a certificate, of which some may be missing, by name."""
    found = {}
    for name in QUANTITIES:
        value, error = (to_float(certificate.get(key)) for key in (name, f"{name}_se"))
        found[name] = Quantity(value, error, certificate.get("notes", {}).get(name) if value is None else None)
    return found


def write_certificate(file: Path, certificate: dict[str, Any]) -> None:
    """Write a `certificate.json`."""
    write_atomically(file, (json.dumps(plain(certificate), indent=2, allow_nan=False) + "\n").encode())


def remedy(file: Path) -> str:
    """Return the remedy for a damaged certificate or film."""
    return f"Write it again with: undelude certify {file.parent}"
