"""The run directory: files are written whole, damage is named, and checkpoints restore the exact state."""

import concurrent.futures
import contextlib
import ctypes
import dataclasses
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from run_files import certificate, write_run
from undelude._certificate.certificate import QUANTITIES
from undelude._certificate.example_episode import why_too_large
from undelude._cli import main
from undelude._cli.interrupts import DEFAULTS, Interrupts
from undelude._files import plain
from undelude._runs.certificate_file import check_certificate
from undelude._runs.checkpoints import KEPT, PART, SEAL, Checkpoints, updates_in
from undelude._runs.config import Config, check_config, train_command
from undelude._runs.config_file import read_config
from undelude._runs.contents import read_run
from undelude._runs.directory import RunDirectory
from undelude._runs.errors import RunError
from undelude._teaching.loop import default_optimizer
from undelude._teaching.updates import TeachingState
from user_folder import without_compiling

CONFIG = Config("bandit", hidden_size=4, steps=30, seed=3)


def row(update: int) -> dict[str, float]:
    return {"update": update, "action_loss": 1.5, "observation_loss": 0.5, "seconds": 0.1 * update, "action_kl_do": 0.2}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", CONFIG)


@pytest.fixture(scope="module")
def state() -> TeachingState:
    return make_state(4)


def make_state(hidden_size: int) -> TeachingState:
    def initial() -> TeachingState:
        agent = ud.LSTMAgent(ud.tasks.bandit(num_rounds=2), hidden_size, key=jax.random.key(0))
        params = eqx.filter(agent, eqx.is_inexact_array)
        return TeachingState(agent, default_optimizer(1e-2, 30).init(params), jnp.asarray(0, jnp.int32))

    state = without_compiling(initial)
    return eqx.tree_at(lambda s: s.update, state, jnp.asarray(10, jnp.int32))


def scaled(state: TeachingState, factor: float, update: int) -> TeachingState:
    state = jax.tree.map(lambda x: x * factor if eqx.is_inexact_array(x) else x, state)
    return eqx.tree_at(lambda s: s.update, state, jnp.asarray(update, jnp.int32))


def test_config_round_trip(run: RunDirectory) -> None:
    content = read_config(run.config_file)
    assert content.config == CONFIG
    assert content.began_with["jax"] == jax.__version__
    assert content.began_with["devices"] == "2 cpu"
    assert content.numerics["jax_enable_x64"] is False
    assert content.digest == run.digest


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "--steps"),
        ({"steps": "many"}, "'steps'"),
        ({"batch_size": True}, "'batch_size'"),
        ({"teaching": "telepathy"}, "'teaching'"),
        ({"learning_rate": -1.0}, "--learning-rate"),
        ({"learning_rate": 10**400}, "'learning_rate'"),
        ({"colour": "blue"}, "'colour'"),
    ],
)
def test_damaged_config_names_the_entry(run: RunDirectory, change: dict, named: str) -> None:
    data = json.loads(run.config_file.read_text()) | change
    run.config_file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=f"config.json is damaged.*{named}"):
        RunDirectory.open(run.path)


def test_missing_config_entry_is_named(run: RunDirectory) -> None:
    data = json.loads(run.config_file.read_text())
    del data["seed"]
    run.config_file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="'seed' is missing"):
        RunDirectory.open(run.path)


def test_expert_share_needs_shared_execution(run: RunDirectory) -> None:
    """The teachings that share execution have .5 by default; the others refuse the option."""
    for name in ("mixed", "dagger"):
        assert Config("bandit", teaching=name).expert_share == 0.5
    check_config(Config("bandit", teaching="mixed", expert_share=0.1))
    for name in ("counterfactual", "factual", "blind", "cloning"):
        with pytest.raises(ValueError, match=f"--expert-share is for .* mixed and dagger, not {name}, in"):
            check_config(Config("bandit", teaching=name, expert_share=0.5))
    data = json.loads(run.config_file.read_text())
    assert data["expert_share"] is None
    assert "--expert-share" not in train_command(data, "again")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_learning_rate_is_finite_and_positive(value: float) -> None:
    with pytest.raises(ValueError, match="--learning-rate"):
        check_config(dataclasses.replace(CONFIG, learning_rate=value))


def test_begin_drops_rows_after_the_checkpoint(run: RunDirectory) -> None:
    for update in (10, 20, 30):
        run.append_metrics(row(update))
    run.certificate_file.write_text("{}")
    assert [r["update"] for r in run.begin(20)] == [10, 20]
    assert [r["update"] for r in run.read_metrics()] == [10, 20]
    assert not run.certificate_file.exists(), "it is the certificate of another agent"
    run.append_metrics(row(30))
    assert [r["update"] for r in run.read_metrics()] == [10, 20, 30]


def test_cut_last_line_is_dropped(run: RunDirectory) -> None:
    run.append_metrics(row(10))
    with run.metrics_file.open("a") as file:
        file.write('{"update": 20, "action_l')
    assert run.begin(10) == [row(10)]
    run.append_metrics(row(20))
    assert run.read_metrics() == [row(10), row(20)]


def test_report_and_resume_read_the_same_rows(run: RunDirectory) -> None:
    """Including an update that occurs twice, an infinite number, and a last line without its newline."""
    rows = [row(10), row(20), row(10) | {"action_kl_do": float("inf")}]
    for one in rows:
        run.append_metrics(one)
    with run.metrics_file.open("a") as file:
        file.write(json.dumps(row(30)))
    shown = [{name: x for name, x in one.items() if x is not None} for one in read_run(run.path).metrics]
    assert run.begin(20) == shown == [rows[2], rows[1]]
    assert run.read_metrics() == shown, "as begin wrote them"


@pytest.mark.parametrize("line", ['{"update": 10,\n', "[]\n", '{"update": "ten", "seconds": 1}\n', '{"update": 10}\n'])
def test_damaged_row_names_its_line(run: RunDirectory, line: str) -> None:
    run.append_metrics(row(5))
    with run.metrics_file.open("a") as file:
        file.write(line)
    run.append_metrics(row(20))
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged in line 2"):
        run.read_metrics()


def test_metrics_must_reach_the_checkpoint(run: RunDirectory) -> None:
    run.append_metrics(row(10))
    with pytest.raises(ValueError, match="ends at update 10, the checkpoint is at 20"):
        run.begin(20)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"task": None}, "task must be a string"),
        ({"num_episodes": "many"}, "num_episodes must be a whole number"),
        ({"reward": True}, "reward must be a number"),
        ({"action_kl_do_se": 10**400}, "action_kl_do_se must be a number"),
        ({"notes": ["none"]}, "notes must be an object of strings"),
    ],
)
def test_damaged_certificate_names_the_entry(run: RunDirectory, change: dict, named: str) -> None:
    """`train --resume` and `--num-seeds` read it this way."""
    whole = dict.fromkeys([name for x in QUANTITIES for name in (x, f"{x}_se")], 0.5)
    whole |= {"task": "bandit", "agent": "LSTMAgent", "own_actions": "do", "teaching": "factual", "num_episodes": 2}
    whole |= {"seconds": 1.0, "versions": {}, "notes": {}, "num_rounds": 20, "config_digest": run.digest}
    whole |= {"teaching": "counterfactual"}
    run.certificate_file.write_text(json.dumps(whole))
    assert run.read_certificate() == whole
    run.certificate_file.write_text(json.dumps(whole | change))
    with pytest.raises(ValueError, match=rf"certificate\.json is damaged: {named}.*with: undelude certify"):
        run.read_certificate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action_tv_do": 50}, "action_tv_do must be a number from 0 to 1 or null, not 50"),
        ({"action_tv_do": "inf"}, "action_tv_do must be a number from 0 to 1 or null, not 'inf'"),
        ({"deluded_fraction": -1}, "deluded_fraction must be a number from 0 to 1 or null, not -1"),
        ({"observation_kl_see": -5.0}, 'observation_kl_see must be a number of at least -1, null or "inf", not -5'),
        ({"reward_se": -0.1}, "reward_se must be a number of at least 0 or null, not -0.1"),
        ({"reward_se": "inf"}, "reward_se must be a number of at least 0 or null, not 'inf'"),
        ({"reward": 1e200}, "reward must be a number"),
        ({"num_episodes": True}, "num_episodes must be a whole number of at least 1, not True"),
        ({"num_rounds": 0}, "num_rounds must be a whole number of at least 1, not 0"),
        ({"own_actions": "both"}, "own_actions must be do or see, not 'both'"),
        ({"seconds": -1}, "seconds must be a number of at least 0 or null, not -1"),
    ],
)
def test_numbers_without_sense_are_refused(change: dict, message: str) -> None:
    whole = certificate("bandit") | {"config_digest": "0" * 16}
    check_certificate(whole | {"action_tv_do": 1.0005, "observation_kl_see": -1e-5, "reward": -30})
    with pytest.raises(ValueError, match=re.escape(message)):
        check_certificate(whole | change)


@pytest.mark.parametrize("change", [{"action_kl_do": -3}, {"update": 31}, {"seconds": -1}, {"action_loss": True}])
def test_rows_without_sense_are_refused(run: RunDirectory, change: dict) -> None:
    """The run has 30 steps."""
    run.append_metrics(row(10) | change)
    with pytest.raises(ValueError, match=f"damaged in line 1 .*{next(iter(change))}"):
        run.read_metrics()


# A run is one thing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "digest"),
    [
        ({"teaching": "factual"}, "config_digest"),
        ({"seed": 4}, "config_digest"),
        ({"learning_rate": 0.5}, "config_digest"),
        ({"jax_enable_x64": True}, "config_digest"),
        ({"steps": 20}, "steps_digest"),
        ({"earlier_steps": [10]}, "steps_digest"),
    ],
)
def test_edited_configuration_is_refused(run: RunDirectory, change: dict, digest: str) -> None:
    run.config_file.write_text(json.dumps(json.loads(run.config_file.read_text()) | change))
    for read in (RunDirectory.open, read_run):
        with pytest.raises(ValueError, match=rf"config\.json is damaged: it was edited: {digest} is"):
            read(run.path)


@pytest.mark.parametrize("file", ["certificate.json", "metrics.jsonl", "agent/agent.json"])
def test_file_of_another_run_is_refused(tmp_path: Path, file: str) -> None:
    """Its configuration is another one; the message names the file and the entry."""
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other", seed=1)
    shutil.copytree(other.path, tmp_path / "same", ignore=shutil.ignore_patterns("config.json"))
    shutil.copy(other.path / file, one.path / file)
    readers = {"certificate.json": one.read_certificate, "metrics.jsonl": one.read_metrics}
    message = rf"{re.escape(file)} belongs to another run .*: its config_digest is '{other.digest}', .* '{one.digest}'"
    with pytest.raises(ValueError, match=message):
        readers.get(file, one.load_agent)()
    if file != "agent/agent.json":
        with pytest.raises(ValueError, match=message):
            read_run(one.path)


def test_certificate_of_another_task_is_refused_without_digest(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    run.certificate_file.write_text(json.dumps({"task": "kuhn"}))
    with pytest.raises(ValueError, match=r"its task is 'kuhn', and config\.json has 'bandit'"):
        read_run(run.path)


def test_run_keeps_its_precision(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    """All commands that go on with a run refuse another precision; the variable that restores it is named."""
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    with jax.enable_x64(True):
        for command in (["train", "bandit", "--resume", "--out"], ["certify"], ["export", "--out", "x"]):
            assert main([*command, str(run.path)]) == 2
            message = (
                f"{run.path} was made with jax_enable_x64=False, and JAX has True now: set the environment variable"
            )
            assert f"{message} JAX_ENABLE_X64=0." in capsys.readouterr().err.replace("\n", " ")
    assert before == {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    with jax.default_matmul_precision("highest"), pytest.raises(RunError, match="JAX_DEFAULT_MATMUL_PRECISION="):
        run.check_numerics()
    assert train_command({"task": "bandit", "jax_enable_x64": True}, "x") == (
        "JAX_ENABLE_X64=1 undelude train bandit --out x"
    )


def test_moved_run_is_not_written_to(run: RunDirectory, tmp_path: Path) -> None:
    run.path.rename(tmp_path / "renamed")
    for write in (lambda: run.append_metrics(row(10)), lambda: run.write_certificate({})):
        with pytest.raises(FileNotFoundError, match="was renamed, moved or deleted while this command was at work"):
            write()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("of another run")
    run.discard_if_empty()
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "renamed").rename(run.path)
    run.append_metrics(row(10))
    assert run.read_metrics() == [row(10)]


def test_temporary_files_of_a_killed_process_are_deleted(run: RunDirectory) -> None:
    """A file of the user with a similar name stays."""
    run.agent_folder.mkdir()
    left = [run.path / ".config.json.abcd_123", run.path / ".report.html.00000000", run.path / ".episode.gif.aaaaaaaa"]
    left += [run.agent_folder / ".agent.json.12345678", run.agent_folder / ".weights.safetensors.12345678"]
    mine = run.path / ".report.html.swp"
    for file in [*left, mine]:
        file.touch()
    with run.locked():
        assert not any(file.exists() for file in left)
    assert mine.exists()


@pytest.mark.parametrize("name", [b"r\xffun", b"\xed\xa0\x80"])
def test_folder_name_must_be_utf8(tmp_path: Path, name: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = os.path.join(str(tmp_path), os.fsdecode(name))
    for command in (["train", "bandit", "--out", path], ["report", path], ["certify", path]):
        assert main(command) == 2
        assert "is not UTF-8: rename it, or use another" in capsys.readouterr().err.replace("\n", " ")
    assert [*tmp_path.iterdir()] == []


def test_example_episode_that_is_too_large_is_left_out(bandit: ud.InteractionProcess) -> None:
    """It would exhaust the memory, or its file could not be read again."""
    assert why_too_large(bandit) is None
    long = dataclasses.replace(bandit, num_rounds=10**5)
    assert why_too_large(long) == "it would hold 3000030 numbers, of 1048576 at most."


def test_huge_sizes_are_refused() -> None:
    """They are refused before such an agent is made; `--steps` is counted with 32 bits."""
    for name, most in (("hidden_size", 2**14), ("num_layers", 2**8), ("steps", 2**31 - 1)):
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} must be at most {most}, not {most + 1}"):
            check_config(dataclasses.replace(CONFIG, **{name: most + 1}))


def test_create_overwrites_nothing(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="use --resume or another --out"):
        RunDirectory.create(run.path, CONFIG)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="not empty, and not a run"):
        RunDirectory.create(tmp_path / "notes", CONFIG)
    assert [file.name for file in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    with pytest.raises(RunError, match="is a file"):
        RunDirectory.create(tmp_path / "notes" / "mine.txt", CONFIG)
    with pytest.raises(RunError, match="there is no run at"):
        RunDirectory.open(tmp_path / "notes")


def test_run_without_rows_is_discarded(run: RunDirectory) -> None:
    with Checkpoints(run.checkpoints_folder):
        pass
    run.discard_if_empty()
    assert not run.path.exists()


def test_run_with_rows_is_kept(run: RunDirectory) -> None:
    run.append_metrics(row(10))
    run.discard_if_empty()
    assert run.read_metrics() == [row(10)]


def test_plain_converts_to_json() -> None:
    data = {"a": float("inf"), "b": [float("nan"), (1.5,)], "c": None}
    assert plain(data) == {"a": "inf", "b": [None, [1.5]], "c": None}


def test_checkpoint_round_trip_is_exact(tmp_path: Path, state: TeachingState) -> None:
    later = scaled(state, 1 / 3, 20)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state)
        checkpoints.save(later)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        restored = checkpoints.restore(state, warn=pytest.fail)
    assert int(restored.update) == 20
    assert jax.tree.structure(restored) == jax.tree.structure(later)
    for have, want in zip(jax.tree.leaves(restored), jax.tree.leaves(later), strict=True):
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(have, want)


def test_last_two_checkpoints_are_kept(tmp_path: Path, state: TeachingState) -> None:
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for update in (1, 2, 3, 3):
            checkpoints.save(scaled(state, 1.0, update))
    assert {folder.name for folder in (tmp_path / "checkpoints").iterdir()} == {"2", "3"}
    assert updates_in(tmp_path / "checkpoints") == [2, 3]
    assert KEPT == 2


def flip_a_bit(folder: Path) -> None:
    largest = max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    flipped = bytearray(largest.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    largest.write_bytes(flipped)


def truncate(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, lambda folder: (folder / SEAL).unlink()])
def test_damaged_checkpoint_falls_back(tmp_path: Path, state: TeachingState, damage: Callable[[Path], None]) -> None:
    folder, warnings = tmp_path / "checkpoints", []
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state)
        checkpoints.save(scaled(state, 2.0, 20))
    damage(folder / "20")
    with Checkpoints(folder) as checkpoints:
        assert int(checkpoints.restore(state, warnings.append).update) == 10
        assert len(warnings) == 1
        assert "checkpoints/20" in warnings[0]
        assert "damaged" in warnings[0]
        # Training can write the same update again.
        checkpoints.save(scaled(state, 2.0, 20))
    damage(folder / "10")
    with Checkpoints(folder) as checkpoints:
        assert int(checkpoints.restore(state, warn=pytest.fail).update) == 20
    damage(folder / "20")
    message = "checkpoints/20.* is damaged.*checkpoints/10.* is damaged.*there is no other"
    with Checkpoints(folder) as checkpoints, pytest.raises(ValueError, match=message):
        checkpoints.restore(state, warn=pytest.fail)
    assert updates_in(folder) == [10, 20], "damaged checkpoints are kept, for a user to repair"


@pytest.mark.parametrize("stray", ["20", "007", "notes", "30.part", "\u0663", "9" * 30])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_stray_entry_does_not_stop_a_resume(tmp_path: Path, state: TeachingState, stray: str, kind: str) -> None:
    """While a whole checkpoint is there; and training can write the update whose name the entry has."""
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state)
        checkpoints.wait()
        entry = folder / stray
        {"file": entry.touch, "folder": entry.mkdir, "link": lambda: entry.symlink_to(tmp_path)}[kind]()
        assert int(checkpoints.restore(state, warn=lambda _: None).update) == 10
        checkpoints.save(scaled(state, 1.0, 20))
    assert updates_in(folder) == [10, 20]


def test_checkpoint_of_another_configuration_is_set_aside(tmp_path: Path, state: TeachingState) -> None:
    folder, warnings = tmp_path / "checkpoints", []
    for digest, update in (("a", 10), ("b", 20)):
        with Checkpoints(folder, config_digest=digest) as checkpoints:
            checkpoints.save(scaled(state, 1.0, update))
    with Checkpoints(folder, config_digest="a") as checkpoints:
        assert int(checkpoints.restore(state, warnings.append).update) == 10
    assert "checkpoints/20 belongs to another run or configuration (config_digest in sha256.json is 'b'" in warnings[0]
    assert updates_in(folder) == [10]


def test_checkpoint_of_other_agent_is_refused(tmp_path: Path, state: TeachingState) -> None:
    other = TeachingState(make_state(5).agent, state.optimizer_state, state.update)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state)
        checkpoints.wait()
        with pytest.raises(ValueError, match="checkpoints/10 does not fit this run"):
            checkpoints.restore(other, warn=pytest.fail)


def test_unfinished_checkpoints_are_deleted(tmp_path: Path, state: TeachingState) -> None:
    """A crash leaves Orbax's temporary folder, a folder without the seal, or one that is not renamed yet."""
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state)
    for name in (f"20{PART}.orbax-checkpoint-tmp", f"20{PART}", f"10{PART}"):
        shutil.copytree(folder / "10", folder / name)
    with Checkpoints(folder) as checkpoints:
        assert int(checkpoints.restore(state, warn=pytest.fail).update) == 10
    assert [file.name for file in folder.iterdir()] == ["10"]
    shutil.move(folder / "10", folder / f"10{PART}")
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore(state, warn=pytest.fail) is None


def test_checkpoints_are_written_in_background(tmp_path: Path, state: TeachingState) -> None:
    """No other checkpoint is started meanwhile."""
    goes_on = threading.Event()
    with Checkpoints(tmp_path, seconds_between=0.0) as checkpoints:
        write = checkpoints._orbax.save
        checkpoints._orbax.save = lambda *args, **options: goes_on.wait(60) and write(*args, **options)
        checkpoints.save_if_due(state)
        checkpoints.save_if_due(scaled(state, 1.0, 20))
        assert updates_in(tmp_path) == []
        goes_on.set()
        checkpoints.wait()
        assert updates_in(tmp_path) == [10]


@pytest.mark.parametrize("then", [Checkpoints.save, Checkpoints.save_if_due, None])
def test_background_errors_are_raised_later(
    tmp_path: Path, state: TeachingState, then: Callable[[Checkpoints, TeachingState], None] | None
) -> None:
    def fails(*args: object, **options: object) -> None:
        raise OSError("the disk is gone")

    def work() -> None:
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints._orbax.save = fails
            checkpoints.save(state)
            concurrent.futures.wait([checkpoints._writing])
            if then is not None:
                then(checkpoints, state)

    with pytest.raises(OSError, match="the disk is gone"):
        work()
    assert [*tmp_path.iterdir()] == []


def test_run_has_one_writer(run: RunDirectory) -> None:
    with run.locked(), pytest.raises(RunError, match=f"another process is at work in {run.path}"), run.locked():
        pass
    with run.locked():
        pass


def test_second_command_leaves_the_run_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While another process works in a run, both commands are refused and change no file."""
    run = RunDirectory.create(tmp_path / "run", Config("bandit"))
    before = run.config_file.read_bytes()
    with run.locked():
        for more, why in (([], "holds a run already"), (["--resume"], "another process is at work")):
            assert main(["train", "bandit", "--out", str(run.path), *more]) == 2
            assert why in capsys.readouterr().err
    assert run.config_file.read_bytes() == before


def test_agent_without_checkpoints_is_kept(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    """Training would overwrite the rows and the agent."""
    run.append_metrics({"update": 20, "seconds": 1.0})
    ud.save(without_compiling(lambda: ud.LSTMAgent(ud.tasks.bandit(), 4, key=jax.random.key(0))), run.agent_folder)
    assert main(["train", "bandit", "--out", str(run.path), "--resume"]) == 2
    assert "no checkpoint to resume from" in capsys.readouterr().err
    assert run.read_metrics()
    assert ud.load(run.agent_folder).own_actions == "do"


def test_certify_needs_an_agent(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    """The message has the command that resumes training, which kill -9 may have ended."""
    assert main(["certify", str(run.path)]) == 1
    assert f"undelude train bandit --out {run.path} --resume" in capsys.readouterr().err.replace("\n", " ")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Install Python's handler of Ctrl-C, which a test runner in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", DEFAULTS)
def test_signal_waits_for_a_write(number: signal.Signals) -> None:
    steps, interrupts = [], Interrupts()

    def write() -> None:
        with interrupts, interrupts.held():
            signal.raise_signal(number)
            steps.append("written")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert steps == ["written"]
    assert interrupts.received == number
    assert {x: signal.getsignal(x) for x in DEFAULTS} == DEFAULTS


@pytest.mark.usefixtures("ctrl_c")
def test_lost_ctrl_c_is_raised_again() -> None:
    reached = []

    def work() -> None:
        with Interrupts() as interrupts:
            interrupts.check()
            reached.append("before")
            with contextlib.suppress(
                KeyboardInterrupt
            ):  # Python drops errors raised in callbacks of its garbage collector.
                signal.raise_signal(signal.SIGINT)
                reached.append("not at once")
            interrupts.check()
            reached.append("not again")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["before"]


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", DEFAULTS)
def test_signal_ends_a_long_measurement(number: signal.Signals) -> None:
    """It is in C++, where no handler of Python runs."""
    sleep, interrupts = ctypes.CDLL(None).sleep, Interrupts()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), number))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupts:
        interrupts.run(lambda: sleep(20))
    assert time.monotonic() - started < 15
    assert interrupts.error("done.").code == (130 if number == signal.SIGINT else 143)


def test_measurement_returns_and_raises_through_the_wait() -> None:
    interrupts = Interrupts()
    assert interrupts.run(lambda: 7) == 7
    with pytest.raises(ValueError, match="here"):
        interrupts.run(lambda: int("here"))


def test_output_to_a_closed_terminal_goes_nowhere() -> None:
    """A terminal that is closed fails every write to it, and the error would hide that training was ended."""
    ours, theirs = pty.openpty()
    read, write = os.pipe()
    code = f"""
import fcntl, os, signal, termios
from undelude._cli.interrupts import Interrupts
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
interrupts = Interrupts()
try:
    with interrupts:
        os.write({write}, b"x")
        signal.pause()
except KeyboardInterrupt:
    print("x" * 10_000, flush=True)
    os.write({write}, interrupts.received.name.encode())
"""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, pass_fds=[write], **streams)
    os.close(theirs)
    os.close(write)
    assert os.read(read, 10) == b"x"
    os.close(ours)
    assert process.wait(60) == 0
    assert os.read(read, 10) == b"SIGHUP"
    os.close(read)
