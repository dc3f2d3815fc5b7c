"""Stored results of the studies, which take too long for the page; with settings, seeds and versions."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def load(name: str) -> dict[str, Any]:
    """Return the results that `studies/NAME.py` wrote."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def origin(study: dict[str, Any], what: str) -> str:
    """Return a sentence on the origin of stored results."""
    minutes = max(1, round(study["seconds"] / 60))
    return f"Stored results of `{study['study']}`, {what}; computed in {minutes} minutes. `make study` recomputes them."
