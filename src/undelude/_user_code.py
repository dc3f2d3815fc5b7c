"""Objects of a user's own code, named on the command line as `package.module:name`."""

import difflib
import importlib
import importlib.util
import os
import sys
from typing import Any


class UnknownNameError(ValueError):
    """A name that stands for nothing; the message lists names that are close."""


class UserCodeError(RuntimeError):
    """A failure of a user's own code; `__cause__` is the error."""

    def __init__(self, kind: str, reference: str):
        super().__init__(f"the {kind} {reference} cannot be made")


def import_object(reference: str, *, kind: str) -> Any:
    """Import the module of `package.module:name` and return the object of that name in it.

    Args:
        reference: the module is installed or in the current directory.
        kind: the kind of the object for the messages, such as "task".

    Raises:
        UnknownNameError: there is no such module, or no such object in it.
        UserCodeError: the module failed.
    """
    check_reference(reference, kind=kind)
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise _unknown_module(reference, kind) from error
        # The module exists, and fails in its own code or in its imports.
        raise UserCodeError(kind, reference) from error
    found = getattr(module, name, None)
    if found is None:
        near = difflib.get_close_matches(name, [n for n, x in vars(module).items() if callable(x)], n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UnknownNameError(f"module {module_name!r} has nothing named {name!r} for the {kind} {reference!r}.{hint}")
    return found


def check_reference(reference: str, *, kind: str) -> None:
    """Raise `UnknownNameError` if `reference` is not `package.module:name`, or its package is not there.

    Nothing is imported.
    """
    module_name, _, name = reference.partition(":")
    if not name:
        raise UnknownNameError(
            f"the {kind} {reference!r} has no name after the colon. Write {module_name}:NAME, the name of a function."
        )
    if not all(part.isidentifier() for part in module_name.split(".")) or module_file(reference) is None:
        raise _unknown_module(reference, kind)


def module_file(reference: str) -> str | None:
    """Return the file, or the folders, from which Python would import the package of `package.module:name`.

    It is found without importing anything. None if there is no such package.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(reference.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.has_location and spec.origin is not None:
        return os.path.realpath(spec.origin)
    return f"{spec.origin} {spec.submodule_search_locations and [*spec.submodule_search_locations]}"


def _unknown_module(reference: str, kind: str) -> UnknownNameError:
    module_name, _, name = reference.partition(":")
    # The path of a file was given as the module.
    file = os.path.relpath(module_name) if module_name.endswith(".py") else ""
    module = file.removesuffix(".py").replace(os.sep, ".")
    hint = f"did you mean {module}:{name}? Write a module without .py; " if module and module[0] != "." else ""
    return UnknownNameError(
        f"no module {module_name!r} for the {kind} {reference!r}: {hint}it must be installed or in the current "
        "directory."
    )
