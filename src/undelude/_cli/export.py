"""The command `undelude export`."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from undelude._cli.console import make_console, working
from undelude._cli.errors import ExitCode, UsageError
from undelude._cli.options import Call, Export
from undelude._cli.permission import check_may_call_task
from undelude._runs.directory import RunDirectory
from undelude._runs.export import check_free, export, num_bytes, read_export
from undelude.tasks.registry import make

# Rounds over which the latency is measured.
ROUNDS_TIMED = 2000


def run(options: Export, call: Call) -> ExitCode:
    """Run the command."""
    run = RunDirectory.open(options.directory)
    try:
        check_free(options.out, overwrite=options.overwrite, option="--overwrite")
    except FileExistsError as error:
        raise UsageError(str(error)) from error
    run.check_numerics()
    check_may_call_task(run, options.task, command=call.line("export"))
    agent = run.load_agent()
    with working(make_console(stderr=True), "exporting"):
        size = {"num_rounds": options.num_rounds, "batch_size": options.batch_size}
        process = make(run.config.task)
        folder = export(process, agent, options.out, format=options.format, overwrite=options.overwrite, **size)
        microseconds = latencies(folder)
    console = make_console(stderr=False)
    names, size = "init, act, take, observe, step and manifest.json", num_bytes(folder)
    console.print(f"Written to {folder}: {names}, {size / 1e6:.1f} MB.", soft_wrap=True)
    if not run.is_finished:
        console.print(
            f"Training in {options.directory} is not finished, and the agent has no certificate. Resume it with: "
            f"{run.resume_command}",
            soft_wrap=True,
        )
    median, p99 = np.percentile(microseconds, (50, 99))
    where = jax.devices()[0].platform if options.format == "jax" else "cpu, by ONNX Runtime"
    console.print(
        f"An observation and the action after it, batch {options.batch_size or 1}, on {where}: "
        f"{median:.0f} microseconds (median), {p99:.0f} (99th percentile).",
        soft_wrap=True,
    )
    return ExitCode.OK


def latencies(folder: Path, num_rounds: int = ROUNDS_TIMED, *, in_one_call: bool = True) -> np.ndarray:
    """Measure the microseconds of each round through exported functions, after a warm-up.

    Args:
        folder: a folder written by `ud.export`.
        num_rounds: number of rounds, including the warm-up.
        in_one_call: whether a round is a call of `step`, unless episodes have one round; otherwise it is a call of
            `act` and one of `observe`.
    """
    manifest, functions = read_export(folder)
    in_jax = manifest["written_as"] == "jax"
    init, act, observe, step = (
        jax.jit(functions[name]) if in_jax else functions[name] for name in ("init", "act", "observe", "step")
    )
    described = manifest["functions"]
    size = len(described["init"]["results"])
    observation = [np.zeros(row["shape"], row["dtype"]) for row in described["observe"]["arguments"][size:]]
    drawn = _draws(described["act"]["arguments"][-1], num_rounds)
    # The first action of an episode has no observation before it, so that `step` plays the rounds after it.
    in_one_call = in_one_call and manifest["num_rounds"] > 1
    rounds = manifest["num_rounds"] - in_one_call
    seconds = []
    memory = []
    for t in range(num_rounds):
        if t % rounds == 0:
            memory = act(*init(), drawn[t])[-size:] if in_one_call else init()
        started = time.perf_counter()
        if in_one_call:
            memory = step(*memory, *observation, drawn[t])[-size:]
        else:
            memory = observe(*act(*memory, drawn[t])[-size:], *observation)
        if in_jax:
            jax.block_until_ready(memory)
        seconds.append(time.perf_counter() - started)
    return 1e6 * np.array(seconds[min(20, num_rounds // 2) :])


def _draws(row: dict[str, Any], num_rounds: int) -> np.ndarray:
    """Return the seeds or the uniform numbers of all rounds."""
    rng, shape = np.random.default_rng(0), (num_rounds, *row["shape"])
    if row["name"] == "seed":
        return rng.integers(2**32, size=shape, dtype=np.uint32)
    return rng.random(shape, row["dtype"])
