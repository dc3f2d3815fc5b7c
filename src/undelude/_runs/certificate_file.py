"""`certificate.json`: the quantities of a certificate, the settings of its run, and an example episode."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from undelude._certificate.certificate import QUANTITIES
from undelude._files import plain, read_json, write_atomically
from undelude._runs.layout import damaged

# Entries that are strings.
WORDS = ("task", "agent", "own_actions", "teaching")


def is_quantity(x: Any) -> bool:
    """Return whether `x` can be a measured number in a file."""
    if x is None or x == "inf":
        return True
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e300


def to_float(x: Any) -> float | None:
    """Return a measured number from a file, with "inf" as a float."""
    return None if x is None else math.inf if x == "inf" else float(x)


def check_quantity(name: str, x: Any) -> None:
    """Raise `ValueError` if `x` cannot be a measured number in a file."""
    if not is_quantity(x):
        raise ValueError(f'{name} must be a number, null or "inf", not {x!r:.99}')


def _check_text(name: str, x: Any) -> None:
    if not isinstance(x, str):
        raise ValueError(f"{name} must be a string, not {x!r:.99}")


def _check_count(name: str, x: Any) -> None:
    if not (isinstance(x, int) and 1 <= x < 2**63):
        raise ValueError(f"{name} must be a whole number of at least 1, not {x!r:.99}")


def _check_texts(name: str, x: Any) -> None:
    if not (isinstance(x, dict) and all(isinstance(text, str) for text in x.values())):
        raise ValueError(f"{name} must be an object of strings, not {x!r:.99}")


# The check of each entry.
CHECKS: dict[str, Callable[[str, Any], None]] = {
    **dict.fromkeys(WORDS, _check_text),
    "num_episodes": _check_count,
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


def read_certificate(file: Path, *, partial: bool = False) -> dict[str, Any]:
    """Read and check a `certificate.json`; the example episode is left to `parse_episode`.

    Args:
        file: the file.
        partial: whether entries may be missing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged; the message names the entry.
    """
    data = read_json(file, remedy=rewrite(file))
    try:
        check_certificate(data, partial=partial)
    except ValueError as error:
        raise damaged(file, error, rewrite(file)) from error
    return data


def write_certificate(file: Path, certificate: dict[str, Any]) -> None:
    """Write a `certificate.json`."""
    write_atomically(file, (json.dumps(plain(certificate), indent=2, allow_nan=False) + "\n").encode())


def rewrite(file: Path) -> str:
    """Return the remedy for a damaged certificate."""
    return f"Write it again with: undelude certify {file.parent}"
