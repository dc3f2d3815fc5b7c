"""Tasks with a privileged expert, one file each; every one cites its source."""

from undelude.tasks.bandit import bandit
from undelude.tasks.frog import prize_or_frog
from undelude.tasks.tables import from_tables
from undelude.tasks.tabular import tabular_from_gymnasium

__all__ = ["bandit", "from_tables", "prize_or_frog", "tabular_from_gymnasium"]
