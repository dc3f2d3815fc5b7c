"""Where an error came from: undelude, an installed library, or the user's own code."""

import os
import sysconfig
import traceback
from pathlib import Path

_OURS = str(Path(__file__).parent) + os.sep


_LIBRARIES = tuple(sysconfig.get_path(x) + os.sep for x in ("stdlib", "platstdlib", "purelib", "platlib"))


def users_line(error: BaseException) -> str:
    """Return the last line of the user's own code in the traceback of `error` or its causes: ` (my_tasks.py, line 12)`.

    The result is empty if there is none.
    """
    where, seen, link = "", set(), error
    while link is not None and id(link) not in seen:
        lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(link.__traceback__)]
        if own := [(file, line) for file, line in lines if is_users_file(file)]:
            where = f" ({Path(own[-1][0]).name}, line {own[-1][1]})"
        seen.add(id(link))
        link = link.__cause__
    return where


def is_ours(error: BaseException) -> bool:
    """Return whether undelude raised `error`."""
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(files) and files[-1].startswith(_OURS)


def is_users_file(file: str) -> bool:
    """Return whether a file of Python code is the user's: neither part of undelude nor of an installed library."""
    installed = file.startswith((_OURS, *_LIBRARIES)) or {"site-packages", "dist-packages"} & {*Path(file).parts}
    return not (installed or file.startswith("<"))
