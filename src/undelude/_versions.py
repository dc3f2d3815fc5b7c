"""Versions of undelude and of the packages that its numbers depend on."""

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Return the versions of Python, undelude and the packages that its numbers depend on."""
    packages = ("undelude", "jax", "equinox", "optax", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
