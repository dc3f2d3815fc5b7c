"""A diagnosis in a folder, next to its fit: `diagnosis.json`."""

import json
import os
from pathlib import Path
from typing import Any

from undelude._files import read_json, write_atomically
from undelude.offline._diagnosing.cloned import Cloned
from undelude.offline._diagnosing.diagnose import Diagnosis
from undelude.offline._fitting.result import Fit
from undelude.offline._saving.as_json import from_json, to_json
from undelude.offline._saving.fit_files import FIT, load

FILE = "diagnosis.json"
RESTORE = "Delete it, and diagnose the fit again."


def write_diagnosis(folder: Path, fit: Fit, diagnosis: Diagnosis, clone: Cloned) -> dict[str, Any]:
    """Write `diagnosis.json` and return its content."""
    content = {"data": fit.digest, "diagnosis": to_json(diagnosis), "cloning": to_json(clone)}
    write_atomically(folder / FILE, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    return content


def read_diagnosis(folder: Path, fit: Fit) -> tuple[Diagnosis, Cloned] | None:
    """Return the diagnosis of a fit, and what cloning would do; None if there is none yet.

    Raises:
        ValueError: the file is damaged, or of another fit.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    content = read_json(file, remedy=RESTORE)
    if content.get("data") != fit.digest:
        raise ValueError(f"{file} is not the diagnosis of {folder / FIT}: the data differ. {RESTORE}")
    try:
        found = from_json(content.get("diagnosis")), from_json(content.get("cloning"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}. {RESTORE}") from error
    if not (isinstance(found[0], Diagnosis) and isinstance(found[1], Cloned)):
        raise ValueError(f"{file} is damaged: it has no diagnosis. {RESTORE}")
    return found


def load_diagnosis(folder: str | os.PathLike[str]) -> Diagnosis:
    """Return the diagnosis that `undelude offline diagnose` wrote into the folder of a fit, for `ud.offline.agent`.

    Args:
        folder: of the fit.

    Raises:
        FileNotFoundError: the folder has no fit, or no diagnosis yet.
        ValueError: the file is damaged, or of another fit.
    """
    folder = Path(folder)
    found = read_diagnosis(folder, load(folder))
    if found is None:
        raise FileNotFoundError(f"{folder} has no diagnosis yet: undelude offline diagnose {folder}")
    return found[0]
