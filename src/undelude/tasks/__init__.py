"""Tasks with a privileged expert, one file each, with their sources cited."""

from typing import TYPE_CHECKING, Any

from undelude.tasks.arm import arm
from undelude.tasks.bandit import bandit
from undelude.tasks.cards import kuhn, leduc
from undelude.tasks.doors import doors
from undelude.tasks.frog import prize_or_frog
from undelude.tasks.grid import grid
from undelude.tasks.menu import menu
from undelude.tasks.merge import crashed, merge
from undelude.tasks.switching import switching_bandit
from undelude.tasks.tables import from_tables

if TYPE_CHECKING:
    from undelude.gym import tabular_from_gymnasium

__all__ = [
    "arm",
    "bandit",
    "crashed",
    "doors",
    "from_tables",
    "grid",
    "kuhn",
    "leduc",
    "menu",
    "merge",
    "prize_or_frog",
    "switching_bandit",
    "tabular_from_gymnasium",
]


def __getattr__(name: str) -> Any:
    """Import `tabular_from_gymnasium` on first use, because `undelude.gym` imports this package."""
    if name == "tabular_from_gymnasium":
        from undelude.gym import tabular_from_gymnasium

        return tabular_from_gymnasium
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
