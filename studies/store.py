"""Where the studies leave their results: with the page of the paper, which draws them."""

import json
import time
from collections.abc import Callable
from typing import Any

from undelude.certificate import versions
from undelude.paper.results import FOLDER


def run(name: str, study: Callable[[], dict[str, Any]], *, keep: bool) -> None:
    """Carry out a study, and keep what it returns with its versions and, if it does not count them itself, its seconds.

    Without `keep`, only see it run.
    """
    started = time.perf_counter()
    result = {"study": f"studies/{name}.py", "versions": versions(), **study()}
    result.setdefault("seconds", round(time.perf_counter() - started, 1))
    text = json.dumps(rounded(result), indent=1) + "\n"
    if keep:
        (FOLDER / f"{name}.json").write_text(text)
    else:
        print(text)


def rounded(value: Any) -> Any:
    """Numbers to four significant digits."""
    if isinstance(value, dict):
        return {name: rounded(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(x) for x in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
