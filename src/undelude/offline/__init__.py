"""From logs alone: causal models of demonstrators whose knowledge is hidden, or the reason why the data have none.

Each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undelude.offline._data.columns import Column as Column
    from undelude.offline._data.demos import Demos as Demos

# The module of each name.
_NAMES = {
    "Column": "_data.columns",
    "Demos": "_data.demos",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
