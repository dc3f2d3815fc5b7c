"""The names of the files in a run directory, and the error about a damaged one."""

from pathlib import Path

CONFIG = "config.json"
METRICS = "metrics.jsonl"
CERTIFICATE = "certificate.json"
AGENT = "agent"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
REPORT = "report.html"
FILM = "episode.gif"
# File whose lock a writing process holds.
LOCK = ".lock"
# File of intervals over the seeds of `train --num-seeds`, next to the folders of the seeds.
SEEDS = "seeds.json"

RESTORE = "Restore it from a copy, or train again with another --out."


def is_run(path: Path) -> bool:
    """Return whether `path` is a run directory."""
    return (path / CONFIG).exists()


def seed_folder(path: Path, seed: int) -> Path:
    """Return the run directory of one seed of `train --num-seeds`."""
    return path / f"seed-{seed}"


def seed_folders(path: Path) -> list[Path]:
    """Return the run directories of all seeds in `path`."""
    return sorted(file.parent for file in path.glob(f"seed-*/{CONFIG}"))


def damaged(file: Path, problem: object, remedy: str = RESTORE) -> ValueError:
    """Return the error about a damaged file: its problem, and what to do."""
    return ValueError(f"{file} is damaged: {str(problem).removesuffix('.')}. {remedy}")
