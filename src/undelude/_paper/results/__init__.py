"""Results of the studies: what takes too long to recompute for a page, with settings, seeds and versions."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def load(name: str) -> dict[str, Any]:
    """What `studies/NAME.py` wrote."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def origin(study: dict[str, Any], what: str) -> str:
    """A sentence on where stored numbers come from."""
    minutes = max(1, round(study["seconds"] / 60))
    return f"Stored results of `{study['study']}`, {what}; it took {minutes} minutes. `make study` computes them anew."
