"""A run directory from elsewhere: its files call no code, lead nowhere else, and do not exhaust the memory."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from run_files import certificate, write_run
from undelude._cli import main
from undelude._cli.console import make_console
from undelude._cli.errors import UsageError
from undelude._cli.permission import check_may_call_task
from undelude._cli.tables import print_certificate
from undelude._runs.checkpoints import Checkpoints
from undelude._runs.config_file import digests
from undelude._runs.contents import read_run
from undelude._runs.directory import RunDirectory
from undelude._runs.layout import FOLDERS

# A module that leaves a trace when it is imported.
EVIL = """
from pathlib import Path
Path("called").touch()
import undelude as ud

def task():
    return ud.tasks.bandit(num_arms=2, num_rounds=2)
"""
COMMANDS = (["certify", "run"], ["report", "run"], ["export", "run", "--out", "exported"])
COMMANDS += (["train", "bandit", "--out", "run", "--resume"],)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a user's folder with a data folder of its own; the current directory is `work` in it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(str(tmp_path / "work"))
    return tmp_path / "work"


def be_another_user(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data-of-another-user"))


# Code -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["certify", "run", "--num-episodes", "64", "--json"],
        ["export", "run", "--out", "exported", "--format", "onnx", "--batch-size", "8"],
        ["inspect", "run", "--num-rounds", "3", "--port", "7001", "--no-browser"],
    ],
    ids=lambda x: x[0],
)
def test_task_of_a_strangers_run_is_not_called(
    command: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the function, and repeats the command with the option that allows it."""
    (folder / "evil.py").write_text(EVIL)
    run = write_run(folder / "run", "evil:task")
    be_another_user(monkeypatch, folder)
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "run/config.json would have undelude import and call evil:task, and nothing shows that you made this run"
        in line
    )
    assert line.endswith(f"name it: undelude {' '.join(command)} --task evil:task")
    assert not (folder / "called").exists()
    opened = RunDirectory.open(run.path)
    check_may_call_task(opened, "evil:task", command="")
    with pytest.raises(UsageError, match="--task other:task contradicts"):
        check_may_call_task(opened, "other:task", command="")


def test_own_run_needs_no_permission(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be copied or moved; a module of the same name in another folder is not the module of the run."""
    (folder / "evil.py").write_text(EVIL)
    path = write_run(folder / "run", "evil:task").path
    assert RunDirectory.open(path).distrust is None
    shutil.copytree(path, folder / "copy")
    assert RunDirectory.open(folder / "copy").distrust is None
    (folder / "elsewhere").mkdir()
    shutil.copy(folder / "evil.py", folder / "elsewhere")
    monkeypatch.syspath_prepend(str(folder / "elsewhere"))
    assert "its module is now" in RunDirectory.open(path).distrust
    assert not (folder / "called").exists(), "a module was imported to find its file"


@pytest.mark.parametrize("seal", [None, "", "0" * 64, "\udcff"])
def test_forged_seal_does_not_fit(seal: str | None, folder: Path) -> None:
    """Also not with the right digest, which needs no secret."""
    path = write_run(folder / "run").path
    data = json.loads((path / "config.json").read_text()) | {"task": "os:abort", "seal": seal}
    (path / "config.json").write_text(json.dumps(data | digests(data)))
    assert RunDirectory.open(path).distrust is not None


def test_key_is_secret(folder: Path) -> None:
    (folder / "evil.py").write_text(EVIL)
    write_run(folder / "run", "evil:task")
    key = folder.parent / "data" / "undelude" / "key"
    assert len(key.read_bytes()) == 32
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    write_run(folder / "again", "evil:task")
    assert key.read_bytes() == before


def test_user_without_home_has_no_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is made, and its task must be named later."""
    (folder / "evil.py").write_text(EVIL)
    (folder / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "file"))
    assert "no seal" in RunDirectory.open(write_run(folder / "run", "evil:task").path).distrust


def test_seal_that_does_not_fit_says_why(folder: Path) -> None:
    """The module is gone, the key is empty, missing, or another one."""
    (folder / "evil.py").write_text(EVIL)
    path, key = write_run(folder / "run", "evil:task").path, folder.parent / "data" / "undelude" / "key"
    (folder / "evil.py").rename(folder / "gone.py")
    assert f"its module is neither installed nor in the current directory {folder}" in RunDirectory.open(path).distrust
    (folder / "gone.py").rename(folder / "evil.py")
    for content, why in ((b"", "is damaged (0 bytes"), (b"x" * 32, "sealed with another key")):
        key.write_bytes(content)
        assert why in RunDirectory.open(path).distrust
    key.unlink()
    assert f"you have no key on this machine ({key})" in RunDirectory.open(path).distrust


# Links and special files --------------------------------------------------------------------------------------------


def link_to_folder(entry: Path, target: Path) -> None:
    entry.symlink_to(target)


def link_to_file(entry: Path, target: Path) -> None:
    entry.symlink_to(target / "mine.part")


def fifo(entry: Path, target: Path) -> None:
    os.mkfifo(entry)


ENTRIES = ["config.json", "metrics.jsonl", "certificate.json", "report.html", "episode.gif", ".lock"]
ENTRIES += ["agent/agent.json", "agent/weights.safetensors"]


@pytest.mark.parametrize(
    ("entry", "make"),
    [(x, make) for x in ENTRIES for make in (link_to_file, fifo)] + [(x, link_to_folder) for x in FOLDERS],
)
def test_nothing_is_reached_through_a_link(
    entry: str, make: Callable[[Path, Path], None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No command follows it, waits for it, or changes the file at its end."""
    target, path = folder / "target", write_run(folder / "run").path
    target.mkdir()
    (target / "mine.part").write_text("mine")
    if (path / entry).is_dir():
        shutil.rmtree(path / entry)
    (path / entry).unlink(missing_ok=True)
    make(path / entry, target)
    before = sorted(path.rglob("*"))
    for command in COMMANDS:
        assert main(command) in (1, 2)
        err = capsys.readouterr().err
        assert err.count("\n") == 1, err
        assert f"{entry} is a s" in err or "there is no run at run" in err, err
    assert sorted(path.rglob("*")) == before
    assert [(x.name, x.read_text()) for x in target.iterdir()] == [("mine.part", "mine")]


def test_checkpoint_with_a_link_is_damaged(folder: Path, no_type_checks: None) -> None:
    """A link in a checkpoint is not read, and a link in place of one is not a checkpoint."""
    checkpoints = folder / "checkpoints"
    (checkpoints / "10").mkdir(parents=True)
    (checkpoints / "10" / "sha256.json").write_text('{"files": {}}')
    (checkpoints / "10" / "data").symlink_to("/dev/zero")
    (checkpoints / "20").symlink_to(folder)
    os.mkfifo(checkpoints / "30")
    message = r"checkpoints/10 is damaged .*symbolic link"
    with Checkpoints(checkpoints) as opened, pytest.raises(ValueError, match=message):
        opened.restore({"x": None}, warn=pytest.fail)
    assert {x.name for x in checkpoints.iterdir()} == {"10", "20", "30"}


def test_unfinished_checkpoint_that_is_a_link_loses_only_the_link(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "file").touch()
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "20.part").symlink_to(folder / "mine")
    (folder / "checkpoints" / "my.part of the work").touch()
    with Checkpoints(folder / "checkpoints"):
        assert [x.name for x in (folder / "checkpoints").iterdir()] == ["my.part of the work"]
    assert (folder / "mine" / "file").exists()


def test_run_directory_itself_may_be_a_link(folder: Path) -> None:
    """The user names it."""
    write_run(folder / "elsewhere")
    (folder / "run").symlink_to(folder / "elsewhere")
    assert RunDirectory.open(folder / "run").read_metrics()
    assert read_run(folder / "run").certificate


# Sizes and texts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "certificate.json", "episode.gif"])
@pytest.mark.parametrize("size", [2**31, 2**40])
def test_huge_file_is_not_read(name: str, size: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The files are sparse: they take no room on the disk."""
    path = write_run(folder / "run").path
    (path / name).touch()
    os.truncate(path / name, size)
    assert main(["report", "run"]) == 1
    assert f"run/{name} is damaged: it has {size} bytes, of" in capsys.readouterr().err


def test_film_is_a_gif(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_run(folder / "run").path / "episode.gif").write_text("<script>")
    assert main(["report", "run"]) == 1
    assert "run/episode.gif is damaged: it is not a GIF. Write it again with: undelude certify run" in (
        capsys.readouterr().err
    )


def test_terminal_escapes_are_shown_as_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They could change the title of the terminal, or hide what is printed."""
    escape = "\x1b]0;title\x07\x9b2J\u202e"
    run = write_run(folder / "run")
    run.write_certificate(certificate("bandit") | {"agent": escape, "notes": {"reward": escape}})
    print_certificate(make_console(stderr=False), run.read_certificate())
    data = json.loads((run.path / "config.json").read_text()) | {"task": f"{escape}:x", "seal": escape}
    (run.path / "config.json").write_text(json.dumps(data | digests(data)))
    assert main(["certify", "run"]) == 2
    (folder / f"seed-{escape}").mkdir()
    (folder / f"seed-{escape}" / "config.json").touch()
    assert main(["certify", "."]) == 2
    out = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & {*out.err, *out.out}
    assert out.err.count("\\x1b]0;title") == 2
    assert out.out.count("\\x1b]0;title") == 2
