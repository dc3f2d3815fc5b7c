"""Versions of undelude and of the packages that its numbers depend on; names that need an extra, and how to get it."""

import contextlib
import importlib
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any


def versions() -> dict[str, str]:
    """Return the versions of Python, undelude and the packages that its numbers depend on."""
    packages = ("undelude", "jax", "equinox", "optax", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def installing(extra: str) -> str:
    """Return how to install undelude with an extra; there is no release on the package index yet.

    >>> installing("hf")
    'pip install -c constraints.txt ".[hf]", in a clone of undelude'
    """
    return f'pip install -c constraints.txt ".[{extra}]", in a clone of undelude'


@contextlib.contextmanager
def explaining(package: str, extra: str) -> Iterator[None]:
    """Say how a package is installed, if an import in the block does not find it.

    Args:
        package: its name in the message.
        extra: the extra that has it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{package} is not installed: {installing(extra)}.") from error


def load(package: str, modules: Mapping[str, str], name: str, how: Mapping[str, str]) -> Any:
    """Return a public name of a package, imported when it is first used; for the package's `__getattr__`.

    Args:
        package: such as `"undelude.hf"`.
        modules: the module inside the package that holds each name.
        name: of the public object.
        how: for each library that may be missing, how it is installed.

    Raises:
        AttributeError: there is no such name.
        ModuleNotFoundError: a library is missing; the message says how it is installed.
    """
    if name not in modules:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name in how:
            message = f"{package}.{name} needs {error.name}: {how[error.name]}."
            raise ModuleNotFoundError(message, name=error.name) from error
        raise
