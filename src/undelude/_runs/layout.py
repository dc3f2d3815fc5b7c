"""The files of a run directory: their names and largest sizes, which kind each must be, and the error about damage."""

import os
import re
import stat
from pathlib import Path

from undelude._runs.errors import RunError

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

# Largest sizes of the files that are read, in bytes.
MAX_BYTES = {CONFIG: 2**18, METRICS: 2**29, CERTIFICATE: 2**26, FILM: 2**26}
# The entries that the commands read, write or delete. Others are the user's, and nothing happens to them.
FILES = (CONFIG, METRICS, CERTIFICATE, REPORT, FILM, LOCK, f"{AGENT}/agent.json", f"{AGENT}/weights.safetensors")
FOLDERS = (AGENT, CHECKPOINTS, TENSORBOARD)

RESTORE = "Restore it from a copy, or train again with another --out."


def check_folder(path: Path) -> None:
    """Raise if a command must not work in the run directory `path`; every reader and writer calls this first.

    Nothing is read, written or deleted through a link or a special file inside it, since such an entry of a run
    directory from elsewhere could name any file of the user. `path` itself may be a link, because the user named it.

    Raises:
        RunError: its name is not UTF-8, which the libraries below cannot handle.
        ValueError: an entry is a link or a special file, or a folder in place of a file.
    """
    try:
        os.fsencode(path).decode()
    except UnicodeError:
        raise RunError(f"the name of the folder {str(path)!r} is not UTF-8: rename it, or use another.") from None
    for names, wanted, is_wanted in ((FOLDERS, "folder", stat.S_ISDIR), (FILES, "regular file", stat.S_ISREG)):
        for name in names:
            try:
                mode = (path / name).lstat().st_mode
            except (OSError, ValueError):  # It is not there, or the name is impossible.
                continue
            if not is_wanted(mode):
                kind = "symbolic link" if stat.S_ISLNK(mode) else "folder" if stat.S_ISDIR(mode) else "special file"
                kind = "regular file" if stat.S_ISREG(mode) else kind
                raise ValueError(
                    f"{path / name} is a {kind} and must be a {wanted}: undelude reads, writes and deletes nothing "
                    f"through it. Remove it, or put the {wanted} itself there."
                )


def check_run(path: Path) -> None:
    """Raise if there is no run at `path`, without reading its files.

    Raises:
        RunError: there is no run.
        ValueError: an entry is a link or a special file, or a folder in place of a file.
    """
    is_there = (path / CONFIG).is_file()
    if not is_there and (seeds := seed_folders(path)):
        raise RunError(f"{path} holds a run for each of {len(seeds)} seeds: name one, such as {seeds[0]}.")
    if not is_there and (runs := runs_below(path)):
        raise RunError(f"{path} is not a run, and holds {len(runs)} in its folders: name one, such as {runs[0]}.")
    check_folder(path)
    if not is_there:
        why = f"{CONFIG} is missing" if not path.is_dir() else f"the folder holds {listed(path)}, and no {CONFIG}"
        raise RunError(f"there is no run at {path}: {why}. Begin one with undelude train.")


def check_has_page(path: Path) -> None:
    """Raise if there is neither a run at `path` nor a certificate alone, as `Certificate.save` writes it."""
    if (path / CERTIFICATE).is_file():
        check_folder(path)
    else:
        check_run(path)


def check_may_save(path: Path) -> None:
    """Raise if a certificate alone cannot be saved at `path`.

    Raises:
        RunError: it is a file or holds a run.
        ValueError: it holds a link in place of a file.
    """
    check_folder(path)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file: use another folder.")
    if is_run(path):
        raise RunError(f"{path} holds a run, and the certificate is not that of its agent: use another folder.")


def check_free(path: Path) -> None:
    """Raise if no run can begin at `path`.

    Raises:
        RunError: it is a file, or it holds other files or a run.
        ValueError: it holds a link in place of a file of the run.
    """
    check_folder(path)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file: use another --out.")
    if is_run(path):
        raise RunError(f"{path} holds a run already: use --resume or another --out.")
    # Names of the lock and of files that a crash left half-written begin with a dot.
    if path.exists() and any(x.name[0] != "." for x in path.iterdir()):
        raise RunError(f"{path} is not empty, and not a run: use another --out.")


def is_run(path: Path) -> bool:
    """Return whether `path` is a run directory."""
    return (path / CONFIG).exists()


def seed_folder(path: Path, seed: int) -> Path:
    """Return the run directory of one seed of `train --num-seeds`."""
    return path / f"seed-{seed}"


def seed_folders(path: Path) -> list[Path]:
    """Return the run directories of all seeds in `path`."""
    found = (file.parent for file in path.glob(f"seed-*/{CONFIG}"))
    return sorted(folder for folder in found if re.fullmatch(r"seed-[0-9]{1,10}", folder.name))


def runs_below(path: Path) -> list[Path]:
    """Return the run directories in the folders of `path` and in theirs, as `undelude suite train` makes them."""
    found = (file.parent for pattern in ("*", "*/*") for file in path.glob(f"{pattern}/{METRICS}"))
    return sorted(folder for folder in found if is_run(folder))


def listed(path: Path) -> str:
    """Return what a folder holds, in words: its first three names."""
    names = sorted(x.name for x in path.iterdir())
    return (", ".join(names[:3]) + (", ..." if len(names) > 3 else "")) or "nothing"


def damaged(file: Path, problem: object, remedy: str = RESTORE) -> ValueError:
    """Return the error about a damaged file: its problem, and what to do."""
    return ValueError(f"{file} is damaged: {str(problem).removesuffix('.')}. {remedy}")
