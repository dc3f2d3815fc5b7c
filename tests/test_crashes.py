"""Training that is killed or terminated, or that meets a full disk or a number that is not finite, loses nothing.

`pytest tests/test_crashes.py -k kill --kills 20` kills twenty processes; the default is one.
"""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.tree_util import keystr, tree_flatten_with_path

import undelude as ud
from undelude._cli import main
from undelude._cli.console import make_console
from undelude._cli.interrupts import Interrupts
from undelude._cli.session import Session
from undelude._cli.train import make_agent, make_teaching
from undelude._runs.checkpoints import PART, Checkpoints, updates_in
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude._runs.layout import LOCK
from undelude._teaching.loop import default_optimizer, initial_state
from undelude._teaching.updates import TeachingState
from undelude.tasks.registry import make
from user_folder import TASKS, compiled_once

ROWS, LOG_EVERY = 30, 10
EVERY_ROW = {"checkpoint_every": 0.0}
STEPS = ROWS * LOG_EVERY
TINY = ["train", "tasks_to_lose:tiny", "--hidden-size", "4", "--batch-size", "4", "--seed", "7"]
TINY += ["--log-every", str(LOG_EVERY), "--steps", str(STEPS), "--checkpoint-every", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make the current directory of all commands, which share their compiled programs."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "tasks_to_lose.py").write_text(TASKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.setenv("JAX_NUM_CPU_DEVICES", "2")
        with compiled_once(tmp_path_factory, patch):
            yield folder


def command(*args: str | Path) -> subprocess.Popen:
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-m", "undelude", *map(str, args)], text=True, **streams)


def train(run: Path, interrupts: Interrupts | None = None) -> None:
    """Run `undelude train --resume` without certificate and page, in this process."""
    open_run = RunDirectory.open(run)
    config = open_run.config
    process = make(config.task)
    agent = make_agent(config, process)
    console, teaching = make_console(stderr=True), make_teaching(config)
    Session(open_run, config, process, agent, teaching, console, interrupts or Interrupts(), **EVERY_ROW).train()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600
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
    """Return the parameters, optimiser state and update count of the last checkpoint."""
    config = RunDirectory.open(run).config
    agent = make_agent(config, make(config.task))
    template = initial_state(agent, make_teaching(config), default_optimizer(config.learning_rate, config.steps))
    with Checkpoints(run / "checkpoints") as checkpoints:
        state = checkpoints.restore(template, warn=pytest.fail)
    assert isinstance(state, TeachingState)
    leaves, _ = tree_flatten_with_path(state)
    return {keystr(path): np.asarray(leaf) for path, leaf in leaves if hasattr(leaf, "dtype")}


def assert_same(run: Path, whole: Path) -> None:
    """Compare the rows except for the seconds, the agent's files and the checkpoints, bit for bit."""
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
    """Train an uninterrupted run."""
    config = Config("tasks_to_lose:tiny", hidden_size=4, batch_size=4, seed=7, log_every=LOG_EVERY, steps=STEPS)
    run = RunDirectory.create(folder / "whole", config)
    train(run.path)
    assert [row["update"] for row in rows(run.path)] == [*range(LOG_EVERY, STEPS + 1, LOG_EVERY)]
    return run.path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", range(metafunc.config.getoption("--kills")))


def test_resume_after_kill_9_gives_the_same_run(whole: Path, folder: Path, moment: int) -> None:
    """The kills are at random moments, and the first is while a checkpoint is being written."""
    rng, run = np.random.default_rng(moment), folder / f"killed-{moment}"
    row, later = int(rng.integers(1, ROWS - 10)), rng.uniform(0, 0.1)
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
    assert num_rows(run) < ROWS, "it had finished already"
    assert unfinished or moment
    train(run)
    assert_same(run, whole)


@pytest.mark.slow
def test_sigterm_loses_no_update(whole: Path, folder: Path) -> None:
    run = folder / "terminated"
    process = command(*TINY, "--out", run)
    wait_until(lambda: num_rows(run) >= 3, process)
    process.terminate()
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 143, stderr
    assert re.search(r"undelude: terminated; the run so far is in .*terminated\. To resume:\n.* --resume\n$", stderr)
    assert updates_in(run / "checkpoints")[-1] == rows(run)[-1]["update"], "no update is lost"
    assert (run / "agent" / "weights.safetensors").exists()
    train(run)
    assert_same(run, whole)


@pytest.mark.slow
def test_closed_terminal_loses_no_update(whole: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunDirectory.open(whole).config
    run, interrupts = RunDirectory.create(folder / "hung-up", config).path, Interrupts()
    append = RunDirectory.append_metrics

    def append_and_hang_up(self: RunDirectory, row: dict[str, Any]) -> None:
        append(self, row)
        if row["update"] == 5 * LOG_EVERY:
            signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # A test runner may ignore it.
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append_metrics", append_and_hang_up)
        with pytest.raises(KeyboardInterrupt), interrupts:
            train(run, interrupts)
    signal.signal(signal.SIGHUP, before)
    assert updates_in(run / "checkpoints")[-1] == rows(run)[-1]["update"] == 5 * LOG_EVERY
    train(run)
    assert_same(run, whole)


@pytest.mark.slow
def test_renamed_run_is_not_split_in_two(whole: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends with one error, and makes no second folder; under its old name the run goes on."""
    config = RunDirectory.open(whole).config
    run = RunDirectory.create(folder / "to-rename", config).path
    append = RunDirectory.append_metrics

    def append_and_rename(self: RunDirectory, row: dict[str, Any]) -> None:
        append(self, row)
        if row["update"] == 5 * LOG_EVERY:
            run.rename(folder / "renamed")

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append_metrics", append_and_rename)
        with pytest.raises(FileNotFoundError, match="to-rename was renamed, moved or deleted while"):
            train(run)
    assert not run.exists()
    (folder / "renamed").rename(run)
    train(run)
    assert_same(run, whole)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of two megabytes."""
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while out.write(bytes(size)) == size:
                    pass


@pytest.mark.slow
def test_full_disk_keeps_the_last_checkpoint(whole: Path, folder: Path, disk: Path) -> None:
    """With free space again, the resumed run is the uninterrupted one."""
    run = disk / "run"
    process = command(*TINY, "--out", run)
    wait_until(lambda: updates_in(run / "checkpoints") != [], process)
    fill(disk / "ballast")
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 1, stderr
    *_, message, again = stderr.splitlines()
    kept = updates_in(run / "checkpoints")[-1]
    assert message == (
        f"undelude: no space left on the disk of {run} (ENOSPC); the last saved update is {kept}. Free some space. "
        "To resume:"
    )
    assert again.endswith("--resume")
    assert "Traceback" not in stderr
    assert not [file for file in run.rglob(".*") if file.name != LOCK]
    assert kept < STEPS

    code = main(["train", "tasks_to_lose:tiny", "--out", str(run), "--resume"])
    assert code == 1, "the disk is still full"
    assert updates_in(run / "checkpoints")[-1] == kept
    (disk / "ballast").unlink()
    train(run)
    assert_same(run, whole)
    assert not [file for file in run.rglob("*") if PART in file.name]


def test_full_disk_is_one_error_from_orbax(disk: Path) -> None:
    """The growing free space lets the threads of Orbax fail at every stage of their work."""
    program = f"""
import contextlib, shutil
from pathlib import Path
import equinox as eqx, jax, numpy as np
from undelude._runs import checkpoints
from undelude._cli.errors import is_disk_full
checkpoints.METADATA_BYTES = 0
disk, outcomes = Path({str(disk)!r}), []
class State(eqx.Module):
    update: jax.Array
    arrays: list
state = State(jax.numpy.int32(1), [jax.numpy.ones(10) for _ in range(4)])
for room in range(4, 200, 4):
    with contextlib.suppress(OSError):  # A thread of the last write may have used some of it.
        (disk / "ballast").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - 1024 * room)))
    try:
        with checkpoints.Checkpoints(disk / "checkpoints") as manager:
            manager.save(state)
        outcomes.append("written")
        break
    except Exception as error:
        outcomes.append("full" if is_disk_full(error) else repr(error))
    (disk / "ballast").unlink(missing_ok=True)
print(*outcomes)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    *full, written = done.stdout.split()
    assert set(full) == {"full"}
    assert len(full) > 5
    assert written == "written"
    assert done.stderr == ""


@pytest.mark.slow
def test_nonfinite_number_keeps_the_last_good_agent(folder: Path) -> None:
    """The learning rate overflows a few updates into the warm-up."""
    run = folder / "diverged"
    _, stderr = (process := command(*TINY, "--learning-rate", "1e38", "--out", run)).communicate(timeout=600)
    assert process.returncode == 1, stderr
    *_, message = stderr.splitlines()
    assert "Traceback" not in stderr
    match = re.match(r"undelude: (.*) stopped being finite at update (\d+); the last good agent is that of up", message)
    assert match, message
    assert message.endswith(f"It is in {run / 'agent'}; undelude certify {run} measures it.")
    good = rows(run)[-1]["update"]
    assert 0 < good < int(match[2]) < LOG_EVERY
    assert f"that of update {good}. " in message
    assert updates_in(run / "checkpoints") == [good]
    process = make("tasks_to_lose:tiny")
    certificate = ud.certify(process, ud.load(run / "agent"), key=jax.random.key(0), num_episodes=16, baselines=False)
    assert np.isfinite(certificate.action_kl_do)
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(ud.NotFinite, match=f"{match[1]} stopped being finite at update {match[2]}"):
        train(run)
    assert (run / "metrics.jsonl").read_bytes() == before
