"""Nothing lost: real processes that are killed, terminated, or run into a full disk or a number that is not finite.

`pytest tests/test_crashes.py -k kill --kills 20` kills twenty; three is the default.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import undelude as ud
from undelude.cli.checkpoints import PART, Checkpoints, updates_in
from undelude.cli.config import Config
from undelude.cli.runs import RunDirectory
from undelude.cli.train import make_agent, make_teaching
from undelude.tasks.registry import make
from undelude.teaching import TeachingState, default_optimizer, initial_state

ROWS, LOG_EVERY = 60, 10
TASKS = """
import jax.numpy as jnp
import undelude as ud

def tiny():
    return ud.tasks.bandit(num_arms=2, num_rounds=2)

def impossible():
    # Ten million to one that theta is 1; the expert then does what an agent that never does it cannot predict.
    return ud.tasks.bandit(num_arms=2, num_rounds=2)
"""
TRAIN = ["train", "tasks_to_lose:tiny", "--hidden-size", "4", "--batch-size", "4", "--seed", "7", "--log-every"]
TINY = [*TRAIN, str(LOG_EVERY), "--steps", str(ROWS * LOG_EVERY), "--checkpoint-every", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current directory of all commands; they share what they compile."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "tasks_to_lose.py").write_text(TASKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        environment = {
            "JAX_NUM_CPU_DEVICES": "2",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "True",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            "PYTHONUNBUFFERED": "1",
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        yield folder


def command(*args: str | Path) -> subprocess.Popen:
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-m", "undelude.cli", *map(str, args)], text=True, **streams)


def finish(*args: str | Path) -> tuple[int, str]:
    process = command(*args)
    _, stderr = process.communicate(timeout=200)
    assert "Traceback" not in stderr
    return process.returncode, stderr


def resume(run: Path) -> str:
    code, stderr = finish("train", "tasks_to_lose:tiny", "--out", run, "--resume", "--checkpoint-every", "0")
    assert code == 0, stderr
    return stderr


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert process.poll() is None, f"it ended first: {process.communicate()[1]}"


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def num_rows(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def stored(run: Path) -> dict[str, np.ndarray]:
    """Parameters, optimiser and count of updates, of the last checkpoint, bit for bit."""
    from jax.tree_util import keystr, tree_flatten_with_path

    config = RunDirectory.open(run).config
    agent = make_agent(config, make(config.task))
    like = initial_state(agent, make_teaching(config), default_optimizer(config.learning_rate, config.steps))
    with Checkpoints(run / "checkpoints") as checkpoints:
        state = checkpoints.restore(like, warn=pytest.fail)
    assert isinstance(state, TeachingState)
    leaves, _ = tree_flatten_with_path(state)
    return {keystr(path): np.asarray(leaf) for path, leaf in leaves if hasattr(leaf, "dtype")}


def assert_same(run: Path, whole: Path) -> None:
    """All fields of all rows but the seconds, the agent's files, and all that a checkpoint holds."""
    assert [row | {"seconds": 0} for row in rows(run)] == [row | {"seconds": 0} for row in rows(whole)]
    for file in ("agent/weights.safetensors", "agent/agent.json"):
        assert (run / file).read_bytes() == (whole / file).read_bytes()
    have, want = stored(run), stored(whole)
    assert have.keys() == want.keys()
    assert any("optimizer_state" in name for name in want)
    for name in want:
        np.testing.assert_array_equal(have[name], want[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """The run that nothing happened to."""
    code, stderr = finish(*TINY, "--out", "whole")
    assert code == 0, stderr
    assert [row["update"] for row in rows(folder / "whole")] == [*range(LOG_EVERY, ROWS * LOG_EVERY + 1, LOG_EVERY)]
    return folder / "whole"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", range(metafunc.config.getoption("--kills")))


def test_after_kill_9_the_resumed_run_is_the_uninterrupted_one(whole: Path, folder: Path, moment: int) -> None:
    """At random moments; the first is within the writing of a checkpoint."""
    rng, run = np.random.default_rng(moment), folder / f"killed-{moment}"
    row, later = int(rng.integers(1, ROWS - 5)), rng.uniform(0, 0.1)
    process = command(*TINY, "--out", run)
    wait_until(lambda: num_rows(run) >= row, process)
    if moment == 0:
        wait_until(lambda: any((run / "checkpoints").glob(f"*{PART}.*")), process)
    else:
        time.sleep(later)
    process.kill()
    process.communicate()
    unfinished = [file.name for file in (run / "checkpoints").glob(f"*{PART}*")]
    print(f"killed after row {num_rows(run)}, checkpoints {updates_in(run / 'checkpoints')}, unfinished {unfinished}")
    assert num_rows(run) < ROWS, "it was done already"
    if moment == 0:
        assert unfinished
    stderr = resume(run)
    assert ("Going on from update" in stderr) == (len(updates_in(run / "checkpoints")) > 0 and "from update" in stderr)
    assert_same(run, whole)
