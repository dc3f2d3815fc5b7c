"""Stored results of the studies, JSON files in the clone that contains the scripts."""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from undelude._versions import versions

# Not `undelude._paper.results.FOLDER`, which may be in an installed package.
FOLDER = Path(__file__).parents[1] / "src" / "undelude" / "_paper" / "results"


def run(name: str, study: Callable[[], dict[str, Any]], *, keep: bool) -> None:
    """Run a study and store its result, with the date, versions, and the duration in seconds if it measures none.

    Args:
        name: the name of the study and of its file.
        study: returns the result, with its seeds.
        keep: if False, the result is printed instead of stored.
    """
    started = time.perf_counter()
    result = {"study": f"studies/{name}.py", "date": datetime.now(UTC).date().isoformat(), "versions": versions()}
    result |= study()
    result.setdefault("seconds", round(time.perf_counter() - started, 1))
    text = json.dumps(rounded(result), indent=1) + "\n"
    if keep:
        file = FOLDER / f"{name}.json"
        file.write_text(text)
        print(f"Written to {file}.")
    else:
        print(text)


# The parts of a study: what each measures, as a function of the number of data sets, and their usual number.
Parts = Mapping[str, tuple[Callable[[int], dict[str, Any]], int]]


def parser(doc: str | None, parts: Parts) -> argparse.ArgumentParser:
    """Return the command line of a study in parts, with the first line of its docstring."""
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    made.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    made.add_argument("--data-sets", type=int, help="of each part; a result with other than the usual is printed")
    return made


def run_parts(name: str, parts: Parts, given: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Run the parts that the command line names, and store each as soon as it ends; the others keep their results.

    Args:
        name: the name of the study.
        parts: all of them.
        given: the arguments of `parser`.
        settings: of the study.
    """
    seeds = list(range(max(usual for _, usual in parts.values())))
    for part in given.parts:
        function, usual = parts[part]
        number = given.data_sets or usual

        def study(function: Any = function, number: int = number, part: str = part) -> dict[str, Any]:
            started = time.perf_counter()
            found = function(number) | {"seconds": round(time.perf_counter() - started, 1)}
            all_parts = earlier(name).get("parts", {}) | {part: found}  # Read last: another part may have ended since.
            seconds = sum(each.get("seconds", 0.0) for each in all_parts.values())
            return {"seeds": seeds, "settings": settings, "parts": all_parts, "seconds": round(seconds, 1)}

        run(name, study, keep=number == usual)


def earlier(name: str) -> dict[str, Any]:
    """Return the stored result of a study; empty if there is none."""
    file = FOLDER / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def over(values: Any) -> list[float]:
    """Return the mean over data sets and its standard error."""
    x = np.asarray(values, float)
    return [float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan")]


def rounded(value: Any) -> Any:
    """Round numbers to four significant digits."""
    if isinstance(value, dict):
        return {name: rounded(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(x) for x in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
