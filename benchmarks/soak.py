"""Memory of the process over a long run of a small agent, with metrics and checkpoints.

python benchmarks/soak.py                  200,000 updates, some minutes
python benchmarks/soak.py --steps 20000    a tenth of it
"""

import argparse
import resource
import tempfile
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 1)

import undelude as ud  # noqa: E402
from undelude._runs.checkpoints import Checkpoints, updates_in  # noqa: E402
from undelude._runs.config import Config  # noqa: E402
from undelude._runs.directory import RunDirectory  # noqa: E402
from undelude._teaching.updates import TeachingState  # noqa: E402

# Seconds between two checkpoints.
EVERY = 2.0


def resident() -> float:
    """Return the resident memory in MiB, or its peak if the system does not report the current value."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Train, and print the memory held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200_000)
    steps = parser.parse_args().steps
    process = ud.tasks.bandit(num_arms=2, num_rounds=4)
    held: list[tuple[int, float]] = []
    seen: set[int] = set()

    agent = ud.LSTMAgent(process, 8, key=jax.random.key(0))
    settings = {"key": jax.random.key(1), "steps": steps, "batch_size": 8, "log_every": 100}
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create(Path(folder) / "run", Config("bandit"))
        with Checkpoints(run.checkpoints_folder, EVERY, run.metrics_file) as checkpoints:

            def log(state: TeachingState, row: dict) -> None:
                run.append_metrics(row)
                checkpoints.save_if_due(state)
                seen.update(updates_in(run.checkpoints_folder))
                if row["update"] % (steps // 20) == 0:
                    held.append((row["update"], resident()))
                    print(f"update {held[-1][0]:9,}  {held[-1][1]:8.1f} MiB  {row['seconds']:8.1f} s", flush=True)

            ud.teach(process, agent, ud.Counterfactual(), on_log=log, **settings)
    print(f"{steps // 100:,} rows of metrics and {len(seen)} checkpoints were written")
    first, last = held[len(held) // 4][1], held[-1][1]
    print(f"from a quarter of the way to the end: {last - first:+.1f} MiB")


if __name__ == "__main__":
    main()
