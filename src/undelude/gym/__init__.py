"""Environments of Gymnasium as interaction processes."""

from undelude.gym.tabular import tabular_from_gymnasium

__all__ = ["tabular_from_gymnasium"]
