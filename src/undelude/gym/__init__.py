"""Gymnasium's environments as interaction processes and worlds, and processes as environments of Gymnasium.

With Gymnasium installed, importing this package registers every named task, such as `undelude/Bandit-v0`.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

from undelude._agents.policy import Policy
from undelude._versions import installing
from undelude.gym._host.cues import AbstractCue, WarmerColder
from undelude.gym._host.hiding import HideKeys
from undelude.gym.callbacks import callback
from undelude.gym.functional_world import FunctionalWorld
from undelude.gym.gymnax_world import from_gymnax
from undelude.gym.host_world import HostWorld
from undelude.gym.keyboard import KeyboardExpert
from undelude.gym.minari_files import from_minari, to_minari
from undelude.gym.tabular import tabular_from_gymnasium

if TYPE_CHECKING:
    from undelude.gym.task_env import TaskEnv
    from undelude.gym.task_vector_env import TaskVectorEnv

__all__ = [
    "AbstractCue",
    "FunctionalWorld",
    "HideKeys",
    "HostWorld",
    "KeyboardExpert",
    "Policy",
    "TaskEnv",
    "TaskVectorEnv",
    "WarmerColder",
    "callback",
    "from_gymnax",
    "from_minari",
    "tabular_from_gymnasium",
    "to_minari",
]

# Classes that need Gymnasium itself, by their modules.
_WITH_GYMNASIUM = {"TaskEnv": "undelude.gym.task_env", "TaskVectorEnv": "undelude.gym.task_vector_env"}


def __getattr__(name: str) -> Any:
    """Import the environments on first use, because they need Gymnasium."""
    if name not in _WITH_GYMNASIUM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _has_gymnasium():
        raise ModuleNotFoundError(f"undelude.gym.{name} needs Gymnasium: {installing('gym')}.")
    return getattr(importlib.import_module(_WITH_GYMNASIUM[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)


def _has_gymnasium() -> bool:
    return importlib.util.find_spec("gymnasium") is not None


if _has_gymnasium():
    importlib.import_module("undelude.gym._envs.ids").register()
