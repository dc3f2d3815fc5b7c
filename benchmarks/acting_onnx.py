"""Microseconds of a round of acting at batch 1, for every network: ONNX Runtime beside `jax.export`, from Python.

A round is an action, the reading of it, and the reading of an observation. The two formats take turns, so that other
programs on the machine slow both; the 5th percentile is the time without them.

    python benchmarks/acting_onnx.py    some minutes
"""

import tempfile
from pathlib import Path

import jax
import numpy as np

import undelude as ud
from undelude._agents.networks.registry import ARCHITECTURES
from undelude._cli.export import latencies
from undelude._runs.export import Format
from undelude._versions import versions

FORMATS: tuple[Format, ...] = ("jax", "onnx")
NUM_ROUNDS = 100
REPEATS = 5


def main() -> None:
    process = ud.tasks.bandit(num_rounds=NUM_ROUNDS)
    print(f"bandit, T = {NUM_ROUNDS}, batch 1, cpu; JAX {versions()['jax']}")
    print(f"{'agent':24} {'format':8} {'5 % us':>8} {'median us':>10} {'99 % us':>10}")
    for name, architecture in ARCHITECTURES.items():
        agent = architecture.load()(process, key=jax.random.key(0))
        with tempfile.TemporaryDirectory() as parent:
            folders = {f: ud.export(process, agent, Path(parent) / f, format=f) for f in FORMATS}
            times = {f: [] for f in FORMATS}
            for _ in range(REPEATS):
                for f in FORMATS:
                    times[f].append(latencies(folders[f]))
        for f in FORMATS:
            early, median, late = np.percentile(np.concatenate(times[f]), (5, 50, 99))
            print(f"{name:24} {f:8} {early:8.0f} {median:10.0f} {late:10.0f}", flush=True)


if __name__ == "__main__":
    main()
