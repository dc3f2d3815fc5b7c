"""Language models whose own words are interventions: Hugging Face models, and any model behind a server.

Each name is imported when it is first used: measuring a served model needs no PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undelude.hf.client import ServerError
    from undelude.hf.delusion_report import DelusionReport
    from undelude.hf.measure import measure_delusion
    from undelude.hf.menu_dialogue import MenuDialogue

_NAMES: dict[str, str] = {
    "DelusionReport": "delusion_report",
    "MenuDialogue": "menu_dialogue",
    "ServerError": "client",
    "measure_delusion": "measure",
}

__all__ = ["DelusionReport", "MenuDialogue", "ServerError", "measure_delusion"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name in ("accelerate", "peft", "torch", "transformers"):
            message = f"undelude.hf.{name} needs {error.name}: pip install 'undelude[hf]'."
            raise ModuleNotFoundError(message, name=error.name) from error
        raise


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
