"""Versions of undelude and of the packages that its numbers depend on; how its extras are installed."""

import platform
from importlib.metadata import version


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
