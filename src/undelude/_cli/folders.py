"""What a folder holds that a command was given."""

from collections.abc import Callable
from pathlib import Path

from undelude._cli.errors import UsageError
from undelude._files import read_json
from undelude._runs import layout


def check_holds_run(folder: Path) -> None:
    """Raise `UsageError` if the folder holds no run, nor runs in its folders; it says what is there."""
    if (folder / layout.CONFIG).exists() or layout.seed_folders(folder) or layout.runs_below(folder):
        return
    raise UsageError(
        f"the folder {folder} holds {layout.listed(folder)}, and neither {layout.CONFIG}, of a run of undelude train, "
        "nor a fit of undelude offline: name the folder of one, a task, or an episode's file."
    )


def is_language_model(folder: Path) -> bool:
    """Return whether a folder holds a model of Hugging Face; the `config.json` of a run has other fields."""
    if is_so((folder / "adapter_config.json").is_file):
        return True
    try:
        return "model_type" in read_json(folder / layout.CONFIG)
    except (OSError, ValueError):
        return False


def is_so(asked: Callable[[], bool]) -> bool:
    """Return the answer about a path; false if its name is impossible."""
    try:
        return asked()
    except (OSError, ValueError):
        return False
