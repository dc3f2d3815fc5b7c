"""A run directory: what `train` writes, and every other command reads."""

import contextlib
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undelude._certificate.certificate import check_certificate
from undelude._files import read_json, write_atomically
from undelude._runs.config import Config, read_config, train_command, write_config
from undelude._runs.errors import CommandError, UsageError
from undelude._runs.metrics import Row, read_metrics

# Whoever holds it writes.
LOCK = ".lock"
# Intervals over the seeds of `train --num-seeds`.
SEEDS = "seeds.json"


class RunDirectory:
    """`config.json`, `metrics.jsonl`, `certificate.json`, `agent/`, `checkpoints/` and `report.html`, in one folder.

    And `episode.gif`, where the task has something to draw, and `.lock`, which whoever writes holds.

    Args:
        path: the folder; see `create` and `open`.
        config: of the run.
        versions: with which it was begun, and the devices.
    """

    def __init__(self, path: Path, config: Config, versions: dict[str, str] | None = None):
        self.path, self.config, self.versions = path, config, versions or {}
        self.config_file = path / "config.json"
        self.metrics_file = path / "metrics.jsonl"
        self.certificate_file = path / "certificate.json"
        self.agent_folder = path / "agent"
        self.checkpoints_folder = path / "checkpoints"
        self.report_file = path / "report.html"
        self.film_file = path / "episode.gif"

    @classmethod
    def create(cls, path: Path, config: Config) -> "RunDirectory":
        """A new run.

        Raises:
            UsageError: something is there already.
        CommandError: the folder cannot be made.
        """
        run = cls(path, config)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file: use another --out.")
        # What a crash leaves while a file is being written begins with a point, as the lock does.
        if path.exists() and not run.config_file.exists() and any(x.name[0] != "." for x in path.iterdir()):
            raise UsageError(f"{path} is not empty, and not a run: use another --out.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"the folder {path} cannot be made ({error.strerror}): use another --out.") from error
        with run.locked():
            if run.config_file.exists():
                raise UsageError(f"{path} holds a run already: use --resume or another --out.")
            write_config(run.config_file, config)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """The run at `path`.

        Raises:
            UsageError: there is none.
            ValueError: its `config.json` is damaged.
        """
        file = path / "config.json"
        if not file.is_file() and (seeds := sorted(path.glob("seed-*/config.json"))):
            raise UsageError(f"{path} holds a run for each of {len(seeds)} seeds: name one, such as {seeds[0].parent}.")
        if not file.is_file():
            raise UsageError(f"there is no run at {path}: {file.name} is missing. Begin one with undelude train.")
        return cls(path, *read_config(file))

    @property
    def resume_command(self) -> str:
        """What goes on with it."""
        return train_command(vars(self.config), self.path, resume=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """While the block runs, no other process may write here; a process that is killed holds nothing.

        Where the system or the file system has no such locks, nothing is held.

        Raises:
            UsageError: another process does.
        """
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows.
            yield
            return
        # A file of its own, for a lock is on the file and not on its name: others are replaced when they are written.
        with (self.path / LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"another process is at work in {self.path}: wait for it, or end it.") from None
            except OSError:  # A network's file system without locks.
                pass
            yield

    def begin(self, update: int) -> list[Row]:
        """Make the files ready for training from `update` on, and return the rows of metrics so far.

        Rows after `update`, which a crash left behind its last checkpoint, are dropped; they will be written again.

        Raises:
            ValueError: `metrics.jsonl` is damaged, or does not reach up to `update`.
        """
        rows = [row for row in self.read_metrics() if row["update"] <= update]
        if update and (not rows or rows[-1]["update"] != update):
            last = rows[-1]["update"] if rows else 0
            raise ValueError(
                f"{self.metrics_file} is damaged: it ends at update {last}, the checkpoint is at {update}. "
                "Restore it from a copy, or train anew with another --out."
            )
        for file in (self.config_file, self.metrics_file, self.certificate_file, self.report_file, self.film_file):
            for half_written in self.path.glob(f".{file.name}.*"):
                half_written.unlink(missing_ok=True)
        write_atomically(self.metrics_file, "".join(map(_line, rows)).encode())
        for outdated in (self.certificate_file, self.report_file, self.film_file):
            outdated.unlink(missing_ok=True)
        return rows

    def discard_if_empty(self) -> None:
        """Take away a run that failed before its first row, so that the corrected command may use the same place.

        Only inside `locked`.
        """
        if not self.read_metrics():
            for file in (self.metrics_file, self.config_file, self.path / LOCK):
                file.unlink(missing_ok=True)
            shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
            for folder in (self.checkpoints_folder, self.path):
                with contextlib.suppress(OSError):  # Not empty: something else is there.
                    folder.rmdir()

    def append_metrics(self, row: Row) -> None:
        """One more line."""
        with self.metrics_file.open("a") as file:
            file.write(_line(row))

    def read_metrics(self) -> list[Row]:
        """All rows; see `undelude._runs.metrics`."""
        return read_metrics(self.metrics_file)

    def write_certificate(self, certificate: dict[str, Any]) -> None:
        """Write `certificate.json`."""
        data = json.dumps(plain(certificate), indent=2, allow_nan=False) + "\n"
        write_atomically(self.certificate_file, data.encode())

    def read_certificate(self) -> dict[str, Any]:
        """Read `certificate.json`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged; the message names the entry.
        """
        data = read_json(self.certificate_file)
        try:
            check_certificate(data)
        except ValueError as error:
            raise ValueError(
                f"{self.certificate_file} is damaged: {error}. Write it anew with: undelude certify {self.path}"
            ) from error
        return data


def plain(value: Any) -> Any:
    """What JSON can say: an infinite number is the string "inf", one that is none is null."""
    if isinstance(value, dict):
        return {name: plain(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [plain(x) for x in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else None
    return value


def _line(row: Row) -> str:
    return json.dumps(plain(row), allow_nan=False) + "\n"
