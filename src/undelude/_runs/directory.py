"""A run directory, which `undelude train` writes and every other command reads."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undelude._agents.base import AbstractAgent
from undelude._files import read_bytes, read_json, sweep, write_atomically
from undelude._runs import agent_files, layout
from undelude._runs.certificate_file import check_same, read_certificate, write_certificate
from undelude._runs.config import Config, train_command
from undelude._runs.config_file import DIGEST, ConfigFile, numerics, read_config, write_config
from undelude._runs.errors import RunError
from undelude._runs.metrics import Row, read_metrics, to_lines


class RunDirectory:
    """`config.json`, `metrics.jsonl`, `certificate.json`, `agent/`, `checkpoints/` and `report.html`, in one folder.

    Also `episode.gif`, if the task can be drawn, `tensorboard/`, if asked for, and `.lock`, which a writing process
    holds.

    Attributes:
        path: the folder.
        config: the options of the run.
        digest: of its configuration; its certificate, metrics, checkpoints and agent have the same.
        began_with: versions of the packages, and the devices, when the run began.
        earlier_steps: the numbers of updates at which the run was finished before it was made longer.
        distrust: why the task must not be called without permission; None if it is undelude's, or this user made the
            run on this machine.

    Args:
        path: the folder; see `create` and `open`.
        content: of `config.json`.
    """

    def __init__(self, path: Path, content: ConfigFile):
        self.path, self.config, self.began_with = path, content.config, content.began_with
        self.numerics, self.digest, self.distrust = content.numerics, content.digest, content.distrust
        self.earlier_steps = content.earlier_steps
        self.config_file = path / layout.CONFIG
        self.metrics_file = path / layout.METRICS
        self.certificate_file = path / layout.CERTIFICATE
        self.agent_folder = path / layout.AGENT
        self.checkpoints_folder = path / layout.CHECKPOINTS
        self.tensorboard_folder = path / layout.TENSORBOARD
        self.report_file = path / layout.REPORT
        self.film_file = path / layout.FILM
        self._place = _place(path)

    @classmethod
    def create(cls, path: Path, config: Config) -> "RunDirectory":
        """Create a new run.

        Raises:
            RunError: the folder holds other files or a run.
            OSError: the folder cannot be created.
            ValueError: the folder holds a link in place of a file of the run.
        """
        layout.check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"the folder {path} cannot be made ({error.strerror}): use another --out.") from error
        with _locked(path):
            layout.check_free(path)  # Another process may have begun one.
            return cls(path, write_config(path / layout.CONFIG, config))

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open the run at `path`.

        Raises:
            RunError: there is no run.
            ValueError: its `config.json` is damaged, or it holds a link in place of a file.
        """
        layout.check_run(path)
        return cls(path, read_config(path / layout.CONFIG))

    @property
    def is_finished(self) -> bool:
        """Whether all updates are made and the agent is stored, even if the checkpoints were deleted to save space."""
        rows = self.read_metrics()
        return self.agent_folder.exists() and bool(rows) and rows[-1]["update"] == self.config.steps

    @property
    def resume_command(self) -> str:
        """The command that resumes the run."""
        return train_command(vars(self.config), self.path, resume=True)

    def check_numerics(self) -> None:
        """Raise `RunError` if JAX has other settings now, with which the numbers of the run would be others."""
        for name, now in numerics().items():
            if (then := self.numerics[name]) != now:
                raise RunError(
                    f"{self.path} was made with {name}={then}, and JAX has {now} now: set the environment variable "
                    f"{name.upper()}={'' if then is None else then if isinstance(then, str) else int(then)}."
                )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here while the block runs, and delete what killed ones left half-written.

        Raises:
            RunError: another process is at work here.
        """
        with _locked(self.path):
            for name in layout.FILES:
                sweep(self.path / name)
            yield

    def check_place(self) -> None:
        """Raise `FileNotFoundError` if the folder was renamed or deleted; writing would make another of its name."""
        if not self._is_in_place:
            raise FileNotFoundError(
                f"the folder {self.path} was renamed, moved or deleted while this command was at work in it. Give it "
                f"this name again, and resume the run with {self.resume_command}"
            )

    def lengthen(self, config: Config) -> None:
        """Write the options of a finished run with more updates into its `config.json`."""
        self.check_place()
        content = write_config(self.config_file, config, earlier_steps=(*self.earlier_steps, self.config.steps))
        self.config, self.earlier_steps = content.config, content.earlier_steps

    def begin(self, update: int) -> list[Row]:
        """Prepare the files for training from `update` on, and return the rows of metrics up to it.

        Rows after `update`, written between the last checkpoint and a crash, are dropped; training writes them again.

        Raises:
            ValueError: `metrics.jsonl` is damaged, or does not reach up to `update`.
        """
        rows = [row for row in self.read_metrics() if row["update"] <= update]
        if update and (not rows or rows[-1]["update"] != update):
            last = rows[-1]["update"] if rows else 0
            raise layout.damaged(self.metrics_file, f"it ends at update {last}, the checkpoint is at {update}")
        write_atomically(self.metrics_file, self._lines(rows).encode())
        for outdated in (self.certificate_file, self.report_file, self.film_file):
            outdated.unlink(missing_ok=True)
        return rows

    def discard_if_empty(self) -> None:
        """Delete a run that failed before its first row, so that the corrected command can use the same folder.

        Call it only inside `locked`.
        """
        if self._is_in_place and not self.read_metrics():
            for file in (self.metrics_file, self.config_file, self.path / layout.LOCK):
                file.unlink(missing_ok=True)
            shutil.rmtree(self.tensorboard_folder, ignore_errors=True)
            for folder in (self.checkpoints_folder, self.path):
                with contextlib.suppress(OSError):  # It is not empty: other files are there.
                    folder.rmdir()

    def append_metrics(self, row: Row) -> None:
        """Append a row."""
        self.check_place()
        with self.metrics_file.open("a") as file:
            file.write(self._lines([row]))

    def read_metrics(self) -> list[Row]:
        """Return all rows; see `undelude._runs.metrics`."""
        return read_metrics(self.metrics_file, config=self._entries)

    def write_certificate(self, certificate: dict[str, Any]) -> None:
        """Write `certificate.json`."""
        self.check_place()
        write_certificate(self.certificate_file, certificate | {DIGEST: self.digest})

    def read_certificate(self) -> dict[str, Any]:
        """Return the content of `certificate.json`; see `undelude._runs.certificate_file`."""
        return read_certificate(self.certificate_file, config=self._entries)

    def save_agent(self, agent: AbstractAgent) -> None:
        """Write `agent/`."""
        self.check_place()
        agent_files.write_agent(agent, self.agent_folder, **{DIGEST: self.digest})

    def load_agent(self) -> AbstractAgent:
        """Read `agent/`.

        Raises:
            FileNotFoundError: there is none, because training did not finish.
            ValueError: it is damaged or belongs to another run.
        """
        if not self.agent_folder.exists():
            hint = f"training did not finish; resume it with {self.resume_command}"
            raise FileNotFoundError(f"no agent at {self.agent_folder}: {hint}")
        agent = agent_files.load(self.agent_folder)
        file = self.agent_folder / agent_files.DESCRIPTION
        check_same(file, DIGEST, read_json(file), self._entries, layout.RESTORE)
        return agent

    @property
    def agent_digest(self) -> str | None:
        """The digest of the agent's description, which has that of its weights; None if training did not finish."""
        file = self.agent_folder / agent_files.DESCRIPTION
        if not file.is_file():
            return None
        return agent_files.digest(read_bytes(file, most=agent_files.MAX_DESCRIPTION))

    @property
    def _is_in_place(self) -> bool:
        return _place(self.path) == self._place

    @property
    def _entries(self) -> dict[str, Any]:
        """The entries of `config.json` that the other files must agree with."""
        return vars(self.config) | {DIGEST: self.digest}

    def _lines(self, rows: list[Row]) -> str:
        return to_lines(row | {DIGEST: self.digest} for row in rows)


def _place(path: Path) -> tuple[int, int] | None:
    """Return what identifies a folder on this machine while it is renamed; None if it is gone."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a run directory; the lock of a killed process is free.

    On systems and file systems without such locks, this does nothing.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows.
        yield
        return
    # A separate file: a lock belongs to a file, not to its name, and the other files are replaced when written.
    handle = os.open(path / layout.LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RunError(f"another process is at work in {path}: wait for it, or stop it.") from None
    except OSError:  # A network file system without locks.
        pass
    try:
        yield
    finally:
        os.close(handle)
