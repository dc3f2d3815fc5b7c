"""A run directory, which `undelude train` writes and every other command reads."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undelude._files import write_atomically
from undelude._runs import layout
from undelude._runs.certificate_file import read_certificate, write_certificate
from undelude._runs.config import Config, read_config, train_command, write_config
from undelude._runs.errors import RunError
from undelude._runs.metrics import Row, read_metrics, to_lines


class RunDirectory:
    """`config.json`, `metrics.jsonl`, `certificate.json`, `agent/`, `checkpoints/` and `report.html`, in one folder.

    Also `episode.gif`, if the task can be drawn, `tensorboard/`, if asked for, and `.lock`, which a writing process
    holds.

    Args:
        path: the folder; see `create` and `open`.
        config: of the run.
        versions: of the packages when the run began, and its devices.
    """

    def __init__(self, path: Path, config: Config, versions: dict[str, str] | None = None):
        self.path, self.config, self.versions = path, config, versions or {}
        self.config_file = path / layout.CONFIG
        self.metrics_file = path / layout.METRICS
        self.certificate_file = path / layout.CERTIFICATE
        self.agent_folder = path / layout.AGENT
        self.checkpoints_folder = path / layout.CHECKPOINTS
        self.tensorboard_folder = path / layout.TENSORBOARD
        self.report_file = path / layout.REPORT
        self.film_file = path / layout.FILM

    @classmethod
    def create(cls, path: Path, config: Config) -> "RunDirectory":
        """Create a new run.

        Raises:
            RunError: the folder holds other files or a run.
            OSError: the folder cannot be created.
        """
        run = cls(path, config)
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file: use another --out.")
        # Names of the lock and of files that a crash left half-written begin with a dot.
        if path.exists() and not run.config_file.exists() and any(x.name[0] != "." for x in path.iterdir()):
            raise RunError(f"{path} is not empty, and not a run: use another --out.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"the folder {path} cannot be made ({error.strerror}): use another --out.") from error
        with run.locked():
            if run.config_file.exists():
                raise RunError(f"{path} holds a run already: use --resume or another --out.")
            write_config(run.config_file, config)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open the run at `path`.

        Raises:
            RunError: there is no run.
            ValueError: its `config.json` is damaged.
        """
        file = path / layout.CONFIG
        if not file.is_file() and (seeds := layout.seed_folders(path)):
            raise RunError(f"{path} holds a run for each of {len(seeds)} seeds: name one, such as {seeds[0]}.")
        if not file.is_file():
            raise RunError(f"there is no run at {path}: {file.name} is missing. Begin one with undelude train.")
        return cls(path, *read_config(file))

    @property
    def resume_command(self) -> str:
        """The command that resumes the run."""
        return train_command(vars(self.config), self.path, resume=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here while the block runs; the lock of a killed process is free.

        On systems and file systems without such locks, this does nothing.

        Raises:
            RunError: another process holds the lock.
        """
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows.
            yield
            return
        # A separate file: a lock belongs to a file, not to its name, and the other files are replaced when written.
        with (self.path / layout.LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"another process is at work in {self.path}: wait for it, or stop it.") from None
            except OSError:  # A network file system without locks.
                pass
            yield

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
        for file in (self.config_file, self.metrics_file, self.certificate_file, self.report_file, self.film_file):
            for half_written in self.path.glob(f".{file.name}.*"):
                half_written.unlink(missing_ok=True)
        write_atomically(self.metrics_file, to_lines(rows).encode())
        for outdated in (self.certificate_file, self.report_file, self.film_file):
            outdated.unlink(missing_ok=True)
        return rows

    def discard_if_empty(self) -> None:
        """Delete a run that failed before its first row, so that the corrected command can use the same folder.

        Call it only inside `locked`.
        """
        if not self.read_metrics():
            for file in (self.metrics_file, self.config_file, self.path / layout.LOCK):
                file.unlink(missing_ok=True)
            shutil.rmtree(self.tensorboard_folder, ignore_errors=True)
            for folder in (self.checkpoints_folder, self.path):
                with contextlib.suppress(OSError):  # It is not empty: other files are there.
                    folder.rmdir()

    def append_metrics(self, row: Row) -> None:
        """Append a row."""
        with self.metrics_file.open("a") as file:
            file.write(to_lines([row]))

    def read_metrics(self) -> list[Row]:
        """Return all rows; see `undelude._runs.metrics`."""
        return read_metrics(self.metrics_file)

    def write_certificate(self, certificate: dict[str, Any]) -> None:
        """Write `certificate.json`."""
        write_certificate(self.certificate_file, certificate)

    def read_certificate(self) -> dict[str, Any]:
        """Return the content of `certificate.json`; see `undelude._runs.certificate_file`."""
        return read_certificate(self.certificate_file)
