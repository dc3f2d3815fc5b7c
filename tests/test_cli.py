"""The command line, by `main(args)`; in processes of their own only if the claim is about a process."""

import contextlib
import inspect
import io
import json
import math
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

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from safetensors.numpy import load_file

import undelude as ud
from undelude._agents.fixed import FixedPolicy
from undelude._agents.networks.network import options
from undelude._agents.networks.registry import ARCHITECTURES
from undelude._certificate.verdict import WORDS
from undelude._cli import main
from undelude._cli.console import make_console
from undelude._cli.encoding import replacing
from undelude._cli.interrupts import Interrupts
from undelude._cli.options import Train
from undelude._cli.session import Session
from undelude._cli.tables import print_certificate
from undelude._cli.train import make_agent, make_teaching, with_settings
from undelude._distributions import Block, GivenArray, Parts, Reals, Spec, num_symbols
from undelude._named_tasks import SETTINGS
from undelude._rollout.scan import run_episode
from undelude._runs.checkpoints import updates_in
from undelude._runs.config import SIZES, Config
from undelude._runs.directory import RunDirectory
from undelude._runs.tensorboard import TensorBoard
from undelude._teaching.registry import TEACHINGS
from undelude.tasks import registry
from user_folder import TASKS, compiled_once

USER_TASKS = f"""{TASKS}
import jax

class Nothing(ud.AbstractTask):
    def init(self, theta): return None
    def Q_O(self, theta, w): return ud.Categorical(logits=[0.0, 0.0])
    def g_A(self, theta, a, w): return None
    def g_O(self, theta, o, w): return None
    def reward(self, theta, w, a, o): return theta

class Anybody(ud.AbstractExpert):
    def init(self, theta): return None
    def Q_A(self, theta, e): return ud.Categorical(logits=[0.0, theta])
    def g_A(self, theta, a, e): return None
    def g_O(self, theta, o, e): return None

def divides():
    return 1 / 0

class Careless(Nothing):
    def reward(self, theta, w, a, o):
        return dict()["paid"]

class Clumsy(Careless):
    def g_A(self, theta, a, w): return None if theta > 0 else w

def careless():
    return ud.InteractionProcess([0.5, 0.5], jax.numpy.arange(2), Careless(), Anybody(), num_rounds=2)

def clumsy():
    return ud.InteractionProcess([0.5, 0.5], jax.numpy.arange(2), Clumsy(), Anybody(), num_rounds=2)

number = 3

def uniform(process):
    return ud.HostAgent(lambda n: n, lambda m, a, o: (jax.numpy.full((m, 2), 0.5), m))

def endless():
    return ud.InteractionProcess(ud.Normal(0.0, 1.0), None, Nothing(), Anybody(), num_rounds=2)
"""
# A test runner in the background ignores SIGINT, and its child processes inherit that: install the handler again.
LAUNCH = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("undelude", run_name="__main__")
"""
TINY = ["train", "my_tasks:tiny", "--hidden-size", "4", "--batch-size", "4", "--seed", "7"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a folder with the tasks of a user: the current directory of all commands."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_tasks.py").write_text(USER_TASKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("COLUMNS", "80")
        patch.setattr(sys, "path", [str(folder), *sys.path])
        with compiled_once(tmp_path_factory, patch):
            yield folder


def command(*args: str, launch: list[str] | None = None, **options: Any) -> subprocess.Popen:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    start = [sys.executable, *(launch or ["-m", "undelude"]), *args]
    return subprocess.Popen(start, env=environment, text=True, **streams, **options)


@pytest.fixture(scope="module")
def taught(folder: Path) -> tuple[Path, str, str]:
    """Return a finished run, and the stdout and stderr of its command."""
    options = ["--steps", "4", "--log-every", "2", "--num-episodes", "512", "--out", "runs/taught", "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as stdout, contextlib.redirect_stderr(io.StringIO()) as stderr:
        assert main([*TINY, *options]) == 0
    return folder / "runs" / "taught", stdout.getvalue(), stderr.getvalue()


@pytest.fixture
def run(taught: tuple[Path, str, str], tmp_path: Path) -> Path:
    """Copy the finished run, for a test to damage."""
    return Path(shutil.copytree(taught[0], tmp_path / "run"))


def resume(run: Path, *options: str) -> int:
    return main(["train", "my_tasks:tiny", "--out", str(run), "--resume", *options])


def train(out: Path, **options: Any) -> Path:
    """Train in this process, without certificate and page."""
    config = Config("my_tasks:tiny", hidden_size=4, batch_size=4, **options)
    run, process = RunDirectory.create(out, config), registry.make(config.task)
    agent, teaching = make_agent(config, process), make_teaching(config)
    Session(run, config, process, agent, teaching, make_console(stderr=True), Interrupts()).train()
    return out


def contents(run: Path) -> dict[str, bytes]:
    return {str(file.relative_to(run)): file.read_bytes() for file in run.rglob("*") if file.is_file()}


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


# The run directory ------------------------------------------------------------------------------------------------


def test_json_stdout_is_only_the_certificate(taught: tuple[Path, str, str]) -> None:
    run, stdout, stderr = taught
    certificate = json.loads(stdout)
    assert certificate == json.loads((run / "certificate.json").read_text())
    assert certificate["task"] == "my_tasks:tiny"
    assert certificate["teaching"] == "counterfactual"
    assert certificate["own_actions"] == "do"
    assert certificate["num_episodes"] == 512
    assert certificate["verdict"] in WORDS
    assert len(certificate["episode"]["actions"]) == 2
    assert "from the interventional" in stderr
    assert "Page: runs/taught/report.html" in stderr


def test_seconds_add_up(taught: tuple[Path, str, str]) -> None:
    """The stages, "other" included, make up the total, and a line breaks between two of them only."""
    *_, stderr = taught
    lines = stderr[stderr.index("Seconds: ") :].partition("Page: ")[0].splitlines()
    stages = re.findall(r"([a-z]+) ([\d.]+)[,;.]", " ".join(lines))
    assert [name for name, _ in stages][::8] == ["starting", "total"]
    assert sum(float(seconds) for _, seconds in stages[:-1]) == pytest.approx(float(stages[-1][1]))
    assert all(line.rstrip()[-1] in ",;." and len(line) <= 80 for line in lines)


def test_another_number_of_episodes_is_refused(run: Path, capsys: pytest.CaptureFixture) -> None:
    """A finished run keeps its certificate; the message has the command that measures again."""
    before = contents(run)
    assert resume(run, "--num-episodes", "256") == 2
    assert f"undelude certify {run} --num-episodes 256" in capsys.readouterr().err
    assert contents(run) == before


def test_registries_are_the_choices(capsys: pytest.CaptureFixture) -> None:
    """The command line offers every architecture and teaching by name, and every size that an architecture has."""
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert f"--agent {{{','.join(ARCHITECTURES)}}}" in out
    assert f"--teaching {{{','.join(TEACHINGS)}}}" in out
    assert {*SIZES} == {size for named in ARCHITECTURES.values() for size in named.options}
    for named in ARCHITECTURES.values():
        architecture = named.load()
        assert getattr(ud, architecture.__name__) is architecture
        assert [*named.options] == options(architecture)


def test_teachings_are_as_the_registry_says() -> None:
    """Their options, who executes and whether actions are marked: the command line says so without making one."""
    for name, named in TEACHINGS.items():
        make = named.load()
        teaching = make()
        assert teaching.name == name
        assert {*named.options} == {*inspect.signature(make).parameters} - {"target", "observation_weight", "behaviour"}
        shares = {0: "the agent" if teaching.behaviour is None else "chance", 1: "the expert"}
        assert named.executor == shares.get(teaching.expert_share, "either at random")
        assert named.is_marked == teaching.is_marked


def test_run_directory_complete(taught: tuple[Path, str, str]) -> None:
    run, *_ = taught
    assert {path.name for path in run.iterdir()} == {
        ".lock", "agent", "certificate.json", "checkpoints", "config.json", "episode.gif", "metrics.jsonl",
        "report.html",
    }  # fmt: skip
    config = json.loads((run / "config.json").read_text())
    assert (config["task"], config["agent"], config["teaching"]) == ("my_tasks:tiny", "lstm", "counterfactual")
    assert (config["hidden_size"], config["batch_size"], config["steps"], config["seed"]) == (4, 4, 4, 7)
    assert [row["update"] for row in rows(run)] == [2, 4]
    columns = {"update", "action_loss", "observation_loss", "seconds", "action_kl_do", "action_kl_see", "config_digest"}
    assert all(row.keys() == columns for row in rows(run))
    agent = ud.load(run / "agent")
    assert agent.hidden_size == 4
    assert agent.own_actions == "do"


def test_certificate_is_of_the_saved_agent(taught: tuple[Path, str, str]) -> None:
    run, stdout, _ = taught
    process = ud.tasks.bandit(num_arms=2, num_rounds=2)
    agent = ud.load(run / "agent")
    report = ud.certify(process, agent, key=jax.random.key(0), num_episodes=256, baselines=False)
    certificate = json.loads(stdout)
    for name in ("action_kl_do", "action_kl_see", "reward"):
        error = np.hypot(certificate[f"{name}_se"], getattr(report, f"{name}_se"))
        assert abs(certificate[name] - getattr(report, name)) < 5 * error


def test_certify_measures_again_and_redraws_page(run: Path, capsys: pytest.CaptureFixture) -> None:
    page = (run / "report.html").read_bytes()
    truncate(run / "certificate.json")
    assert main(["certify", str(run), "--num-episodes", "256", "--json"]) == 0
    certificate = json.loads(capsys.readouterr().out)
    assert certificate["num_episodes"] == 256
    assert certificate == json.loads((run / "certificate.json").read_text())
    assert (run / "report.html").read_bytes() != page


def test_report_prints_the_path(run: Path, capsys: pytest.CaptureFixture) -> None:
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert (run / "report.html").stat().st_size > 0


@pytest.mark.slow
def test_factual_agent_sees_its_actions(folder: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", teaching="factual", steps=2)
    agent = ud.load(run / "agent")
    assert agent.own_actions == "see"
    assert agent.marks == ("see",)
    assert [row["update"] for row in rows(run)] == [2]


# Resuming ---------------------------------------------------------------------------------------------------------


def test_ctrl_c_leaves_a_run_that_resumes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The signal arrives after the second row, as in a terminal."""
    run, append = folder / "runs" / "stopped", RunDirectory.append_metrics

    def append_and_interrupt(self: RunDirectory, row: dict[str, Any]) -> None:
        append(self, row)
        if row["update"] == 4:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background jobs ignore it.
    try:
        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "append_metrics", append_and_interrupt)
            assert main([*TINY, "--steps", "8", "--log-every", "2", "--out", "runs/stopped"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "undelude train my_tasks:tiny --out runs/stopped --resume" in capsys.readouterr().err
    assert rows(run)[-1]["update"] == updates_in(run / "checkpoints")[-1] == 4
    assert not (run / "certificate.json").exists()
    assert resume(run, "--num-episodes", "512") == 0
    assert (run / "certificate.json").exists()
    assert_same_training(run, train(folder / "runs" / "unstopped", steps=8, log_every=2, seed=7))


def assert_same_training(*runs: Path) -> None:
    """Assert that two runs have the same weights, and the same rows apart from the seconds."""
    weights = [load_file(run / "agent" / "weights.safetensors") for run in runs]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name])
    without_seconds = [[row | {"seconds": None} for row in rows(run)] for run in runs]
    assert without_seconds[0] == without_seconds[1]


@pytest.mark.slow
def test_resuming_after_ctrl_c_gives_the_uninterrupted_run(folder: Path) -> None:
    options = ["--steps", "600", "--log-every", "25"]
    interrupted = folder / "runs" / "interrupted"
    process = command(*TINY, *options, "--out", "runs/interrupted", launch=["-c", LAUNCH])
    metrics = interrupted / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while process.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "undelude train my_tasks:tiny --out runs/interrupted --resume" in stderr

    reached = rows(interrupted)[-1]["update"]
    assert 75 <= reached < 600
    assert updates_in(interrupted / "checkpoints")[-1] == reached
    assert ud.load(interrupted / "agent").hidden_size == 4
    assert not (interrupted / "certificate.json").exists()

    assert resume(interrupted, "--num-episodes", "512") == 0
    assert (interrupted / "certificate.json").exists()
    assert_same_training(interrupted, train(folder / "runs" / "whole", steps=600, log_every=25, seed=7))
    assert [row["update"] for row in rows(interrupted)] == list(range(25, 601, 25))
    seconds = [row["seconds"] for row in rows(interrupted)]
    assert seconds == sorted(seconds), "the seconds continue"


def test_resuming_finished_run_does_nothing(run: Path, capsys: pytest.CaptureFixture) -> None:
    before = contents(run)
    assert resume(run) == 0
    assert "is finished: all 4 updates are made" in capsys.readouterr().err.replace("\n", " ")
    assert contents(run) == before


def test_resume_restores_missing_parts(run: Path) -> None:
    before = contents(run)
    shutil.rmtree(run / "agent")
    (run / "certificate.json").unlink()
    assert resume(run, "--num-episodes", "512") == 0
    after = contents(run)
    assert after.keys() == before.keys()
    for name in ("agent/weights.safetensors", "agent/agent.json", "metrics.jsonl", "config.json"):
        assert after[name] == before[name]
    measured = [json.loads(x["certificate.json"])["action_kl_do"] for x in (before, after)]
    assert measured[0] == pytest.approx(measured[1], rel=1e-5)


def test_finished_run_is_made_longer(run: Path, capsys: pytest.CaptureFixture) -> None:
    """Its first rows stay; it is certified anew; config.json and the page say how it came about."""
    before = rows(run)
    assert resume(run, "--steps", "6", "--num-episodes", "256") == 0
    assert "Going on from update 4 of 6." in capsys.readouterr().err
    assert rows(run)[:2] == before
    assert [row["update"] for row in rows(run)] == [2, 4, 6]
    config = json.loads((run / "config.json").read_text())
    assert (config["steps"], config["earlier_steps"]) == (6, [4])
    assert json.loads((run / "certificate.json").read_text())["num_episodes"] == 256
    page = (run / "report.html").read_text()
    assert page.index("--steps 4 ") < page.index("--steps 6 --resume")
    assert resume(run) == 0


def test_unfinished_run_is_not_made_longer(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = RunDirectory.create(tmp_path / "run", Config("my_tasks:tiny", hidden_size=4, batch_size=4, steps=4))
    before = contents(run.path)
    assert resume(run.path, "--steps", "6") == 2
    assert "can be made longer once it is finished" in capsys.readouterr().err
    assert contents(run.path) == before


def test_finished_run_needs_no_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    before = contents(run)
    assert resume(run) == 0
    assert contents(run) == before


def test_existing_run_needs_resume(run: Path, capsys: pytest.CaptureFixture) -> None:
    before = contents(run)
    assert main([*TINY, "--out", str(run)]) == 2
    assert "use --resume or another --out" in capsys.readouterr().err
    assert contents(run) == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--steps", "2"], "--steps 2"),
        (["--hidden-size", "64"], "--hidden-size 64"),
        (["--teaching=factual"], "--teaching factual"),
    ],
)
def test_contradicting_option_is_named(
    run: Path, options: list[str], named: str, capsys: pytest.CaptureFixture
) -> None:
    before = contents(run)
    assert resume(run, *options) == 2
    assert re.search(f"{named}.* contradicts .*config.json", capsys.readouterr().err)
    assert contents(run) == before


def test_task_may_be_left_out_to_resume(run: Path, capsys: pytest.CaptureFixture) -> None:
    """The message about another task says so, and the command does it; several seeds need the task."""
    assert main(["train", "bandit", "--out", str(run), "--resume"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "TASK bandit contradicts" in error
    assert "leave it out to resume" in error
    assert main(["train", "--out", str(run), "--resume"]) == 0
    assert "use --resume --steps N with N above 4" in " ".join(capsys.readouterr().err.split())
    assert main(["train", "--out", str(run), "--resume", "--num-seeds", "2"]) == 2
    assert "name the TASK too" in capsys.readouterr().err


def test_agreeing_option_is_accepted(run: Path) -> None:
    assert resume(run, "--steps", "4", "--seed", "7") == 0


def test_resume_needs_a_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert resume(tmp_path / "nowhere") == 2
    assert "there is no run at" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


# Several seeds, all architectures, TensorBoard --------------------------------------------------------------------


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """Return the scalars that TensorBoard shows, from the records of its files (length, checksum, event, checksum)."""
    from tensorboardX.proto.event_pb2 import Event  # An optional dependency.

    found = {}
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            if event.session_log.status == 1:  # A start: TensorBoard discards the later steps before it.
                found = {key: value for key, value in found.items() if key[1] < event.step}
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    return found


@pytest.mark.slow
def test_seeds_are_separate_runs_with_intervals(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """A lost run is trained again to the same values."""
    tiny = [*TINY, "--steps", "4", "--log-every", "2", "--seed", "7", "--num-seeds", "2"]
    out = folder / "runs" / "seeds"
    assert main([*tiny, "--out", str(out), "--json", "--tensorboard"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((out / "seeds.json").read_text())
    assert summary["seeds"] == [7, 8]
    certificates = [json.loads((out / f"seed-{seed}" / "certificate.json").read_text()) for seed in (7, 8)]
    values = summary["quantities"]["action_kl_do"]["values"]
    assert values == [certificate["action_kl_do"] for certificate in certificates]
    assert summary["quantities"]["action_kl_do"]["mean"] == pytest.approx(np.mean(values))

    metrics = [json.loads(line) for line in (out / "seed-8" / "metrics.jsonl").read_text().splitlines()]
    shown = scalars(out / "seed-8" / "tensorboard")
    assert {step for _, step in shown} == {2, 4}
    for row in metrics:
        for tag, name in (("loss/action", "action_loss"), ("kl/action_do", "action_kl_do"), ("seconds", "seconds")):
            assert shown[tag, row["update"]] == pytest.approx(row[name], rel=1e-6)

    shutil.rmtree(out / "seed-8")
    assert main([*tiny, "--out", str(out)]) == 2
    assert "is not empty: use --resume" in capsys.readouterr().err
    assert main([*tiny, "--out", str(out), "--resume"]) == 0
    again = json.loads((out / "seeds.json").read_text())["quantities"]["action_kl_do"]["values"]
    assert again == pytest.approx(values, rel=1e-5)
    assert main(["report", str(out)]) == 2
    assert f"holds a run for each of 2 seeds: name one, such as {out / 'seed-7'}" in capsys.readouterr().err


def test_tensorboard_discards_lost_updates(tmp_path: Path, no_type_checks: None) -> None:
    with TensorBoard(tmp_path) as board:
        for update in (2, 4, 6):
            board(None, {"update": update, "action_loss": 1.0})
    with TensorBoard(tmp_path, start=2) as board:
        board(None, {"update": 4, "action_loss": 2.0})
    assert scalars(tmp_path) == {("loss/action", 2): 1.0, ("loss/action", 4): 2.0}


def test_missing_tensorboardx_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install .*"\.\[tensorboard\]", in a clone'):
        TensorBoard(tmp_path)


@pytest.mark.parametrize(
    ("agent", "sizes"),
    [
        ("transformer", {"num_layers": 2, "num_heads": 1, "window": 6}),
        ("linear", {"num_layers": 2}),
        ("markov", {"order": 5}),
        ("predictor", {"order": 5, "hidden_size": 6}),
        ("lstm", {}),
    ],
)
def test_sizes_are_options(agent: str, sizes: dict) -> None:
    """A size that is not given has the architecture's default."""
    process = ud.tasks.bandit()
    made = make_agent(Config("bandit", agent=agent, **sizes), process)
    for name, size in (type(made)(process, key=jax.random.key(0)).config | sizes).items():
        assert made.config[name] == size


def test_continuous_values_are_normalised() -> None:
    """The mean and scale are those of the expert's episodes."""
    process = ud.tasks.arm(num_targets=2, num_rounds=5)
    agent = make_agent(Config("arm", hidden_size=4), process)
    turns = ud.rollout(process, None, key=jax.random.key(1), num_episodes=256, executor="expert").actions
    np.testing.assert_allclose(agent.interface.read_do.mean, turns.mean((0, 1)), atol=0.02)
    np.testing.assert_allclose(agent.interface.read_do.scale, turns.std((0, 1)), rtol=0.1)


# Errors -----------------------------------------------------------------------------------------------------------


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damage_metrics(run: Path) -> None:
    (run / "metrics.jsonl").write_text('{"update": 2, "seco\n' + (run / "metrics.jsonl").read_text())


def damage_checkpoint(run: Path) -> None:
    shutil.rmtree(run / "certificate.json", ignore_errors=True)
    for file in (run / "checkpoints").rglob("*"):
        if file.is_file():
            truncate(file)


@pytest.mark.parametrize(
    ("damage", "named", "args"),
    [
        (lambda run: truncate(run / "config.json"), "config.json", ["certify"]),
        (lambda run: truncate(run / "config.json"), "config.json", ["report"]),
        (lambda run: truncate(run / "agent" / "agent.json"), "agent.json", ["certify"]),
        (lambda run: truncate(run / "agent" / "weights.safetensors"), "weights.safetensors", ["certify"]),
        (lambda run: shutil.rmtree(run / "agent"), "agent", ["certify"]),
        (lambda run: truncate(run / "certificate.json"), "certificate.json", ["train", "--resume"]),
        (lambda run: truncate(run / "certificate.json"), "certificate.json", ["report"]),
        (damage_checkpoint, "checkpoints/4", ["train", "--resume"]),
        (damage_metrics, "metrics.jsonl", ["report"]),
    ],
)
def test_damaged_file_is_named_in_one_line(
    run: Path, damage: Callable[[Path], None], named: str, args: list[str], capsys: pytest.CaptureFixture
) -> None:
    damage(run)
    name, *options = args
    place = ["my_tasks:tiny", "--out", str(run)] if name == "train" else [str(run)]
    assert main([name, *place, *options]) == 1
    out, err = capsys.readouterr()
    *progress, message = err.splitlines()
    assert message.startswith("undelude: ")
    assert named in message
    assert "Traceback" not in out + err
    assert all(line.endswith("...") or "updates are made" in line for line in progress)


def test_damaged_metrics_are_named_before_training(run: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.rmtree(run / "checkpoints" / "4")
    damage_metrics(run)
    assert resume(run) == 1
    assert "metrics.jsonl is damaged in line 1" in capsys.readouterr().err


def test_agent_of_another_task_is_refused(run: Path, capsys: pytest.CaptureFixture) -> None:
    ud.save(ud.LSTMAgent(ud.tasks.bandit(), 4, key=jax.random.key(0)), run / "agent")
    assert main(["certify", str(run)]) == 1
    assert "bandit has actions of 2 symbols, but this LSTMAgent predicts 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "code", "message"),
    [
        ("bandti", 2, "Did you mean bandit?"),
        ("frozenlake", 2, "Did you mean frozen_lake?"),
        ("chess", 2, "The tasks are bandit, frog"),
        ("no_such_module:factory", 2, "no module 'no_such_module'"),
        ("my_tasks:tyni", 2, "Did you mean tiny?"),
        ("my_tasks:wrong", 1, "returned str; it must return an undelude.InteractionProcess"),
        ("./my_tasks.py:tiny", 2, "did you mean my_tasks:tiny?"),
        ("my_tasks.py:tiny", 2, "did you mean my_tasks:tiny?"),
        ("my_tasks:", 2, "has no name after the colon. Write my_tasks:NAME"),
        ("my_tasks:number", 2, "'my_tasks:number' is not a function but of type int"),
        ("my_tasks:raises", 1, "the task my_tasks:raises cannot be made: bandit: num_arms must be at least 2"),
        ("my_tasks:divides", 1, "the task my_tasks:divides cannot be made: ZeroDivisionError: division by zero"),
        ("needs:it", 1, "needs:it cannot be made: ModuleNotFoundError: No module named 'not_there' (needs.py, line 2)"),
        ("unsound:it", 1, "the task unsound:it cannot be made: SyntaxError: invalid syntax (unsound.py, line 1)"),
        ("ends:it", 1, "the task ends:it cannot be made: SystemExit: enough (ends.py, line 1)"),
    ],
)
def test_invalid_task_is_refused(
    folder: Path, task: str, code: int, message: str, capsys: pytest.CaptureFixture
) -> None:
    (folder / "needs.py").write_text("\nimport not_there\n")
    (folder / "unsound.py").write_text("def it(:\n")
    (folder / "ends.py").write_text("raise SystemExit('enough')\n")
    assert main(["train", task, "--out", "runs/none"]) == code
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (folder / "runs" / "none").exists()


@pytest.mark.parametrize(
    ("task", "problem", "line"),
    [
        ("raises", "num_arms must be at least 2, not 1", "return ud.tasks.bandit(num_arms=1)"),
        ("divides", "ZeroDivisionError: division by zero", "return 1 / 0"),
        ("careless", "KeyError: 'paid'", 'return dict()["paid"]'),
        ("clumsy", "reads the value of a traced array", "return None if theta > 0 else w"),
    ],
)
def test_error_in_user_file_has_its_line(
    folder: Path, task: str, problem: str, line: str, capsys: pytest.CaptureFixture
) -> None:
    """It also has its type, unless undelude raised it."""
    args = ["train", f"my_tasks:{task}", "--hidden-size", "4", "--steps", "2", "--out", "runs/none"]
    assert main(args) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert problem in message
    number = next(i for i, text in enumerate(USER_TASKS.splitlines(), 1) if text.strip().endswith(line))
    assert message.count(f" (my_tasks.py, line {number})") == 1
    assert message.endswith(f" (my_tasks.py, line {number})") or task == "clumsy"
    assert "UNDELUDE_DEBUG" not in message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "there is no command 'trian'. Did you mean train?"),
        (["trian", "bandit", "--help"], "there is no command 'trian'. Did you mean train?"),
        (["quux"], "there is no command 'quux'. There are train, certify, "),
        (["check", "bandit", "--num-episodes", "0"], "--num-episodes must be at least 1, not 0."),
        (["play", "."], ". is a folder, and this command takes a task: name one, such as bandit,"),
        (["report", "none"], "there is no run at none: config.json is missing. Begin one with undelude train."),
        (
            ["train", "bandit", "--out", "runs/none", "--agent", "transformer", "--num-heads", "5"],
            "--hidden-size must be a multiple of twice --num-heads, 10, not 32.",
        ),
    ],
)
def test_wrong_usage_is_one_line(folder: Path, args: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"undelude: {message}")
    assert err.count("\n") == 1


def test_unusable_folder_is_named(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "a_file").touch()
    for seeds in ("1", "2"):
        assert main(["train", "bandit", "--out", "a_file/run", "--num-seeds", seeds]) == 1
        err = capsys.readouterr().err
        assert "undelude: the folder a_file/run" in err
        assert "cannot be made (Not a directory): use another --out." in err


ANSWERED = """
import sys
from undelude._cli import main
for args in {lines}:
    print(main(args), file=sys.stderr)
print({{"jax", "equinox", "optax", "matplotlib", "numpy"}} & {{*sys.modules}}, file=sys.stderr)
"""


def test_ctrl_c_ends_quietly_from_the_start() -> None:
    """Before Ctrl-C has its handler, only what takes no time is imported, and tyro and rich come after."""
    code = """if True:
        import signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before = {*sys.modules}
        class Watch:
            def find_spec(name, path, target=None):
                if name == "undelude._cli.app":
                    print(signal.getsignal(signal.SIGINT) is signal.SIG_DFL, sorted({*sys.modules} - before))
        sys.meta_path.insert(0, Watch)
        import undelude._cli
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    is_quiet, imported, is_back = re.fullmatch(r"(\w+) (.*)\n(\w+)\n", run.stdout).groups()
    assert (is_quiet, is_back) == ("True", "True")
    assert not [x for x in ("importlib.metadata", "tyro", "rich", "threading") if repr(x) in imported]


def test_help_and_errors_need_no_jax(folder: Path) -> None:
    """Importing JAX takes seconds, and a person waits for the answer."""
    lines = [
        ["--help"], ["--version"], ["tasks"], ["train", "--help"], ["trian"], ["tasks", "--jsno"],
        ["train", "bandit", "--out", "runs/none", "--stpes", "3"], ["train", "bandti", "--out", "runs/none"],
        ["check", "no_such_module:factory"], ["certify", "runs/none"], ["report", "runs/none"],
        ["train", "bandit", "--out", "runs/none", "--resume"], ["certify", "my_tasks:uniform"],
    ]  # fmt: skip
    start = [sys.executable, "-c", ANSWERED.format(lines=lines)]
    done = subprocess.run(start, text=True, capture_output=True, check=True)
    codes = [int(line) for line in done.stderr.splitlines() if line in ("0", "1", "2")]
    assert codes == [0] * 4 + [2] * 9
    assert done.stderr.splitlines()[-1] == "set()"


def test_version(capsys: pytest.CaptureFixture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"undelude {ud.__version__}\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_certificate_prints_in_any_encoding(
    taught: tuple[Path, str, str], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `LC_ALL=C`: a finished run must not fail at its last line."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with replacing(stream):
        print_certificate(make_console(stderr=False), json.loads(taught[1]))
        print("\u03b8 \udcff")
    assert stream.errors == "strict"
    printed = stream.buffer.getvalue().decode(encoding)
    assert re.search(r"actions, total variation.* \+- 0\." if encoding == "ascii" else r"\d ± 0\.", printed)
    assert printed.endswith("θ \\udcff\n" if encoding == "utf-8" else "\\u03b8 \\udcff\n")


@pytest.mark.parametrize("args", [["tasks"], ["tasks", "--json"], ["play", "--help"]])
def test_closed_stdout_ends_quietly(args: list[str]) -> None:
    assert unread(*args) == (1, "")


@pytest.mark.slow
def test_closed_stdout_leaves_complete_files(run: Path) -> None:
    """As in `undelude certify DIR --json | head -1`: certificate and page are the new ones."""
    for name in ("certificate.json", "report.html"):
        truncate(run / name)
    assert unread("certify", str(run), "--json", "--num-episodes", "512") == (1, "certifying ...\n")
    assert json.loads((run / "certificate.json").read_text())["num_episodes"] == 512
    assert (run / "report.html").read_text().rstrip().endswith("</html>")


def unread(*args: str) -> tuple[int, str]:
    """Return the exit code and stderr of a command whose stdout is a closed pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    start = [sys.executable, "-m", "undelude", *args]
    with open(writer, "wb") as stdout:
        run = subprocess.run(start, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    return run.returncode, run.stderr


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["trian"],
        ["train", "bandit"],
        ["train", "bandit", "--out", "runs/none", "--steps", "0"],
        ["train", "bandit", "--out", "runs/none", "--steps", "many"],
        ["train", "bandit", "--out", "runs/none", "--target", "wish"],
        ["train", "bandit", "--out", "runs/none", "--learning-rate", "nan"],
        ["train", "bandit", "--out", "runs/none", "--window", "8"],
        ["train", "bandit", "--out", "runs/none", "--agent", "linear", "--order", "8"],
        ["train", "bandit", "--out", "runs/none", "--per", "episode"],
        ["train", "bandit", "--out", "runs/none", "--expert-share", "0.5"],
        ["train", "bandit", "--out", "runs/none", "--expert-share", "0.5", "--num-seeds", "2"],
        ["train", "bandit", "--out", "runs/none", "--teaching", "mixed", "--expert-share", "1.5"],
        ["train", "bandit", "--out", "runs/none", "--num-seeds", "0"],
        ["certify", "runs/none"],
        ["report", "runs/none"],
        ["play", "bandit", "chess"],
    ],
)
def test_wrong_use_writes_nothing(folder: Path, args: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err
    assert not (folder / "runs" / "none").exists()


def test_optional_numbers_do_not_offer_none(capsys: pytest.CaptureFixture) -> None:
    """Neither the help nor the message for a wrong value mentions None."""
    for name in ("train", "play", "export"):
        assert main([name, "--help"]) == 0
        assert "{None}" not in capsys.readouterr().out
    assert main(["play", "--seed", "abc"]) == 2
    err = capsys.readouterr().err
    assert "Error parsing --seed: invalid literal for int() with base 10: 'abc'" in err
    assert "None'" not in err


def test_early_failure_leaves_no_run(folder: Path, capsys: pytest.CaptureFixture) -> None:
    args = ["train", "my_tasks:endless", "--hidden-size", "4", "--target", "posterior", "--out", "runs/endless"]
    assert main(args) == 1
    assert "continuous Theta" in capsys.readouterr().err
    assert not (folder / "runs" / "endless").exists()


# Tasks ------------------------------------------------------------------------------------------------------------


def test_tasks_are_listed(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["tasks", "--json"]) == 0
    listed = {task["name"]: task for task in json.loads(capsys.readouterr().out)}
    assert listed.keys() == registry.TASKS.keys()
    assert listed["bandit"]["num_thetas"] == 5
    assert main(["tasks"]) == 0
    out = capsys.readouterr().out
    for name, task in registry.TASKS.items():
        assert re.search(rf"^ {name} .* {task.num_rounds} ", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("task", SETTINGS)
def test_named_task_has_its_own_settings(task: str, capsys: pytest.CaptureFixture) -> None:
    """They are the defaults of its options and stand in its help; an option on the command line comes first."""
    args = [task, "--steps", "3", "--seed", "7", "--out", "run"]
    config = with_settings(tyro.cli(Train, args=args), args).config
    assert config == Config(task, **SETTINGS[task] | {"steps": 3, "seed": 7})
    assert main(["train", task, "--help"]) == 0
    assert f"(default: {SETTINGS[task]['steps']})" in capsys.readouterr().out


def test_sizes_of_a_named_task_are_for_its_architecture() -> None:
    """Another architecture keeps its own sizes; the rest is a setting of the task."""
    args = ["grid", "--agent", "transformer", "--out", "run"]
    config = with_settings(tyro.cli(Train, args=args), args).config
    expected = {name: value for name, value in SETTINGS["grid"].items() if name != "hidden_size"}
    assert config == Config("grid", "transformer", **expected)


def test_other_tasks_have_the_general_settings() -> None:
    for task in ("bandit", "my_tasks:tiny"):
        options = Train(Config(task), Path("run"))
        assert with_settings(options, [task, "--out", "run"]) is options


@pytest.mark.parametrize("columns", ["20", "40", "76", "200"])
def test_listed_names_are_whole(columns: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["tasks"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert all(re.search(rf"\b{name}\b", out) for name in registry.TASKS)


def test_own_agent_has_certificate_and_page(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ["certify", "my_tasks:uniform", "--task", "my_tasks:tiny", "--num-episodes", "64"]
    monkeypatch.setattr("undelude._cli.console.SECONDS_A_LINE", 0)  # A line for each round that is played in Python.
    assert main(args) == 0
    out, err = capsys.readouterr()
    saved = folder / "uniform-tiny"
    certificate = json.loads((saved / "certificate.json").read_text())
    assert certificate["agent"] == "HostAgent"
    T = certificate["num_rounds"]
    told = [f"certifying: the agent, round {t} of {T} ..." for t in range(1, T + 1)]
    assert err.splitlines()[: T + 1] == ["certifying ...", *told]
    assert f"{WORDS[certificate['verdict']]}. " in out.splitlines()[0]
    assert "Page: uniform-tiny/report.html" in out
    page = (saved / "report.html").read_text()
    assert "One episode, read three ways" in page
    assert "One beginning, four actors" in page
    assert main(["report", "uniform-tiny"]) == 0
    assert (saved / "report.html").read_text() == page
    for agent, code, message in (
        ("my_tasks:tiny", 1, "my_tasks:tiny cannot be made: tiny() takes 0"),
        ("my_tasks:number", 1, "my_tasks:number is of type int; it must be an agent"),
        ("my_tasks:unifrom", 2, "Did you mean uniform?"),
    ):
        assert main(["certify", agent, *args[2:]]) == code
        assert message in capsys.readouterr().err


# Their episodes are long, or their tables large; `make test-all` plays them.
LARGE = {"taxi", "cliff_walking", "leduc", "frozen_lake"}
# One of each kind of action.
REWARDED = {"bandit", "menu", "arm"}


@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.slow] * (x in LARGE)) for x in registry.TASKS])
def test_named_task_matches_list(name: str) -> None:
    task, process = registry.TASKS[name], registry.make(name)
    sizes = (process.num_thetas, process.num_rounds)
    symbols = tuple(map(size_of, process.specs))
    assert (*sizes, *symbols) == (task.num_thetas, task.num_rounds, task.num_actions, task.num_observations)


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[pytest.mark.slow] * (x not in REWARDED)) for x in registry.TASKS]
)
def test_named_task_rewards_its_expert(name: str) -> None:
    process = registry.make(name)
    T, spec = process.num_rounds, process.action_spec
    match spec:
        case Reals():
            chance = ud.Normal(jnp.zeros(2), 0.3)
        case Block():
            chance = ud.Autoregressive(probs=np.full((spec.n,) * spec.length, 1 / spec.n**spec.length))
        case _:
            chance = ud.Categorical(logits=jnp.zeros(num_symbols(spec)))

    @jax.jit
    def rewards_of(keys, share):  # The share is traced, so that the expert and chance have one program.
        play = lambda key: run_episode(process, FixedPolicy(chance), key, num_rounds=T, expert_share=share)[0]  # noqa: E731
        return jax.vmap(play)(keys).reward.mean(-1)

    keys = jax.random.split(jax.random.key(0), 1024)
    rewards = [np.asarray(rewards_of(keys, share), dtype=float) for share in (1.0, 0.0)]
    error = np.hypot(*(x.std(ddof=1) / np.sqrt(len(x)) for x in rewards))
    assert rewards[0].mean() - rewards[1].mean() > 5 * error


def size_of(spec: Spec) -> int | str:
    """Return the number of symbols or reals, as the list shows it; a plus stands for deterministic parts."""
    match spec:
        case Parts():
            return f"{sum(num_symbols(part) for part in spec.leaves if not isinstance(part, GivenArray))} +"
        case Block():
            return f"{spec.length} of {spec.n}"
        case Reals():
            return f"{math.prod(spec.shape)} reals"
    return num_symbols(spec)


def test_missing_gymnasium_named(folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    assert main(["train", "taxi", "--out", "runs/none"]) == 1
    assert '".[gym]", in a clone' in capsys.readouterr().err


# Playing ----------------------------------------------------------------------------------------------------------


def play(answers: str, *args: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answers))
    return main(["play", *args])


def test_play_through_a_pipe_shows_both_beliefs(folder: Path) -> None:
    process = command("play", "bandit", "--seed", "1")
    stdout, stderr = process.communicate("3\nn\nn\nq\n", timeout=600)
    assert (process.returncode, stderr) == (0, "")
    assert "The best arm is 3." in stdout
    pulls = dict(re.findall(r"The (\w+) +agent pulls (\d)", stdout.split("Round 2")[0]))
    arms = [line for line in stdout.splitlines() if re.match(r"  [1-5] ", line)]
    table = {line.split()[0]: re.findall(r"\d\.\d\d", line) for line in arms}
    # No payment: likelihood 1/4 if the pulled arm is best, else 3/4. For the deluded agent the pull adds .6 or .1.
    for arm in "12345":
        sober = 1 / 13 if arm == pulls["sober"] else 3 / 13
        deluded = 2 / 6 if arm == pulls["deluded"] else 1 / 6
        assert table[arm] == [f"{sober:.2f}", f"{deluded:.2f}"]


@pytest.mark.slow
def test_play_menu_is_the_epigraph(folder: Path) -> None:
    """Asked again and then told no, the deluded agent believes in its first guess, and the sober one in another."""
    process = command("play", "menu", "--seed", "4")
    stdout, stderr = process.communicate("3\n3\n3\n1\n1\nq\n", timeout=600)
    assert (process.returncode, stderr) == (0, "")
    assert stdout.count("On the menu: cheeseburgers.") == 2
    assert stdout.count("    What's on the menu?\n") == 2
    dishes = ["tacos", "fish soup", "cheeseburgers", "fish tacos", "pea soup"]
    rounds = [text.split("Round 3")[0] for text in re.split("Round [12] of 20", stdout)[1:]]
    said = [dict(re.findall(r"The (\w+) +agent says \"(.+)\.\"", text)) for text in rounds]
    for i, name in enumerate(("sober", "deluded")):
        weight = np.ones(5)
        for text, guesses, told in zip(rounds, said, ((0.2, 0.2), (0.2, 0.6)), strict=True):
            named = np.arange(5) == dishes.index(guesses[name].lower())
            weight *= np.where(named, *told)
            weight *= np.where(named, 0.9, 0.025) if name == "deluded" else 1
            table = re.findall(rf"^  (?:{'|'.join(dishes)}) .*?(\d\.\d\d) .*?(\d\.\d\d)", text, re.MULTILINE)
            np.testing.assert_allclose([float(row[i]) for row in table], weight / weight.sum(), atol=0.0051)


def test_play_takes_replies_of_a_task_with_three(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who types anything else is told the choices; Enter leaves the reply to the program."""
    assert play("1\nyes\n4\n2\n\n\n1\nq\n", "menu", "--seed", "0", monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert out.count("Please answer with 1, 2, 3, Enter or q.") == 2
    assert out.count("guessed twice") == 2
    assert len(re.findall(r"^    (No\.|Yes\.|What's on the menu\?)$", out, re.MULTILINE)) == 4


def test_play_ends_with_a_summary(folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert play("2\n" + "y\n" * 4 + "q\n", "bandit", monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert "Round 2 of 20" in out
    assert out.count("pulled twice") == 2
    assert out.count("was paid twice") == 2


@pytest.mark.parametrize("seed", ["0", "1"])
def test_play_frog_shows_section_2(
    folder: Path, seed: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deluded agent is sure that its box holds the prize; the sober one is not, and knows after one round."""
    assert play("1\n", "frog", "--seed", seed, monkeypatch=monkeypatch) == 0
    out = " ".join(capsys.readouterr().out.split())
    action = r"The (\w+) agent opens (\d), and expects the prize with probability ([\d.]+)\. Out (comes|jumps)"
    opened = re.findall(action, out)
    assert [name for name, *_ in opened] == ["sober", "deluded"] * 2
    assert [expected for name, _, expected, _ in opened if name == "deluded"] == ["1.00", "1.00"]
    assert [expected for name, _, expected, _ in opened if name == "sober"] == ["0.50", "1.00"]
    assert all((box == "1") == (outcome == "comes") for _, box, _, outcome in opened)
    assert opened[2][1] == "1"  # After one box, prize or frog, the sober agent knows where the prize is.
    assert opened[3][1] == opened[1][1]  # The deluded agent opens the same box again, prize or frog.
    # Every frog contradicts the deluded belief; the summary by outcomes is left out if one did.
    assert out.count("impossible by its belief") == (2 if opened[1][1] == "2" else 0)
    assert ("By the outcomes of its actions alone" in out) == (opened[1][1] == "1")


MISLEADING = """
import jax.numpy as jnp
import undelude as ud

def shifted():
    # Theta 0 pays at arm 1, and so on: theta is not the number of the best arm.
    pays = jnp.roll(0.1 + 0.8 * jnp.eye(3), 1, axis=1)
    task = jnp.stack([1 - pays, pays], -1)
    return ud.tasks.from_tables(prior=[1 / 3] * 3, expert=pays / 1.1, task=task, name="shifted")

def fined():
    # A 1 costs, so that the arm that shows it is the worst.
    pays = 0.1 + 0.8 * jnp.eye(2)
    task = jnp.stack([1 - pays, pays], -1)
    return ud.tasks.from_tables(prior=[.5, .5], expert=pays, task=task, rewards=[0, -1], name="frog")
"""


@pytest.mark.parametrize(("factory", "pays"), [("shifted", True), ("fined", False)])
def test_play_names_a_best_arm_only_if_theta_is_one(
    folder: Path, factory: str, pays: bool, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "misleading.py").write_text(MISLEADING)
    assert play("1\ny\ny\nq\n", f"misleading:{factory}", monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert "The true theta is 1." in out
    assert not re.search("arm|best|prize|frog", out)
    assert ("pay" in out, "paid" in out) == (pays, pays)


@pytest.mark.parametrize("answers", ["", "q\n", "1\nq\n", "1\ny\n", "9\nhello\n1\nq\n"])
def test_play_ends_at_q_and_eof(
    folder: Path, answers: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert play(answers, "bandit", monkeypatch=monkeypatch) == 0
    out, err = capsys.readouterr()
    assert "The deluded agent has not acted." in out
    assert err == ""
    assert ("Please answer" in out) == ("hello" in answers)


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ("arm", "its actions are not symbols"),
        ("merge", "its observations are not symbols"),
        ("kuhn", "it opens with an observation"),
        ("switching_bandit", "its theta changes"),
    ],
)
def test_play_refuses_unplayable_tasks(
    folder: Path, task: str, why: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert play("", task, monkeypatch=monkeypatch) == 2
    assert why in capsys.readouterr().err


def test_play_names_the_observations_of_a_task(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a door are a prize, poison, or 1, which follow from theta: nothing is asked."""
    assert play("2\n", "doors", "--seed", "4", monkeypatch=monkeypatch) == 0
    doors = re.findall(r"takes (\d), .*\n    (\w+)", capsys.readouterr().out)
    assert len(doors) == 2
    assert all(found == {"1": "1", "3": "prize"}.get(door, "poison") for door, found in doors)


# Setting up JAX ---------------------------------------------------------------------------------------------------

SETUP = """
import jax, undelude, undelude._cli
from undelude._cli import backend
backend.configure(batch_size={batch_size})
print(jax.local_device_count(), backend.usable_cores(), jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize(
    ("given", "batch_size"), [(None, 60), ("3", 60), pytest.param(None, 1, marks=pytest.mark.slow)]
)
def test_command_line_uses_every_core(folder: Path, given: str | None, batch_size: int) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"JAX_PLATFORMS": "cpu"} | ({} if given is None else {"JAX_NUM_CPU_DEVICES": given})
    code = SETUP.format(batch_size=batch_size)
    out = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True)
    devices, cores, cache = out.stdout.split()
    largest_share = max(n for n in range(1, int(cores) + 1) if batch_size % n == 0)
    assert int(devices) == (largest_share if given is None else int(given))
    assert Path(cache).is_relative_to(folder / "cache" / "undelude")
