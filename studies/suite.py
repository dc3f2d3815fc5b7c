"""The stored parts of the suite: what each task is, and the results of the baselines.

python studies/suite.py --definitions              what each task is, in numbers; for a new task or version: 2 minutes
python studies/suite.py --schema                   docs/undelude-suite-1.schema.json, for other programs
python studies/suite.py --tables                   the tables of docs/suite.md
python studies/suite.py --agents do see committed  the exact agents: 4 minutes each on two cores
python studies/suite.py --runs runs/lstm lstm      the results of `undelude suite run` on folders of taught runs
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from undelude._certificate.numbers import with_error
from undelude._cli import main
from undelude._cli.suite import estimate, estimate_share
from undelude._suite import definitions
from undelude._suite.aggregate import standings
from undelude._suite.leaderboard import stored_baselines, worst_in_words
from undelude._suite.scale import baseline, reference
from undelude._suite.schema import json_schema
from undelude._versioned_tasks import EFFECTS, SUITE

FOLDER = Path(__file__).parents[1] / "src" / "undelude" / "_suite"
BASELINES, PAGES = FOLDER / "baselines", Path(__file__).parents[1] / "docs"
ABOUT = {
    "do": "Exact inference, own actions read as interventions: the sober reference, of normalised return 1.",
    "see": "Exact inference, own actions read as evidence: the limit of behaviour cloning, of normalised return 0.",
    "committed": "Exact sober inference that acts on a drawn theta until another is twice as probable.",
}


def write_definitions() -> None:
    """Define the tasks that have no definition yet. That of a task that has one must never change."""
    file = FOLDER / definitions.FILE
    stored: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for task in SUITE.values():
        if task.id not in stored:
            stored[task.id] = definitions.define(task.make())
            print(task.id, stored[task.id]["numbers"], flush=True)
    lines = (f"{json.dumps(name)}: {json.dumps(stored[name])}" for name in SUITE)
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def measure(source: str, name: str, about: str) -> None:
    """Run the suite, and keep the result as a baseline; an interrupted run goes on."""
    file = BASELINES / f"{name}.json"
    arguments = ["suite", "run", source, "--out", str(file), "--about", about]
    if main([*arguments, *(["--resume"] if file.exists() else [])]):
        raise SystemExit(1)


def with_tables(page: str) -> str:
    """Return docs/suite.md with its tables replaced by those of the stored results."""
    for name, table in (("suite tasks", tasks_table()), ("suite baselines", baselines_table())):
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        page = re.sub(f"{begin}.*?{end}", lambda _, x=f"{begin}\n\n{table}\n\n{end}": x, page, flags=re.DOTALL)
    return page


def tasks_table() -> str:
    """Return the tasks, with the returns of both exact agents and the distance of the deluded one."""
    lines = [
        "| task | why it is there | delusion | return of do | of see | KL of see to do | episodes |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in SUITE.values():
        do, see = (reference(task.id, mark) for mark in ("do", "see"))
        distance = baseline("exact-see").tasks[task.id].score("action_kl_do")
        numbers = [with_error(x.value, x.standard_error) for x in (do, see, distance)]
        extra = f" Extra `[{task.extra}]`." if task.extra else ""
        cells = [f"`{task.short_id}`", task.why + extra, EFFECTS[task.effect], *numbers, f"{task.num_episodes:,}"]
        lines.append(f"| {' | '.join(cells)} |".replace("\N{NO-BREAK SPACE}", " "))
    return "\n".join(lines)


def baselines_table() -> str:
    """Return the standings of the stored baselines."""
    lines = [
        "| agent | seeds | normalised return | median KL to do | sober | deluded | declined | worst round |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for x in standings(stored_baselines()):
        worst = ", ".join(filter(None, worst_in_words(x)))
        counts = [str(x.verdicts.get("sober", 0)), str(x.verdicts.get("deluded", 0)), str(len(x.not_played))]
        cells = [x.agent, str(x.num_seeds), estimate_share(x.score), estimate(x.median_kl), *counts, worst]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--definitions", action="store_true")
    parser.add_argument("--schema", action="store_true")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--agents", nargs="+", choices=list(ABOUT), default=[])
    parser.add_argument("--runs", nargs=2, metavar=("DIR", "NAME"))
    parser.add_argument("--about", default="")
    given = parser.parse_args()
    if given.definitions:
        write_definitions()
    if given.schema:
        (PAGES / "undelude-suite-1.schema.json").write_text(json.dumps(json_schema(), indent=1) + "\n")
    for agent in given.agents:
        measure(f"exact:{agent}", f"exact-{agent}", ABOUT[agent])
    if given.runs:
        source, name = given.runs
        measure(source, name, given.about)
    if given.tables:
        page = PAGES / "suite.md"
        page.write_text(with_tables(page.read_text()))
