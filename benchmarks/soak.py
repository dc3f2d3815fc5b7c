"""A long run of a small agent: does memory stay where it is?

python benchmarks/soak.py                  200,000 updates, some minutes
python benchmarks/soak.py --steps 20000    a tenth of it
"""

import argparse
import resource
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 1)

import undelude as ud  # noqa: E402


def resident() -> float:
    """MiB that the process holds now; at most so far, where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Train, and print what is held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200_000)
    steps = parser.parse_args().steps
    process = ud.tasks.bandit(num_arms=2, num_rounds=4)
    held: list[tuple[int, float]] = []

    def log(state: object, row: dict) -> None:
        if row["update"] % (steps // 20) == 0:
            held.append((row["update"], resident()))
            print(f"update {held[-1][0]:9,}  {held[-1][1]:8.1f} MiB  {row['seconds']:8.1f} s", flush=True)

    agent = ud.LSTMAgent(process, 8, key=jax.random.key(0))
    settings = {"key": jax.random.key(1), "steps": steps, "batch_size": 8, "log_every": 100, "on_log": log}
    ud.teach(process, agent, ud.Counterfactual(), **settings)
    first, last = held[len(held) // 4][1], held[-1][1]
    print(f"from a quarter of the way to the end: {last - first:+.1f} MiB")


if __name__ == "__main__":
    main()
