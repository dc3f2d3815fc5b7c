"""What does `undelude train TASK` give? Each named task with its settings: the certificate and the seconds of training.

python studies/tasks.py                      about 20 minutes on two cores
python studies/tasks.py --tasks grid arm     these tasks; the results of the others are kept
python studies/tasks.py --few                a trial run
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import store

from undelude._named_tasks import SETTINGS, TASKS

SHOWN = ("action_kl_do", "action_kl_do_se", "action_kl_see", "action_kl_see_se", "verdict")


def train(task: str, few: bool) -> dict[str, Any]:
    """Return the certificate of an agent that the command line trains, its settings, and the seconds of training."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / task
        less = ["--steps", "3", "--batch-size", "4", "--num-episodes", "16"] if few else []
        command = [sys.executable, "-m", "undelude", "train", task, "--out", str(run), "--json", *less]
        certificate = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        config = json.loads((run / "config.json").read_text())
        seconds = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["seconds"]
    own = {name: config[name] for name in SETTINGS.get(task, {})}
    row = {"task": task, "settings": own, "steps": config["steps"], "seconds": seconds}
    row |= {name: certificate[name] for name in SHOWN}
    print(row, flush=True)
    return row


def study(tasks: list[str], few: bool) -> dict[str, Any]:
    """Return new rows for `tasks`, and the stored rows of other tasks."""
    rows = {} if few else {row["task"]: row for row in store.earlier("tasks").get("rows", [])}
    rows |= {task: train(task, few) for task in tasks}
    ordered = [rows[task] for task in TASKS if task in rows]
    settings = {"agent": "lstm", "teaching": "counterfactual", "steps": {row["task"]: row["steps"] for row in ordered}}
    return {"seeds": [0], "settings": settings, "rows": ordered, "seconds": sum(row["seconds"] for row in ordered)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    args = parser.parse_args()
    # Stored after each task, so that an interrupted run keeps its results.
    for task in args.tasks:
        store.run("tasks", lambda task=task: study([task], args.few), keep=not args.few)
