"""Peers for the suite: agents of other libraries, trained on every task that they can play, and measured.

    pip install -c constraints.txt torch==2.13.0 stable-baselines3 sb3-contrib
    pip install --no-deps imitation && pip install tqdm datasets    it pins old versions, and runs on these
    OMP_NUM_THREADS=1 python studies/suite_peers.py torch-gru       or recurrent-ppo, imitation-bc
    python studies/suite_peers.py torch-gru --tasks frog-v1 --few   a trial: two updates, 16 episodes

Weights are stored in runs/peers, so that the same command goes on after an interruption. Each peer is a module with
`learn(process, task, seed, few)`, which returns weights and costs, and `agent(process, task)` for `undelude suite run`.
"""

import argparse
import importlib
import json
import time
from pathlib import Path

import torch
from suite_shared import FOLDER

from undelude._cli import main
from undelude._versioned_tasks import SUITE, VersionedTask, find_task

LOG = "training.json"
BASELINES = Path(__file__).parents[1] / "src" / "undelude" / "_suite" / "baselines"
# The module of each peer.
PEERS = {"torch-gru": "suite_gru", "recurrent-ppo": "suite_ppo", "imitation-bc": "suite_bc"}


def train(peer: str, task: VersionedTask, seed: int, *, few: bool) -> None:
    """Train a peer on a task and store its weights and costs, unless they are stored already."""
    file, log = FOLDER / peer / f"{task.short_id}.pt", FOLDER / peer / LOG
    costs = json.loads(log.read_text()) if log.exists() else {}
    if task.short_id in costs:
        if costs[task.short_id].get("few", False) != few:
            raise SystemExit(f"{file} is of {'a full run' if few else 'a trial, --few'}: delete {FOLDER / peer} first.")
        return
    process = task.make()
    started = time.process_time()
    try:
        learned, cost = importlib.import_module(PEERS[peer]).learn(process, task.id, seed, few=few)
    except NotImplementedError as error:
        learned, cost = None, {"declines": str(error)}
    cost |= {"few": True} if few else {}
    cost["cpu_seconds"] = round(time.process_time() - started, 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    if learned is not None:
        torch.save(learned, file)
    log.write_text(json.dumps(costs | {task.short_id: cost}, indent=1) + "\n")
    print(task.short_id, cost, flush=True)


def about(peer: str) -> str:
    """Return the sentences on a peer and its training, for the leaderboard."""
    costs = [cost for cost in json.loads((FOLDER / peer / LOG).read_text()).values() if "declines" not in cost]
    rounds, seconds = (sum(cost[name] for cost in costs) for name in ("rounds", "cpu_seconds"))
    return (
        f"{importlib.import_module(PEERS[peer]).ABOUT} One recipe for all tasks; in all {rounds / 1e6:.1f} million "
        f"rounds of training and {seconds / 60:.0f} minutes of one core."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--tasks", nargs="+", default=[task.short_id for task in SUITE.values()])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--few", action="store_true", help="a trial, which is not stored as a baseline")
    parser.add_argument("--no-measure", action="store_true", help="train alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.tasks:
        train(given.peer, find_task(name), given.seed, few=given.few)
    if not given.no_measure:
        out = FOLDER / f"{given.peer}.json" if given.few else BASELINES / f"{given.peer}.json"
        call = ["suite", "run", f"{PEERS[given.peer]}:agent", "--name", importlib.import_module(PEERS[given.peer]).NAME]
        call += ["--about", about(given.peer), "--seed", str(given.seed), "--out", str(out), "--tasks", *given.tasks]
        call += [*(["--num-episodes", "16"] if given.few else []), *(["--resume"] if out.exists() else [])]
        raise SystemExit(main(call))
