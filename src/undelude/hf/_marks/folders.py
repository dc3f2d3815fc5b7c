"""Folders of saved models, which have the same form as names on the Hub."""

import difflib
import os
import re
from pathlib import Path

# A name on the Hub: of a repository, with its owner or without.
_ON_THE_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check_folder(folder: str | os.PathLike[str], where: str) -> None:
    """Raise `FileNotFoundError` if a folder does not exist and cannot be meant as a name on the Hub.

    Args:
        folder: as the user gave it.
        where: the beginning of the message.

    >>> check_folder("./out/model", "load")
    Traceback (most recent call last):
    FileNotFoundError: load: there is no folder './out/model'...
    """
    text, path = os.fspath(folder), Path(folder)
    if path.exists():
        return
    is_name = isinstance(folder, str) and not text.startswith((".", "~")) and _ON_THE_HUB.fullmatch(text)
    if is_name and not ("/" in text and path.parent.is_dir()):
        return
    there = next(x for x in path.absolute().parents if x.is_dir())
    missing = path.absolute().relative_to(there).parts[0]
    near = difflib.get_close_matches(missing, sorted(x.name for x in there.iterdir()), 1)
    hint = f"Did you mean {near[0]!r}?" if near else "Was the model saved there?"
    if text.startswith("~"):
        hint = "A ~ is not expanded: Path(...).expanduser()."
    raise FileNotFoundError(f"{where}: there is no folder {text!r}, since {there} has no {missing!r}. {hint}")
