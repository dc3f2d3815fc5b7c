"""Stored results of the studies, which take too long for the page; with settings, seeds, versions and date."""

import json
from pathlib import Path
from typing import Any

from undelude._paper.item import Stored

FOLDER = Path(__file__).parent


def load(name: str) -> dict[str, Any]:
    """Return the results that `studies/NAME.py` wrote."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def stored(study: dict[str, Any]) -> Stored:
    """Return the origin of the results of a study."""
    return Stored(study["study"], study["date"], tuple(study["seeds"]))


def origin(study: dict[str, Any]) -> str:
    """Return a sentence on the origin of stored results."""
    minutes = max(1, round(study["seconds"] / 60))
    seeds = ", ".join(map(str, study["seeds"]))
    return (
        f"Stored results of `{study['study']}` of {study['date']}, seed{'s' * (len(study['seeds']) > 1)} {seeds}; "
        "computed "
        f"in {minutes} minutes. `make study` recomputes them."
    )
