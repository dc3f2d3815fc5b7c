"""Where the studies leave their results: in their own clone, with the page of the paper, which draws them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from undelude._versions import versions

# Not that of `undelude._paper.results`, which may be of an installed package.
FOLDER = Path(__file__).parents[1] / "src" / "undelude" / "paper" / "results"


def run(name: str, study: Callable[[], dict[str, Any]], *, keep: bool) -> None:
    """Carry out a study, and keep what it returns with its versions and, if it does not count them itself, its seconds.

    Without `keep`, only see it run.
    """
    started = time.perf_counter()
    result = {"study": f"studies/{name}.py", "versions": versions(), **study()}
    result.setdefault("seconds", round(time.perf_counter() - started, 1))
    text = json.dumps(rounded(result), indent=1) + "\n"
    if keep:
        file = FOLDER / f"{name}.json"
        file.write_text(text)
        print(f"Written to {file}.")
    else:
        print(text)


def earlier(name: str) -> dict[str, Any]:
    """What an earlier run of a study left; nothing where there is none."""
    file = FOLDER / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def rounded(value: Any) -> Any:
    """Numbers to four significant digits."""
    if isinstance(value, dict):
        return {name: rounded(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(x) for x in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
