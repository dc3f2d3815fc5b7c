"""The command `undelude export`."""

import dataclasses
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from undelude._cli.certify import Directory
from undelude._cli.console import make_console, working
from undelude._cli.errors import ExitCode, UsageError
from undelude._cli.permission import check_may_call_task
from undelude._runs.config import Text, WholeNumber
from undelude._runs.directory import RunDirectory
from undelude._runs.export import check_free, export, read_export
from undelude.tasks.registry import make

# Rounds over which the latency is measured.
ROUNDS_TIMED = 2000


@dataclasses.dataclass(frozen=True)
class Export:
    """Export the agent of a run as functions that run without undelude, and measure their latency."""

    directory: Directory
    """The run directory."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """The folder for init, act and observe, each as .bin (jax.export) and .mlir (StableHLO), and manifest.json."""
    num_rounds: WholeNumber = None
    """Number of rounds per episode; the task's own by default."""
    batch_size: WholeNumber = None
    """Number of episodes at a time; by default one, without a batch axis."""
    overwrite: bool = False
    """Also write into a folder that is not empty, over an earlier export."""
    task: Text = None
    """The task, package.module:factory, of a run that you did not make on this machine: allows calling it."""

    def run(self, args: Sequence[str]) -> ExitCode:
        """Run the command."""
        del args
        for name, number in (("--num-rounds", self.num_rounds), ("--batch-size", self.batch_size)):
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, not {number}.")
        run = RunDirectory.open(self.directory)
        try:
            check_free(self.out, overwrite=self.overwrite, option="--overwrite")
        except FileExistsError as error:
            raise UsageError(str(error)) from error
        run.check_numerics()
        command = f"undelude export {shlex.join([str(self.directory), '--out', str(self.out)])}"
        check_may_call_task(run, self.task, command=command)
        agent = run.load_agent()
        with working(make_console(stderr=True), "exporting"):
            size = {"num_rounds": self.num_rounds, "batch_size": self.batch_size}
            folder = export(make(run.config.task), agent, self.out, overwrite=self.overwrite, **size)
            microseconds = latencies(folder)
        console = make_console(stderr=False)
        size = sum(file.stat().st_size for file in folder.iterdir())
        console.print(
            f"Written to {folder}: init, act, observe and manifest.json, {size / 1e6:.1f} MB.", soft_wrap=True
        )
        median, p99 = np.percentile(microseconds, (50, 99))
        console.print(
            f"One action and the observation after it, batch {self.batch_size or 1}, on {jax.devices()[0].platform}: "
            f"{median:.0f} microseconds (median), {p99:.0f} (99th percentile).",
            soft_wrap=True,
        )
        return ExitCode.OK


def latencies(folder: Path, num_rounds: int = ROUNDS_TIMED) -> np.ndarray:
    """Measure the microseconds of each round of acting and observing through exported functions, after a warm-up.

    Args:
        folder: a folder written by `ud.export`.
        num_rounds: number of rounds, including the warm-up.
    """
    manifest, functions = read_export(folder)
    init, act, observe = (jax.jit(functions[name]) for name in ("init", "act", "observe"))
    described = manifest["functions"]
    size = len(described["init"]["results"])
    observation = [np.zeros(row["shape"], row["dtype"]) for row in described["observe"]["arguments"][size:]]
    shape = described["act"]["arguments"][-1]["shape"]
    seeds = np.random.default_rng(0).integers(2**32, size=(num_rounds, *shape), dtype=np.uint32)
    seconds = []
    memory = init()
    for t in range(num_rounds):
        if t % manifest["num_rounds"] == 0:
            memory = init()
        started = time.perf_counter()
        memory = act(*memory, seeds[t])[-size:]
        memory = jax.block_until_ready(observe(*memory, *observation))
        seconds.append(time.perf_counter() - started)
    return 1e6 * np.array(seconds[min(20, num_rounds // 2) :])
