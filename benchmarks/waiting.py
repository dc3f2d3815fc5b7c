"""How long a person waits: commands with an empty cache of compiled programs, and again with a full one.

`python benchmarks/waiting.py [--paper]`, some three minutes (five with the paper). CPU seconds count all cores. In the
rows of `train`, the time of training itself stands apart: the ratio is everything else over it, in the same run.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GAP = """
import jax, undelude as ud
process, key = ud.tasks.bandit(), jax.random.key(0)
ud.delusion_gap(process, key=key)
"""
COMMANDS = {
    "undelude --help": ["-m", "undelude", "--help"],
    "undelude tasks": ["-m", "undelude", "tasks"],
    "an unknown task": ["-m", "undelude", "train", "nosuch"],
    "first delusion_gap, imports included": ["-c", GAP],
    "undelude train bandit": ["-m", "undelude", "train", "bandit", "--out", "run"],
}
PAPER = {"undelude paper": ["-m", "undelude", "paper", "--out", "paper"]}


def cpu_seconds() -> float:
    """Return the CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(args: list[str], cache: Path) -> tuple[float, float, str]:
    """Run Python in a new folder; return wall seconds, CPU seconds and the last seconds that it printed."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"XDG_CACHE_HOME": str(cache), "XDG_DATA_HOME": folder, "COLUMNS": "200"}
        started, cpu = time.perf_counter(), cpu_seconds()
        done = subprocess.run([sys.executable, *args], cwd=folder, env=environment, text=True, capture_output=True)
        wall, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    if done.returncode not in (0, 2):
        sys.exit(done.stderr)
    training = re.search(r"training ([\d.]+)", "".join(re.findall(r"Seconds: .*", done.stdout)))
    if training is None:
        return wall, cpu, ""
    seconds = float(training[1])
    return wall, cpu, f"training {seconds:.1f}, everything else {(wall - seconds) / seconds:.2f} times that"


def main() -> None:
    """Print a table."""
    commands = COMMANDS | (PAPER if "--paper" in sys.argv else {})
    print(f"{'':40} {'':6} {'wall s':>7} {'CPU s':>7}")
    for name, args in commands.items():
        with tempfile.TemporaryDirectory() as folder:
            # Matplotlib reads the machine's fonts once, for all programs that use it: not counted.
            subprocess.run(
                [sys.executable, "-c", "import matplotlib.font_manager"], env=os.environ | {"XDG_CACHE_HOME": folder}
            )
            for cache in ("empty", "full"):
                wall, cpu, rest = measure(args, Path(folder))
                print(f"{name:40} {cache:6} {wall:7.2f} {cpu:7.2f}  {rest}", flush=True)


if __name__ == "__main__":
    main()
