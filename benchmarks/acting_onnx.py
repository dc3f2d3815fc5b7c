"""Microseconds of a round of acting at batch 1, for every network: ONNX Runtime beside `jax.export`, from Python.

A round is an observation, an action, and the reading of both. It is two calls, `observe` and `act`, or one, `step`; of
ONNX also one with arrays that are bound to the model once, as docs/export.md shows; and the `step` of `ud.Policy`. All
take turns, so that other programs on the machine slow all; the 5th percentile is the time without them.

    python benchmarks/acting_onnx.py [lstm ...]    about a minute for each agent
"""

import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import onnxruntime

import undelude as ud
from undelude._agents.networks.registry import ARCHITECTURES
from undelude._cli.export import latencies
from undelude._runs.export import Format
from undelude._versions import versions

FORMATS: tuple[Format, ...] = ("jax", "onnx")
NUM_ROUNDS = 100
ROUNDS_TIMED = 1000
REPEATS = 8


def bound(folder: Path) -> np.ndarray:
    """Return the microseconds of rounds through `step`, with the same arrays in each round."""
    functions = json.loads((folder / "manifest.json").read_text())["functions"]
    size, described = len(functions["init"]["results"]), functions["step"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "step.onnx", options)
    binding = session.io_binding()
    takes, gives = ([np.zeros(x["shape"], x["dtype"]) for x in described[k]] for k in ("arguments", "results"))
    for bind, name, arrays in ((binding.bind_input, "in", takes), (binding.bind_output, "out", gives)):
        for i, x in enumerate(arrays):
            bind(f"{name}_{i}", "cpu", 0, x.dtype, x.shape, x.ctypes.data)
    start = onnxruntime.InferenceSession(folder / "init.onnx", options).run(None, {})
    uniforms = np.random.default_rng(0).random((ROUNDS_TIMED, *takes[-1].shape), takes[-1].dtype)
    seconds = []
    for t in range(ROUNDS_TIMED):
        if t % (NUM_ROUNDS - 1) == 0:
            for x, first in zip(takes, start, strict=False):
                x[...] = first
        started = time.perf_counter()
        takes[-1][...] = uniforms[t]
        session.run_with_iobinding(binding)
        for x, y in zip(takes, gives[-size:], strict=False):
            x[...] = y
        seconds.append(time.perf_counter() - started)
    return 1e6 * np.array(seconds[20:])


def policy(agent: ud.Policy) -> np.ndarray:
    """Return the microseconds of rounds of a `ud.Policy`."""
    o, seconds = np.int32(0), []
    for t in range(ROUNDS_TIMED):
        if t % (NUM_ROUNDS - 1) == 0:
            agent.reset(seed=t)
        started = time.perf_counter()
        agent.step(o)
        seconds.append(time.perf_counter() - started)
    return 1e6 * np.array(seconds[20:])


def ways(folders: dict[Format, Path], agent: ud.Policy) -> dict[str, Callable[[], np.ndarray]]:
    """Return the ways to play a round."""
    calls = {
        f"{f}, {name}": functools.partial(latencies, folders[f], ROUNDS_TIMED, in_one_call=one)
        for f in FORMATS
        for name, one in (("act and observe", False), ("step", True))
    }
    return calls | {"onnx, step, bound": lambda: bound(folders["onnx"]), "ud.Policy": lambda: policy(agent)}


def main(names: list[str]) -> None:
    process = ud.tasks.bandit(num_rounds=NUM_ROUNDS)
    print(f"bandit, T = {NUM_ROUNDS}, batch 1, cpu; JAX {versions()['jax']}, ONNX Runtime {onnxruntime.__version__}")
    print(f"{'agent':22} {'round':24} {'5 % us':>8} {'median us':>10} {'99 % us':>10}")
    for name in names or ARCHITECTURES:
        agent = ARCHITECTURES[name].load()(process, key=jax.random.key(0))
        with tempfile.TemporaryDirectory() as parent:
            folders: dict[Format, Path] = {}
            for f in FORMATS:
                folders[f] = ud.export(process, agent, Path(parent) / f, format=f)
            rounds = ways(folders, ud.Policy(agent, num_rounds=NUM_ROUNDS))
            times = {way: [] for way in rounds}
            for _ in range(REPEATS):
                for way, play in rounds.items():
                    times[way].append(play())
        for way, x in times.items():
            early, median, late = np.percentile(np.concatenate(x), (5, 50, 99))
            print(f"{type(agent).__name__:22} {way:24} {early:8.0f} {median:10.0f} {late:10.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
