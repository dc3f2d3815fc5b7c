"""Runs by two real processes on this machine, which share only a port."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import undelude as ud
from undelude import offline
from undelude._cli import backend, main
from undelude._cli.distributed import LOST
from undelude._cli.session import teach_run
from undelude._cli.train import make_agent, make_teaching
from undelude._runs import agent_files as checkpoint
from undelude._runs.config import Config
from undelude.tasks.registry import make

TASKS = """
import undelude as ud

def tiny():
    return ud.tasks.bandit(num_arms=2, num_rounds=2)

def pond():
    from undelude import gym as ug
    from environments import MakeLake, captain

    options = {"num_rounds": 2, "num_envs": 2, "contexts": [-0.8, 0.8], "hide": [1], "expert": captain}
    return ug.HostWorld(MakeLake(), reward_observed=True, at_end="end", **options)
"""
STEPS, EVERY = 12, 3
OPTIONS = ["--hidden-size", "4", "--batch-size", "4", "--seed", "7"]
LENGTH = ["--steps", str(STEPS), "--log-every", str(EVERY)]
# The command, in a process that gets a signal before the updates up to `stop`.
DYING = """
import os, runpy, signal
from undelude._teaching import loop as teaching
program = teaching.Loop._program

def dying(self, *args):
    run, seconds = program(self, *args)
    def updates(arrays, key, stop):
        if stop == {stop}:
            os.kill(os.getpid(), signal.{signal})
        return run(arrays, key, stop)
    return updates, seconds

teaching.Loop._program = dying
runpy.run_module("undelude", run_name="__main__")
"""
# The command, in a process that exits with success before it makes the certificate.
BRIEF = """
import os, runpy
from undelude._cli import distributed
leave = distributed.leave

def end():
    leave()
    os._exit(0)

distributed.leave = end
runpy.run_module("undelude", run_name="__main__")
"""
# The command, in a process that waits until another one has tried to join the run.
SLOW = """
import os, runpy, time
from undelude._runs.directory import RunDirectory
append = RunDirectory.append_metrics

def append_later(run, row):
    append(run, row)
    while row["update"] == 3 and not os.path.exists("../stray/tried"):
        time.sleep(0.05)

RunDirectory.append_metrics = append_later
runpy.run_module("undelude", run_name="__main__")
"""
# The command, in a process that leaves a file when it has ended.
STRAY = """
import os, runpy
end = os._exit

def leave(code):
    open("tried", "w").close()
    end(code)

os._exit = leave
runpy.run_module("undelude", run_name="__main__")
"""
# A program that uses the library, with the checks that `teach` makes in several processes.
LIBRARY = """
import sys
import jax, numpy as np, jax.numpy as jnp, equinox as eqx
process_id = int(sys.argv[2])
jax.distributed.initialize(sys.argv[1], 2, process_id)
import undelude as ud
from undelude import offline
from undelude._teaching.sharding import episodes_mesh, gather, local, spread
from undelude.offline._fitting import fit as fitting

process = ud.tasks.bandit(num_arms=2, num_rounds=2)
agent = ud.LSTMAgent(process, 4, key=jax.random.key(0))
assert gather("ab" * process_id) == ["", "ab"]
mesh = episodes_mesh(4)
assert mesh.size == 2

own = {"zero": np.float32([-0.0, process_id]), "key": jax.random.key(process_id), "flag": np.array(process_id == 0)}
got = local(spread(own, mesh))
assert np.signbit(got["zero"]).tolist() == [True, False] and got["zero"][1] == 0 and got["flag"]
assert jax.random.key_data(got["key"]).tolist() == jax.random.key_data(jax.random.key(0)).tolist()

def refused(process, agent, batch_size):
    try:
        ud.teach(process, agent, ud.Counterfactual(), key=jax.random.key(0), steps=2, batch_size=batch_size)
    except ValueError as error:
        return str(error)

demos = offline.Demos.from_arrays(np.arange(24).reshape(8, 3) % 2, np.arange(24).reshape(8, 3) % 3 % 2)
if process_id == 1:  # As rounding on another processor might.
    fitting.choose = lambda candidates, select: candidates[-1]
spec = offline.LatentSpec(offline.Episode([1, 2]))
fit = offline.fit(demos, spec, key=jax.random.key(0), starts=1, max_iterations=2)
assert fit.K == 1, fit.K
for alone in (lambda: offline.diagnose(fit, demos), lambda: fitting.refit(demos, spec, spec.latent[0], key=None)):
    try:
        alone()
        raise AssertionError
    except ValueError as error:
        assert "one of 2 processes" in str(error), error

from undelude import gym as ug
from environments import MakeLake, captain

options = {"num_rounds": 2, "hide": [1], "expert": captain, "reward_observed": False}
lake = ug.HostWorld(MakeLake(), contexts=[-0.8, 0.8 + process_id], **options)
print(refused(lake, ud.LSTMAgent(lake, 4, key=jax.random.key(0)), 4))
print(refused(process, agent, 3))
print(refused(process, ud.LSTMAgent(process, 4 + process_id, key=jax.random.key(0)), 4))
print(refused(ud.tasks.bandit(num_arms=2, num_rounds=2 + process_id), agent, 4))
jax.distributed.shutdown()
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def start(cache, folder, *args, devices=1):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(Path(ud.__file__).parents[1]), str(Path(__file__).parent)]),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_tasks.py").write_text(TASKS)
    streams = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, *args], cwd=folder, env=environment, text=True, **streams)


def free_address():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listening.getsockname()[1]}"


def outcomes(processes):
    """Return the exit code, stdout and stderr of each process."""
    try:
        printed = []
        for process in processes:
            printed.append(process.communicate(timeout=600))
            for silent in processes:
                silent.send_signal(signal.SIGCONT)
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, stdout, without_waiting(stderr))
        for process, (stdout, stderr) in zip(processes, printed, strict=True)
    ]


def without_waiting(stderr):
    """Drop the lines that say for whom a process waits: which of them do depends on how fast each starts."""
    return "".join(line for line in stderr.splitlines(keepends=True) if ": waiting for " not in line)


def train(cache, folder, *options, each=((), ()), launches=(), devices=(1, 1), stray=False, task="tiny"):
    """Run the command in two processes, each in its own folder.

    Args:
        each: more options for each process.
        launches: other code for some of them.
        devices: their numbers of devices.
        stray: start another process of index 1 when the run is under way.
        task: one of `TASKS`.
    """
    address = free_address()
    common = ["train", f"my_tasks:{task}", "--out", "run", "--distributed", "--coordinator", address]
    processes = []
    for i, own in enumerate(each):
        launch = ["-c", launches[i]] if i in launches else ["-m", "undelude"]
        last = ["--num-processes", "2", "--process-id", str(i), *options, *own]
        processes.append(start(cache, folder / str(i), *launch, *common, *last, devices=devices[i]))
    if stray:
        while processes[0].poll() is None and not (folder / "0" / "run" / "metrics.jsonl").exists():
            time.sleep(0.05)
        last = ["--num-processes", "2", "--process-id", "1", *options]
        processes.append(start(cache, folder / "stray", "-c", STRAY, *common, *last))
    return outcomes(processes)


def rows(folder):
    lines = map(json.loads, (folder / "0" / "run" / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def weights(folder):
    return load_file(folder / "0" / "run" / "agent" / "weights.safetensors")


@pytest.fixture(scope="module")
def together(cache, tmp_path_factory):
    """The folder of a finished run of two processes, and their outcomes."""
    folder = tmp_path_factory.mktemp("together")
    return folder, train(cache, folder, *OPTIONS, *LENGTH, "--json", launches={0: SLOW}, stray=True)


@pytest.mark.slow
def test_only_process_0_writes(together):
    folder, ((code, stdout, stderr), other, _) = together
    assert code == 0, stderr
    assert other == (0, "", "")
    assert json.loads(stdout)["task"] == "my_tasks:tiny"
    assert "Gloo" not in stderr
    assert not (folder / "1" / "run").exists()
    assert {"config.json", "certificate.json", "report.html", "agent", "checkpoints"} <= {
        file.name for file in (folder / "0" / "run").iterdir()
    }


def check_equal_to_one_process(folder, tmp_path, monkeypatch, task, steps=STEPS):
    """Compare the losses of a run of two processes, and its agent, with those of one that plays the whole batch."""
    monkeypatch.chdir(folder / "0")
    monkeypatch.syspath_prepend(str(folder / "0"))
    config = Config(f"my_tasks:{task}", hidden_size=4, batch_size=4, seed=7, steps=steps, log_every=EVERY)
    process = make(config.task)
    run = teach_run(process, make_agent(config, process), make_teaching(config), config)
    for row, expected in zip(rows(folder), run.metrics, strict=True):
        assert row["update"] == expected["update"]
        for loss in ("action_loss", "observation_loss"):
            assert row[loss] == pytest.approx(expected[loss], rel=1e-5)
    checkpoint.save(run.agent, tmp_path)
    want, have = load_file(tmp_path / "weights.safetensors"), weights(folder)
    assert have.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(have[name], want[name], atol=2e-5)


@pytest.mark.slow
def test_two_processes_equal_one(together, tmp_path, monkeypatch):
    """Two processes collect the episodes of one and average the gradients: losses and agent agree to rounding."""
    check_equal_to_one_process(together[0], tmp_path, monkeypatch, "tiny")


@pytest.mark.slow
def test_two_processes_with_environments_of_their_own_equal_one(cache, tmp_path, monkeypatch):
    """Each plays its half of every batch in a simulator."""
    sizes = [*OPTIONS, "--steps", "6", "--log-every", str(EVERY), "--num-episodes", "64"]
    (code, _, stderr), other = train(cache, tmp_path / "two", *sizes, task="pond")
    assert code == 0, stderr
    assert other == (0, "", "")
    assert not (tmp_path / "two" / "1" / "run").exists()
    check_equal_to_one_process(tmp_path / "two", tmp_path / "one", monkeypatch, "pond", 6)


@pytest.mark.slow
def test_resume_after_a_kill(together, cache, tmp_path):
    whole, _ = together
    for dies, more in ((1, OPTIONS + LENGTH), (0, ["--resume"])):
        stop = (3 - dies) * EVERY  # The second attempt gets one row further.
        results = train(cache, tmp_path, *more, launches={dies: DYING.format(stop=stop, signal="SIGKILL")})
        assert results[dies][0] == -9
        code, stdout, stderr = results[1 - dies]
        assert (code, stdout) == (1, "")
        name = "undelude" if dies else "undelude, process 1"
        assert stderr.splitlines()[-1] == f"{name}: {LOST}"
        assert dies or len(stderr.splitlines()) == 1
        assert [row["update"] for row in rows(tmp_path)] == list(range(EVERY, stop, EVERY))
    (code, _, stderr), other = train(cache, tmp_path, "--resume", launches={0: BRIEF})
    assert code == 0, stderr
    assert "Going on from update" in stderr
    assert other == (0, "", "")
    assert rows(tmp_path) == rows(whole)
    have, want = weights(tmp_path), weights(whole)
    assert have.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(have[name], want[name])


@pytest.mark.slow
def test_resume_after_silence(together, cache, tmp_path):
    """A stopped process closes no connection; only its heartbeat is missed. The last regular checkpoint serves."""
    whole, _ = together
    silent = DYING.format(stop=3 * EVERY, signal="SIGSTOP")
    options = [*OPTIONS, *LENGTH, "--checkpoint-every", "0"]
    results = train(cache, tmp_path, *options, launches={1: silent})
    for (code, stdout, stderr), name in zip(results, ("undelude", "undelude, process 1"), strict=True):
        assert (code, stdout) == (1, "")
        assert stderr.splitlines()[-1] == f"{name}: {LOST}"
    (code, _, stderr), other = train(cache, tmp_path, "--resume", launches={0: BRIEF})
    assert code == 0, stderr
    assert "Going on from update" in stderr
    assert other == (0, "", "")
    assert rows(tmp_path) == rows(whole)


@pytest.mark.slow
def test_stray_process_does_not_end_a_run(together):
    """It is told so in one line."""
    _, (_, _, (code, stdout, stderr)) = together
    assert (code, stdout) == (1, "")
    assert re.fullmatch(
        r"undelude, process 1: 127\.0\.0\.1:\d+ does not answer as process 0 of a run that is starting: .* under way "
        r"already, or .*\n",
        stderr,
    )


@pytest.mark.parametrize(
    ("each", "devices", "message"),
    [
        (((), ("--seed", "8")), (1, 1), "--seed is 8 in process 1, and 7 in process 0"),
        pytest.param(
            ((), ()),
            (1, 2),
            "process 1 has 2 devices, and process 0 has 1: give all the same number",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_difference_is_told_by_every_process(cache, tmp_path, each, devices, message):
    results = train(cache, tmp_path, *OPTIONS, *LENGTH, each=each, devices=devices)
    for (code, stdout, stderr), name in zip(results, ("undelude: ", "undelude, process 1: "), strict=True):
        assert (code, stdout) == (2, ""), stderr
        assert stderr.startswith(name + message)
        assert stderr.count("\n") == 1
    assert not (tmp_path / "0" / "run").exists()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("0", "undelude: process 1 of 2 did not join at {} within 0.3 s (--join-timeout): start it."),
        ("1", "undelude, process 1: process 0 was not at {} within 0.3 s (--join-timeout) (Connection refused): start"),
    ],
)
def test_process_left_alone_ends_with_one_line(index, message, tmp_path, capsys, monkeypatch):
    """It says at once for whom it waits."""
    monkeypatch.setattr("undelude._cli.distributed._index", 0)
    address = free_address()
    options = ["--distributed", "--coordinator", address, "--num-processes", "2", "--process-id", index]
    assert main(["train", "bandit", "--out", str(tmp_path / "run"), *options, "--join-timeout", "0.3"]) == 1
    first, last = capsys.readouterr().err.splitlines()
    assert f": waiting for process {1 - int(index)}" in first
    assert f"at {address}, for at most 0.3 s (--join-timeout) ..." in first
    assert last.startswith(message.format(address))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_library_calls_in_several_processes(cache, tmp_path):
    """Those that share agree on what they do, and those of one process say so."""
    address = free_address()
    results = outcomes([start(cache, tmp_path / str(i), "-c", LIBRARY, address, str(i)) for i in range(2)])
    for code, stdout, stderr in results:
        assert code == 0, stderr
        contexts, uneven, shapes, program = [line for line in stdout.splitlines() if "Gloo" not in line]
        assert "The world of process 1 differs from that of process 0" in contexts
        assert "batch_size 3 cannot be split evenly over the 2 devices of 2 processes" in uneven
        assert "The agent or the optimiser of process 1 differs from that of process 0" in shapes
        assert "What is computed of process 1 differs from that of process 0" in program


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coordinator", "here:1"], "--coordinator is for --distributed"),
        (["--process-id", "0"], "--process-id is for --distributed"),
        (["--distributed"], "finds neither Slurm, Open MPI nor Kubernetes"),
        (["--distributed", "--coordinator", "here:1"], "go together"),
        (["--distributed", "--coordinator", "here", "--num-processes", "2", "--process-id", "0"], "HOST:PORT"),
        (
            ["--distributed", "--coordinator", "h:1", "--num-processes", "2", "--process-id", "2"],
            "--process-id must be",
        ),
        (["--distributed", "--num-seeds", "2"], "--num-seeds is not for --distributed"),
        (["--join-timeout", "3"], "--join-timeout is for --distributed"),
        (["--distributed", "--join-timeout", "0"], "--join-timeout must be a positive number of seconds"),
        (["--distributed", "--join-timeout", "nan"], "--join-timeout must be a positive number of seconds"),
    ],
)
def test_conflicting_options(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("undelude._cli.distributed._catch_abort", lambda: None)
    monkeypatch.setattr("jax.distributed.initialize", no_cluster)
    assert main(["train", "bandit", "--out", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def no_cluster(*args, **options):
    raise ValueError("coordinator_address should be defined.")


def test_jax_abort_is_one_line(cache, tmp_path):
    """The abort comes from a C++ thread, in which Python cannot print."""
    code = (
        "import ctypes; from undelude._cli.distributed import _catch_abort; _catch_abort(); ctypes.CDLL(None).abort()"
    )
    ((code, stdout, stderr),) = outcomes([start(cache, tmp_path / "0", "-c", code)])
    assert (code, stdout, stderr) == (1, "", "undelude: JAX aborted. UNDELUDE_DEBUG=1 shows what it says.\n")


@pytest.mark.parametrize(("cores", "processes", "expected"), [(4, 1, 4), (4, 2, 3), (4, 5, 1)])
def test_share_of_cores(cores, processes, expected):
    assert backend.share_of_cores(cores, batch_size=12, num_processes=processes) == expected


@pytest.mark.slow
def test_two_processes_fit_logs_as_one_does(tmp_path, cache):
    """`undelude offline fit`: each has half of the rows of the E-step, and the fit is that of all rows."""
    rng = np.random.default_rng(0)
    theta = rng.integers(0, 2, 101)  # a number that two do not divide
    actions = np.where(rng.random((101, 4)) < 0.8, theta[:, None], rng.integers(0, 2, (101, 4)))
    paid = (rng.random((101, 4)) < np.where(actions == theta[:, None], 0.8, 0.3)).astype(int)
    rows = [f"{n},{a},{o}" for n in range(101) for a, o in zip(actions[n], paid[n], strict=True)]
    (tmp_path / "logs.csv").write_text("\n".join(["who,pull,paid", *rows]) + "\n")
    roles = ["--episode", "who", "--action", "pull", "--observation", "paid", "--K", "2", "--starts", "2"]
    command = ["-m", "undelude", "offline", "fit", "../logs.csv", *roles, "--out", "fit", "--distributed"]
    command += ["--coordinator", free_address(), "--num-processes", "2", "--process-id"]
    processes = [start(cache, tmp_path / f"process{i}", *command, str(i)) for i in range(2)]
    (code, stdout, stderr), other = outcomes(processes)
    assert code == 0, stderr
    assert "<- chosen" in stdout
    assert other == (0, "", "")
    assert not (tmp_path / "process1" / "fit").exists()
    both = offline.load(tmp_path / "process0" / "fit")
    demos = offline.Demos.from_csv(str(tmp_path / "logs.csv"), episode="who", action="pull", observation="paid")
    spec = offline.LatentSpec(offline.Episode(2))
    alone = offline.fit(demos, spec, key=jax.random.key(0), starts=2)
    np.testing.assert_allclose(both.starts, alone.starts, atol=1e-2)
    for name in ("action", "paid"):
        np.testing.assert_allclose(np.exp(both.tables[name]), np.exp(alone.tables[name]), atol=1e-3)
