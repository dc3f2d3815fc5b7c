"""Gymnasium's environments as interaction processes."""

from undelude.gym.tabular import tabular_from_gymnasium

__all__ = ["tabular_from_gymnasium"]
