"""Reading logs: seconds and peak memory of `Demos.from_parquet`. The files are written first, by another process.

python benchmarks/offline_logs.py                                  a million episodes of 20 rounds; about a minute
python benchmarks/offline_logs.py --episodes 100000 --shuffled     rows in random order, sorted by their time
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLUMNS = {"episode": "user", "action": "arm", "observation": ["reward", "page"]}


def write(folder: Path, num_episodes: int, num_rounds: int, num_files: int, shuffled: bool) -> None:
    """Write logs: an action and a page as strings, a reward, and a real number that nobody reads."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    parts = np.array_split(np.arange(num_episodes), num_files)
    for i, episodes in enumerate(parts):
        size = len(episodes) * num_rounds
        order = rng.permutation(size) if shuffled else np.arange(size)
        users = pa.array([f"user-{x:09d}" for x in episodes.tolist()])
        arms, pages = pa.array([f"arm {x}" for x in range(5)]), pa.array([f"page {x}" for x in range(50)])
        table = {
            "user": users.take(pa.array(np.repeat(np.arange(len(episodes)), num_rounds)[order])),
            "t": np.tile(np.arange(num_rounds), len(episodes))[order],
            "arm": arms.take(pa.array(rng.integers(5, size=size))),
            "reward": rng.integers(2, size=size).astype(float),
            "page": pages.take(pa.array(rng.integers(50, size=size))),
            "seconds": rng.exponential(size=size),
        }
        pq.write_table(pa.table(table), folder / f"part-{i:03d}.parquet")


def read(folder: Path, timed: bool) -> None:
    """Read the logs and print seconds and the peak memory of this process as JSON."""
    import pyarrow

    from undelude.offline import Demos

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started, used = time.perf_counter(), time.process_time()
    demos = Demos.from_parquet(str(folder / "*.parquet"), **COLUMNS, time="t" if timed else None)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - used
    columns = [demos.action, *demos.observations.values()]
    print(
        json.dumps(
            {
                "episodes": demos.num_episodes,
                "rounds": demos.num_steps,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "start_GiB": before,
                "result_GiB": sum(x.values.nbytes for x in columns) / 2**30,
                "pyarrow": pyarrow.__version__,
                "digest": demos.digest(),
            }
        )
    )


def main() -> None:
    """Write in one process, read in another, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--shuffled", action="store_true", help="rows in random order within each file")
    parser.add_argument("--timed", action="store_true", help="give time=, as --shuffled does")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--part", choices=("write", "read"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "write":
        write(args.folder, args.episodes, args.rounds, args.files, args.shuffled)
        return
    if args.part == "read":
        read(args.folder, args.timed or args.shuffled)
        return
    with tempfile.TemporaryDirectory() as folder:
        again = [sys.executable, __file__, *sys.argv[1:], "--folder", folder]
        subprocess.run([*again, "--part", "write"], check=True)
        size = sum(x.stat().st_size for x in Path(folder).iterdir())
        out = subprocess.run([*again, "--part", "read"], check=True, capture_output=True, text=True).stdout
    found = json.loads(out) | {"files_GiB": size / 2**30}
    for name, x in found.items():
        print(f"{name:>12}  {x:,.2f}" if isinstance(x, float) else f"{name:>12}  {x}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
