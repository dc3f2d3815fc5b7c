"""Gymnasium's environments: as interaction processes by their tables, and as worlds by their steps."""

from undelude.gym._host.cues import AbstractCue, WarmerColder
from undelude.gym._host.hiding import HideKeys
from undelude.gym.host_world import HostWorld
from undelude.gym.tabular import tabular_from_gymnasium

__all__ = ["AbstractCue", "HideKeys", "HostWorld", "WarmerColder", "tabular_from_gymnasium"]
